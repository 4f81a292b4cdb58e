#ifndef ESCROW_SAFE_STREAM_OPS_H_
#define ESCROW_SAFE_STREAM_OPS_H_

#include <linux/time_types.h>

#include <chrono>
#include <cstdint>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"
#include "escrow/safe/stream.h"

// Multishot operations that need no group of buffers, for Ring::Start().

namespace escrow::safe {

// accept4(2) again and again, with SOCK_CLOEXEC in any case. Connections that
// nobody takes are closed. Who is at the other end, getpeername(2) tells: the
// kernel would write every peer's address over the last one's. Ends with the
// first error. Linux 5.19.
//
// A connection wakes one of the requests that accept on a socket, and Linux
// (6.18) lets that be one whose cancellation has not been taken in yet: the
// others learn of it with the next connection. So let a cancelled accept end
// before another one takes its place.
struct AcceptMany {
  File socket;    // that listens
  int flags = 0;  // SOCK_NONBLOCK

  using Item = ownership::Descriptor;
  void Start(ownership::Record& record);
};

// poll(2) again and again: the events that have come, each time that some do,
// edge-triggered. Ends with the first error.
struct PollMany {
  File file;
  unsigned events = 0;  // POLL*, EPOLLEXCLUSIVE

  using Item = std::size_t;
  void Start(ownership::Record& record);
};

// Succeeds each time that `period` (CLOCK_MONOTONIC) has passed, `count` times.
// What was late comes late, and does not move what follows. A stream that was
// throttled, or ended by the kernel for its own reasons, starts its period
// again. Linux 6.4.
struct Tick {
  std::chrono::nanoseconds period;
  unsigned count = 0;  // 0: for ever

  KernelRoom<__kernel_timespec> room = KernelRoom<__kernel_timespec>();
  KernelRoom<unsigned> ticked = KernelRoom<unsigned>();  // so far

  using Item = void;
  struct Arrived {};
  void Start(ownership::Record& record);
  Arrived Arrive(const ownership::RawResult& result) noexcept;
  static Result<void> Take(const ownership::RawResult& result, Arrived);
  static void Discard(const ownership::RawResult&, Arrived) noexcept {}
  AfterLast After(const ownership::RawResult& result) const noexcept;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_STREAM_OPS_H_
