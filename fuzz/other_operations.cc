// Operations that have a system call of their own: paths, options, waits.

#include <cstddef>
#include <cstdint>

#include "escrow/fuzz/program.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  escrow::fuzz::RunProgram(data, size,
                           escrow::fuzz::kCommon | escrow::fuzz::kSystem |
                               escrow::fuzz::kTables | escrow::fuzz::kChains);
  return 0;
}
