#include "escrow/ownership/registered_buffer.h"

#include <bit>
#include <cstddef>
#include <expected>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include "escrow/ownership/buffer.h"

namespace escrow::ownership {

std::expected<BufferStore*, std::error_code> BufferStore::Make(
    std::size_t count, std::size_t size, std::size_t alignment) {
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max() / 2;
  if (count == 0 || size == 0 || !std::has_single_bit(alignment) ||
      alignment > kMost || size > kMost - alignment) {
    return std::unexpected(std::make_error_code(std::errc::invalid_argument));
  }
  const std::size_t stride = (size + alignment - 1) & ~(alignment - 1);
  if (stride > kMost / count) {
    return std::unexpected(std::make_error_code(std::errc::not_enough_memory));
  }
  std::expected<Buffer, std::error_code> memory =
      Buffer::Allocate(stride * count, alignment);
  if (!memory) return std::unexpected(memory.error());
  return new BufferStore(std::move(*memory), count, size, stride);
}

BufferStore::BufferStore(Buffer memory, std::size_t count, std::size_t size,
                         std::size_t stride)
    : memory_(std::move(memory)), piece_size_(size) {
  free_.reserve(count);
  for (std::size_t i = count; i > 0; --i) {
    free_.push_back(memory_.data() + (i - 1) * stride);
  }
}

std::optional<RegisteredBuffer> BufferStore::Take() noexcept {
  if (free_.empty()) return std::nullopt;
  std::byte* const piece = free_.back();
  free_.pop_back();
  return RegisteredBuffer(*this, piece);
}

}  // namespace escrow::ownership
