#include "escrow/safe/stream_ops.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "escrow/ownership/record.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"
#include "escrow/safe/stream.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using internal::FdOf;
using ownership::RawResult;
using ownership::Record;
using raw::Until;

}  // namespace

void AcceptMany::Start(Record& record) {
  record.Hold(socket.Share());
  Engine::Of(record).Start<Until::kLastCompletion>(
      record,
      raw::AcceptMultishot{
          .fd = FdOf(record.file),
          .flags = flags | internal::CloseOnExec(record, SOCK_CLOEXEC),
          .into = internal::DestinationOf(record)},
      record.sqe_flags);
}

void PollMany::Start(Record& record) {
  record.Hold(file.Share());
  Engine::Of(record).Start<Until::kLastCompletion>(
      record, raw::PollMultishot{.fd = FdOf(record.file), .events = events},
      record.sqe_flags);
}

void Tick::Start(Record& record) {
  room.value = internal::ToTimespec(period);
  Engine::Of(record).Start<Until::kLastCompletion>(
      record,
      raw::TimeoutMultishot{.duration = &room.value,
                            .count = count == 0 ? 0 : count - ticked.value},
      record.sqe_flags);
}

Result<void> Tick::Take(const RawResult& result, Arrived) {
  if (result.value == -ETIME) return {};
  return internal::UsualOutcome<Result<void>>::Take(result);
}

Tick::Arrived Tick::Arrive(const RawResult& result) noexcept {
  if (result.value == -ETIME) ++ticked.value;
  return {};
}

AfterLast Tick::After(const RawResult& result) const noexcept {
  const bool more = count == 0 || ticked.value < count;
  return result.value == -ETIME && more ? AfterLast::kGoOn : AfterLast::kEnd;
}

}  // namespace escrow::safe
