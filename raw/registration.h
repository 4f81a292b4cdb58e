#ifndef ESCROW_RAW_REGISTRATION_H_
#define ESCROW_RAW_REGISTRATION_H_

#include <liburing.h>
#include <sched.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/ring.h"

// io_uring_register(2): what a ring is told outside its queues.
//
//   if (auto error = raw::RegisterEventfd(ring, wakeup)) return error;
//
// Here are the settings of the ring itself. What has a life of its own has a
// header of its own: file_table.h, buffer_table.h, buffer_ring.h,
// memory_region.h, restrictions.h, synchronous.h, query.h,
// zero_copy_receive.h. The functions are named as liburing's.
//
// Of all of them:
//
// - They are one system call, made at once, and do not touch the queues. What
//   their arguments point to is the kernel's during the call only, except for
//   what has a KernelPtr.
// - What the kernel refuses comes back as its errno in RegisterCategory(), and
//   the ring is as usable as before. EINVAL is, besides invalid arguments, what
//   a kernel says that does not know the registration yet. EACCES is a
//   restriction of the ring (restrictions.h). EEXIST, on a ring with
//   IORING_SETUP_SINGLE_ISSUER, is a call from another thread than the one that
//   submits.
// - A ring is for one thread at a time here too, unless said otherwise.
// - The kernel forgets all of it when the ring is gone, which is some time
//   after it was destroyed.

namespace escrow::raw {

// Any registration: the way to those that came after liburing 2.15. `argument`
// and `count` are what io_uring_register(2) says for `opcode`; the result is
// the system call's.
[[nodiscard]] std::expected<unsigned, std::error_code> Register(
    Ring& ring, unsigned opcode, const void* argument, unsigned count) noexcept;

// Starts a ring that was created with IORING_SETUP_R_DISABLED: until then it
// takes registrations, from any thread and without restrictions, but no
// submissions. With IORING_SETUP_SINGLE_ISSUER the calling thread becomes the
// one that submits. EBADFD when the ring is enabled.
// IORING_REGISTER_ENABLE_RINGS, Linux 5.10.
[[nodiscard]] std::error_code EnableRings(Ring& ring) noexcept;

// The ring's descriptor. Ring::RegisterRingFd() registers it with the calling
// thread; these two are for that same thread, in another one the index is
// another ring's or nobody's.

// Undoes RegisterRingFd(). EINVAL when it is not registered. After
// CloseRingFd() nothing can reach the ring any more. The destructor does it
// too.
// IORING_UNREGISTER_RING_FDS, Linux 5.18.
[[nodiscard]] std::error_code UnregisterRingFd(Ring& ring) noexcept;

// Closes the descriptor of a ring that is registered, which frees a slot of the
// process's descriptor table. From then on only this thread can use the ring,
// nothing of it can be mapped, and where calls for other rings name it they
// have to know it as registered (as CloneBuffers() does) or cannot. EINVAL when
// it is not registered, EBADF when it is closed, EOPNOTSUPP before Linux 6.3
// (IORING_FEAT_REG_REG_RING).
[[nodiscard]] std::error_code CloseRingFd(Ring& ring) noexcept;

// Notification by eventfd(2).

// Has the kernel add to the counter of `event_fd` when it posts completions: a
// hint to look at the completion queue, since one signal may stand for many
// completions and some for none. The ring keeps a reference of its own;
// `event_fd` may be closed. EBUSY when there is one already.
// IORING_REGISTER_EVENTFD, Linux 5.2.
[[nodiscard]] std::error_code RegisterEventfd(Ring& ring,
                                              int event_fd) noexcept;

// The same, for completions of requests that ran in another thread (io-wq)
// only: neither for those that completed during their submit nor for those that
// had to wait for data. IORING_REGISTER_EVENTFD_ASYNC, Linux 5.6.
[[nodiscard]] std::error_code RegisterEventfdAsync(Ring& ring,
                                                   int event_fd) noexcept;

// ENXIO when there is none. IORING_UNREGISTER_EVENTFD, Linux 5.2.
// (Ring::SetCqEventfdEnabled() turns the signals off without a system call.)
[[nodiscard]] std::error_code UnregisterEventfd(Ring& ring) noexcept;

// Personalities.

// Keeps the calling thread's credentials as they are now. A request whose
// io_uring_sqe.personality is the returned id is issued with them, whoever
// submits it. IORING_REGISTER_PERSONALITY, Linux 5.6.
[[nodiscard]] std::expected<std::uint16_t, std::error_code> RegisterPersonality(
    Ring& ring) noexcept;

// Later requests with `id` complete with EINVAL; those in flight keep the
// credentials. EINVAL when there is no such id.
// IORING_UNREGISTER_PERSONALITY, Linux 5.6.
[[nodiscard]] std::error_code UnregisterPersonality(Ring& ring,
                                                    std::uint16_t id) noexcept;

// The threads (io-wq) that run what would block. They belong to the thread that
// submits, which makes these calls (IORING_SETUP_SQPOLL: to the kernel's), and
// all its rings share them: the last setting counts.

// On which processors they may run: `cpus` is a mask of `bytes` bytes, as for
// sched_setaffinity(2). EINVAL when one is outside the thread's cpuset.
// IORING_REGISTER_IOWQ_AFF, Linux 5.14.
[[nodiscard]] std::error_code RegisterIowqAff(
    Ring& ring, const cpu_set_t* cpus,
    std::size_t bytes = sizeof(cpu_set_t)) noexcept;

// Back to all processors. IORING_UNREGISTER_IOWQ_AFF, Linux 5.14.
[[nodiscard]] std::error_code UnregisterIowqAff(Ring& ring) noexcept;

// How many there may be per NUMA node. 0 is "as before".
struct IowqMaxWorkers {
  unsigned bounded = 0;    // for what ends by itself: files, block devices
  unsigned unbounded = 0;  // for what may wait for ever: sockets, pipes
};

// Returns the limits so far; `{}` only asks for them.
// IORING_REGISTER_IOWQ_MAX_WORKERS, Linux 5.15.
[[nodiscard]] std::expected<IowqMaxWorkers, std::error_code>
RegisterIowqMaxWorkers(Ring& ring, IowqMaxWorkers limits) noexcept;

// How a wait for completions polls network devices instead of sleeping.
struct NapiSettings {
  std::uint32_t busy_poll_us = 0;  // per wait, in microseconds
  bool prefer_busy_poll = false;   // rather than interrupts
};

// Both return the settings so far. EINVAL on a ring with IORING_SETUP_IOPOLL,
// and from a kernel without CONFIG_NET_RX_BUSY_POLL.
// IORING_REGISTER_NAPI and IORING_UNREGISTER_NAPI, Linux 6.9.
[[nodiscard]] std::expected<NapiSettings, std::error_code> RegisterNapi(
    Ring& ring, NapiSettings settings) noexcept;
[[nodiscard]] std::expected<NapiSettings, std::error_code> UnregisterNapi(
    Ring& ring) noexcept;

// The clock of the timeouts of waits: CLOCK_MONOTONIC, the default, or
// CLOCK_BOOTTIME, which goes on while the machine sleeps; EINVAL for others.
// IORING_REGISTER_CLOCK, Linux 6.12.
[[nodiscard]] std::error_code RegisterClock(Ring& ring,
                                            clockid_t clock) noexcept;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_REGISTRATION_H_
