#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "escrow/sim/buffer_groups.h"
#include "escrow/sim/buffer_table.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op.h"
#include "escrow/sim/op_support.h"
#include "escrow/sim/ops.h"
#include "escrow/sim/request.h"
#include "escrow/sim/ring.h"

// Sending and receiving on sockets.

namespace escrow::sim {
namespace {

// The program's message header, and where its parts are.
struct Header {
  msghdr message = {};
  Vectors vectors;

  // Copies it; the vectors too, unless the data goes into a selected buffer.
  int Load(std::uint64_t address, bool with_vectors) {
    if (!sim::Load(&message, PointerTo(address), sizeof(message))) {
      return -EFAULT;
    }
    constexpr std::size_t kMostVectors = 1024;
    if (message.msg_name == nullptr) message.msg_namelen = 0;
    if (message.msg_namelen > INT_MAX) return -EINVAL;
    message.msg_namelen =
        std::min<::socklen_t>(message.msg_namelen, sizeof(sockaddr_storage));
    if (message.msg_iovlen > kMostVectors) return -EMSGSIZE;
    if (!with_vectors) return 0;
    return LoadVectors(reinterpret_cast<std::uint64_t>(message.msg_iov),
                       message.msg_iovlen, &vectors);
  }
};

// What sends and receives have in common.
class Message : public Op {
 public:
  Attempt Cancelled(Request& request, std::int32_t error) override {
    failed_ = true;
    if (selection_.committed) {
      const std::uint32_t flags =
          request.ring().groups().Used(request, error, &selection_);
      return Attempt::Done(done_ > 0 ? Done() : error, flags);
    }
    return Attempt::Done(done_ > 0 ? Done() : error);
  }

  bool BreaksChain(const Request&, std::int32_t result) const final {
    return failed_ || result < 0;
  }

 protected:
  std::int32_t Done() const noexcept {
    return static_cast<std::int32_t>(done_);
  }
  bool has(unsigned flag) const noexcept { return (io_flags_ & flag) != 0; }
  // Whether it goes on until all is transferred.
  bool TakesAll(const FileKind& kind) const noexcept {
    return (flags_ & MSG_WAITALL) != 0 && (kind.socket_type == SOCK_STREAM ||
                                           kind.socket_type == SOCK_SEQPACKET);
  }
  // Whether it is to wait before the first attempt.
  bool WaitsFirst() noexcept {
    return has(IORING_RECVSEND_POLL_FIRST) && !std::exchange(waited_, true);
  }
  bool CanWait() const noexcept { return (flags_ & MSG_DONTWAIT) == 0; }

  unsigned io_flags_ = 0;  // IORING_RECVSEND_*
  unsigned flags_ = 0;     // MSG_*
  Vectors vectors_;        // what is still to be transferred
  Selection selection_;
  std::size_t done_ = 0;
  bool waited_ = false;
  bool failed_ = false;
};

// SEND, SENDMSG, and both without a copy.
template <bool kHasHeader, bool kZeroCopy>
class Send final : public Message {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (kZeroCopy) {
      if (sqe.addr3 != 0 || sqe.__pad2[0] != 0) return -EINVAL;
      if (request.has_flag(IOSQE_CQE_SKIP_SUCCESS)) return -EINVAL;
      // What goes over a loopback device is copied after all.
      const bool report = (sqe.ioprio & IORING_SEND_ZC_REPORT_USAGE) != 0;
      request.Notify(
          report ? static_cast<std::int32_t>(IORING_NOTIF_USAGE_ZC_COPIED) : 0);
    }
    constexpr unsigned kKnown =
        IORING_RECVSEND_POLL_FIRST |
        (kZeroCopy ? IORING_RECVSEND_FIXED_BUF | IORING_SEND_ZC_REPORT_USAGE
                   : IORING_RECVSEND_BUNDLE) |
        (kHasHeader ? 0 : IORING_SEND_VECTORIZED);
    io_flags_ = sqe.ioprio;
    if ((io_flags_ & ~kKnown) != 0) return -EINVAL;
    if (kHasHeader && (sqe.addr2 != 0 || sqe.file_index != 0)) return -EINVAL;
    flags_ = sqe.msg_flags;
    const bool selects = request.has_flag(IOSQE_BUFFER_SELECT);
    if (has(IORING_RECVSEND_BUNDLE)) {
      if (kHasHeader || !selects) return -EINVAL;
      flags_ |= MSG_WAITALL;
    }
    left_ = sqe.len;
    return kHasHeader ? PrepareHeader(request) : PreparePlain(request, selects);
  }

