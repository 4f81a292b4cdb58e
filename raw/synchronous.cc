#include "escrow/raw/synchronous.h"

#include <expected>
#include <system_error>

#include "escrow/raw/register_result.h"

namespace escrow::raw {

std::expected<unsigned, std::error_code> RegisterSyncCancel(
    Ring& ring, const SyncCancel& cancel) noexcept {
  io_uring_sync_cancel_reg registration = {};
  registration.addr = cancel.user_data;
  registration.fd = cancel.fd;
  registration.flags = cancel.flags;
  registration.opcode = cancel.opcode;
  registration.timeout = cancel.timeout != nullptr
                             ? *cancel.timeout
                             : __kernel_timespec{.tv_sec = -1, .tv_nsec = -1};
  return RegisterCount(
      IORING_REGISTER_SYNC_CANCEL,
      io_uring_register_sync_cancel(ring.get(), &registration));
}

std::error_code RegisterSyncMsg(const SyncMsg& message) noexcept {
  io_uring_sqe sqe = {};
  const auto result = static_cast<unsigned>(message.result);
  if (message.flags == 0) {
    io_uring_prep_msg_ring(&sqe, message.ring_fd, result, message.user_data,
                           /*flags=*/0);
  } else {
    io_uring_prep_msg_ring_cqe_flags(&sqe, message.ring_fd, result,
                                     message.user_data, /*flags=*/0,
                                     message.flags);
  }
  return RegisterError(IORING_REGISTER_SEND_MSG_RING,
                       io_uring_register_sync_msg(&sqe));
}

}  // namespace escrow::raw
