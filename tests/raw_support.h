#ifndef ESCROW_TESTS_RAW_SUPPORT_H_
#define ESCROW_TESTS_RAW_SUPPORT_H_

#include <gtest/gtest.h>
#include <liburing.h>

#include <cstdint>
#include <expected>
#include <functional>
#include <iosfwd>
#include <system_error>
#include <vector>

#include "escrow/raw/ring.h"

// What the tests of the raw layer need.

namespace escrow::testing {

// Ring::Create() that waits for the memory of earlier rings, which the kernel
// gives back late.
std::expected<raw::Ring, std::error_code> TryMakeRing(
    const raw::RingOptions& options);

// The same for a ring that the test cannot do without.
raw::Ring MakeRing(const raw::RingOptions& options = {.entries = 8});
raw::Ring MakeRing(std::uint32_t setup_flags, std::uint32_t entries = 8);

// Whether the running kernel has all of these IORING_SETUP_* flags, as it says
// itself; one that cannot say (before Linux 6.18) is tried.
bool KernelHasSetupFlags(std::uint32_t flags);

// A completion, as far as most tests care.
struct Seen {
  std::uint64_t user_data;
  std::int32_t result;

  friend bool operator==(const Seen&, const Seen&) = default;
};
void PrintTo(const Seen& seen, std::ostream* stream);

// All completions that are there, consumed.
std::vector<Seen> TakeSeen(raw::Ring& ring);

// The result of one operation, alone in its ring.
template <typename Op>
int ResultOf(raw::Ring& ring, const Op& op) {
  ring.Push(op, /*user_data=*/99);
  EXPECT_EQ(*ring.SubmitAndWait(1), 1u);
  const std::vector<Seen> seen = TakeSeen(ring);
  EXPECT_EQ(seen.size(), 1u);
  if (seen.size() != 1) return -1;
  EXPECT_EQ(seen[0].user_data, 99u);
  return seen[0].result;
}

// The rest prepares entries and reads completions through liburing, whatever
// the Ring offers.

// Queues what `prepare` makes of an entry.
void Queue(raw::Ring& ring, std::uint64_t user_data,
           const std::function<void(io_uring_sqe*)>& prepare);

// A completion, copied.
struct Completion {
  std::uint64_t user_data;
  std::int32_t result;
  std::uint32_t flags;

  friend bool operator==(const Completion&, const Completion&) = default;
};
void PrintTo(const Completion& completion, std::ostream* stream);

// Submits what is queued and returns what is there to be read then, which may
// be nothing.
std::vector<Completion> Poll(raw::Ring& ring);

// Submits what is queued, waits until `count` completions came, and returns
// all that there are.
std::vector<Completion> Reap(raw::Ring& ring, unsigned count = 1);

// The result of the one operation that `prepare` makes of an entry.
int ResultOfPrepared(raw::Ring& ring,
                     const std::function<void(io_uring_sqe*)>& prepare);

// Expects the ring to do what it is there for.
void ExpectUsable(raw::Ring& ring);

}  // namespace escrow::testing

#endif  // ESCROW_TESTS_RAW_SUPPORT_H_
