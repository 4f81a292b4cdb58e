#include "escrow/ownership/buffer.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <expected>
#include <system_error>

#include "escrow/raw/error.h"

namespace escrow::ownership {

std::expected<Buffer, std::error_code> Buffer::Allocate(std::size_t size,
                                                        std::size_t alignment) {
  const auto& category = raw::CategoryOf<"posix_memalign">();
  void* data = nullptr;
  if (!std::has_single_bit(alignment)) {
    return std::unexpected(std::error_code(EINVAL, category));
  }
  // posix_memalign() itself refuses what is weaker than a pointer's alignment.
  if (const int error =
          posix_memalign(&data, std::max(alignment, alignof(void*)),
                         std::max<std::size_t>(size, 1))) {
    return std::unexpected(std::error_code(error, category));
  }
  return Buffer(static_cast<std::byte*>(data), size);
}

}  // namespace escrow::ownership
