#ifndef ESCROW_TESTS_RAW_OP_SUPPORT_H_
#define ESCROW_TESTS_RAW_OP_SUPPORT_H_

#include <string>
#include <vector>

#include "tests/raw_support.h"

// What the tests of the operation types need.

namespace escrow::raw {

using testing::MakeRing;

// The operations for which the test program has no test of their name in
// `suite`.
std::vector<std::string> OpsWithoutTest(const std::string& suite);

}  // namespace escrow::raw

#endif  // ESCROW_TESTS_RAW_OP_SUPPORT_H_
