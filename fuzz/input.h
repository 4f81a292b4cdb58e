#ifndef ESCROW_FUZZ_INPUT_H_
#define ESCROW_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// What the bytes of a fuzzer mean: what the kernel does, and what its user
// does.
//
//   schedule | action ... action | number of actions
//
// The schedule is whatever is in front of the actions (escrow/sim/choices.h: a
// byte for each choice, of which zero is the benign one). The actions are 4
// bytes each, and their number is the last byte; if it says more than there
// are, it is as many as there are. So a change of the one part does not shift
// the other, and an input that is cut off in front has a kernel that behaves.

namespace escrow::fuzz {

// One step of a program: what to do, and three details of how.
struct Action {
  std::uint8_t kind = 0;
  std::uint8_t a = 0;
  std::uint8_t b = 0;
  std::uint8_t c = 0;
};
static_assert(sizeof(Action) == 4 && alignof(Action) == 1);

inline constexpr std::size_t kMostActions = 255;

// A view of an input, whose bytes have to stay where they are.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) noexcept {
    if (size == 0) return;
    std::size_t count = data[--size];
    if (count > size / sizeof(Action)) count = size / sizeof(Action);
    const std::size_t front = size - count * sizeof(Action);
    schedule_ = {data, front};
    actions_ = {reinterpret_cast<const Action*>(data + front), count};
  }

  std::span<const std::uint8_t> schedule() const noexcept { return schedule_; }
  std::span<const Action> actions() const noexcept { return actions_; }

 private:
  std::span<const std::uint8_t> schedule_;
  std::span<const Action> actions_;
};

// The bytes that an Input finds these in. The first kMostActions of them.
inline std::vector<std::uint8_t> Pack(std::span<const std::uint8_t> schedule,
                                      std::span<const Action> actions) {
  if (actions.size() > kMostActions) actions = actions.first(kMostActions);
  std::vector<std::uint8_t> bytes(schedule.begin(), schedule.end());
  bytes.reserve(bytes.size() + actions.size() * sizeof(Action) + 1);
  for (const Action& action : actions) {
    bytes.insert(bytes.end(), {action.kind, action.a, action.b, action.c});
  }
  bytes.push_back(static_cast<std::uint8_t>(actions.size()));
  return bytes;
}

}  // namespace escrow::fuzz

#endif  // ESCROW_FUZZ_INPUT_H_
