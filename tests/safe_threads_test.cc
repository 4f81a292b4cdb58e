// What threads may and may not do with a ring.

#include <gtest/gtest.h>
#include <linux/io_uring.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/remote.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/support.h"

namespace escrow::safe {

// A buffer that owns more than its bytes.
struct OwnsRing {
  std::shared_ptr<Ring> ring;
  std::vector<std::byte> bytes = std::vector<std::byte>(8);
};

}  // namespace escrow::safe

template <>
struct escrow::ownership::OwnedMemory<escrow::safe::OwnsRing> {
  static std::byte* Data(safe::OwnsRing& value) noexcept {
    return value.bytes.data();
  }
  static std::size_t Size(const safe::OwnsRing& value) noexcept {
    return value.bytes.size();
  }
};

namespace escrow::safe {
namespace {

using ownership::Descriptor;
using std::chrono::milliseconds;
using testing::Arena;
using testing::Pipe;
using testing::Tracked;

constexpr unsigned kSendMsgRing = 31;  // IORING_REGISTER_SEND_MSG_RING

Ring MakeRing(const RingOptions& options = {}) {
  auto ring = Ring::Create(options);
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

struct Kind {
  const char* name;
  std::optional<std::uint32_t> setup_flags;
};

std::string NameOf(const ::testing::TestParamInfo<Kind>& kind) {
  return kind.param.name;
}

// Remote.

struct RemoteKind {
  const char* name;
  std::optional<std::uint32_t> setup_flags;
  bool eventfd;
};

class RemoteTest : public ::testing::TestWithParam<RemoteKind> {
 protected:
  RemoteTest() : ring_(MakeRing({.setup_flags = GetParam().setup_flags})) {}

  Remote MakeRemote() {
    return ring_->CreateRemote({.eventfd = GetParam().eventfd}).value();
  }

  std::optional<Ring> ring_;
};

INSTANTIATE_TEST_SUITE_P(
    Kinds, RemoteTest,
    ::testing::Values(RemoteKind{"Best", std::nullopt, false},
                      RemoteKind{"BestEventfd", std::nullopt, true},
                      RemoteKind{"Plain", 0u, false},
                      RemoteKind{"PlainEventfd", 0u, true},
                      RemoteKind{"SqPoll", IORING_SETUP_SQPOLL, false},
                      RemoteKind{"SqPollEventfd", IORING_SETUP_SQPOLL, true}),
    [](const auto& kind) { return std::string(kind.param.name); });

TEST_P(RemoteTest, PostedWorkRunsInTheRingsThread) {
  const Remote remote = MakeRemote();
  std::thread::id ran_in;
  std::thread([&] {
    EXPECT_TRUE(remote.Post([&] { ran_in = std::this_thread::get_id(); }));
  }).join();
  EXPECT_EQ(ran_in, std::thread::id());
  EXPECT_EQ(ring_->Dispatch().value(), 1u);
  EXPECT_EQ(ran_in, std::this_thread::get_id());
  EXPECT_EQ(ring_->in_flight(), 0u);
  EXPECT_EQ(ring_->unknown_completions(), 0u);
}

// Each round is posted only after the one before has run, so that the ring is
// mostly asleep or about to be: a wake-up that is lost ends this in a timeout.
TEST_P(RemoteTest, NoWakeUpIsLost) {
  constexpr int kRounds = 1000;
  std::atomic<int> seen = 0;
  std::thread poster([remote = MakeRemote(), &seen] {
    for (int round = 1; round <= kRounds; ++round) {
      EXPECT_TRUE(remote.Post([&seen, round] {
        seen = round;
        seen.notify_one();
      }));
      seen.wait(round - 1);
    }
  });
  std::size_t ran = 0;
  while (ran < kRounds) {
    const auto count = ring_->Dispatch();
    ASSERT_TRUE(count) << count.error().message();
    ran += *count;
  }
  poster.join();
  EXPECT_EQ(ran, std::size_t{kRounds});
  EXPECT_EQ(seen, kRounds);
  while (ring_->Dispatch(milliseconds(0)).value() != 0) {
  }
  EXPECT_EQ(ring_->unknown_completions(), 0u);
}

TEST_P(RemoteTest, ManyThreadsPostInTheirOrder) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 2000;
  std::vector<int> last(kThreads, -1);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&last, i, remote = MakeRemote()] {
      for (int n = 0; n < kPosts; ++n) {
        EXPECT_TRUE(remote.Post([&last, i, n] {
          EXPECT_EQ(last[static_cast<std::size_t>(i)], n - 1);
          last[static_cast<std::size_t>(i)] = n;
        }));
      }
    });
  }
  for (std::size_t ran = 0; ran < kThreads * kPosts;) {
    ran += ring_->Dispatch().value();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(last, std::vector<int>(kThreads, kPosts - 1));
  EXPECT_EQ(ring_->unknown_completions(), 0u);
}

