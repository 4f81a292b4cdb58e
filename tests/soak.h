#ifndef ESCROW_TESTS_SOAK_H_
#define ESCROW_TESTS_SOAK_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"

// A random mix of operations, each of which meets a random fate.

namespace escrow::safe::cases {

class Soak {
 public:
  explicit Soak(unsigned seed) : random_(seed) { Restart(); }
  Soak(const Soak&) = delete;
  Soak& operator=(const Soak&) = delete;
  ~Soak() { ring_.reset(); }

  Ring& ring() { return *ring_; }

  // From 0 to `count` - 1.
  std::size_t Choose(std::size_t count) { return random_() % count; }
  bool OneIn(std::size_t count) { return Choose(count) == 0; }

  StartOptions Options() {
    StartOptions options = {.async = OneIn(8)};
    if (OneIn(4)) {
      options.deadline = std::chrono::microseconds(1 + Choose(2000));
    }
    return options;
  }

  // Makes something of the handle of what was started. `world` is what it works
  // on; `examine` is called with the outcome, if there is one.
  template <typename Outcome, typename Examine>
  void Decide(Operation<Outcome> operation, std::shared_ptr<void> world,
              Examine examine) {
    ++started_;
    switch (Choose(10)) {
      case 0:  // dropped before the submit
        return;
      case 1:  // dropped after it
        EXPECT_TRUE(ring_->Submit());
        return;
      case 2:
        std::move(operation).Detach();
        Keep([world] {});
        return;
      case 3: {
        auto cancel = ring_->Cancel(operation);
        if (OneIn(2)) (void)ring_->Wait(std::move(cancel));
        // One request may miss it.
        examine(ring_->CancelAndWait(std::move(operation)));
        return;
      }
      case 4:
        examine(ring_->CancelAndWait(std::move(operation)));
        return;
      case 5:
        std::move(operation).Then([world, examine](auto... parts) {
          examine(Outcome{std::move(parts)...});
        });
        return;
      case 6:
        if (ring_->WaitAtMost(std::chrono::microseconds(Choose(500)),
                              operation)) {
          examine(std::move(operation).Take());
        }
        return;
      default: {
        // Later; maybe after the ring.
        auto kept = std::make_shared<Operation<Outcome>>(std::move(operation));
        Keep([this, kept, world, examine] {
          if (kept->done() && OneIn(2)) examine(std::move(*kept).Take());
        });
      }
    }
  }

  // Has `forget` called and destroyed some time later.
  void Keep(std::function<void()> forget) {
    kept_.push_back(std::move(forget));
    if (kept_.size() > 64) Forget();
  }

  void Forget() {
    if (kept_.empty()) return;
    std::swap(kept_[Choose(kept_.size())], kept_.back());
    const std::function<void()> forget = std::move(kept_.back());
    kept_.pop_back();
    forget();
  }

  void Dispatch() {
    EXPECT_TRUE(ring_->Dispatch(std::chrono::microseconds(Choose(200))));
  }

  // With what is in flight on it, and with other queues.
  void Restart() {
    if (ring_.has_value()) {
      EXPECT_EQ(ring_->unknown_completions(), 0u);
    }
    ring_.reset();
    auto ring = Ring::Create({
        .entries = static_cast<std::uint32_t>(2u << Choose(7)),
        .in_flight_limit = OneIn(4) ? 8 + Choose(64) : 0,
    });
    ASSERT_TRUE(ring) << ring.error().message();
    ring_.emplace(std::move(*ring));
    ++restarts_;
  }

  // Ends everything.
  void Finish() {
    while (!kept_.empty()) Forget();
    while (ring_->in_flight() > 0) {
      EXPECT_TRUE(ring_->Wait(ring_->CancelAll()));
      EXPECT_TRUE(ring_->Dispatch(std::chrono::milliseconds(1)));
    }
    EXPECT_EQ(ring_->unknown_completions(), 0u);
    ring_.reset();
  }

  std::size_t started() const { return started_; }
  std::size_t restarts() const { return restarts_; }

 private:
  std::mt19937_64 random_;
  std::optional<Ring> ring_;
  std::vector<std::function<void()>> kept_;
  std::size_t started_ = 0;
  std::size_t restarts_ = 0;
};

// What a soak is made of.
using SoakStep = void (*)(Soak& soak);
inline std::vector<SoakStep>& SoakSteps() {
  static std::vector<SoakStep> steps;
  return steps;
}

// One operation of a row of safe_op_cases.h.
template <typename Case>
void SoakRow(Soak& soak) {
  if constexpr (requires(Case its) { its.Possible(); }) {
    static const bool possible = Case().Possible();
    if (!possible) return;
  }
  auto its = std::make_shared<Case>();
  const auto expect_any = [](auto) {};
  if (soak.OneIn(8)) {
    soak.Decide(soak.ring().Start(its->Bad(), soak.Options()), its, expect_any);
    return;
  }
  if constexpr (requires { its->Waits(); }) {
    if (soak.OneIn(3)) {
      auto operation = soak.ring().Start(its->Waits(), soak.Options());
      if (soak.OneIn(2)) {
        if (soak.OneIn(2)) {
          EXPECT_TRUE(soak.ring().Submit());
        }
        its->EndWait();
      }
      soak.Decide(std::move(operation), its, expect_any);
      return;
    }
  }
  if constexpr (requires { its->Short(); }) {
    if (soak.OneIn(3)) {
      soak.Decide(soak.ring().Start(its->Short(), soak.Options()), its,
                  expect_any);
      return;
    }
  }
  if (soak.OneIn(4)) {
    auto next = std::make_shared<Case>();
    auto members = soak.ring().Start(
        HardChain(With{its->Good(), soak.Options()}, next->Good()));
    soak.Decide(std::move(std::get<1>(members)), next, expect_any);
    soak.Decide(std::move(std::get<0>(members)), its, expect_any);
    return;
  }
  soak.Decide(soak.ring().Start(its->Good(), soak.Options()), its, expect_any);
}

template <typename... Cases>
bool AddToSoak(::testing::Types<Cases...>) {
  (SoakSteps().push_back(&SoakRow<Cases>), ...);
  return true;
}

}  // namespace escrow::safe::cases

#endif  // ESCROW_TESTS_SOAK_H_