  Attempt Try(Request& request) override {
    const FileKind kind = KindOf(request.fd());
    if (!kind.IsSocket()) return Failed(-ENOTSOCK);
    if (kZeroCopy && !SupportsZeroCopy(kind)) return Failed(-EOPNOTSUPP);
    if (WaitsFirst()) {
      request.WaitFor(POLLOUT);
      return Attempt::Blocked();
    }
    if (has(IORING_RECVSEND_FIXED_BUF) && fixed_ == nullptr) {
      fixed_ = request.ring().buffers().Find(request.sqe().buf_index, vectors_);
      if (fixed_ == nullptr) return Failed(-EFAULT);
    }
    BufferGroups& groups = request.ring().groups();
    const bool selects = request.has_flag(IOSQE_BUFFER_SELECT);
    const bool bundle = has(IORING_RECVSEND_BUNDLE);
    for (;;) {
      if (selects && selection_.empty()) {
        if (const int error =
                groups.Select(request.sqe().buf_group, left_,
                              bundle ? SIZE_MAX : 0, &selection_)) {
          return Failed(error);
        }
        vectors_ = selection_.vectors;
        // They are taken before it is known that they can be sent.
        groups.Commit(request, Use::kRead, SizeOf(vectors_), &selection_);
      }
      const std::size_t wanted = SizeOf(vectors_);
      const std::int32_t result = SendOnce(request, kind);
      if (result == -EAGAIN && CanWait()) {
        request.WaitFor(POLLOUT);
        return Attempt::Blocked();
      }
      const bool is_short =
          result > 0 && static_cast<std::size_t>(result) < wanted;
      if (is_short && TakesAll(kind)) {
        done_ += static_cast<std::size_t>(result);
        vectors_ = After(vectors_, static_cast<std::size_t>(result));
        control_ = {};
        continue;
      }
      if (result < 0 || (is_short && (flags_ & MSG_WAITALL) != 0)) {
        failed_ = true;
      }
      const std::int32_t total =
          result >= 0 ? Done() + result : (done_ > 0 ? Done() : result);
      const bool emptied = selection_.emptied;
      const std::uint32_t flags =
          selects ? groups.Used(request, total, &selection_) : 0;
      if (!bundle || total <= 0 || emptied || request.EndsByChoice() ||
          !request.Post(total, flags)) {
        return Attempt::Done(total, flags);
      }
      // On with what is in the group.
      done_ = 0;
      left_ = 0;
    }
  }

 private:
  static bool SupportsZeroCopy(const FileKind& kind) noexcept {
    return kind.IsIp() &&
           (kind.socket_type == SOCK_STREAM || kind.socket_type == SOCK_DGRAM);
  }

  int PreparePlain(Request& request, bool selects) {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.__pad3[0] != 0) return -EINVAL;
    if (sqe.addr2 != 0) {
      if (const int error = name_.Load(sqe.addr2, sqe.addr_len)) return error;
      has_name_ = true;
    }
    if (selects) return 0;
    if (has(IORING_SEND_VECTORIZED)) {
      if (const int error = LoadVectors(sqe.addr, sqe.len, &vectors_)) {
        return error;
      }
    } else {
      vectors_.push_back(
          {PointerTo(sqe.addr), std::min<std::size_t>(sqe.len, kMaxTransfer)});
    }
    HoldEach(request, Use::kRead, vectors_, "buffer");
    return 0;
  }

