#ifndef ESCROW_SIM_BACKGROUND_H_
#define ESCROW_SIM_BACKGROUND_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

namespace escrow::sim {

class Kernel;

// The thread that has things go on while nobody is in a call: times pass, files
// become ready, eventfds are signalled. A thread in a call does all this by
// itself, and better, so this one keeps out of the way for a moment after each
// call, and until the end of one that waits. Nothing without a thread
// (Begin()). The kernel's lock guards all of it.
class Background {
 public:
  explicit Background(Kernel& kernel) noexcept : kernel_(kernel) {}
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // Starts the thread, if it has not been.
  void Begin();

  // A thread comes into a call.
  void CallMade() noexcept { ++calls_; }
  // A thread that has polled does not any more.
  void PollEnded() noexcept;
  // There is something that nobody in a call does.
  void Wake() noexcept;
  // There will be, in so many ns.
  void WaitNoLongerThan(std::int64_t time) noexcept;

 private:
  enum class State : std::uint8_t {
    kRuns,
    kKeepsOut,  // for a moment
    kLeavesIt,  // to a thread that polls
    kPolls,
  };

  void Run();
  void Rest(std::unique_lock<std::mutex>& lock, State state,
            std::optional<std::int64_t> limit);

  Kernel& kernel_;
  bool begun_ = false;
  State state_ = State::kRuns;
  std::uint64_t calls_ = 0;
  std::int64_t until_ = 0;  // as CLOCK_MONOTONIC has it
  bool woken_ = false;
  std::condition_variable wake_;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_BACKGROUND_H_
