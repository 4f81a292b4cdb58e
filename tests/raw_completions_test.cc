#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <ranges>
#include <utility>
#include <vector>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "tests/raw_support.h"

namespace escrow::raw {
namespace {

using testing::KernelHasSetupFlags;
using testing::MakeRing;
using testing::Seen;
using testing::TakeSeen;

static_assert(std::ranges::input_range<Completions>);

// A completion with its second half, which is {0, 0} where there is none.
struct Wide {
  std::uint64_t user_data;
  std::uint64_t first;
  std::uint64_t second;

  friend bool operator==(const Wide&, const Wide&) = default;
};

std::vector<Wide> Look(const Ring& ring) {
  const bool all_wide = (ring.setup_flags() & IORING_SETUP_CQE32) != 0;
  std::vector<Wide> seen;
  for (const io_uring_cqe& cqe : ring.completions()) {
    const bool wide = all_wide || (cqe.flags & IORING_CQE_F_32) != 0;
    seen.push_back(
        {cqe.user_data, wide ? cqe.big_cqe[0] : 0, wide ? cqe.big_cqe[1] : 0});
  }
  return seen;
}

// Completes with both halves.
struct WideNop {
  std::uint64_t first;
  std::uint64_t second;

  void Prepare(io_uring_sqe* sqe) const {
    io_uring_prep_nop(sqe);
    sqe->nop_flags = IORING_NOP_CQE32;
    sqe->off = first;
    sqe->addr = second;
  }
};

TEST(Completions, SecondHalfs) {
  Ring ring = MakeRing({.entries = 4, .setup_flags = IORING_SETUP_CQE32});
  // Twice the queue, so that it wraps.
  for (std::uint64_t i = 0; i < 16; i += 2) {
    ring.Push(WideNop{i, ~i}, i);
    ring.Push(WideNop{i + 1, ~i - 1}, i + 1);
    ASSERT_EQ(*ring.SubmitAndWait(2), 2u);
    EXPECT_EQ(ring.completions().entries(), 2u);
    EXPECT_EQ(Look(ring),
              (std::vector<Wide>{{i, i, ~i}, {i + 1, i + 1, ~i - 1}}));
    ring.Advance(2);
  }
}

class MixedCompletions : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!KernelHasSetupFlags(IORING_SETUP_CQE_MIXED)) {
      GTEST_SKIP() << "this kernel has no IORING_SETUP_CQE_MIXED";
    }
  }
};

TEST_F(MixedCompletions, SizesAndFillers) {
  Ring ring = MakeRing({.entries = 4,
                        .setup_flags = IORING_SETUP_CQE_MIXED,
                        .completion_entries = 4});
  ring.Push(Nop{}, 1);
  ring.Push(WideNop{0x11, 0x12}, 2);
  ASSERT_EQ(*ring.SubmitAndWait(2), 2u);
  EXPECT_EQ(Look(ring), (std::vector<Wide>{{1, 0, 0}, {2, 0x11, 0x12}}));
  EXPECT_EQ(ring.completions().entries(), 3u);
  ring.Advance(3);

  // The next wide one does not fit into the last slot: a filler goes there.
  ring.Push(WideNop{0x31, 0x32}, 3);
  ring.Push(Nop{}, 4);
  ASSERT_EQ(*ring.SubmitAndWait(2), 2u);
  EXPECT_EQ(ring.completions().entries(), 4u);
  EXPECT_EQ(Look(ring), (std::vector<Wide>{{3, 0x31, 0x32}, {4, 0, 0}}));

  // Only the first of them, with the filler before it.
  const auto completions = ring.completions();
  EXPECT_EQ(completions.EntriesThrough(completions.begin()), 3u);
  ring.Advance(3);
  EXPECT_EQ(Look(ring), (std::vector<Wide>{{4, 0, 0}}));
  ring.Advance(1);
  EXPECT_EQ(Look(ring), std::vector<Wide>());
}

TEST_F(MixedCompletions, ManyRounds) {
  Ring ring = MakeRing({.entries = 8, .setup_flags = IORING_SETUP_CQE_MIXED});
  std::uint64_t next = 0;
  for (int round = 0; round < 100; ++round) {
    std::vector<Wide> expected;
    for (int i = 0; i < round % 5 + 1; ++i, ++next) {
      if (next % 3 == 0) {
        ring.Push(WideNop{next, next + 1}, next);
        expected.push_back({next, next, next + 1});
      } else {
        ring.Push(Nop{}, next);
        expected.push_back({next, 0, 0});
      }
    }
    ASSERT_EQ(*ring.SubmitAndWait(1), expected.size());
    ASSERT_EQ(Look(ring), expected);
    ring.Advance(ring.completions().entries());
  }
}

