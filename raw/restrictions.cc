#include "escrow/raw/restrictions.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>

#include "escrow/raw/register_result.h"

namespace escrow::raw {
namespace {

io_uring_bpf ToKernel(const BpfFilter& filter) {
  io_uring_bpf bpf = {};
  bpf.cmd_type = IO_URING_BPF_CMD_FILTER;
  bpf.filter.opcode = filter.opcode;
  bpf.filter.flags = filter.flags;
  bpf.filter.filter_len = static_cast<__u32>(filter.program.size());
  bpf.filter.pdu_size = filter.payload_size;
  bpf.filter.filter_ptr =
      reinterpret_cast<std::uintptr_t>(filter.program.data());
  return bpf;
}

}  // namespace

std::error_code RegisterRestrictions(
    Ring& ring, std::span<const io_uring_restriction> restrictions) noexcept {
  // Null is refused, even with nothing to be read there. Nothing is written,
  // whatever liburing's declaration says.
  io_uring_restriction none = {};
  return RegisterError(
      IORING_REGISTER_RESTRICTIONS,
      io_uring_register_restrictions(
          ring.get(),
          restrictions.empty()
              ? &none
              : const_cast<io_uring_restriction*>(restrictions.data()),
          static_cast<unsigned>(restrictions.size())));
}

std::error_code RegisterTaskRestrictions(
    std::span<const io_uring_restriction> restrictions) noexcept {
  // An io_uring_task_restriction, whose own array has no length.
  struct {
    __u16 flags;
    __u16 count;
    __u32 reserved[3];
    io_uring_restriction restrictions[kMaxTaskRestrictions];
  } argument = {};
  static_assert(offsetof(decltype(argument), restrictions) ==
                offsetof(io_uring_task_restriction, restrictions));
  if (restrictions.size() > kMaxTaskRestrictions) {
    return RegisterError(IORING_REGISTER_RESTRICTIONS, -EINVAL);
  }
  argument.count = static_cast<__u16>(restrictions.size());
  std::ranges::copy(restrictions, argument.restrictions);
  return RegisterError(
      IORING_REGISTER_RESTRICTIONS,
      io_uring_register(static_cast<unsigned>(-1), IORING_REGISTER_RESTRICTIONS,
                        &argument, 1));
}

std::error_code RegisterBpfFilter(Ring& ring, BpfFilter& filter) noexcept {
  io_uring_bpf bpf = ToKernel(filter);
  const int result = io_uring_register_bpf_filter(ring.get(), &bpf);
  filter.payload_size = bpf.filter.pdu_size;
  return RegisterError(IORING_REGISTER_BPF_FILTER, result);
}

std::error_code RegisterBpfFilterTask(BpfFilter& filter) noexcept {
  io_uring_bpf bpf = ToKernel(filter);
  const int result = io_uring_register_bpf_filter_task(&bpf);
  filter.payload_size = bpf.filter.pdu_size;
  return RegisterError(IORING_REGISTER_BPF_FILTER, result);
}

}  // namespace escrow::raw
