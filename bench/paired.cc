// usage: paired [SECONDS]
//
// Prints what escrow::raw and escrow::safe take in time over liburing. Short
// runs of all three follow each other closely, in one process, and what counts
// is the median of their differences: what else the machine does falls on all
// of them alike. SECONDS, 1 by default, is for each line.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <expected>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "bench/loops.h"
#include "bench/median.h"

namespace escrow::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::duration<double, std::nano>;

constexpr std::array kImplementations = {
    Implementation::kLiburing, Implementation::kRaw, Implementation::kSafe};
constexpr std::size_t kCount = kImplementations.size();

// Of a run; so many that reading the clock does not show, and so few that
// interrupts fall between most.
constexpr unsigned kOperations = 1024;

// Before all loops are made anew: which pages their memory is in, and so what
// it shares a cache's sets with, is chance, and makes more of a difference than
// their code does.
constexpr unsigned kRunsInPlace = 12;

// Nanoseconds for each operation: of liburing, and how much more of the others.
std::expected<std::array<double, kCount>, std::error_code> Compare(
    Operation operation, unsigned batch, std::chrono::seconds limit) {
  std::array<std::unique_ptr<Loop>, kCount> loops;
  std::array<std::vector<double>, kCount> values;
  std::array<std::size_t, kCount> order;
  for (std::size_t i = 0; i < kCount; ++i) order[i] = i;
  const auto end = Clock::now() + limit;
  for (unsigned run = 0; Clock::now() < end; ++run) {
    if (run % kRunsInPlace == 0) {
      for (std::size_t i = 0; i < kCount; ++i) {
        auto loop = MakeLoop({operation, batch, kImplementations[i]});
        if (!loop) return std::unexpected(loop.error());
        loops[i] = std::move(*loop);
      }
    }
    std::array<double, kCount> times;
    for (const std::size_t i : order) {
      const auto start = Clock::now();
      const int result = loops[i]->Run(kOperations / batch);
      const Nanoseconds time = Clock::now() - start;
      if (result < 0) {
        return std::unexpected(
            std::error_code(-result, std::generic_category()));
      }
      times[i] = time.count() / kOperations;
    }
    values[0].push_back(times[0]);
    for (std::size_t i = 1; i < kCount; ++i) {
      values[i].push_back(times[i] - times[0]);
    }
    // None always runs behind the same one.
    std::next_permutation(order.begin(), order.end());
  }

  std::array<double, kCount> medians;
  for (std::size_t i = 0; i < kCount; ++i) medians[i] = Median(values[i]);
  return medians;
}

int Main(int argc, char** argv) {
  const long seconds = argc == 2 ? std::strtol(argv[1], nullptr, 10) : 1;
  if (argc > 2 || seconds <= 0) {
    std::fputs("usage: paired [SECONDS]\n", stderr);
    return 2;
  }
  std::printf("nanoseconds per operation:\n%-10s %6s %10s %10s %10s\n",
              "operation", "batch", "liburing", "raw", "safe");
  for (const Operation operation : {Operation::kNop, Operation::kRead}) {
    for (const unsigned batch : {1u, 8u, 32u, 128u}) {
      const auto medians =
          Compare(operation, batch, std::chrono::seconds(seconds));
      if (!medians) {
        std::fprintf(stderr, "paired: %s/%u: %s\n", NameOf(operation), batch,
                     medians.error().message().c_str());
        return 1;
      }
      const auto& [liburing, raw, safe] = *medians;
      std::printf("%-10s %6u %10.1f %+10.1f %+10.1f\n", NameOf(operation),
                  batch, liburing, raw, safe);
    }
  }
  return 0;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
