#ifndef ESCROW_SAFE_TIME_LEFT_H_
#define ESCROW_SAFE_TIME_LEFT_H_

#include <algorithm>
#include <chrono>
#include <optional>

namespace escrow::safe::internal {

// What is left, at each time, of a limit that begins now; none without one.
class TimeLeft {
 public:
  explicit TimeLeft(std::optional<std::chrono::nanoseconds> limit) noexcept
      : limit_(limit) {
    if (limit.has_value()) start_ = Clock::now();
  }

  // Not below 0.
  std::optional<std::chrono::nanoseconds> Get() const noexcept {
    if (!limit_.has_value()) return std::nullopt;
    return std::max(std::chrono::nanoseconds(0),
                    *limit_ - (Clock::now() - start_));
  }

 private:
  using Clock = std::chrono::steady_clock;

  std::optional<std::chrono::nanoseconds> limit_;
  Clock::time_point start_;
};

}  // namespace escrow::safe::internal

#endif  // ESCROW_SAFE_TIME_LEFT_H_
