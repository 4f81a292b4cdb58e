#ifndef ESCROW_OWNERSHIP_DESCRIPTOR_H_
#define ESCROW_OWNERSHIP_DESCRIPTOR_H_

#include <cstdint>
#include <expected>
#include <system_error>
#include <utility>

#include "escrow/ownership/check.h"

namespace escrow::ownership {

class Descriptor;
class FileSlots;
class FixedFile;

// A share in an open descriptor, held by each operation on it. The descriptor
// is closed when its owner and all shares are gone, so its number cannot be
// reused while an operation could still be issued on it.
class DescriptorShare {
 public:
  DescriptorShare() noexcept = default;
  DescriptorShare(const DescriptorShare& other) noexcept
      : state_(other.state_) {
    if (state_ != nullptr) ++state_->shares;
  }
  DescriptorShare(DescriptorShare&& other) noexcept
      : state_(std::exchange(other.state_, nullptr)) {}
  DescriptorShare& operator=(DescriptorShare other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~DescriptorShare() { Release(); }

  // Whether this is a share; number() requires it.
  bool valid() const noexcept { return state_ != nullptr; }
  int number() const noexcept { return state_->number; }

  // Whether number() is not a descriptor's but that of a slot in a ring's table
  // of registered files. Requires valid().
  bool is_slot() const noexcept { return state_->slots != nullptr; }
  // That table. Requires is_slot().
  const FileSlots& slots() const noexcept { return *state_->slots; }

  // Whether both are shares in the same, or none.
  bool operator==(const DescriptorShare& other) const noexcept {
    return state_ == other.state_;
  }

  // Ends this share, unless that has consequences: whether it did. Requires
  // valid().
  bool ReleaseLightly() noexcept {
    if (--state_->shares == 0) [[unlikely]] {
      state_->shares = 1;
      return false;
    }
    state_ = nullptr;
    return true;
  }

  // Ends this share, if it is one.
  void Release() noexcept {
    State* const state = std::exchange(state_, nullptr);
    if (state != nullptr && --state->shares == 0) [[unlikely]] {
      Dwindled(state);
    }
  }

 private:
  friend class Descriptor;
  friend class FixedFile;

  struct State {
    int number;
    // How many may end until something is to be done: all that there are or,
    // with `when_alone`, all but one.
    std::uint32_t shares;
    FileSlots* slots;  // of a slot
    // When no share is left; null for Descriptor::Permanent().
    void (*close)(State& state) noexcept;
    // Called once, when a single share is left.
    void (*when_alone)(void* context);
    void* context;
  };

  explicit DescriptorShare(State* state) noexcept : state_(state) {}

  // How many others there are, and whether there are none. Require valid().
  std::uint32_t others() const noexcept {
    return state_->shares - (state_->when_alone == nullptr ? 1 : 0);
  }
  bool alone() const noexcept { return others() == 0; }

  // From a few that each thread keeps, so that opening and accepting over and
  // over allocates nothing.
  static State* MakeState();

  // No share is left, or one that asked to be told.
  static void Dwindled(State* state) noexcept;

  // For the owners, which say what it does.
  void WhenAlone(void (*callback)(void* context), void* context) noexcept;

  State* state_ = nullptr;
};

// Owns a file descriptor. Movable; closes with close(2) on destruction, or when
// the last operation on it is done if that is later. A Descriptor and the
// operations on it belong to one thread at a time, whose rings may all use it;
// for another thread, Duplicate() it.
class Descriptor {
 public:
  // Owns nothing: valid() is false.
  Descriptor() noexcept = default;

  // Takes ownership of an open descriptor.
  static Descriptor Adopt(int number);

  // Refers to a descriptor that the caller promises never to close, such as
  // standard output. It is not closed here.
  static Descriptor Permanent(int number);

  // A second descriptor of the same open file, with a life of its own; fcntl(2)
  // with F_DUPFD_CLOEXEC, whose errors it returns. Requires valid().
  std::expected<Descriptor, std::error_code> Duplicate() const;

  Descriptor(Descriptor&&) noexcept = default;
  Descriptor& operator=(Descriptor&&) noexcept = default;
  ~Descriptor() = default;

  bool valid() const noexcept { return share_.state_ != nullptr; }
  explicit operator bool() const noexcept { return valid(); }

  // The number, which stays owned. Requires valid().
  int number() const noexcept {
    ESCROW_CHECK(valid(), "an empty Descriptor has no number");
    return share_.number();
  }

  // For an operation to hold. Requires valid().
  DescriptorShare Share() const noexcept {
    ESCROW_CHECK(valid(), "an operation on an empty Descriptor");
    return share_;
  }

  // How many shares there are besides this, and whether that is none. Require
  // valid().
  std::uint32_t shares() const noexcept { return share_.others(); }
  bool alone() const noexcept { return share_.alone(); }

  // Has `callback` called with `context` when the last share but this is gone;
  // once, and not before this returns. Requires valid() and !alone(). A null
  // `callback` withdraws that, if it has not been called; a Descriptor that is
  // destroyed does not. It is called in the middle of a ring's work and may not
  // use a ring. Close() takes the place of a callback for itself.
  void WhenAlone(void (*callback)(void* context), void* context) noexcept;

  // Gives up ownership: the number, open, is the caller's to close. Requires
  // valid() and alone().
  int Release() && noexcept;

  // For whoever has closed the number. What has a share still does not use it
  // any more. Requires valid().
  void Closed() && noexcept;

 private:
  explicit Descriptor(DescriptorShare::State* state) noexcept : share_(state) {}

  DescriptorShare share_;
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_DESCRIPTOR_H_