TEST_P(RemoteTest, PostedBetweenOperations) {
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  const auto out = Descriptor::Adopt(pipe.write_end);
  std::string read;
  bool posted = false;
  ring_->Read(in, std::string(3, ' '))
      .Then([&](Result<std::size_t> size, std::string bytes) {
        EXPECT_EQ(size.value(), 3u);
        read = std::move(bytes);
      });
  std::thread poster([remote = MakeRemote(), &posted, &out] {
    EXPECT_TRUE(remote.Post([&posted] { posted = true; }));
    EXPECT_EQ(::write(out.number(), "abc", 3), 3);
  });
  while (!posted || read.empty()) ASSERT_TRUE(ring_->Dispatch());
  poster.join();
  EXPECT_EQ(read, "abc");
}

TEST_P(RemoteTest, WaitRunsNoPostedWork) {
  const Remote remote = MakeRemote();
  bool ran = false;
  EXPECT_TRUE(remote.Post([&] { ran = true; }));
  EXPECT_TRUE(ring_->Wait(ring_->Nop()));
  EXPECT_FALSE(ran);
  EXPECT_EQ(ring_->Dispatch(milliseconds(0)).value(), 1u);
  EXPECT_TRUE(ran);
}

TEST_P(RemoteTest, PostedByPostedWorkRunsTheNextTime) {
  const Remote remote = MakeRemote();
  int ran = 0;
  EXPECT_TRUE(remote.Post([&] {
    ++ran;
    EXPECT_TRUE(remote.Post([&] { ++ran; }));
  }));
  EXPECT_EQ(ring_->Dispatch().value(), 1u);
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(ring_->Dispatch().value(), 1u);
  EXPECT_EQ(ran, 2);
}

TEST_P(RemoteTest, PostedWorkMayStartOperations) {
  const Remote remote = MakeRemote();
  bool done = false;
  EXPECT_TRUE(remote.Post([&, owned = std::make_unique<int>(1)] {
    ring_->Nop().Then([&](Result<void> result) { done = result.has_value(); });
  }));
  while (!done) ASSERT_TRUE(ring_->Dispatch());
}

TEST_P(RemoteTest, DispatchEndsWithTheLastRemote) {
  std::optional<Remote> remote(MakeRemote());
  Remote copy = *remote;
  remote.reset();
  std::thread thread([moved = std::move(copy)]() mutable {
    std::this_thread::sleep_for(milliseconds(20));
    const Remote last(std::move(moved));
  });
  EXPECT_EQ(ring_->Dispatch().value(), 0u);
  thread.join();
  EXPECT_EQ(ring_->Dispatch().value(), 0u);
}

TEST_P(RemoteTest, AWakeUpIsTakenBack) {
  const Remote remote = MakeRemote();
  std::thread thread([&] {
    std::this_thread::sleep_for(milliseconds(20));
    EXPECT_TRUE(remote.Post([] {}));
  });
  while (ring_->Dispatch().value() == 0) {
  }
  thread.join();
  EXPECT_EQ(ring_->Dispatch(milliseconds(0)).value(), 0u);
  // Who sleeps by an event that is still there does not.
  for (const auto& file :
       std::filesystem::directory_iterator("/proc/self/fdinfo")) {
    std::ifstream lines(file.path());
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("eventfd-count:")) {
        EXPECT_TRUE(line.ends_with(" 0")) << line;
      }
    }
  }
}

