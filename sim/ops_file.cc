#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "escrow/sim/buffer_groups.h"
#include "escrow/sim/file.h"
#include "escrow/sim/file_table.h"
#include "escrow/sim/kernel_state.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op.h"
#include "escrow/sim/op_support.h"
#include "escrow/sim/ops.h"
#include "escrow/sim/request.h"
#include "escrow/sim/ring.h"

// On open files, and on the tables and groups of the ring.

namespace escrow::sim {
namespace {

class Fsync final : public Tolerated {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error =
            CheckUnused(sqe.addr, sqe.buf_index, sqe.splice_fd_in)) {
      return error;
    }
    const bool unknown =
        (sqe.fsync_flags & ~std::uint32_t{IORING_FSYNC_DATASYNC}) != 0;
    return unknown ? -EINVAL : 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    // All of it: more than a range is no less.
    const bool data_only =
        (request.sqe().fsync_flags & IORING_FSYNC_DATASYNC) != 0;
    return Call(data_only ? SYS_fdatasync : SYS_fsync, request.fd());
  }
};

class SyncFileRange final : public Tolerated {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return CheckUnused(sqe.addr, sqe.buf_index, sqe.splice_fd_in);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return Call(SYS_sync_file_range, request.fd(), sqe.off, sqe.len,
                sqe.sync_range_flags);
  }
};

class Fallocate final : public Tolerated {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return CheckUnused(sqe.buf_index, sqe.rw_flags, sqe.splice_fd_in);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return Call(SYS_fallocate, request.fd(), sqe.len, sqe.off, sqe.addr);
  }
};

class Ftruncate final : public Tolerated {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return CheckUnused(sqe.rw_flags, sqe.addr, sqe.len, sqe.buf_index,
                       sqe.splice_fd_in, sqe.addr3);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    return Call(SYS_ftruncate, request.fd(), request.sqe().off);
  }
};

class Fadvise final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return sqe.buf_index != 0 || sqe.splice_fd_in != 0 ? -EINVAL : 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    const std::uint64_t length = sqe.addr != 0 ? sqe.addr : sqe.len;
    return Call(SYS_fadvise64, request.fd(), sqe.off, length,
                sqe.fadvise_advice);
  }
  bool MayBlock(Request&) const override { return true; }
};

class Madvise final : public Tolerated {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.buf_index != 0 || sqe.splice_fd_in != 0) return -EINVAL;
    length_ = sqe.off != 0 ? sqe.off : sqe.len;
    if (sqe.addr != 0 && length_ != 0) {
      request.Hold(Use::kAddress, PointerTo(sqe.addr), length_, "range");
    }
    return 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return Call(SYS_madvise, sqe.addr, length_, sqe.fadvise_advice);
  }

 private:
  std::size_t length_ = 0;
};

// SPLICE and TEE.
template <bool kTee>
class Splice final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (kTee && (sqe.splice_off_in != 0 || sqe.off != 0)) return -EINVAL;
    constexpr std::uint32_t kKnown = SPLICE_F_FD_IN_FIXED | SPLICE_F_MOVE |
                                     SPLICE_F_NONBLOCK | SPLICE_F_MORE |
                                     SPLICE_F_GIFT;
    return (sqe.splice_flags & ~kKnown) != 0 ? -EINVAL : 0;
  }

  Attempt Try(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (!in_.valid()) {
      if (const int error = FindInput(request)) return Attempt::Done(error);
    }
    if (sqe.len == 0) return Attempt::Done(0);
    const bool waits = (sqe.splice_flags & SPLICE_F_NONBLOCK) == 0;
    const int out = request.fd();
    if (!result_.has_value()) {
      // What is not a pipe might block all the same.
      if (waits && !IsReady(in_.fd(), POLLIN)) {
        return Wait(request, in_.fd(), POLLIN);
      }
      if (waits && !IsReady(out, POLLOUT)) return Wait(request, out, POLLOUT);
      if (request.has_workers()) return Attempt::Works();
      Work(request);
    }
    const std::int32_t result = *std::exchange(result_, std::nullopt);
    if (result == -EAGAIN && waits) {
      const bool has_input = IsReady(in_.fd(), POLLIN);
      return has_input ? Wait(request, out, POLLOUT)
                       : Wait(request, in_.fd(), POLLIN);
    }
    return Attempt::Done(result);
  }

  void Work(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    const int out = request.fd();
    std::size_t size = sqe.len;
    if (KindOf(in_.fd()).IsStream()) size = request.Shorten(size);
    const std::uint32_t flags =
        (sqe.splice_flags & ~std::uint32_t{SPLICE_F_FD_IN_FIXED}) |
        SPLICE_F_NONBLOCK;
    if (kTee) {
      result_ = Call(SYS_tee, in_.fd(), out, size, flags);
    } else {
      auto in_offset = static_cast<std::int64_t>(sqe.splice_off_in);
      auto out_offset = static_cast<std::int64_t>(sqe.off);
      result_ =
          Call(SYS_splice, in_.fd(), in_offset == -1 ? nullptr : &in_offset,
               out, out_offset == -1 ? nullptr : &out_offset, size, flags);
    }
  }

  bool BreaksChain(const Request& request, std::int32_t result) const override {
    return result < 0 ||
           static_cast<std::uint32_t>(result) != request.sqe().len;
  }

 private:
  // It may be closed while this waits.
  int FindInput(Request& request) {
    const io_uring_sqe& sqe = request.sqe();
    int fd = sqe.splice_fd_in;
    if ((sqe.splice_flags & SPLICE_F_FD_IN_FIXED) != 0) {
      const File* const file =
          request.ring().files().Find(static_cast<std::uint32_t>(fd));
      if (file == nullptr) return -EBADF;
      fd = file->fd();
    }
    in_ = File::Duplicate(fd);
    return in_.valid() ? 0 : -EBADF;
  }
  static bool IsReady(int fd, std::uint32_t events) noexcept {
    const FileKind kind = KindOf(fd);
    return kind.IsOnDisk() ||
           (PollNow(fd, events) & (events | POLLERR | POLLHUP)) != 0;
  }
  static Attempt Wait(Request& request, int fd, std::uint32_t events) {
    request.WaitFor(fd, events);
    return Attempt::Blocked();
  }

  File in_;
  std::optional<std::int32_t> result_;
};

