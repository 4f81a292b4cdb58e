#include "escrow/safe/driven_object.h"

#include <memory>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/wait_ops.h"

namespace escrow::safe::internal {

using ownership::Descriptor;

DrivenObject::DrivenObject(std::shared_ptr<DriverBase> driver, Descriptor file)
    : driver_(std::move(driver)),
      state_(std::make_shared<DrivenState>(std::move(file))) {}

DrivenObject::~DrivenObject() {
  if (state_ == nullptr) return;
  driver_->Run(
      MakeJob([state = std::move(state_)](Ring& ring) { state->End(ring); }),
      /*eager=*/false);
}

Submission<Result<void>> DrivenObject::Close() {
  return SubmitOp(Kind::kClose, [](Descriptor& file) {
    return safe::Close<Descriptor>{.file = std::move(file)};
  });
}

Submission<Result<Descriptor>> DrivenObject::IntoDescriptor() {
  return SubmitOp(Kind::kClose, [](Descriptor& file) {
    // Its turn is when nothing else is on it.
    return MapOutcome(Timeout{}, [&file](const Result<void>&) {
      return Result<Descriptor>(std::move(file));
    });
  });
}

}  // namespace escrow::safe::internal
