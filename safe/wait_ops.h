#ifndef ESCROW_SAFE_WAIT_OPS_H_
#define ESCROW_SAFE_WAIT_OPS_H_

#include <linux/time_types.h>
#include <sys/epoll.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>

#include <chrono>
#include <concepts>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/record_pool.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"

// Waiting for a time, for files to be ready, for child processes: operations
// for Ring::Start().

namespace escrow::safe {

// Succeeds when the time has come, not earlier; at once if it has already.
struct Timeout {
  std::chrono::nanoseconds time{0};  // from now, or since the clock's epoch
  bool absolute = false;             // the latter
  // CLOCK_MONOTONIC (std::chrono::steady_clock), CLOCK_BOOTTIME (which goes on
  // while the machine is suspended) or CLOCK_REALTIME
  // (std::chrono::system_clock); others are invalid_argument.
  ::clockid_t clock = CLOCK_MONOTONIC;

  KernelRoom<__kernel_timespec> room = KernelRoom<__kernel_timespec>();

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult&) noexcept {}
};

// poll(2) of one file: the events that are there, by the time of which some
// may have gone again.
struct PollOnce {
  File file;
  std::uint32_t events = 0;  // POLL*; POLLERR and POLLHUP in any case

  using Outcome = Result<std::uint32_t>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult&) noexcept {}
};

// The started operation that an update is about: made from its handle. If it is
// done by the time of the update, nothing else is hit.
template <typename Op>
class Target {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): reads `.timeout = operation`.
  Target(const Operation<typename Op::Outcome>& operation) noexcept
      : pool_(operation.record().pool),
        user_data_(operation.record().user_data()) {}

  // What the kernel knows it by. Requires that `update` is on the same ring.
  std::uint64_t UserDataFor(const ownership::Record& update) const noexcept {
    ESCROW_CHECK(update.pool == pool_, "an update of another ring's operation");
    return user_data_;
  }

 private:
  const ownership::RecordPool* pool_;
  std::uint64_t user_data_;
};

// Gives a Timeout in flight, that of Ring::Timeout() or the op, another time,
// by the clock that it has. no_such_file_or_directory when there is no such
// timeout (any more), connection_already_in_progress (EALREADY) when it is just
// ending.
struct UpdateTimeout {
  Target<Timeout> timeout;
  std::chrono::nanoseconds time{0};  // from now, or since the clock's epoch
  bool absolute = false;             // the latter

  KernelRoom<__kernel_timespec> room = KernelRoom<__kernel_timespec>();

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// Gives a PollOnce in flight other events. Errors are those of UpdateTimeout.
struct UpdatePoll {
  Target<PollOnce> poll;
  std::uint32_t events = 0;  // POLL*

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// epoll_ctl(2). Both are descriptors, not registered files.
struct EpollControl {
  File epoll;
  int operation = EPOLL_CTL_ADD;  // EPOLL_CTL_*
  File file;                      // to be added, changed or removed
  ::epoll_event event = {};

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// What holds epoll_events by value: a std::vector, std::array or
// ownership::Array of them.
template <typename T>
concept EpollEvents = ownership::Writable<T> && requires(T& events) {
  { *events.data() } -> std::same_as<::epoll_event&>;
};

namespace internal {

void StartEpollWait(ownership::Record& record, File epoll, std::byte* events,
                    std::size_t size);

}  // namespace internal

// epoll_wait(2): the number of events, in the front of `events`. Linux 6.15.
template <EpollEvents T>
struct EpollWait {
  File epoll;
  T events;  // room for one at least

  using Outcome = Transfer<T>;
  void Start(ownership::Record& record) {
    internal::StartEpollWait(record, std::move(epoll),
                             ownership::OwnedMemory<T>::Data(events),
                             ownership::OwnedMemory<T>::Size(events));
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::TakeTransfer(result, events);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

// waitid(2): waits for a child process to change its state, and takes it off
// the process table if it has ended, whether or not anybody takes the outcome;
// not with WNOWAIT. With WNOHANG and nothing to tell, si_pid is 0. Linux 6.7.
struct WaitId {
  ::idtype_t type = P_ALL;  // P_ALL, P_PID or P_PGID
  ::id_t id = 0;
  int options = WEXITED;  // W*

  KernelRoom<::siginfo_t> info = KernelRoom<::siginfo_t>();

  using Outcome = Result<::siginfo_t>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult&) noexcept {}
};

// The same for the child that `process` refers to: pidfd_open(2). A descriptor,
// not a registered file. O_NONBLOCK is as WNOHANG.
struct WaitPidfd {
  File process;
  int options = WEXITED;  // W*

  KernelRoom<::siginfo_t> info = KernelRoom<::siginfo_t>();

  using Outcome = Result<::siginfo_t>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult&) noexcept {}
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_WAIT_OPS_H_