class Pipe final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = CheckUnused(sqe.fd, sqe.off, sqe.addr3)) {
      return error;
    }
    constexpr std::uint32_t kKnown = O_CLOEXEC | O_NONBLOCK | O_DIRECT;
    if ((sqe.pipe_flags & ~kKnown) != 0) return -EINVAL;
    if (sqe.addr != 0) {
      request.Hold(Use::kWrite, PointerTo(sqe.addr), 2 * sizeof(int), "fds");
    }
    return 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    const bool fixed = sqe.file_index != 0;
    if (fixed && (sqe.pipe_flags & O_CLOEXEC) != 0) return -EINVAL;
    int ends[2] = {-1, -1};
    if (const std::int32_t error = Call(SYS_pipe2, ends, sqe.pipe_flags)) {
      return error;
    }
    return fixed ? Install(request, ends) : Store(request, ends);
  }

 private:
  static std::int32_t Store(Request& request, const int (&ends)[2]) {
    if (sim::Store(PointerTo(request.sqe().addr), ends, sizeof(ends))) {
      return 0;
    }
    for (const int end : ends) Call(SYS_close, end);
    return -EFAULT;
  }

  static std::int32_t Install(Request& request, const int (&ends)[2]) {
    FileTable& files = request.ring().files();
    std::uint32_t index = request.sqe().file_index;
    const bool allocated = index == IORING_FILE_INDEX_ALLOC;
    File reading = File::Adopt(ends[0]);
    File writing = File::Adopt(ends[1]);
    int slots[2] = {-1, -1};
    slots[0] = files.Install(std::move(reading), index);
    if (slots[0] < 0) return slots[0];
    if (!allocated) ++index;
    slots[1] = files.Install(std::move(writing), index);
    std::int32_t error = slots[1] < 0 ? slots[1] : 0;
    if (error == 0 &&
        !sim::Store(PointerTo(request.sqe().addr), slots, sizeof(slots))) {
      error = -EFAULT;
    }
    if (error == 0) return 0;
    for (const int slot : slots) {
      if (slot >= 0) files.Remove(static_cast<std::uint32_t>(slot));
    }
    return error;
  }
};

class CloseFile final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = CheckUnused(sqe.off, sqe.addr, sqe.len, sqe.rw_flags,
                                      sqe.buf_index)) {
      return error;
    }
    if (request.has_flag(IOSQE_FIXED_FILE)) return -EBADF;
    return sqe.file_index != 0 && sqe.fd != 0 ? -EINVAL : 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    Ring& ring = request.ring();
    if (sqe.file_index != 0) return ring.files().Remove(sqe.file_index - 1);
    // Rings stay open, and are never left to a worker.
    if (!request.working && ring.kernel().Find(sqe.fd) != nullptr) {
      return -EBADF;
    }
    return Call(SYS_close, sqe.fd);
  }
  // What is written back then, or what lingers.
  bool MayBlock(Request& request) const override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.file_index != 0 ||
        request.ring().kernel().Find(sqe.fd) != nullptr) {
      return false;
    }
    const FileKind kind = KindOf(sqe.fd);
    if (!kind.IsSocket()) return kind.IsOnDisk() || kind.mode == S_IFCHR;
    linger linger = {};
    ::socklen_t length = sizeof(linger);
    return Call(SYS_getsockopt, sqe.fd, SOL_SOCKET, SO_LINGER, &linger,
                &length) == 0 &&
           linger.l_onoff != 0;
  }
};

