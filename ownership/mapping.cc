#include "escrow/ownership/mapping.h"

#include <sys/mman.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <expected>
#include <system_error>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/raw/error.h"

namespace escrow::ownership {

std::expected<Mapping, std::error_code> Mapping::Map(std::size_t size,
                                                     int number,
                                                     const Options& options) {
  ESCROW_CHECK((options.flags & MAP_FIXED) == 0,
               "a Mapping in the place of what somebody else owns");
  void* const data = ::mmap(nullptr, size, options.protection, options.flags,
                            number, static_cast<off_t>(options.offset));
  if (data == MAP_FAILED) {
    return std::unexpected(raw::LastError<"mmap">());
  }
  return Mapping(static_cast<std::byte*>(data), size);
}

std::expected<Mapping, std::error_code> Mapping::Anonymous(std::size_t size,
                                                           int flags) {
  return Map(size, -1, {.flags = flags | MAP_ANONYMOUS});
}

std::expected<Mapping, std::error_code> Mapping::OfFile(
    const Descriptor& file, std::size_t size, const Options& options) {
  ESCROW_CHECK(!file.Share().is_slot(), "a Mapping of a registered file");
  return Map(size, file.number(), options);
}

}  // namespace escrow::ownership
