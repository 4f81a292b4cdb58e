// Groups of buffers: who has which buffer, and that all come back.

#include <cstddef>
#include <cstdint>

#include "escrow/fuzz/program.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  escrow::fuzz::RunProgram(
      data, size,
      escrow::fuzz::kGroups | escrow::fuzz::kStreams | escrow::fuzz::kTeardown);
  return 0;
}
