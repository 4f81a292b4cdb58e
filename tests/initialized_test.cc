// That MemorySanitizer takes what the kernel wrote for initialized, and only
// that. Without GoogleTest, which is linked with a standard library that is not
// instrumented.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/watch.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/memory.h"
#include "escrow/raw/sanitizer.h"
#include "escrow/safe/ring.h"

extern "C" {
// Where the first byte is that is not initialized, or -1.
std::ptrdiff_t __msan_test_shadow(const volatile void* data,
                                  std::size_t size);  // NOLINT
}

namespace {

using escrow::ownership::Buffer;
using escrow::ownership::Descriptor;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::exit(1);
}

// Of `size` bytes, how many are initialized before the first that is not.
std::ptrdiff_t Initialized(const void* data, std::size_t size) {
  if constexpr (escrow::raw::kMemorySanitizer) {
    const std::ptrdiff_t first = __msan_test_shadow(data, size);
    if (first >= 0) return first;
  }
  return static_cast<std::ptrdiff_t>(size);
}
void RequireInitialized(const void* data, std::size_t size,
                        std::ptrdiff_t expected, const char* what) {
  if (!escrow::raw::kMemorySanitizer) return;
  Require(Initialized(data, size) == expected, what);
}

Buffer NewBuffer(std::size_t size) {
  auto buffer = Buffer::Allocate(size);
  Require(buffer.has_value(), "there is memory");
  RequireInitialized(buffer->data(), size, 0, "new memory is uninitialized");
  return std::move(*buffer);
}

void TestTransfers(escrow::safe::Ring& ring) {
  const auto file = Descriptor::Adopt(::memfd_create("test", MFD_CLOEXEC));
  auto written =
      ring.Wait(ring.Write(file, escrow::ownership::StaticBytes("hello"), 0));
  Require(written.result == 5u, "five bytes are written");

  // A short read.
  auto [size, buffer] = ring.Wait(ring.Read(file, NewBuffer(64), 0));
  Require(size == 5u, "five bytes are read");
  RequireInitialized(buffer.data(), 64, 5, "five bytes are initialized");
  Require(std::memcmp(buffer.data(), "hello", 5) == 0, "they are the same");

  auto failed = ring.Wait(ring.Read(
      Descriptor::Adopt(::open("/", O_RDONLY | O_CLOEXEC)), NewBuffer(64), 0));
  Require(!failed.result, "a directory cannot be read");
  RequireInitialized(failed.buffer.data(), 64, 0, "nothing is initialized");

  const auto status = ring.Wait(ring.Statx(file));
  Require(status && status->stx_size == 5, "the file has five bytes");
}

// What a result counts goes from one piece to the next.
void TestPieces() {
  using escrow::raw::Access;
  using escrow::raw::Until;
  const Buffer memory = NewBuffer(64);
  std::byte* const data = const_cast<Buffer&>(memory).data();
  const auto piece = [](std::byte* begin, std::size_t size, bool counted) {
    return escrow::raw::Memory{begin, size, Access::kWrite, Until::kCompletion,
                               counted};
  };
  const int user = 0;
  escrow::ownership::Watch(&user, "recvmsg", piece(data, 10, true));
  escrow::ownership::Watch(&user, "recvmsg", piece(data + 16, 10, true));
  escrow::ownership::Watch(&user, "recvmsg", piece(data + 32, 8, false));
  escrow::ownership::Unwatch(&user, 14);
  RequireInitialized(data, 16, 10, "the first piece is initialized");
  RequireInitialized(data + 16, 16, 4, "the rest is in the second");
  RequireInitialized(data + 32, 16, 8, "the address is not counted");
}

}  // namespace

int main() {
  auto ring = escrow::safe::Ring::Create({.entries = 8});
  Require(ring.has_value(), "there are rings");
  TestTransfers(*ring);
  TestPieces();
}
