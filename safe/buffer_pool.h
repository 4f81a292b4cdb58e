#ifndef ESCROW_SAFE_BUFFER_POOL_H_
#define ESCROW_SAFE_BUFFER_POOL_H_

#include <cstddef>
#include <optional>
#include <utility>

#include "escrow/ownership/registered_buffer.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"

namespace escrow::safe {

namespace internal {
class PoolRegistration;
}  // namespace internal

struct BufferPoolOptions {
  std::size_t count = 64;        // of buffers
  std::size_t size = 65536;      // of each, in bytes
  std::size_t alignment = 4096;  // of each, a power of two
};

// Buffers whose pages the kernel pins once, when the pool is made, and not for
// each operation. Reads, writes and zero-copy sends with them on the pool's
// ring, of one or of several, are those of registered buffers, all by
// themselves.
//
//   auto pool = safe::BufferPool::Create(ring);
//   if (std::optional block = pool->Take()) {
//     auto [size, data] = ring.Wait(ring.Read(file, std::move(*block), 0));
//   }  // `data` is back in the pool
//
// A buffer goes back where it is destroyed, also inside an operation. The
// registration ends with this pool or with the ring; what has a buffer by then
// keeps it, and the memory stays until the last one is gone. An operation that
// is linked behind another one, and comes to run only after that, fails with
// bad_address.
//
// A ring has one pool at a time. Belongs to the thread of its ring. Movable; a
// moved-from pool may only be destroyed or assigned to.
class BufferPool {
 public:
  // All buffers together are at most 1 GiB. Errors: device_or_resource_busy
  // when the ring has registered buffers, not_enough_memory also when
  // RLIMIT_MEMLOCK does not suffice, invalid_argument.
  static Result<BufferPool> Create(Ring& ring,
                                   const BufferPoolOptions& options = {});

  BufferPool(BufferPool&& other) noexcept
      : registration_(std::exchange(other.registration_, nullptr)) {}
  BufferPool& operator=(BufferPool&& other) noexcept {
    BufferPool taken(std::move(other));
    std::swap(registration_, taken.registration_);
    return *this;
  }
  ~BufferPool();

  // A buffer that nobody else has, with whatever was left in it; nothing when
  // all are in use.
  std::optional<ownership::RegisteredBuffer> Take() noexcept;

  // How many can be taken.
  std::size_t available() const noexcept;

 private:
  explicit BufferPool(internal::PoolRegistration& registration) noexcept
      : registration_(&registration) {}

  internal::PoolRegistration* registration_;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_BUFFER_POOL_H_
