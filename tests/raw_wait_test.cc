#include <gtest/gtest.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "tests/raw_support.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

using testing::KernelHasSetupFlags;
using testing::MakeRing;
using testing::ResultOf;
using testing::Seen;
using testing::TakeSeen;

constexpr std::uint32_t kDeferred =
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

constexpr __kernel_timespec kSoon = {.tv_sec = 0, .tv_nsec = 1'000'000};
// Longer than a test may take.
constexpr __kernel_timespec kLong = {.tv_sec = 3600, .tv_nsec = 0};

__kernel_timespec SoonOn(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  now.tv_nsec += kSoon.tv_nsec;
  if (now.tv_nsec >= 1'000'000'000) {
    now.tv_nsec -= 1'000'000'000;
    ++now.tv_sec;
  }
  return {.tv_sec = now.tv_sec, .tv_nsec = now.tv_nsec};
}

// While it exists, SIGUSR1 is blocked in this thread, and pending.
class PendingSignal {
 public:
  PendingSignal() {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, &old_action_);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, &old_mask_);
    Raise();
  }
  PendingSignal(const PendingSignal&) = delete;
  PendingSignal& operator=(const PendingSignal&) = delete;
  ~PendingSignal() {
    pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
    sigaction(SIGUSR1, &old_action_, nullptr);
  }

  void Raise() { pthread_kill(pthread_self(), SIGUSR1); }
  // The mask with which it is delivered.
  const sigset_t* open() const { return &old_mask_; }

 private:
  struct sigaction old_action_;
  sigset_t old_mask_;
};

TEST(RawWait, TimesOut) {
  Ring ring = MakeRing();
  EXPECT_EQ(ring.SubmitAndWaitTimeout(1, &kSoon).error(),
            std::errc::stream_timeout);
  EXPECT_EQ(ring.WaitTimeout(1, &kSoon).error(), std::errc::stream_timeout);
  // What was submitted counts, whatever became of the wait.
  ring.Push(Nop{}, 1);
  EXPECT_EQ(*ring.SubmitAndWaitTimeout(2, &kSoon), 1u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}}));
}

TEST(RawWait, DoesNotSubmit) {
  Ring ring = MakeRing();
  ring.Push(Nop{}, 1);
  EXPECT_EQ(ring.WaitTimeout(1, &kSoon).error(), std::errc::stream_timeout);
  EXPECT_EQ(ring.sq_ready(), 1u);
  EXPECT_EQ(*ring.Submit(), 1u);
  EXPECT_EQ(*ring.Wait(1), 0u);
  EXPECT_EQ(*ring.WaitTimeout(1, &kLong), 0u);
  EXPECT_EQ(*ring.WaitTimeout(1, nullptr), 0u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}}));
}

TEST(RawWait, OfManyWaitsForAll) {
  Ring ring = MakeRing();
  const testing::Pipe pipe;
  char byte;
  const __kernel_timespec later = kSoon;
  ring.Push(Nop{}, 1);
  ring.Push(Timeout{.duration = &later}, 2);
  ASSERT_EQ(*ring.Submit(), 2u);
  EXPECT_EQ(*ring.Wait(2), 0u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}, {2, -ETIME}}));
  ring.Push(Read{.fd = pipe.read_end, .buffer = &byte, .length = 1}, 3);
  ring.Push(Timeout{.duration = &later}, 4);
  EXPECT_EQ(*ring.SubmitAndWait(1), 2u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{4, -ETIME}}));
  ring.Push(Cancel{.user_data = 3}, 5);
  EXPECT_EQ(*ring.SubmitAndWait(2), 1u);
  close(pipe.read_end);
  close(pipe.write_end);
}

TEST(RawWait, NeedsNoSystemCallForWhatIsThere) {
  testing::ExpectChildSucceeds([] {
    Ring ring = MakeRing();
    ring.Push(Nop{}, 1);
    ASSERT_EQ(*ring.SubmitAndWait(1), 1u);
    testing::MakeEnterFail(EPERM);
    EXPECT_EQ(*ring.Wait(1), 0u);
    EXPECT_EQ(*ring.WaitTimeout(1, &kLong), 0u);
    EXPECT_EQ(*ring.SubmitAndWaitTimeout(1, &kLong), 0u);
    const __kernel_timespec deadline = SoonOn(CLOCK_MONOTONIC);
    EXPECT_EQ(*ring.SubmitAndWaitUntil(1, &deadline), 0u);
    EXPECT_EQ(ring.Wait(2).error_number(), EPERM);
    EXPECT_EQ(ring.SubmitAndWaitUntil(2, &deadline).error_number(), EPERM);
  });
}

