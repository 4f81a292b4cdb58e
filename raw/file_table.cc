#include "escrow/raw/file_table.h"

#include <cassert>
#include <cstdint>
#include <expected>
#include <span>
#include <system_error>

#include "escrow/raw/register_result.h"

namespace escrow::raw {

std::error_code RegisterFiles(Ring& ring, std::span<const int> files,
                              std::span<const std::uint64_t> tags) noexcept {
  const auto count = static_cast<unsigned>(files.size());
  if (tags.empty()) {
    return RegisterError(
        IORING_REGISTER_FILES,
        io_uring_register_files(ring.get(), files.data(), count));
  }
  assert(tags.size() == files.size() && "one tag for each file, or none");
  static_assert(sizeof(__u64) == sizeof(std::uint64_t));
  return RegisterError(IORING_REGISTER_FILES2,
                       io_uring_register_files_tags(
                           ring.get(), files.data(),
                           reinterpret_cast<const __u64*>(tags.data()), count));
}

std::error_code RegisterFilesSparse(Ring& ring, unsigned count) noexcept {
  return RegisterError(IORING_REGISTER_FILES2,
                       io_uring_register_files_sparse(ring.get(), count));
}

std::expected<unsigned, std::error_code> RegisterFilesUpdate(
    Ring& ring, unsigned first, std::span<const int> files,
    std::span<const std::uint64_t> tags) noexcept {
  const auto count = static_cast<unsigned>(files.size());
  if (tags.empty()) {
    return RegisterCount(
        IORING_REGISTER_FILES_UPDATE,
        io_uring_register_files_update(ring.get(), first, files.data(), count));
  }
  assert(tags.size() == files.size() && "one tag for each file, or none");
  return RegisterCount(IORING_REGISTER_FILES_UPDATE2,
                       io_uring_register_files_update_tag(
                           ring.get(), first, files.data(),
                           reinterpret_cast<const __u64*>(tags.data()), count));
}

std::error_code RegisterFileAllocRange(Ring& ring, unsigned first,
                                       unsigned count) noexcept {
  return RegisterError(
      IORING_REGISTER_FILE_ALLOC_RANGE,
      io_uring_register_file_alloc_range(ring.get(), first, count));
}

std::error_code UnregisterFiles(Ring& ring) noexcept {
  return RegisterError(IORING_UNREGISTER_FILES,
                       io_uring_unregister_files(ring.get()));
}

}  // namespace escrow::raw
