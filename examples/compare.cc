#include "escrow/examples/compare.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/examples/block_copy.h"
#include "escrow/examples/failure.h"
#include "escrow/examples/session.h"
#include "escrow/examples/task.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/ring.h"

namespace escrow::examples {
namespace {

using ownership::Buffer;
using ownership::Slice;

constexpr std::uint64_t kNowhere = std::numeric_limits<std::uint64_t>::max();

struct Comparison {
  Session& session;
  NamedFile files[2];
  std::uint64_t size;
  std::uint64_t next = 0;
  std::uint64_t difference = kNowhere;
  std::optional<Failure> failure = {};
};

Task CompareBlocks(Comparison& comparison, Buffer first, Buffer second) {
  Buffer memory[2] = {std::move(first), std::move(second)};
  const std::size_t block_size = memory[0].size();
  // Blocks are taken in ascending order, and those taken before a difference
  // was found are compared to their end. The smallest difference is the first.
  // The block that begins with the end of the files is to be found empty.
  while (comparison.difference == kNowhere &&
         comparison.next <= comparison.size) {
    const std::uint64_t offset = comparison.next;
    comparison.next += block_size;
    std::size_t have[2] = {0, 0};
    for (int side : {0, 1}) {
      while (have[side] < block_size) {
        auto [size, slice] = co_await comparison.session.ring().Read(
            comparison.files[side].file,
            Slice(std::move(memory[side]), have[side], block_size - have[side]),
            offset + have[side]);
        memory[side] = std::move(slice).whole();
        if (!size) {
          if (size.error() == std::errc::interrupted) continue;
          comparison.failure =
              Failure{comparison.files[side].name, size.error().message()};
          co_return;
        }
        if (*size == 0) break;
        have[side] += *size;
      }
    }
    const std::size_t common = std::min(have[0], have[1]);
    const std::byte* const begin = memory[0].data();
    const std::byte* const same =
        std::mismatch(begin, begin + common, memory[1].data()).first;
    if (same != begin + common || have[0] != have[1]) {
      comparison.difference =
          std::min(comparison.difference,
                   offset + static_cast<std::uint64_t>(same - begin));
    }
    comparison.session.progress().done += common;
  }
}

}  // namespace

Expected<void> CompareFiles(Session& session, NamedFile first, NamedFile second,
                            std::uint64_t size) {
  session.progress() = {.doing = "verify", .done = 0, .total = size};
  Comparison comparison = {.session = session,
                           .files = {std::move(first), std::move(second)},
                           .size = size};
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < std::max<std::size_t>(session.DepthFor(size), 1);
       ++i) {
    auto memory = Buffer::Allocate(session.block_size(), 4096);
    auto other_memory = Buffer::Allocate(session.block_size(), 4096);
    if (!memory || !other_memory) {
      return Failed("memory for blocks",
                    (memory ? other_memory : memory).error());
    }
    tasks.push_back(CompareBlocks(comparison, *std::move(memory),
                                  *std::move(other_memory)));
  }
  if (auto run = session.Run(tasks, comparison.failure); !run) return run;
  if (comparison.difference != kNowhere) {
    return Failed(comparison.files[1].name,
                  "differs from " + comparison.files[0].name + " at offset " +
                      std::to_string(comparison.difference));
  }
  return {};
}

}  // namespace escrow::examples
