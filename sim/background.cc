#include "escrow/sim/background.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include "escrow/sim/kernel_state.h"
#include "escrow/sim/ledger.h"
#include "escrow/sim/workers.h"

namespace escrow::sim {
namespace {

constexpr std::int64_t kMoment = 1'000'000;
constexpr std::int64_t kForEver = std::numeric_limits<std::int64_t>::max();

}  // namespace

void Background::Begin() {
  if (begun_) return;
  const auto run = [](void* background) -> void* {
    static_cast<Background*>(background)->Run();
    return nullptr;
  };
  begun_ = StartThread(run, this);
}

void Background::PollEnded() noexcept {
  if (state_ == State::kLeavesIt) Wake();
}

void Background::Wake() noexcept {
  if (!begun_) return;
  woken_ = true;
  if (state_ == State::kLeavesIt) wake_.notify_one();
  if (state_ == State::kPolls) kernel_.poller().Wake();
}

void Background::WaitNoLongerThan(std::int64_t time) noexcept {
  if (!begun_ || state_ == State::kRuns || state_ == State::kKeepsOut) return;
  if (until_ == kForEver || kernel_.Now(CLOCK_MONOTONIC) + time < until_)
    Wake();
}

void Background::Rest(std::unique_lock<std::mutex>& lock, State state,
                      std::optional<std::int64_t> limit) {
  state_ = state;
  until_ = limit.has_value() ? kernel_.Now(CLOCK_MONOTONIC) + *limit : kForEver;
  if (state == State::kPolls) {
    kernel_.poller().WaitInBackground(kernel_.mutex(), limit);
  } else if (limit.has_value()) {
    wake_.wait_for(lock, std::chrono::nanoseconds(*limit));
  } else {
    wake_.wait(lock);
  }
  state_ = State::kRuns;
}

void Background::Run() {
  const Inside inside;
  std::unique_lock<std::mutex> lock(kernel_.mutex());
  std::uint64_t calls = calls_;
  for (;;) {
    woken_ = false;
    const std::optional<std::int64_t> next = kernel_.ProgressUnattended();
    if (woken_ || next == 0) {
      // Others have their turn.
      lock.unlock();
      lock.lock();
      continue;
    }
    if (std::exchange(calls, calls_) != calls_) {
      Rest(lock, State::kKeepsOut, std::min(next.value_or(kMoment), kMoment));
    } else if (kernel_.poller().polled()) {
      Rest(lock, State::kLeavesIt, next);
    } else {
      Rest(lock, State::kPolls, next);
    }
  }
}

}  // namespace escrow::sim
