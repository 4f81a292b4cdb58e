#ifndef ESCROW_BENCH_MEDIAN_H_
#define ESCROW_BENCH_MEDIAN_H_

#include <algorithm>
#include <cstddef>
#include <vector>

namespace escrow::bench {

// Of `values`, of which there is at least one; reorders them.
inline double Median(std::vector<double>& values) {
  const auto middle =
      values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace escrow::bench

#endif  // ESCROW_BENCH_MEDIAN_H_
