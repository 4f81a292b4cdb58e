#include "escrow/safe/bus.h"

#include <cerrno>
#include <chrono>
#include <expected>
#include <optional>
#include <system_error>

#include "escrow/raw/error.h"
#include "escrow/safe/result.h"
#include "escrow/safe/time_left.h"

namespace escrow::safe {

using std::chrono::nanoseconds;

Result<BusResult> Bus::Dispatch(std::optional<nanoseconds> limit) {
  const auto failure = [](int error) {
    return std::unexpected(
        std::error_code(error, raw::CategoryOf<"Bus::Dispatch">()));
  };
  const internal::TimeLeft time_left(limit);
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
    const std::optional<nanoseconds> left = time_left.Get();
    const auto dispatched = ring_.Dispatch(left);
    if (!dispatched) return std::unexpected(dispatched.error());
    if (!done_->empty()) continue;
    if (left == nanoseconds(0)) return failure(ETIMEDOUT);
    if (!limit && *dispatched == 0 && ring_.in_flight() == 0) {
      return failure(EDEADLK);
    }
  }
}

}  // namespace escrow::safe
