#ifndef ESCROW_SIM_TRAP_TRAP_H_
#define ESCROW_SIM_TRAP_TRAP_H_

// The front end that needs nothing of a program: its own system calls of
// io_uring, however it makes them, are caught by a seccomp(2) filter, and
// answered by the simulated kernel in a handler of SIGSYS. A program that has
// this linked into it, or is started with libescrow_sim.so in LD_PRELOAD, is
// under it from the start, with all of its threads, whether or not there is
// io_uring beneath it, and whether or not it is allowed.
//
// What becomes of the run is said by its environment (environment.h).
//
// Descriptors of rings have high numbers, so that the filter can tell them by
// these, and rings are mapped into a part of the address space that is
// reserved for them. SIGSYS cannot be blocked any more, and must not be handled
// by the program. Programs that it starts are under it as well, if they are
// given LD_PRELOAD; those that are not, or are static, inherit the filter only,
// and are ended by SIGSYS ("Bad system call") when they use io_uring.
//
// Not with ThreadSanitizer, which sees what is stored here, but not what orders
// that: the front end that is linked is for such builds.
//
// x86-64 and aarch64.

namespace escrow::sim {

// Whether the calling process is under it.
bool IsTrapping() noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_TRAP_TRAP_H_
