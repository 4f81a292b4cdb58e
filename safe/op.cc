#include "escrow/safe/op.h"

#include <expected>
#include <system_error>

#include "escrow/ownership/record.h"

namespace escrow::safe::internal {

std::unexpected<std::error_code> Failure(const ownership::RawResult& result) {
  return std::unexpected(result.error());
}

}  // namespace escrow::safe::internal
