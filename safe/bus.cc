#include "escrow/safe/bus.h"

#include <cerrno>
#include <chrono>
#include <expected>
#include <optional>
#include <system_error>
#include <vector>

#include "escrow/raw/error.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/time_left.h"

namespace escrow::safe {

using std::chrono::nanoseconds;

namespace {

// Calls the callbacks of `node`: whether it is still there. Also on the way
// that an exception takes, it is not left with what is gone.
bool CallBack(internal::BusNode& node, const BusResult& result) {
  struct Watch {
    explicit Watch(internal::BusNode& its) noexcept : node(its) {
      node.ended = &ended;
    }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    ~Watch() {
      if (!ended) node.ended = nullptr;
    }
    internal::BusNode& node;
    bool ended = false;
  } watch(node);
  // Copied, for they may be added to meanwhile.
  for (const BusCallback& callback : std::vector(node.callbacks)) {
    callback(result);
    if (watch.ended) return false;
  }
  return true;
}

}  // namespace

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
      if (!CallBack(node, result)) continue;
      // Unless a callback has taken it.
      if (node.stage == internal::BusNode::Stage::kDone) return result;
    }
    const std::optional<nanoseconds> left = time_left.Get();
    const auto dispatched = ring_.Dispatch(left);
    if (!dispatched) return std::unexpected(dispatched.error());
    if (!done_->empty()) continue;
    if (left == nanoseconds(0)) return failure(ETIMEDOUT);
    if (!limit && *dispatched == 0 &&
        !internal::EngineOf(ring_).HasSomethingToWaitFor()) {
      return failure(EDEADLK);
    }
  }
}

}  // namespace escrow::safe
