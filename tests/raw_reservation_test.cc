#include <gtest/gtest.h>
#include <liburing.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "tests/raw_support.h"

namespace escrow::raw {
namespace {

using testing::MakeRing;
using testing::Seen;
using testing::TakeSeen;

// Needs 128 bytes, of which it writes the last.
struct Big {
  struct Info {
    io_uring_op opcode;
    bool sqe128;
  };
  static constexpr Info kInfo = {.opcode = IORING_OP_NOP128, .sqe128 = true};
  unsigned char last;

  void Prepare(io_uring_sqe* sqe) const {
    io_uring_prep_nop(sqe);
    reinterpret_cast<unsigned char*>(sqe)[127] = last;
  }
};

unsigned char LastByte(const Ring& ring, unsigned index) {
  return reinterpret_cast<const unsigned char*>(
      ring.get()->sq.sqes)[std::size_t{index} * 128 + 127];
}

TEST(Reservation, IsAChain) {
  Ring ring = MakeRing({.entries = 8});
  auto chain = ring.Reserve(3);
  ASSERT_TRUE(chain);
  chain.Push(Nop{}, 1, IOSQE_IO_LINK);
  chain.Push(Read{.fd = -1, .buffer = nullptr, .length = 0}, 2, IOSQE_IO_LINK);
  EXPECT_EQ(ring.sq_ready(), 0u);
  chain.Push(Nop{}, 3);
  EXPECT_EQ(ring.sq_ready(), 0u);
  chain.Commit();
  EXPECT_EQ(ring.sq_ready(), 3u);
  ring.Push(Nop{}, 4);
  ASSERT_EQ(*ring.SubmitAndWait(4), 4u);
  std::vector<Seen> seen = TakeSeen(ring);
  // The last one is not part of the chain and may overtake it.
  std::erase(seen, Seen{4, 0});
  EXPECT_EQ(seen, (std::vector<Seen>{{1, 0}, {2, -EBADF}, {3, -ECANCELED}}));
}

TEST(Reservation, WithoutCommitNothingHappened) {
  Ring ring = MakeRing({.entries = 4});
  ring.Push(Nop{}, 1);
  {
    auto chain = ring.Reserve(3);
    ASSERT_TRUE(chain);
    chain.Push(Nop{}, 90, IOSQE_IO_LINK);
    chain.Push(Nop{}, 91);
  }
  EXPECT_EQ(ring.sq_ready(), 1u);
  EXPECT_EQ(ring.sq_space_left(), 3u);
  ring.Push(Nop{}, 2);
  ASSERT_EQ(*ring.SubmitAndWait(2), 2u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}, {2, 0}}));
}

TEST(Reservation, AllOrNothing) {
  Ring ring = MakeRing({.entries = 4});
  EXPECT_FALSE(ring.Reserve(5));
  ring.Push(Nop{}, 1);
  ring.Push(Nop{}, 2);
  EXPECT_FALSE(ring.Reserve(3));
  {
    auto pair = ring.Reserve(2);
    ASSERT_TRUE(pair);
    pair.Push(Nop{}, 3);
    pair.Push(Nop{}, 4);
    pair.Commit();
  }
  EXPECT_EQ(ring.sq_space_left(), 0u);
  EXPECT_FALSE(ring.Reserve(1));
  ASSERT_EQ(*ring.SubmitAndWait(4), 4u);
  EXPECT_EQ(TakeSeen(ring),
            (std::vector<Seen>{{1, 0}, {2, 0}, {3, 0}, {4, 0}}));
}

TEST(Reservation, AcrossTheWrap) {
  Ring ring = MakeRing({.entries = 4});
  std::uint64_t next = 0;
  for (int round = 0; round < 20; ++round) {
    auto chain = ring.Reserve(3);
    ASSERT_TRUE(chain);
    chain.Push(Nop{}, next++, IOSQE_IO_LINK);
    chain.Push(Nop{}, next++, IOSQE_IO_LINK);
    chain.Push(Nop{}, next++);
    chain.Commit();
    ASSERT_EQ(*ring.SubmitAndWait(3), 3u);
    EXPECT_EQ(TakeSeen(ring),
              (std::vector<Seen>{{next - 3, 0}, {next - 2, 0}, {next - 1, 0}}));
  }
}

TEST(Reservation, OfBigEntries) {
  Ring ring = MakeRing({.entries = 4, .setup_flags = IORING_SETUP_SQE128});
  ring.Push(Nop{}, 1);
  ring.Push(Big{0xb2}, 2);
  ASSERT_EQ(*ring.SubmitAndWait(2), 2u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}, {2, 0}}));
  EXPECT_EQ(LastByte(ring, 1), 0xb2);

  auto chain = ring.Reserve(3);
  ASSERT_TRUE(chain);
  chain.Push(Big{0xc3}, 3, IOSQE_IO_LINK);
  chain.Push(Nop{}, 4, IOSQE_IO_LINK);
  chain.Push(Big{0xc5}, 5);
  chain.Commit();
  ASSERT_EQ(*ring.SubmitAndWait(3), 3u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{3, 0}, {4, 0}, {5, 0}}));
  EXPECT_EQ(LastByte(ring, 2), 0xc3);
  EXPECT_EQ(LastByte(ring, 0), 0xc5);
}

