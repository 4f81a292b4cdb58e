#ifndef ESCROW_EXAMPLES_GENERATE_H_
#define ESCROW_EXAMPLES_GENERATE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "escrow/examples/failure.h"
#include "escrow/examples/session.h"

// Files to try things on: random, and the same every time.

namespace escrow::examples {

// The bytes from `offset` on of the one infinite file of which all generated
// ones are the beginning. `offset` is a multiple of 8.
void FillReproducibly(std::span<std::byte> bytes, std::uint64_t offset);

// Makes `path`, with `size` bytes, if there is nothing of that name; else does
// nothing.
Expected<void> GenerateFile(Session& session, const std::string& path,
                            std::uint64_t size);

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_GENERATE_H_
