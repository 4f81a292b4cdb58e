// usage: paired [SECONDS]
//
// Prints what escrow::raw and escrow::safe take in time over liburing. SECONDS,
// 1 by default, is for each line.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <expected>
#include <functional>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "bench/alternate.h"
#include "bench/loops.h"
#include "bench/seconds.h"

namespace escrow::bench {
namespace {

// Of a run; so many that reading the clock does not show, and so few that
// interrupts fall between most.
constexpr unsigned kOperations = 1024;

// Of liburing, raw and safe.
std::expected<std::vector<Times>, std::error_code> Compare(
    Operation operation, unsigned batch, std::chrono::seconds limit) {
  constexpr std::array kImplementations = {
      Implementation::kLiburing, Implementation::kRaw, Implementation::kSafe};
  std::array<std::unique_ptr<Loop>, kImplementations.size()> loops;
  std::vector<std::function<std::error_code()>> runs;
  for (std::unique_ptr<Loop>& loop : loops) {
    runs.emplace_back([&loop, batch] {
      const int result = loop->Run(kOperations / batch);
      return std::error_code(std::max(-result, 0), std::generic_category());
    });
  }
  return Alternate(runs, kOperations, limit, [&]() -> std::error_code {
    for (std::size_t i = 0; i < loops.size(); ++i) {
      auto loop = MakeLoop({operation, batch, kImplementations[i]});
      if (!loop) return loop.error();
      loops[i] = std::move(*loop);
    }
    return {};
  });
}

int Main(int argc, char** argv) {
  const std::chrono::seconds limit = SecondsFrom(argc, argv, "paired");
  std::printf("nanoseconds per operation:\n%-10s %6s %10s %10s %10s\n",
              "operation", "batch", "liburing", "raw", "safe");
  for (const Operation operation : {Operation::kNop, Operation::kRead}) {
    for (const unsigned batch : {1u, 8u, 32u, 128u}) {
      const auto times = Compare(operation, batch, limit);
      if (!times) {
        std::fprintf(stderr, "paired: %s/%u: %s\n", NameOf(operation), batch,
                     times.error().message().c_str());
        return 1;
      }
      std::printf("%-10s %6u %10.1f %+10.1f %+10.1f\n", NameOf(operation),
                  batch, times->at(0).time, times->at(1).difference,
                  times->at(2).difference);
    }
  }
  return 0;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
