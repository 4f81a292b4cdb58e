#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "escrow/raw/ops_ring.h"
#include "escrow/raw/ops_rw.h"
#include "escrow/raw/ops_wait.h"
#include "tests/raw_ops_test.h"

namespace escrow::raw {
namespace {

constexpr __kernel_timespec kSoon = {.tv_sec = 0, .tv_nsec = 1'000'000};
constexpr __kernel_timespec kNever = {.tv_sec = 1'000'000, .tv_nsec = 0};
constexpr std::uint64_t kSoonNanoseconds = 1'000'000;

TEST_F(RawOps, Timeout) {
  EXPECT_EQ(ResultOf(Timeout{.duration = &kSoon}), -ETIME);
  // Other completions come first.
  Push(Timeout{.duration = &kNever, .count = 2}, 1);
  Push(Nop{}, 2);
  Push(Nop{}, 3);
  EXPECT_EQ(ResultFor(1, Reap(3)), 0);
  // A time that has passed, of several clocks.
  const __kernel_timespec past = {.tv_sec = 1, .tv_nsec = 0};
  EXPECT_EQ(ResultOf(Timeout{.duration = &past, .flags = IORING_TIMEOUT_ABS}),
            -ETIME);
  for (const unsigned clock :
       {IORING_TIMEOUT_BOOTTIME, IORING_TIMEOUT_REALTIME}) {
    EXPECT_EQ(ResultOf(Timeout{.duration = &past,
                               .flags = IORING_TIMEOUT_ABS | clock}),
              -ETIME);
  }
  // Expiry is a success for what is linked to it, or is none.
  for (const unsigned flags : {0u, IORING_TIMEOUT_ETIME_SUCCESS}) {
    Push(Timeout{.duration = &kSoon, .flags = flags}, 1, IOSQE_IO_LINK);
    Push(Nop{}, 2);
    const std::vector<Completion> completions = Reap(2);
    EXPECT_EQ(ResultFor(1, completions), -ETIME);
    EXPECT_EQ(ResultFor(2, completions), flags == 0 ? -ECANCELED : 0);
  }
  EXPECT_EQ(RefusalOf(Timeout{.duration = nullptr}), EFAULT);
}

TEST_F(RawOps, TimeoutMultishot) {
  Push(TimeoutMultishot{.duration = &kSoon, .count = 3}, 1);
  for (int i = 1; i <= 3; ++i) {
    const Completion completion = Reap(1).at(0);
    EXPECT_EQ(completion.result, -ETIME);
    EXPECT_EQ(completion.more(), i < 3);
  }
  // Until it is removed.
  Push(TimeoutMultishot{.duration = &kSoon}, 1);
  EXPECT_TRUE(Reap(1).at(0).more());
  Push(TimeoutRemove{.user_data = 1}, 2);
  std::vector<Completion> completions;
  do {
    completions.push_back(Reap(1).at(0));
  } while (completions.back().user_data == 1 && completions.back().more());
  if (completions.back().user_data == 1) {
    EXPECT_EQ(completions.back().result, -ECANCELED);
    EXPECT_EQ(Reap(1).at(0).result, 0);
  } else {
    EXPECT_EQ(completions.back().result, 0);
    EXPECT_EQ(Reap(1).at(0).result, -ECANCELED);
  }
}

TEST_F(RawOps, TimeoutImmediate) {
  EXPECT_EQ(ResultOf(TimeoutImmediate{.nanoseconds = kSoonNanoseconds}),
            -ETIME);
}

TEST_F(RawOpsRefused, TimeoutImmediate) {
  EXPECT_EQ(RefusalOf(TimeoutImmediate{.nanoseconds = kSoonNanoseconds}),
            EINVAL);
}

TEST_F(RawOps, TimeoutImmediateMultishot) {
  Push(TimeoutImmediateMultishot{.nanoseconds = kSoonNanoseconds, .count = 2},
       1);
  for (int i = 1; i <= 2; ++i) {
    const Completion completion = Reap(1).at(0);
    EXPECT_EQ(completion.result, -ETIME);
    EXPECT_EQ(completion.more(), i < 2);
  }
}

TEST_F(RawOpsRefused, TimeoutImmediateMultishot) {
  EXPECT_EQ(
      RefusalOf(TimeoutImmediateMultishot{.nanoseconds = kSoonNanoseconds}),
      EINVAL);
}

TEST_F(RawOps, TimeoutRemove) {
  Push(Timeout{.duration = &kNever}, 1);
  Push(TimeoutRemove{.user_data = 1}, 2);
  const std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
  EXPECT_EQ(ResultFor(2, completions), 0);
  EXPECT_EQ(RefusalOf(TimeoutRemove{.user_data = 1}), ENOENT);
}

TEST_F(RawOps, TimeoutUpdate) {
  Push(Timeout{.duration = &kNever}, 1);
  Push(TimeoutUpdate{.user_data = 1, .duration = &kSoon}, 2);
  std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ETIME);
  EXPECT_EQ(ResultFor(2, completions), 0);
  EXPECT_EQ(RefusalOf(TimeoutUpdate{.user_data = 1, .duration = &kSoon}),
            ENOENT);

