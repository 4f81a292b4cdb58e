#include "escrow/sim/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "escrow/sim/real_call.h"

namespace escrow::sim {
namespace {

int DuplicateHigh(int fd) noexcept {
  const long high = RealCall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FirstOwnNumber());
  if (high >= 0) return static_cast<int>(high);
  // Rather any number than none.
  const long any = RealCall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
  if (any >= 0) return static_cast<int>(any);
  errno = static_cast<int>(-any);
  return -1;
}

}  // namespace

int FirstOwnNumber() noexcept {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  // The kernel looks at all numbers up to the highest when it lists them.
  constexpr rlim_t kEnough = 1 << 10;
  return static_cast<int>(std::min(limit.rlim_cur / 2, kEnough));
}

std::optional<FileIdentity> FileIdentity::Of(int fd) noexcept {
  struct stat status = {};
  if (::fstat(fd, &status) != 0) return std::nullopt;
  return FileIdentity{.device = status.st_dev, .inode = status.st_ino};
}

File::~File() {
  if (owned_ && fd_ >= 0) RealCall(SYS_close, fd_);
}

File File::Duplicate(int fd) noexcept {
  const int duplicate = DuplicateHigh(fd);
  return duplicate < 0 ? File() : Own(duplicate);
}

File File::Adopt(int fd) noexcept {
  if (fd < 0) return File();
  File low = Own(fd);
  File high = Duplicate(fd);
  return high.valid() ? std::move(high) : std::move(low);
}

bool File::IsOpen() const noexcept {
  return fd_ >= 0 && RealCall(SYS_fcntl, fd_, F_GETFD) >= 0;
}

int File::Release() noexcept {
  owned_ = false;
  return std::exchange(fd_, -1);
}

}  // namespace escrow::sim
