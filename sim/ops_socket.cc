#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "escrow/sim/kernel_state.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op.h"
#include "escrow/sim/op_support.h"
#include "escrow/sim/ops.h"
#include "escrow/sim/request.h"
#include "escrow/sim/ring.h"

// Making sockets and connections, and commands to sockets and devices.

namespace escrow::sim {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;

std::int32_t IntegerOption(int fd, int option) noexcept {
  int value = 0;
  ::socklen_t length = sizeof(value);
  const std::int32_t result =
      Call(SYS_getsockopt, fd, SOL_SOCKET, option, &value, &length);
  return result < 0 ? result : value;
}

class Socket final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = CheckUnused(sqe.addr, sqe.rw_flags, sqe.buf_index)) {
      return error;
    }
    constexpr std::uint64_t kTypeMask = 0xf;
    const std::uint64_t flags = sqe.off & ~kTypeMask;
    if (sqe.file_index != 0 && (flags & SOCK_CLOEXEC) != 0) return -EINVAL;
    return (flags & ~std::uint64_t{SOCK_CLOEXEC | SOCK_NONBLOCK}) != 0 ? -EINVAL
                                                                       : 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return Deliver(request, Call(SYS_socket, sqe.fd, sqe.off, sqe.len),
                   sqe.file_index);
  }
};

class Bind final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = CheckUnused(sqe.len, sqe.buf_index, sqe.rw_flags,
                                      sqe.splice_fd_in)) {
      return error;
    }
    return address_.Load(sqe.addr, sqe.addr2);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    return Call(SYS_bind, request.fd(), &address_.storage, address_.length);
  }

 private:
  Address address_;
};

class Listen final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return CheckUnused(sqe.addr, sqe.buf_index, sqe.rw_flags, sqe.splice_fd_in,
                       sqe.addr2);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    return Call(SYS_listen, request.fd(), request.sqe().len);
  }
};

class Shutdown final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return CheckUnused(sqe.off, sqe.addr, sqe.rw_flags, sqe.buf_index,
                       sqe.splice_fd_in);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    return Call(SYS_shutdown, request.fd(), request.sqe().len);
  }
};