  // A link timeout.
  const Ends pipe = MakePipe();
  char byte;
  Push(Read{.fd = pipe.first.get(), .buffer = &byte, .length = 1}, 1,
       IOSQE_IO_LINK);
  Push(LinkTimeout{.duration = &kNever}, 2);
  Push(TimeoutUpdate{.user_data = 2,
                     .duration = &kSoon,
                     .flags = IORING_LINK_TIMEOUT_UPDATE},
       3);
  completions = Reap(3);
  EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
  EXPECT_EQ(ResultFor(2, completions), -ETIME);
  EXPECT_EQ(ResultFor(3, completions), 0);
}

TEST_F(RawOps, TimeoutUpdateImmediate) {
  Push(Timeout{.duration = &kNever}, 1);
  Push(TimeoutUpdateImmediate{.user_data = 1, .nanoseconds = kSoonNanoseconds},
       2);
  const std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ETIME);
  EXPECT_EQ(ResultFor(2, completions), 0);
}

TEST_F(RawOpsRefused, TimeoutUpdateImmediate) {
  EXPECT_EQ(RefusalOf(TimeoutUpdateImmediate{.user_data = 1,
                                             .nanoseconds = kSoonNanoseconds}),
            EINVAL);
}

TEST_F(RawOps, LinkTimeout) {
  const Ends pipe = MakePipe();
  char byte;
  Push(Read{.fd = pipe.first.get(), .buffer = &byte, .length = 1}, 1,
       IOSQE_IO_LINK);
  Push(LinkTimeout{.duration = &kSoon}, 2);
  std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
  EXPECT_EQ(ResultFor(2, completions), -ETIME);
  // Not needed.
  WriteTo(pipe.second.get(), "x");
  Push(Read{.fd = pipe.first.get(), .buffer = &byte, .length = 1}, 1,
       IOSQE_IO_LINK);
  Push(LinkTimeout{.duration = &kNever}, 2);
  completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), 1);
  EXPECT_EQ(ResultFor(2, completions), -ECANCELED);
  // Behind nothing.
  EXPECT_EQ(RefusalOf(LinkTimeout{.duration = &kSoon}), EINVAL);
}

TEST_F(RawOps, LinkTimeoutImmediate) {
  const Ends pipe = MakePipe();
  char byte;
  Push(Read{.fd = pipe.first.get(), .buffer = &byte, .length = 1}, 1,
       IOSQE_IO_LINK);
  Push(LinkTimeoutImmediate{.nanoseconds = kSoonNanoseconds}, 2);
  const std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
  EXPECT_EQ(ResultFor(2, completions), -ETIME);
}

TEST_F(RawOpsRefused, LinkTimeoutImmediate) {
  Push(Nop{}, 1, IOSQE_IO_LINK);
  Push(LinkTimeoutImmediate{.nanoseconds = kSoonNanoseconds}, 2);
  EXPECT_EQ(ResultFor(2, Reap(2)), -EINVAL);
  EXPECT_EQ(ResultOf(Nop{}), 0);
}

