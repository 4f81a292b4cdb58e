// Chains, hard chains and deadlines, with cancellations in the middle.

#include <cstddef>
#include <cstdint>

#include "escrow/fuzz/program.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  escrow::fuzz::RunProgram(
      data, size,
      escrow::fuzz::kChains | escrow::fuzz::kDeadlines | escrow::fuzz::kFiles);
  return 0;
}
