#ifndef ESCROW_OWNERSHIP_MAPPING_H_
#define ESCROW_OWNERSHIP_MAPPING_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"

namespace escrow::ownership {

// Owns pages that mmap(2) has mapped, and unmaps them on destruction. Movable,
// not copyable; a moved-from mapping is empty. The bytes do not move when the
// mapping does.
//
//   auto pages = Mapping::Anonymous(std::size_t{1} << 21);
//
// Operations read and write it like any buffer. Where that is not allowed (a
// read into a mapping without PROT_WRITE, pages behind the end of a file), they
// fail with bad_address.
class Mapping {
 public:
  struct Options {
    std::uint64_t offset = 0;  // bytes into the file, whole pages
    int protection = PROT_READ | PROT_WRITE;  // PROT_*
    int flags = MAP_PRIVATE;                  // MAP_*; not MAP_FIXED
  };

  // An empty mapping, without memory.
  Mapping() noexcept = default;

  // `size` bytes, all zero. Errors are those of mmap(2): invalid_argument for a
  // size of 0 and for the flags, not_enough_memory. With MAP_SHARED in `flags`,
  // child processes share them; with MAP_HUGETLB the size has to be in whole
  // huge pages.
  static std::expected<Mapping, std::error_code> Anonymous(
      std::size_t size, int flags = MAP_PRIVATE);

  // `size` bytes of `file`, which may be closed afterwards. Errors are those of
  // mmap(2).
  static std::expected<Mapping, std::error_code> OfFile(const Descriptor& file,
                                                        std::size_t size,
                                                        const Options& options);

  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    Mapping taken(std::move(other));
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    return *this;
  }
  ~Mapping() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

 private:
  Mapping(std::byte* data, std::size_t size) noexcept
      : data_(data), size_(size) {}

  static std::expected<Mapping, std::error_code> Map(std::size_t size,
                                                     int number,
                                                     const Options& options);

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

template <>
struct OwnedMemory<Mapping> {
  static std::byte* Data(Mapping& value) noexcept { return value.data(); }
  static std::size_t Size(const Mapping& value) noexcept {
    return value.size();
  }
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_MAPPING_H_
