#ifndef ESCROW_EXAMPLES_BYTE_SIZE_H_
#define ESCROW_EXAMPLES_BYTE_SIZE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// Numbers of bytes, as people write and read them.

namespace escrow::examples {

// "4096", "64KiB", "64K" (the same), "64kB" (64000), and so on up to TiB.
// Nothing for anything else, and for what does not fit 63 bits as file sizes
// have to.
std::optional<std::uint64_t> ParseByteSize(std::string_view text);

// At most eight characters: "999 B", "1.5 KiB", "1023 MiB".
std::string FormatByteSize(double bytes);

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_BYTE_SIZE_H_
