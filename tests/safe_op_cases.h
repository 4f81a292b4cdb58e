#ifndef ESCROW_TESTS_SAFE_OP_CASES_H_
#define ESCROW_TESTS_SAFE_OP_CASES_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/allocations.h"
#include "tests/safe_cases.h"

// Takes an op through every way that an operation can go: SafeOps, a suite with
// an instance per family of ops. The row of an op is a struct that is its world
// and says
//
//   static constexpr const char* kName;   // of the row
//   static constexpr const char* kCall;   // whose errors the op has
//   auto Good();                 // an op that succeeds, by itself
//   void Expect(Outcome);        // what is to be seen then
//   auto Bad();                  // one that fails
//   static constexpr int kError; // with this
//
// and, where there is such a thing,
//
//   bool Possible();             // whether this machine can do it at all
//   kRefusedAtOnce;              // the bad one fails as the kernel takes it
//   static void Prepare(Ring&);  // a new ring, for what is registered with it
//   static void Check(Ring&);    // when all operations on it are over
//   static void End();           // when the last ring is gone
//   auto Short();                // one that transfers less than it could
//   void ExpectShort(Outcome);
//   auto Waits();                // one that nothing ends yet
//   void EndWait();              // makes that succeed
//   void ExpectWaited(Outcome);
//   static bool HasRoom();       // for two more rows, in a soak
//
// Each row lives for one operation. ESCROW_OP_CASES(Family, Types) is
// ESCROW_CASES of safe_cases.h for them.

namespace escrow::safe::cases {

// Of either kind of outcome.
template <typename Outcome>
const auto& ResultOf(const Outcome& outcome) {
  if constexpr (requires { outcome.result.has_value(); }) {
    return outcome.result;
  } else {
    return outcome;
  }
}

template <typename Case>
class SafeOps : public CaseTest<Case> {
 protected:
  static constexpr bool kWaits = requires(Case its) { its.Waits(); };
  static constexpr bool kShort = requires(Case its) { its.Short(); };

  static constexpr bool kStopsChain = [] {
    using T = decltype(std::declval<Case&>().Good());
    if constexpr (requires { T::kStopsChain; }) {
      return T::kStopsChain;
    } else {
      return true;
    }
  }();

