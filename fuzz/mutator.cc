// Changes inputs (input.h) action by action, for libFuzzer and for replay.cc.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "escrow/fuzz/input.h"

// libFuzzer's own changes of a string of bytes.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size,
                                        std::size_t max_size);

namespace escrow::fuzz {
namespace {

constexpr std::size_t kMostScheduled = 256;

// SplitMix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t Next() noexcept {
    std::uint64_t mixed = state_ += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
  }
  // From 0 to `bound` - 1.
  std::size_t Below(std::size_t bound) noexcept { return Next() % bound; }
  std::uint8_t Byte() noexcept { return static_cast<std::uint8_t>(Next()); }
  // Choices are among few, and details are mostly bits.
  std::uint8_t Small() noexcept {
    return static_cast<std::uint8_t>(Below(4) == 0 ? Byte() : Below(4));
  }

 private:
  std::uint64_t state_;
};

struct Parts {
  std::vector<std::uint8_t> schedule;
  std::vector<Action> actions;

  Parts(const std::uint8_t* data, std::size_t size) {
    const Input input(data, size);
    schedule.assign(input.schedule().begin(), input.schedule().end());
    actions.assign(input.actions().begin(), input.actions().end());
  }
};

Action RandomAction(Random& random) {
  return {random.Byte(), random.Small(), random.Small(), random.Small()};
}

// A place to insert, and one that exists.
template <typename T>
auto Before(std::vector<T>& items, Random& random) {
  return items.begin() +
         static_cast<std::ptrdiff_t>(random.Below(items.size() + 1));
}
template <typename T>
auto At(std::vector<T>& items, Random& random) {
  return items.begin() +
         static_cast<std::ptrdiff_t>(random.Below(items.size()));
}

void ChangeSchedule(std::vector<std::uint8_t>& schedule, Random& random) {
  switch (schedule.empty() ? 0 : random.Below(6)) {
    case 0:  // later choices are made one later
      schedule.insert(Before(schedule, random), random.Small());
      break;
    case 1:
      schedule.erase(At(schedule, random));
      break;
    case 2:  // benign again
      *At(schedule, random) = 0;
      break;
    case 3:  // a quiet while first
      schedule.insert(Before(schedule, random), random.Below(16), 0);
      break;
    default:
      *At(schedule, random) = random.Small();
  }
}

void ChangeActions(std::vector<Action>& actions, Random& random) {
  switch (actions.empty() ? 0 : random.Below(8)) {
    case 0:
    case 1:
      actions.insert(Before(actions, random), RandomAction(random));
      break;
    case 2:
      actions.erase(At(actions, random));
      break;
    case 3: {
      const Action copy = *At(actions, random);
      actions.insert(Before(actions, random), copy);
      break;
    }
    case 4:
      std::iter_swap(At(actions, random), At(actions, random));
      break;
    case 5:
      At(actions, random)->kind = random.Byte();
      break;
    default: {
      Action& action = *At(actions, random);
      std::uint8_t* const details[] = {&action.a, &action.b, &action.c};
      *details[random.Below(3)] = random.Small();
    }
  }
}

// With libFuzzer's changes, which know a dictionary and what is compared.
void ChangeBytes(std::vector<Action>& actions, Random& random) {
  if (actions.empty()) return;
  Action& action = *At(actions, random);
  std::uint8_t bytes[sizeof(Action)];
  std::memcpy(bytes, &action, sizeof(action));
  (void)LLVMFuzzerMutate(bytes, sizeof(bytes), sizeof(bytes));
  std::memcpy(&action, bytes, sizeof(action));
}

// Most mistakes are a few steps deep, where changes of long inputs seldom come.
Parts FewSteps(Random& random) {
  Parts parts(nullptr, 0);
  for (std::size_t count = random.Below(16); count > 0; --count) {
    parts.schedule.push_back(random.Small());
  }
  for (std::size_t count = 1 + random.Below(8); count > 0; --count) {
    parts.actions.push_back(RandomAction(random));
  }
  return parts;
}

// Into `data`, cut to what there is room for.
std::size_t Write(Parts& parts, std::uint8_t* data, std::size_t max_size) {
  if (max_size == 0) return 0;
  const std::size_t room = max_size - 1;
  parts.actions.resize(
      std::min({parts.actions.size(), kMostActions, room / sizeof(Action)}));
  parts.schedule.resize(
      std::min({parts.schedule.size(), kMostScheduled,
                room - parts.actions.size() * sizeof(Action)}));
  const std::vector<std::uint8_t> bytes = Pack(parts.schedule, parts.actions);
  std::copy(bytes.begin(), bytes.end(), data);
  return bytes.size();
}

}  // namespace
}  // namespace escrow::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                               std::size_t size,
                                               std::size_t max_size,
                                               unsigned seed) {
  using namespace escrow::fuzz;
  Random random(seed);
  if (random.Below(8) == 0) {
    Parts anew = FewSteps(random);
    return Write(anew, data, max_size);
  }
  Parts parts(data, size);
  for (std::size_t changes = 1 + random.Below(4); changes > 0; --changes) {
    switch (random.Below(8)) {
      case 0:
      case 1:
      case 2:
        ChangeSchedule(parts.schedule, random);
        break;
      case 3:
        ChangeBytes(parts.actions, random);
        break;
      default:
        ChangeActions(parts.actions, random);
    }
  }
  return Write(parts, data, max_size);
}

// The first actions of the one, the last ones of the other, and either
// schedule.
extern "C" std::size_t LLVMFuzzerCustomCrossOver(
    const std::uint8_t* first, std::size_t first_size,
    const std::uint8_t* second, std::size_t second_size, std::uint8_t* out,
    std::size_t max_out_size, unsigned seed) {
  using namespace escrow::fuzz;
  Random random(seed);
  Parts parts(first, first_size);
  Parts other(second, second_size);
  parts.actions.resize(random.Below(parts.actions.size() + 1));
  parts.actions.insert(parts.actions.end(), Before(other.actions, random),
                       other.actions.end());
  if (random.Below(2) == 0) parts.schedule.swap(other.schedule);
  return Write(parts, out, max_out_size);
}
