#ifndef ESCROW_TESTS_ALLOCATIONS_H_
#define ESCROW_TESTS_ALLOCATIONS_H_

#include <cstddef>

namespace escrow::testing {

// How often operator new was called in this process so far. Linking this
// replaces it.
std::size_t Allocations() noexcept;

}  // namespace escrow::testing

#endif  // ESCROW_TESTS_ALLOCATIONS_H_
