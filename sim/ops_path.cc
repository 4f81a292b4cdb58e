#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <linux/xattr.h>
#include <poll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "escrow/sim/file.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op.h"
#include "escrow/sim/op_support.h"
#include "escrow/sim/ops.h"
#include "escrow/sim/request.h"
#include "escrow/sim/ring.h"

// On files by their names, and their extended attributes. The names are copied
// when the entry is consumed.

namespace escrow::sim {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;

// OPENAT and OPENAT2.
class Open : public Op {
 public:
  Attempt Try(Request& request) override {
    if (fifo_.valid()) return TryFifo(request);
    if (!request.worked) {
      if (request.has_workers()) return Attempt::Works();
      Work(request);
    }
    if (!is_fifo_) {
      return Attempt::Done(Deliver(request, opened_, request.sqe().file_index));
    }
    const bool writes = (how_.flags & O_ACCMODE) == O_WRONLY;
    if (opened_ == -ENXIO && writes) return WaitAWhile(request);
    if (opened_ < 0) return Attempt::Done(opened_);
    fifo_ = File::Adopt(opened_);
    return TryFifo(request);
  }

  void Work(Request& request) override {
    open_how how = how_;
    is_fifo_ = MayWait(request);
    // Opens at once for reading, and for writing if somebody reads.
    if (is_fifo_) how.flags |= O_NONBLOCK;
    opened_ = OpenWith(request, how);
  }

 protected:
  int PrepareCommon(Request& request) {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.buf_index != 0) return -EINVAL;
    if (request.has_flag(IOSQE_FIXED_FILE)) return -EBADF;
    if (const int error = LoadPath(sqe.addr, 0, &path_)) return error;
    const bool keeps = (how_.flags & O_CLOEXEC) != 0;
    return sqe.file_index != 0 && keeps ? -EINVAL : 0;
  }

  virtual std::int32_t OpenWith(const Request& request,
                                const open_how& how) = 0;

  Text path_;
  open_how how_ = {};

 private:
  // Whether it would wait for the other end of a named pipe.
  bool MayWait(const Request& request) const noexcept {
    if ((how_.flags & (O_NONBLOCK | O_PATH)) != 0 ||
        (how_.flags & O_ACCMODE) == O_RDWR) {
      return false;
    }
    struct statx status = {};
    const int flags = (how_.flags & O_NOFOLLOW) != 0 ? AT_SYMLINK_NOFOLLOW : 0;
    return Call(SYS_statx, request.sqe().fd, path_.data(), flags, STATX_TYPE,
                &status) == 0 &&
           (status.stx_mode & S_IFMT) == S_IFIFO;
  }

  Attempt TryFifo(Request& request) {
    // That somebody has opened it for writing shows when something is written,
    // or when it is closed again.
    const bool reads = (how_.flags & O_ACCMODE) == O_RDONLY;
    if (reads && (PollNow(fifo_.fd(), POLLIN) & (POLLIN | POLLHUP)) == 0) {
      return WaitAWhile(request);
    }
    const std::int32_t flags = Call(SYS_fcntl, fifo_.fd(), F_GETFL);
    Call(SYS_fcntl, fifo_.fd(), F_SETFL, flags & ~O_NONBLOCK);
    const bool closes = (how_.flags & O_CLOEXEC) != 0;
    const std::int32_t fd =
        Call(SYS_fcntl, fifo_.fd(), closes ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
    return Attempt::Done(Deliver(request, fd, request.sqe().file_index));
  }

  static Attempt WaitAWhile(Request& request) {
    request.WaitUntil(request.ring().Now() + kMillisecond);
    return Attempt::Blocked();
  }

  std::int32_t opened_ = -1;
  bool is_fifo_ = false;
  File fifo_;
};

class OpenAt final : public Open {
 public:
  int Prepare(Request& request) override {
    how_.flags = request.sqe().open_flags;
    how_.mode = request.sqe().len;
    return PrepareCommon(request);
  }

