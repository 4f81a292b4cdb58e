// Coroutines that await, and are destroyed half-way.

#include <cstddef>
#include <cstdint>

#include "escrow/fuzz/program.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  escrow::fuzz::RunProgram(data, size,
                           escrow::fuzz::kCoroutines | escrow::fuzz::kStreams);
  return 0;
}
