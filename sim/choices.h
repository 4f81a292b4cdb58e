#ifndef ESCROW_SIM_CHOICES_H_
#define ESCROW_SIM_CHOICES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// What the simulated kernel is free to do one way or the other, and which way
// it goes.

namespace escrow::sim {

// Every point at which a kernel may act in more than one way. The first way is
// always the benign one: what a quiet machine does.
enum class ChoicePoint : std::uint8_t {
  kIssueLate,
  kCompletionOrder,
  kCompletionLate,
  kShortTransfer,
  kError,
  kSubmitShort,
  kSubmitError,
  kWaitInterrupted,
  kWaitTimesOut,
  kOverflowFlush,
  kCancelRace,
  kMultishotEnds,
  kNotificationLate,
  kStrayNotification,
  kSqpollLate,
  kAfterClose,
};
inline constexpr std::size_t kChoicePoints =
    static_cast<std::size_t>(ChoicePoint::kAfterClose) + 1;

struct ChoiceInfo {
  const char* name;       // for counters and schedules
  const char* benign;     // what the first way is
  const char* otherwise;  // what the others are
  const char* permitted;  // where it says that a kernel may do so
};

const ChoiceInfo& InfoOf(ChoicePoint point) noexcept;

// A schedule: one byte for each choice, in the order in which they are made. A
// byte of zero is the benign way, and so is whatever is beyond the end.
using Schedule = std::vector<std::uint8_t>;

// Makes the choices of one run. Not thread-safe: the kernel's lock guards it.
class Choices {
 public:
  // Benign, for ever.
  Choices() noexcept = default;

  // As `schedule` says.
  static Choices Following(std::span<const std::uint8_t> schedule);

  // At random, the same for the same seed. A seed prefers some points over
  // others: what needs many rare choices of one kind in a row is found sooner
  // if some seeds make no others. 0 is benign.
  static Choices FromSeed(std::uint64_t seed) noexcept;

  // A way out of `count` ones, which is at least 1: from 0, the benign one, to
  // count - 1.
  unsigned Choose(ChoicePoint point, unsigned count);
  bool Happens(ChoicePoint point) { return Choose(point, 2) != 0; }

  // All choices made so far, as a schedule that makes them again. Benign ones
  // at the end are left out.
  std::span<const std::uint8_t> made() const noexcept {
    return {made_.data(), adverse_};
  }

  // Has each of them written down there as it is made, too: for who looks after
  // the process has died. What is beyond is not.
  void KeepIn(std::span<std::uint8_t> memory) noexcept { kept_in_ = memory; }

  // How often `point` was decided, and how often not benignly, by all Choices
  // of the process.
  struct Counts {
    std::uint64_t made = 0;
    std::uint64_t adverse = 0;
  };
  static Counts CountsOf(ChoicePoint point) noexcept;

 private:
  enum class Source : std::uint8_t { kBenign, kSchedule, kSeed };

  std::uint64_t Random() noexcept;

  Source source_ = Source::kBenign;
  Schedule schedule_;
  std::size_t next_ = 0;
  std::uint64_t random_ = 0;
  // Out of 256 times.
  std::uint8_t adversity_[kChoicePoints] = {};
  Schedule made_;
  std::span<std::uint8_t> kept_in_;
  std::size_t adverse_ = 0;  // length of `made_` up to the last of these
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_CHOICES_H_
