// What //bench:instructions counts, in time; an iteration is an operation.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <system_error>

#include "bench/loops.h"

namespace escrow::bench {
namespace {

void Measure(benchmark::State& state, const Cell& cell) {
  constexpr std::uint64_t kRounds = 64;
  const auto loop = MakeLoop(cell);
  if (!loop) {
    state.SkipWithError(loop.error().message());
    return;
  }
  while (state.KeepRunningBatch(
      static_cast<std::int64_t>(kRounds * OperationsPerRound(cell)))) {
    if (const int result = (*loop)->Run(kRounds); result < 0) {
      state.SkipWithError(
          std::error_code(-result, std::generic_category()).message());
      return;
    }
  }
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const Cell& cell : Cells()) {
    benchmark::RegisterBenchmark(
        NameOf(cell).c_str(),
        [cell](benchmark::State& state) { Measure(state, cell); })
        ->MinTime(0.1);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
