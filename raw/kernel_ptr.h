#ifndef ESCROW_RAW_KERNEL_PTR_H_
#define ESCROW_RAW_KERNEL_PTR_H_

#include <algorithm>
#include <cstdint>
#include <tuple>

// How long the kernel may use what a submission queue entry points to.
//
// This is the only place where lifetimes are written down: every pointer in an
// operation of ops.h is a KernelPtr whose type carries its class, and whoever
// needs the fact (the ownership layer, a test, a table) reads it from that
// type. The classes were measured by revoking each region after the submit and
// looking at the completion; where they differ from liburing's man pages, the
// pages are wrong: most say that data passed in a struct need only be valid
// until the submit, which does not hold for what the kernel writes back.

namespace escrow::raw {

// Ordered: a later point is never reached before an earlier one. (An operation
// that uses no memory has no KernelPtr.)
enum class Until : std::uint8_t {
  // The kernel has consumed the entry: io_uring_enter() returned *and* the
  // submission queue's head moved past it. A submit that failed or was short
  // has not consumed it. With IORING_SETUP_SQPOLL nothing tells when, so it
  // means kCompletion there, and on kernels before 5.5
  // (IORING_FEAT_SUBMIT_STABLE).
  kConsumed,

  // The request has been issued, which for linked, drained or IOSQE_ASYNC
  // requests can be arbitrarily later. Nothing tells when, so in practice it
  // means kCompletion. The class of handles: descriptor numbers, file slots,
  // buffer indices.
  kIssued,

  // The request's terminal completion: the one without IORING_CQE_F_MORE.
  kCompletion,

  // The same of a multishot request, which posts completions with
  // IORING_CQE_F_MORE before it.
  kLastCompletion,

  // The completion with IORING_CQE_F_NOTIF of a zero-copy send, or its first
  // one if that lacks IORING_CQE_F_MORE. The network stack reads the memory
  // even after the ring is gone.
  kNotification,

  // The buffer, table entry or group is unregistered *and* every request that
  // could have picked it is terminal.
  kUnregistered,

  // The ring is completely torn down: asynchronous, after the last reference,
  // with no notification. Never reuse it.
  kTeardown,
};

// A pointer that is about to be given to the kernel, with how long the kernel
// will use it. Converts from T*, costs nothing, owns nothing. `const T` is
// memory that the kernel only reads; otherwise it writes, or does both.
template <typename T, Until kHeld>
class KernelPtr {
 public:
  static constexpr Until kUntil = kHeld;

  // NOLINTNEXTLINE(google-explicit-constructor): fields take pointers.
  constexpr KernelPtr(T* pointer) noexcept : pointer_(pointer) {}

  constexpr T* get() const noexcept { return pointer_; }

 private:
  T* pointer_;
};

// The class of the pointer that a member of an operation is.
template <typename Op, typename Pointer>
constexpr Until UntilOf(Pointer Op::*) {
  return Pointer::kUntil;
}

// The longest class among the regions of operation `Op`: from that point on the
// kernel has no use for any memory that the operation points to.
// `Op::kRegions` is the tuple of the members that are KernelPtrs.
template <typename Op>
constexpr Until HeldUntil() {
  return std::apply(
      [](auto... members) {
        return std::max({Until::kConsumed, UntilOf(members)...});
      },
      Op::kRegions);
}

}  // namespace escrow::raw

#endif  // ESCROW_RAW_KERNEL_PTR_H_
