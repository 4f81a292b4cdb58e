#include "escrow/safe/wait_ops.h"

#include <liburing.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using internal::FdOf;
using internal::NumberOf;
using ownership::RawResult;
using ownership::Record;

unsigned TimeFlags(bool absolute) { return absolute ? IORING_TIMEOUT_ABS : 0u; }

// IORING_TIMEOUT_* for a clock that there is one for.
std::optional<unsigned> ClockFlags(clockid_t clock) {
  switch (clock) {
    case CLOCK_MONOTONIC:
      return 0u;
    case CLOCK_BOOTTIME:
      return IORING_TIMEOUT_BOOTTIME;
    case CLOCK_REALTIME:
      return IORING_TIMEOUT_REALTIME;
    default:
      return std::nullopt;
  }
}

Result<siginfo_t> TakeInfo(const RawResult& result, const siginfo_t& info) {
  if (!result.ok()) return internal::Failure(result);
  return info;
}

}  // namespace

void Timeout::Start(Record& record) {
  const std::optional<unsigned> clock_flags = ClockFlags(clock);
  if (!clock_flags.has_value()) {
    record.result.category = &raw::OperationCategory<raw::Timeout>;
    Engine::Of(record).Finish(record, -EINVAL);
    return;
  }
  room.value = internal::ToTimespec(time);
  Engine::Of(record).Start(
      record,
      raw::Timeout{.duration = &room.value,
                   .flags = TimeFlags(absolute) | *clock_flags |
                            IORING_TIMEOUT_ETIME_SUCCESS},
      record.sqe_flags);
}

Result<void> Timeout::Take(const RawResult& result) && {
  if (result.value == -ETIME) return {};
  return internal::UsualOutcome<Result<void>>::Take(result);
}

void PollOnce::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(
      record, raw::PollAdd{.fd = FdOf(record.file), .events = events},
      record.sqe_flags);
}

Result<std::uint32_t> PollOnce::Take(const RawResult& result) && {
  if (!result.ok()) return internal::Failure(result);
  return static_cast<std::uint32_t>(result.value);
}

void UpdateTimeout::Start(Record& record) {
  room.value = internal::ToTimespec(time);
  Engine::Of(record).Start(
      record,
      raw::TimeoutUpdate{.user_data = timeout.UserDataFor(record),
                         .duration = &room.value,
                         .flags = TimeFlags(absolute)},
      record.sqe_flags);
}

void UpdatePoll::Start(Record& record) {
  Engine::Of(record).Start(
      record,
      raw::PollUpdate{.user_data = poll.UserDataFor(record),
                      .events = events,
                      .flags = IORING_POLL_UPDATE_EVENTS},
      record.sqe_flags);
}

void EpollControl::Start(Record& record) {
  record.Hold(std::move(epoll).Take());
  record.HoldAlso(std::move(file).Take());
  Engine::Of(record).Start(record,
                           raw::EpollCtl{.epoll = NumberOf(record.file),
                                         .operation = operation,
                                         .fd = NumberOf(record.other_file),
                                         .event = &event},
                           record.sqe_flags);
}

void WaitId::Start(Record& record) {
  Engine::Of(record).Start(
      record,
      raw::WaitId{
          .id_type = type, .id = id, .info = &info.value, .options = options},
      record.sqe_flags);
}

Result<siginfo_t> WaitId::Take(const RawResult& result) && {
  return TakeInfo(result, info.value);
}

void WaitPidfd::Start(Record& record) {
  record.Hold(std::move(process).Take());
  Engine::Of(record).Start(
      record,
      raw::WaitId{.id_type = P_PIDFD,
                  .id = static_cast<id_t>(NumberOf(record.file)),
                  .info = &info.value,
                  .options = options},
      record.sqe_flags);
}

Result<siginfo_t> WaitPidfd::Take(const RawResult& result) && {
  return TakeInfo(result, info.value);
}

namespace internal {

void StartEpollWait(Record& record, File epoll, std::byte* events,
                    std::size_t size) {
  record.Hold(std::move(epoll).Take());
  const auto most =
      static_cast<int>(TransferLength(size) / sizeof(epoll_event));
  Engine::Of(record).Start(
      record,
      raw::EpollWait{.epoll = FdOf(record.file),
                     .events = reinterpret_cast<epoll_event*>(events),
                     .max_events = most},
      record.sqe_flags);
}

}  // namespace internal
}  // namespace escrow::safe
