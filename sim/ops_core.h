#ifndef ESCROW_SIM_OPS_CORE_H_
#define ESCROW_SIM_OPS_CORE_H_

#include <memory>

#include "escrow/sim/op.h"

// Operations on the ring itself: for the table of all of them.

namespace escrow::sim {

std::unique_ptr<Op> MakeNop();
std::unique_ptr<Op> MakeTimeout();
std::unique_ptr<Op> MakeTimeoutRemove();
std::unique_ptr<Op> MakeLinkTimeout();
std::unique_ptr<Op> MakeCancel();
std::unique_ptr<Op> MakePoll();
std::unique_ptr<Op> MakePollRemove();
std::unique_ptr<Op> MakeMsgRing();

}  // namespace escrow::sim

#endif  // ESCROW_SIM_OPS_CORE_H_