TEST_P(RemoteTest, DispatchWithALimitEndsWithoutPosts) {
  const Remote remote = MakeRemote();
  EXPECT_EQ(ring_->Dispatch(milliseconds(0)).value(), 0u);
  EXPECT_EQ(ring_->Dispatch(milliseconds(1)).value(), 0u);
  std::thread([&] { EXPECT_TRUE(remote.Post([] {})); }).join();
  EXPECT_EQ(ring_->Dispatch(milliseconds(0)).value(), 1u);
}

TEST_P(RemoteTest, WhatWasNotRunIsDestroyedWithTheRing) {
  const Remote remote = MakeRemote();
  Arena arena = {};
  EXPECT_TRUE(remote.Post([tracked = Tracked(arena)] { ADD_FAILURE(); }));
  EXPECT_EQ(arena.releases, 0);
  ring_.reset();
  EXPECT_EQ(arena.releases, 1);

  const auto refused =
      remote.Post([tracked = Tracked(arena)] { ADD_FAILURE(); });
  EXPECT_EQ(refused.error(), std::errc::owner_dead);
  EXPECT_EQ(arena.releases, 2);
}

TEST_P(RemoteTest, WhatWasNotRunMayOwnTheLastHandleAndTheRemote) {
  auto remote = MakeRemote();
  const Remote& same = remote;
  auto nop = std::make_shared<Operation<Result<void>>>(ring_->Nop());
  EXPECT_TRUE(same.Post([nop = std::move(nop), remote] {}));
  ring_.reset();
}

TEST_P(RemoteTest, PostsRaceWithTheEndOfTheRing) {
  for (int i = 0; i < 20; ++i) {
    Ring ring = MakeRing({.entries = 8, .setup_flags = GetParam().setup_flags});
    std::atomic<int> destroyed = 0;
    int accepted = 0;
    int refused = 0;
    std::atomic<bool> posting = false;
    struct Counting {
      explicit Counting(std::atomic<int>& count) : count_(&count) {}
      Counting(Counting&& other) noexcept
          : count_(std::exchange(other.count_, nullptr)) {}
      ~Counting() {
        if (count_ != nullptr) ++*count_;
      }
      std::atomic<int>* count_;
    };
    std::thread poster(
        [&,
         remote = ring.CreateRemote({.eventfd = GetParam().eventfd}).value()] {
          while (refused < 10) {
            const auto posted =
                remote.Post([counting = Counting(destroyed)] {});
            ++(posted ? accepted : refused);
            posting = true;
          }
        });
    while (!posting) std::this_thread::yield();
    (void)ring.Dispatch();
    { const Ring ending(std::move(ring)); }
    poster.join();
    EXPECT_EQ(destroyed, accepted + refused);
  }
}

#if __cpp_exceptions
TEST_P(RemoteTest, WhatFollowsAnExceptionRunsTheNextTime) {
  const Remote remote = MakeRemote();
  bool ran = false;
  EXPECT_TRUE(remote.Post([] { throw 1; }));
  EXPECT_TRUE(remote.Post([&] { ran = true; }));
  EXPECT_THROW((void)ring_->Dispatch(), int);
  EXPECT_FALSE(ran);
  EXPECT_EQ(ring_->Dispatch().value(), 1u);
  EXPECT_TRUE(ran);
}
#endif

TEST(Remote, FallsBackToAnEventfdWhereMessagesAreRefused) {
  testing::ExpectChildSucceeds([] {
    testing::MakeRegisterFail(EPERM, kSendMsgRing);
    Ring ring = MakeRing();
    const int before = testing::OpenDescriptors();
    bool ran = false;
    std::thread poster([&ran, remote = ring.CreateRemote().value()] {
      std::this_thread::sleep_for(milliseconds(20));
      EXPECT_TRUE(remote.Post([&ran] { ran = true; }));
    });
    while (!ran) EXPECT_TRUE(ring.Dispatch());
    poster.join();
    EXPECT_EQ(testing::OpenDescriptors(), before + 1);
  });
}