  // Whether an operation may end like this after it was cancelled.
  static bool IsCancelled(const std::error_code& error) {
    return error == std::errc::operation_canceled ||
           error == std::errc::interrupted;
  }
};
TYPED_TEST_SUITE_P(SafeOps);

TYPED_TEST_P(SafeOps, Succeeds) {
  for (const bool async : {false, true}) {
    Ring ring = this->MakeRing();
    TypeParam its;
    auto outcome = ring.Wait(ring.Start(its.Good(), {.async = async}));
    ASSERT_TRUE(ResultOf(outcome).has_value())
        << ResultOf(outcome).error().message();
    its.Expect(std::move(outcome));
    EXPECT_EQ(ring.unknown_completions(), 0u);
  }
}

TYPED_TEST_P(SafeOps, FailsWithTheNameOfTheCall) {
  Ring ring = this->MakeRing();
  TypeParam its;
  const auto outcome = ring.Wait(ring.Start(its.Bad()));
  ASSERT_FALSE(ResultOf(outcome).has_value());
  const std::error_code error = ResultOf(outcome).error();
  EXPECT_EQ(error.value(), TypeParam::kError) << error.message();
  EXPECT_TRUE(error.message().starts_with(std::string(TypeParam::kCall) + ": "))
      << error.message();
}

TYPED_TEST_P(SafeOps, EndsShort) {
  if constexpr (TestFixture::kShort) {
    Ring ring = this->MakeRing();
    TypeParam its;
    auto outcome = ring.Wait(ring.Start(its.Short()));
    ASSERT_TRUE(ResultOf(outcome).has_value())
        << ResultOf(outcome).error().message();
    its.ExpectShort(std::move(outcome));
  } else {
    GTEST_SKIP() << "all or nothing";
  }
}

TYPED_TEST_P(SafeOps, DroppedAnywhereLeavesNothing) {
  Ring ring = this->MakeRing();
  TypeParam first, second, third;
  {
    auto before_submit = ring.Start(first.Good());
    auto after_submit = ring.Start(second.Good(), {.async = true});
    EXPECT_TRUE(ring.Submit());
    auto never_submitted = ring.Start(third.Good());
  }
  {
    TypeParam its;
    auto done = ring.Start(its.Good());
    while (!done.done()) this->LetPass(ring);
  }
  if constexpr (TestFixture::kWaits) {
    TypeParam its;
    {
      auto waiting = ring.Start(its.Waits());
      this->LetPass(ring);
      EXPECT_FALSE(waiting.done());
    }
    this->Drain(ring);
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeOps, EndsWithTheRing) {
  TypeParam queued, submitted;
  using Handle = decltype(std::declval<Ring&>().Start(queued.Good()));
  std::optional<Handle> handles[2];
  {
    Ring ring = this->MakeRing();
    handles[0].emplace(ring.Start(submitted.Good(), {.async = true}));
    EXPECT_TRUE(ring.Submit());
    handles[1].emplace(ring.Start(queued.Good()));
  }
  ASSERT_TRUE(handles[0]->done());
  auto outcome = std::move(*handles[0]).Take();
  if (ResultOf(outcome).has_value()) submitted.Expect(std::move(outcome));
  ASSERT_TRUE(handles[1]->done());
  const auto other = std::move(*handles[1]).Take();
  EXPECT_EQ(ResultOf(other).error(), std::errc::operation_canceled);
  if constexpr (TestFixture::kWaits) {
    TypeParam its;
    using Waiting = decltype(std::declval<Ring&>().Start(its.Waits()));
    std::optional<Waiting> waiting;
    {
      Ring ring = this->MakeRing();
      waiting.emplace(ring.Start(its.Waits()));
      this->LetPass(ring);
      EXPECT_FALSE(waiting->done());
    }
    ASSERT_TRUE(waiting->done());
    const auto ended = std::move(*waiting).Take();
    ASSERT_FALSE(ResultOf(ended).has_value());
    EXPECT_TRUE(this->IsCancelled(ResultOf(ended).error()))
        << ResultOf(ended).error().message();
  }
}

TYPED_TEST_P(SafeOps, DetachedGoesOn) {
  Ring ring = this->MakeRing();
  TypeParam its;
  ring.Start(its.Good()).Detach();
  this->Drain(ring);
}

// The answer to the cancel request and the end of the target are two facts.
TYPED_TEST_P(SafeOps, CancelledHasAnOutcomeOfItsOwn) {
  Ring ring = this->MakeRing();
  {
    TypeParam its;
    auto target = ring.Start(its.Good(), {.async = true});
    EXPECT_TRUE(ring.Submit());
    (void)ring.Wait(ring.Cancel(target));
    auto outcome = ring.Wait(std::move(target));
    if (ResultOf(outcome).has_value()) {
      its.Expect(std::move(outcome));
    } else {
      EXPECT_TRUE(this->IsCancelled(ResultOf(outcome).error()))
          << ResultOf(outcome).error().message();
    }
  }
  if constexpr (TestFixture::kWaits) {
    TypeParam its;
    auto target = ring.Start(its.Waits());
    this->LetPass(ring);
    const auto answer = ring.Wait(ring.Cancel(target));
    EXPECT_TRUE(answer ||
                answer.error() == std::errc::connection_already_in_progress);
    const auto outcome = ring.Wait(std::move(target));
    ASSERT_FALSE(ResultOf(outcome).has_value());
    EXPECT_TRUE(this->IsCancelled(ResultOf(outcome).error()))
        << ResultOf(outcome).error().message();
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeOps, CancelledTooLateSucceeds) {
  Ring ring = this->MakeRing();
  TypeParam its;
  auto target = ring.Start(its.Good());
  while (!target.done()) this->LetPass(ring);
  const auto answer = ring.Wait(ring.Cancel(target));
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error(), std::errc::no_such_file_or_directory);
  auto outcome = ring.Wait(std::move(target));
  ASSERT_TRUE(ResultOf(outcome).has_value());
  its.Expect(std::move(outcome));
  if constexpr (TestFixture::kWaits) {
    TypeParam waits;
    auto waiting = ring.Start(waits.Waits());
    this->LetPass(ring);
    waits.EndWait();
    (void)ring.Wait(ring.Cancel(waiting));
    auto waited = ring.Wait(std::move(waiting));
    // Either may win, and nothing is lost.
    if (ResultOf(waited).has_value()) {
      waits.ExpectWaited(std::move(waited));
    } else {
      EXPECT_TRUE(this->IsCancelled(ResultOf(waited).error()));
    }
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeOps, WaitsAndSucceeds) {
  if constexpr (TestFixture::kWaits) {
    Ring ring = this->MakeRing();
    TypeParam its;
    auto waiting = ring.Start(its.Waits());
    this->LetPass(ring);
    EXPECT_FALSE(waiting.done());
    its.EndWait();
    auto outcome = ring.Wait(std::move(waiting));
    ASSERT_TRUE(ResultOf(outcome).has_value())
        << ResultOf(outcome).error().message();
    its.ExpectWaited(std::move(outcome));
    this->Drain(ring);
  } else {
    GTEST_SKIP() << "ends by itself";
  }
}

TYPED_TEST_P(SafeOps, KeepsOrMissesItsDeadline) {
  Ring ring = this->MakeRing();
  {
    TypeParam its;
    auto outcome =
        ring.Wait(ring.Start(its.Good(), {.deadline = std::chrono::hours(1)}));
    ASSERT_TRUE(ResultOf(outcome).has_value())
        << ResultOf(outcome).error().message();
    its.Expect(std::move(outcome));
  }
  {
    TypeParam its;
    auto queued =
        ring.Start(its.Good(), {.deadline = std::chrono::milliseconds(1)});
  }
  if constexpr (TestFixture::kWaits) {
    TypeParam its;
    const auto outcome = ring.Wait(
        ring.Start(its.Waits(), {.deadline = std::chrono::milliseconds(1)}));
    ASSERT_FALSE(ResultOf(outcome).has_value());
    const std::error_code error = ResultOf(outcome).error();
    EXPECT_EQ(error, std::errc::timed_out) << error.message();
    EXPECT_TRUE(
        error.message().starts_with(std::string(TypeParam::kCall) + ": "))
        << error.message();
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeOps, IsAMemberOfAChain) {
  Ring ring = this->MakeRing();
  {
    TypeParam its, next;
    auto [outcome, following] =
        ring.WaitAll(ring.Start(HardChain(its.Good(), next.Good())));
    ASSERT_TRUE(ResultOf(outcome).has_value())
        << ResultOf(outcome).error().message();
    its.Expect(std::move(outcome));
    ASSERT_TRUE(ResultOf(following).has_value())
        << ResultOf(following).error().message();
    next.Expect(std::move(following));
  }
  if constexpr (TestFixture::kStopsChain) {
    TypeParam its, next;
    const auto [outcome, following] =
        ring.WaitAll(ring.Start(Chain(its.Bad(), next.Good())));
    EXPECT_EQ(ResultOf(outcome).error().value(), TypeParam::kError);
    ASSERT_FALSE(ResultOf(following).has_value());
    EXPECT_EQ(ResultOf(following).error(), std::errc::operation_canceled);
  }
  {
    TypeParam its, next;
    auto [outcome, following] =
        ring.WaitAll(ring.Start(HardChain(its.Bad(), next.Good())));
    EXPECT_EQ(ResultOf(outcome).error().value(), TypeParam::kError);
    if constexpr (requires { TypeParam::kRefusedAtOnce; }) {
      EXPECT_EQ(ResultOf(following).error(), std::errc::operation_canceled);
    } else {
      ASSERT_TRUE(ResultOf(following).has_value())
          << ResultOf(following).error().message();
      next.Expect(std::move(following));
    }
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeOps, AllocatesNothing) {
  Ring ring = this->MakeRing();
  // The first one makes the pools.
  for (const bool counted : {false, true}) {
    TypeParam its;
    auto op = its.Good();
    const std::size_t before = escrow::testing::Allocations();
    const auto outcome = ring.Wait(
        ring.Start(std::move(op), {.deadline = std::chrono::hours(1)}));
    ASSERT_TRUE(ResultOf(outcome).has_value());
    if (counted) {
      EXPECT_EQ(escrow::testing::Allocations() - before, 0u);
    }
  }
  for (const bool counted : {false, true}) {
    TypeParam its;
    auto op = its.Good();
    const std::size_t before = escrow::testing::Allocations();
    auto target = ring.Start(std::move(op));
    EXPECT_TRUE(ring.Submit());
    (void)ring.Wait(ring.Cancel(target));
    (void)ring.Wait(std::move(target));
    if (counted) {
      EXPECT_EQ(escrow::testing::Allocations() - before, 0u);
    }
  }
}

REGISTER_TYPED_TEST_SUITE_P(SafeOps, Succeeds, FailsWithTheNameOfTheCall,
                            EndsShort, DroppedAnywhereLeavesNothing,
                            EndsWithTheRing, DetachedGoesOn,
                            CancelledHasAnOutcomeOfItsOwn,
                            CancelledTooLateSucceeds, WaitsAndSucceeds,
                            KeepsOrMissesItsDeadline, IsAMemberOfAChain,
                            AllocatesNothing);

#define ESCROW_OP_CASES(family, types) ESCROW_CASES(family, SafeOps, types)

}  // namespace escrow::safe::cases

#endif  // ESCROW_TESTS_SAFE_OP_CASES_H_
