#ifndef ESCROW_BENCH_ALTERNATE_H_
#define ESCROW_BENCH_ALTERNATE_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <expected>
#include <functional>
#include <numeric>
#include <span>
#include <system_error>
#include <vector>

#include "bench/median.h"

// Measures several ways to do the same against each other: short runs of all of
// them follow each other closely, in one process, and what counts are medians.
// What else the machine does falls on all of them alike.

namespace escrow::bench {

struct Times {
  double time;        // nanoseconds for each operation
  double difference;  // to the first one's, in the same round
  double ratio;       // likewise
};

// Runs each of `runs`, which does `operations` operations, again and again
// until `limit` has passed. Between rounds it calls `renew`, if there is one,
// now and then: which pages memory is in, and so what it shares a cache's sets
// with, is chance, and may make more of a difference than code does.
inline std::expected<std::vector<Times>, std::error_code> Alternate(
    std::span<const std::function<std::error_code()>> runs,
    std::size_t operations, std::chrono::seconds limit,
    const std::function<std::error_code()>& renew = nullptr) {
  using Clock = std::chrono::steady_clock;
  using Nanoseconds = std::chrono::duration<double, std::nano>;
  constexpr unsigned kRoundsInPlace = 12;
  std::vector<std::vector<double>> times(runs.size());
  std::vector<std::vector<double>> differences(runs.size());
  std::vector<std::vector<double>> ratios(runs.size());
  std::vector<std::size_t> order(runs.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = Clock::now() + limit;
  for (unsigned round = 0; Clock::now() < end; ++round) {
    if (renew != nullptr && round % kRoundsInPlace == 0) {
      if (const std::error_code error = renew()) return std::unexpected(error);
    }
    for (const std::size_t i : order) {
      const auto start = Clock::now();
      if (const std::error_code error = runs[i]()) {
        return std::unexpected(error);
      }
      const Nanoseconds time = Clock::now() - start;
      times[i].push_back(time.count() / static_cast<double>(operations));
    }
    for (std::size_t i = 0; i < runs.size(); ++i) {
      differences[i].push_back(times[i].back() - times[0].back());
      ratios[i].push_back(times[i].back() / times[0].back());
    }
    // None always runs behind the same one.
    std::next_permutation(order.begin(), order.end());
  }
  std::vector<Times> medians;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    medians.push_back(
        {Median(times[i]), Median(differences[i]), Median(ratios[i])});
  }
  return medians;
}

}  // namespace escrow::bench

#endif  // ESCROW_BENCH_ALTERNATE_H_
