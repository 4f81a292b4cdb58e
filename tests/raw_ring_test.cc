#include <gtest/gtest.h>
#include <liburing.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

using testing::Pipe;

Ring MakeRing(const RingOptions& options = {.entries = 8}) {
  auto ring = Ring::Create(options);
  // The kernel gives the memory of earlier rings back late.
  for (int i = 0; i < 100 && !ring && ring.error().value() == ENOMEM; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ring = Ring::Create(options);
  }
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

// The result of one operation.
template <typename Op>
int ResultOf(Ring& ring, const Op& op) {
  ring.Push(op, /*user_data=*/99);
  EXPECT_EQ(*ring.SubmitAndWait(1), 1u);
  int result = -1;
  int count = 0;
  const auto completions = ring.completions();
  for (const io_uring_cqe& cqe : completions) {
    EXPECT_EQ(cqe.user_data, 99u);
    result = cqe.res;
    ++count;
  }
  EXPECT_EQ(count, 1);
  ring.Advance(completions.entries());
  return result;
}

TEST(RawRing, SqeFlagsLink) {
  Ring ring = MakeRing();
  ring.Push(Read{.fd = -1, .buffer = nullptr, .length = 0}, 1, IOSQE_IO_LINK);
  ring.Push(Nop{}, 2);
  ASSERT_EQ(*ring.SubmitAndWait(2), 2u);
  std::vector<int> results;
  for (const io_uring_cqe& cqe : ring.completions()) results.push_back(cqe.res);
  EXPECT_EQ(results, (std::vector<int>{-EBADF, -ECANCELED}));
}

TEST(RawRing, FullQueue) {
  Ring ring = MakeRing({.entries = 4});
  EXPECT_EQ(ring.sq_space_left(), 4u);
  for (unsigned i = 0; i < 4; ++i) EXPECT_TRUE(ring.TryPush(Nop{}, i));
  EXPECT_FALSE(ring.TryPush(Nop{}, 4));
  EXPECT_EQ(ring.GetSqe(), nullptr);
  EXPECT_EQ(ring.sq_ready(), 4u);
  EXPECT_EQ(*ring.Submit(), 4u);
  EXPECT_EQ(ring.sq_ready(), 0u);
  EXPECT_EQ(ring.sq_space_left(), 4u);
}

TEST(RawRing, CompletionsInOrderAcrossTheWrap) {
  Ring ring = MakeRing({.entries = 4});
  std::uint64_t next = 0;
  for (std::uint64_t pushed = 0; pushed < 100;) {
    for (int i = 0; i < 3; ++i) ring.Push(Nop{}, pushed++);
    ASSERT_EQ(*ring.SubmitAndWait(3), 3u);
    const auto completions = ring.completions();
    EXPECT_EQ(completions.entries(), 3u);
    for (auto it = completions.begin(); it != completions.end(); ++it) {
      EXPECT_EQ(it->user_data, next++);
    }
    ring.Advance(3);
    EXPECT_EQ(ring.completions().begin(), ring.completions().end());
  }
}

TEST(RawRing, WideCompletions) {
  Ring ring = MakeRing({.entries = 4, .setup_flags = IORING_SETUP_CQE32});
  for (std::uint64_t i = 0; i < 3; ++i) ring.Push(Nop{}, i);
  ASSERT_EQ(*ring.SubmitAndWait(3), 3u);
  std::uint64_t next = 0;
  for (const io_uring_cqe& cqe : ring.completions()) {
    EXPECT_EQ(cqe.user_data, next++);
  }
  EXPECT_EQ(next, 3u);
}

TEST(RawRing, WaitWithTimeout) {
  Ring ring = MakeRing();
  const __kernel_timespec soon = {.tv_sec = 0, .tv_nsec = 1000000};
  const EnterResult waited = ring.SubmitAndWaitTimeout(1, &soon);
  EXPECT_FALSE(waited);
  EXPECT_EQ(waited.error(), std::errc::stream_timeout);
  EXPECT_EQ(waited.error().message(), "io_uring_enter: Timer expired");
  ring.Push(Nop{}, 1);
  EXPECT_EQ(*ring.SubmitAndWaitTimeout(1, &soon), 1u);
  EXPECT_EQ(ring.completions().entries(), 1u);
}

TEST(RawRing, DeferredWorkNeedsGetEvents) {
  Ring ring = MakeRing(
      {.entries = 4,
       .setup_flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN});
  const Pipe pipe;
  char buffer;
  ring.Push(Read{.fd = pipe.read_end, .buffer = &buffer, .length = 1}, 1);
  ASSERT_EQ(*ring.Submit(), 1u);
  ASSERT_EQ(write(pipe.write_end, "x", 1), 1);
  EXPECT_EQ(ring.completions().entries(), 0u);
  EXPECT_TRUE(ring.GetEvents());
  EXPECT_EQ(ring.completions().entries(), 1u);
  close(pipe.read_end);
  close(pipe.write_end);
}

TEST(RawRing, OverflowIsKept) {
  Ring ring = MakeRing({.entries = 4,
                        .setup_flags = IORING_SETUP_CQSIZE,
                        .completion_entries = 4});
  for (std::uint64_t i = 0; i < 8; ++i) {
    ring.Push(Nop{}, i);
    ASSERT_EQ(*ring.Submit(), 1u);
  }
  EXPECT_TRUE(ring.cq_has_overflow());
  std::uint64_t next = 0;
  for (const io_uring_cqe& cqe : ring.completions()) {
    EXPECT_EQ(cqe.user_data, next++);
  }
  ring.Advance(4);
  EXPECT_TRUE(ring.GetEvents());
  for (const io_uring_cqe& cqe : ring.completions()) {
    EXPECT_EQ(cqe.user_data, next++);
  }
  EXPECT_EQ(next, 8u);
  EXPECT_FALSE(ring.cq_has_overflow());
}

TEST(RawRing, RegisteredRingFd) {
  Ring ring = MakeRing();
  EXPECT_FALSE(ring.RegisterRingFd());
  EXPECT_EQ(ResultOf(ring, Nop{}), 0);
  const std::error_code again = ring.RegisterRingFd();
  EXPECT_EQ(again, std::errc::file_exists);
  EXPECT_EQ(again.message(), "io_uring_register: File exists");
}

TEST(RawRing, MovesAndCloses) {
  const int before = testing::OpenDescriptors();
  {
    Ring first = MakeRing();
    first.Push(Nop{}, 5);
    Ring second = std::move(first);
    EXPECT_EQ(testing::OpenDescriptors(), before + 1);
    ASSERT_EQ(*second.SubmitAndWait(1), 1u);
    EXPECT_EQ(second.completions().begin()->user_data, 5u);
    Ring third = MakeRing();
    third = std::move(second);
    EXPECT_EQ(third.completions().begin()->user_data, 5u);
  }
  EXPECT_EQ(testing::OpenDescriptors(), before);
}

TEST(RawRing, WhatTheKernelRefusesIsItsError) {
  EXPECT_EQ(Ring::Create({.entries = 0}).error(), std::errc::invalid_argument);
  EXPECT_EQ(
      Ring::Create({.entries = 8, .setup_flags = 1u << 31}).error().message(),
      "io_uring_setup: Invalid argument");
  // Invalid entries come back as completions, and the ring goes on.
  Ring ring = MakeRing();
  io_uring_sqe* const sqe = ring.GetSqe();
  Ring::Fill(sqe, Nop{}, 99);
  sqe->opcode = 255;
  EXPECT_EQ(*ring.SubmitAndWait(1), 1u);
  EXPECT_EQ(ring.completions().begin()->res, -EINVAL);
  ring.Advance(1);
  EXPECT_EQ(ResultOf(ring, Nop{}), 0);
}

// A ring is one thing.
static_assert(!std::is_copy_constructible_v<Ring>);
static_assert(std::is_nothrow_move_constructible_v<Ring>);

}  // namespace
}  // namespace escrow::raw
