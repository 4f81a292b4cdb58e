#ifndef ESCROW_RAW_MEMORY_REGION_H_
#define ESCROW_RAW_MEMORY_REGION_H_

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/contract.h"
#include "escrow/raw/ring.h"

// Memory that a ring and the kernel share, so that system calls can refer to
// what is in it by an index instead of having it copied in. Today that is the
// arguments of waits: io_uring_reg_wait, of which the one at an index is used
// by io_uring_submit_and_wait_reg() and may be changed between waits. Do not
// use the last one that fits: Linux 6.18 reads the first in its place.
//
// A ring has one region at most, and nothing takes it away again.
//
// What holds for all registrations: registration.h.

namespace escrow::raw {

// Registers `size` bytes at `memory`: whole pages of writable memory, which the
// kernel pins until the ring is completely gone. `flags` are
// IORING_MEM_REGION_*; with IORING_MEM_REGION_REG_WAIT_ARG, for waits, the ring
// must have been created with IORING_SETUP_R_DISABLED and not be enabled yet.
// EBUSY when there is a region; EINVAL for memory that is not whole pages, and
// for an enabled ring; EFAULT for memory that is not there.
// IORING_REGISTER_MEM_REGION, Linux 6.13.
[[nodiscard]] std::error_code RegisterRegion(
    Ring& ring, KernelPtr<void, Until::kTeardown, Access::kReadWrite> memory,
    std::size_t size, std::uint64_t flags = 0) noexcept;

// The same with memory of the kernel's, `size` bytes of which the result is the
// mapping: the caller's to munmap(2), at any time. Needs the ring's descriptor:
// EBADF after CloseRingFd(). IORING_REGISTER_MEM_REGION, Linux 6.13.
[[nodiscard]] std::expected<void*, std::error_code> MapRegion(
    Ring& ring, std::size_t size, std::uint64_t flags = 0) noexcept;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_MEMORY_REGION_H_
