#ifndef ESCROW_EXAMPLES_EXTENTS_H_
#define ESCROW_EXAMPLES_EXTENTS_H_

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <system_error>

#include "escrow/ownership/descriptor.h"

// Where in a sparse file the data is.

namespace escrow::examples {

struct Block {
  std::uint64_t offset;
  std::size_t length;
};

// Cuts the data between two offsets of a file into blocks, in ascending order,
// and leaves the holes out. Without SEEK_HOLE in the file system everything
// counts as data.
class Extents {
 public:
  // `file` must outlive this.
  Extents(const ownership::Descriptor& file, std::uint64_t begin,
          std::uint64_t end)
      : file_(file), position_(begin), data_end_(begin), end_(end) {}

  // A block of at most `most` bytes, or nothing when there are no more. The
  // error is that of lseek(2).
  std::expected<std::optional<Block>, std::error_code> Next(std::size_t most);

  // Bytes in the holes that were left out so far.
  std::uint64_t holes() const noexcept { return holes_; }

 private:
  std::expected<void, std::error_code> FindData();

  const ownership::Descriptor& file_;
  std::uint64_t position_;
  std::uint64_t data_end_;
  std::uint64_t end_;
  std::uint64_t holes_ = 0;
};

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_EXTENTS_H_
