#include "escrow/safe/ring_ops.h"

#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"

namespace escrow::safe {

using internal::Engine;
using ownership::Record;

void SendToRing::Start(Record& record) {
  // Or it would be taken for the end of an operation of that ring's, whose
  // memory the kernel still uses.
  ESCROW_CHECK((user_data & Record::kUserDataBit) == 0,
               "SendToRing with the topmost bit of user_data set, as only "
               "operations have it");
  record.Hold(std::move(ring).Take());
  ESCROW_CHECK(!record.file.is_slot(),
               "SendToRing to a registered file, which cannot be a ring");
  Engine::Of(record).Start(
      record,
      raw::MsgRing{
          .ring = record.file.number(), .result = result, .data = user_data},
      record.sqe_flags);
}

}  // namespace escrow::safe
