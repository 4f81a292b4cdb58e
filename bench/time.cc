// What //bench:instructions counts, in time; an iteration is an operation.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <system_error>

#include "bench/loops.h"

namespace escrow::bench {
namespace {

void Cell(benchmark::State& state, Operation operation,
          Implementation implementation) {
  constexpr std::uint64_t kRounds = 64;
  const auto batch = static_cast<unsigned>(state.range(0));
  const auto loop = MakeLoop(implementation, operation, batch);
  if (!loop) {
    state.SkipWithError(loop.error().message());
    return;
  }
  while (state.KeepRunningBatch(static_cast<std::int64_t>(kRounds * batch))) {
    if (const int result = (*loop)->Run(kRounds); result < 0) {
      state.SkipWithError(
          std::error_code(-result, std::generic_category()).message());
      return;
    }
  }
}

BENCHMARK_CAPTURE(Cell, nop_liburing, Operation::kNop,
                  Implementation::kLiburing)
    ->Arg(1)
    ->Arg(32);
BENCHMARK_CAPTURE(Cell, nop_raw, Operation::kNop, Implementation::kRaw)
    ->Arg(1)
    ->Arg(32);
BENCHMARK_CAPTURE(Cell, nop_safe, Operation::kNop, Implementation::kSafe)
    ->Arg(1)
    ->Arg(32);
BENCHMARK_CAPTURE(Cell, read_liburing, Operation::kRead,
                  Implementation::kLiburing)
    ->Arg(1)
    ->Arg(32);
BENCHMARK_CAPTURE(Cell, read_raw, Operation::kRead, Implementation::kRaw)
    ->Arg(1)
    ->Arg(32);
BENCHMARK_CAPTURE(Cell, read_safe, Operation::kRead, Implementation::kSafe)
    ->Arg(1)
    ->Arg(32);

}  // namespace
}  // namespace escrow::bench
