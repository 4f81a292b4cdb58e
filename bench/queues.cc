// usage: queues [SECONDS]
//
// Prints what reading 4 KiB of a file in the page cache takes through the
// queues of safe/queue.h, beside pread(2). SECONDS, 1 by default, is for each
// line.

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <functional>
#include <memory>
#include <system_error>
#include <vector>

#include "bench/alternate.h"
#include "bench/cached_file.h"
#include "bench/seconds.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/queue.h"
#include "escrow/safe/result.h"

namespace escrow::bench {
namespace {

using ownership::Descriptor;

constexpr std::size_t kSize = 4096;
constexpr std::size_t kBlocks = 1024;  // of the file, and reads of a run

std::error_code LastError() { return {errno, std::generic_category()}; }

std::error_code ReadByCalls(int file, std::vector<std::byte>& memory) {
  for (std::size_t i = 0; i < kBlocks; ++i) {
    if (::pread(file, memory.data(), kSize, static_cast<::off_t>(i * kSize)) !=
        kSize) {
      return LastError();
    }
  }
  return {};
}

std::error_code ReadByQueue(safe::Queue& queue, int file,
                            std::vector<std::byte>& memory) {
  std::vector<safe::Queue::Completion> done;
  std::vector<std::size_t> free;
  for (std::size_t i = 0; i < queue.cap(); ++i) free.push_back(i);
  for (std::size_t next = 0; next < kBlocks || queue.in_flight() > 0;) {
    while (next < kBlocks && !free.empty()) {
      const std::size_t place = free.back();
      free.pop_back();
      queue.Read(place, file, static_cast<::off_t>(next++ * kSize),
                 {memory.data() + place * kSize, kSize});
    }
    done.clear();
    if (const auto waited = queue.Wait(1, done); !waited) return waited.error();
    for (const auto& [place, size] : done) {
      if (!size) return size.error();
      free.push_back(place);
    }
  }
  return {};
}

std::error_code Print(const Descriptor& file, std::size_t cap,
                      std::chrono::seconds limit) {
  std::vector<std::byte> memory(cap * kSize);
  std::vector<std::unique_ptr<safe::Queue>> queues;
  std::vector<std::function<std::error_code()>> runs = {
      [&] { return ReadByCalls(file.number(), memory); }};
  for (const auto make :
       {&safe::MakeRingQueue, &safe::MakeThreadQueue, &safe::MakeSerialQueue}) {
    auto queue = make(cap);
    if (!queue) return queue.error();
    runs.emplace_back([&memory, &file, &its = **queue] {
      return ReadByQueue(its, file.number(), memory);
    });
    queues.push_back(std::move(*queue));
  }
  const auto times = Alternate(runs, kBlocks, limit);
  if (!times) return times.error();
  std::printf("%6zu %10.0f", cap, times->at(0).time);
  for (std::size_t i = 1; i < runs.size(); ++i) {
    std::printf(" %9.2fx", times->at(i).ratio);
  }
  std::printf("\n");
  return {};
}

int Main(int argc, char** argv) {
  const std::chrono::seconds limit = SecondsFrom(argc, argv, "queues");
  std::error_code error;
  const auto file = CachedFile(kBlocks, kSize);
  if (!file) error = file.error();
  std::printf(
      "nanoseconds per read, and times as much:\n%6s %10s %10s %10s %10s\n",
      "cap", "pread", "ring", "threads", "serial");
  for (const std::size_t cap : {1, 8, 32}) {
    if (!error) error = Print(*file, cap, limit);
  }
  if (!error) return 0;
  std::fprintf(stderr, "queues: %s\n", error.message().c_str());
  return 1;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
