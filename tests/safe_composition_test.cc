// Operations together: chains, deadlines, cancelling many, waiting for some.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using cases::Ends;
using cases::Pair;
using cases::World;
using ownership::Descriptor;
using std::chrono::hours;
using std::chrono::milliseconds;
using testing::Arena;
using testing::Tracked;

Ring MakeRing(const RingOptions& options = {.entries = 8}) {
  auto ring = Ring::Create(options);
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

void Drain(Ring& ring) {
  while (ring.in_flight() > 0) EXPECT_TRUE(ring.Dispatch());
  EXPECT_EQ(ring.unknown_completions(), 0u);
}

// An op that waits for the other end of `pair`, and one that it can be told by.
Receive<std::string> Receiving(const Pair& pair, int flags = 0) {
  return {.socket = pair.here, .buffer = std::string(4, '.'), .flags = flags};
}
Send<std::string> Sending(const Pair& pair, std::string text) {
  return {.socket = pair.there, .buffer = std::move(text)};
}

// Chains.

TEST(SafeChain, MembersWaitForTheOnesBefore) {
  Ring ring = MakeRing();
  const Pair first, second;
  auto [receive, send] =
      ring.Start(Chain(Receiving(first), Sending(second, "next")));
  EXPECT_TRUE(ring.Wait(ring.Nop()));
  EXPECT_FALSE(receive.done());
  EXPECT_FALSE(send.done());
  EXPECT_EQ(::write(first.there.number(), "abcd", 4), 4);
  EXPECT_EQ(ring.Wait(std::move(send)).result.value(), 4u);
  EXPECT_TRUE(receive.done());
  EXPECT_EQ(std::move(receive).Take().buffer, "abcd");
}

// Where less came than could have with MSG_WAITALL, the chain stops.
TEST(SafeChain, AShortTransferStopsIt) {
  Ring ring = MakeRing();
  Pair first, second;
  auto [receive, send] =
      ring.Start(Chain(Receiving(first, MSG_WAITALL), Sending(second, "next")));
  EXPECT_EQ(::write(first.there.number(), "ab", 2), 2);
  first.there = Descriptor();
  const auto [received, sent] =
      ring.WaitAll(std::move(receive), std::move(send));
  EXPECT_EQ(received.result.value(), 2u);
  EXPECT_EQ(sent.result.error(), std::errc::operation_canceled);
  EXPECT_EQ(sent.buffer, "next");
}

TEST(SafeChain, LongerThanTheQueueStartsNothing) {
  Ring ring = MakeRing({.entries = 2});
  const Pair pair;
  const auto [a, b, c] = ring.WaitAll(ring.Start(
      Chain(Sending(pair, "a"), Sending(pair, "b"), Sending(pair, "c"))));
  for (const auto* sent : {&a, &b, &c}) {
    EXPECT_EQ(sent->result.error(), std::errc::invalid_argument);
  }
  EXPECT_EQ(a.buffer + b.buffer + c.buffer, "abc");
  // A deadline needs an entry, too.
  const auto [d, e] = ring.WaitAll(ring.Start(Chain(
      With{Sending(pair, "d"), {.deadline = hours(1)}}, Sending(pair, "e"))));
  EXPECT_EQ(d.result.error(), std::errc::invalid_argument);
  EXPECT_EQ(e.result.error(), std::errc::invalid_argument);
  char byte;
  EXPECT_EQ(::recv(pair.here.number(), &byte, 1, MSG_DONTWAIT), -1);
  Drain(ring);
}

TEST(SafeChain, BeyondTheLimitStartsNothing) {
  Ring ring = MakeRing({.entries = 8, .in_flight_limit = 2});
  const Pair pair;
  auto waiting = ring.Start(Receiving(pair));
  const auto [a, b] =
      ring.WaitAll(ring.Start(Chain(Sending(pair, "a"), Sending(pair, "b"))));
  EXPECT_EQ(a.result.error(), std::errc::resource_unavailable_try_again);
  EXPECT_EQ(b.result.error(), std::errc::resource_unavailable_try_again);
  EXPECT_EQ(a.buffer + b.buffer, "ab");
  EXPECT_FALSE(waiting.done());
  EXPECT_EQ(ring.Wait(ring.Start(Sending(pair, "c"))).result.value(), 1u);
  EXPECT_EQ(ring.Wait(std::move(waiting)).result.value(), 1u);
}

TEST(SafeChain, WaitsForRoomForAll) {
  Ring ring = MakeRing({.entries = 4});
  const Pair pair;
  auto nop = ring.Nop();
  auto [a, b, c, d] =
      ring.WaitAll(ring.Start(Chain(Sending(pair, "a"), Sending(pair, "b"),
                                    Sending(pair, "c"), Sending(pair, "d"))));
  EXPECT_TRUE(a.result && b.result && c.result && d.result);
  char text[8];
  EXPECT_EQ(::read(pair.here.number(), text, sizeof(text)), 4);
  EXPECT_EQ(std::string(text, 4), "abcd");
  EXPECT_TRUE(ring.Wait(std::move(nop)));
}

// One that is refused before the kernel sees it, in the middle.
TEST(SafeChain, ARefusedMemberStopsIt) {
  Ring ring = MakeRing();
  const Pair pair;
  const std::string nul("a\0b", 3);
  auto [before, refused, after] = ring.Start(Chain(
      Sending(pair, "before"), Open{.path = nul}, Sending(pair, "after")));
  EXPECT_TRUE(refused.done());
  EXPECT_TRUE(after.done());
  EXPECT_EQ(ring.Wait(std::move(before)).result.value(), 6u);
  EXPECT_EQ(std::move(refused).Take().error(), std::errc::invalid_argument);
  const auto [result, buffer] = std::move(after).Take();
  EXPECT_EQ(result.error(), std::errc::operation_canceled);
  EXPECT_EQ(buffer, "after");
}

TEST(SafeChain, WhatComesBehindIsNotLinkedToIt) {
  Ring ring = MakeRing();
  const World world;
  const Descriptor file = world.OpenFile();
  const std::string nul("a\0b", 3);
  const auto failing = [&] {
    return Receive<std::string>{.socket = file, .buffer = "."};
  };
  {
    auto members = ring.Start(Chain(failing(), Open{.path = nul}));
    EXPECT_TRUE(ring.Wait(ring.Nop()));
  }
  {
    auto members = ring.Start(
        Chain(With{failing(), {.deadline = hours(1)}}, Open{.path = nul}));
    EXPECT_TRUE(ring.Wait(ring.Nop()));
  }
  {
    auto members = ring.Start(HardChain(failing(), Open{.path = nul}));
    auto waiting = ring.Timeout(hours(1));
    auto [result] = ring.Start(Chain(failing()));
    EXPECT_TRUE(ring.Wait(ring.Nop()));
  }
  Drain(ring);
}

TEST(SafeChain, AHardOneGoesOnBehindARefusedMember) {
  Ring ring = MakeRing();
  const Pair pair;
  const std::string nul("a\0b", 3);
  const auto [before, refused, after] = ring.WaitAll(ring.Start(HardChain(
      Sending(pair, "before"), Open{.path = nul}, Sending(pair, "after"))));
  EXPECT_EQ(before.result.value(), 6u);
  EXPECT_EQ(refused.error(), std::errc::invalid_argument);
  EXPECT_EQ(after.result.value(), 5u);
}

TEST(SafeChain, DroppingAQueuedMemberCancelsWhatIsBehind) {
  Ring ring = MakeRing();
  const Pair pair;
  for (const bool paired : {false, true}) {
    auto [first, last] = [&] {
      auto [before, dropped, after] = ring.Start(Chain(
          Sending(pair, "1"),
          With{Sending(pair, "2"), {.deadline = paired ? hours(1) : hours(0)}},
          Sending(pair, "3")));
      return std::pair(std::move(before), std::move(after));
    }();
    EXPECT_EQ(ring.Wait(std::move(first)).result.value(), 1u);
    const auto [result, buffer] = ring.Wait(std::move(last));
    EXPECT_EQ(result.error(), std::errc::operation_canceled);
    EXPECT_EQ(buffer, "3");
    char text[8];
    EXPECT_EQ(::read(pair.here.number(), text, sizeof(text)), 1);
    Drain(ring);
  }
}

TEST(SafeChain, DroppingAMemberInFlightCancelsWhatIsBehind) {
  Ring ring = MakeRing();
  const Pair first, second;
  auto send = [&] {
    auto [receive, after] =
        ring.Start(Chain(Receiving(first), Sending(second, "next")));
    EXPECT_TRUE(ring.Submit());
    return std::move(after);
  }();
  const auto [result, buffer] = ring.Wait(std::move(send));
  EXPECT_EQ(result.error(), std::errc::operation_canceled);
  EXPECT_EQ(buffer, "next");
  Drain(ring);
}

TEST(SafeChain, EndsWithTheRing) {
  const Pair pair;
  std::array<std::array<std::byte, 4>, 4> bytes = {};
  std::vector<Arena> arenas;
  for (auto& each : bytes) arenas.push_back({each.data(), each.size()});
  std::size_t next = 0;
  using Handles =
      std::tuple<Operation<Transfer<Tracked>>, Operation<Transfer<Tracked>>>;
  const auto chain = [&](Ring& ring) {
    Arena& first = arenas[next++];
    Arena& second = arenas[next++];
    return ring.Start(
        Chain(Receive<Tracked>{.socket = pair.here, .buffer = Tracked(first)},
              Send<Tracked>{.socket = pair.there, .buffer = Tracked(second)}));
  };
  std::optional<Handles> submitted, queued;
  {
    Ring ring = MakeRing();
    submitted.emplace(chain(ring));
    EXPECT_TRUE(ring.Submit());
    queued.emplace(chain(ring));
  }
  for (auto* handles : {&submitted, &queued}) {
    EXPECT_EQ(std::move(std::get<0>(**handles)).Take().result.error(),
              std::errc::operation_canceled);
    EXPECT_EQ(std::move(std::get<1>(**handles)).Take().result.error(),
              std::errc::operation_canceled);
  }
  // The last ones are destroyed with what was taken.
  for (const Arena& arena : arenas) EXPECT_EQ(arena.releases, 1);
}

TEST(SafeChain, MembersHaveDeadlines) {
  Ring ring = MakeRing();
  const Pair first, second;
  {
    const auto [receive, send] = ring.WaitAll(
        ring.Start(Chain(With{Receiving(first), {.deadline = milliseconds(1)}},
                         Sending(second, "next"))));
    EXPECT_EQ(receive.result.error(), std::errc::timed_out);
    EXPECT_EQ(send.result.error(), std::errc::operation_canceled);
  }
  {
    const auto [receive, send] = ring.WaitAll(ring.Start(
        HardChain(With{Receiving(first), {.deadline = milliseconds(1)}},
                  Sending(second, "next"))));
    EXPECT_EQ(receive.result.error(), std::errc::timed_out);
    EXPECT_EQ(send.result.value(), 4u);
  }
  {
    EXPECT_EQ(::write(first.there.number(), "abcd", 4), 4);
    const auto [receive, send] = ring.WaitAll(ring.Start(
        Chain(With{Receiving(first), {.deadline = hours(1)}},
              With{Sending(second, "next"), {.deadline = hours(1)}})));
    EXPECT_EQ(receive.result.value(), 4u);
    EXPECT_EQ(send.result.value(), 4u);
  }
  Drain(ring);
}

// Only where an error stops the chain do members go before others.
static_assert(internal::StopAllButLast<Send<std::string>, Rename>());
static_assert(!internal::StopAllButLast<Rename, Send<std::string>>());

// Deadlines.

TEST(SafeDeadline, OfAReadThatIsTooLate) {
  Ring ring = MakeRing();
  const Ends pipe;
  auto [result, buffer] =
      ring.Wait(ring.Read(pipe.read, std::string("...."), kCurrentPosition,
                          {.deadline = milliseconds(1)}));
  EXPECT_EQ(result.error(), std::errc::timed_out);
  EXPECT_TRUE(result.error().message().starts_with("read: "))
      << result.error().message();
  EXPECT_EQ(buffer, "....");
  Drain(ring);
}

TEST(SafeDeadline, WhatIsCancelledDidNotTimeOut) {
  Ring ring = MakeRing();
  const Pair pair;
  auto receive = ring.Start(Receiving(pair), {.deadline = hours(1)});
  EXPECT_TRUE(ring.Submit());
  EXPECT_TRUE(ring.Wait(ring.Cancel(receive)));
  EXPECT_EQ(ring.Wait(std::move(receive)).result.error(),
            std::errc::operation_canceled);
  Drain(ring);
}

TEST(SafeDeadline, DroppedAnywhere) {
  Ring ring = MakeRing();
  const Pair pair;
  std::array<std::byte, 4> bytes = {};
  Arena arena{bytes.data(), bytes.size()};
  const auto start = [&](std::chrono::nanoseconds deadline) {
    return ring.Start(
        Receive<Tracked>{.socket = pair.here, .buffer = Tracked(arena)},
        {.deadline = deadline});
  };
  { auto before_submit = start(hours(1)); }
  EXPECT_EQ(arena.releases, 1);
  EXPECT_EQ(ring.in_flight(), 0u);
  {
    auto after_submit = start(hours(1));
    EXPECT_TRUE(ring.Submit());
  }
  Drain(ring);
  EXPECT_EQ(arena.releases, 2);
  {
    auto expired = start(milliseconds(1));
    while (!expired.done()) EXPECT_TRUE(ring.Dispatch());
  }
  EXPECT_EQ(arena.releases, 3);
  std::optional<Operation<Transfer<Tracked>>> outliving;
  {
    Ring other = MakeRing();
    outliving.emplace(other.Start(
        Receive<Tracked>{.socket = pair.here, .buffer = Tracked(arena)},
        {.deadline = hours(1)}));
    EXPECT_TRUE(other.Submit());
  }
  EXPECT_EQ(std::move(*outliving).Take().result.error(),
            std::errc::operation_canceled);
  EXPECT_EQ(arena.releases, 4);
  Drain(ring);
}

// Of two entries that are needed, only one is free.
TEST(SafeDeadline, MakesRoomForBoth) {
  Ring ring = MakeRing({.entries = 2});
  const Pair pair;
  for (int i = 0; i < 5; ++i) {
    auto nop = ring.Nop();
    auto receive = ring.Start(Receiving(pair), {.deadline = milliseconds(1)});
    EXPECT_EQ(ring.Wait(std::move(receive)).result.error(),
              std::errc::timed_out);
  }
  Drain(ring);
}

// Cancelling.

TEST(SafeCancel, AllOnAFile) {
  Ring ring = MakeRing();
  const Pair first, second;
  auto a = ring.Start(Receiving(first));
  auto b = ring.Start(Receiving(first));
  auto c = ring.Start(Receiving(second));
  EXPECT_EQ(ring.Wait(ring.CancelAll(first.here)).value(), 2u);
  EXPECT_EQ(ring.Wait(std::move(a)).result.error(),
            std::errc::operation_canceled);
  EXPECT_EQ(ring.Wait(std::move(b)).result.error(),
            std::errc::operation_canceled);
  EXPECT_FALSE(c.done());
  EXPECT_EQ(ring.Wait(ring.CancelAll(first.here)).value(), 0u);
  EXPECT_EQ(::write(second.there.number(), "abcd", 4), 4);
  EXPECT_EQ(ring.Wait(std::move(c)).buffer, "abcd");
}

TEST(SafeCancel, AllOnTheRing) {
  Ring ring = MakeRing();
  const Pair first, second;
  auto a = ring.Start(Receiving(first));
  auto b = ring.Start(Receiving(second), {.deadline = hours(1)});
  auto c = ring.Timeout(hours(1));
  EXPECT_TRUE(ring.Wait(ring.Nop()));
  EXPECT_GE(ring.Wait(ring.CancelAll()).value(), 3u);
  EXPECT_EQ(ring.Wait(std::move(a)).result.error(),
            std::errc::operation_canceled);
  EXPECT_EQ(ring.Wait(std::move(b)).result.error(),
            std::errc::operation_canceled);
  EXPECT_EQ(ring.Wait(std::move(c)).error(), std::errc::operation_canceled);
  Drain(ring);
}

TEST(SafeCancel, AndWaitGivesTheOutcome) {
  Ring ring = MakeRing();
  const Pair pair;
  const auto cancelled = ring.CancelAndWait(ring.Start(Receiving(pair)));
  EXPECT_EQ(cancelled.result.error(), std::errc::operation_canceled);
  EXPECT_EQ(cancelled.buffer, "....");
  auto done = ring.Start(Sending(pair, "sent"));
  EXPECT_TRUE(ring.Wait(ring.Nop()));
  EXPECT_EQ(ring.CancelAndWait(std::move(done)).result.value(), 4u);
  Drain(ring);
}

// A worker of the kernel that is about to have a socket polled is told to stop,
// and goes on (Linux 6.18): seldom, but often enough in so many times.
class SafeCancelOfWorkers : public ::testing::Test {
 protected:
  auto StartReceive(std::chrono::nanoseconds deadline = {}) {
    auto receive =
        ring_.Start(Receiving(pair_), {.async = true, .deadline = deadline});
    EXPECT_TRUE(ring_.Submit());
    return receive;
  }
  // So that the worker has got to one place or another.
  static void Linger(int turn) {
    for (volatile int i = turn * 7919 % 20'000; i > 0;) i = i - 1;
  }

  static constexpr int kTurns = 4'000;
  Ring ring_ = MakeRing();
  Pair pair_;
};

TEST_F(SafeCancelOfWorkers, AndWaitAsksAgain) {
  for (int i = 0; i < kTurns; ++i) {
    auto receive = StartReceive();
    Linger(i);
    const auto outcome = ring_.CancelAndWait(std::move(receive));
    ASSERT_FALSE(outcome.result);
  }
  Drain(ring_);
}

TEST_F(SafeCancelOfWorkers, DroppedOnesAreAskedAgain) {
  for (int i = 0; i < kTurns; ++i) {
    {
      auto receive = StartReceive();
      Linger(i);
    }
    Drain(ring_);
  }
}

TEST_F(SafeCancelOfWorkers, DeadlinesAskAgain) {
  for (int i = 0; i < kTurns; ++i) {
    auto receive = StartReceive(std::chrono::microseconds(1 + i % 40));
    // Awake, so that the deadline is acted on at once.
    while (!receive.done()) {
      ASSERT_TRUE(ring_.Dispatch(milliseconds(0)));
    }
    ASSERT_EQ(std::move(receive).Take().result.error(), std::errc::timed_out);
  }
  Drain(ring_);
}

// It could not be cancelled while it was behind another one.
TEST(SafeCancel, HitsAMemberOfAChainThatIsReachedLater) {
  Ring ring = MakeRing();
  const Pair first, second;
  auto [receive, behind] =
      ring.Start(Chain(Receiving(first), Receiving(second)));
  EXPECT_TRUE(ring.Submit());
  { const auto dropped = std::move(behind); }
  EXPECT_TRUE(ring.Wait(ring.Nop()));
  EXPECT_EQ(::write(first.there.number(), "abcd", 4), 4);
  EXPECT_EQ(ring.Wait(std::move(receive)).buffer, "abcd");
  Drain(ring);
}

// A record is used again and again; a cancellation hits only what it meant.
TEST(SafeCancel, DoesNotHitTheNextUserOfARecord) {
  Ring ring = MakeRing();
  const Pair pair;
  EXPECT_EQ(::write(pair.there.number(), "abcd", 4), 4);
  auto first = ring.Start(Receiving(pair));
  EXPECT_TRUE(ring.Submit());
  auto cancel = ring.Cancel(first);
  EXPECT_EQ(ring.Wait(std::move(first)).buffer, "abcd");
  auto second = ring.Start(Receiving(pair));
  EXPECT_EQ(ring.Wait(std::move(cancel)).error(),
            std::errc::no_such_file_or_directory);
  EXPECT_FALSE(second.done());
}

// Waiting.

TEST(SafeWait, ForAnyTellsWhich) {
  Ring ring = MakeRing();
  const Pair first, second;
  auto a = ring.Start(Receiving(first));
  auto b = ring.Start(Receiving(second));
  auto timeout = ring.Timeout(hours(1));
  EXPECT_EQ(::write(second.there.number(), "abcd", 4), 4);
  EXPECT_EQ(ring.WaitAny(a, b, timeout), 1u);
  EXPECT_TRUE(b.done());
  EXPECT_FALSE(a.done());
  EXPECT_EQ(ring.WaitAny(a, b, timeout), 1u);
  std::vector<Operation<Transfer<std::string>>> both;
  both.push_back(std::move(a));
  both.push_back(ring.Start(Receiving(second)));
  EXPECT_EQ(::write(first.there.number(), "efgh", 4), 4);
  EXPECT_EQ(
      ring.WaitAny(std::span<const Operation<Transfer<std::string>>>(both)),
      0u);
}

TEST(SafeWait, AtMostSoLong) {
  Ring ring = MakeRing();
  const Pair pair;
  auto receive = ring.Start(Receiving(pair));
  EXPECT_FALSE(ring.WaitAtMost(milliseconds(0), receive));
  EXPECT_FALSE(ring.WaitAtMost(milliseconds(2), receive));
  EXPECT_EQ(::write(pair.there.number(), "abcd", 4), 4);
  EXPECT_TRUE(ring.WaitAtMost(hours(1), receive));
  EXPECT_TRUE(ring.WaitAtMost(milliseconds(0), receive));
  EXPECT_EQ(std::move(receive).Take().buffer, "abcd");
}

TEST(SafeWait, SignalsDoNotEndIt) {
  struct sigaction action = {}, before;
  static volatile int signals;
  signals = 0;
  action.sa_handler = [](int) { signals = signals + 1; };
  ASSERT_EQ(::sigaction(SIGALRM, &action, &before), 0);
  const itimerval often = {{0, 500}, {0, 500}}, never = {};
  ASSERT_EQ(::setitimer(ITIMER_REAL, &often, nullptr), 0);
  {
    Ring ring = MakeRing();
    const Pair pair;
    auto receive = ring.Start(Receiving(pair));
    EXPECT_FALSE(ring.WaitAtMost(milliseconds(20), receive));
    auto timeout = ring.Timeout(milliseconds(20));
    EXPECT_EQ(ring.WaitAny(receive, timeout), 1u);
    EXPECT_TRUE(ring.Wait(ring.Timeout(milliseconds(20))));
    EXPECT_GT(signals, 0);
  }
  EXPECT_EQ(::setitimer(ITIMER_REAL, &never, nullptr), 0);
  EXPECT_EQ(::sigaction(SIGALRM, &before, nullptr), 0);
}

// What one callback starts does not keep the others from running.
TEST(SafeDispatch, RunsEachReadyCallbackOnce) {
  Ring ring = MakeRing();
  int often = 0, once = 0;
  struct Again {
    Ring& ring;
    int& count;
    void operator()(Result<void>) const {
      if (++count < 1000) ring.Nop().Then(Again(*this));
    }
  };
  ring.Nop().Then(Again{ring, often});
  ring.Nop().Then([&](Result<void>) { ++once; });
  EXPECT_EQ(ring.Dispatch().value(), 2u);
  EXPECT_EQ(once, 1);
  EXPECT_EQ(often, 1);
  while (ring.in_flight() > 0) EXPECT_TRUE(ring.Dispatch());
  EXPECT_EQ(often, 1000);
}

// Limits.

TEST(SafeLimit, IsAValueAndGivesTheBufferBack) {
  Ring ring = MakeRing({.entries = 8, .in_flight_limit = 3});
  const Pair pair;
  std::vector<Operation<Transfer<std::string>>> receives;
  for (int i = 0; i < 3; ++i) receives.push_back(ring.Start(Receiving(pair)));
  EXPECT_EQ(ring.in_flight(), 3u);
  const auto [result, buffer] = ring.Wait(ring.Start(Receiving(pair)));
  EXPECT_EQ(result.error(), std::errc::resource_unavailable_try_again);
  EXPECT_TRUE(result.error().message().starts_with("in_flight_limit: "));
  EXPECT_EQ(buffer, "....");
  // What is over makes room, whether its outcome was taken or not.
  EXPECT_EQ(::write(pair.there.number(), "abcd", 4), 4);
  EXPECT_EQ(ring.Wait(std::move(receives.front())).buffer, "abcd");
  EXPECT_TRUE(ring.Wait(ring.Nop()));
}

// Many more than either queue has entries.
TEST(SafeLimit, WithoutOneNothingIsLost) {
  Ring ring = MakeRing({.entries = 2, .completion_entries = 4});
  std::vector<Operation<Result<void>>> nops;
  int called = 0;
  for (int i = 0; i < 1000; ++i) {
    nops.push_back(ring.Nop());
    ring.Nop().Then([&](Result<void> result) {
      EXPECT_TRUE(result);
      ++called;
    });
  }
  for (auto& nop : nops) EXPECT_TRUE(ring.Wait(std::move(nop)));
  while (called < 1000) EXPECT_TRUE(ring.Dispatch());
  Drain(ring);
}

// The kernel takes nothing: chains and deadlines start wholly or not at all.
TEST(SafeLimit, AFailingSubmitStartsNoPartOfAChain) {
  testing::ExpectChildSucceeds([] {
    Ring ring = MakeRing({.entries = 4});
    const Pair pair;
    std::vector<Operation<Result<void>>> nops;
    for (int i = 0; i < 3; ++i) nops.push_back(ring.Nop());
    testing::MakeEnterFail(EAGAIN);
    auto [a, b] = ring.Start(Chain(Sending(pair, "a"), Sending(pair, "b")));
    ASSERT_TRUE(a.done() && b.done());
    const auto first = std::move(a).Take(), second = std::move(b).Take();
    EXPECT_EQ(first.result.error(), std::errc::resource_unavailable_try_again);
    EXPECT_EQ(second.result.error(), std::errc::resource_unavailable_try_again);
    EXPECT_EQ(first.buffer + second.buffer, "ab");
    auto with_deadline = ring.Start(Sending(pair, "c"), {.deadline = hours(1)});
    ASSERT_TRUE(with_deadline.done());
    EXPECT_EQ(std::move(with_deadline).Take().buffer, "c");
    EXPECT_EQ(ring.in_flight(), 3u);
    nops.clear();
    EXPECT_EQ(ring.in_flight(), 0u);
  });
}

}  // namespace
}  // namespace escrow::safe
