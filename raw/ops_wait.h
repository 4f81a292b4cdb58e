#ifndef ESCROW_RAW_OPS_WAIT_H_
#define ESCROW_RAW_OPS_WAIT_H_

#include <liburing.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <cstdint>

#include "escrow/raw/contract.h"
#include "escrow/raw/op.h"

// Waiting for time, readiness, futexes and processes. See ops.h for what holds
// of all operations.

namespace escrow::raw {

// A time to be read. With IORING_SETUP_SQPOLL it is read some time after the
// submit: freed at once, it was missed (-EFAULT) in 1873 of 2000 requests.
using KernelTime = KernelPtr<const __kernel_timespec, Until::kConsumed>;

// A timer. Result: -ETIME when it fired, 0 when `count` other completions came
// first, -ECANCELED. Linux 5.4; absolute 5.4, other clocks 5.15,
// IORING_TIMEOUT_ETIME_SUCCESS 5.16.
struct Timeout {
  KernelTime duration;
  unsigned count = 0;  // completions that end it early; 0: none
  unsigned flags = 0;  // IORING_TIMEOUT_*: absolute, clock. The default is
                       // relative, CLOCK_MONOTONIC

  static constexpr OpInfo kInfo = {IORING_OP_TIMEOUT, "Timeout", "timeout",
                                   "io_uring_prep_timeout(3)", "5.4"};
  static constexpr Region kRegions[] = {
      RegionOf("duration", &Timeout::duration)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_timeout(sqe, duration.get(), count, flags);
  }
};

// A timer that fires again and again: -ETIME with IORING_CQE_F_MORE each time.
// Linux 6.4.
struct TimeoutMultishot {
  KernelTime duration;
  unsigned count = 0;  // times; 0: until it is removed
  unsigned flags = 0;  // IORING_TIMEOUT_*

  static constexpr OpInfo kInfo = {IORING_OP_TIMEOUT,
                                   "TimeoutMultishot",
                                   "timeout (multishot)",
                                   "io_uring_prep_timeout(3)",
                                   "6.4",
                                   Until::kLastCompletion};
  static constexpr Region kRegions[] = {
      RegionOf("duration", &TimeoutMultishot::duration)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_timeout(sqe, duration.get(), count,
                          flags | IORING_TIMEOUT_MULTISHOT);
  }
};

// The argument of an immediate timeout in the place of a pointer.
inline const __kernel_timespec* ImmediateTime(
    std::uint64_t nanoseconds) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): nobody follows it.
  return reinterpret_cast<const __kernel_timespec*>(
      static_cast<std::uintptr_t>(nanoseconds));
}

// Timeout with the time in the entry itself. Linux 7.1.
struct TimeoutImmediate {
  Required<std::uint64_t> nanoseconds;
  unsigned count = 0;  // completions that end it early; 0: none
  unsigned flags = 0;  // IORING_TIMEOUT_*

  static constexpr OpInfo kInfo = {IORING_OP_TIMEOUT, "TimeoutImmediate",
                                   "timeout", "io_uring_prep_timeout(3)",
                                   "7.1"};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_timeout(sqe, ImmediateTime(nanoseconds), count,
                          flags | IORING_TIMEOUT_IMMEDIATE_ARG);
  }
};

// TimeoutMultishot with the time in the entry itself. Linux 7.1.
struct TimeoutImmediateMultishot {
  Required<std::uint64_t> nanoseconds;
  unsigned count = 0;  // times; 0: until it is removed
  unsigned flags = 0;  // IORING_TIMEOUT_*

  static constexpr OpInfo kInfo = {IORING_OP_TIMEOUT,
                                   "TimeoutImmediateMultishot",
                                   "timeout (multishot)",
                                   "io_uring_prep_timeout(3)",
                                   "7.1",
                                   Until::kLastCompletion};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_timeout(
        sqe, ImmediateTime(nanoseconds), count,
        flags | IORING_TIMEOUT_MULTISHOT | IORING_TIMEOUT_IMMEDIATE_ARG);
  }
};

// Cancels a timer, which completes with -ECANCELED. Result: 0, -ENOENT, or
// -EALREADY when it is firing. Linux 5.5.
struct TimeoutRemove {
  Required<std::uint64_t> user_data;  // of the timer
  unsigned flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_TIMEOUT_REMOVE, "TimeoutRemove",
                                   "timeout remove",
                                   "io_uring_prep_timeout_remove(3)", "5.5"};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_timeout_remove(sqe, user_data, flags);
  }
};

// Gives a timer, or with IORING_LINK_TIMEOUT_UPDATE a link timeout, another
// time, which starts now. Result: 0, -ENOENT, or -EALREADY when it is firing.
// Linux 5.11; link timeouts 5.15.
struct TimeoutUpdate {
  Required<std::uint64_t> user_data;  // of the timer
  KernelTime duration;
  unsigned flags = 0;  // IORING_TIMEOUT_ABS, a clock, _LINK_TIMEOUT_UPDATE

