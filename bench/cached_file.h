#ifndef ESCROW_BENCH_CACHED_FILE_H_
#define ESCROW_BENCH_CACHED_FILE_H_

#include <cstddef>
#include <expected>
#include <system_error>

#include "escrow/ownership/descriptor.h"

namespace escrow::bench {

// A file of so many blocks of `size` bytes each, in the page cache. It is in
// $TMPDIR and has no name.
std::expected<ownership::Descriptor, std::error_code> CachedFile(
    std::size_t blocks, std::size_t size);

}  // namespace escrow::bench

#endif  // ESCROW_BENCH_CACHED_FILE_H_
