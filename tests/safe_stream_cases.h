#ifndef ESCROW_TESTS_SAFE_STREAM_CASES_H_
#define ESCROW_TESTS_SAFE_STREAM_CASES_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/examples/task.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"
#include "tests/allocations.h"
#include "tests/safe_cases.h"

// Takes a multishot operation through every way that a stream can go:
// SafeStreams, a suite with an instance per family. The row of an op is a
// struct that is its world and says
//
//   static constexpr const char* kName;   // of the row
//   auto Op();                   // an op that goes on for ever
//   void Send();                 // makes an item come
//   void Expect(Result<Item>);   // what is to be seen of the next one, which
//                                // may be the next few if they can be as one
//
// and, where there is such a thing, Possible(), Prepare(), Check() and End() as
// in safe_op_cases.h, and
//
//   auto Bad();                           // an op that fails
//   static constexpr int kError;          // with this
//   static constexpr const char* kCall;   // of this call
//   void Finish();               // has the stream end with no more items
//   kItemsCost;                  // an item costs an allocation
//
// Each row lives for one stream. ESCROW_STREAM_CASES(Family, Types) is
// ESCROW_CASES of safe_cases.h for them.

namespace escrow::safe::cases {

template <typename Case>
class SafeStreams : public CaseTest<Case> {
 protected:
  static constexpr bool kFails = requires(Case its) { its.Bad(); };
  static constexpr bool kFinishes = requires(Case its) { its.Finish(); };

  using Op = decltype(std::declval<Case&>().Op());
  using Items = Stream<typename Op::Item>;
  using Item = typename Items::Item;

  static void ExpectNext(Ring& ring, Items& stream, Case& its) {
    Item item = ring.Next(stream);
    ASSERT_TRUE(item.has_value());
    ASSERT_TRUE(item->has_value()) << item->error().message();
    its.Expect(std::move(*item));
  }

  // Has an item come, and wait to be taken.
  static void Arrive(Ring& ring, const Items& stream, Case& its) {
    its.Send();
    do {
      CaseTest<Case>::LetPass(ring);
    } while (!stream.ready());
  }

  // A timer that is just going off is missed.
  static void Cancel(Ring& ring, const Items& stream) {
    bool found = false;
    for (int i = 0; i < 1000 && !found; ++i) {
      found = ring.Wait(ring.Cancel(stream)).has_value();
    }
    EXPECT_TRUE(found);
  }

  // Takes what there is, up to the cancellation: how many items.
  static std::size_t TakeUntilCancelled(Ring& ring, Items& stream) {
    for (std::size_t count = 0;; ++count) {
      const Item item = ring.Next(stream);
      if (!item.has_value()) {
        ADD_FAILURE() << "over, and not cancelled";
        return count;
      }
      if (item->has_value()) continue;
      EXPECT_EQ(item->error(), std::errc::operation_canceled);
      EXPECT_FALSE(ring.Next(stream).has_value());
      EXPECT_FALSE(ring.Next(stream).has_value());
      return count;
    }
  }