  int PrepareHeader(Request& request) {
    Header header;
    if (const int error = header.Load(request.sqe().addr, true)) return error;
    const msghdr& message = header.message;
    if (message.msg_namelen > 0) {
      if (const int error =
              name_.Load(reinterpret_cast<std::uint64_t>(message.msg_name),
                         message.msg_namelen)) {
        return error;
      }
      has_name_ = true;
    }
    vectors_ = header.vectors;
    control_ = {message.msg_control, message.msg_controllen};
    HoldEach(request, Use::kRead, vectors_, "msg_iov");
    HoldEach(request, Use::kRead, {control_}, "msg_control");
    return 0;
  }

  Attempt Failed(std::int32_t error) {
    failed_ = true;
    return Attempt::Done(error);
  }

  std::int32_t SendOnce(Request& request, const FileKind& kind) {
    Vectors vectors = vectors_;
    if (kind.IsStream()) {
      vectors = First(vectors, request.Shorten(SizeOf(vectors)));
    }
    msghdr message = {};
    if (has_name_) {
      message.msg_name = &name_.storage;
      message.msg_namelen = name_.length;
    }
    message.msg_iov = vectors.data();
    message.msg_iovlen = vectors.size();
    if (control_.iov_len > 0) {
      message.msg_control = control_.iov_base;
      message.msg_controllen = control_.iov_len;
      BeforeLoadEach({control_});
    }
    BeforeLoadEach(vectors);
    return Call(SYS_sendmsg, request.fd(), &message,
                flags_ | MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  Address name_;
  bool has_name_ = false;
  iovec control_ = {};
  std::shared_ptr<BufferTable::Buffer> fixed_;
  std::size_t left_ = 0;  // of the first selection; 0: all
};

// What is still there to be received, of sockets that say so; else 0.
std::size_t Pending(int fd, const FileKind& kind) noexcept {
  if (kind.socket_type != SOCK_STREAM) return 0;
  if (!kind.IsIp() && kind.domain != AF_UNIX) return 0;
  int bytes = 0;
  return Call(SYS_ioctl, fd, FIONREAD, &bytes) == 0 && bytes > 0
             ? static_cast<std::size_t>(bytes)
             : 0;
}

// RECV and RECVMSG.
class Receive : public Message {
 protected:
  int PrepareCommon(const io_uring_sqe& sqe) {
    if (sqe.addr2 != 0) return -EINVAL;
    constexpr unsigned kKnown = IORING_RECVSEND_POLL_FIRST |
                                IORING_RECV_MULTISHOT | IORING_RECVSEND_BUNDLE;
    io_flags_ = sqe.ioprio;
    if ((io_flags_ & ~kKnown) != 0) return -EINVAL;
    flags_ = sqe.msg_flags;
    if (has(IORING_RECV_MULTISHOT)) {
      if ((sqe.flags & IOSQE_BUFFER_SELECT) == 0) return -EINVAL;
      if ((flags_ & MSG_WAITALL) != 0) return -EINVAL;
    } else if (sqe.optlen != 0) {
      return -EINVAL;
    }
    return 0;
  }

  void Wait(Request& request) {
    // Errors are always told.
    request.WaitFor((flags_ & MSG_ERRQUEUE) != 0 ? POLLERR : POLLIN | POLLPRI);
  }

  static std::uint32_t FlagsOf(int fd, const FileKind& kind) noexcept {
    return Pending(fd, kind) > 0 ? IORING_CQE_F_SOCK_NONEMPTY : 0;
  }
};

class Recv final : public Receive {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = PrepareCommon(sqe)) return error;
    if (static_cast<std::int32_t>(sqe.len) < 0) return -EINVAL;
    most_ = sqe.len;
    if (has(IORING_RECV_MULTISHOT)) total_left_ = sqe.optlen;
    if (request.has_flag(IOSQE_BUFFER_SELECT)) return 0;
    vectors_.push_back(
        {PointerTo(sqe.addr), std::min<std::size_t>(sqe.len, kMaxTransfer)});
    HoldEach(request, Use::kWrite, vectors_, "buffer");
    return 0;
  }

