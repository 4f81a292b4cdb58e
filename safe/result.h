#ifndef ESCROW_SAFE_RESULT_H_
#define ESCROW_SAFE_RESULT_H_

#include <cstddef>
#include <expected>
#include <system_error>

namespace escrow::safe {

// A value, or an error whose value is an errno (it compares to std::errc) and
// whose message names the call: "openat: Permission denied".
template <typename T>
using Result = std::expected<T, std::error_code>;

// What became of an operation with a buffer: the number of bytes transferred,
// which may be less than asked for, or whatever else `T` is; and the buffer, on
// success and on error.
//
//   auto [result, buffer] = ring.Wait(ring.Read(file, std::move(buffer), 0));
template <typename B, typename T = std::size_t>
struct Transfer {
  Result<T> result;
  B buffer;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_RESULT_H_