class Accept final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.len != 0 || sqe.buf_index != 0) return -EINVAL;
    constexpr unsigned kKnown = IORING_ACCEPT_MULTISHOT |
                                IORING_ACCEPT_DONTWAIT |
                                IORING_ACCEPT_POLL_FIRST;
    if ((sqe.ioprio & ~kKnown) != 0) return -EINVAL;
    multishot_ = (sqe.ioprio & IORING_ACCEPT_MULTISHOT) != 0;
    waits_first_ = (sqe.ioprio & IORING_ACCEPT_POLL_FIRST) != 0;
    const std::uint32_t flags = sqe.accept_flags;
    if (sqe.file_index != 0 &&
        ((flags & SOCK_CLOEXEC) != 0 ||
         (multishot_ && sqe.file_index != IORING_FILE_INDEX_ALLOC))) {
      return -EINVAL;
    }
    if ((flags & ~std::uint32_t{SOCK_CLOEXEC | SOCK_NONBLOCK}) != 0) {
      return -EINVAL;
    }
    HoldAddress(request);
    return 0;
  }

  Attempt Try(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (waits_first_) {
      waits_first_ = false;
      request.WaitFor(POLLIN);
      return Attempt::Blocked();
    }
    const int fd = request.fd();
    const FileKind kind = KindOf(fd);
    // On one that does not listen it fails at once.
    const bool listens =
        kind.IsSocket() && IntegerOption(fd, SO_ACCEPTCONN) > 0;
    for (;;) {
      if (listens && (PollNow(fd, POLLIN) & POLLIN) == 0) {
        if ((sqe.ioprio & IORING_ACCEPT_DONTWAIT) != 0) {
          return Attempt::Done(-EAGAIN);
        }
        request.WaitFor(POLLIN);
        return Attempt::Blocked();
      }
      const std::int32_t result =
          Deliver(request, AcceptOne(fd, sqe), sqe.file_index);
      const bool more =
          kind.IsIp() && result >= 0 && (PollNow(fd, POLLIN) & POLLIN) != 0;
      const std::uint32_t flags = more ? IORING_CQE_F_SOCK_NONEMPTY : 0;
      if (!multishot_ || result < 0 || request.EndsByChoice() ||
          !request.Post(result, flags)) {
        return Attempt::Done(result, flags);
      }
    }
  }

 private:
  void HoldAddress(Request& request) {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.addr == 0 || sqe.addr2 == 0) return;
    auto* const length = PointerTo<::socklen_t>(sqe.addr2);
    ::socklen_t room = 0;
    if (!Load(&room, length, sizeof(room))) return;
    request.Hold(Use::kReadWrite, length, sizeof(room), "addrlen");
    if (room > 0) {
      request.Hold(Use::kWrite, PointerTo(sqe.addr), room, "addr");
    }
  }

  std::int32_t AcceptOne(int fd, const io_uring_sqe& sqe) noexcept {
    Address peer;
    peer.length = sizeof(peer.storage);
    const std::int32_t accepted =
        Call(SYS_accept4, fd, &peer.storage, &peer.length, sqe.accept_flags);
    if (accepted < 0 || sqe.addr == 0) return accepted;
    // The connection is lost if its address cannot be stored.
    ::socklen_t room = 0;
    auto* const length = PointerTo<::socklen_t>(sqe.addr2);
    std::int32_t error = 0;
    if (!Load(&room, length, sizeof(room))) {
      error = -EFAULT;
    } else if (static_cast<std::int32_t>(room) < 0) {
      error = -EINVAL;
    } else {
      const std::size_t size = std::min(room, peer.length);
      if ((size > 0 && !Store(PointerTo(sqe.addr), &peer.storage, size)) ||
          !Store(length, &peer.length, sizeof(peer.length))) {
        error = -EFAULT;
      }
    }
    if (error == 0) return accepted;
    Call(SYS_close, accepted);
    return error;
  }

  bool multishot_ = false;
  bool waits_first_ = false;
};

class Connect final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = CheckUnused(sqe.len, sqe.buf_index, sqe.rw_flags,
                                      sqe.splice_fd_in)) {
      return error;
    }
    return address_.Load(sqe.addr, sqe.addr2);
  }

  Attempt Try(Request& request) override {
    const int fd = request.fd();
    if (begun_ && (PollNow(fd, POLLOUT) & (POLLOUT | POLLERR | POLLHUP)) == 0) {
      request.WaitFor(POLLOUT);
      return Attempt::Blocked();
    }
    // As the kernel would from within: the file itself stays as it is.
    const std::int32_t flags = Call(SYS_fcntl, fd, F_GETFL);
    const bool blocks = flags >= 0 && (flags & O_NONBLOCK) == 0;
    if (blocks) Call(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
    const std::int32_t result =
        Call(SYS_connect, fd, &address_.storage, address_.length);
    if (blocks) Call(SYS_fcntl, fd, F_SETFL, flags);
    if (begun_ && result == -EISCONN) {
      const std::int32_t error = IntegerOption(fd, SO_ERROR);
      return Attempt::Done(error > 0 ? -error : error);
    }
    if (result == -EINPROGRESS || (begun_ && result == -EALREADY)) {
      begun_ = true;
      request.WaitFor(POLLOUT);
      return Attempt::Blocked();
    }
    if (result == -EAGAIN) {
      // The other end's queue is full, of which nothing tells.
      request.WaitUntil(request.ring().Now() + kMillisecond);
      return Attempt::Blocked();
    }
    return Attempt::Done(result);
  }

 private:
  Address address_;
  bool begun_ = false;
};