// (A descriptor less is what tells that the kernel has messages.)
TEST(Remote, APostThatCannotWakeTheRingIsRefused) {
  testing::ExpectChildSucceeds([] {
    Ring ring = MakeRing();
    const int before = testing::OpenDescriptors();
    auto remote = ring.CreateRemote().value();
    if (testing::OpenDescriptors() != before) return;  // before Linux 6.13
    // The kernel was tried with a message.
    EXPECT_EQ(ring.Dispatch(milliseconds(0)).value(), 0u);
    Arena arena = {};
    std::thread poster([&, remote = std::move(remote)] {
      testing::MakeRegisterFail(EPERM, kSendMsgRing);  // this thread's
      std::this_thread::sleep_for(milliseconds(50));
      const auto posted =
          remote.Post([tracked = Tracked(arena)] { ADD_FAILURE(); });
      EXPECT_EQ(posted.error(), std::errc::operation_not_permitted);
      EXPECT_EQ(arena.releases, 1);
    });
    EXPECT_EQ(ring.Dispatch(milliseconds(500)).value(), 0u);
    poster.join();
  });
}

TEST(Remote, NoDescriptorForTheEventfdIsAnError) {
  testing::ExpectChildSucceeds([] {
    Ring ring = MakeRing();
    testing::MakeEventfdFail(EMFILE);
    const auto remote = ring.CreateRemote({.eventfd = true});
    EXPECT_EQ(remote.error(), std::errc::too_many_files_open);
  });
}

// Rings that are created disabled.

