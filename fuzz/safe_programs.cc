// Arbitrary well-typed programs on the whole safe layer.

#include <cstddef>
#include <cstdint>

#include "escrow/fuzz/program.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  escrow::fuzz::RunProgram(data, size, escrow::fuzz::kEverything);
  return 0;
}
