#include "escrow/sim/op_support.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "escrow/sim/file.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/ring.h"

namespace escrow::sim {
namespace {

int SocketOption(int fd, int option) noexcept {
  int value = 0;
  ::socklen_t length = sizeof(value);
  const int result =
      Call(SYS_getsockopt, fd, SOL_SOCKET, option, &value, &length);
  return result < 0 ? -1 : value;
}

}  // namespace

std::uint32_t PollNow(int fd, std::uint32_t events) noexcept {
  pollfd polled = {
      .fd = fd, .events = static_cast<short>(events), .revents = 0};
  timespec now = {};
  const int count = Call(SYS_ppoll, &polled, 1, &now, nullptr, 0);
  return count <= 0 ? 0 : static_cast<unsigned short>(polled.revents);
}

bool FileKind::IsOnDisk() const noexcept {
  return mode == S_IFREG || mode == S_IFBLK || mode == S_IFDIR;
}

bool FileKind::IsStream() const noexcept {
  if (IsSocket()) return socket_type == SOCK_STREAM;
  // A pipe with O_DIRECT is one of packets, and a file with it wants blocks.
  if ((flags & O_DIRECT) != 0) return false;
  return mode == S_IFREG || mode == S_IFIFO;
}

FileKind KindOf(int fd) noexcept {
  FileKind kind;
  struct stat status = {};
  if (Call(SYS_fstat, fd, &status) != 0) return kind;
  kind.mode = status.st_mode & S_IFMT;
  kind.flags = std::max(0, Call(SYS_fcntl, fd, F_GETFL));
  if (kind.mode == S_IFSOCK) {
    kind.domain = SocketOption(fd, SO_DOMAIN);
    kind.socket_type = std::max(0, SocketOption(fd, SO_TYPE));
  }
  return kind;
}

int LoadVectors(std::uint64_t address, std::size_t count, Vectors* vectors) {
  constexpr std::size_t kMostVectors = 1024;
  if (count > kMostVectors) return -EINVAL;
  vectors->resize(count);
  if (count > 0 &&
      !Load(vectors->data(), PointerTo(address), count * sizeof(iovec))) {
    return -EFAULT;
  }
  std::size_t room = kMaxTransfer;
  for (iovec& vector : *vectors) {
    if (static_cast<std::ptrdiff_t>(vector.iov_len) < 0) return -EINVAL;
    vector.iov_len = std::min(vector.iov_len, room);
    room -= vector.iov_len;
  }
  return 0;
}

std::size_t SizeOf(const Vectors& vectors) noexcept {
  std::size_t size = 0;
  for (const iovec& vector : vectors) size += vector.iov_len;
  return size;
}

Vectors First(const Vectors& vectors, std::size_t size) {
  Vectors first;
  for (const iovec& vector : vectors) {
    if (size == 0) break;
    first.push_back({vector.iov_base, std::min(vector.iov_len, size)});
    size -= first.back().iov_len;
  }
  return first;
}

Vectors After(const Vectors& vectors, std::size_t size) {
  Vectors rest;
  for (const iovec& vector : vectors) {
    const std::size_t skipped = std::min(vector.iov_len, size);
    size -= skipped;
    if (skipped == vector.iov_len) continue;
    rest.push_back({static_cast<std::byte*>(vector.iov_base) + skipped,
                    vector.iov_len - skipped});
  }
  return rest;
}

void HoldEach(Request& request, Use use, const Vectors& vectors,
              const char* what) {
  for (const iovec& vector : vectors) {
    if (vector.iov_base == nullptr || vector.iov_len == 0) continue;
    request.Hold(use, vector.iov_base, vector.iov_len, what);
  }
}

void BeforeLoadEach(const Vectors& vectors) noexcept {
  for (const iovec& vector : vectors) {
    BeforeLoad(vector.iov_base, vector.iov_len);
  }
}

void BeforeStoreEach(const Vectors& vectors) noexcept {
  for (const iovec& vector : vectors) {
    BeforeStore(vector.iov_base, vector.iov_len);
  }
}

void AfterStoreEach(const Vectors& vectors, std::size_t size) noexcept {
  for (const iovec& vector : vectors) {
    const std::size_t stored = std::min(vector.iov_len, size);
    if (stored > 0) AfterStore(vector.iov_base, stored);
    size -= stored;
  }
}

int LoadText(std::uint64_t address, std::size_t room, int too_long,
             Text* text) {
  text->clear();
  // A byte at a time: what is behind its end may not even be mapped.
  const auto* const begin = PointerTo<const char>(address);
  while (text->size() < room) {
    char next = 0;
    if (!Load(&next, begin + text->size(), 1)) return -EFAULT;
    text->push_back(next);
    if (next == '\0') return 0;
  }
  return -too_long;
}

int LoadPath(std::uint64_t address, unsigned flags, Text* path) {
  const bool may_be_empty = (flags & AT_EMPTY_PATH) != 0;
  if (address == 0 && may_be_empty) {
    path->assign(1, '\0');
    return 0;
  }
  if (const int error = LoadText(address, PATH_MAX, ENAMETOOLONG, path)) {
    return error;
  }
  return path->size() == 1 && !may_be_empty ? -ENOENT : 0;
}

int Address::Load(std::uint64_t address, std::uint64_t its_length) noexcept {
  if (its_length > sizeof(storage)) return -EINVAL;
  length = static_cast<::socklen_t>(its_length);
  if (length == 0) return 0;
  return sim::Load(&storage, PointerTo(address), length) ? 0 : -EFAULT;
}

bool Tolerated::BreaksChain(const Request&, std::int32_t result) const {
  // Unless it was not executed at all: there was no file, or it was cancelled.
  return !executed() && (result == -EBADF || result == -ECANCELED);
}

std::int32_t Deliver(Request& request, std::int32_t fd,
                     std::uint32_t file_index) {
  if (fd < 0 || file_index == 0) return fd;
  return request.ring().files().Install(File::Adopt(fd), file_index);
}

}  // namespace escrow::sim