TEST(RawWait, IsInterruptedWithTheMaskGiven) {
  Ring ring = MakeRing();
  PendingSignal signal;
  // Blocked all the time, so the time passes.
  EXPECT_EQ(ring.SubmitAndWaitTimeout(1, &kSoon).error(),
            std::errc::stream_timeout);
  EXPECT_EQ(ring.SubmitAndWaitTimeout(1, &kLong, signal.open()).error(),
            std::errc::interrupted);
  signal.Raise();
  EXPECT_EQ(ring.SubmitAndWaitTimeout(1, nullptr, signal.open()).error(),
            std::errc::interrupted);
  signal.Raise();
  EXPECT_EQ(ring.WaitTimeout(1, &kLong, signal.open()).error(),
            std::errc::interrupted);
  ring.Push(Nop{}, 1);
  ASSERT_EQ(*ring.SubmitAndWait(1), 1u);
  EXPECT_EQ(TakeSeen(ring).size(), 1u);
}

TEST(RawWait, AtLeastForAWhile) {
  Ring ring = MakeRing();
  if ((ring.features() & IORING_FEAT_MIN_TIMEOUT) == 0) {
    EXPECT_EQ(ring.SubmitAndWaitMinTimeout(1, &kSoon, 1).error(),
              std::errc::invalid_argument);
    GTEST_SKIP() << "this kernel has no IORING_FEAT_MIN_TIMEOUT";
  }
  // One is enough once the while has passed, which the timeout is far from.
  ring.Push(Nop{}, 1);
  EXPECT_EQ(*ring.SubmitAndWaitMinTimeout(2, &kLong, 1000), 1u);
  EXPECT_EQ(*ring.WaitMinTimeout(2, &kLong, 1000), 0u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}}));
  // None is not.
  EXPECT_EQ(ring.SubmitAndWaitMinTimeout(2, &kSoon, 100).error(),
            std::errc::stream_timeout);
  PendingSignal signal;
  EXPECT_EQ(
      ring.SubmitAndWaitMinTimeout(1, &kLong, 1000, signal.open()).error(),
      std::errc::interrupted);
  signal.Raise();
  EXPECT_EQ(ring.WaitMinTimeout(1, &kLong, 1000, signal.open()).error(),
            std::errc::interrupted);
}

TEST(RawWait, UntilADeadline) {
  for (const std::uint32_t flags : {0u, kDeferred}) {
    Ring ring = MakeRing({.entries = 4, .setup_flags = flags});
    // As a duration it would take as long as the machine has been running.
    __kernel_timespec deadline = SoonOn(CLOCK_MONOTONIC);
    const EnterResult waited = ring.SubmitAndWaitUntil(1, &deadline);
    if (waited.error_number() == EINVAL) {
      GTEST_SKIP() << "this kernel has no IORING_ENTER_ABS_TIMER";
    }
    EXPECT_EQ(waited.error(), std::errc::stream_timeout);
    // Submits, also across the wrap, and counts it.
    for (std::uint64_t i = 0; i < 12; i += 3) {
      for (std::uint64_t j = 0; j < 3; ++j) ring.Push(Nop{}, i + j);
      deadline = SoonOn(CLOCK_MONOTONIC);
      EXPECT_EQ(*ring.SubmitAndWaitUntil(i == 0 ? 4 : 3, &deadline), 3u);
      EXPECT_EQ(TakeSeen(ring),
                (std::vector<Seen>{{i, 0}, {i + 1, 0}, {i + 2, 0}}));
    }
    PendingSignal signal;
    deadline = {.tv_sec = INT64_MAX, .tv_nsec = 0};
    EXPECT_EQ(ring.SubmitAndWaitUntil(1, &deadline, signal.open()).error(),
              std::errc::interrupted);
    // The same through the registered number.
    ASSERT_FALSE(ring.RegisterRingFd());
    ASSERT_FALSE(ring.SetIowait(false));
    deadline = SoonOn(CLOCK_MONOTONIC);
    ring.Push(Nop{}, 1);
    EXPECT_EQ(*ring.SubmitAndWaitUntil(1, &deadline), 1u);
    EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}}));
    EXPECT_EQ(ring.SubmitAndWaitUntil(1, &deadline).error(),
              std::errc::stream_timeout);
  }
}

TEST(RawWait, UntilADeadlineOnTheRegisteredClock) {
  Ring ring = MakeRing();
  io_uring_clock_register clock = {};
  clock.clockid = CLOCK_BOOTTIME;
  if (io_uring_register_clock(ring.get(), &clock) == -EINVAL) {
    GTEST_SKIP() << "this kernel registers no clocks";
  }
  const __kernel_timespec deadline = SoonOn(CLOCK_BOOTTIME);
  EXPECT_EQ(ring.SubmitAndWaitUntil(1, &deadline).error(),
            std::errc::stream_timeout);
}

