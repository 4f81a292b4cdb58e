#include "escrow/safe/stream.h"

#include <cerrno>

#include "escrow/ownership/record.h"
#include "escrow/safe/engine.h"

namespace escrow::safe::internal {

void ArmStream(ownership::Record& record, StreamState& state) {
  if (record.stage != ownership::Record::Stage::kDone ||
      state.next == AfterLast::kEnd) {
    return;
  }
  if (!Engine::Of(record).alive()) {
    state.next = AfterLast::kEnd;
    return;
  }
  state.throttled = false;
  state.start(record);
}

void Forget(ownership::Record& record) noexcept {
  Engine::Of(record).Forget(record);
}

bool IsCancellation(const ownership::RawResult& result) noexcept {
  return result.value == -ECANCELED;
}

AfterLast UsualAfter(const ownership::RawResult& result) noexcept {
  if (result.ok()) return AfterLast::kGoOn;
  return result.value == -ENOBUFS ? AfterLast::kPause : AfterLast::kEnd;
}

}  // namespace escrow::safe::internal
