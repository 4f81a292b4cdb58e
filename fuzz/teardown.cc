// The end of a ring with anything in flight on it, in every state.

#include <cstddef>
#include <cstdint>

#include "escrow/fuzz/program.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  escrow::fuzz::RunProgram(data, size,
                           escrow::fuzz::kTeardown | escrow::fuzz::kZeroCopy |
                               escrow::fuzz::kChains);
  return 0;
}
