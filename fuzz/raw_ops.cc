// Every operation is prepared as liburing prepares it, whatever its arguments.
//
// The input is which operation, and its arguments.

#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/raw_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  using escrow::raw::RawBytes;
  if (size == 0) return 0;
  const auto& comparisons = RawBytes::Comparisons();
  ESCROW_REQUIRE(!comparisons.empty());
  comparisons[data[0] % comparisons.size()](std::span(data, size).subspan(1));
  return 0;
}
