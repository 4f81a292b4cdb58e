#ifndef ESCROW_SIM_MEMORY_H_
#define ESCROW_SIM_MEMORY_H_

#include <cstddef>

// The kernel's loads and stores in the program's memory, where sanitizers see
// them. Which sanitizer there is, if any, is found out when the program runs,
// so that one binary of the simulator serves all.
//
// With AddressSanitizer a load or store in memory that is freed, out of scope,
// or of a frame that was left ends the program with AddressSanitizer's own
// report. Memory that is poisoned by hand (shadow 0xf7), by the ledger or by
// the program, is accepted: that is how one keeps the program off it.

namespace escrow::sim {

// copy_from_user and copy_to_user: false, and nothing more to rely on, if the
// memory cannot be accessed (EFAULT).
bool Load(void* to, const void* from, std::size_t size) noexcept;
bool Store(void* to, const void* from, std::size_t size) noexcept;

// For what a real system call loads or stores on behalf of the simulator:
// before it, and, for stores, after it with what has really been stored.
void BeforeLoad(const void* data, std::size_t size) noexcept;
void BeforeStore(void* data, std::size_t size) noexcept;
void AfterStore(void* data, std::size_t size) noexcept;

// Whether [data, data + size) is memory that the program may use by now. Only
// AddressSanitizer knows; true without.
bool IsValid(const void* data, std::size_t size) noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_MEMORY_H_
