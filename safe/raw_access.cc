#include "escrow/safe/raw_access.h"

#include "escrow/raw/ring.h"
#include "escrow/safe/engine.h"

namespace escrow::safe {

raw::Ring& RawAccess::ring() noexcept { return engine_->ring(); }

void RawAccess::SetHandler(void (*handler)(void* context,
                                           const io_uring_cqe& cqe),
                           void* context) noexcept {
  engine_->SetRawHandler(handler, context);
}

}  // namespace escrow::safe
