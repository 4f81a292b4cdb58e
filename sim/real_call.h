#ifndef ESCROW_SIM_REAL_CALL_H_
#define ESCROW_SIM_REAL_CALL_H_

namespace escrow::sim {

// A system call of the simulator's own that a front end which traps the
// program's must let through: all of them are made by one instruction.
// -errno on failure.
long RealCall(long number, long first = 0, long second = 0, long third = 0,
              long fourth = 0, long fifth = 0, long sixth = 0) noexcept;

// The address behind that instruction, which is what seccomp(2) filters see.
const void* RealCallSite() noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_REAL_CALL_H_
