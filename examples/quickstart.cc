// The README's examples, whole.

#include <fcntl.h>

#include <cstddef>
#include <cstdio>
#include <utility>

#include "escrow/examples/task.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/ring.h"

namespace {

using escrow::examples::Task;
using escrow::ownership::Buffer;
using escrow::ownership::Descriptor;
using escrow::ownership::StaticBytes;
using escrow::safe::Result;
using escrow::safe::Ring;

Result<Descriptor> WriteGreeting(Ring& ring) {
  auto file = ring.Wait(ring.Open("/tmp", O_RDWR | O_TMPFILE, 0600));
  if (!file) return file;
  // Starting costs no system call; Wait() submits.
  auto write = ring.Write(*file, StaticBytes("hello, ring\n"), /*offset=*/0);
  auto [written, bytes] = ring.Wait(std::move(write));
  if (!written) return std::unexpected(written.error());
  return file;
}

Result<void> Print(Ring& ring, const Descriptor& file) {
  auto block = Buffer::Allocate(4096, /*alignment=*/4096);
  if (!block) return std::unexpected(block.error());
  // The buffer is the kernel's from here on, and comes back with the result.
  auto [size, buffer] = ring.Wait(ring.Read(file, std::move(*block), 0));
  if (!size) return std::unexpected(size.error());
  std::fwrite(buffer.data(), 1, *size, stdout);

  // Given up in flight: cancelled, and freed when the kernel is done with it.
  (void)ring.Read(file, std::move(buffer), 0);
  return {};
}

void PrintInCallback(Ring& ring, const Descriptor& file, Buffer block) {
  ring.Read(file, std::move(block), 0)
      .Then([](Result<std::size_t> size, Buffer buffer) {
        if (size) std::fwrite(buffer.data(), 1, *size, stdout);
      });
}

Task PrintInCoroutine(Ring& ring, const Descriptor& file, Buffer block) {
  auto [size, buffer] = co_await ring.Read(file, std::move(block), 0);
  if (size) std::fwrite(buffer.data(), 1, *size, stdout);
}

Result<void> Run() {
  auto ring = Ring::Create();
  if (!ring) return std::unexpected(ring.error());
  auto file = WriteGreeting(*ring);
  if (!file) return std::unexpected(file.error());
  if (auto printed = Print(*ring, *file); !printed) return printed;

  PrintInCallback(*ring, *file, Buffer::Allocate(64).value());
  const Task task =
      PrintInCoroutine(*ring, *file, Buffer::Allocate(64).value());
  while (ring->in_flight() > 0) {
    if (auto run = ring->Dispatch(); !run) return std::unexpected(run.error());
  }
  return ring->Wait(ring->Close(std::move(*file)));
}

}  // namespace

int main() {
  if (auto done = Run(); !done) {
    std::fprintf(stderr, "%s\n", done.error().message().c_str());
    return 1;
  }
}
