#ifndef ESCROW_RAW_REGISTER_RESULT_H_
#define ESCROW_RAW_REGISTER_RESULT_H_

#include <expected>
#include <system_error>

#include "escrow/raw/error.h"

// What liburing's io_uring_register_*() functions return, a count or a negated
// errno, in the form in which escrow's return it. `opcode` names the call.

namespace escrow::raw {

inline std::error_code RegisterError(unsigned opcode, int result) noexcept {
  if (result >= 0) return {};
  return {-result, RegisterCategory(opcode)};
}

inline std::expected<unsigned, std::error_code> RegisterCount(
    unsigned opcode, int result) noexcept {
  if (result < 0) return std::unexpected(RegisterError(opcode, result));
  return static_cast<unsigned>(result);
}

}  // namespace escrow::raw

#endif  // ESCROW_RAW_REGISTER_RESULT_H_