 protected:
  std::int32_t OpenWith(const Request& request, const open_how& how) override {
    return Call(SYS_openat, request.sqe().fd, path_.data(), how.flags,
                how.mode);
  }
};

class OpenAt2 final : public Open {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    constexpr std::uint32_t kMost = 4096;
    if (sqe.len < sizeof(how_)) return -EINVAL;
    if (sqe.len > kMost) return -E2BIG;
    const auto* const how = PointerTo<const std::byte>(sqe.addr2);
    if (!Load(&how_, how, sizeof(how_))) return -EFAULT;
    // What a later header has besides must not be set.
    std::vector<std::byte> rest(sqe.len - sizeof(how_));
    if (!rest.empty() && !Load(rest.data(), how + sizeof(how_), rest.size())) {
      return -EFAULT;
    }
    for (const std::byte byte : rest) {
      if (byte != std::byte{}) return -E2BIG;
    }
    return PrepareCommon(request);
  }

 protected:
  std::int32_t OpenWith(const Request& request, const open_how& how) override {
    return Call(SYS_openat2, request.sqe().fd, path_.data(), &how, sizeof(how));
  }
};

// Those that take one path or two.
class OnPath : public Tolerated {
 protected:
  // Whether the fields that none of them uses, and `others`, are 0; and the
  // path at sqe->addr.
  template <typename... Fields>
  int PreparePath(const Request& request, unsigned path_flags,
                  Fields... others) {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error =
            CheckUnused(sqe.buf_index, sqe.splice_fd_in, others...)) {
      return error;
    }
    if (request.has_flag(IOSQE_FIXED_FILE)) return -EBADF;
    return LoadPath(sqe.addr, path_flags, &path_);
  }
  // The second one, at sqe->addr2.
  int PrepareOther(const Request& request) {
    return LoadPath(request.sqe().addr2, 0, &other_);
  }

  const char* path() const noexcept { return path_.data(); }
  const char* other() const noexcept { return other_.data(); }

 private:
  Text path_;
  Text other_;
};

class Statx final : public OnPath {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = PreparePath(request, sqe.statx_flags)) return error;
    if (sqe.addr2 != 0) {
      request.Hold(Use::kWrite, PointerTo(sqe.addr2), sizeof(struct statx),
                   "statxbuf");
    }
    return 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    // The system call takes any for an open file.
    constexpr std::uint32_t kKnown = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT |
                                     AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
    if ((sqe.statx_flags & ~kKnown) != 0) return -EINVAL;
    struct statx status = {};
    const std::int32_t result =
        Call(SYS_statx, sqe.fd, path(), sqe.statx_flags, sqe.len, &status);
    if (result < 0) return result;
    return Store(PointerTo(sqe.addr2), &status, sizeof(status)) ? 0 : -EFAULT;
  }
};

class RenameAt final : public OnPath {
 public:
  int Prepare(Request& request) override {
    if (const int error = PreparePath(request, 0)) return error;
    return PrepareOther(request);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return Call(SYS_renameat2, sqe.fd, path(),
                static_cast<std::int32_t>(sqe.len), other(), sqe.rename_flags);
  }
};

class UnlinkAt final : public OnPath {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if ((sqe.unlink_flags & ~std::uint32_t{AT_REMOVEDIR}) != 0) return -EINVAL;
    return PreparePath(request, 0, sqe.off, sqe.len);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return Call(SYS_unlinkat, sqe.fd, path(), sqe.unlink_flags);
  }
};

class MkdirAt final : public OnPath {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return PreparePath(request, 0, sqe.off, sqe.rw_flags);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return Call(SYS_mkdirat, sqe.fd, path(), sqe.len);
  }
};

class SymlinkAt final : public OnPath {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = PreparePath(request, 0, sqe.len, sqe.rw_flags)) {
      return error;
    }
    return PrepareOther(request);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    return Call(SYS_symlinkat, path(), request.sqe().fd, other());
  }
};

