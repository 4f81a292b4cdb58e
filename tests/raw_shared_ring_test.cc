#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/raw/ops.h"
#include "escrow/raw/shared_queues.h"
#include "escrow/raw/shared_ring.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

using testing::Pipe;
using testing::TemporaryFile;

std::unique_ptr<SharedRing> MakeShared(const SharedRingOptions& options = {
                                           .entries = 8}) {
  auto ring = testing::CreatePatiently(
      [&options] { return SharedRing::Create(options); });
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

// All that there are, or at most as many.
std::vector<SharedCompletion> Take(SharedRing& ring, std::size_t most = 64) {
  std::vector<SharedCompletion> completions(most);
  completions.resize(ring.Reap(completions));
  return completions;
}

std::vector<std::uint64_t> UserData(
    const std::vector<SharedCompletion>& completions) {
  std::vector<std::uint64_t> values;
  for (const SharedCompletion& completion : completions) {
    values.push_back(completion.user_data);
  }
  return values;
}

template <typename Op>
int ResultOf(SharedRing& ring, const Op& op) {
  EXPECT_TRUE(ring.TryPush(op, /*user_data=*/99));
  EXPECT_EQ(*ring.Submit(), 1u);
  EXPECT_TRUE(ring.Wait(1));
  const auto completions = Take(ring);
  EXPECT_EQ(UserData(completions), (std::vector<std::uint64_t>{99}));
  return completions.empty() ? -1 : completions[0].result;
}

// G1, P1: all entries are free, each of them once, and nothing is there.
TEST(RawSharedRing, SetUp) {
  const auto ring = MakeShared({.entries = 6, .completion_entries = 32});
  EXPECT_EQ(ring->available(), 8u);
  EXPECT_EQ(ring->prepared(), 0u);
  EXPECT_EQ(ring->ready(), 0u);
  EXPECT_EQ(ring->in_flight(), 0u);
  std::array<SharedRing::Entry, 9> entries;
  EXPECT_EQ(ring->Take(entries), 8u);
  std::set<io_uring_sqe*> different;
  for (const auto& entry : entries) {
    if (entry) different.insert(entry.sqe());
  }
  EXPECT_EQ(different.size(), 8u);
}

// G1, P14: what is refused, and by what name.
TEST(RawSharedRing, SetUpErrors) {
  EXPECT_EQ(SharedRing::Create({.entries = 0}).error().message(),
            "io_uring_setup: Invalid argument");
  for (const std::uint32_t flag :
       {IORING_SETUP_NO_SQARRAY, IORING_SETUP_SINGLE_ISSUER,
        IORING_SETUP_COOP_TASKRUN, IORING_SETUP_CQE32, IORING_SETUP_SQE128,
        IORING_SETUP_IOPOLL, IORING_SETUP_R_DISABLED}) {
    EXPECT_EQ(SharedRing::Create({.entries = 8, .setup_flags = flag}).error(),
              std::errc::invalid_argument)
        << flag;
  }
  const int before = testing::OpenDescriptors();
  EXPECT_FALSE(SharedRing::Create({.entries = 1u << 20}));
  EXPECT_EQ(testing::OpenDescriptors(), before);
}

// P2, P3, P4, P7, P8, P9, G3, G5: the counters at every step of a round trip.
TEST(RawSharedRing, CountersOfARoundTrip) {
  const auto ring = MakeShared({.entries = 32});
  EXPECT_EQ(ring->available(), 32u);
  SharedRing::Entry entry = ring->Take();
  ASSERT_TRUE(entry);
  EXPECT_EQ(ring->available(), 31u);
  EXPECT_EQ(ring->prepared(), 0u);
  EXPECT_EQ(ring->in_flight(), 1u);
  entry.Fill(Nop{}, 5);
  entry.Publish();
  EXPECT_FALSE(entry);
  EXPECT_EQ(ring->available(), 31u);
  EXPECT_EQ(ring->prepared(), 1u);
  EXPECT_EQ(*ring->Submit(), 1u);
  EXPECT_EQ(ring->available(), 32u);
  EXPECT_EQ(ring->prepared(), 0u);
  EXPECT_EQ(*ring->Wait(1), 0u);
  EXPECT_EQ(ring->ready(), 1u);
  EXPECT_EQ(ring->in_flight(), 1u);
  EXPECT_EQ(Take(*ring), (std::vector<SharedCompletion>{{5, 0, 0}}));
  EXPECT_EQ(ring->ready(), 0u);
  EXPECT_EQ(ring->in_flight(), 0u);
  EXPECT_EQ(*ring->Submit(), 0u);
}

// P5, P10: portions of none, one, some, and more than there are.
TEST(RawSharedRing, Portions) {
  const auto ring = MakeShared({.entries = 8});
  EXPECT_EQ(ring->Take(std::span<SharedRing::Entry>()), 0u);
  ring->Publish({});
  EXPECT_EQ(ring->available(), 8u);
  EXPECT_EQ(ring->Reap({}), 0u);

  std::array<SharedRing::Entry, 12> entries;
  EXPECT_EQ(ring->Take(std::span(entries).first(1)), 1u);
  EXPECT_EQ(ring->Take(std::span(entries).subspan(1)), 7u);
  EXPECT_FALSE(entries[8]);
  EXPECT_FALSE(ring->Take());
  for (std::uint64_t i = 0; i < 8; ++i) entries[i].Fill(Nop{}, i);
  ring->Publish(std::span(entries).first(3));
  ring->Publish(std::span(entries).subspan(3, 5));
  EXPECT_EQ(*ring->Submit(), 8u);
  EXPECT_EQ(ring->Reap({}), 0u);
  EXPECT_EQ(UserData(Take(*ring, 1)), (std::vector<std::uint64_t>{0}));
  EXPECT_EQ(UserData(Take(*ring, 3)), (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_EQ(UserData(Take(*ring)), (std::vector<std::uint64_t>{4, 5, 6, 7}));
  EXPECT_TRUE(Take(*ring).empty());
}

// P5: more at a time than what is taken at once inside.
TEST(RawSharedRing, LargePortion) {
  const auto ring = MakeShared({.entries = 256});
  std::vector<SharedRing::Entry> entries(300);
  EXPECT_EQ(ring->Take(entries), 256u);
  for (std::uint64_t i = 0; i < 256; ++i) entries[i].Fill(Nop{}, i);
  ring->Publish(std::span(entries).first(256));
  EXPECT_EQ(*ring->Submit(), 256u);
  std::vector<std::uint64_t> expected(256);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(UserData(Take(*ring, 300)), expected);
}

// P6, P14: entries are held in any order, for any time, and block nobody.
TEST(RawSharedRing, HeldEntriesAreOutOfTheWay) {
  const auto ring = MakeShared({.entries = 4});
  SharedRing::Entry held = ring->Take();
  SharedRing::Entry other = ring->Take();
  held.Fill(Nop{}, 1000);
  const io_uring_sqe* const sqe = held.sqe();
  for (std::uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(ring->TryPush(Nop{}, i));
    ASSERT_EQ(*ring->Submit(), 1u);
    ASSERT_EQ(UserData(Take(*ring)), (std::vector<std::uint64_t>{i}));
  }
  EXPECT_EQ(held.sqe(), sqe);
  EXPECT_EQ(held.sqe()->user_data, 1000u);
  other.Fill(Nop{}, 2000);
  other.Publish();
  held.Publish();
  EXPECT_EQ(*ring->Submit(), 2u);
  EXPECT_EQ(UserData(Take(*ring)), (std::vector<std::uint64_t>{2000, 1000}));
}

// G4: an entry that was not filled is harmless, whatever was in it before.
TEST(RawSharedRing, UnfilledIsANop) {
  const auto ring = MakeShared({.entries = 1});
  const Pipe pipe;
  ASSERT_TRUE(ring->TryPush(
      Write{.fd = pipe.write_end, .buffer = "x", .length = 1}, 1));
  EXPECT_EQ(*ring->Submit(), 1u);
  EXPECT_TRUE(ring->Wait(1));
  EXPECT_EQ(Take(*ring)[0].result, 1);
  ring->Take().Publish();
  EXPECT_EQ(*ring->Submit(), 1u);
  EXPECT_EQ(Take(*ring), (std::vector<SharedCompletion>{{}}));
  close(pipe.read_end);
  close(pipe.write_end);
}

// P14: an entry that is taken and not published is not lost.
TEST(RawSharedRing, GivenUpIsReturned) {
  const auto ring = MakeShared({.entries = 4});
  for (int round = 0; round < 3; ++round) {
    {
      std::array<SharedRing::Entry, 4> entries;
      ASSERT_EQ(ring->Take(entries), 4u);
      entries[0].Fill(Nop{}, 7);
      SharedRing::Entry moved = std::move(entries[1]);
      EXPECT_FALSE(entries[1]);
      moved = std::move(entries[2]);
      EXPECT_EQ(ring->in_flight(), 3u);  // what `moved` had is given up
    }
    EXPECT_EQ(ring->in_flight(), 0u);
    EXPECT_EQ(ring->prepared(), 4u);
    EXPECT_FALSE(ring->Take());
    EXPECT_EQ(*ring->Submit(), 4u);
    EXPECT_EQ(ring->available(), 4u);
    EXPECT_EQ(ring->ready(), 0u);
  }
}

// G13, P8: who publishes decides nothing; who submits takes all.
TEST(RawSharedRing, SubmitsForOthers) {
  const auto ring = MakeShared();
  std::thread([&ring] { ASSERT_TRUE(ring->TryPush(Nop{}, 1)); }).join();
  std::thread([&ring] { ASSERT_TRUE(ring->TryPush(Nop{}, 2)); }).join();
  EXPECT_EQ(*ring->Submit(), 2u);
  std::vector<std::uint64_t> seen;
  std::thread([&] { seen = UserData(Take(*ring, 1)); }).join();
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{1}));
  EXPECT_EQ(UserData(Take(*ring)), (std::vector<std::uint64_t>{2}));
}

// G13: as many in flight as their completions have room for, and no more.
TEST(RawSharedRing, NoMoreThanCompletionsHaveRoomFor) {
  const auto ring = MakeShared({.entries = 4, .completion_entries = 8});
  std::uint64_t pushed = 0;
  while (pushed < 20 && ring->TryPush(Nop{}, pushed)) {
    ++pushed;
    ASSERT_EQ(*ring->Submit(), 1u);
  }
  EXPECT_EQ(pushed, 8u);
  EXPECT_EQ(ring->in_flight(), 8u);
  EXPECT_FALSE(ring->cq_has_overflow());
  EXPECT_EQ(ring->available(), 4u);
  EXPECT_EQ(Take(*ring, 3).size(), 3u);
  std::array<SharedRing::Entry, 8> entries;
  EXPECT_EQ(ring->Take(entries), 3u);
}

TEST(RawSharedRing, MostInFlight) {
  const auto ring = MakeShared({.entries = 8, .most_in_flight = 3});
  std::array<SharedRing::Entry, 8> entries;
  EXPECT_EQ(ring->Take(entries), 3u);
  EXPECT_FALSE(ring->Take());
  const auto more = MakeShared({.entries = 2, .most_in_flight = 1000});
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(more->TryPush(Nop{}, 0));
    ASSERT_EQ(*more->Submit(), 1u);
  }
  EXPECT_FALSE(more->Take());
}

