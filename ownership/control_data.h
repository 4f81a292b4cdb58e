#ifndef ESCROW_OWNERSHIP_CONTROL_DATA_H_
#define ESCROW_OWNERSHIP_CONTROL_DATA_H_

#include <sys/socket.h>

#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"

// What a message has beside its bytes, as cmsg(3) describes it: descriptors
// that are passed, credentials, time stamps, addresses of packets.

namespace escrow::ownership {

// Control data to be sent.
//
//   ControlData control;
//   control.Pass(log);  // a Descriptor, which the receiver gets its own of
//
// Movable; a moved-from one is empty. Belongs to the thread of the Descriptors
// that it passes.
class ControlData {
 public:
  // None.
  ControlData() noexcept = default;
  ControlData(ControlData&&) noexcept = default;
  ControlData& operator=(ControlData&&) noexcept = default;
  ~ControlData() = default;

  // Passes `descriptor` over a unix socket (SCM_RIGHTS): the receiver gets
  // another one of the same open file. This holds a share until Clear(). At
  // most 253 for one message. Requires that it is valid().
  void Pass(const Descriptor& descriptor);

  // Adds a copy of `data`, whose meaning is that of `level` (SOL_*, IPPROTO_*)
  // and `type`. Descriptors cannot be passed like this.
  void Add(int level, int type, std::span<const std::byte> data);

  // Leaves nothing but the memory, for the next message.
  void Clear() noexcept;

  bool empty() const noexcept { return size() == 0; }

  // For an operation: the control messages, and their size.
  const std::byte* data() const noexcept {
    return content_ == nullptr ? nullptr : content_->bytes.data();
  }
  std::size_t size() const noexcept {
    return content_ == nullptr ? 0 : content_->bytes.size();
  }

 private:
  struct Content {
    std::vector<std::byte> bytes;
    std::vector<DescriptorShare> shares;
  };

  void Append(int level, int type, std::span<const std::byte> data);

  std::unique_ptr<Content> content_;  // null until something is added
};

// One control message that was received. Views the ControlRoom.
struct ControlMessage {
  int level;  // SOL_*, IPPROTO_*
  int type;   // of that level
  std::span<const std::byte> data;

  // The data as what it is; nothing if there is too little of it.
  template <PlainBytes T>
  std::optional<T> As() const noexcept {
    T value = {};
    if (data.size() < sizeof(value)) return std::nullopt;
    std::memcpy(&value, data.data(), sizeof(value));
    return value;
  }
};

// Room for control data to be received, and then what was. Owns the descriptors
// in it: those that nobody takes out are closed.
//
//   ControlRoom room(ControlRoom::For(2 * sizeof(int)));  // two descriptors
//   ...
//   while (Descriptor descriptor = room.TakeDescriptor()) Use(descriptor);
//   for (const ControlMessage& message : room) ...
//
// Movable; a moved-from one has no room.
class ControlRoom {
 public:
  // Views what was received but descriptors, in the order it came.
  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = ControlMessage;

    Iterator() noexcept = default;

    ControlMessage operator*() const noexcept;
    Iterator& operator++() noexcept;
    void operator++(int) noexcept { ++*this; }
    bool operator==(std::default_sentinel_t) const noexcept {
      return left_.empty();
    }

   private:
    friend class ControlRoom;

    explicit Iterator(std::span<const std::byte> left) noexcept : left_(left) {
      SkipDescriptors();
    }
    void SkipDescriptors() noexcept;

    std::span<const std::byte> left_;  // begins with a message, or is empty
  };

  // None: control data is cut off, and passed descriptors are closed.
  ControlRoom() noexcept = default;

  // `size` bytes of it, a sum of For().
  explicit ControlRoom(std::size_t size)
      : bytes_(std::make_unique<std::byte[]>(size)), size_(size) {}

  // What a control message with `size` bytes of data takes up.
  static constexpr std::size_t For(std::size_t size) noexcept {
    return CMSG_SPACE(size);
  }

  ControlRoom(ControlRoom&& other) noexcept
      : bytes_(std::move(other.bytes_)), size_(std::exchange(other.size_, 0)) {}
  ControlRoom& operator=(ControlRoom&& other) noexcept {
    ControlRoom taken(std::move(other));
    std::swap(bytes_, taken.bytes_);
    std::swap(size_, taken.size_);
    return *this;
  }
  ~ControlRoom() { CloseDescriptors(); }

  // The next descriptor that was passed (SCM_RIGHTS), in the order they came.
  // Empty when there are no more.
  Descriptor TakeDescriptor();

  // The one of the sending process (SCM_PIDFD, for a socket with SO_PASSPIDFD).
  // Empty if there is none.
  Descriptor TakePidfd();

  Iterator begin() const noexcept { return Iterator(All()); }
  static std::default_sentinel_t end() noexcept { return {}; }

  // Closes the descriptors that were not taken, and makes the room free.
  void Clear() noexcept;

  // For an operation: the room, which has to be clear. Whatever is found in it
  // from then on was received.
  std::byte* data() noexcept { return bytes_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  std::span<std::byte> All() const noexcept { return {bytes_.get(), size_}; }
  Descriptor TakeOf(int type);
  void CloseDescriptors() noexcept;

  // A chain of messages, with zeros behind it: the kernel says how much it
  // wrote only when an operation succeeds.
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_ = 0;
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_CONTROL_DATA_H_
