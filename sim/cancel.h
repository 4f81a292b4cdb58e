#ifndef ESCROW_SIM_CANCEL_H_
#define ESCROW_SIM_CANCEL_H_

#include <cstdint>

namespace escrow::sim {

class Request;
class Ring;

// What a cancellation is for: the fields of IORING_OP_ASYNC_CANCEL and of
// IORING_REGISTER_SYNC_CANCEL.
struct CancelKey {
  std::uint32_t flags = 0;  // IORING_ASYNC_CANCEL_*
  std::uint64_t user_data = 0;
  std::int32_t fd = -1;
  std::uint8_t opcode = 0;
};

// The result: of one, 0, -ENOENT or -EALREADY; of all, how many were found.
// `self` is not cancelled.
int CancelMatching(Ring& ring, const CancelKey& key, const Request* self);

}  // namespace escrow::sim

#endif  // ESCROW_SIM_CANCEL_H_
