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

#include "escrow/examples/task.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"

// A random mix of operations and streams, each of which meets a random fate.

// Rows say more than a soak looks at.
#pragma GCC diagnostic ignored "-Wunused-const-variable"

namespace escrow::safe::cases {

// Takes items of a stream, and is destroyed wherever it has got to.
template <typename T>
examples::Task TakeSome(Stream<T> stream, std::shared_ptr<void> /*world*/,
                        std::size_t count) {
  for (; count > 0; --count) {
    const auto item = co_await stream.Next();
    if (!item.has_value()) break;
  }
}

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

  // What an operation or stream of a row works on, which must be gone at the
  // end.
  template <typename Case>
  std::shared_ptr<Case> MakeWorld() {
    auto world = std::make_shared<Case>();
    worlds_.push_back({Case::kName, world});
    return world;
  }

  // Makes something of the handle of what was started. `world` is what it works
  // on.
  template <typename Outcome>
  void Decide(Operation<Outcome> operation, std::shared_ptr<void> world) {
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
        (void)ring_->CancelAndWait(std::move(operation));
        return;
      }
      case 4:
        (void)ring_->CancelAndWait(std::move(operation));
        return;
      case 5:
        std::move(operation).Then([world](auto...) {});
        return;
      case 6:
        if (ring_->WaitAtMost(std::chrono::microseconds(Choose(500)),
                              operation)) {
          (void)std::move(operation).Take();
        }
        return;
      default: {
        // Later; maybe after the ring.
        auto kept = std::make_shared<Operation<Outcome>>(std::move(operation));
        Keep([this, kept, world] {
          if (kept->done() && OneIn(2)) (void)std::move(*kept).Take();
        });
      }
    }
  }

  // The same of a stream. `send` makes an item come.
  template <typename T>
  void Decide(Stream<T> stream, std::shared_ptr<void> world,
              const std::function<void()>& send) {
    using Item = typename Stream<T>::Item;
    ++started_;
    const std::size_t items = Choose(6);
    const auto send_all = [&] {
      for (std::size_t i = 0; i < items; ++i) {
        send();
        // Unless there are too many in flight for one more.
        if (OneIn(2)) (void)ring_->Wait(ring_->Nop());
      }
    };
    if (OneIn(8)) return;  // dropped before the submit
    if (OneIn(2)) {
      EXPECT_TRUE(ring_->Submit());
    }
    if (OneIn(2)) send_all();
    switch (Choose(8)) {
      case 0:  // dropped, with whatever it has got
        return;
      case 1: {
        auto cancel = ring_->Cancel(stream);
        if (OneIn(2)) (void)ring_->Wait(std::move(cancel));
        break;
      }
      case 2:
        std::move(stream).ForEach(
            [world, left = Choose(6)](auto) mutable { return left-- > 0; });
        send_all();
        return;
      case 3:
        // What it gets is in use for a while, so that groups run dry.
        std::move(stream).ForEach([this, world](auto item) {
          if (item.has_value() && item->has_value()) {
            this->Hold(std::move(item));
          }
        });
        send_all();
        return;
      case 4: {
        auto task = std::make_shared<examples::Task>(
            TakeSome(std::move(stream), world, Choose(6)));
        Keep([task] {});
        send_all();
        return;
      }
      default:
        break;
    }
    auto kept = std::make_shared<Stream<T>>(std::move(stream));
    send_all();
    Keep([this, kept, world] {
      while (kept->ready() && !OneIn(3)) {
        Item item = kept->Take();
        if (!item.has_value()) return;
        Hold(std::move(item));
        if (OneIn(2)) kept->Arm();
      }
      if (OneIn(2)) Keep([kept, world] {});
    });
  }

  // Has `value` destroyed some time later, if not now.
  template <typename T>
  void Hold(T value) {
    if (!ending_) Keep([held = std::make_shared<T>(std::move(value))] {});
  }

  // Has `forget` called and destroyed some time later.
  void Keep(std::function<void()> forget) {
    kept_.push_back(std::move(forget));
    // Not that of whoever keeps something as it is forgotten.
    if (kept_.size() > 64 && !forgetting_) Forget();
  }

  void Forget() {
    if (kept_.empty()) return;
    std::swap(kept_[Choose(kept_.size())], kept_.back());
    const std::function<void()> forget = std::move(kept_.back());
    kept_.pop_back();
    forgetting_ = true;
    forget();
    forgetting_ = false;
  }

  // Has rows make what they register with a ring, once for each; `check` is
  // called when everything on a ring is over, and `end` after the last one.
  struct Registration {
    void (*prepare)(Ring& ring);
    void (*check)(Ring& ring);
    void (*end)();
    std::size_t ring = 0;
  };
  void Prepare(const Registration& its) {
    for (Registration& registration : registrations_) {
      if (registration.prepare != its.prepare) continue;
      if (registration.ring != restarts_) its.prepare(*ring_);
      registration.ring = restarts_;
      return;
    }
    registrations_.push_back(its);
    registrations_.back().ring = restarts_;
    its.prepare(*ring_);
  }

  void Dispatch() {
    EXPECT_TRUE(ring_->Dispatch(std::chrono::microseconds(Choose(200))));
  }

  // A ring with other queues, after the end of the last one, mostly with what
  // is in flight on it.
  void Restart() {
    if (ring_.has_value()) {
      if (OneIn(4)) EndEverything();
      EXPECT_EQ(ring_->unknown_completions(), 0u);
    }
    ring_.reset();
    auto ring = Ring::Create({
        .entries = static_cast<std::uint32_t>(2u << Choose(7)),
        .in_flight_limit = OneIn(4) ? 8 + Choose(64) : 0,
    });
    ASSERT_TRUE(ring) << ring.error().message();
    ring_.emplace(std::move(*ring));
    std::erase_if(worlds_,
                  [](const World& its) { return its.world.expired(); });
    ++restarts_;
  }

  void Finish() {
    EndEverything();
    EXPECT_EQ(ring_->unknown_completions(), 0u);
    ring_.reset();
    for (const Registration& registration : registrations_) {
      if (registration.end != nullptr) registration.end();
    }
    for (const World& its : worlds_) {
      EXPECT_TRUE(its.world.expired()) << its.name;
    }
  }

  std::size_t started() const { return started_; }
  std::size_t restarts() const { return restarts_; }

 private:
  void EndEverything() {
    ending_ = true;
    for (;;) {
      while (!kept_.empty()) Forget();
      // Callbacks may hold what others wait for.
      const auto called = ring_->Dispatch(std::chrono::milliseconds(1));
      EXPECT_TRUE(called);
      if (ring_->in_flight() > 0) {
        EXPECT_TRUE(ring_->Wait(ring_->CancelAll()));
      } else if (called == 0u) {
        break;
      }
    }
    ending_ = false;
    for (const Registration& registration : registrations_) {
      if (registration.ring == restarts_ && registration.check != nullptr) {
        registration.check(*ring_);
      }
    }
  }

  struct World {
    const char* name;
    std::weak_ptr<void> world;
  };

  std::mt19937_64 random_;
  std::vector<World> worlds_;
  std::optional<Ring> ring_;
  std::vector<std::function<void()>> kept_;
  std::size_t started_ = 0;
  std::size_t restarts_ = 0;
  std::vector<Registration> registrations_;
  bool forgetting_ = false;
  bool ending_ = false;
};