class FixedFdInstall final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = CheckUnused(sqe.off, sqe.addr, sqe.len, sqe.buf_index,
                                      sqe.splice_fd_in, sqe.addr3)) {
      return error;
    }
    if (!request.has_flag(IOSQE_FIXED_FILE)) return -EBADF;
    const bool unknown = (sqe.install_fd_flags &
                          ~std::uint32_t{IORING_FIXED_FD_NO_CLOEXEC}) != 0;
    return unknown ? -EINVAL : 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const bool keeps =
        (request.sqe().install_fd_flags & IORING_FIXED_FD_NO_CLOEXEC) != 0;
    return Call(SYS_fcntl, request.fd(), keeps ? F_DUPFD : F_DUPFD_CLOEXEC, 0);
  }
};

class FilesUpdate final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (request.has_flag(IOSQE_FIXED_FILE) ||
        request.has_flag(IOSQE_BUFFER_SELECT) || sqe.rw_flags != 0 ||
        sqe.splice_fd_in != 0 || sqe.len == 0) {
      return -EINVAL;
    }
    allocates_ = static_cast<std::uint32_t>(sqe.off) == IORING_FILE_INDEX_ALLOC;
    if (sqe.addr != 0) {
      request.Hold(allocates_ ? Use::kReadWrite : Use::kRead,
                   PointerTo(sqe.addr), sqe.len * sizeof(std::int32_t), "fds");
    }
    return 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    FileTable& files = request.ring().files();
    if (!allocates_) {
      return files.Update(static_cast<std::uint32_t>(sqe.off), sqe.addr, 0,
                          sqe.len);
    }
    if (!files.registered()) return -ENXIO;
    auto* const fds = PointerTo<std::int32_t>(sqe.addr);
    std::int32_t done = 0;
    std::int32_t error = 0;
    for (std::uint32_t i = 0; i < sqe.len && error == 0; ++i) {
      std::int32_t fd = -1;
      if (!Load(&fd, fds + i, sizeof(fd))) {
        error = -EFAULT;
        break;
      }
      const int slot =
          files.Install(File::Duplicate(fd), IORING_FILE_INDEX_ALLOC);
      if (slot < 0) {
        error = slot;
      } else if (!Store(fds + i, &slot, sizeof(slot))) {
        files.Remove(static_cast<std::uint32_t>(slot));
        error = -EFAULT;
      } else {
        ++done;
      }
    }
    return done > 0 ? done : error;
  }

 private:
  bool allocates_ = false;
};

constexpr std::uint64_t kMostIds = 1 << 16;

class ProvideBuffers final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.rw_flags != 0 || sqe.splice_fd_in != 0) return -EINVAL;
    const auto count = static_cast<std::uint32_t>(sqe.fd);
    if (count == 0 || count > kMostIds) return -E2BIG;
    std::uint64_t end = 0;
    if (__builtin_add_overflow(sqe.addr, std::uint64_t{count} * sqe.len,
                               &end)) {
      return -EOVERFLOW;
    }
    // Where the kernel is.
    if (end > static_cast<std::uint64_t>(INT64_MAX)) return -EFAULT;
    if (sqe.off >= kMostIds) return -E2BIG;
    return sqe.off + count > kMostIds ? -EINVAL : 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return request.ring().groups().Provide(sqe.buf_group, sqe.addr, sqe.len,
                                           static_cast<unsigned>(sqe.fd),
                                           static_cast<unsigned>(sqe.off));
  }
};

class RemoveBuffers final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    const auto count = static_cast<std::uint32_t>(sqe.fd);
    return sqe.rw_flags != 0 || sqe.addr != 0 || sqe.len != 0 || sqe.off != 0 ||
                   sqe.splice_fd_in != 0 || count == 0 || count > kMostIds
               ? -EINVAL
               : 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return request.ring().groups().Remove(sqe.buf_group,
                                          static_cast<unsigned>(sqe.fd));
  }
};

}  // namespace

std::unique_ptr<Op> MakeFsync() { return Make<Fsync>(); }
std::unique_ptr<Op> MakeSyncFileRange() { return Make<SyncFileRange>(); }
std::unique_ptr<Op> MakeFallocate() { return Make<Fallocate>(); }
std::unique_ptr<Op> MakeFtruncate() { return Make<Ftruncate>(); }
std::unique_ptr<Op> MakeFadvise() { return Make<Fadvise>(); }
std::unique_ptr<Op> MakeMadvise() { return Make<Madvise>(); }
std::unique_ptr<Op> MakeSplice() { return Make<Splice<false>>(); }
std::unique_ptr<Op> MakeTee() { return Make<Splice<true>>(); }
std::unique_ptr<Op> MakePipe() { return Make<Pipe>(); }
std::unique_ptr<Op> MakeClose() { return Make<CloseFile>(); }
std::unique_ptr<Op> MakeFixedFdInstall() { return Make<FixedFdInstall>(); }
std::unique_ptr<Op> MakeFilesUpdate() { return Make<FilesUpdate>(); }
std::unique_ptr<Op> MakeProvideBuffers() { return Make<ProvideBuffers>(); }
std::unique_ptr<Op> MakeRemoveBuffers() { return Make<RemoveBuffers>(); }

}  // namespace escrow::sim