class EnableTest : public ::testing::TestWithParam<Kind> {
 protected:
  Ring MakeDisabled() {
    return MakeRing({.setup_flags = GetParam().setup_flags, .disabled = true});
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, EnableTest,
                         ::testing::Values(Kind{"Best", std::nullopt},
                                           Kind{"Plain", 0u},
                                           Kind{"SqPoll", IORING_SETUP_SQPOLL}),
                         NameOf);

TEST_P(EnableTest, CreatedHereRunThereDestroyedThere) {
  Ring ring = MakeDisabled();
  std::thread([ring = std::move(ring)]() mutable {
    const auto enabled = ring.Enable();
    ASSERT_TRUE(enabled) << enabled.error().message();
    EXPECT_TRUE(ring.Wait(ring.Nop()));
    const Ring ending(std::move(ring));
  }).join();
}

TEST_P(EnableTest, CreatedHereRunThereDestroyedHere) {
  Ring ring = MakeDisabled();
  std::optional<Operation<Result<void>>> kept;
  std::thread([&] {
    ASSERT_TRUE(ring.Enable());
    EXPECT_TRUE(ring.Wait(ring.Nop()));
    kept.emplace(ring.Timeout(std::chrono::hours(1)));
    EXPECT_TRUE(ring.Submit());
  }).join();
  { const Ring ending(std::move(ring)); }
  ASSERT_TRUE(kept->done());
  EXPECT_EQ(std::move(*kept).Take().error(), std::errc::operation_canceled);
  EXPECT_EQ(BuriedOperations(), 0u);
}

TEST_P(EnableTest, RemotesCanBeMadeBefore) {
  Ring ring = MakeDisabled();
  const Remote remote = ring.CreateRemote().value();
  bool early = false;
  bool late = false;
  EXPECT_TRUE(remote.Post([&] { early = true; }));
  std::thread thread([&] {
    ASSERT_TRUE(ring.Enable());
    while (!late) ASSERT_TRUE(ring.Dispatch());
    const Ring ending(std::move(ring));
  });
  std::this_thread::sleep_for(milliseconds(10));
  EXPECT_TRUE(remote.Post([&] {
    EXPECT_TRUE(early);
    late = true;
  }));
  thread.join();
  EXPECT_TRUE(late);
}

TEST_P(EnableTest, NeverEnabled) {
  const Ring ring = MakeDisabled();
  EXPECT_NE(ring.setup_flags() & IORING_SETUP_R_DISABLED, 0u);
}

// Threads that end before their rings.

class ThreadEndTest : public ::testing::TestWithParam<Kind> {
 protected:
  Ring Make() { return MakeRing({.setup_flags = GetParam().setup_flags}); }
};

INSTANTIATE_TEST_SUITE_P(
    Kinds, ThreadEndTest,
    ::testing::Values(Kind{"Best", std::nullopt}, Kind{"Plain", 0u},
                      Kind{"SingleIssuer", IORING_SETUP_SINGLE_ISSUER},
                      Kind{"SqPoll", IORING_SETUP_SQPOLL}),
    NameOf);

// What the ring's thread left in flight when it ended.
struct Left {
  std::optional<Ring> ring;
  std::vector<Operation<Transfer<Tracked>>> reads;
};

TEST_P(ThreadEndTest, EndsWhatIsInFlight) {
  const Pipe pipe;
  const auto out = Descriptor::Adopt(pipe.write_end);
  std::byte memory[4][8] = {};
  Arena arenas[] = {
      {memory[0], 8}, {memory[1], 8}, {memory[2], 8}, {memory[3], 8}};
  const auto releases = [&] {
    int sum = 0;
    for (const Arena& arena : arenas) sum += arena.releases;
    return sum;
  };
  Left left;
  std::thread([&] {
    left.ring.emplace(Make());
    const auto in = Descriptor::Adopt(pipe.read_end);
    left.reads.push_back(left.ring->Read(in, Tracked(arenas[0])));
    left.reads.push_back(left.ring->Read(in, Tracked(arenas[1]),
                                         kCurrentPosition, {.async = true}));
    left.ring->Read(in, Tracked(arenas[2])).Detach();
    EXPECT_TRUE(left.ring->Submit());
    left.reads.push_back(left.ring->Read(in, Tracked(arenas[3])));
  }).join();
  // The kernel has none of it any more.
  EXPECT_EQ(releases(), 1);
  EXPECT_TRUE(left.reads.front().done());
  // Nobody is left who could take it.
  std::signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(::write(out.number(), "abcdefgh", 8), -1);
  EXPECT_EQ(errno, EPIPE);
  left.ring.reset();
  for (auto& read : left.reads) {
    ASSERT_TRUE(read.done());
    EXPECT_EQ(std::move(read).Take().result.error(),
              std::errc::operation_canceled);
  }
  EXPECT_EQ(releases(), 4);
  EXPECT_EQ(memory[0][0], std::byte{0});
  EXPECT_EQ(BuriedOperations(), 0u);
}

TEST_P(ThreadEndTest, ThreadLocalRings) {
  const Pipe pipe;
  const auto out = Descriptor::Adopt(pipe.write_end);
  std::byte memory[8] = {};
  Arena arena{memory, sizeof(memory)};
  std::thread([&] {
    static thread_local std::optional<Ring> ring;
    ring.emplace(Make());
    ring->Read(Descriptor::Adopt(pipe.read_end), Tracked(arena)).Detach();
    EXPECT_TRUE(ring->Submit());
  }).join();
  EXPECT_EQ(arena.releases, 1);
}

TEST_P(ThreadEndTest, ThreadLocalObjectsMayWaitAtTheirEnd) {
  struct Waiting {
    std::optional<Ring> ring;
    std::optional<Operation<Result<void>>> timeout;
    bool* succeeded = nullptr;
    ~Waiting() {
      if (timeout) *succeeded = ring->Wait(std::move(*timeout)).has_value();
    }
  };
  bool succeeded = false;
  std::thread([&] {
    static thread_local Waiting waiting;
    waiting.ring.emplace(Make());
    waiting.timeout.emplace(waiting.ring->Timeout(milliseconds(5)));
    waiting.succeeded = &succeeded;
    EXPECT_TRUE(waiting.ring->Submit());
  }).join();
  EXPECT_TRUE(succeeded);
}

TEST_P(ThreadEndTest, CallbacksAreDestroyedUnrun) {
  Arena arena = {};
  std::optional<Ring> ring;
  std::thread([&] {
    ring.emplace(Make());
    ring->Nop().Then(
        [tracked = Tracked(arena)](Result<void>) { ADD_FAILURE(); });
    EXPECT_TRUE(ring->Submit());
  }).join();
  EXPECT_EQ(arena.releases, 0);
  ring.reset();
  EXPECT_EQ(arena.releases, 1);
}

TEST_P(ThreadEndTest, ARegisteredDescriptorIsNotMistakenForAnothers) {
  // Each ring is number 0 of its thread.
  Ring here = MakeRing();
  std::optional<Ring> there;
  std::thread([&] { there.emplace(Make()); }).join();
  there.reset();
  EXPECT_TRUE(here.Wait(here.Nop()));
}

TEST_P(ThreadEndTest, RingsCanOutliveManyThreads) {
  std::vector<Ring> rings;
  for (int i = 0; i < 8; ++i) {
    std::thread([&] {
      rings.push_back(
          MakeRing({.entries = 4, .setup_flags = GetParam().setup_flags}));
      rings.back().Timeout(std::chrono::hours(1)).Detach();
      EXPECT_TRUE(rings.back().Submit());
    }).join();
  }
  rings.clear();
  EXPECT_EQ(BuriedOperations(), 0u);
}

TEST(ThreadEnd, WhatAnOperationOwnsMayEndAnotherRing) {
  const Pipe pipe;
  const auto out = Descriptor::Adopt(pipe.write_end);
  std::optional<Ring> ring;
  std::weak_ptr<Ring> other;
  std::thread([&] {
    ring.emplace(MakeRing({.entries = 4}));
    OwnsRing owned{std::make_shared<Ring>(MakeRing({.entries = 4}))};
    owned.ring->Timeout(std::chrono::hours(1)).Detach();
    EXPECT_TRUE(owned.ring->Submit());
    other = owned.ring;
    ring->Read(Descriptor::Adopt(pipe.read_end), std::move(owned)).Detach();
    EXPECT_TRUE(ring->Submit());
  }).join();
  EXPECT_TRUE(other.expired());
  ring.reset();
  EXPECT_EQ(BuriedOperations(), 0u);
}

TEST(ThreadEnd, WhatCannotBeEndedThenIsBuried) {
  testing::ExpectChildSucceeds([] {
    const Pipe pipe;
    std::byte memory[8] = {};
    Arena arena{memory, sizeof(memory)};
    std::optional<Ring> ring;
    std::optional<Operation<Transfer<Tracked>>> read;
    std::thread([&] {
      ring.emplace(MakeRing());
      read.emplace(
          ring->Read(Descriptor::Adopt(pipe.read_end), Tracked(arena)));
      EXPECT_TRUE(ring->Submit());
      testing::MakeEnterFail(EPERM);  // in this thread
    }).join();
    EXPECT_FALSE(read->done());
    ring.reset();
    EXPECT_EQ(BuriedOperations(), 1u);
    EXPECT_FALSE(read->done());
    read.reset();
    EXPECT_EQ(arena.releases, 0);
  });
}

// Rings that are not tied to their first thread.

class TakeOverTest : public ::testing::TestWithParam<Kind> {
 protected:
  Ring Make() { return MakeRing({.setup_flags = GetParam().setup_flags}); }
};

INSTANTIATE_TEST_SUITE_P(Kinds, TakeOverTest,
                         ::testing::Values(Kind{"Plain", 0u},
                                           Kind{"CoopTaskrun",
                                                IORING_SETUP_COOP_TASKRUN |
                                                    IORING_SETUP_TASKRUN_FLAG},
                                           Kind{"SqPoll", IORING_SETUP_SQPOLL}),
                         NameOf);

TEST_P(TakeOverTest, OperationsGoOnWhileTheirThreadLives) {
  const Pipe pipe;
  const auto out = Descriptor::Adopt(pipe.write_end);
  std::optional<Ring> ring;
  std::optional<Operation<Transfer<std::string>>> read;
  std::promise<void> started, finished;
  std::thread first([&] {
    ring.emplace(Make());
    read.emplace(
        ring->Read(Descriptor::Adopt(pipe.read_end), std::string(3, ' ')));
    EXPECT_TRUE(ring->Submit());
    started.set_value();
    finished.get_future().wait();
  });
  started.get_future().wait();
  ring->TakeOver();
  EXPECT_EQ(::write(out.number(), "abc", 3), 3);
  EXPECT_EQ(ring->Wait(std::move(*read)).buffer, "abc");
  ring.reset();
  finished.set_value();
  first.join();
}

// Had the ring stayed that thread's, its end would have cancelled them.
TEST_P(TakeOverTest, OperationsOfAThreadThatEndsAreSurvived) {
  const Pipe pipe;
  const auto out = Descriptor::Adopt(pipe.write_end);
  std::byte memory[2][8] = {};
  Arena arenas[] = {{memory[0], 8}, {memory[1], 8}};
  std::optional<Ring> ring;
  std::optional<Operation<Transfer<Tracked>>> read, worker_read;
  std::optional<Operation<Result<void>>> timeout;
  std::promise<void> started, taken;
  std::thread first([&] {
    ring.emplace(Make());
    const auto in = Descriptor::Adopt(pipe.read_end);
    read.emplace(ring->Read(in, Tracked(arenas[0])));
    worker_read.emplace(
        ring->Read(in, Tracked(arenas[1]), kCurrentPosition, {.async = true}));
    timeout.emplace(ring->Timeout(milliseconds(30)));
    EXPECT_TRUE(ring->Submit());
    started.set_value();
    taken.get_future().wait();
  });
  started.get_future().wait();
  ring->TakeOver();
  taken.set_value();
  first.join();
  EXPECT_EQ(arenas[0].releases + arenas[1].releases, 0);
  EXPECT_TRUE(ring->Wait(std::move(*timeout)));
  EXPECT_TRUE(ring->Wait(ring->Nop()));
  EXPECT_EQ(::write(out.number(), "abcdefghabcdefgh", 16), 16);
  for (auto* const each : {&*read, &*worker_read}) {
    const auto result = ring->Wait(std::move(*each)).result;
    if (GetParam().setup_flags == IORING_SETUP_SQPOLL) {
      EXPECT_EQ(result.value(), 8u);  // they are the kernel's thread's
    } else {
      EXPECT_EQ(result.error(), std::errc::operation_canceled);
      EXPECT_EQ(memory[0][0], std::byte{0});
      EXPECT_EQ(memory[1][0], std::byte{0});
    }
  }
  ring.reset();
  EXPECT_EQ(BuriedOperations(), 0u);
}

TEST_P(TakeOverTest, DestroyedWithOperationsOfAThreadThatEnded) {
  const Pipe pipe;
  std::byte memory[2][8] = {};
  Arena arenas[] = {{memory[0], 8}, {memory[1], 8}};
  std::optional<Ring> ring;
  std::promise<void> started, taken;
  std::thread first([&] {
    ring.emplace(Make());
    const auto in = Descriptor::Adopt(pipe.read_end);
    ring->Read(in, Tracked(arenas[0])).Detach();
    ring->Read(in, Tracked(arenas[1]), kCurrentPosition, {.async = true})
        .Detach();
    ring->Timeout(std::chrono::hours(1)).Detach();
    EXPECT_TRUE(ring->Submit());
    started.set_value();
    taken.get_future().wait();
  });
  started.get_future().wait();
  ring->TakeOver();
  taken.set_value();
  first.join();
  ring.reset();
  EXPECT_EQ(arenas[0].releases, 1);
  EXPECT_EQ(arenas[1].releases, 1);
  EXPECT_EQ(BuriedOperations(), 0u);
}

TEST_P(TakeOverTest, PostsReachTheNewThread) {
  for (const bool eventfd : {false, true}) {
    Ring ring = Make();
    const Remote remote = ring.CreateRemote({.eventfd = eventfd}).value();
    // The event is being polled.
    EXPECT_EQ(ring.Dispatch(milliseconds(1)).value(), 0u);
    bool ran = false;
    std::thread second([&] {
      ring.TakeOver();
      while (!ran) ASSERT_TRUE(ring.Dispatch());
      const Ring ending(std::move(ring));
    });
    std::this_thread::sleep_for(milliseconds(10));
    EXPECT_TRUE(remote.Post([&] { ran = true; }));
    second.join();
  }
}

// Misuse.

void InAnotherThread(const std::function<void()>& misuse) {
  std::thread(misuse).join();
}

TEST(SafeThreadsDeathTest, MisuseIsNamed) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const std::pair<const char*, std::function<void(Ring&)>> kMisuses[] = {
      {"Nop", [](Ring& ring) { (void)ring.Nop(); }},
      {"Start", [](Ring& ring) { ring.Open("/", 0).Detach(); }},
      {"Submit", [](Ring& ring) { (void)ring.Submit(); }},
      {"Dispatch", [](Ring& ring) { (void)ring.Dispatch(); }},
      {"in_flight", [](Ring& ring) { (void)ring.in_flight(); }},
      {"unknown_completions",
       [](Ring& ring) { (void)ring.unknown_completions(); }},
      {"CreateRemote", [](Ring& ring) { (void)ring.CreateRemote(); }},
      {"~Ring", [](Ring& ring) { const Ring ending(std::move(ring)); }},
  };
  for (const auto& [name, misuse] : kMisuses) {
    for (const std::optional<std::uint32_t> flags :
         {std::optional<std::uint32_t>(), std::optional<std::uint32_t>(0u)}) {
      EXPECT_DEATH(
          {
            Ring ring = MakeRing({.setup_flags = flags});
            InAnotherThread([&, &use = misuse] { use(ring); });
          },
          "a thread that it does not belong to")
          << name;
    }
    if (std::string(name) == "~Ring" || std::string(name) == "CreateRemote") {
      continue;
    }
    EXPECT_DEATH(
        {
          Ring ring = MakeRing({.disabled = true});
          misuse(ring);
        },
        "before Enable\\(\\)")
        << name;
  }
  const std::pair<const char*,
                  std::function<void(Ring&, Operation<Result<void>>)>>
      kHandleMisuses[] = {
          {"Wait",
           [](Ring& ring, auto nop) { (void)ring.Wait(std::move(nop)); }},
          {"drop",
           [](Ring&, auto nop) { const auto dropped = std::move(nop); }},
          {"Detach", [](Ring&, auto nop) { std::move(nop).Detach(); }},
          {"Then",
           [](Ring&, auto nop) { std::move(nop).Then([](Result<void>) {}); }},
          {"Cancel", [](Ring& ring, auto nop) { ring.Cancel(nop).Detach(); }},
      };
  for (const auto& [name, misuse] : kHandleMisuses) {
    EXPECT_DEATH(
        {
          Ring ring = MakeRing();
          auto nop = ring.Nop();
          InAnotherThread([&, &use = misuse] { use(ring, std::move(nop)); });
        },
        "a thread that it does not belong to")
        << name;
  }
  EXPECT_DEATH(
      {
        Ring ring = MakeRing();
        (void)ring.Enable();
      },
      "Enable\\(\\) of a ring that is enabled");
  EXPECT_DEATH(
      {
        Ring ring = MakeRing({.setup_flags = IORING_SETUP_SINGLE_ISSUER});
        ring.TakeOver();
      },
      "TakeOver\\(\\) of a ring with IORING_SETUP_SINGLE_ISSUER");
  EXPECT_DEATH(
      {
        Ring ring = MakeRing();
        Remote remote = ring.CreateRemote().value();
        const Remote moved = std::move(remote);
        (void)remote.Post([] {});
      },
      "moved from");
  // The thread that a ring was taken from is another thread.
  EXPECT_DEATH(
      {
        Ring ring = MakeRing({.setup_flags = 0u});
        InAnotherThread([&] { ring.TakeOver(); });
        (void)ring.Nop();
      },
      "a thread that it does not belong to");
}

}  // namespace
}  // namespace escrow::safe