// Has a row ready for the ring of now: whether it can be used.
template <typename Case>
bool Ready(Soak& soak) {
  if constexpr (requires(Case its) { its.Possible(); }) {
    static const bool possible = Case().Possible();
    if (!possible) return false;
  }
  if constexpr (requires(Ring & ring) { Case::Prepare(ring); }) {
    Soak::Registration its = {&Case::Prepare, nullptr, nullptr};
    if constexpr (requires(Ring & ring) { Case::Check(ring); }) {
      its.check = &Case::Check;
    }
    if constexpr (requires { Case::End(); }) its.end = &Case::End;
    soak.Prepare(its);
  }
  if constexpr (requires { Case::HasRoom(); }) return Case::HasRoom();
  return true;
}

// What a soak is made of.
using SoakStep = void (*)(Soak& soak);
inline std::vector<SoakStep>& SoakSteps() {
  static std::vector<SoakStep> steps;
  return steps;
}

// One operation of a row of safe_op_cases.h.
template <typename Case>
void SoakRow(Soak& soak) {
  if (!Ready<Case>(soak)) return;
  const auto its = soak.MakeWorld<Case>();
  if (soak.OneIn(8)) {
    soak.Decide(soak.ring().Start(its->Bad(), soak.Options()), its);
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
      soak.Decide(std::move(operation), its);
      return;
    }
  }
  if constexpr (requires { its->Short(); }) {
    if (soak.OneIn(3)) {
      soak.Decide(soak.ring().Start(its->Short(), soak.Options()), its);
      return;
    }
  }
  if (soak.OneIn(4)) {
    const auto next = soak.MakeWorld<Case>();
    auto members = soak.ring().Start(
        HardChain(With{its->Good(), soak.Options()}, next->Good()));
    soak.Decide(std::move(std::get<1>(members)), next);
    soak.Decide(std::move(std::get<0>(members)), its);
    return;
  }
  soak.Decide(soak.ring().Start(its->Good(), soak.Options()), its);
}

// One stream of a row of safe_stream_cases.h.
template <typename Case>
void SoakStreamRow(Soak& soak) {
  if (!Ready<Case>(soak)) return;
  const auto its = soak.MakeWorld<Case>();
  const StreamOptions options = {.unread_limit = 1 + soak.Choose(4)};
  if constexpr (requires { its->Bad(); }) {
    if (soak.OneIn(8)) {
      soak.Decide(soak.ring().Start(its->Bad(), options), its, [] {});
      return;
    }
  }
  soak.Decide(soak.ring().Start(its->Op(), options), its, [&] { its->Send(); });
  if constexpr (requires { its->Finish(); }) {
    if (soak.OneIn(2)) its->Finish();
  }
}

template <typename Case>
constexpr SoakStep StepOf() {
  if constexpr (requires(Case its) { its.Op(); }) {
    return &SoakStreamRow<Case>;
  } else {
    return &SoakRow<Case>;
  }
}
template <typename... Cases>
bool AddToSoak(::testing::Types<Cases...>) {
  (SoakSteps().push_back(StepOf<Cases>()), ...);
  return true;
}

}  // namespace escrow::safe::cases

#endif  // ESCROW_TESTS_SOAK_H_