// Another ring can put any flags into a completion, also those that mean the
// size of an entry on a mixed ring.
TEST(Completions, FlagsOfMessagesAreNoSizes) {
  for (const std::uint32_t flags :
       {0u, IORING_SETUP_CQE32, IORING_SETUP_CQE_MIXED}) {
    if (!KernelHasSetupFlags(flags)) continue;
    Ring receiver = MakeRing({.entries = 4, .setup_flags = flags});
    Ring sender = MakeRing({.entries = 4});
    std::uint64_t next = 0;
    for (int round = 0; round < 5; ++round) {
      for (const unsigned passed : {IORING_CQE_F_32, 0u, IORING_CQE_F_SKIP,
                                    IORING_CQE_F_32 | IORING_CQE_F_SKIP}) {
        io_uring_sqe* const sqe = sender.GetSqe();
        io_uring_prep_msg_ring_cqe_flags(sqe, receiver.get()->ring_fd, 5,
                                         next++, 0, passed);
        sqe->user_data = 0;
        ASSERT_EQ(*sender.SubmitAndWait(1), 1u);
        const std::vector<Seen> sent = TakeSeen(sender);
        ASSERT_EQ(sent.size(), 1u);
        if (sent[0].result == -EINVAL) GTEST_SKIP() << "no messages with flags";
        ASSERT_EQ(sent[0].result, 0);
      }
      // Those that claim to be fillers are left out.
      EXPECT_EQ(TakeSeen(receiver),
                (std::vector<Seen>{{next - 4, 5}, {next - 3, 5}}));
    }
  }
}

TEST(Completions, ConsumedInParts) {
  Ring ring = MakeRing({.entries = 8});
  for (std::uint64_t i = 0; i < 5; ++i) ring.Push(Nop{}, i);
  ASSERT_EQ(*ring.SubmitAndWait(5), 5u);
  const auto completions = ring.completions();
  auto third = completions.begin();
  ++third;
  ++third;
  EXPECT_EQ(third->user_data, 2u);
  EXPECT_EQ(completions.EntriesThrough(third), 3u);
  ring.Advance(completions.EntriesThrough(third));
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{3, 0}, {4, 0}}));
}

TEST(Completions, WhatWasLostOrDroppedIsCounted) {
  Ring ring = MakeRing({.entries = 4});
  EXPECT_EQ(ring.cq_overflow(), 0u);
  EXPECT_EQ(ring.sq_dropped(), 0u);
  // As the kernel would: it takes a machine without memory.
  *ring.get()->cq.koverflow = 3;
  *ring.get()->sq.kdropped = 4;
  EXPECT_EQ(ring.cq_overflow(), 3u);
  EXPECT_EQ(ring.sq_dropped(), 4u);
}

TEST(Completions, SignalledToAnEventfd) {
  Ring ring = MakeRing({.entries = 4});
  const int event = eventfd(0, EFD_NONBLOCK);
  ASSERT_EQ(io_uring_register_eventfd(ring.get(), event), 0);
  EXPECT_TRUE(ring.cq_eventfd_enabled());

  std::uint64_t count = 0;
  EXPECT_FALSE(ring.SetCqEventfdEnabled(false));
  EXPECT_FALSE(ring.cq_eventfd_enabled());
  ring.Push(Nop{}, 1);
  ASSERT_EQ(*ring.SubmitAndWait(1), 1u);
  EXPECT_EQ(read(event, &count, sizeof(count)), -1);
  EXPECT_EQ(errno, EAGAIN);

  EXPECT_FALSE(ring.SetCqEventfdEnabled(true));
  EXPECT_TRUE(ring.cq_eventfd_enabled());
  ring.Push(Nop{}, 2);
  ASSERT_EQ(*ring.SubmitAndWait(2), 1u);
  EXPECT_EQ(read(event, &count, sizeof(count)),
            static_cast<ssize_t>(sizeof(count)));
  EXPECT_EQ(count, 1u);
  close(event);
}

}  // namespace
}  // namespace escrow::raw
