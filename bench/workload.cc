// usage: workload OPERATIONS
//
// Runs every cell's loop for that many operations, for //bench:instructions to
// count what it costs.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "bench/loops.h"

// Callgrind counts in here only and writes a profile at each return.
// No C++ name, to be found by, and never inlined.
extern "C" [[gnu::noinline]] int escrow_bench_counted(escrow::bench::Loop& loop,
                                                      std::uint64_t rounds) {
  return loop.Run(rounds);
}

namespace escrow::bench {
namespace {

int Main(int argc, char** argv) {
  const std::uint64_t operations =
      argc == 2 ? std::strtoull(argv[1], nullptr, 10) : 0;
  if (operations == 0) {
    std::fputs("usage: workload OPERATIONS\n", stderr);
    return 2;
  }
  for (const Cell& cell : Cells()) {
    const auto loop = MakeLoop(cell);
    if (!loop) {
      std::fprintf(stderr, "workload: %s: %s\n", NameOf(cell).c_str(),
                   loop.error().message().c_str());
      return 1;
    }
    // A first round has what later ones do not: it resolves symbols, and
    // allocates.
    int result = (*loop)->Run(1);
    if (result == 0) {
      result =
          escrow_bench_counted(**loop, operations / OperationsPerRound(cell));
    }
    if (result < 0) {
      const std::error_code error(-result, std::generic_category());
      std::fprintf(stderr, "workload: %s: %s\n", NameOf(cell).c_str(),
                   error.message().c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
