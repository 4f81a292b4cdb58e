#ifndef ESCROW_OWNERSHIP_REGISTERED_BUFFER_H_
#define ESCROW_OWNERSHIP_REGISTERED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/check.h"
#include "escrow/ownership/memory.h"

namespace escrow::ownership {

class RegisteredBuffer;

// Memory that is registered as a whole, and lent out in pieces of one size. It
// stays where it is as long as somebody has a piece or can ask for one. Not
// thread-safe.
class BufferStore {
 public:
  // `count` pieces of `size` bytes, not initialized, each at a multiple of
  // `alignment`, a power of two. With one use, the caller's. Errors:
  // invalid_argument, not_enough_memory.
  static std::expected<BufferStore*, std::error_code> Make(
      std::size_t count, std::size_t size, std::size_t alignment);

  BufferStore(const BufferStore&) = delete;
  BufferStore& operator=(const BufferStore&) = delete;

  std::byte* data() noexcept { return memory_.data(); }
  std::size_t size() const noexcept { return memory_.size(); }

  // A piece, or nothing when all are lent out.
  std::optional<RegisteredBuffer> Take() noexcept;
  std::size_t available() const noexcept { return free_.size(); }

  // Where the memory is registered. With a null ring: nowhere, or not any more.
  BufferRegistration registration = {};

  void Use() noexcept { ++users_; }
  void EndUse() noexcept {
    if (--users_ == 0) delete this;
  }

 private:
  friend class RegisteredBuffer;

  BufferStore(Buffer memory, std::size_t count, std::size_t size,
              std::size_t stride);
  ~BufferStore() = default;

  void Return(std::byte* piece) noexcept {
    free_.push_back(piece);
    EndUse();
  }

  Buffer memory_;
  std::size_t piece_size_;
  std::vector<std::byte*> free_;  // with room for all of them
  std::size_t users_ = 1;
};

// A piece of registered memory, which no one else has meanwhile. It goes back
// when this is destroyed, wherever that is. Operations on the ring that it is
// registered with save the kernel the pinning of its pages; when the
// registration has ended, and on other rings, it is like any other memory.
//
// Movable, not copyable; a moved-from buffer is empty. Belongs to the thread of
// its pool.
class RegisteredBuffer {
 public:
  // An empty buffer, without memory.
  RegisteredBuffer() noexcept = default;

  RegisteredBuffer(RegisteredBuffer&& other) noexcept
      : store_(std::exchange(other.store_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  RegisteredBuffer& operator=(RegisteredBuffer&& other) noexcept {
    RegisteredBuffer taken(std::move(other));
    std::swap(store_, taken.store_);
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    return *this;
  }
  ~RegisteredBuffer() {
    if (store_ != nullptr) store_->Return(data_);
  }

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  // The size of every buffer of the pool.
  std::size_t capacity() const noexcept {
    return store_ == nullptr ? 0 : store_->piece_size_;
  }

  // Makes operations use the first `size` bytes only, or again all of them.
  // Requires size <= capacity(); keeps the bytes.
  void resize(std::size_t size) noexcept {
    ESCROW_CHECK(size <= capacity(), "a RegisteredBuffer does not grow");
    size_ = size;
  }

  std::byte& operator[](std::size_t index) noexcept { return data_[index]; }
  const std::byte& operator[](std::size_t index) const noexcept {
    return data_[index];
  }

  BufferRegistration registration() const noexcept {
    return store_ == nullptr ? BufferRegistration() : store_->registration;
  }

 private:
  friend class BufferStore;

  RegisteredBuffer(BufferStore& store, std::byte* data) noexcept
      : store_(&store), data_(data), size_(store.piece_size_) {
    store.Use();
  }

  BufferStore* store_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

template <>
struct OwnedMemory<RegisteredBuffer> {
  static std::byte* Data(RegisteredBuffer& value) noexcept {
    return value.data();
  }
  static std::size_t Size(const RegisteredBuffer& value) noexcept {
    return value.size();
  }
  static BufferRegistration Registration(
      const RegisteredBuffer& value) noexcept {
    return value.registration();
  }
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_REGISTERED_BUFFER_H_
