#include <gtest/gtest.h>
#include <liburing.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <system_error>
#include <thread>
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

// Ring::Resize() that waits for the memory of earlier rings.
std::error_code Resized(Ring& ring, std::uint32_t entries,
                        std::uint32_t completion_entries = 0,
                        std::uint32_t setup_flags = 0) {
  std::error_code error = ring.Resize(entries, completion_entries, setup_flags);
  for (int i = 0; i < 500 && error == std::errc::not_enough_memory; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    error = ring.Resize(entries, completion_entries, setup_flags);
  }
  return error;
}

class Resize : public ::testing::Test {
 protected:
  void SetUp() override {
    Ring ring = MakeRing({.entries = 4, .setup_flags = kDeferred});
    if (Resized(ring, 8)) GTEST_SKIP() << "this kernel resizes no rings";
  }
};

TEST_F(Resize, KeepsWhatIsInTheQueues) {
  for (const std::uint32_t flags :
       {0u, IORING_SETUP_SQE128, IORING_SETUP_CQE32, IORING_SETUP_CQE_MIXED}) {
    if (!KernelHasSetupFlags(flags)) continue;
    Ring ring = MakeRing({.entries = 4, .setup_flags = kDeferred | flags});
    // Not at the start of the queues.
    for (int i = 0; i < 3; ++i) ring.Push(Nop{}, 0);
    ASSERT_EQ(*ring.SubmitAndWait(3), 3u);
    TakeSeen(ring);

    ring.Push(Nop{}, 1);
    ring.Push(Nop{}, 2);
    ASSERT_EQ(*ring.SubmitAndWait(2), 2u);
    for (std::uint64_t i = 3; i < 7; ++i) ring.Push(Nop{}, i);
    EXPECT_FALSE(ring.TryPush(Nop{}, 7));

    EXPECT_FALSE(Resized(ring, 8, 32));
    EXPECT_EQ(ring.get()->sq.ring_entries, 8u);
    EXPECT_EQ(ring.get()->cq.ring_entries, 32u);
    EXPECT_EQ(ring.sq_ready(), 4u);
    EXPECT_EQ(ring.sq_space_left(), 4u);
    EXPECT_TRUE(ring.TryPush(Nop{}, 7));
    EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}, {2, 0}}));
    ASSERT_EQ(*ring.SubmitAndWait(5), 5u);

    // And smaller than at first.
    EXPECT_FALSE(Resized(ring, 2, 8));
    EXPECT_EQ(ring.sq_space_left(), 2u);
    EXPECT_EQ(TakeSeen(ring),
              (std::vector<Seen>{{3, 0}, {4, 0}, {5, 0}, {6, 0}, {7, 0}}));
    EXPECT_EQ(ResultOf(ring, Nop{}), 0);
  }
}

TEST_F(Resize, RequestsInFlightGoOn) {
  Ring ring = MakeRing({.entries = 4, .setup_flags = kDeferred});
  const testing::Pipe pipe;
  char byte = 0;
  ring.Push(Read{.fd = pipe.read_end, .buffer = &byte, .length = 1}, 1);
  ASSERT_EQ(*ring.Submit(), 1u);
  EXPECT_FALSE(Resized(ring, 16));
  ASSERT_EQ(write(pipe.write_end, "x", 1), 1);
  EXPECT_TRUE(ring.SubmitAndWait(1));
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 1}}));
  EXPECT_EQ(byte, 'x');
  close(pipe.read_end);
  close(pipe.write_end);
}

TEST_F(Resize, MakesRoomForWhatHasOverflown) {
  Ring ring = MakeRing(
      {.entries = 4, .setup_flags = kDeferred, .completion_entries = 4});
  for (std::uint64_t i = 0; i < 8; ++i) {
    ring.Push(Nop{}, i);
    ASSERT_EQ(*ring.SubmitAndGetEvents(), 1u);
  }
  EXPECT_TRUE(ring.cq_has_overflow());
  EXPECT_FALSE(Resized(ring, 4, 16));
  EXPECT_TRUE(ring.GetEvents());
  EXPECT_FALSE(ring.cq_has_overflow());
  EXPECT_EQ(TakeSeen(ring).size(), 8u);
}

TEST_F(Resize, RefusalsLeaveTheRingAsItWas) {
  Ring ring = MakeRing({.entries = 4, .setup_flags = kDeferred});
  for (std::uint64_t i = 0; i < 4; ++i) ring.Push(Nop{}, i);
  ASSERT_EQ(*ring.SubmitAndWait(4), 4u);
  for (std::uint64_t i = 4; i < 8; ++i) ring.Push(Nop{}, i);
  EXPECT_EQ(ring.Resize(2), std::errc::value_too_large);
  EXPECT_EQ(ring.Resize(4, 2), std::errc::invalid_argument);
  EXPECT_EQ(ring.Resize(0), std::errc::invalid_argument);
  const std::error_code beyond = ring.Resize(1u << 16);
  EXPECT_EQ(beyond, std::errc::invalid_argument);
  EXPECT_EQ(beyond.message(), "io_uring_register: Invalid argument");
  std::thread([&ring] {
    EXPECT_EQ(ring.Resize(8), std::errc::file_exists);
  }).join();
  EXPECT_EQ(ring.sq_ready(), 4u);
  EXPECT_EQ(*ring.SubmitAndWait(8), 4u);
  std::vector<Seen> expected;
  for (std::uint64_t i = 0; i < 8; ++i) expected.push_back({i, 0});
  EXPECT_EQ(TakeSeen(ring), expected);
}

TEST_F(Resize, ClampsWhenAsked) {
  Ring ring = MakeRing({.entries = 4, .setup_flags = kDeferred});
  EXPECT_FALSE(Resized(ring, 4, 1u << 17, IORING_SETUP_CLAMP));
  EXPECT_EQ(ring.get()->cq.ring_entries, 65536u);
  EXPECT_EQ(ResultOf(ring, Nop{}), 0);
}

TEST_F(Resize, NotOfOtherRings) {
  Ring plain = MakeRing({.entries = 4});
  EXPECT_EQ(plain.Resize(8), std::errc::invalid_argument);
  EXPECT_EQ(ResultOf(plain, Nop{}), 0);

  // Without a descriptor there is nothing to map the new memory through.
  Ring closed = MakeRing({.entries = 4, .setup_flags = kDeferred});
  ASSERT_FALSE(closed.RegisterRingFd());
  if (io_uring_close_ring_fd(closed.get()) < 0) return;
  EXPECT_EQ(closed.Resize(8), std::errc::bad_file_descriptor);
  EXPECT_EQ(ResultOf(closed, Nop{}), 0);
}

}  // namespace
}  // namespace escrow::raw
