#include "escrow/safe/stream.h"

#include <cerrno>

#include "escrow/ownership/record.h"
#include "escrow/ownership/record_pool.h"
#include "escrow/safe/engine.h"

namespace escrow::safe::internal {
namespace {

void StartAgain(ownership::Record& record, StreamState& state) {
  state.throttled = false;
  // A request to stop the last one may be under way.
  record.pool->Renew(record);
  state.start(record);
}

}  // namespace

void ArmStream(ownership::Record& record, StreamState& state) {
  if (record.stage != ownership::Record::Stage::kDone ||
      state.next == AfterLast::kEnd) {
    return;
  }
  if (!Engine::Of(record).alive()) {
    state.next = AfterLast::kEnd;
    return;
  }
  StartAgain(record, state);
}

void ArmStreamWithBuffers(ownership::Record& record, StreamState& state) {
  // Who takes these comes back here.
  if (record.has_items) return;
  Engine& engine = Engine::Of(record);
  if (record.stage != ownership::Record::Stage::kDone ||
      state.next != AfterLast::kPause || state.buffers == nullptr ||
      state.buffers->available() > 0 || !engine.alive()) {
    ArmStream(record, state);
    return;
  }
  engine.Park(record, state.unpark);
  state.waiter.callback = [](void* context) {
    auto& parked = *static_cast<ownership::Record*>(context);
    Engine::Of(parked).Unpark(parked);
  };
  state.waiter.context = &record;
  state.buffers->WhenAvailable(state.waiter);
}

void UnparkStream(ownership::Record& record, StreamState& state,
                  ownership::Record::Unpark how) {
  if (how == ownership::Record::Unpark::kStart) {
    StartAgain(record, state);
  } else {
    state.waiter.hook.unlink();
    Engine::Of(record).Finish(record, -ECANCELED);
  }
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