  static constexpr OpInfo kInfo = {IORING_OP_TIMEOUT_REMOVE, "TimeoutUpdate",
                                   "timeout update",
                                   "io_uring_prep_timeout_update(3)", "5.11"};
  static constexpr Region kRegions[] = {
      RegionOf("duration", &TimeoutUpdate::duration)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_timeout_update(sqe, duration.get(), user_data, flags);
  }
};

// TimeoutUpdate with the time in the entry itself. Linux 7.1.
struct TimeoutUpdateImmediate {
  Required<std::uint64_t> user_data;  // of the timer
  Required<std::uint64_t> nanoseconds;
  unsigned flags = 0;  // as TimeoutUpdate

  static constexpr OpInfo kInfo = {IORING_OP_TIMEOUT_REMOVE,
                                   "TimeoutUpdateImmediate", "timeout update",
                                   "io_uring_prep_timeout_update(3)", "7.1"};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_timeout_update(sqe, ImmediateTime(nanoseconds), user_data,
                                 flags | IORING_TIMEOUT_IMMEDIATE_ARG);
  }
};

// A deadline for the entry before it, which is pushed with IOSQE_IO_LINK and is
// cancelled when the time is over. Result: -ETIME when it was, -ECANCELED when
// it was not needed; -EALREADY when the other could not be cancelled.
// Linux 5.5; clocks 5.15.
struct LinkTimeout {
  KernelTime duration;
  unsigned flags = 0;  // IORING_TIMEOUT_ABS, a clock

  static constexpr OpInfo kInfo = {IORING_OP_LINK_TIMEOUT, "LinkTimeout",
                                   "link timeout",
                                   "io_uring_prep_link_timeout(3)", "5.5"};
  static constexpr Region kRegions[] = {
      RegionOf("duration", &LinkTimeout::duration)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_link_timeout(sqe, duration.get(), flags);
  }
};

// LinkTimeout with the time in the entry itself. Linux 7.1.
struct LinkTimeoutImmediate {
  Required<std::uint64_t> nanoseconds;
  unsigned flags = 0;  // IORING_TIMEOUT_ABS, a clock

  static constexpr OpInfo kInfo = {IORING_OP_LINK_TIMEOUT,
                                   "LinkTimeoutImmediate", "link timeout",
                                   "io_uring_prep_link_timeout(3)", "7.1"};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_link_timeout(sqe, ImmediateTime(nanoseconds),
                               flags | IORING_TIMEOUT_IMMEDIATE_ARG);
  }
};

// poll(2) of one descriptor, with epoll's events. Result: the events that are
// there. Linux 5.1; events above 16 bits 5.9. IORING_POLL_ADD_LEVEL, although
// it is in the kernel's header, is refused with -EINVAL.
struct PollAdd {
  Fd fd;
  Required<unsigned> events;  // POLL*, EPOLLEXCLUSIVE

  static constexpr OpInfo kInfo = {IORING_OP_POLL_ADD, "PollAdd", "poll",
                                   "io_uring_prep_poll_add(3)", "5.1"};
  static constexpr Region kRegions[] = {RegionOf("fd", &PollAdd::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_poll_add(sqe, fd.number(), events);
    sqe->flags |= fd.sqe_flags();
  }
};

// The same again and again: one completion with IORING_CQE_F_MORE each time.
// Linux 5.13.
struct PollMultishot {
  Fd fd;
  Required<unsigned> events;  // POLL*, EPOLLEXCLUSIVE

  static constexpr OpInfo kInfo = {IORING_OP_POLL_ADD,
                                   "PollMultishot",
                                   "poll (multishot)",
                                   "io_uring_prep_poll_multishot(3)",
                                   "5.13",
                                   Until::kLastCompletion};
  static constexpr Region kRegions[] = {RegionOf("fd", &PollMultishot::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_poll_multishot(sqe, fd.number(), events);
    sqe->flags |= fd.sqe_flags();
  }
};

// Cancels a poll, which completes with -ECANCELED. Result: 0, -ENOENT, or
// -EALREADY. Linux 5.1.
//
// `user_data` is a key: if it was given to another request meanwhile, that one
// is hit.
struct PollRemove {
  Required<std::uint64_t> user_data;  // of the poll

  static constexpr OpInfo kInfo = {IORING_OP_POLL_REMOVE, "PollRemove",
                                   "poll remove",
                                   "io_uring_prep_poll_remove(3)", "5.1"};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_poll_remove(sqe, user_data);
  }
};

// Gives a poll other events or another user_data. Result: 0, -ENOENT, or
// -EALREADY when it is completing. Linux 5.13.
struct PollUpdate {
  Required<std::uint64_t> user_data;  // of the poll
  std::uint64_t new_user_data = 0;    // with IORING_POLL_UPDATE_USER_DATA
  unsigned events = 0;                // with IORING_POLL_UPDATE_EVENTS
  // IORING_POLL_UPDATE_*, and IORING_POLL_ADD_MULTI to stay multishot
  Required<unsigned> flags;

  static constexpr OpInfo kInfo = {IORING_OP_POLL_REMOVE, "PollUpdate",
                                   "poll update",
                                   "io_uring_prep_poll_update(3)", "5.13"};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_poll_update(sqe, user_data, new_user_data, events, flags);
  }
};