// G13: a request with many completions is one, until its last.
TEST(RawSharedRing, MultishotIsOneUntilItsLast) {
  const auto ring = MakeShared({.entries = 4, .most_in_flight = 1});
  const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  SharedRing::Entry entry = ring->Take();
  io_uring_prep_poll_multishot(entry.sqe(), event, POLLIN);
  entry.sqe()->user_data = 3;
  entry.Publish();
  ASSERT_EQ(*ring->Submit(), 1u);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(eventfd_write(event, 1), 0);
    ASSERT_TRUE(ring->Wait(1));
    const auto completions = Take(*ring);
    ASSERT_EQ(completions.size(), 1u);
    EXPECT_TRUE(completions[0].more());
    EXPECT_FALSE(ring->Take());
    EXPECT_EQ(ring->in_flight(), 1u);
  }
  io_uring_sync_cancel_reg cancel = {};
  cancel.addr = 3;
  cancel.fd = -1;
  cancel.timeout = {.tv_sec = -1, .tv_nsec = -1};
  ASSERT_EQ(io_uring_register_sync_cancel(ring->ring().get(), &cancel), 0);
  ASSERT_TRUE(ring->Wait(1));
  const auto completions = Take(*ring);
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_EQ(completions[0].result, -ECANCELED);
  EXPECT_FALSE(completions[0].more());
  EXPECT_EQ(ring->in_flight(), 0u);
  EXPECT_TRUE(ring->Take());
  close(event);
}