class LinkAt final : public OnPath {
 public:
  int Prepare(Request& request) override {
    if (const int error = PreparePath(request, request.sqe().hardlink_flags)) {
      return error;
    }
    return PrepareOther(request);
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return Call(SYS_linkat, sqe.fd, path(), static_cast<std::int32_t>(sqe.len),
                other(), sqe.hardlink_flags);
  }
};

// The four on extended attributes: of an open file, or of a path.
template <bool kByPath>
class Xattr : public Tolerated {
 protected:
  int PrepareNames(Request& request) {
    const io_uring_sqe& sqe = request.sqe();
    if (kByPath && request.has_flag(IOSQE_FIXED_FILE)) return -EBADF;
    if (const int error =
            LoadText(sqe.addr, XATTR_NAME_MAX + 1, ERANGE, &name_)) {
      return error;
    }
    if (name_.size() == 1) return -ERANGE;
    return kByPath ? LoadPath(sqe.addr3, 0, &path_) : 0;
  }

  template <typename... Args>
  std::int32_t CallFor(const Request& request, long by_path, long by_fd,
                       Args... args) const noexcept {
    return kByPath ? Call(by_path, path_.data(), name_.data(), args...)
                   : Call(by_fd, request.fd(), name_.data(), args...);
  }

 private:
  Text name_;
  Text path_;
};

template <bool kByPath>
class SetXattr final : public Xattr<kByPath> {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    constexpr std::uint32_t kKnown = XATTR_CREATE | XATTR_REPLACE;
    if ((sqe.xattr_flags & ~kKnown) != 0) return -EINVAL;
    if (const int error = this->PrepareNames(request)) return error;
    if (sqe.len > XATTR_SIZE_MAX) return -E2BIG;
    value_.resize(sqe.len);
    if (sqe.len > 0 && !Load(value_.data(), PointerTo(sqe.addr2), sqe.len)) {
      return -EFAULT;
    }
    return 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    return this->CallFor(request, SYS_setxattr, SYS_fsetxattr, value_.data(),
                         value_.size(), request.sqe().xattr_flags);
  }

 private:
  std::vector<std::byte> value_;
};

template <bool kByPath>
class GetXattr final : public Xattr<kByPath> {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.xattr_flags != 0) return -EINVAL;
    if (const int error = this->PrepareNames(request)) return error;
    if (sqe.addr2 != 0 && sqe.len != 0) {
      request.Hold(Use::kWrite, PointerTo(sqe.addr2), sqe.len, "value");
    }
    return 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    std::vector<std::byte> value(
        std::min<std::size_t>(sqe.len, XATTR_SIZE_MAX));
    const std::int32_t result = this->CallFor(
        request, SYS_getxattr, SYS_fgetxattr, value.data(), value.size());
    if (result <= 0 || value.empty()) return result;
    return Store(PointerTo(sqe.addr2), value.data(),
                 static_cast<std::size_t>(result))
               ? result
               : -EFAULT;
  }
};

}  // namespace

std::unique_ptr<Op> MakeOpenAt() { return Make<OpenAt>(); }
std::unique_ptr<Op> MakeOpenAt2() { return Make<OpenAt2>(); }
std::unique_ptr<Op> MakeStatx() { return Make<Statx>(); }
std::unique_ptr<Op> MakeRenameAt() { return Make<RenameAt>(); }
std::unique_ptr<Op> MakeUnlinkAt() { return Make<UnlinkAt>(); }
std::unique_ptr<Op> MakeMkdirAt() { return Make<MkdirAt>(); }
std::unique_ptr<Op> MakeSymlinkAt() { return Make<SymlinkAt>(); }
std::unique_ptr<Op> MakeLinkAt() { return Make<LinkAt>(); }
std::unique_ptr<Op> MakeFsetXattr() { return Make<SetXattr<false>>(); }
std::unique_ptr<Op> MakeSetXattr() { return Make<SetXattr<true>>(); }
std::unique_ptr<Op> MakeFgetXattr() { return Make<GetXattr<false>>(); }
std::unique_ptr<Op> MakeGetXattr() { return Make<GetXattr<true>>(); }

}  // namespace escrow::sim
