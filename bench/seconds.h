#ifndef ESCROW_BENCH_SECONDS_H_
#define ESCROW_BENCH_SECONDS_H_

#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace escrow::bench {

// What a command line has for [SECONDS], or 1. Prints the usage of `program`
// and ends it if that is anything else.
inline std::chrono::seconds SecondsFrom(int argc, char** argv,
                                        const char* program) {
  const long seconds = argc == 2 ? std::strtol(argv[1], nullptr, 10) : 1;
  if (argc > 2 || seconds <= 0) {
    std::fprintf(stderr, "usage: %s [SECONDS]\n", program);
    std::exit(2);
  }
  return std::chrono::seconds(seconds);
}

}  // namespace escrow::bench

#endif  // ESCROW_BENCH_SECONDS_H_
