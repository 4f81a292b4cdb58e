#ifndef ESCROW_SIM_REAL_CALL_H_
#define ESCROW_SIM_REAL_CALL_H_

#include <cstdint>

namespace escrow::sim {

// A system call of the simulator's own that a front end which traps the
// program's must let through: close(2), dup(2), fcntl(2), mmap(2) and munmap(2)
// have kOurs in the upper half of an argument, where the kernel does not look.
// -errno on failure.
long RealCall(long number, long first = 0, long second = 0, long third = 0,
              long fourth = 0, long fifth = 0, long sixth = 0) noexcept;

// No pointer has this for its upper half, and no sign-extended number.
inline constexpr std::uint32_t kOurs = 0x5ce0'a11d;

// Which argument that is of: for mmap(2) the descriptor, which is an int, and
// for others the sixth, which they do not have.
int OursIsIn(long number) noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_REAL_CALL_H_