  Attempt Try(Request& request) override {
    if (WaitsFirst()) {
      Wait(request);
      return Attempt::Blocked();
    }
    const FileKind kind = KindOf(request.fd());
    if (!kind.IsSocket()) {
      failed_ = true;
      return Attempt::Done(-ENOTSOCK);
    }
    BufferGroups& groups = request.ring().groups();
    const bool selects = request.has_flag(IOSQE_BUFFER_SELECT);
    const bool bundle = has(IORING_RECVSEND_BUNDLE);
    for (;;) {
      if (selects && selection_.empty()) {
        if (const int error = Select(request, kind)) {
          failed_ = true;
          return Attempt::Done(error);
        }
      }
      const std::size_t wanted = SizeOf(vectors_);
      bool truncated = false;
      const std::int32_t result = ReceiveOnce(request, kind, &truncated);
      if (result == -EAGAIN && CanWait()) {
        // Of what a part is filled of already stays the request's.
        if (done_ == 0) groups.PutBack(&selection_);
        Wait(request);
        return Attempt::Blocked();
      }
      const bool is_short =
          result > 0 && static_cast<std::size_t>(result) < wanted;
      if (is_short && TakesAll(kind)) {
        if (selects) {
          groups.Commit(request, Use::kWrite, wanted, &selection_);
        }
        done_ += static_cast<std::size_t>(result);
        vectors_ = After(vectors_, static_cast<std::size_t>(result));
        continue;
      }
      const bool waits_for_all = (flags_ & MSG_WAITALL) != 0;
      if (result < 0 || (waits_for_all && (truncated || is_short ||
                                           (result == 0 && wanted > 0)))) {
        failed_ = true;
      }
      const std::int32_t total =
          result > 0 ? Done() + result : (done_ > 0 ? Done() : result);
      std::uint32_t flags = result >= 0 ? FlagsOf(request.fd(), kind) : 0;
      const bool emptied = bundle && selection_.emptied;
      if (selects && total > 0) {
        flags |= groups.Used(request, total, &selection_);
      } else {
        groups.PutBack(&selection_);
      }
      if (!has(IORING_RECV_MULTISHOT) || result <= 0 || emptied ||
          ReachesLimit(total) || request.EndsByChoice() ||
          !request.Post(total, flags)) {
        return Attempt::Done(total, flags);
      }
    }
  }

 private:
  int Select(Request& request, const FileKind& kind) {
    // No more than there is data for, as far as the socket says.
    const bool bundle = has(IORING_RECVSEND_BUNDLE);
    const std::size_t enough =
        bundle ? std::max<std::size_t>(Pending(request.fd(), kind), 1) : 0;
    const int error = request.ring().groups().Select(
        request.sqe().buf_group, most_, enough, &selection_);
    if (error == 0) vectors_ = selection_.vectors;
    return error;
  }

  bool ReachesLimit(std::int32_t received) noexcept {
    if (total_left_ == 0) return false;
    total_left_ -= std::min(total_left_, static_cast<std::uint32_t>(received));
    return total_left_ == 0;
  }

  std::int32_t ReceiveOnce(Request& request, const FileKind& kind,
                           bool* truncated) {
    Vectors vectors = vectors_;
    if (kind.IsStream()) {
      vectors = First(vectors, request.Shorten(SizeOf(vectors)));
    }
    msghdr message = {};
    message.msg_iov = vectors.data();
    message.msg_iovlen = vectors.size();
    BeforeStoreEach(vectors);
    const std::int32_t result =
        Call(SYS_recvmsg, request.fd(), &message, flags_ | MSG_DONTWAIT);
    // With MSG_TRUNC it may be more than there was room for.
    if (result > 0) AfterStoreEach(vectors, static_cast<std::size_t>(result));
    *truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    return result;
  }

  std::size_t most_ = 0;          // of one completion with a selected buffer
  std::uint32_t total_left_ = 0;  // until it ends; 0: no limit
};

