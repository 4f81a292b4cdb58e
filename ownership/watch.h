#ifndef ESCROW_OWNERSHIP_WATCH_H_
#define ESCROW_OWNERSHIP_WATCH_H_

#include <cstdint>

#include "escrow/raw/memory.h"
#include "escrow/raw/sanitizer.h"

// Shows sanitizers what the kernel does, of which they see nothing themselves.
// In other builds all of this is empty.
//
// AddressSanitizer: what the kernel writes is poisoned until Unwatch(), so that
// touching it is reported; of what it reads a checksum is taken, and compared.
// Freeing either is reported when it is freed, in whatever way. So is memory
// that two operations use at the same time, unless both only read it, and
// memory that is freed already when an operation starts. Reports name the
// operation and end the program.
//
// MemorySanitizer: what the kernel wrote is initialized after Unwatch(). The
// rest is as with AddressSanitizer, but for the poison.
//
// ThreadSanitizer: what is done before HandToKernel() happens before what is
// done after TakeFromKernel().
//
// Any thread may call any of this.

namespace escrow::ownership {

// Whether Watch() does anything: else there is no need to find out with what
// to call it.
inline constexpr bool kWatching =
    raw::kAddressSanitizer || raw::kMemorySanitizer;

namespace internal {
void Watch(const void* user, const char* call,
           const raw::Memory& memory) noexcept;
void Unwatch(const void* user, std::int32_t result) noexcept;
void HandToKernel(const void* user) noexcept;
void TakeFromKernel(const void* user) noexcept;
}  // namespace internal

// The kernel uses `memory` from here on, for `user`: whatever has a unique
// address, such as a Record or a buffer of a group. A user may have more than
// one piece of memory. `call` names the operation in reports, and stays valid.
inline void Watch(const void* user, const char* call,
                  const raw::Memory& memory) noexcept {
  if constexpr (kWatching) internal::Watch(user, call, memory);
}

// The kernel is done with all memory of `user`; there may be none. Comes before
// anybody can see that it is done. `result` is the completion's.
inline void Unwatch(const void* user, std::int32_t result) noexcept {
  if constexpr (kWatching) internal::Unwatch(user, result);
}

// Around what the kernel does for `user`: before it can begin, and when a
// completion shows that it has.
inline void HandToKernel(const void* user) noexcept {
  if constexpr (raw::kThreadSanitizer) internal::HandToKernel(user);
}
inline void TakeFromKernel(const void* user) noexcept {
  if constexpr (raw::kThreadSanitizer) internal::TakeFromKernel(user);
}

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_WATCH_H_