TEST_F(RawOps, PollAdd) {
  Ends pipe = MakePipe();
  Push(PollAdd{.fd = pipe.first.get(), .events = POLLIN}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  WriteTo(pipe.second.get(), "x");
  EXPECT_EQ(Reap(1).at(0).result, POLLIN);
  // Those that are there already; more than was asked for.
  pipe.second.Close();
  EXPECT_EQ(ResultOf(PollAdd{.fd = pipe.first.get(), .events = POLLIN}),
            POLLIN | POLLHUP);
}

TEST_F(RawOps, PollMultishot) {
  const Ends pipe = MakePipe();
  Push(PollMultishot{.fd = pipe.first.get(), .events = POLLIN}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  for (int i = 0; i < 3; ++i) {
    WriteTo(pipe.second.get(), "x");
    const Completion completion = Reap(1).at(0);
    EXPECT_EQ(completion.result, POLLIN);
    EXPECT_TRUE(completion.more());
  }
  Push(PollRemove{.user_data = 1}, 2);
  std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
  for (const Completion& completion : completions) {
    EXPECT_FALSE(completion.more());
  }
}

TEST_F(RawOps, PollRemove) {
  const Ends pipe = MakePipe();
  Push(PollAdd{.fd = pipe.first.get(), .events = POLLIN}, 1);
  Push(PollRemove{.user_data = 1}, 2);
  const std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
  EXPECT_EQ(ResultFor(2, completions), 0);
  EXPECT_EQ(RefusalOf(PollRemove{.user_data = 1}), ENOENT);
}

TEST_F(RawOps, PollUpdate) {
  const Ends pipe = MakePipe();
  // Other events: what was waited for is there now.
  Push(PollAdd{.fd = pipe.second.get(), .events = POLLIN}, 1);
  Push(PollUpdate{.user_data = 1,
                  .events = POLLOUT,
                  .flags = IORING_POLL_UPDATE_EVENTS},
       2);
  std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), POLLOUT);
  EXPECT_EQ(ResultFor(2, completions), 0);
  // Another user_data.
  Push(PollAdd{.fd = pipe.first.get(), .events = POLLIN}, 1);
  Push(PollUpdate{.user_data = 1,
                  .new_user_data = 5,
                  .flags = IORING_POLL_UPDATE_USER_DATA},
       2);
  EXPECT_EQ(ResultFor(2, Reap(1)), 0);
  WriteTo(pipe.second.get(), "x");
  EXPECT_EQ(ResultFor(5, Reap(1)), POLLIN);
  EXPECT_EQ(RefusalOf(PollUpdate{.user_data = 1,
                                 .new_user_data = 5,
                                 .flags = IORING_POLL_UPDATE_USER_DATA}),
            ENOENT);
}

TEST_F(RawOps, EpollCtl) {
  const Closing epoll(epoll_create1(EPOLL_CLOEXEC));
  const Ends pipe = MakePipe();
  WriteTo(pipe.second.get(), "x");
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 7;
  EXPECT_EQ(ResultOf(EpollCtl{.epoll = epoll.get(),
                              .operation = EPOLL_CTL_ADD,
                              .fd = pipe.first.get(),
                              .event = &event}),
            0);
  epoll_event ready = {};
  ASSERT_EQ(epoll_wait(epoll.get(), &ready, 1, 0), 1);
  // Copied: the struct is packed.
  EXPECT_EQ(std::uint64_t{ready.data.u64}, 7u);
  EXPECT_EQ(RefusalOf(EpollCtl{.epoll = epoll.get(),
                               .operation = EPOLL_CTL_ADD,
                               .fd = pipe.first.get(),
                               .event = &event}),
            EEXIST);
  EXPECT_EQ(ResultOf(EpollCtl{.epoll = epoll.get(),
                              .operation = EPOLL_CTL_DEL,
                              .fd = pipe.first.get()}),
            0);
  EXPECT_EQ(epoll_wait(epoll.get(), &ready, 1, 0), 0);
}

