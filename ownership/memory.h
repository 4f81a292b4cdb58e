#ifndef ESCROW_OWNERSHIP_MEMORY_H_
#define ESCROW_OWNERSHIP_MEMORY_H_

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"

// Which values may be given to an operation: those that own their bytes, or
// whose bytes are static. An operation moves the value into its record, gives
// the kernel the address that the bytes have *there*, and moves the value back
// out when the kernel is done. That is why spans, string_views and pointers are
// not among them: they would leave the bytes behind.
//
// To adopt a buffer type of your own, specialise OwnedMemory for it. The bytes
// must be owned by the value (or be static), must stay where they are while the
// value is not touched, and moving the value must not throw.

namespace escrow::ownership {

class RecordPool;

// Where memory is registered, so that operations there may name it by its
// index: a ring, by the records of its operations, or none.
struct BufferRegistration {
  const RecordPool* ring = nullptr;
  std::uint16_t index = 0;

  bool operator==(const BufferRegistration&) const = default;
};

// Specialisations have two static functions, which are noexcept:
//   Data(B&)  -> std::byte*, or const std::byte* for memory that is read-only
//   Size(const B&) -> std::size_t, in bytes
// and, for memory that may be registered with a ring,
//   Registration(const B&) -> BufferRegistration
template <typename B>
struct OwnedMemory;

// Memory that the kernel may read: what a write or a send takes.
template <typename B>
concept Readable = std::is_nothrow_move_constructible_v<B> &&
    std::is_nothrow_destructible_v<B> && requires(B& value) {
  { OwnedMemory<B>::Data(value) }
  noexcept->std::convertible_to<const std::byte*>;
  { OwnedMemory<B>::Size(value) }
  noexcept->std::same_as<std::size_t>;
};

// Memory that the kernel may write: what a read or a receive takes.
template <typename B>
concept Writable = Readable<B> && requires(B& value) {
  { OwnedMemory<B>::Data(value) } -> std::same_as<std::byte*>;
};

template <typename T>
concept HasSizeInType = requires {
  std::tuple_size<T>::value;
};

// What only says where bytes are: spans, string_views.
template <typename T>
concept ViewsBytes = !HasSizeInType<T> && requires(T & value) {
  value.data();
};

// Memory that may be registered with a ring.
template <typename B>
concept Registered = Readable<B> && requires(const B& value) {
  { OwnedMemory<B>::Registration(value) }
  noexcept->std::same_as<BufferRegistration>;
};

// Where the memory of `value` is registered, if it may be.
template <Readable B>
BufferRegistration RegistrationOf(const B& value) noexcept {
  if constexpr (Registered<B>) {
    return OwnedMemory<B>::Registration(value);
  } else {
    return {};
  }
}

// Calls `use` with the address and the size of the memory of `value`, and
// before these, if it may be registered, with its BufferRegistration.
template <Readable B, typename Use>
void WithMemory(B& value, const Use& use) {
  using Memory = OwnedMemory<B>;
  if constexpr (Registered<B>) {
    use(Memory::Registration(value), Memory::Data(value), Memory::Size(value));
  } else {
    use(Memory::Data(value), Memory::Size(value));
  }
}

// Element types whose bytes may be read and written as such.
template <typename T>
concept PlainBytes = std::is_trivially_copyable_v<T> && !std::is_const_v<T> &&
                     !std::is_volatile_v<T> && !std::same_as<T, bool> &&
                     !std::is_pointer_v<T> && !ViewsBytes<T>;

// The elements of a vector, up to its size(), which the operation leaves alone.
// Only with the standard allocator: another one may not own what it gives out.
template <PlainBytes T>
struct OwnedMemory<std::vector<T>> {
  static std::byte* Data(std::vector<T>& value) noexcept {
    return reinterpret_cast<std::byte*>(value.data());
  }
  static std::size_t Size(const std::vector<T>& value) noexcept {
    return value.size() * sizeof(T);
  }
};

// The characters of a string, up to its size(), which the operation leaves
// alone.
template <>
struct OwnedMemory<std::string> {
  static std::byte* Data(std::string& value) noexcept {
    return reinterpret_cast<std::byte*>(value.data());
  }
  static std::size_t Size(const std::string& value) noexcept {
    return value.size();
  }
};

template <PlainBytes T, std::size_t kSize>
struct OwnedMemory<std::array<T, kSize>> {
  static std::byte* Data(std::array<T, kSize>& value) noexcept {
    return reinterpret_cast<std::byte*>(value.data());
  }
  static std::size_t Size(const std::array<T, kSize>&) noexcept {
    return kSize * sizeof(T);
  }
};

// A std::unique_ptr<T[]>, which does not know its size, with its size.
//
//   ring.Read(file, ownership::Array(std::move(blocks), count));
template <PlainBytes T>
class Array {
 public:
  // Owns `elements`, of which there are `size`.
  Array(std::unique_ptr<T[]> elements, std::size_t size) noexcept
      : elements_(std::move(elements)), size_(size) {
    ESCROW_CHECK(elements_ != nullptr || size == 0,
                 "an Array of a null pointer has no elements");
  }
  Array(Array&& other) noexcept
      : elements_(std::move(other.elements_)),
        size_(std::exchange(other.size_, 0)) {}
  Array& operator=(Array&& other) noexcept {
    elements_ = std::move(other.elements_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  T* data() noexcept { return elements_.get(); }
  const T* data() const noexcept { return elements_.get(); }
  std::size_t size() const noexcept { return size_; }
  T& operator[](std::size_t index) noexcept { return elements_[index]; }

  // Gives the pointer back.
  std::unique_ptr<T[]> release() && noexcept {
    size_ = 0;
    return std::move(elements_);
  }

 private:
  std::unique_ptr<T[]> elements_;
  std::size_t size_;
};

template <PlainBytes T>
struct OwnedMemory<Array<T>> {
  static std::byte* Data(Array<T>& value) noexcept {
    return reinterpret_cast<std::byte*>(value.data());
  }
  static std::size_t Size(const Array<T>& value) noexcept {
    return value.size() * sizeof(T);
  }
};

// Bytes with static storage duration, to be written or sent without a copy. The
// constructors run at compile time only, and no constant expression can hold
// the address of anything that is not static: other memory does not compile.
//
//   ring.Write(file, ownership::StaticBytes("HTTP/1.1 200 OK\r\n\r\n"));
class StaticBytes {
 public:
  // Without the terminating NUL of a literal.
  consteval StaticBytes(std::string_view text) noexcept  // NOLINT
      : data_(text.data()), size_(text.size()) {}
  consteval StaticBytes(const char* text) noexcept  // NOLINT
      : StaticBytes(std::string_view(text)) {}

  constexpr const char* data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }

 private:
  const char* data_;
  std::size_t size_;
};

template <>
struct OwnedMemory<StaticBytes> {
  static const std::byte* Data(StaticBytes& value) noexcept {
    return reinterpret_cast<const std::byte*>(value.data());
  }
  static std::size_t Size(const StaticBytes& value) noexcept {
    return value.size();
  }
};

// A part of an owned value: the operation works on the part, the whole is in
// escrow, and the whole comes back.
//
//   auto [written, slice] = ring.Wait(
//       ring.Write(file, ownership::Slice(std::move(block), 100, 28), 0));
//   block = std::move(slice).whole();
template <Readable B>
class Slice {
 public:
  // The `length` bytes of `whole` from `offset` on; they must be inside.
  Slice(B whole, std::size_t offset, std::size_t length) noexcept
      : whole_(std::move(whole)), offset_(offset), length_(length) {
    const std::size_t size = OwnedMemory<B>::Size(whole_);
    ESCROW_CHECK(offset <= size && length <= size - offset,
                 "a Slice reaches beyond the end of its buffer");
  }

  std::size_t offset() const noexcept { return offset_; }
  std::size_t size() const noexcept { return length_; }

  const B& whole() const& noexcept { return whole_; }
  B whole() && noexcept { return std::move(whole_); }

 private:
  friend struct OwnedMemory<Slice>;

  B whole_;
  std::size_t offset_;
  std::size_t length_;
};

template <Readable B>
struct OwnedMemory<Slice<B>> {
  static auto* Data(Slice<B>& value) noexcept {
    // A value shrunk since, by way of a move from it, has no such part any
    // more.
    ESCROW_CHECK(
        value.offset_ + value.length_ <= OwnedMemory<B>::Size(value.whole_),
        "a Slice reaches beyond the end of its buffer");
    return OwnedMemory<B>::Data(value.whole_) + value.offset_;
  }
  static std::size_t Size(const Slice<B>& value) noexcept {
    return value.length_;
  }
  static BufferRegistration Registration(
      const Slice<B>& value) noexcept requires Registered<B> {
    return OwnedMemory<B>::Registration(value.whole_);
  }
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_MEMORY_H_
