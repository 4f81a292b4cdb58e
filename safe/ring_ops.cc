#include "escrow/safe/ring_ops.h"

#include <liburing.h>

#include <cstdint>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"

namespace escrow::safe {

using internal::Engine;
using ownership::RawResult;
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

void SendFileToRing::Start(Record& record) {
  ESCROW_CHECK(to.valid() && !to.filled(),
               "SendFileToRing to a ReservedSlot that is not free");
  record.Hold(std::move(file).Take());
  const auto from = static_cast<std::uint32_t>(record.file.number());
  const auto into = static_cast<std::uint32_t>(to.slot());
  Engine::Of(record).Start(record,
                           raw::MsgRingFd{.ring = to.ring(),
                                          .source = {from},
                                          .into = raw::FixedFile{into},
                                          .data = 0,
                                          .flags = IORING_MSG_RING_CQE_SKIP},
                           record.sqe_flags);
}

SendFileToRing::Outcome SendFileToRing::Take(const RawResult& result) && {
  Discard(result);
  return {internal::UsualOutcome<Result<void>>::Take(result), std::move(to)};
}

void SendFileToRing::Discard(const RawResult& result) noexcept {
  if (result.ok()) to.SetFilled();
}

}  // namespace escrow::safe
