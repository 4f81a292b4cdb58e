#ifndef ESCROW_SIM_FALLBACK_H_
#define ESCROW_SIM_FALLBACK_H_

#include <cstdint>

// A home for programs where io_uring is forbidden, as containers and hardened
// hosts have it: a binary that lists //sim:fallback in `deps`, and is
// linkstatic, runs there unchanged, be it made of safe rings, of raw ones, or
// of plain liburing.
//
// Where io_uring_setup(2) fails with EPERM, EACCES or ENOSYS, the ring is an
// emulated one: of the simulated kernel (kernel.h), with benign choices, the
// real clock and real files. Readiness is epoll's; what may block on a disk or
// a device is done by threads, at most 16 for what ends and 16 for what may
// not, as it is for IOSQE_ASYNC; and one more thread, which gets no signals
// either, has times pass and registered eventfds signalled while nobody is in a
// call. A process without an emulated ring has none of these threads.
//
// The kernel is always asked first, so that a ring of the kernel's costs what
// it costs without this, but for a test of what io_uring_enter(2) returned: on
// x86-64, two instructions for each system call of raw and safe rings, five for
// those of plain liburing. Both kinds of rings may be in one process.
//
// What differs:
//   - Refused with EINVAL: IORING_SETUP_IOPOLL, _REGISTERED_FD_ONLY, and flags
//     that are newer; io_uring_register(2) of descriptors of rings, NAPI, and
//     zero-copy receive; the operations RECV_ZC, and URING_CMD but for what
//     sockets and BLKDISCARD are asked by it. A probe of the ring
//     (IORING_REGISTER_PROBE) says which operations there are.
//   - The thread of IORING_SETUP_SQPOLL sleeps whenever it can: entries are
//     taken when it is woken, as IORING_SQ_NEED_WAKEUP says it has to be.
//   - A ring's descriptor is a socket, for poll(2), select(2) and epoll. What a
//     call has left in the queue makes it readable at most a millisecond later;
//     after what was taken from there it is so until the next call, which
//     io_uring_peek_cqe(3) makes when it finds nothing.
//   - IORING_OP_MSG_RING reaches rings of the same kind only.
//   - IORING_OP_FUTEX_WAIT looks once in a millisecond: that futex(2) has woken
//     it is not seen if the word has not changed.
//   - Zero-copy sends copy.
//   - What a worker does is not interrupted: cancelling it is an EALREADY.
//   - A child of fork(2) has none of its parent's rings.
//   - IORING_REGISTER_EVENTFD of a ring with IORING_SETUP_DEFER_TASKRUN may be
//     signalled once when nothing is there.
//
// With AddressSanitizer, memory that is used while an emulated ring has it is
// reported, as kernel.h says. Otherwise nothing is checked.

namespace escrow::sim {

enum class Fallback : std::uint8_t {
  kWhereForbidden,  // a ring is emulated if the kernel does not allow one
  kAlways,          // the kernel is not asked
  kNever,           // rings are the kernel's
};

// For rings that are made from now on, by any thread. What holds until the
// first call is what the environment says: ESCROW_FALLBACK=always or =never,
// and kWhereForbidden otherwise.
void SetFallback(Fallback policy) noexcept;
Fallback GetFallback() noexcept;

// What became of the last io_uring_setup(2) of the process, by any thread.
struct FallbackUse {
  // Whether it was left to emulation.
  bool emulated = false;
  // What the kernel answered, as in errno(3): EPERM, EACCES, ENOSYS, or any
  // other; 0 if it has made the ring, or was not asked. raw::Diagnose() says
  // what that comes from.
  int error = 0;
};
FallbackUse LastFallbackUse() noexcept;

// Whether a ring's descriptor is of an emulated one.
bool IsEmulated(int ring_fd) noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_FALLBACK_H_
