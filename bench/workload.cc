// usage: workload IMPLEMENTATION OPERATION BATCH ROUNDS
//
// Runs one loop, for //bench:instructions to count what it costs.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <system_error>

#include "bench/loops.h"

namespace escrow::bench {
namespace {

template <typename T, std::size_t kSize>
std::optional<T> Named(const T (&values)[kSize], std::string_view name) {
  for (const T value : values) {
    if (name == NameOf(value)) return value;
  }
  return std::nullopt;
}

int Main(int argc, char** argv) {
  if (argc != 5) {
    std::fputs("usage: workload IMPLEMENTATION OPERATION BATCH ROUNDS\n",
               stderr);
    return 2;
  }
  const auto implementation = Named(kImplementations, argv[1]);
  const auto operation = Named(kOperations, argv[2]);
  const unsigned long batch = std::strtoul(argv[3], nullptr, 10);
  const std::uint64_t rounds = std::strtoull(argv[4], nullptr, 10);
  if (!implementation || !operation || batch < 1 || batch > kEntries) {
    std::fprintf(stderr, "workload: no such loop: %s %s %s\n", argv[1], argv[2],
                 argv[3]);
    return 2;
  }
  const auto loop =
      MakeLoop(*implementation, *operation, static_cast<unsigned>(batch));
  if (!loop) {
    std::fprintf(stderr, "workload: %s\n", loop.error().message().c_str());
    return 1;
  }
  if (const int result = (*loop)->Run(rounds); result < 0) {
    const std::error_code error(-result, std::generic_category());
    std::fprintf(stderr, "workload: %s %s: %s\n", argv[1], argv[2],
                 error.message().c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
