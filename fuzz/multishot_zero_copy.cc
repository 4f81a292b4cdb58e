// Streams that end when the kernel likes, and zero-copy sends.

#include <cstddef>
#include <cstdint>

#include "escrow/fuzz/program.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  escrow::fuzz::RunProgram(data, size,
                           escrow::fuzz::kStreams | escrow::fuzz::kZeroCopy |
                               escrow::fuzz::kSockets);
  return 0;
}
