#include "escrow/sim/choices.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace escrow::sim {
namespace {

constexpr ChoiceInfo kInfos[kChoicePoints] = {
    {"issue-late", "tried when it is submitted",
     "left for later, or for a worker that cannot be interrupted",
     "io_uring_enter(2): a request may be completed asynchronously; "
     "io_uring_sqe_set_flags(3), IOSQE_ASYNC"},
    {"completion-order", "in the order of submission", "in any other",
     "io_uring(7): requests may complete in any order"},
    {"completion-late", "taken in as soon as it can be", "some time later",
     "io_uring(7): there is no bound on the time to a completion"},
    {"short-transfer", "as much as there is", "less",
     "read(2), write(2), send(2), recv(2): fewer bytes are no error"},
    {"error", "what the file says", "an error of the call's own set",
     "the ERRORS sections of the equivalent system calls"},
    {"submit-short", "all entries", "some of them",
     "io_uring_enter(2): returns the number of entries consumed"},
    {"submit-error", "success", "EAGAIN or EBUSY, nothing consumed",
     "io_uring_enter(2), EAGAIN and EBUSY"},
    {"wait-interrupted", "waits on", "EINTR", "io_uring_enter(2), EINTR"},
    {"wait-times-out", "waits until the time has passed", "ETIME before it",
     "io_uring_enter(2), ETIME, where the clock is virtual"},
    {"overflow-flush", "when there is room", "at a later enter",
     "io_uring_setup(2), IORING_FEAT_NODROP: flushed when asked for events"},
    {"cancel-race", "cancelled",
     "found running (EALREADY), or gone (ENOENT), and completed as if nothing "
     "had been asked",
     "io_uring_prep_cancel(3): EALREADY and ENOENT"},
    {"multishot-ends", "goes on", "ended after a result, by the kernel",
     "io_uring_multishot(7): ended without IORING_CQE_F_MORE at any time"},
    {"notification-late", "soon after the result", "after other completions",
     "io_uring_prep_send_zc(3): when the peer has acknowledged"},
    {"stray-notification",
     "a notification that no completion announced, when a chain breaks before "
     "the send",
     "none",
     "measured on Linux 6.18: it comes; io_uring_prep_send_zc(3): only if the "
     "completion announced it"},
    {"sqpoll-late", "reads entries at once", "at a later time",
     "io_uring_setup(2), IORING_SETUP_SQPOLL: a thread of its own reads them"},
    {"after-close", "cancelled when the ring is closed",
     "goes on and stores afterwards",
     "io_uring_queue_exit(3): teardown is asynchronous; measured on Linux "
     "6.18: stores in 112 of 301 runs"},
};

struct Counter {
  std::atomic<std::uint64_t> made;
  std::atomic<std::uint64_t> adverse;
};
Counter counters[kChoicePoints];

std::size_t IndexOf(ChoicePoint point) noexcept {
  return static_cast<std::size_t>(point);
}

}  // namespace

const ChoiceInfo& InfoOf(ChoicePoint point) noexcept {
  return kInfos[IndexOf(point)];
}

Choices Choices::Following(std::span<const std::uint8_t> schedule) {
  Choices choices;
  choices.source_ = Source::kSchedule;
  choices.schedule_.assign(schedule.begin(), schedule.end());
  return choices;
}

Choices Choices::FromSeed(std::uint64_t seed) noexcept {
  Choices choices;
  if (seed == 0) return choices;
  choices.source_ = Source::kSeed;
  choices.random_ = seed;
  constexpr std::uint8_t kLevels[] = {0, 0, 16, 64, 128, 224};
  for (std::uint8_t& adversity : choices.adversity_) {
    adversity = kLevels[choices.Random() % std::size(kLevels)];
  }
  return choices;
}

// splitmix64.
std::uint64_t Choices::Random() noexcept {
  random_ += 0x9e37'79b9'7f4a'7c15;
  std::uint64_t mixed = random_;
  mixed = (mixed ^ mixed >> 30) * 0xbf58'476d'1ce4'e5b9;
  mixed = (mixed ^ mixed >> 27) * 0x94d0'49bb'1331'11eb;
  return mixed ^ mixed >> 31;
}

unsigned Choices::Choose(ChoicePoint point, unsigned count) {
  const std::size_t index = IndexOf(point);
  unsigned chosen = 0;
  if (count > 1) {
    switch (source_) {
      case Source::kBenign:
        break;
      case Source::kSchedule:
        if (next_ < schedule_.size()) chosen = schedule_[next_++] % count;
        break;
      case Source::kSeed: {
        const std::uint64_t random = Random();
        if ((random & 0xff) < adversity_[index]) {
          chosen = static_cast<unsigned>(1 + (random >> 8) % (count - 1));
        }
      }
    }
  }
  counters[index].made.fetch_add(1, std::memory_order_relaxed);
  // Kept only where it can be told apart from the end of a schedule.
  if (source_ == Source::kBenign || count <= 1) return chosen;
  if (chosen > 0xff) chosen = 0xff;
  if (made_.size() < kept_in_.size()) {
    kept_in_[made_.size()] = static_cast<std::uint8_t>(chosen);
  }
  made_.push_back(static_cast<std::uint8_t>(chosen));
  if (chosen != 0) {
    adverse_ = made_.size();
    counters[index].adverse.fetch_add(1, std::memory_order_relaxed);
  }
  return chosen;
}

Choices::Counts Choices::CountsOf(ChoicePoint point) noexcept {
  const Counter& counter = counters[IndexOf(point)];
  return {counter.made.load(std::memory_order_relaxed),
          counter.adverse.load(std::memory_order_relaxed)};
}

}  // namespace escrow::sim
