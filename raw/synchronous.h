#ifndef ESCROW_RAW_SYNCHRONOUS_H_
#define ESCROW_RAW_SYNCHRONOUS_H_

#include <liburing.h>

#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/ring.h"

// Two operations as calls that return when they are done: cancelling requests,
// and putting a completion into a ring.
//
// What holds for all registrations: registration.h.

namespace escrow::raw {

// Which requests to cancel. The default is the first whose user_data is the
// given one.
struct SyncCancel {
  std::uint64_t user_data = 0;

  // With IORING_ASYNC_CANCEL_FD, the descriptor that the requests are for; also
  // with IORING_ASYNC_CANCEL_FD_FIXED, the slot of the file.
  int fd = -1;

  // With IORING_ASYNC_CANCEL_OP (Linux 6.6), their IORING_OP_*.
  std::uint8_t opcode = 0;

  // IORING_ASYNC_CANCEL_*: by what to choose (_FD, _OP and _USERDATA together
  // narrow it), all that match (_ALL), or whatever there is (_ANY).
  std::uint32_t flags = 0;

  // How long to wait for those that a worker is running. Null is for ever; not
  // for a ring with IORING_SETUP_DEFER_TASKRUN, see below.
  const __kernel_timespec* timeout = nullptr;
};

// Cancels, and waits for requests that run in a worker thread. Returns how many
// were cancelled, with IORING_ASYNC_CANCEL_ALL or _ANY and without a wait;
// otherwise 0.
//
// The memory of a cancelled request is still the kernel's until the terminal
// completion of that request, which says ECANCELED, EINTR, 512 (which has no
// name outside the kernel: an open that waited) or how it ended after all. On a
// plain ring that is in the queue when this returns; with
// IORING_SETUP_DEFER_TASKRUN only after the next GetEvents(), with
// IORING_SETUP_SQPOLL some time later.
//
// With IORING_SETUP_DEFER_TASKRUN the end of a request that a worker runs does
// not wake this call (Linux 6.18): it waits until the timeout and returns
// ETIME, with the request long ended; and for ever without a timeout. Give a
// short one there, and look at the completions. With IORING_SETUP_SQPOLL what a
// worker runs is not found at all (Linux 6.18); the operation Cancel reaches
// it.
//
// ENOENT when none matches and neither _ALL nor _ANY is given, ETIME when the
// time was up, EBADF for an `fd` that is not open, EINVAL for flags that the
// kernel does not know. IORING_REGISTER_SYNC_CANCEL, Linux 6.0.
[[nodiscard]] std::expected<unsigned, std::error_code> RegisterSyncCancel(
    Ring& ring, const SyncCancel& cancel) noexcept;

// A completion for another ring.
struct SyncMsg {
  int ring_fd = -1;             // where it goes
  std::uint64_t user_data = 0;  // of the completion there
  std::int32_t result = 0;      // of the completion there
  std::uint32_t flags = 0;      // of the completion there
};

// Posts a completion into a ring, from any thread and without a ring of one's
// own: one that waits there wakes up. It is there, or among the overflown, when
// this returns; in a ring with IORING_SETUP_DEFER_TASKRUN, when that ring's
// thread next waits or calls GetEvents(). EBADFD for a descriptor that is not a
// ring, and for a ring that is not enabled, EBADF for a closed one.
// IORING_REGISTER_SEND_MSG_RING, Linux 6.13.
[[nodiscard]] std::error_code RegisterSyncMsg(const SyncMsg& message) noexcept;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_SYNCHRONOUS_H_
