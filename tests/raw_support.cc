#include "tests/raw_support.h"

#include <gtest/gtest.h>
#include <liburing.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <expected>
#include <functional>
#include <ostream>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/raw/query.h"
#include "escrow/raw/ring.h"
#include "tests/support.h"

namespace escrow::testing {
namespace {

std::vector<Completion> TakeAll(raw::Ring& ring) {
  std::vector<Completion> completions;
  io_uring_cqe* cqe;
  while (io_uring_peek_cqe(ring.get(), &cqe) == 0) {
    completions.push_back({cqe->user_data, cqe->res, cqe->flags});
    io_uring_cqe_seen(ring.get(), cqe);
  }
  return completions;
}

}  // namespace

std::expected<raw::Ring, std::error_code> TryMakeRing(
    const raw::RingOptions& options) {
  return CreatePatiently([&] { return raw::Ring::Create(options); });
}

raw::Ring MakeRing(const raw::RingOptions& options) {
  auto ring = TryMakeRing(options);
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

raw::Ring MakeRing(std::uint32_t setup_flags, std::uint32_t entries) {
  return MakeRing({.entries = entries, .setup_flags = setup_flags});
}

bool KernelHasSetupFlags(std::uint32_t flags) {
  if (const auto known = raw::QueryOpcodes()) {
    return (known->ring_setup_flags & flags) == flags;
  }
  return TryMakeRing({.entries = 8, .setup_flags = flags}).has_value();
}

void PrintTo(const Seen& seen, std::ostream* stream) {
  *stream << "{" << seen.user_data << ", " << seen.result << "}";
}

std::vector<Seen> TakeSeen(raw::Ring& ring) {
  std::vector<Seen> seen;
  const auto completions = ring.completions();
  for (const io_uring_cqe& cqe : completions) {
    seen.push_back({cqe.user_data, cqe.res});
  }
  ring.Advance(completions.entries());
  return seen;
}

void Queue(raw::Ring& ring, std::uint64_t user_data,
           const std::function<void(io_uring_sqe*)>& prepare) {
  io_uring_sqe* sqe = io_uring_get_sqe(ring.get());
  ASSERT_NE(sqe, nullptr);
  prepare(sqe);
  io_uring_sqe_set_data64(sqe, user_data);
}

void PrintTo(const Completion& completion, std::ostream* stream) {
  *stream << "{user_data " << completion.user_data << ", result "
          << completion.result << ", flags " << completion.flags << "}";
}

std::vector<Completion> Poll(raw::Ring& ring) {
  EXPECT_GE(io_uring_submit_and_get_events(ring.get()), 0);
  return TakeAll(ring);
}

std::vector<Completion> Reap(raw::Ring& ring, unsigned count) {
  EXPECT_GE(io_uring_submit_and_wait(ring.get(), count), 0);
  return TakeAll(ring);
}

int ResultOfPrepared(raw::Ring& ring,
                     const std::function<void(io_uring_sqe*)>& prepare) {
  Queue(ring, /*user_data=*/99, prepare);
  const std::vector<Completion> completions = Reap(ring);
  if (completions.size() != 1 || completions[0].user_data != 99) {
    ADD_FAILURE() << "not one completion: "
                  << ::testing::PrintToString(completions);
    return -EPROTO;
  }
  return completions[0].result;
}

void ExpectUsable(raw::Ring& ring) {
  EXPECT_EQ(ResultOfPrepared(ring, io_uring_prep_nop), 0);
}

}  // namespace escrow::testing