class RecvMsg final : public Receive {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = PrepareCommon(sqe)) return error;
    if (has(IORING_RECV_MULTISHOT) && sqe.optlen != 0) return -EINVAL;
    if (has(IORING_RECVSEND_BUNDLE)) return -EINVAL;
    const bool selects = request.has_flag(IOSQE_BUFFER_SELECT);
    if (const int error = header_.Load(sqe.addr, !selects)) return error;
    msghdr& message = header_.message;
    if (selects) {
      if (message.msg_iovlen > 1) return -EINVAL;
      iovec vector = {};
      if (message.msg_iovlen == 1 &&
          !Load(&vector, message.msg_iov, sizeof(vector))) {
        return -EFAULT;
      }
      most_ = vector.iov_len;
    }
    if (has(IORING_RECV_MULTISHOT)) {
      // The lengths, also without a name.
      if (!Load(&message, PointerTo(sqe.addr), sizeof(message))) return -EFAULT;
      if (message.msg_namelen > INT_MAX) return -EOVERFLOW;
      return message.msg_controllen > INT_MAX - HeaderSize() ? -EOVERFLOW : 0;
    }
    vectors_ = header_.vectors;
    request.Hold(Use::kReadWrite, PointerTo(sqe.addr), sizeof(message),
                 "msghdr");
    HoldEach(request, Use::kWrite, vectors_, "msg_iov");
    HoldEach(request, Use::kWrite, {{message.msg_name, message.msg_namelen}},
             "msg_name");
    HoldEach(request, Use::kWrite,
             {{message.msg_control, message.msg_controllen}}, "msg_control");
    return 0;
  }

  Attempt Try(Request& request) override {
    const FileKind kind = KindOf(request.fd());
    if (!kind.IsSocket()) {
      failed_ = true;
      return Attempt::Done(-ENOTSOCK);
    }
    if (WaitsFirst()) {
      Wait(request);
      return Attempt::Blocked();
    }
    BufferGroups& groups = request.ring().groups();
    const bool selects = request.has_flag(IOSQE_BUFFER_SELECT);
    const bool multishot = has(IORING_RECV_MULTISHOT);
    for (;;) {
      if (selects && selection_.empty()) {
        if (const int error = groups.Select(request.sqe().buf_group, most_,
                                            /*enough=*/0, &selection_)) {
          failed_ = true;
          return Attempt::Done(error);
        }
        vectors_ = selection_.vectors;
      }
      const std::size_t wanted = SizeOf(vectors_);
      bool truncated = false;
      bool finished = true;
      const std::int32_t result = multishot
                                      ? ReceivePacked(request, kind, &finished)
                                      : ReceiveOnce(request, kind, &truncated);
      if (result == -EAGAIN && CanWait()) {
        if (done_ == 0) groups.PutBack(&selection_);
        Wait(request);
        return Attempt::Blocked();
      }
      const bool is_short =
          result > 0 && static_cast<std::size_t>(result) < wanted;
      const bool has_control = header_.message.msg_controllen > 0;
      if (!multishot && is_short && !has_control && TakesAll(kind)) {
        if (selects) {
          groups.Commit(request, Use::kWrite, wanted, &selection_);
        }
        done_ += static_cast<std::size_t>(result);
        vectors_ = After(vectors_, static_cast<std::size_t>(result));
        continue;
      }
      const bool waits_for_all = (flags_ & MSG_WAITALL) != 0;
      if (result < 0 ||
          (waits_for_all &&
           (truncated ||
            (!has_control && (is_short || (result == 0 && wanted > 0)))))) {
        failed_ = true;
      }
      const std::int32_t total =
          result > 0 ? Done() + result : (done_ > 0 ? Done() : result);
      std::uint32_t flags = result >= 0 ? FlagsOf(request.fd(), kind) : 0;
      if (selects && total > 0) {
        flags |= groups.Used(request, total, &selection_);
      } else {
        groups.PutBack(&selection_);
      }
      if (!multishot || finished || request.EndsByChoice() ||
          !request.Post(total, flags)) {
        return Attempt::Done(total, flags);
      }
    }
  }

 private:
  // In front of the control data of a packed message.
  std::size_t HeaderSize() const noexcept {
    return sizeof(io_uring_recvmsg_out) + header_.message.msg_namelen;
  }

  std::int32_t ReceiveOnce(Request& request, const FileKind& kind,
                           bool* truncated) {
    const msghdr& asked = header_.message;
    Vectors vectors = vectors_;
    if (kind.IsStream()) {
      vectors = First(vectors, request.Shorten(SizeOf(vectors)));
    }
    msghdr message = asked;
    message.msg_iov = vectors.data();
    message.msg_iovlen = vectors.size();
    const Vectors others = {{asked.msg_name, asked.msg_namelen},
                            {asked.msg_control, asked.msg_controllen}};
    BeforeStoreEach(vectors);
    BeforeStoreEach(others);
    const std::int32_t result =
        Call(SYS_recvmsg, request.fd(), &message, flags_ | MSG_DONTWAIT);
    if (result < 0) return result;
    AfterStoreEach(vectors, static_cast<std::size_t>(result));
    AfterStoreEach({others[0]},
                   std::min(message.msg_namelen, asked.msg_namelen));
    AfterStoreEach({others[1]}, message.msg_controllen);
    *truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    // The header of the program's is written now.
    auto* const its = PointerTo<msghdr>(request.sqe().addr);
    const bool stored =
        (asked.msg_name == nullptr ||
         Store(&its->msg_namelen, &message.msg_namelen,
               sizeof(message.msg_namelen))) &&
        Store(&its->msg_flags, &message.msg_flags, sizeof(message.msg_flags)) &&
        Store(&its->msg_controllen, &message.msg_controllen,
              sizeof(message.msg_controllen));
    return stored ? result : -EFAULT;
  }

  // Into one buffer: an io_uring_recvmsg_out, the name, control data, payload.
  std::int32_t ReceivePacked(Request& request, const FileKind& kind,
                             bool* finished) {
    const msghdr& asked = header_.message;
    const iovec buffer = vectors_.front();
    const std::size_t before = HeaderSize() + asked.msg_controllen;
    if (buffer.iov_len < before) return -EFAULT;
    auto* const begin = static_cast<std::byte*>(buffer.iov_base);
    iovec payload = {begin + before, buffer.iov_len - before};
    if (kind.IsStream()) payload.iov_len = request.Shorten(payload.iov_len);
    Address name;
    msghdr message = {};
    if (asked.msg_namelen > 0) {
      message.msg_name = &name.storage;
      message.msg_namelen = sizeof(name.storage);
    }
    message.msg_iov = &payload;
    message.msg_iovlen = 1;
    if (asked.msg_controllen > 0) {
      message.msg_control = begin + HeaderSize();
      message.msg_controllen = asked.msg_controllen;
      BeforeStore(message.msg_control, message.msg_controllen);
    }
    BeforeStore(payload.iov_base, payload.iov_len);
    const std::int32_t result =
        Call(SYS_recvmsg, request.fd(), &message, flags_ | MSG_DONTWAIT);
    *finished = result <= 0;
    if (result < 0) return result;
    const std::size_t received =
        std::min(static_cast<std::size_t>(result), payload.iov_len);
    AfterStore(payload.iov_base, received);
    AfterStore(message.msg_control, message.msg_controllen);
    const io_uring_recvmsg_out out = {
        .namelen = message.msg_namelen,
        .controllen = static_cast<std::uint32_t>(message.msg_controllen),
        .payloadlen = static_cast<std::uint32_t>(result),
        .flags = static_cast<std::uint32_t>(message.msg_flags)};
    const std::size_t name_size =
        std::min(message.msg_namelen, asked.msg_namelen);
    if (!Store(begin, &out, sizeof(out)) ||
        (name_size > 0 &&
         !Store(begin + sizeof(out), &name.storage, name_size))) {
      *finished = true;
      return -EFAULT;
    }
    return static_cast<std::int32_t>(before + received);
  }

  Header header_;
  std::size_t most_ = 0;
};

}  // namespace

std::unique_ptr<Op> MakeSend() { return Make<Send<false, false>>(); }
std::unique_ptr<Op> MakeSendMsg() { return Make<Send<true, false>>(); }
std::unique_ptr<Op> MakeSendZeroCopy() { return Make<Send<false, true>>(); }
std::unique_ptr<Op> MakeSendMsgZeroCopy() { return Make<Send<true, true>>(); }
std::unique_ptr<Op> MakeRecv() { return Make<Recv>(); }
std::unique_ptr<Op> MakeRecvMsg() { return Make<RecvMsg>(); }

}  // namespace escrow::sim