// URING_CMD: of sockets only.
class Command final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.__pad1 != 0) return -EINVAL;
    constexpr std::uint32_t kKnown = IORING_URING_CMD_MASK;
    if ((sqe.uring_cmd_flags & ~kKnown) != 0) return -EINVAL;
    if (sqe.uring_cmd_flags != 0) {
      return request.ring().kernel().Unsupported("URING_CMD flags",
                                                 sqe.uring_cmd_flags);
    }
    if (sqe.optval == 0 || sqe.optlen == 0) return 0;
    if (sqe.cmd_op == SOCKET_URING_OP_GETSOCKOPT) {
      request.Hold(Use::kWrite, PointerTo(sqe.optval), sqe.optlen, "optval");
    } else if (sqe.cmd_op == SOCKET_URING_OP_SETSOCKOPT) {
      request.Hold(Use::kRead, PointerTo(sqe.optval), sqe.optlen, "optval");
    }
    return 0;
  }

  Attempt Try(Request& request) override {
    if (KindOf(request.fd()).mode == S_IFBLK) return TryOnDevice(request);
    return Attempt::Done(Execute(request));
  }

  void Work(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    std::uint64_t range[2] = {sqe.addr, sqe.addr3};
    discarded_ = Call(SYS_ioctl, request.fd(), BLKDISCARD, range);
  }

 private:
  Attempt TryOnDevice(Request& request) {
    const io_uring_sqe& sqe = request.sqe();
    constexpr std::uint32_t kDiscard = _IO(0x12, 0);  // BLOCK_URING_CMD_DISCARD
    if (sqe.cmd_op != kDiscard) {
      return Attempt::Done(
          request.ring().kernel().Unsupported("block command", sqe.cmd_op));
    }
    if (const int error = CheckUnused(sqe.ioprio, sqe.len, sqe.file_index)) {
      return Attempt::Done(error);
    }
    if (!request.worked) {
      if (request.has_workers()) return Attempt::Works();
      Work(request);
    }
    return Attempt::Done(discarded_);
  }

  static std::int32_t Execute(Request& request) {
    const io_uring_sqe& sqe = request.sqe();
    const int fd = request.fd();
    const FileKind kind = KindOf(fd);
    if (!kind.IsSocket()) return -EOPNOTSUPP;
    switch (sqe.cmd_op) {
      case SOCKET_URING_OP_SIOCINQ:
      case SOCKET_URING_OP_SIOCOUTQ: {
        if (!kind.IsIp()) return -EOPNOTSUPP;
        int bytes = 0;
        const std::int32_t result = Call(
            SYS_ioctl, fd,
            sqe.cmd_op == SOCKET_URING_OP_SIOCINQ ? SIOCINQ : SIOCOUTQ, &bytes);
        return result < 0 ? result : bytes;
      }
      case SOCKET_URING_OP_GETSOCKOPT: {
        if (sqe.level != SOL_SOCKET) return -EOPNOTSUPP;
        ::socklen_t length = sqe.optlen;
        void* const value = PointerTo(sqe.optval);
        if (static_cast<std::int32_t>(length) < 0) return -EINVAL;
        BeforeStore(value, length);
        const std::int32_t result =
            Call(SYS_getsockopt, fd, sqe.level, sqe.optname, value, &length);
        if (result < 0) return result;
        AfterStore(value, length);
        return static_cast<std::int32_t>(length);
      }
      case SOCKET_URING_OP_SETSOCKOPT: {
        const void* const value = PointerTo(sqe.optval);
        BeforeLoad(value, sqe.optlen);
        return Call(SYS_setsockopt, fd, sqe.level, sqe.optname, value,
                    sqe.optlen);
      }
      case SOCKET_URING_OP_TX_TIMESTAMP:
        return request.ring().kernel().Unsupported("socket command",
                                                   sqe.cmd_op);
      default:
        return -EOPNOTSUPP;
    }
  }

  std::int32_t discarded_ = 0;
};

}  // namespace

std::unique_ptr<Op> MakeSocket() { return Make<Socket>(); }
std::unique_ptr<Op> MakeBind() { return Make<Bind>(); }
std::unique_ptr<Op> MakeListen() { return Make<Listen>(); }
std::unique_ptr<Op> MakeAccept() { return Make<Accept>(); }
std::unique_ptr<Op> MakeConnect() { return Make<Connect>(); }
std::unique_ptr<Op> MakeShutdown() { return Make<Shutdown>(); }
std::unique_ptr<Op> MakeCommand() { return Make<Command>(); }

}  // namespace escrow::sim