// epoll_ctl(2). Result: 0. Linux 5.6. Of descriptors only: the kernel would
// take the number of a slot for one.
struct EpollCtl {
  KernelHandle<int> epoll;
  Required<int> operation;  // EPOLL_CTL_*
  KernelHandle<int> fd;     // to be added, changed or removed
  KernelPtr<const epoll_event, Until::kConsumed> event = nullptr;

  static constexpr OpInfo kInfo = {IORING_OP_EPOLL_CTL, "EpollCtl", "epoll_ctl",
                                   "io_uring_prep_epoll_ctl(3)", "5.6"};
  static constexpr Region kRegions[] = {RegionOf("epoll", &EpollCtl::epoll),
                                        RegionOf("fd", &EpollCtl::fd),
                                        RegionOf("event", &EpollCtl::event)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_epoll_ctl(sqe, epoll, fd, operation, event.get());
  }
};

// epoll_wait(2). Result: the number of events. Linux 6.15.
struct EpollWait {
  Fd epoll;
  KernelPtr<epoll_event, Until::kCompletion> events;
  Required<int> max_events;  // that `events` has room for
  unsigned flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_EPOLL_WAIT, "EpollWait",
                                   "epoll_wait", "io_uring_prep_epoll_wait(3)",
                                   "6.15"};
  static constexpr Region kRegions[] = {RegionOf("epoll", &EpollWait::epoll),
                                        RegionOf("events", &EpollWait::events)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_epoll_wait(sqe, epoll.number(), events.get(), max_events,
                             flags);
    sqe->flags |= epoll.sqe_flags();
  }
};

// As FUTEX_WAIT_BITSET of futex(2). Result: 0 when woken, -EAGAIN when the word
// was not `expected`. Linux 6.7.
//
// The request is queued on the *address*: a waiter that stays behind on memory
// which was freed and reused eats the wake-ups of its next owner.
struct FutexWait {
  KernelPtr<const std::uint32_t, Until::kCompletion> word;
  Required<std::uint64_t> expected;
  std::uint64_t mask = ~std::uint32_t{0};  // bits to be woken by
  // FUTEX2_SIZE_U32 (2), with FUTEX2_PRIVATE (128) inside one process
  Required<std::uint32_t> futex_flags;
  unsigned flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_FUTEX_WAIT, "FutexWait",
                                   "futex wait", "io_uring_prep_futex_wait(3)",
                                   "6.7"};
  static constexpr Region kRegions[] = {
      RegionOf("word", &FutexWait::word,
               "read at issue; its address is waited on until the completion")};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_futex_wait(sqe, word.get(), expected, mask, futex_flags,
                             flags);
  }
};

// As FUTEX_WAKE_BITSET of futex(2). Result: how many were woken. Linux 6.7.
struct FutexWake {
  KernelPtr<const std::uint32_t, Until::kCompletion, Access::kAddress> word;
  Required<std::uint64_t> count;           // waiters at most
  std::uint64_t mask = ~std::uint32_t{0};  // bits to wake
  // FUTEX2_SIZE_U32 (2), with FUTEX2_PRIVATE (128) inside one process
  Required<std::uint32_t> futex_flags;
  unsigned flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_FUTEX_WAKE, "FutexWake",
                                   "futex wake", "io_uring_prep_futex_wake(3)",
                                   "6.7"};
  static constexpr Region kRegions[] = {RegionOf("word", &FutexWake::word)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_futex_wake(sqe, word.get(), count, mask, futex_flags, flags);
  }
};

struct FutexWords {
  static constexpr Region kRegions[] = {
      {"uaddr",
       Access::kRead,
       Until::kCompletion,
       {},
       "its address is waited on until the completion"}};
};

// futex_waitv(2). Result: the index of one that was woken, or -EAGAIN. Linux
// 6.7.
struct FutexWaitV {
  KernelPtr<const futex_waitv, Until::kConsumed, Access::kRead, FutexWords>
      futexes;
  Required<std::uint32_t> count;  // of futexes; at most FUTEX_WAITV_MAX
  unsigned flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_FUTEX_WAITV, "FutexWaitV",
                                   "futex_waitv",
                                   "io_uring_prep_futex_waitv(3)", "6.7"};
  static constexpr Region kRegions[] = {
      RegionOf("futexes", &FutexWaitV::futexes)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_futex_waitv(sqe, futexes.get(), count, flags);
  }
};

// waitid(2). Result: 0. Linux 6.7.
struct WaitId {
  Required<idtype_t> id_type;  // P_*
  Required<id_t> id;
  KernelPtr<siginfo_t, Until::kCompletion> info = nullptr;  // or null
  Required<int> options;                                    // WEXITED, ...
  unsigned flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_WAITID, "WaitId", "waitid",
                                   "io_uring_prep_waitid(3)", "6.7"};
  static constexpr Region kRegions[] = {RegionOf("info", &WaitId::info)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_waitid(sqe, id_type, id, info.get(), options, flags);
  }
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_OPS_WAIT_H_
