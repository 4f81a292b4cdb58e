#ifndef ESCROW_RAW_RESTRICTIONS_H_
#define ESCROW_RAW_RESTRICTIONS_H_

#include <liburing.h>
#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <system_error>

#include "escrow/raw/ring.h"

// What a ring, or all later rings of a thread, may still do: before a ring is
// handed to somebody who is not trusted with all of it.
//
//   // A ring created with IORING_SETUP_R_DISABLED.
//   const io_uring_restriction only[] = {
//       raw::AllowOperation(IORING_OP_READ),
//       raw::AllowOperation(IORING_OP_WRITE),
//       raw::RequireSqeFlags(IOSQE_FIXED_FILE),
//   };
//   if (auto error = raw::RegisterRestrictions(ring, only)) return error;
//   if (auto error = raw::EnableRings(ring)) return error;
//
// What is not allowed is refused: a registration with EACCES, a request with
// EACCES in its completion. Nothing that is imposed here can be taken back.
//
// What holds for all registrations: registration.h.

namespace escrow::raw {

// One line of what is allowed. A list closes what it does not name. Up to Linux
// 6.19 any list closes registrations and operations alike; later a list without
// AllowRegister() leaves registrations open, and one that has nothing else
// leaves operations open. The empty list closes both everywhere.

// A registration: IORING_REGISTER_* or IORING_UNREGISTER_*.
constexpr io_uring_restriction AllowRegister(std::uint8_t opcode) noexcept {
  io_uring_restriction restriction = {};
  restriction.opcode = IORING_RESTRICTION_REGISTER_OP;
  restriction.register_op = opcode;
  return restriction;
}

// An operation: IORING_OP_*.
constexpr io_uring_restriction AllowOperation(std::uint8_t opcode) noexcept {
  io_uring_restriction restriction = {};
  restriction.opcode = IORING_RESTRICTION_SQE_OP;
  restriction.sqe_op = opcode;
  return restriction;
}

// IOSQE_* that requests may have. Without this, those that are required only.
constexpr io_uring_restriction AllowSqeFlags(std::uint8_t flags) noexcept {
  io_uring_restriction restriction = {};
  restriction.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
  restriction.sqe_flags = flags;
  return restriction;
}

// IOSQE_* that all requests must have.
constexpr io_uring_restriction RequireSqeFlags(std::uint8_t flags) noexcept {
  io_uring_restriction restriction = {};
  restriction.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
  restriction.sqe_flags = flags;
  return restriction;
}

// Imposes all of `restrictions`, from EnableRings() on. Once per ring: EBUSY
// afterwards; EBADFD on a ring that is enabled; EINVAL for opcodes that the
// kernel does not know. IORING_REGISTER_RESTRICTIONS, Linux 5.10.
[[nodiscard]] std::error_code RegisterRestrictions(
    Ring& ring, std::span<const io_uring_restriction> restrictions) noexcept;

// The same for all rings that the calling thread, and what it forks, creates
// from now on; they need not be created disabled. Once per thread: EPERM
// afterwards. EACCES without CAP_SYS_ADMIN or prctl(PR_SET_NO_NEW_PRIVS),
// EINVAL for more than kMaxTaskRestrictions.
// IORING_REGISTER_RESTRICTIONS without a ring, Linux 7.0.
inline constexpr unsigned kMaxTaskRestrictions = 255;
[[nodiscard]] std::error_code RegisterTaskRestrictions(
    std::span<const io_uring_restriction> restrictions) noexcept;

// A program that decides about the requests of one operation.
struct BpfFilter {
  // IORING_OP_*.
  std::uint8_t opcode = IORING_OP_NOP;

  // Classic BPF, which reads an io_uring_bpf_ctx and returns 0 for EACCES. Used
  // during the call only.
  std::span<const sock_filter> program;

  // How many bytes the program expects behind io_uring_bpf_ctx.pdu_size and
  // padding: 12 for IORING_OP_SOCKET, 24 for IORING_OP_OPENAT and _OPENAT2, 0
  // for others. EMSGSIZE writes what the kernel has.
  std::uint8_t payload_size = 0;

  // IO_URING_BPF_FILTER_DENY_REST, IO_URING_BPF_FILTER_SZ_STRICT.
  std::uint32_t flags = 0;
};

// Adds a filter to a ring. All filters of an operation have to agree. EMSGSIZE
// when the kernel has less payload than filter.payload_size or, with
// IO_URING_BPF_FILTER_SZ_STRICT, not as much. EACCES without CAP_SYS_ADMIN or
// prctl(PR_SET_NO_NEW_PRIVS). IORING_REGISTER_BPF_FILTER, Linux 7.0.
[[nodiscard]] std::error_code RegisterBpfFilter(Ring& ring,
                                                BpfFilter& filter) noexcept;

// The same for all rings that the calling thread, and what it forks, creates
// from now on. IORING_REGISTER_BPF_FILTER without a ring, Linux 7.0.
[[nodiscard]] std::error_code RegisterBpfFilterTask(BpfFilter& filter) noexcept;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_RESTRICTIONS_H_
