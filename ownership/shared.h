#ifndef ESCROW_OWNERSHIP_SHARED_H_
#define ESCROW_OWNERSHIP_SHARED_H_

#include <cstddef>
#include <memory>
#include <utility>

#include "escrow/ownership/memory.h"

namespace escrow::ownership {

// Bytes that several operations read at the same time: a copy is another
// reference to the same bytes, which nobody changes any more, and which are
// destroyed with the last one.
//
//   const ownership::Shared news(std::string("..."));
//   for (const Descriptor& peer : peers) {
//     ring.Start(Send<Shared<std::string>>{.socket = peer, .buffer = news});
//   }
//
// Making one allocates, copying does not. Copies may be on different threads;
// what they refer to is destroyed on the thread of the last one, which has to
// be that of its pool, group or table if it has one.
template <Readable B>
class Shared {
 public:
  explicit Shared(B value) : value_(std::make_shared<B>(std::move(value))) {}

  Shared(const Shared&) noexcept = default;
  Shared(Shared&&) noexcept = default;
  Shared& operator=(const Shared&) noexcept = default;
  Shared& operator=(Shared&&) noexcept = default;
  ~Shared() = default;

  // Not of one that was moved from.
  const B& operator*() const noexcept { return *value_; }
  const B* operator->() const noexcept { return value_.get(); }

 private:
  friend struct OwnedMemory<Shared>;

  std::shared_ptr<B> value_;
};

// Of one that was moved from: no bytes.
template <Readable B>
struct OwnedMemory<Shared<B>> {
  static const std::byte* Data(Shared<B>& shared) noexcept {
    return shared.value_ == nullptr ? nullptr
                                    : OwnedMemory<B>::Data(*shared.value_);
  }
  static std::size_t Size(const Shared<B>& shared) noexcept {
    return shared.value_ == nullptr ? 0 : OwnedMemory<B>::Size(*shared.value_);
  }
  static BufferRegistration Registration(
      const Shared<B>& shared) noexcept requires Registered<B> {
    return shared.value_ == nullptr
               ? BufferRegistration()
               : OwnedMemory<B>::Registration(*shared.value_);
  }
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_SHARED_H_