TEST_F(RawOps, EpollWait) {
  const Closing epoll(epoll_create1(EPOLL_CLOEXEC));
  const Ends pipe = MakePipe();
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 7;
  ASSERT_EQ(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, pipe.first.get(), &event), 0);
  epoll_event ready[2] = {};
  Push(EpollWait{.epoll = epoll.get(), .events = ready, .max_events = 2}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  WriteTo(pipe.second.get(), "x");
  EXPECT_EQ(Reap(1).at(0).result, 1);
  EXPECT_EQ(std::uint64_t{ready[0].data.u64}, 7u);
}

// FUTEX2_SIZE_U32 | FUTEX2_PRIVATE, which only newer headers have.
constexpr std::uint32_t kFutex = 2 | 128;

TEST_F(RawOps, FutexWait) {
  std::uint32_t word = 5;
  EXPECT_EQ(
      RefusalOf(FutexWait{.word = &word, .expected = 4, .futex_flags = kFutex}),
      EAGAIN);
  Push(FutexWait{.word = &word, .expected = 5, .futex_flags = kFutex}, 1);
  Push(FutexWake{.word = &word, .count = 1, .futex_flags = kFutex}, 2);
  EXPECT_EQ(ResultFor(1, Reap(2)), 0);
}

TEST_F(RawOps, FutexWake) {
  std::uint32_t word = 5;
  EXPECT_EQ(
      ResultOf(FutexWake{.word = &word, .count = 1, .futex_flags = kFutex}), 0);
  for (int i = 0; i < 3; ++i) {
    Push(FutexWait{.word = &word,
                   .expected = 5,
                   .mask = i == 2 ? 2u : 1u,
                   .futex_flags = kFutex},
         1);
  }
  ASSERT_EQ(*ring().Submit(), 3u);
  // Those whose bits are meant.
  Push(FutexWake{.word = &word, .count = 5, .mask = 1, .futex_flags = kFutex},
       2);
  EXPECT_EQ(ResultFor(2, Reap(3)), 2);
  Push(FutexWake{.word = &word, .count = 5, .futex_flags = kFutex}, 2);
  EXPECT_EQ(ResultFor(2, Reap(2)), 1);
}

TEST_F(RawOps, FutexWaitV) {
  std::uint32_t words[2] = {5, 6};
  futex_waitv futexes[2] = {};
  for (int i = 0; i < 2; ++i) {
    futexes[i].val = words[i];
    futexes[i].uaddr = reinterpret_cast<std::uintptr_t>(&words[i]);
    futexes[i].flags = kFutex;
  }
  Push(FutexWaitV{.futexes = futexes, .count = 2}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  Push(FutexWake{.word = &words[1], .count = 1, .futex_flags = kFutex}, 2);
  const std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), 1);
  EXPECT_EQ(ResultFor(2, completions), 1);
  words[0] = 0;
  EXPECT_EQ(RefusalOf(FutexWaitV{.futexes = futexes, .count = 2}), EAGAIN);
}

TEST_F(RawOps, WaitId) {
  const Ends pipe = MakePipe();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Until the parent has asked.
    char byte;
    _exit(read(pipe.first.get(), &byte, 1) == 1 ? 7 : 8);
  }
  siginfo_t info = {};
  Push(WaitId{.id_type = P_PID,
              .id = static_cast<id_t>(child),
              .info = &info,
              .options = WEXITED},
       1);
  ASSERT_EQ(*ring().Submit(), 1u);
  WriteTo(pipe.second.get(), "x");
  EXPECT_EQ(Reap(1).at(0).result, 0);
  EXPECT_EQ(info.si_pid, child);
  EXPECT_EQ(info.si_code, CLD_EXITED);
  EXPECT_EQ(info.si_status, 7);
  EXPECT_EQ(RefusalOf(WaitId{.id_type = P_PID,
                             .id = static_cast<id_t>(child),
                             .options = WEXITED}),
            ECHILD);
}

}  // namespace
}  // namespace escrow::raw
