#ifndef ESCROW_TESTS_RAW_OP_SUPPORT_H_
#define ESCROW_TESTS_RAW_OP_SUPPORT_H_

#include <string>
#include <vector>

#include "escrow/raw/ring.h"

// What the tests of the operation types need.

namespace escrow::raw {

// A ring, although the kernel gives the memory of earlier ones back late.
Ring MakeRing(const RingOptions& options = {.entries = 8});

// The operations for which the test program has no test of their name in
// `suite`.
std::vector<std::string> OpsWithoutTest(const std::string& suite);

}  // namespace escrow::raw

#endif  // ESCROW_TESTS_RAW_OP_SUPPORT_H_