// P12: what did not fit is kept, and comes.
TEST(RawSharedRing, OverflowIsKept) {
  const auto ring = MakeShared({.entries = 4, .completion_entries = 4});
  // Posts to itself, which no count knows of.
  const int fd = ring->ring().get()->ring_fd;
  for (std::uint64_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(
        ring->TryPush(MsgRing{.ring = fd, .result = 1, .data = i}, 100 + i));
  }
  ASSERT_EQ(*ring->Submit(), 4u);
  EXPECT_TRUE(ring->cq_has_overflow());
  EXPECT_EQ(ring->ready(), 4u);
  std::vector<std::uint64_t> seen = UserData(Take(*ring));
  EXPECT_EQ(seen.size(), 4u);
  ASSERT_TRUE(ring->Flush());
  EXPECT_FALSE(ring->cq_has_overflow());
  for (const std::uint64_t value : UserData(Take(*ring))) seen.push_back(value);
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{0, 1, 2, 3, 100, 101, 102, 103}));
}

// G6, P11: waits for as many, not for what is there.
TEST(RawSharedRing, Waits) {
  const auto ring = MakeShared();
  const __kernel_timespec soon = {.tv_sec = 0, .tv_nsec = 1000000};
  const EnterResult nothing = ring->WaitTimeout(1, soon);
  EXPECT_FALSE(nothing);
  EXPECT_EQ(nothing.error(), std::errc::stream_timeout);
  EXPECT_EQ(nothing.error().message(), "io_uring_enter: Timer expired");

  const Pipe pipe;
  char buffer[2];
  ASSERT_TRUE(ring->TryPush(
      Read{.fd = pipe.read_end, .buffer = buffer, .length = 1}, 1));
  ASSERT_TRUE(ring->TryPush(Nop{}, 2));
  ASSERT_EQ(*ring->Submit(), 2u);
  EXPECT_TRUE(ring->Wait(1));
  EXPECT_TRUE(ring->WaitTimeout(2, soon));  // there is one
  EXPECT_EQ(ring->ready(), 1u);
  std::thread writer([&pipe] { ASSERT_EQ(write(pipe.write_end, "x", 1), 1); });
  EXPECT_TRUE(ring->Wait(2));
  writer.join();
  EXPECT_EQ(UserData(Take(*ring)), (std::vector<std::uint64_t>{2, 1}));
  EXPECT_TRUE(ring->Wait(0));
  close(pipe.read_end);
  close(pipe.write_end);
}

