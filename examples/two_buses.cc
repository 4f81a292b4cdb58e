// usage: two_buses < FILE
//
// One bus waits for another one, which is a file like others, and for the time:
// the inner bus reads the standard input, the outer one counts how often it had
// something, and gives up when there was nothing for ten seconds.

#include <linux/io_uring.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/bus.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/wait_ops.h"

namespace {

using escrow::ownership::Descriptor;
using escrow::safe::Bus;
using escrow::safe::IsEnd;
using escrow::safe::PollOnce;
using escrow::safe::Read;
using escrow::safe::Result;
using escrow::safe::Timeout;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr std::size_t kSize = 4096;
constexpr seconds kPatience(10);

Result<void> Run() {
  auto outer = Bus::Create();
  if (!outer) return std::unexpected(outer.error());
  // One that can be polled: its completions are posted without a call.
  auto inner = Bus::Create({.setup_flags = IORING_SETUP_SINGLE_ISSUER});
  if (!inner) return std::unexpected(inner.error());
  const auto inner_file = inner->ring().Duplicate();
  if (!inner_file) return std::unexpected(inner_file.error());

  const Descriptor input = Descriptor::Permanent(STDIN_FILENO);
  auto read = Bus::Prepare(
      Read<std::string>{.file = input, .buffer = std::string(kSize, ' ')});
  if (auto submitted = inner->Submit(read); !submitted) {
    return std::unexpected(submitted.error());
  }

  std::size_t bytes = 0;
  unsigned rounds = 0;
  for (bool over = false; !over; ++rounds) {
    auto ready = Bus::Prepare(PollOnce{.file = *inner_file, .events = POLLIN});
    auto late = Bus::Prepare(Timeout{.time = kPatience});
    outer->Enqueue(ready, late);
    const auto first = outer->Dispatch();
    if (!first) return std::unexpected(first.error());
    if (first->Is(late)) break;

    // All that the inner one has; here `late` ends, too, and is cancelled.
    while (const auto result = inner->Dispatch(nanoseconds(0))) {
      auto [size, buffer] = result->End<Read<std::string>>();
      if (!size) return std::unexpected(size.error());
      if ((over = IsEnd(size))) break;
      bytes += *size;
      read.Prepare({.file = input, .buffer = std::move(buffer)});
      if (auto submitted = inner->Submit(read); !submitted) {
        return std::unexpected(submitted.error());
      }
    }
  }
  std::printf("%zu bytes in %u rounds\n", bytes, rounds);
  return {};
}

}  // namespace

int main() {
  if (auto done = Run(); !done) {
    std::fprintf(stderr, "two_buses: %s\n", done.error().message().c_str());
    return 1;
  }
}
