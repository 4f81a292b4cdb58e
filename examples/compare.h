#ifndef ESCROW_EXAMPLES_COMPARE_H_
#define ESCROW_EXAMPLES_COMPARE_H_

#include <cstdint>

#include "escrow/examples/block_copy.h"
#include "escrow/examples/failure.h"
#include "escrow/examples/session.h"

// Whether two files have the same content.

namespace escrow::examples {

// Reads both to their ends, at least up to `size`, and compares them. The
// failure says at which offset they differ first.
Expected<void> CompareFiles(Session& session, NamedFile first, NamedFile second,
                            std::uint64_t size);

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_COMPARE_H_
