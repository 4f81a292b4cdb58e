#ifndef ESCROW_TESTS_RAW_SUPPORT_H_
#define ESCROW_TESTS_RAW_SUPPORT_H_

#include <liburing.h>

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <vector>

#include "escrow/raw/ring.h"

// What several tests of the raw layer need. Entries are prepared and
// completions read through liburing, whatever the Ring offers.

namespace escrow::testing {

// A ring, although the kernel gives the memory of earlier ones back late.
raw::Ring MakeRing(unsigned setup_flags = 0, unsigned entries = 8);

// Queues what `prepare` makes of an entry.
void Queue(raw::Ring& ring, std::uint64_t user_data,
           const std::function<void(io_uring_sqe*)>& prepare);

// A completion, copied.
struct Completion {
  std::uint64_t user_data;
  std::int32_t result;
  std::uint32_t flags;
  bool operator==(const Completion&) const = default;
};
void PrintTo(const Completion& completion, std::ostream* out);

// Submits what is queued and returns what is there to be read then, which may
// be nothing.
std::vector<Completion> Poll(raw::Ring& ring);

// Submits what is queued, waits until `count` completions came, and returns
// all that there are.
std::vector<Completion> Reap(raw::Ring& ring, unsigned count = 1);

// The result of the one operation that `prepare` makes of an entry.
int ResultOf(raw::Ring& ring,
             const std::function<void(io_uring_sqe*)>& prepare);

// Expects the ring to do what it is there for.
void ExpectUsable(raw::Ring& ring);

}  // namespace escrow::testing

#endif  // ESCROW_TESTS_RAW_SUPPORT_H_
