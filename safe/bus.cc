#include "escrow/safe/bus.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <expected>
#include <optional>
#include <system_error>

#include "escrow/raw/error.h"
#include "escrow/safe/result.h"

namespace escrow::safe {

using std::chrono::nanoseconds;

Result<BusResult> Bus::Dispatch(std::optional<nanoseconds> limit) {
  const auto failure = [](int error) {
    return std::unexpected(
        std::error_code(error, raw::CategoryOf<"Bus::Dispatch">()));
  };
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  for (;;) {
    while (!done_->empty()) {
      internal::BusNode& node = done_->front();
      done_->pop_front();
      const BusResult result(&node);
      bool ended = false;
      node.ended = &ended;
      // Copied, for they may be added to meanwhile.
      for (const BusCallback& callback : std::vector(node.callbacks)) {
        callback(result);
        if (ended) break;
      }
      if (ended) continue;
      node.ended = nullptr;
      // Unless a callback has taken it.
      if (node.stage == internal::BusNode::Stage::kDone) return result;
    }
    if (!limit) {
      const auto dispatched = ring_.Dispatch();
      if (!dispatched) return std::unexpected(dispatched.error());
      if (*dispatched == 0 && ring_.in_flight() == 0 && done_->empty()) {
        return failure(EDEADLK);
      }
      continue;
    }
    const nanoseconds left =
        std::max(nanoseconds(0), *limit - (Clock::now() - start));
    const auto dispatched = ring_.Dispatch(left);
    if (!dispatched) return std::unexpected(dispatched.error());
    if (left == nanoseconds(0) && done_->empty()) return failure(ETIMEDOUT);
  }
}

}  // namespace escrow::safe
