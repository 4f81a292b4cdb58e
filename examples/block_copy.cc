#include "escrow/examples/block_copy.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "escrow/examples/extents.h"
#include "escrow/examples/failure.h"
#include "escrow/examples/task.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/ring.h"

namespace escrow::examples {

using ownership::Buffer;
using ownership::Slice;

std::optional<Block> BlockCopy::Next() {
  if (failure_) return std::nullopt;
  const std::uint64_t holes = extents_.holes();
  auto block = extents_.Next(session_.block_size());
  session_.progress().done += extents_.holes() - holes;
  if (!block) {
    Fail({source_.name, "lseek: " + block.error().message()});
    return std::nullopt;
  }
  if (*block) session_.At(Moment::kBlock);
  return *block;
}

void BlockCopy::SourceEnded(std::uint64_t offset) {
  Fail({source_.name, "read: it ends after " + std::to_string(offset) +
                          " bytes, and had " + std::to_string(end_) +
                          " when it was looked at: truncated meanwhile?"});
}

namespace {

Task CopySomeBlocks(BlockCopy& copy, Buffer memory) {
  safe::Ring& ring = copy.session().ring();
  while (const auto block = copy.Next()) {
    for (std::size_t have = 0; have < block->length;) {
      copy.Started();
      auto [size, slice] = co_await ring.Read(
          copy.source(), Slice(std::move(memory), have, block->length - have),
          block->offset + have);
      copy.Ended();
      memory = std::move(slice).whole();
      if (!size) {
        if (size.error() == std::errc::interrupted) continue;
        co_return copy.SourceFailed(size.error());
      }
      if (*size == 0) co_return copy.SourceEnded(block->offset + have);
      have += *size;
    }
    for (std::size_t written = 0; written < block->length;) {
      copy.Started();
      auto [size, slice] = co_await ring.Write(
          copy.target(),
          Slice(std::move(memory), written, block->length - written),
          block->offset + written);
      copy.Ended();
      memory = std::move(slice).whole();
      if (!size) {
        if (size.error() == std::errc::interrupted) continue;
        co_return copy.TargetFailed(size.error());
      }
      written += *size;
    }
    copy.Copied(*block);
  }
}

}  // namespace

Expected<void> CopyBlocks(BlockCopy& copy) {
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < copy.depth(); ++i) {
    auto memory = Buffer::Allocate(copy.session().block_size(), 4096);
    if (!memory) return Failed("memory for blocks", memory.error());
    tasks.push_back(CopySomeBlocks(copy, *std::move(memory)));
  }
  // Leaving early drops the tasks; their blocks stay with the ring for as long
  // as it takes.
  return copy.session().Run(tasks, copy.failure());
}

}  // namespace escrow::examples
