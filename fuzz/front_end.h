#ifndef ESCROW_FUZZ_FRONT_END_H_
#define ESCROW_FUZZ_FRONT_END_H_

#include <cstddef>
#include <cstdint>

#include "escrow/fuzz/run.h"
#include "escrow/fuzz/world.h"

namespace escrow::fuzz {

// Runs the actions of an input in a `Program` that the last byte is the kind
// of, after which no descriptor is left.
template <typename Program>
int RunFrontEnd(const std::uint8_t* data, std::size_t size) {
  const DescriptorsStay descriptors_stay;
  const Run run(data, size);
  Program(size > 0 ? data[size - 1] : 0).Run(run.actions());
  return 0;
}

}  // namespace escrow::fuzz

#endif  // ESCROW_FUZZ_FRONT_END_H_
