#include "escrow/raw/query.h"

#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/register_result.h"

namespace escrow::raw {
namespace {

template <typename Answer>
std::expected<Answer, std::error_code> Ask(unsigned question) {
  Answer answer = {};
  io_uring_query_hdr query = {};
  query.query_data = reinterpret_cast<std::uintptr_t>(&answer);
  query.query_op = question;
  query.size = sizeof(answer);
  if (const std::error_code error = RegisterQuery(query)) {
    return std::unexpected(error);
  }
  if (query.result < 0) {
    return std::unexpected(RegisterError(IORING_REGISTER_QUERY, query.result));
  }
  return answer;
}

}  // namespace

std::expected<io_uring_query_opcode, std::error_code> QueryOpcodes() noexcept {
  return Ask<io_uring_query_opcode>(IO_URING_QUERY_OPCODES);
}

std::expected<io_uring_query_zcrx, std::error_code> QueryZcrx() noexcept {
  return Ask<io_uring_query_zcrx>(IO_URING_QUERY_ZCRX);
}

std::expected<io_uring_query_scq, std::error_code> QueryScq() noexcept {
  return Ask<io_uring_query_scq>(IO_URING_QUERY_SCQ);
}

std::error_code RegisterQuery(io_uring_query_hdr& query) noexcept {
  return RegisterError(IORING_REGISTER_QUERY, io_uring_register_query(&query));
}

}  // namespace escrow::raw
