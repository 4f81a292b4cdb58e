#include "escrow/raw/buffer_table.h"

#include <sys/uio.h>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <system_error>

#include "escrow/raw/register_result.h"

namespace escrow::raw {
namespace {

// What goes to the kernel are the bytes of iovecs.
static_assert(sizeof(TableBuffer) == sizeof(iovec) &&
              alignof(TableBuffer) == alignof(iovec) &&
              offsetof(TableBuffer, data) == offsetof(iovec, iov_base) &&
              offsetof(TableBuffer, size) == offsetof(iovec, iov_len));

const iovec* Vectors(std::span<const TableBuffer> buffers) {
  return reinterpret_cast<const iovec*>(buffers.data());
}

// Null when there are none.
const __u64* Tags(std::span<const TableBuffer> buffers,
                  std::span<const std::uint64_t> tags) {
  static_assert(sizeof(__u64) == sizeof(std::uint64_t));
  if (tags.empty()) return nullptr;
  assert(tags.size() == buffers.size() && "one tag for each buffer, or none");
  static_cast<void>(buffers);
  return reinterpret_cast<const __u64*>(tags.data());
}

}  // namespace

std::error_code RegisterBuffers(Ring& ring,
                                std::span<const TableBuffer> buffers,
                                std::span<const std::uint64_t> tags) noexcept {
  const auto count = static_cast<unsigned>(buffers.size());
  if (tags.empty()) {
    return RegisterError(
        IORING_REGISTER_BUFFERS,
        io_uring_register_buffers(ring.get(), Vectors(buffers), count));
  }
  return RegisterError(
      IORING_REGISTER_BUFFERS2,
      io_uring_register_buffers_tags(ring.get(), Vectors(buffers),
                                     Tags(buffers, tags), count));
}

std::error_code RegisterBuffersSparse(Ring& ring, unsigned count) noexcept {
  return RegisterError(IORING_REGISTER_BUFFERS2,
                       io_uring_register_buffers_sparse(ring.get(), count));
}

std::expected<unsigned, std::error_code> RegisterBuffersUpdate(
    Ring& ring, unsigned first, std::span<const TableBuffer> buffers,
    std::span<const std::uint64_t> tags) noexcept {
  return RegisterCount(
      IORING_REGISTER_BUFFERS_UPDATE,
      io_uring_register_buffers_update_tag(
          ring.get(), first, Vectors(buffers), Tags(buffers, tags),
          static_cast<unsigned>(buffers.size())));
}

std::error_code UnregisterBuffers(Ring& ring) noexcept {
  return RegisterError(IORING_UNREGISTER_BUFFERS,
                       io_uring_unregister_buffers(ring.get()));
}

std::error_code CloneBuffers(Ring& ring, Ring& source,
                             const CloneOptions& options) noexcept {
  return RegisterError(IORING_REGISTER_CLONE_BUFFERS,
                       __io_uring_clone_buffers_offset(
                           ring.get(), source.get(), options.to, options.from,
                           options.count, options.flags));
}

}  // namespace escrow::raw