// P11: every waiter is woken, whoever of them is served.
TEST(RawSharedRing, WaitersOfOneEach) {
  const auto ring = MakeShared();
  const Pipe pipe;
  char buffers[2];
  for (std::uint64_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(ring->TryPush(
        Read{.fd = pipe.read_end, .buffer = &buffers[i], .length = 1}, i));
  }
  ASSERT_EQ(*ring->Submit(), 2u);
  std::atomic<int> reaped = 0;
  std::vector<std::thread> reapers;
  for (int i = 0; i < 2; ++i) {
    reapers.emplace_back([&] {
      SharedCompletion completion;
      while (ring->Reap(std::span(&completion, 1)) == 0) {
        EXPECT_TRUE(ring->Wait(1));
      }
      ++reaped;
    });
  }
  ASSERT_EQ(write(pipe.write_end, "x", 1), 1);
  ASSERT_EQ(write(pipe.write_end, "y", 1), 1);
  for (std::thread& reaper : reapers) reaper.join();
  EXPECT_EQ(reaped, 2);
  close(pipe.read_end);
  close(pipe.write_end);
}

// P8: the kernel's thread is woken when it sleeps, each time.
TEST(RawSharedRing, WakesThePollingThread) {
  const auto ring = MakeShared({.entries = 4,
                                .sq_thread_idle_ms = 1,
                                .setup_flags = IORING_SETUP_SQPOLL});
  for (std::uint64_t i = 0; i < 5; ++i) {
    while (!ring->sq_needs_wakeup()) std::this_thread::yield();
    ASSERT_TRUE(ring->TryPush(Nop{}, i));
    EXPECT_EQ(*ring->Submit(), 1u);
    const __kernel_timespec enough = {.tv_sec = 10, .tv_nsec = 0};
    ASSERT_TRUE(ring->WaitTimeout(1, enough));
    EXPECT_EQ(UserData(Take(*ring)), (std::vector<std::uint64_t>{i}));
  }
  EXPECT_EQ(*ring->Submit(), 0u);
}

