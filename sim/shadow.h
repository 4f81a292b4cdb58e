#ifndef ESCROW_SIM_SHADOW_H_
#define ESCROW_SIM_SHADOW_H_

#include <cstddef>

// What AddressSanitizer has written down about memory, and what can be read at
// all. Without it all memory is valid, and nothing is ever poisoned.

namespace escrow::sim {

// Memory of a shadow byte: what is poisoned is whole ones of these.
inline constexpr std::size_t kGranule = 8;

// The first byte of [data, data + size) that the program must not use: freed,
// out of scope, beyond its end, of a frame that was left. Null if there is
// none. What is poisoned by hand is accepted, and so is what is not memory: to
// use it is an EFAULT.
const void* FirstInvalid(const void* data, std::size_t size) noexcept;

// What the shadow says about the whole granules in [data, data + size).
enum class Poison { kNone, kAll, kMixed };
Poison PoisonOf(const void* data, std::size_t size) noexcept;

// Whether there is anything to poison: a shadow, and a whole granule.
bool SetPoison(void* data, std::size_t size) noexcept;
// Of what is poisoned by hand. The rest stays as it is.
void ClearPoison(void* data, std::size_t size) noexcept;

// Whether there is such memory, and it may be read.
bool IsReadable(const void* data, std::size_t size) noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_SHADOW_H_
