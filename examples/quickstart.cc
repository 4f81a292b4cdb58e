// The README's examples, whole.

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/examples/task.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"

namespace {

using escrow::examples::Task;
using escrow::ownership::Buffer;
using escrow::ownership::Descriptor;
using escrow::ownership::Lease;
using escrow::ownership::StaticBytes;
using escrow::safe::BufferGroup;
using escrow::safe::Chain;
using escrow::safe::Receive;
using escrow::safe::ReceiveMany;
using escrow::safe::Result;
using escrow::safe::Ring;
using escrow::safe::Send;
using escrow::safe::Shutdown;
using escrow::safe::Sync;
using escrow::safe::With;
using escrow::safe::Write;
using std::chrono::seconds;

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

Result<std::size_t> Log(Ring& ring, const Descriptor& log, std::string line) {
  // The sync comes after the write, and not if that fails or is short.
  auto [write, sync] = ring.Start(
      Chain(Write<std::string>{.file = log, .buffer = std::move(line)},
            With{Sync{.file = log}, {.deadline = seconds(5)}}));
  auto [written, back] = ring.Wait(std::move(write));
  if (auto synced = ring.Wait(std::move(sync)); written && !synced) {
    return std::unexpected(synced.error());
  }
  return written;
}

Result<void> Echo(Ring& ring, const Descriptor& peer) {
  auto group = BufferGroup::Create(ring, {.count = 8, .size = 1024});
  if (!group) return std::unexpected(group.error());
  // One request, many results: each a lease on a buffer that the kernel chose.
  auto stream = ring.Start(ReceiveMany{.socket = peer, .group = *group});
  while (auto received = ring.Next(stream)) {
    if (!*received) return std::unexpected(received->error());
    auto [sent, lease] =
        ring.Wait(ring.Start(Send<Lease>{.socket = peer,
                                         .buffer = std::move(**received),
                                         .flags = MSG_WAITALL}));
    if (!sent) return std::unexpected(sent.error());
    // Here `lease` ends, and its buffer is the kernel's again.
  }
  return {};
}

// What a peer gets that says hello and no more.
Result<void> EchoHello(Ring& ring) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return std::unexpected(std::error_code(errno, std::generic_category()));
  }
  const auto here = Descriptor::Adopt(ends[0]);
  const auto there = Descriptor::Adopt(ends[1]);
  auto sent = ring.Wait(ring.Start(
      Send<StaticBytes>{.socket = there, .buffer = "hello, echo\n"}));
  if (!sent.result) return std::unexpected(sent.result.error());
  auto shut = ring.Wait(ring.Start(Shutdown{.socket = there, .how = SHUT_WR}));
  if (!shut) return shut;
  if (auto echoed = Echo(ring, here); !echoed) return echoed;
  auto [size, text] = ring.Wait(ring.Start(
      Receive<std::string>{.socket = there, .buffer = std::string(64, ' ')}));
  if (!size) return std::unexpected(size.error());
  std::fwrite(text.data(), 1, *size, stdout);
  return {};
}

Result<void> Run() {
  auto ring = Ring::Create();
  if (!ring) return std::unexpected(ring.error());
  auto file = WriteGreeting(*ring);
  if (!file) return std::unexpected(file.error());
  if (auto printed = Print(*ring, *file); !printed) return printed;

  if (auto logged = Log(*ring, *file, "hello, log\n"); !logged) {
    return std::unexpected(logged.error());
  }
  if (auto echoed = EchoHello(*ring); !echoed) return echoed;

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
