#include "escrow/safe/raw_access.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using ownership::Descriptor;
using ownership::Record;
using std::chrono::milliseconds;

TEST(RawAccess, RawAndSafeShareARing) {
  Ring ring = std::move(Ring::Create().value());
  std::vector<std::pair<std::uint64_t, int>> raw;
  auto handler = [&](const io_uring_cqe& cqe) {
    raw.emplace_back(cqe.user_data, cqe.res);
  };
  RawAccess access(ring, handler);
  const testing::TemporaryFile file("raw and safe");
  const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
  char buffer[3];
  access.ring().Push(raw::Nop{}, 1);
  auto read = ring.Read(source, std::string(4, ' '), 8);
  access.ring().Push(
      raw::Read{
          .fd = source.number(), .buffer = buffer, .length = 3, .offset = 0},
      0x7fff'ffff'ffff'ffff);
  // Taken in while waiting for something else, handed out by Dispatch().
  EXPECT_EQ(ring.Wait(std::move(read)).buffer, "safe");
  EXPECT_TRUE(raw.empty());
  while (raw.size() < 2) ASSERT_TRUE(ring.Dispatch());
  EXPECT_EQ(raw[0], (std::pair<std::uint64_t, int>(1, 0)));
  EXPECT_EQ(raw[1], (std::pair<std::uint64_t, int>(0x7fff'ffff'ffff'ffff, 3)));
  EXPECT_EQ(std::string(buffer, 3), "raw");
  EXPECT_EQ(ring.unknown_completions(), 0u);
}

TEST(RawAccess, DispatchWaitsForRawCompletions) {
  Ring ring = std::move(Ring::Create().value());
  int calls = 0;
  auto handler = [&](const io_uring_cqe&) {
    // May push again.
    ++calls;
  };
  RawAccess access(ring, handler);
  const __kernel_timespec soon = {.tv_sec = 0, .tv_nsec = 2000000};
  access.ring().Push(raw::Timeout{.duration = &soon}, 1);
  ASSERT_TRUE(ring.Submit());
  while (calls == 0) ASSERT_TRUE(ring.Dispatch());
}

TEST(RawAccess, WideCompletionsAreCopiedWhole) {
  Ring ring =
      std::move(Ring::Create({.setup_flags = IORING_SETUP_CQE32}).value());
  std::optional<int> result;
  std::pair<std::uint64_t, std::uint64_t> extra;
  auto handler = [&](const io_uring_cqe& cqe) {
    result = cqe.res;
    extra = {cqe.big_cqe[0], cqe.big_cqe[1]};
  };
  RawAccess access(ring, handler);
  io_uring_sqe* const sqe = access.ring().GetSqe();
  raw::Ring::Fill(sqe, raw::Nop{}, 1);
  sqe->nop_flags = IORING_NOP_CQE32;
  sqe->off = 11;
  sqe->addr = 22;
  while (!result) ASSERT_TRUE(ring.Dispatch());
  if (*result == -EINVAL) GTEST_SKIP() << "this kernel's nops fill no extras";
  EXPECT_EQ(*result, 0);
  EXPECT_EQ(extra, (std::pair<std::uint64_t, std::uint64_t>(11, 22)));
}

using RawAccessDeathTest = ::testing::Test;

TEST(RawAccess, NothingIsWrittenBeyondAQueueMadeSmaller) {
  Ring ring = std::move(Ring::Create({.entries = 64}).value());
  auto handler = [](const io_uring_cqe&) {};
  RawAccess access(ring, handler);
  EXPECT_TRUE(ring.Wait(ring.Nop()));
  if (access.ring().Resize(4, 64)) GTEST_SKIP() << "this kernel resizes none";
  const testing::TemporaryFile file("smaller");
  const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
  std::vector<Operation<Result<void>>> nops;
  std::vector<Operation<Transfer<std::string>>> reads;
  for (int i = 0; i < 10; ++i) {
    nops.push_back(ring.Nop());
    reads.push_back(ring.Read(source, std::string(7, ' '), 0));
  }
  EXPECT_LE(access.ring().sq_ready(), 4u);
  for (auto& nop : nops) EXPECT_TRUE(ring.Wait(std::move(nop)));
  for (auto& read : reads) {
    EXPECT_EQ(ring.Wait(std::move(read)).buffer, "smaller");
  }
}

TEST(RawAccessDeathTest, TwoAtATimeAreRefused) {
  Ring ring = std::move(Ring::Create().value());
  auto handler = [](const io_uring_cqe&) {};
  std::optional<RawAccess> first(std::in_place, ring, handler);
  EXPECT_DEATH(RawAccess(ring, handler), "a second RawAccess");
  first.reset();
  const RawAccess second(ring, handler);
}

// IORING_OP_CLOSE refuses rings.
TEST(RawAccess, DescriptorOfARingIsClosedAllTheSame) {
  Ring ring = std::move(Ring::Create().value());
  const raw::Ring other = std::move(raw::Ring::Create({.entries = 2}).value());
  const int before = testing::OpenDescriptors();
  const auto closed =
      ring.Wait(ring.Close(Descriptor::Adopt(dup(other.get()->ring_fd))));
  EXPECT_EQ(closed.error(), std::errc::bad_file_descriptor);
  EXPECT_EQ(testing::OpenDescriptors(), before);
}

TEST(RawAccess, RawCompletionsWithoutAHandlerAreCounted) {
  Ring ring = std::move(Ring::Create().value());
  int calls = 0;
  auto handler = [&](const io_uring_cqe&) { ++calls; };
  {
    RawAccess access(ring, handler);
    access.ring().Push(raw::Nop{}, 1);
    // Taken in, but not handed out before the handler is gone.
    EXPECT_TRUE(ring.Wait(ring.Timeout(milliseconds(5))));
    access.ring().Push(raw::Nop{}, 2);
  }
  EXPECT_TRUE(ring.Wait(ring.Timeout(milliseconds(5))));
  EXPECT_TRUE(ring.Dispatch());
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(ring.unknown_completions(), 2u);
}

// A completion that arrives twice, or for an operation that is long over, must
// hit nobody. Only a raw entry with a stolen identity can stage that.
TEST(RawAccess, StaleCompletionOfAReusedSlotIsCountedAndIgnored) {
  Ring ring = std::move(Ring::Create().value());
  auto handler = [](const io_uring_cqe&) { ADD_FAILURE(); };
  RawAccess access(ring, handler);

  // The first operation of a ring, and after it the slot's next use.
  constexpr std::uint64_t kFirst = Record::kUserDataBit;
  {
    auto first = ring.Nop();
    EXPECT_EQ(first.record().user_data(), kFirst);
    EXPECT_TRUE(ring.Wait(std::move(first)));
  }
  auto timeout = ring.Timeout(std::chrono::hours(1));
  ASSERT_EQ(timeout.record().user_data(), kFirst | std::uint64_t{1} << 32);

  access.ring().Push(raw::Nop{}, kFirst);  // dead generation
  access.ring().Push(raw::Nop{},
                     kFirst | std::uint64_t{2} << 32);           // not yet born
  access.ring().Push(raw::Nop{}, Record::kUserDataBit | 12345);  // no such slot
  access.ring().Push(raw::Nop{}, Record::kUserDataBit | 5);      // never used
  EXPECT_TRUE(ring.Wait(ring.Timeout(milliseconds(5))));
  EXPECT_EQ(ring.unknown_completions(), 4u);
  EXPECT_FALSE(timeout.done());
  EXPECT_TRUE(ring.Wait(ring.Cancel(timeout)));
  EXPECT_EQ(ring.Wait(std::move(timeout)).error(),
            std::errc::operation_canceled);
}

}  // namespace
}  // namespace escrow::safe
