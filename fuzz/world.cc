#include "escrow/fuzz/world.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <system_error>
#include <utility>
#include <vector>

// What is freed is looked at until the run ends, if at all: to keep more of it
// is to use memory that no cache holds. ASAN_OPTIONS overrides this.
// NOLINTNEXTLINE(bugprone-reserved-identifier)
extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=16";
}

namespace escrow::fuzz {

using ownership::Descriptor;

Descriptor MakeFile() {
  const int fd = ::memfd_create("fuzz", MFD_CLOEXEC);
  ESCROW_REQUIRE(fd >= 0);
  std::vector<std::byte> bytes(2 * kFileBytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = FileByte(i);
  ESCROW_REQUIRE(::write(fd, bytes.data(), bytes.size()) == std::ssize(bytes));
  return Descriptor::Adopt(fd);
}

const Descriptor& File() {
  static const Descriptor& file = *new Descriptor(MakeFile());
  return file;
}

const Descriptor& Scratch() {
  static const Descriptor& file = *new Descriptor(MakeFile());
  return file;
}

Ends MakePipe() {
  int ends[2];
  ESCROW_REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  return {Descriptor::Adopt(ends[0]), Descriptor::Adopt(ends[1])};
}

Ends MakeStream() {
  int ends[2];
  ESCROW_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ==
                 0);
  return {Descriptor::Adopt(ends[0]), Descriptor::Adopt(ends[1])};
}

void Feed(const Descriptor& end, std::size_t size) {
  std::array<std::byte, 256> bytes;
  bytes.fill(kSent);
  const iovec part = {bytes.data(), std::min(size, bytes.size())};
  if (::send(end.number(), part.iov_base, part.iov_len,
             MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
      errno != ENOTSOCK) {
    return;
  }
  pollfd polled = {.fd = end.number(), .events = POLLOUT, .revents = 0};
  // What is there fits at once.
  if (::poll(&polled, 1, 0) == 1 && (polled.revents & POLLERR) == 0) {
    (void)!::writev(end.number(), &part, 1);
  }
}

ownership::Buffer MakeBuffer(std::size_t size, std::byte value) {
  auto buffer = ownership::Buffer::Allocate(size);
  ESCROW_REQUIRE(buffer.has_value());
  std::memset(buffer->data(), static_cast<int>(value), size);
  return std::move(*buffer);
}

bool IsRefusal(const std::error_code& error) {
  return error == std::errc::resource_unavailable_try_again ||
         error == std::errc::device_or_resource_busy ||
         error == std::errc::interrupted ||
         error == std::errc::not_enough_memory;
}

DescriptorsStay::DescriptorsStay() {
  (void)File();
  (void)Scratch();
  before_ = Open();
}

DescriptorsStay::Descriptors DescriptorsStay::Open() {
  Descriptors open;
  std::array<pollfd, std::tuple_size_v<Descriptors>> all;
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = {.fd = static_cast<int>(i), .events = 0, .revents = 0};
  }
  ESCROW_REQUIRE(::poll(all.data(), all.size(), 0) >= 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    open[i] = (all[i].revents & POLLNVAL) == 0;
  }
  return open;
}

}  // namespace escrow::fuzz