  static examples::Task TakeTwo(Items& stream, Case& its) {
    for (int i = 0; i < 2; ++i) {
      Item item = co_await stream.Next();
      if (!item.has_value() || !item->has_value()) {
        ADD_FAILURE() << "no item";
        break;
      }
      its.Expect(std::move(*item));
    }
  }
};
TYPED_TEST_SUITE_P(SafeStreams);

TYPED_TEST_P(SafeStreams, GivesItemsUntilTheyEnd) {
  Ring ring = this->MakeRing();
  {
    TypeParam its;
    auto stream = ring.Start(its.Op());
    for (int i = 0; i < 3; ++i) {
      its.Send();
      this->ExpectNext(ring, stream, its);
    }
    if constexpr (TestFixture::kFinishes) {
      its.Finish();
      EXPECT_FALSE(ring.Next(stream).has_value());
      EXPECT_FALSE(ring.Next(stream).has_value());
      EXPECT_EQ(ring.in_flight(), 0u);
    }
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeStreams, ErrorsAreItemsWithTheNameOfTheCallAndEndIt) {
  if constexpr (TestFixture::kFails) {
    Ring ring = this->MakeRing();
    TypeParam its;
    auto stream = ring.Start(its.Bad());
    const auto item = ring.Next(stream);
    ASSERT_TRUE(item.has_value() && !item->has_value());
    const std::error_code error = item->error();
    EXPECT_EQ(error.value(), TypeParam::kError) << error.message();
    EXPECT_TRUE(
        error.message().starts_with(std::string(TypeParam::kCall) + ": "))
        << error.message();
    EXPECT_FALSE(ring.Next(stream).has_value());
    EXPECT_FALSE(ring.Next(stream).has_value());
    this->Drain(ring);
  } else {
    GTEST_SKIP() << "does not fail";
  }
}

TYPED_TEST_P(SafeStreams, DroppedAnywhereLeavesNothing) {
  Ring ring = this->MakeRing();
  {
    TypeParam its;
    auto never_submitted = ring.Start(its.Op());
  }
  EXPECT_EQ(ring.in_flight(), 0u);
  {
    TypeParam its;
    auto idle = ring.Start(its.Op());
    EXPECT_TRUE(ring.Submit());
  }
  this->Drain(ring);
  {
    TypeParam its;
    auto between_items = ring.Start(its.Op());
    its.Send();
    this->ExpectNext(ring, between_items, its);
  }
  this->Drain(ring);
  {
    TypeParam its;
    auto unread = ring.Start(its.Op());
    EXPECT_TRUE(ring.Submit());
    for (int i = 0; i < 3; ++i) this->Arrive(ring, unread, its);
  }
  this->Drain(ring);
  {
    TypeParam its;
    auto unseen = ring.Start(its.Op());
    EXPECT_TRUE(ring.Submit());
    its.Send();
  }
  this->Drain(ring);
  if constexpr (TestFixture::kFails) {
    TypeParam its;
    auto over = ring.Start(its.Bad());
    (void)ring.Next(over);
    EXPECT_FALSE(ring.Next(over).has_value());
  }
  if constexpr (TestFixture::kFinishes) {
    // With an item that nobody took.
    TypeParam its;
    auto over = ring.Start(its.Op());
    EXPECT_TRUE(ring.Submit());
    this->Arrive(ring, over, its);
    its.Finish();
    while (ring.in_flight() > 0) this->LetPass(ring);
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeStreams, CancelledIsOver) {
  Ring ring = this->MakeRing();
  {
    TypeParam its;
    auto stream = ring.Start(its.Op());
    its.Send();
    this->ExpectNext(ring, stream, its);
    this->Arrive(ring, stream, its);
    this->Cancel(ring, stream);
    // What came before is not lost.
    EXPECT_GE(this->TakeUntilCancelled(ring, stream), 1u);
    // Too late.
    const auto answer = ring.Wait(ring.Cancel(stream));
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error(), std::errc::no_such_file_or_directory);
  }
  {
    TypeParam its;
    auto queued = ring.Start(its.Op());
    if (ring.Wait(ring.Cancel(queued))) {
      EXPECT_EQ(this->TakeUntilCancelled(ring, queued), 0u);
    } else {
      this->Cancel(ring, queued);
      (void)this->TakeUntilCancelled(ring, queued);
    }
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeStreams, EndsWithTheRing) {
  TypeParam with_item, idle, queued, called, awaited;
  std::optional<typename TestFixture::Items> streams[4];
  auto alive = std::make_shared<int>();
  std::optional<examples::Task> task;
  {
    Ring ring = this->MakeRing();
    streams[0].emplace(ring.Start(with_item.Op()));
    streams[1].emplace(ring.Start(idle.Op()));
    streams[3].emplace(ring.Start(awaited.Op()));
    task.emplace(this->TakeTwo(*streams[3], awaited));
    ring.Start(called.Op()).ForEach([alive](auto) { ADD_FAILURE(); });
    EXPECT_TRUE(ring.Submit());
    this->Arrive(ring, *streams[0], with_item);
    streams[2].emplace(ring.Start(queued.Op()));
    EXPECT_EQ(alive.use_count(), 2);
  }
  EXPECT_EQ(alive.use_count(), 1);
  EXPECT_FALSE(task->done());
  task.reset();
  ASSERT_TRUE(streams[0]->ready());
  with_item.Expect(*streams[0]->Take());
  for (auto& stream : streams) {
    for (;;) {
      ASSERT_TRUE(stream->ready());
      const auto item = stream->Take();
      ASSERT_TRUE(item.has_value());
      if (item->has_value()) continue;
      EXPECT_EQ(item->error(), std::errc::operation_canceled);
      break;
    }
    // It is not started again.
    stream->Arm();
    EXPECT_TRUE(stream->ready());
    EXPECT_FALSE(stream->Take().has_value());
  }
}

TYPED_TEST_P(SafeStreams, CallsBackUntilItIsToldToStop) {
  Ring ring = this->MakeRing();
  const auto alive = std::make_shared<int>();
  {
    TypeParam its;
    int taken = 0;
    ring.Start(its.Op()).ForEach([&, alive](auto item) {
      if (!item.has_value() || !item->has_value()) {
        ADD_FAILURE() << "no item";
        return false;
      }
      its.Expect(std::move(*item));
      // Items come in while it waits for something else.
      this->LetPass(ring);
      return ++taken < 3;
    });
    for (int i = 0; i < 3; ++i) {
      its.Send();
      while (taken == i) ASSERT_TRUE(ring.Dispatch());
    }
    EXPECT_EQ(alive.use_count(), 1);
  }
  this->Drain(ring);
  {
    TypeParam its;
    int ends = 0;
    std::error_code error;
    ring.Start(its.Op()).ForEach([&, alive](auto item) {
      if (!item.has_value()) {
        ++ends;
      } else if (!item->has_value()) {
        error = item->error();
      }
    });
    EXPECT_TRUE(ring.Submit());
    EXPECT_TRUE(ring.Wait(ring.CancelAll()));
    while (ends == 0) ASSERT_TRUE(ring.Dispatch());
    EXPECT_EQ(error, std::errc::operation_canceled);
    EXPECT_EQ(alive.use_count(), 1);
    this->Drain(ring);
    EXPECT_EQ(ends, 1);
  }
}

TYPED_TEST_P(SafeStreams, CanBeAwaitedAndSurvivesWhoDoes) {
  Ring ring = this->MakeRing();
  {
    TypeParam its;
    auto stream = ring.Start(its.Op());
    {
      auto task = this->TakeTwo(stream, its);
      for (int i = 0; i < 2; ++i) {
        EXPECT_FALSE(task.done());
        its.Send();
        do {
          ASSERT_TRUE(ring.Dispatch());
        } while (i == 1 && !task.done());
      }
    }
    {
      auto task = this->TakeTwo(stream, its);
      EXPECT_TRUE(ring.Submit());
      this->Arrive(ring, stream, its);
      EXPECT_FALSE(task.done());
    }
    // Nobody is resumed.
    EXPECT_EQ(ring.Dispatch(std::chrono::milliseconds(0)).value(), 0u);
    this->ExpectNext(ring, stream, its);
  }
  this->Drain(ring);
}

// A full completion queue ends a multishot request, and loses nothing.
TYPED_TEST_P(SafeStreams, GoesOnAfterTheKernelEndedIt) {
  Ring ring = this->MakeRing({.entries = 2, .completion_entries = 2});
  {
    TypeParam its;
    auto stream = ring.Start(its.Op());
    EXPECT_TRUE(ring.Submit());
    for (int i = 0; i < 5; ++i) {
      std::vector<Operation<Result<void>>> nops;
      for (int n = 0; n < 8; ++n) nops.push_back(ring.Nop());
      EXPECT_TRUE(ring.Submit());
      its.Send();
      this->ExpectNext(ring, stream, its);
    }
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeStreams, StopsAtItsLimitOfUnreadItemsAndGoesOn) {
  constexpr std::size_t kLimit = 2;
  Ring ring = this->MakeRing();
  for (const bool taken : {true, false}) {
    TypeParam its;
    auto stream = ring.Start(its.Op(), {.unread_limit = kLimit});
    EXPECT_TRUE(ring.Submit());
    for (std::size_t i = 0; i < kLimit; ++i) this->Arrive(ring, stream, its);
    // One that is just about to come again is not found at once.
    for (int i = 0; i < 1000 && ring.in_flight() > 0; ++i) this->LetPass(ring);
    ASSERT_EQ(ring.in_flight(), 0u);
    if (!taken) break;
    for (std::size_t i = 0; i < kLimit; ++i) {
      this->ExpectNext(ring, stream, its);
    }
    while (stream.ready()) this->ExpectNext(ring, stream, its);
    its.Send();
    this->ExpectNext(ring, stream, its);
    EXPECT_GT(ring.in_flight(), 0u);
  }
  this->Drain(ring);
}

TYPED_TEST_P(SafeStreams, AllocatesNothing) {
  if constexpr (requires { TypeParam::kItemsCost; }) {
    GTEST_SKIP() << "its items do";
  } else {
    Ring ring = this->MakeRing();
    {
      TypeParam its;
      // One that is started again and again.
      auto stream = ring.Start(its.Op(), {.unread_limit = 1});
      std::size_t allocations = 0;
      for (int i = 0; i < 10; ++i) {
        // The first ones make the pools.
        if (i < 2) allocations = 0;
        its.Send();
        const std::size_t before = escrow::testing::Allocations();
        auto item = ring.Next(stream);
        this->LetPass(ring);
        allocations += escrow::testing::Allocations() - before;
        ASSERT_TRUE(item.has_value() && item->has_value());
        its.Expect(std::move(*item));
      }
      EXPECT_EQ(allocations, 0u);
    }
    this->Drain(ring);
  }
}

REGISTER_TYPED_TEST_SUITE_P(SafeStreams, GivesItemsUntilTheyEnd,
                            ErrorsAreItemsWithTheNameOfTheCallAndEndIt,
                            DroppedAnywhereLeavesNothing, CancelledIsOver,
                            EndsWithTheRing, CallsBackUntilItIsToldToStop,
                            CanBeAwaitedAndSurvivesWhoDoes,
                            GoesOnAfterTheKernelEndedIt,
                            StopsAtItsLimitOfUnreadItemsAndGoesOn,
                            AllocatesNothing);

#define ESCROW_STREAM_CASES(family, types) \
  ESCROW_CASES(family, SafeStreams, types)

}  // namespace escrow::safe::cases

#endif  // ESCROW_TESTS_SAFE_STREAM_CASES_H_
