#ifndef ESCROW_RAW_CONTRACT_H_
#define ESCROW_RAW_CONTRACT_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

// How long the kernel may use what a submission queue entry refers to.
//
// This is the only place where lifetimes are written down. Every pointer in an
// operation (ops.h) is a KernelPtr and every number that names something of the
// kernel's is a KernelHandle; their types carry the class. Whoever needs the
// fact reads it from there, at compile time:
//
//   static_assert(HeldUntil<Statx>() == Until::kCompletion);
//   for (const Region& region : RegionsOf<Statx>()) ...
//
// The classes are measured (tests/conformance): a request is held back behind
// another one, the region is made inaccessible after the submit, and the
// completion says whether the kernel missed it. Where they differ from
// liburing's man pages, the pages are wrong: most say that data passed in a
// struct need only be valid until the submit, which does not hold for what the
// kernel writes back.

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
  // means the request's end. The class of handles: descriptor numbers, file
  // slots, buffer indices. (A multishot request looks its buffer group and its
  // destination up again for every completion.)
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

constexpr const char* NameOf(Until until) noexcept {
  switch (until) {
    case Until::kConsumed:
      return "consumed";
    case Until::kIssued:
      return "issued";
    case Until::kCompletion:
      return "completion";
    case Until::kLastCompletion:
      return "last completion";
    case Until::kNotification:
      return "notification";
    case Until::kUnregistered:
      return "unregistered";
    case Until::kTeardown:
      return "teardown";
  }
  return "unknown";
}

// What the kernel does with it.
enum class Access : std::uint8_t {
  kRead,       // loads from it
  kWrite,      // stores into it
  kReadWrite,  // both
  kAddress,    // uses the address itself: what is mapped there by then
  kHandle,     // looks the number up: whatever it names by then
};

constexpr const char* NameOf(Access access) noexcept {
  switch (access) {
    case Access::kRead:
      return "reads";
    case Access::kWrite:
      return "writes";
    case Access::kReadWrite:
      return "reads and writes";
    case Access::kAddress:
      return "uses the address";
    case Access::kHandle:
      return "looks up";
  }
  return "unknown";
}

struct Region;

// Some regions, as a range. Copying it copies no region.
class Regions {
 public:
  constexpr Regions() noexcept = default;
  template <std::size_t kCount>
  // NOLINTNEXTLINE(google-explicit-constructor): a view of the array.
  constexpr Regions(const Region (&regions)[kCount]) noexcept
      : first_(regions), count_(kCount) {}

  constexpr const Region* begin() const noexcept { return first_; }
  constexpr const Region* end() const noexcept;
  constexpr std::size_t size() const noexcept { return count_; }
  constexpr bool empty() const noexcept { return count_ == 0; }

 private:
  const Region* first_ = nullptr;
  std::size_t count_ = 0;
};

// One thing that an operation refers to.
struct Region {
  const char*
      name;  // the field of the operation, or of the struct it points to
  Access access;
  Until until;
  Regions behind = {};    // what is pointed to or named by it, in turn
  const char* note = "";  // what to know beyond the class; empty: nothing
};

constexpr const Region* Regions::end() const noexcept {
  return first_ + count_;
}

// For what leads nowhere else.
struct Nothing {
  static constexpr Regions kRegions = {};
};

// What the kernel does with the memory of a pointer whose type says no more.
template <typename T>
inline constexpr Access kUsualAccess =
    std::is_const_v<T> ? Access::kRead : Access::kWrite;

// A pointer that is about to be given to the kernel, with how long the kernel
// will use it. Converts from T*, costs nothing, owns nothing. `const T` is
// memory that the kernel only reads. `Behind::kRegions` are the regions that
// the memory itself points to: the data of an iovec, the name in a msghdr.
template <typename T, Until kHeld, Access kUse = kUsualAccess<T>,
          typename Behind = Nothing>
class KernelPtr {
 public:
  static constexpr Until kUntil = kHeld;
  static constexpr Access kAccess = kUse;
  static constexpr Regions kBehind = Behind::kRegions;

  // NOLINTNEXTLINE(google-explicit-constructor): fields take pointers.
  constexpr KernelPtr(T* pointer) noexcept : pointer_(pointer) {}

  constexpr T* get() const noexcept { return pointer_; }

 private:
  T* pointer_;
};

// A number that names something: a descriptor, an index of a registered table.
// The kernel looks it up when the request is *issued*, not when it is
// submitted: close, replace or reuse it earlier, and the request hits whatever
// has the number by then. Converts from and to T.
template <typename T, typename Behind = Nothing>
class KernelHandle {
 public:
  static constexpr Until kUntil = Until::kIssued;
  static constexpr Access kAccess = Access::kHandle;
  static constexpr Regions kBehind = Behind::kRegions;

  // NOLINTNEXTLINE(google-explicit-constructor): stands for a T.
  constexpr KernelHandle(T number) noexcept : number_(number) {}
  // NOLINTNEXTLINE(google-explicit-constructor): stands for a T.
  constexpr operator T() const noexcept { return number_; }

 private:
  T number_;
};

// The region that a field is.
template <typename Op, typename Field>
constexpr Region RegionOf(const char* name, Field Op::*,
                          const char* note = "") noexcept {
  return {name, Field::kAccess, Field::kUntil, Field::kBehind, note};
}

// What operation `Op` refers to, in the order of its fields: its `kRegions`.
template <typename Op>
constexpr Regions RegionsOf() noexcept {
  if constexpr (requires { Op::kRegions; }) {
    return Op::kRegions;
  } else {
    return {};
  }
}

// The longest class among the memory in `regions` and behind them. Handles
// themselves do not count.
constexpr Until LongestOf(Regions regions) noexcept {
  Until longest = Until::kConsumed;
  for (const Region& region : regions) {
    if (region.access != Access::kHandle && region.until > longest) {
      longest = region.until;
    }
    if (const Until behind = LongestOf(region.behind); behind > longest) {
      longest = behind;
    }
  }
  return longest;
}

// From that point on the kernel has no use for any memory that `Op` refers to.
template <typename Op>
constexpr Until HeldUntil() noexcept {
  return LongestOf(RegionsOf<Op>());
}

}  // namespace escrow::raw

#endif  // ESCROW_RAW_CONTRACT_H_
