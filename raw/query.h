#ifndef ESCROW_RAW_QUERY_H_
#define ESCROW_RAW_QUERY_H_

#include <liburing.h>

#include <expected>
#include <system_error>

// What the running kernel's io_uring knows, asked without a ring. One system
// call each, IORING_REGISTER_QUERY, from any thread. EINVAL before Linux 6.18,
// EOPNOTSUPP for a question that is newer than the kernel. Fields that are
// newer than the kernel are 0.
//
//   if (auto kernel = raw::QueryOpcodes()) {
//     Use(kernel->ring_setup_flags & IORING_SETUP_SQE_MIXED);
//   }

namespace escrow::raw {

// Counts of opcodes, and masks of known flags.
[[nodiscard]] std::expected<io_uring_query_opcode, std::error_code>
QueryOpcodes() noexcept;

// Zero-copy receive: flags, and the layout of the refill ring.
// A question since Linux 6.19.
[[nodiscard]] std::expected<io_uring_query_zcrx, std::error_code>
QueryZcrx() noexcept;

// The layout of the queues' header. A question since Linux 6.19.
[[nodiscard]] std::expected<io_uring_query_scq, std::error_code>
QueryScq() noexcept;

// Asks all questions of the list that starts with `query`, in one call. Each is
// answered by its `result`, an errno below 0, and a `size`.
[[nodiscard]] std::error_code RegisterQuery(io_uring_query_hdr& query) noexcept;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_QUERY_H_
