#include "escrow/examples/generate.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/examples/failure.h"
#include "escrow/examples/session.h"
#include "escrow/examples/task.h"
#include "escrow/examples/temporary_file.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/ring.h"

namespace escrow::examples {
namespace {

using ownership::Buffer;
using ownership::Slice;

// SplitMix64, which can start anywhere.
std::uint64_t RandomWord(std::uint64_t index) {
  std::uint64_t word = (index + 1) * 0x9e37'79b9'7f4a'7c15;
  word = (word ^ (word >> 30)) * 0xbf58'476d'1ce4'e5b9;
  word = (word ^ (word >> 27)) * 0x94d0'49bb'1331'11eb;
  return word ^ (word >> 31);
}

struct Generation {
  Session& session;
  const TemporaryFile& target;
  std::size_t block_size;
  std::uint64_t size;
  std::uint64_t next = 0;
  std::optional<Failure> failure = {};
};

Task GenerateBlocks(Generation& generation, Buffer memory) {
  while (generation.next < generation.size) {
    const std::uint64_t offset = generation.next;
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(
        generation.block_size, generation.size - offset));
    generation.next += length;
    FillReproducibly(std::span(memory.data(), length), offset);
    for (std::size_t written = 0; written < length;) {
      auto [size, slice] = co_await generation.session.ring().Write(
          generation.target.file(),
          Slice(std::move(memory), written, length - written),
          offset + written);
      memory = std::move(slice).whole();
      if (!size) {
        if (size.error() == std::errc::interrupted) continue;
        generation.failure =
            Failure{generation.target.path(), size.error().message()};
        co_return;
      }
      written += *size;
    }
    generation.session.progress().done += length;
  }
}

::mode_t ModeOfNewFiles() {
  const ::mode_t mask = ::umask(0);
  ::umask(mask);
  return 0666 & ~mask;
}

}  // namespace

void FillReproducibly(std::span<std::byte> bytes, std::uint64_t offset) {
  std::uint64_t index = offset / sizeof(std::uint64_t);
  while (!bytes.empty()) {
    const std::uint64_t word = RandomWord(index++);
    const std::size_t length = std::min(bytes.size(), sizeof(word));
    std::memcpy(bytes.data(), &word, length);
    bytes = bytes.subspan(length);
  }
}

Expected<void> GenerateFile(Session& session, const std::string& path,
                            std::uint64_t size) {
  auto existing = session.ring().Wait(session.ring().Statx(path));
  if (existing) return {};
  if (existing.error() != std::errc::no_such_file_or_directory) {
    return Failed(path, existing.error());
  }
  auto target = TemporaryFile::Create(session, path);
  if (!target) return std::unexpected(target.error());

  session.progress() = {.doing = "generate", .done = 0, .total = size};
  Generation generation = {.session = session,
                           .target = *target,
                           .block_size = (session.block_size() + 7) / 8 * 8,
                           .size = size};
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < session.DepthFor(size); ++i) {
    auto memory = Buffer::Allocate(generation.block_size, 4096);
    if (!memory) return Failed("memory for blocks", memory.error());
    tasks.push_back(GenerateBlocks(generation, *std::move(memory)));
  }
  if (auto run = session.Run(tasks, generation.failure); !run) return run;
  if (auto synced = target->Sync(session, ModeOfNewFiles()); !synced) {
    return synced;
  }
  return std::move(*target).Publish(session, TemporaryFile::Existing::kError);
}

}  // namespace escrow::examples