// Chains stay chains, however many submit meanwhile.
TEST(RawSharedRing, BatchesAreNotTornApart) {
  const auto ring = MakeShared({.entries = 16});
  constexpr int kRounds = 2000;
  constexpr int kThreads = 3;
  std::vector<std::thread> threads;
  std::atomic<int> chains = 0;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&ring, &chains] {
      for (int i = 0; i < kRounds;) {
        std::array<SharedRing::Entry, 2> pair;
        const std::size_t taken = ring->Take(pair);
        if (taken == 2) {
          // The first fails, so the second is cancelled, if it is its next.
          pair[0].Fill(Read{.fd = -1, .buffer = nullptr, .length = 0}, 1,
                       IOSQE_IO_LINK);
          pair[1].Fill(Nop{}, 2);
          ring->Publish(pair);
          ++chains;
          ++i;
        } else {
          pair = {};
          std::this_thread::yield();
        }
        EXPECT_TRUE(ring->Submit());
        for (const SharedCompletion& completion : Take(*ring, 8)) {
          EXPECT_EQ(completion.result,
                    completion.user_data == 1 ? -EBADF : -ECANCELED);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(ring->Submit());
  for (const SharedCompletion& completion : Take(*ring, 64)) {
    EXPECT_EQ(completion.result,
              completion.user_data == 1 ? -EBADF : -ECANCELED);
  }
  EXPECT_EQ(ring->in_flight(), 0u);
  EXPECT_EQ(chains, kRounds * kThreads);
}

// G10: results and errors as the kernel has them; an invalid entry is one
// completion, and in nobody's way.
TEST(RawSharedRing, InvalidEntryIsNotInTheWay) {
  const auto ring = MakeShared();
  SharedRing::Entry entry = ring->Take();
  entry.Fill(Nop{}, 1);
  entry.sqe()->opcode = 255;
  entry.Publish();
  ASSERT_TRUE(ring->TryPush(Nop{}, 2));
  EXPECT_EQ(*ring->Submit(), 2u);
  const auto completions = Take(*ring);
  ASSERT_EQ(completions.size(), 2u);
  EXPECT_EQ(completions[0], (SharedCompletion{1, -EINVAL, 0}));
  EXPECT_EQ(completions[1], (SharedCompletion{2, 0, 0}));
}

// G9: the operations of that list, as any.
TEST(RawSharedRing, Operations) {
  const auto ring = MakeShared();
  const TemporaryFile file("hello, ring");
  const int fd = file.Open(O_RDWR);
  char buffer[16] = {};
  EXPECT_EQ(ResultOf(*ring, Nop{}), 0);
  EXPECT_EQ(ResultOf(*ring, Read{.fd = fd, .buffer = buffer, .length = 5}), 5);
  EXPECT_EQ(std::string(buffer), "hello");
  EXPECT_EQ(ResultOf(*ring, Write{.fd = fd, .buffer = "HELLO", .length = 5}),
            5);
  EXPECT_EQ(ResultOf(*ring, Fsync{.fd = fd}), 0);
  EXPECT_EQ(ResultOf(*ring, Read{.fd = -1, .buffer = buffer, .length = 5}),
            -EBADF);
  close(fd);
}

// G11: the ring registers while it is shared, and its operations use that.
TEST(RawSharedRing, Registers) {
  const auto ring = MakeShared();
  alignas(4096) static std::array<char, 4096> block;
  const iovec memory = {.iov_base = block.data(), .iov_len = block.size()};
  ASSERT_EQ(io_uring_register_buffers(ring->ring().get(), &memory, 1), 0);
  const TemporaryFile file("hello, ring");
  const int fd = file.Open(O_RDONLY);
  ASSERT_EQ(io_uring_register_files(ring->ring().get(), &fd, 1), 0);
  SharedRing::Entry entry = ring->Take();
  io_uring_prep_read_fixed(entry.sqe(), 0, block.data(), 11, 0, 0);
  entry.sqe()->flags |= IOSQE_FIXED_FILE;
  entry.Publish();
  ASSERT_EQ(*ring->Submit(), 1u);
  ASSERT_TRUE(ring->Wait(1));
  EXPECT_EQ(Take(*ring)[0].result, 11);
  EXPECT_EQ(std::string(block.data(), 11), "hello, ring");
  EXPECT_EQ(io_uring_unregister_files(ring->ring().get()), 0);
  EXPECT_EQ(io_uring_unregister_buffers(ring->ring().get()), 0);
  close(fd);
}

// G8: completions are signalled to an eventfd, or not.
TEST(RawSharedRing, Eventfd) {
  const auto ring = MakeShared();
  const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  ASSERT_EQ(io_uring_register_eventfd(ring->ring().get(), event), 0);
  eventfd_t count = 0;
  EXPECT_EQ(ResultOf(*ring, Nop{}), 0);
  EXPECT_EQ(eventfd_read(event, &count), 0);
  EXPECT_FALSE(ring->ring().SetCqEventfdEnabled(false));
  EXPECT_EQ(ResultOf(*ring, Nop{}), 0);
  EXPECT_EQ(eventfd_read(event, &count), -1);
  EXPECT_FALSE(ring->ring().SetCqEventfdEnabled(true));
  close(event);
}

// G2, P13: shared by those who use it, and gone with the last.
TEST(RawSharedRing, GoneWithTheLast) {
  const int before = testing::OpenDescriptors();
  std::shared_ptr<SharedRing> submitter = MakeShared();
  std::shared_ptr<SharedRing> reaper = submitter;
  ASSERT_TRUE(submitter->TryPush(Nop{}, 6));
  EXPECT_EQ(*submitter->Submit(), 1u);
  submitter.reset();
  EXPECT_EQ(testing::OpenDescriptors(), before + 1);
  EXPECT_EQ(UserData(Take(*reaper)), (std::vector<std::uint64_t>{6}));
  reaper.reset();
  EXPECT_EQ(testing::OpenDescriptors(), before);
}

// G12: the end of the ring does not wait; the kernel goes on, or gives up.
TEST(RawSharedRing, EndsWithRequestsInFlight) {
  const int before = testing::OpenDescriptors();
  const Pipe pipe;
  static char buffer[1];  // stays
  {
    const auto ring = MakeShared();
    ASSERT_TRUE(ring->TryPush(
        Read{.fd = pipe.read_end, .buffer = buffer, .length = 1}, 1));
    ASSERT_EQ(*ring->Submit(), 1u);
    ASSERT_TRUE(ring->TryPush(Nop{}, 2));  // published, never submitted
    EXPECT_EQ(ring->in_flight(), 2u);
  }
  EXPECT_EQ(testing::OpenDescriptors(), before + 2);
  close(pipe.read_end);
  close(pipe.write_end);
}

// What the header warns of: requests do not outlive the thread that submitted
// them, whoever published them.
TEST(RawSharedRing, RequestsEndWithTheThreadThatSubmitted) {
  const auto ring = MakeShared();
  const Pipe pipe;
  char buffer[1];
  ASSERT_TRUE(ring->TryPush(PollAdd{.fd = pipe.read_end, .events = POLLIN}, 1));
  ASSERT_TRUE(ring->TryPush(
      Read{.fd = pipe.read_end, .buffer = buffer, .length = 1}, 2));
  std::thread([&ring] { ASSERT_EQ(*ring->Submit(), 2u); }).join();
  ASSERT_EQ(write(pipe.write_end, "x", 1), 1);
  const __kernel_timespec enough = {.tv_sec = 5, .tv_nsec = 0};
  ASSERT_TRUE(ring->WaitTimeout(2, enough));
  for (const SharedCompletion& completion : Take(*ring)) {
    EXPECT_LT(completion.result, 0) << completion.user_data;
  }
  EXPECT_EQ(ring->in_flight(), 0u);
  close(pipe.read_end);
  close(pipe.write_end);
}

// P8: an error of a submit leaves everything where it is.
TEST(RawSharedRing, ErrorsOfASubmitLeaveTheEntries) {
  testing::ExpectChildSucceeds([] {
    const auto ring = MakeShared();
    ASSERT_TRUE(ring->TryPush(Nop{}, 1));
    testing::MakeEnterFail(EBUSY, /*to_submit=*/1);
    const EnterResult result = ring->Submit();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error(), std::errc::device_or_resource_busy);
    EXPECT_EQ(result.error().message(),
              "io_uring_enter: Device or resource busy");
    EXPECT_EQ(ring->prepared(), 1u);
    ASSERT_TRUE(ring->TryPush(Nop{}, 2));
    EXPECT_EQ(*ring->Submit(), 2u);
    EXPECT_EQ(UserData(Take(*ring)), (std::vector<std::uint64_t>{1, 2}));
  });
}

// Workers and reapers, in portions of all sizes: every request has its
// completion, once, and what a worker wrote, the reaper sees.
void Stress(const SharedRingOptions& options) {
  constexpr unsigned kWorkers = 3;
  constexpr unsigned kReapers = 2;
  constexpr std::size_t kJobs = 8000;  // of each worker
  struct Job {
    std::uint64_t written = 0;  // by the worker
    std::uint64_t read = 0;     // by the reaper
  };
  const auto ring = MakeShared(options);
  std::vector<Job> jobs(kWorkers * kJobs);
  std::atomic<std::size_t> reaped = 0;
  std::atomic<bool> overflown = false;

  std::vector<std::thread> threads;
  for (unsigned worker = 0; worker < kWorkers; ++worker) {
    threads.emplace_back([&, worker] {
      std::uint32_t random = worker + 1;
      for (std::size_t done = 0; done < kJobs;) {
        random = random * 1664525 + 1013904223;
        std::array<SharedRing::Entry, 5> entries;
        const std::size_t wanted =
            std::min<std::size_t>(1 + (random >> 16) % 5, kJobs - done);
        const std::size_t taken = ring->Take(std::span(entries).first(wanted));
        for (std::size_t i = 0; i < taken; ++i) {
          Job& job = jobs[worker * kJobs + done + i];
          job.written = worker * kJobs + done + i + 1;
          entries[i].Fill(Nop{}, reinterpret_cast<std::uintptr_t>(&job));
        }
        ring->Publish(std::span(entries).first(taken));
        done += taken;
        if ((random >> 20) % 7 == 0) (void)ring->Take();  // given up
        if (taken < wanted || (random >> 24) % 3 == 0) {
          EXPECT_TRUE(ring->Submit());
        }
        if (taken == 0) std::this_thread::yield();
        if (ring->cq_has_overflow()) overflown = true;
      }
      EXPECT_TRUE(ring->Submit());
    });
  }
  for (unsigned reaper = 0; reaper < kReapers; ++reaper) {
    threads.emplace_back([&, reaper] {
      std::array<SharedCompletion, 7> completions;
      while (reaped < jobs.size()) {
        const std::size_t count =
            ring->Reap(std::span(completions).first(1 + reaper * 6));
        for (std::size_t i = 0; i < count; ++i) {
          auto& job = *reinterpret_cast<Job*>(completions[i].user_data);
          EXPECT_EQ(completions[i].result, 0);
          EXPECT_EQ(job.read, 0u);
          job.read = job.written;
        }
        reaped += count;
        if (count == 0) {
          const __kernel_timespec moment = {.tv_sec = 0, .tv_nsec = 1000000};
          (void)ring->WaitTimeout(1, moment);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(reaped, jobs.size());
  for (std::size_t i = 0; i < jobs.size(); ++i) ASSERT_EQ(jobs[i].read, i + 1);
  EXPECT_FALSE(overflown);
  EXPECT_TRUE(ring->Submit());
  EXPECT_EQ(ring->in_flight(), 0u);
  EXPECT_EQ(ring->ready(), 0u);
  if (options.setup_flags == 0) {
    EXPECT_EQ(ring->prepared(), 0u);
    EXPECT_EQ(ring->available(), ring->ring().get()->sq.ring_entries);
    // Each entry once, still.
    std::vector<SharedRing::Entry> entries(ring->ring().get()->sq.ring_entries);
    EXPECT_EQ(ring->Take(entries), entries.size());
    std::set<io_uring_sqe*> different;
    for (const auto& entry : entries) different.insert(entry.sqe());
    EXPECT_EQ(different.size(), entries.size());
  }
}

// G13, P4, P5, P7, P8, P9, P14
TEST(RawSharedRing, Stress) { Stress({.entries = 8}); }

// Everything waits for room in the completion queue.
TEST(RawSharedRing, StressOfATightRing) {
  Stress({.entries = 2, .completion_entries = 2});
}

TEST(RawSharedRing, StressOfAPolledRing) {
  Stress({.entries = 8,
          .sq_thread_idle_ms = 1,
          .setup_flags = IORING_SETUP_SQPOLL});
}

// The queues on memory that no kernel knows, whose counters start anywhere.
struct FakeKernel {
  explicit FakeKernel(unsigned start) {
    sq_head = sq_tail = cq_head = cq_tail = start;
    submission.Init({.head = &sq_head,
                     .tail = &sq_tail,
                     .array = array.data(),
                     .entries = 4,
                     .published = published.data()},
                    /*most_in_flight=*/8);
    completion.Init({.head = &cq_head,
                     .tail = &cq_tail,
                     .entries = reinterpret_cast<io_uring_cqe*>(cqes.data()),
                     .mask = 7});
  }

  // Consumes and completes up to `most`, with the index as user_data.
  void Run(unsigned most) {
    for (; most > 0 && sq_head != sq_tail; --most) {
      ASSERT_LT(cq_tail - cq_head, 8u);
      cqes[cq_tail & 7] = {.user_data = array[sq_head & 3], .rest = 0};
      ++cq_tail;
      ++sq_head;
    }
  }

  void Submit() {
    EXPECT_TRUE(submission.Submit([this](const auto& collected) {
      EXPECT_EQ(collected.pending, sq_tail - sq_head);
      EXPECT_LE(collected.added, collected.pending);
    }));
  }

  void Publish(std::span<const unsigned> indices) {
    EXPECT_FALSE(submission.Publish(
        indices.size(), [indices](std::size_t i) { return indices[i]; }));
  }

  struct Cqe {
    std::uint64_t user_data;
    std::uint64_t rest;
  };
  unsigned sq_head, sq_tail, cq_head, cq_tail;
  std::array<unsigned, 4> array;
  std::array<Cqe, 8> cqes;
  std::array<std::atomic<std::uint64_t>, 4> published;
  SubmissionQueue<StandardMemory> submission;
  CompletionQueue<StandardMemory> completion;
};

class SharedQueuesAt : public ::testing::TestWithParam<unsigned> {};

// P1, P2, P14: indices, counters and portions across the wrap of 32 bits.
TEST_P(SharedQueuesAt, Wrap) {
  FakeKernel kernel(GetParam());
  EXPECT_EQ(kernel.submission.available(), 4u);
  EXPECT_EQ(kernel.submission.prepared(), 0u);
  EXPECT_EQ(kernel.submission.in_flight(), 0u);
  EXPECT_EQ(kernel.completion.ready(), 0u);
  unsigned portion = 0;
  for (int round = 0; round < 50; ++round) {
    portion = portion % 3 + 1;
    std::array<unsigned, 4> indices;
    ASSERT_EQ(kernel.submission.Take(std::span(indices).first(portion)),
              portion);
    kernel.Publish(std::span(indices).first(portion));
    EXPECT_EQ(kernel.submission.prepared(), portion);
    EXPECT_EQ(kernel.submission.available(), 4 - portion);
    kernel.Submit();
    EXPECT_EQ(kernel.sq_tail - kernel.sq_head, portion);
    kernel.Run(portion);
    EXPECT_EQ(kernel.submission.available(), 4u);
    EXPECT_EQ(kernel.completion.ready(), portion);
    std::array<SharedCompletion, 8> completions;
    ASSERT_EQ(kernel.completion.Reap(completions), portion);
    for (unsigned i = 0; i < portion; ++i) {
      EXPECT_EQ(completions[i].user_data, indices[i]);
    }
    EXPECT_EQ(kernel.cq_head, kernel.cq_tail);
    kernel.submission.Complete(portion);
    EXPECT_EQ(kernel.submission.in_flight(), 0u);
  }
}

// Full, and with all in flight that may be, across the wrap.
TEST_P(SharedQueuesAt, FullAcrossTheWrap) {
  FakeKernel kernel(GetParam());
  for (int round = 0; round < 6; ++round) {
    std::array<unsigned, 9> indices;
    for (int half = 0; half < 2; ++half) {
      ASSERT_EQ(kernel.submission.Take(indices), 4u);
      ASSERT_EQ(kernel.submission.Take(indices), 0u);
      std::set<unsigned> different(indices.begin(), indices.begin() + 4);
      EXPECT_EQ(different, (std::set<unsigned>{0, 1, 2, 3}));
      kernel.Publish(std::span(indices).first(4));
      kernel.Submit();
      kernel.Run(4);
    }
    EXPECT_EQ(kernel.submission.Take(indices), 0u);
    EXPECT_EQ(kernel.submission.in_flight(), 8u);
    std::array<SharedCompletion, 16> completions;
    EXPECT_EQ(kernel.completion.Reap(completions), 8u);
    kernel.submission.Complete(8);
  }
}

// What is behind a gap waits, and who closes it is told.
TEST_P(SharedQueuesAt, GapIsClosedByItsOwner) {
  FakeKernel kernel(GetParam());
  std::array<unsigned, 3> indices;
  ASSERT_EQ(kernel.submission.Take(indices), 3u);
  const bool wanted = kernel.submission.Publish(2, [&](std::size_t i) {
    if (i == 0) {
      // Half done: another thread publishes behind it, and submits.
      kernel.Publish(std::span(indices).subspan(2));
      kernel.Submit();
      EXPECT_EQ(kernel.sq_tail, kernel.sq_head);
      kernel.Submit();
    }
    return indices[i];
  });
  EXPECT_TRUE(wanted);
  kernel.Submit();
  EXPECT_EQ(kernel.sq_tail - kernel.sq_head, 3u);
  kernel.Run(3);
  std::array<SharedCompletion, 8> completions;
  ASSERT_EQ(kernel.completion.Reap(completions), 3u);
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(completions[i].user_data, indices[i]);
  }
}

// A submit that is asked for during another is that one's.
TEST_P(SharedQueuesAt, OneSubmitsForAll) {
  FakeKernel kernel(GetParam());
  std::array<unsigned, 2> indices;
  ASSERT_EQ(kernel.submission.Take(indices), 2u);
  kernel.Publish(std::span(indices).first(1));
  std::vector<unsigned> added;
  EXPECT_TRUE(kernel.submission.Submit([&](const auto& collected) {
    added.push_back(collected.added);
    if (added.size() == 1) {
      kernel.Publish(std::span(indices).subspan(1));
      EXPECT_FALSE(kernel.submission.Submit([](const auto&) { FAIL(); }));
      EXPECT_FALSE(kernel.submission.Submit([](const auto&) { FAIL(); }));
    }
  }));
  EXPECT_EQ(added, (std::vector<unsigned>{1, 1}));
}

// P9: the head moves over what is copied, and never back.
TEST_P(SharedQueuesAt, HeadMovesOverWhatIsClaimed) {
  FakeKernel kernel(GetParam());
  std::array<unsigned, 3> indices;
  ASSERT_EQ(kernel.submission.Take(indices), 3u);
  kernel.Publish(indices);
  kernel.Submit();
  kernel.Run(3);
  kernel.completion.GiveBack();
  EXPECT_EQ(kernel.cq_head, GetParam());
  SharedCompletion one;
  for (unsigned i = 1; i <= 3; ++i) {
    EXPECT_EQ(kernel.completion.Reap(std::span(&one, 1)), 1u);
    EXPECT_EQ(kernel.cq_head, GetParam() + i);
  }
  kernel.completion.GiveBack();
  EXPECT_EQ(kernel.cq_head, GetParam() + 3);
}

INSTANTIATE_TEST_SUITE_P(Counters, SharedQueuesAt,
                         ::testing::Values(0u, 5u, 0x7ffffffdu, 0xfffffff0u,
                                           0xfffffffdu, 0xffffffffu));

}  // namespace
}  // namespace escrow::raw
