#ifndef ESCROW_SAFE_SEVERAL_H_
#define ESCROW_SAFE_SEVERAL_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "escrow/ownership/memory.h"

// For ops that take several of a kind, by value: a std::array or a std::vector.

namespace escrow::safe::internal {

// What `T` has several of, and how many of what the kernel is told about each
// are kept in the op itself.
template <typename T>
struct Several;

template <typename E>
struct Several<std::vector<E>> {
  using Element = E;
  static constexpr std::size_t kFew = 8;
};

template <typename E, std::size_t kCount>
struct Several<std::array<E, kCount>> {
  using Element = E;
  static constexpr std::size_t kFew = std::max(kCount, std::size_t{1});
};

// An array that is made when the op is where it stays: inside of it up to
// `kFew` elements, on the heap beyond.
template <typename T, std::size_t kFew>
class ArrayRoom {
 public:
  T* Make(std::size_t size) {
    if (size <= kFew) return few_;
    many_ = std::make_unique<T[]>(size);
    return many_.get();
  }

 private:
  T few_[kFew] = {};
  std::unique_ptr<T[]> many_;
};

// Where several pieces of memory are registered, if all of them are in one
// place, so that an operation may name that for all.
class CommonRegistration {
 public:
  template <ownership::Readable B>
  void Add(const B& piece) noexcept {
    ownership::BufferRegistration its = ownership::RegistrationOf(piece);
    // The kernel takes no empty part of registered memory.
    if (ownership::OwnedMemory<B>::Size(piece) == 0) its = {};
    if (!common_.has_value()) {
      common_ = its;
    } else if (*common_ != its) {
      common_ = ownership::BufferRegistration();
    }
  }

  ownership::BufferRegistration value() const noexcept {
    return common_.value_or(ownership::BufferRegistration());
  }

 private:
  std::optional<ownership::BufferRegistration> common_;
};

}  // namespace escrow::safe::internal

#endif  // ESCROW_SAFE_SEVERAL_H_
