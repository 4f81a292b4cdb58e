#ifndef ESCROW_OWNERSHIP_BUFFER_H_
#define ESCROW_OWNERSHIP_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <expected>
#include <system_error>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/memory.h"

namespace escrow::ownership {

// Bytes on the heap with a chosen alignment. Movable, not copyable; a
// moved-from buffer is empty. The bytes do not move when the buffer does.
//
//   auto block = Buffer::Allocate(65536, /*alignment=*/4096);  // for O_DIRECT
class Buffer {
 public:
  // An empty buffer, without memory.
  Buffer() noexcept = default;

  // `size` bytes, not initialized, at a multiple of `alignment`, a power of
  // two: O_DIRECT wants the logical block size of the device, which 4096 covers
  // nearly everywhere (statx(2), STATX_DIOALIGN, says exactly). Errors:
  // invalid_argument for the alignment, not_enough_memory.
  static std::expected<Buffer, std::error_code> Allocate(
      std::size_t size, std::size_t alignment = alignof(std::max_align_t));

  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    std::swap(capacity_, taken.capacity_);
    return *this;
  }
  ~Buffer() {
    // Most destructors run on what was moved from.
    if (data_ != nullptr) std::free(data_);
  }

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  // The size it was allocated with.
  std::size_t capacity() const noexcept { return capacity_; }

  // Makes operations use the first `size` bytes only, or again all of them.
  // Requires size <= capacity(); keeps the bytes.
  void resize(std::size_t size) noexcept {
    ESCROW_CHECK(size <= capacity_, "a Buffer does not grow");
    size_ = size;
  }

  std::byte& operator[](std::size_t index) noexcept { return data_[index]; }
  const std::byte& operator[](std::size_t index) const noexcept {
    return data_[index];
  }

 private:
  Buffer(std::byte* data, std::size_t size) noexcept
      : data_(data), size_(size), capacity_(size) {}

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

template <>
struct OwnedMemory<Buffer> {
  static std::byte* Data(Buffer& value) noexcept { return value.data(); }
  static std::size_t Size(const Buffer& value) noexcept { return value.size(); }
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_BUFFER_H_
