#include "escrow/examples/extents.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <system_error>

namespace escrow::examples {

std::expected<std::optional<Block>, std::error_code> Extents::Next(
    std::size_t most) {
  if (position_ == data_end_ && position_ < end_) {
    if (auto found = FindData(); !found) return std::unexpected(found.error());
  }
  if (position_ == end_) return std::nullopt;
  const auto length = static_cast<std::size_t>(
      std::min<std::uint64_t>(most, data_end_ - position_));
  const Block block = {position_, length};
  position_ += length;
  return block;
}

std::expected<void, std::error_code> Extents::FindData() {
  ::off_t data =
      ::lseek(file_.number(), static_cast<::off_t>(position_), SEEK_DATA);
  if (data < 0) {
    if (errno == EINVAL || errno == EOPNOTSUPP) {
      data_end_ = end_;
      return {};
    }
    if (errno != ENXIO) {
      return std::unexpected(std::error_code(errno, std::generic_category()));
    }
    data = static_cast<::off_t>(end_);  // no data from here on
  }
  const auto begin = std::min(static_cast<std::uint64_t>(data), end_);
  holes_ += begin - position_;
  position_ = data_end_ = begin;
  if (begin == end_) return {};
  const ::off_t hole = ::lseek(file_.number(), data, SEEK_HOLE);
  // No hole, where at least the end of the file should be one: it is changing
  // under us, and reading will tell.
  data_end_ =
      hole > data ? std::min(static_cast<std::uint64_t>(hole), end_) : end_;
  return {};
}

}  // namespace escrow::examples