// The bytes that a ring with entries of both sizes would have, for kernels
// without any: what makes the difference is a flag that liburing looks at.
TEST(Reservation, OfBothSizes) {
  Ring ring = MakeRing({.entries = 8});
  // The kernel's queue is at entry 5 of 8.
  for (int i = 0; i < 5; ++i) ring.Push(Nop{}, 0);
  ASSERT_EQ(*ring.SubmitAndWait(5), 5u);
  TakeSeen(ring);
  const std::uint32_t flags = ring.get()->flags;
  ring.get()->flags |= IORING_SETUP_SQE_MIXED;
  const io_uring_sqe* const sqes = ring.get()->sq.sqes;

  // 5, 6 and a big one at 7, where it does not fit: all move up, behind a
  // filler that no link reaches.
  EXPECT_FALSE(ring.Reserve(8)) << "the filler needs room too";
  {
    auto chain = ring.Reserve(5);
    ASSERT_TRUE(chain);
    chain.Push(Nop{}, 1, IOSQE_IO_LINK);
    chain.Push(Nop{}, 2, IOSQE_IO_LINK);
    chain.Push(Big{0xd3}, 3, IOSQE_IO_LINK);
    chain.Push(Nop{}, 4);
    chain.Commit();
  }
  EXPECT_EQ(ring.sq_ready(), 6u);
  EXPECT_EQ(sqes[5].opcode, IORING_OP_NOP);
  EXPECT_EQ(sqes[5].flags, IOSQE_CQE_SKIP_SUCCESS);
  EXPECT_EQ(sqes[6].user_data, 1u);
  EXPECT_EQ(sqes[6].flags, IOSQE_IO_LINK);
  EXPECT_EQ(sqes[7].user_data, 2u);
  EXPECT_EQ(sqes[0].user_data, 3u);
  EXPECT_EQ(LastByte(ring, 0), 0xd3);
  EXPECT_EQ(sqes[2].user_data, 4u);

  // Without a wrap there is no filler.
  {
    auto pair = ring.Reserve(2);
    ASSERT_TRUE(pair);
    pair.Push(Big{0xe5}, 5);
    pair.Commit();
  }
  EXPECT_EQ(ring.sq_ready(), 8u);
  EXPECT_EQ(sqes[3].user_data, 5u);
  ring.get()->flags = flags;
}

TEST(Reservation, Personality) {
  Ring ring = MakeRing({.entries = 4});
  const int personality = io_uring_register_personality(ring.get());
  ASSERT_GT(personality, 0);
  const auto number = static_cast<std::uint16_t>(personality);
  const auto unknown = static_cast<std::uint16_t>(personality + 1);
  ring.Push(Nop{}, 1, 0, number);
  EXPECT_TRUE(ring.TryPush(Nop{}, 2, 0, unknown));
  ASSERT_EQ(*ring.SubmitAndWait(2), 2u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}, {2, -EINVAL}}));
  auto chain = ring.Reserve(1);
  chain.Push(Nop{}, 3, 0, unknown);
  chain.Commit();
  ASSERT_EQ(*ring.SubmitAndWait(1), 1u);
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{3, -EINVAL}}));
}

static_assert(!std::is_copy_constructible_v<Ring::Reservation>);
static_assert(!std::is_move_constructible_v<Ring::Reservation>);

#ifdef NDEBUG

TEST(Reservation, IsNeverSubmittedHalf) {
  Ring ring = MakeRing({.entries = 4});
  auto chain = ring.Reserve(2);
  chain.Push(Nop{}, 1, IOSQE_IO_LINK);
  EXPECT_EQ(*ring.Submit(), 0u);
  EXPECT_EQ(*ring.SubmitAndGetEvents(), 0u);
  chain.Commit();
  EXPECT_EQ(ring.sq_ready(), 0u);
  EXPECT_EQ(*ring.Submit(), 0u);
  EXPECT_EQ(TakeSeen(ring), std::vector<Seen>());
}

#else

TEST(ReservationDeathTest, Misuse) {
  Ring ring = MakeRing({.entries = 4});
  const char* const open = "a Reservation is open";
  auto chain = ring.Reserve(2);
  EXPECT_DEATH((void)ring.Submit(), open);
  EXPECT_DEATH((void)ring.SubmitAndWait(1), open);
  EXPECT_DEATH((void)ring.SubmitAndGetEvents(), open);
  EXPECT_DEATH((void)ring.SubmitAndWaitTimeout(1, nullptr), open);
  EXPECT_DEATH((void)ring.SubmitAndWaitUntil(1, nullptr), open);
  EXPECT_DEATH((void)ring.Resize(8), open);
  EXPECT_DEATH(ring.Push(Nop{}, 1), open);
  EXPECT_DEATH((void)ring.Reserve(1), open);
  EXPECT_DEATH(Ring(std::move(ring)), "moved with a Reservation open");
  EXPECT_DEATH(chain.Commit(), "entries unfilled");
  EXPECT_DEATH(chain.Push(Big{1}, 1), "64-byte entries");
  chain.Push(Nop{}, 1);
  chain.Push(Nop{}, 2);
  EXPECT_DEATH(chain.Push(Nop{}, 3), "more pushed than reserved");
  chain.Commit();
  EXPECT_EQ(*ring.Submit(), 2u);
  EXPECT_DEATH(ring.Push(Big{1}, 1), "64-byte entries");
}

#endif

}  // namespace
}  // namespace escrow::raw
