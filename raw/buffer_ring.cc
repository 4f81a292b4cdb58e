#include "escrow/raw/buffer_ring.h"

#include <sys/mman.h>
#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/error.h"
#include "escrow/raw/register_result.h"

namespace escrow::raw {
namespace {

std::error_code RegisterIn(Ring& ring, const BufferRingOptions& options,
                           void* memory, unsigned flags) {
  io_uring_buf_reg registration = {};
  registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
  registration.ring_entries = options.entries;
  registration.bgid = options.group;
  registration.min_left = options.min_left;
  return RegisterError(
      IORING_REGISTER_PBUF_RING,
      io_uring_register_buf_ring(ring.get(), &registration, flags));
}

}  // namespace

std::expected<BufferRing, std::error_code> BufferRing::Register(
    Ring& ring, const BufferRingOptions& options,
    KernelPtr<void, Until::kUnregistered, Access::kReadWrite> memory) noexcept {
  auto* self = static_cast<io_uring_buf_ring*>(memory.get());
  // Before the kernel can look: leftovers there would be buffers.
  io_uring_buf_ring_init(self);
  if (const std::error_code error =
          RegisterIn(ring, options, self, options.flags)) {
    return std::unexpected(error);
  }
  return BufferRing(self, options, /*mapped=*/false);
}

std::expected<BufferRing, std::error_code> BufferRing::Map(
    Ring& ring, const BufferRingOptions& options) noexcept {
  if (options.group >= kMapGroups) {
    return std::unexpected(RegisterError(IORING_REGISTER_PBUF_RING, -EINVAL));
  }
  if (const std::error_code error = RegisterIn(
          ring, options, nullptr, options.flags | IOU_PBUF_RING_MMAP)) {
    return std::unexpected(error);
  }
  const std::uint64_t offset =
      IORING_OFF_PBUF_RING | std::uint64_t{options.group}
                                 << IORING_OFF_PBUF_SHIFT;
  void* memory = mmap(nullptr, MemorySize(options.entries),
                      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                      ring.get()->ring_fd, static_cast<off_t>(offset));
  if (memory == MAP_FAILED) {
    const std::error_code error = LastError<"mmap">();
    io_uring_unregister_buf_ring(ring.get(), options.group);
    return std::unexpected(error);
  }
  auto* self = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_ring_init(self);
  return BufferRing(self, options, /*mapped=*/true);
}

std::expected<std::uint16_t, std::error_code> BufferRing::Head(
    Ring& ring) const noexcept {
  std::uint16_t head = 0;
  if (const int result = io_uring_buf_ring_head(ring.get(), group_, &head);
      result < 0) {
    return std::unexpected(RegisterError(IORING_REGISTER_PBUF_STATUS, result));
  }
  return head;
}

std::expected<std::uint16_t, std::error_code> BufferRing::Available(
    Ring& ring) const noexcept {
  const int result = io_uring_buf_ring_available(ring.get(), ring_, group_);
  if (result < 0) {
    return std::unexpected(RegisterError(IORING_REGISTER_PBUF_STATUS, result));
  }
  return static_cast<std::uint16_t>(result);
}

std::error_code BufferRing::Unregister(Ring& ring) noexcept {
  if (const std::error_code error =
          RegisterError(IORING_UNREGISTER_PBUF_RING,
                        io_uring_unregister_buf_ring(ring.get(), group_))) {
    return error;
  }
  if (mapped_) munmap(ring_, MemorySize(entries()));
  return {};
}

}  // namespace escrow::raw