TEST(RawWait, UntilADeadlineWithAPollingThread) {
  Ring ring = MakeRing({.entries = 4,
                        .setup_flags = IORING_SETUP_SQPOLL,
                        .sq_thread_idle_ms = 1});
  __kernel_timespec deadline = SoonOn(CLOCK_MONOTONIC);
  deadline.tv_sec += kLong.tv_sec;
  for (std::uint64_t i = 0; i < 5; ++i) {
    // Asleep in every second round.
    while (i % 2 == 1 && !ring.sq_needs_wakeup()) usleep(1000);
    ring.Push(Nop{}, i);
    const EnterResult waited = ring.SubmitAndWaitUntil(1, &deadline);
    if (waited.error_number() == EINVAL) {
      GTEST_SKIP() << "this kernel has no IORING_ENTER_ABS_TIMER";
    }
    EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{i, 0}}));
  }
}

TEST(RawWait, AsARegisteredRegionSays) {
  Ring ring = MakeRing(
      {.entries = 4, .setup_flags = kDeferred | IORING_SETUP_R_DISABLED});
  const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  auto* const region = static_cast<io_uring_reg_wait*>(
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
           -1, 0));
  io_uring_region_desc description = {};
  description.user_addr = uring_ptr_to_u64(region);
  description.size = size;
  description.flags = IORING_MEM_REGION_TYPE_USER;
  io_uring_mem_region_reg registration = {};
  registration.region_uptr = uring_ptr_to_u64(&description);
  registration.flags = IORING_MEM_REGION_REG_WAIT_ARG;
  const int registered = io_uring_register_region(ring.get(), &registration);
  if (registered == -EINVAL) {
    munmap(region, size);
    GTEST_SKIP() << "this kernel registers no regions";
  }
  ASSERT_EQ(registered, 0);
  ASSERT_EQ(io_uring_enable_rings(ring.get()), 0);

  region[0].ts = kSoon;
  region[0].flags = IORING_REG_WAIT_TS;
  region[1].ts = kLong;
  region[1].flags = IORING_REG_WAIT_TS;
  region[1].min_wait_usec = 1000;
  EXPECT_EQ(ring.SubmitAndWaitRegistered(1, 0).error(),
            std::errc::stream_timeout);
  ring.Push(Nop{}, 1);
  EXPECT_EQ(*ring.SubmitAndWaitRegistered(2, 1), 1u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}}));
  const auto beyond = static_cast<int>(size / sizeof(*region));
  EXPECT_EQ(ring.SubmitAndWaitRegistered(1, beyond).error(),
            std::errc::bad_address);
  EXPECT_EQ(ResultOf(ring, Nop{}), 0);
  munmap(region, size);
}

TEST(RawWait, CanHaveNoMoreThanTheQueueHolds) {
  Ring ring = MakeRing({.entries = 4, .completion_entries = 4});
  for (std::uint64_t i = 0; i < 5; ++i) {
    ring.Push(Nop{}, i);
    ASSERT_EQ(*ring.Submit(), 1u);
  }
  EXPECT_TRUE(ring.SubmitAndWait(5));
  EXPECT_EQ(TakeSeen(ring).size(), 4u);
  EXPECT_EQ(*ring.Wait(1), 0u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{4, 0}}));
}

TEST(RawWait, ForRoomInThePollingThreadsQueue) {
  Ring ring = MakeRing({.entries = 2, .setup_flags = IORING_SETUP_SQPOLL});
  for (std::uint64_t i = 0; i < 100; ++i) {
    while (!ring.TryPush(Nop{}, i)) {
      ASSERT_TRUE(ring.Submit());
      ASSERT_TRUE(ring.WaitForSqSpace());
    }
    TakeSeen(ring);
  }
  Ring plain = MakeRing({.entries = 1});
  plain.Push(Nop{}, 1);
  EXPECT_EQ(*plain.WaitForSqSpace(), 0u);

  testing::ExpectChildSucceeds([] {
    Ring full = MakeRing({.entries = 2, .setup_flags = IORING_SETUP_SQPOLL});
    testing::MakeEnterFail(EPERM);
    full.Push(Nop{}, 1);
    EXPECT_EQ(*full.WaitForSqSpace(), 0u);
    full.Push(Nop{}, 2);
    EXPECT_EQ(full.WaitForSqSpace().error_number(), EPERM);
  });
}

TEST(RawWait, WithoutIowait) {
  Ring ring = MakeRing();
  if ((ring.features() & IORING_FEAT_NO_IOWAIT) == 0) {
    EXPECT_EQ(ring.SetIowait(false), std::errc::operation_not_supported);
    GTEST_SKIP() << "this kernel has no IORING_FEAT_NO_IOWAIT";
  }
  EXPECT_FALSE(ring.SetIowait(false));
  EXPECT_NE(ring.get()->int_flags & IORING_ENTER_NO_IOWAIT, 0);
  EXPECT_EQ(ResultOf(ring, Nop{}), 0);
  EXPECT_EQ(ring.WaitTimeout(1, &kSoon).error(), std::errc::stream_timeout);
  EXPECT_FALSE(ring.SetIowait(true));
  EXPECT_EQ(ring.get()->int_flags & IORING_ENTER_NO_IOWAIT, 0);
}

}  // namespace
}  // namespace escrow::raw
