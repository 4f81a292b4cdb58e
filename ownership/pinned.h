#ifndef ESCROW_OWNERSHIP_PINNED_H_
#define ESCROW_OWNERSHIP_PINNED_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/memory.h"

// Memory that an operation uses where it is: a member of an object, a static, a
// local variable of a function that does not return before.
//
//   struct Session {
//     ownership::Pinnable<Header> header;
//   };
//   ring.Read(file, session.header.Pin(), 0);
//
// The program keeps the value, and cannot destroy, move or touch it meanwhile:
// what would is a failing check, or waits.

namespace escrow::ownership {

// What can be pinned: what an operation takes, and objects of plain bytes.
template <typename T>
concept CanBePinned = Readable<T> || PlainBytes<T>;

namespace internal {

// What pins refer to.
template <typename T>
struct PinState {
  T value;
  std::uint32_t readers = 0;
  bool writer = false;
};

}  // namespace internal

// What holds a Pinnable where it is, to be given to an operation: Readable, and
// Writable if `T` is not const. Movable, not copyable; a moved-from pin holds
// nothing and has no bytes.
template <typename T>
class Pinned {
 public:
  Pinned(Pinned&& other) noexcept
      : state_(std::exchange(other.state_, nullptr)) {}
  Pinned& operator=(Pinned&& other) noexcept {
    Pinned taken(std::move(other));
    std::swap(state_, taken.state_);
    return *this;
  }
  ~Pinned() {
    if (state_ == nullptr) return;
    if constexpr (std::is_const_v<T>) {
      --state_->readers;
    } else {
      state_->writer = false;
    }
  }

 private:
  template <CanBePinned U, typename Wait>
  friend class Pinnable;
  friend struct OwnedMemory<Pinned>;

  using State = internal::PinState<std::remove_const_t<T>>;

  explicit Pinned(State& state) noexcept : state_(&state) {}

  State* state_;
};

// The default of what a Pinnable does that is destroyed while it is pinned.
struct FailIfPinned {
  bool operator()() const noexcept { return false; }
};

// A value that may be pinned. Neither movable nor copyable. Belongs to one
// thread at a time, together with its pins.
//
// `Wait` is called, without arguments, by the destructor while there are pins,
// again and again: it lets some go, such as by dispatching the ring that they
// are on (DispatchIfPinned), and returns whether it makes sense to call it
// again. If not, a check fails.
template <CanBePinned T, typename Wait = FailIfPinned>
class Pinnable {
 public:
  explicit Pinnable(T value = T(), Wait wait = Wait())
      : state_{std::move(value)}, wait_(std::move(wait)) {}
  Pinnable(const Pinnable&) = delete;
  Pinnable& operator=(const Pinnable&) = delete;
  ~Pinnable() {
    while (pinned()) {
      ESCROW_CHECK(wait_(), "a Pinnable destroyed while it is pinned");
    }
  }

  // For the kernel to write, or read: the only pin. Requires !pinned().
  Pinned<T> Pin() noexcept {
    ESCROW_CHECK(!pinned(), "Pin() of what is pinned");
    state_.writer = true;
    return Pinned<T>(state_);
  }

  // For the kernel to read: others like it are possible, and so is looking at
  // the value.
  Pinned<const T> PinToRead() noexcept {
    ESCROW_CHECK(!state_.writer, "PinToRead() of what may be written");
    ++state_.readers;
    return Pinned<const T>(state_);
  }

  bool pinned() const noexcept { return state_.writer || state_.readers != 0; }

  // The value, to be changed: requires !pinned().
  T& Edit() noexcept {
    ESCROW_CHECK(!pinned(), "Edit() of what is pinned");
    return state_.value;
  }
  // To be looked at: not while it may be written.
  const T& operator*() const noexcept {
    ESCROW_CHECK(!state_.writer, "a look at what may be written");
    return state_.value;
  }
  const T* operator->() const noexcept { return &**this; }

 private:
  internal::PinState<T> state_;
  [[no_unique_address]] Wait wait_;
};

template <typename T>
struct OwnedMemory<Pinned<T>> {
  using Byte =
      std::conditional_t<std::is_const_v<T>, const std::byte, std::byte>;

  static auto Data(Pinned<T>& pin) noexcept {
    using Value = std::remove_const_t<T>;
    if constexpr (!Readable<Value>) {
      Byte* const data = pin.state_ == nullptr
                             ? nullptr
                             : reinterpret_cast<Byte*>(&pin.state_->value);
      return data;
    } else if constexpr (Writable<Value>) {
      Byte* const data = pin.state_ == nullptr
                             ? nullptr
                             : OwnedMemory<Value>::Data(pin.state_->value);
      return data;
    } else {
      const std::byte* const data =
          pin.state_ == nullptr ? nullptr
                                : OwnedMemory<Value>::Data(pin.state_->value);
      return data;
    }
  }
  static std::size_t Size(const Pinned<T>& pin) noexcept {
    using Value = std::remove_const_t<T>;
    if (pin.state_ == nullptr) return 0;
    if constexpr (Readable<Value>) {
      return OwnedMemory<Value>::Size(pin.state_->value);
    } else {
      return sizeof(Value);
    }
  }
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_PINNED_H_
