// usage: checksum [--threads=N] [--queue=ring|threads|serial] FILE...
//
// Prints what `sum --sysv` prints. Each thread reads every N-th block of a file
// through a queue of its own.

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/examples/failure.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/queue.h"
#include "escrow/safe/result.h"

namespace escrow::examples {
namespace {

using ownership::Buffer;
using ownership::Descriptor;

constexpr std::size_t kBlock = 65536;
constexpr std::size_t kInFlight = 8;

struct Options {
  unsigned threads = 2;
  safe::Result<std::unique_ptr<safe::Queue>> (*make)(std::size_t cap) =
      &safe::MakeRingQueue;
  std::vector<const char*> files;
};

// The sum of the bytes of the blocks `first`, `first` + `stride`, ...
Expected<std::uint64_t> SumBlocks(const Options& options, const char* path,
                                  std::uint64_t size, unsigned first) {
  // A descriptor belongs to one thread.
  const int number = ::open(path, O_RDONLY | O_CLOEXEC);
  if (number < 0) return FailedCall(path, "open");
  const Descriptor file = Descriptor::Adopt(number);
  auto made = options.make(kInFlight);
  if (!made) return Failed("queue", made.error());
  safe::OwningQueue<Buffer> queue(std::move(*made));

  const std::uint64_t blocks = (size + kBlock - 1) / kBlock;
  std::uint64_t next = first;
  std::uint64_t sum = 0;
  const auto read_next = [&](Buffer buffer) {
    if (next >= blocks) return;
    queue.Read(next, file, static_cast<::off_t>(next * kBlock),
               std::move(buffer));
    next += options.threads;
  };
  for (std::size_t i = 0; i < kInFlight; ++i) {
    auto buffer = Buffer::Allocate(kBlock);
    if (!buffer) return Failed(path, buffer.error());
    read_next(std::move(*buffer));
  }
  std::vector<safe::OwningQueue<Buffer>::Completion> done;
  while (queue.in_flight() > 0) {
    done.clear();
    if (auto waited = queue.Wait(1, done); !waited) {
      return Failed("queue", waited.error());
    }
    for (auto& [block, read, buffer] : done) {
      if (!read) return Failed(path, read.error());
      const std::uint64_t expected =
          std::min<std::uint64_t>(kBlock, size - block * kBlock);
      if (*read < expected) return Failed(path, "has become shorter");
      for (std::size_t i = 0; i < expected; ++i) {
        sum += std::to_integer<std::uint8_t>(buffer.data()[i]);
      }
      read_next(std::move(buffer));
    }
  }
  return sum;
}

Expected<void> Print(const Options& options, const char* path) {
  struct stat status = {};
  if (::stat(path, &status) != 0) return FailedCall(path, "stat");
  if (!S_ISREG(status.st_mode)) return Failed(path, "no regular file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  std::vector<Expected<std::uint64_t>> sums(options.threads);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.threads; ++i) {
    threads.emplace_back(
        [&, i] { sums[i] = SumBlocks(options, path, size, i); });
  }
  for (std::thread& thread : threads) thread.join();

  std::uint64_t sum = 0;
  for (const auto& part : sums) {
    if (!part) return std::unexpected(part.error());
    sum += *part;
  }
  // As System V has it: 16 bits, carries added.
  const auto low = static_cast<std::uint32_t>(sum);
  const std::uint32_t folded = (low & 0xffff) + (low >> 16);
  std::printf("%u %llu %s\n", (folded & 0xffff) + (folded >> 16),
              static_cast<unsigned long long>((size + 511) / 512), path);
  return {};
}

bool Parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    constexpr std::string_view kThreads = "--threads=";
    if (argument == "--queue=ring") {
      options.make = &safe::MakeRingQueue;
    } else if (argument == "--queue=threads") {
      options.make = &safe::MakeThreadQueue;
    } else if (argument == "--queue=serial") {
      options.make = &safe::MakeSerialQueue;
    } else if (argument.starts_with(kThreads)) {
      argument.remove_prefix(kThreads.size());
      const char* const end = argument.data() + argument.size();
      const auto [rest, error] =
          std::from_chars(argument.data(), end, options.threads);
      if (error != std::errc() || rest != end || options.threads == 0 ||
          options.threads > 256) {
        return false;
      }
    } else if (argument.starts_with("--")) {
      return false;
    } else {
      options.files.push_back(argv[i]);
    }
  }
  return !options.files.empty();
}

}  // namespace
}  // namespace escrow::examples

int main(int argc, char** argv) {
  using namespace escrow::examples;
  Options options;
  if (!Parse(argc, argv, options)) {
    std::fputs(
        "usage: checksum [--threads=N] [--queue=ring|threads|serial] "
        "FILE...\n",
        stderr);
    return 2;
  }
  int status = 0;
  for (const char* const file : options.files) {
    if (auto printed = Print(options, file); !printed) {
      std::fprintf(stderr, "checksum: %s: %s\n", printed.error().what.c_str(),
                   printed.error().why.c_str());
      status = 1;
    }
  }
  return status;
}
