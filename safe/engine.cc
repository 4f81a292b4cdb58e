#include "escrow/safe/engine.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/record_pool.h"
#include "escrow/ownership/watch.h"
#include "escrow/raw/error.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/probe.h"
#include "escrow/raw/registration.h"
#include "escrow/raw/ring.h"
#include "escrow/safe/mailbox.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/owner.h"
#include "escrow/safe/result.h"
#include "escrow/safe/time_left.h"

namespace escrow::safe::internal {
namespace {

using ownership::RecordState;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr milliseconds kNap(1);

constexpr std::uint8_t kLinkFlags = IOSQE_IO_LINK | IOSQE_IO_HARDLINK;

// How long to wait before a request to cancel is repeated, by how often it was.
constexpr __kernel_timespec Milliseconds(long long count) {
  return {.tv_sec = 0, .tv_nsec = count * 1'000'000};
}
constexpr __kernel_timespec kPatience[] = {
    Milliseconds(1),  Milliseconds(2),  Milliseconds(4), Milliseconds(8),
    Milliseconds(16), Milliseconds(32), Milliseconds(64)};

// The value and the flags of a completion in one, as a RawResult begins, too.
class CompletionResult {
 public:
  explicit CompletionResult(const io_uring_cqe& cqe) noexcept {
    std::memcpy(&bits_, reinterpret_cast<const std::byte*>(&cqe) + kOffset,
                sizeof bits_);
  }

  // Whether it is no error, and the only one of its operation.
  bool plain() const noexcept {
    constexpr std::uint64_t kOthers = IORING_CQE_F_MORE | IORING_CQE_F_NOTIF;
    constexpr std::uint64_t kNegative = 0x8000'0000;
    return (bits_ & (kOthers << 32 | kNegative)) == 0;
  }

  void Set(ownership::Record& record) const noexcept {
    std::memcpy(static_cast<void*>(&record.result), &bits_, sizeof bits_);
  }

 private:
  static constexpr std::size_t kOffset = offsetof(io_uring_cqe, res);
  static_assert(offsetof(io_uring_cqe, flags) == kOffset + 4 &&
                offsetof(ownership::RawResult, value) == 0 &&
                offsetof(ownership::RawResult, flags) == 4);
  static_assert(std::endian::native == std::endian::little);

  std::uint64_t bits_;
};

// The errors of io_uring_enter(2) that pass by themselves.
bool IsTransient(int error) {
  return error == EAGAIN || error == EBUSY || error == ENOMEM ||
         error == EINTR || error == ETIME;
}

// Engines with records that the kernel did not give back. Referred to from
// here, never freed: leaked on purpose, which leak checkers can tell.
struct Graveyard {
  std::mutex mutex;
  std::vector<Engine*> engines;
  std::size_t operations = 0;
};
Graveyard& TheGraveyard() {
  static auto& graveyard = *new Graveyard;
  return graveyard;
}

// Engines of the parent process, in a child: its copies of what the kernel
// works on for the parent. Likewise leaked, for another thread may have been
// changing them at the time of the fork. Without a mutex, for the same reason.
std::atomic<Engine*> abandoned = nullptr;

}  // namespace

Engine::Engine(raw::Ring ring, milliseconds teardown_limit, std::size_t limit)
    : Starter(ring.get()->sq.ring_entries),
      ring_(std::move(ring)),
      entry_bytes_(sizeof(io_uring_sqe) << io_uring_sqe_shift(ring_->get())),
      limit_(limit),
      ready_until_(NextPosition()),
      owner_([](void* engine) { static_cast<Engine*>(engine)->OnThreadEnd(); },
             this),
      enabled_((ring_->setup_flags() & IORING_SETUP_R_DISABLED) == 0),
      busy_((ring_->setup_flags() &
             (IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED)) == 0
                ? std::uint8_t{0}
                : std::uint8_t{kWide}),
      teardown_limit_(teardown_limit) {
  if (enabled_) BecomeOwner();
}

// Threads.

void Engine::TakeOver() {
  if (owner_.inherited() || !enabled_) NotOwner();
  ESCROW_CHECK((ring_->setup_flags() & IORING_SETUP_SINGLE_ISSUER) == 0,
               "TakeOver() of a ring with IORING_SETUP_SINGLE_ISSUER");
  BecomeOwner();
}

void Engine::BecomeOwner() {
  owner_.Claim();
  starter_ = owner_.identity();
  // An optimization, and tied to this thread, as the ring is with this flag.
  if ((ring_->setup_flags() & IORING_SETUP_SINGLE_ISSUER) != 0) {
    (void)ring_->RegisterRingFd();
  }
}

std::error_code Engine::Enable() {
  ESCROW_CHECK(!owner_.inherited(),
               "a ring is used by a child process that inherited it");
  ESCROW_CHECK(!enabled_, "Enable() of a ring that is enabled");
  if (const std::error_code error = raw::EnableRings(*ring_)) return error;
  enabled_ = true;
  BecomeOwner();
  return mailbox_ == nullptr ? std::error_code() : mailbox_->ChooseWakeup();
}

void Engine::NotOwner() const noexcept {
  ESCROW_CHECK(ring_.has_value(), "a ring used in its own destruction");
  ESCROW_CHECK(!owner_.inherited(),
               "a ring is used by a child process that inherited it");
  ESCROW_CHECK(enabled_, "a ring is used before Enable()");
  ESCROW_CHECK(owner_.IsCurrent(),
               "a ring is used by a thread that it does not belong to");
}

void Starter::NotStarter() const noexcept {
  const auto& engine = static_cast<const Engine&>(*this);
  engine.NotOwner();
  ESCROW_CHECK(!engine.stopping_,
               "an operation started on a ring in destruction");
}

bool Engine::MayLeaveHandle() const noexcept {
  if (owner_.inherited()) return true;
  NotOwner();
  return false;
}

void Engine::OnThreadEnd() {
  // Not if it ends inside user code of this ring, without unwinding. What is
  // left then, or by an error, is met again when the ring ends.
  if ((busy_ & kReaping) == 0 && !dispatching_ && !discarding_) (void)EndAll();
  if ((ring_->setup_flags() & IORING_SETUP_SINGLE_ISSUER) != 0) {
    (void)raw::UnregisterRingFd(*ring_);
  }
}

// Starting.

bool Engine::MakeReady(Record& record, bool limited) {
  if (limited && in_flight_ >= limit_) {
    Refuse(record);
    return false;
  }
  if (!Reserve(record, 1)) return false;
  LookAhead();
  return true;
}

void Engine::LookAhead() noexcept {
  std::size_t ahead = ring_->sq_space_left();
  if (in_flight_ >= limit_ || !looks_ahead_) {
    ahead = 0;
  } else {
    ahead = std::min(ahead, limit_ - in_flight_);
  }
  ready_until_ = NextPosition() + static_cast<std::uint32_t>(ahead);
}

void Engine::Refuse(Record& record) noexcept {
  record.result.category = &raw::CategoryOf<"in_flight_limit">;
  Finish(record, -EAGAIN);
}

bool Engine::MakeRoom(Record& record, unsigned count) {
  CheckOwner();
  raw::EnterResult submitted = ring_->Submit();
  if ((ring_->setup_flags() & IORING_SETUP_SQPOLL) != 0) {
    // The wait ends when the kernel's thread has taken an entry, which is a
    // moment before it says so in the queue's head.
    while (submitted && ring_->sq_space_left() < count) {
      submitted = ring_->WaitForSqSpace();
      // That is satisfied with room for one, and the thread may fall asleep.
      if (submitted) submitted = ring_->Submit();
    }
  } else if (ring_->sq_space_left() < count) {
    // Kernels answer EBUSY while completions wait for room.
    Reap();
    submitted = ring_->Submit();
  }
  if (ring_->sq_space_left() >= count) return true;
  record.result.category = &raw::EnterCategory;
  Finish(record, submitted ? -EAGAIN : -submitted.error_number());
  return false;
}

void Engine::AddDeadline(Record& record, nanoseconds limit,
                         std::uint8_t sqe_flags) {
  record.deadline = ToTimespec(limit);
  io_uring_sqe* const sqe = ring_->GetSqe();
  ESCROW_CHECK(sqe != nullptr, "a deadline without room for it");
  raw::Ring::Fill(sqe, raw::LinkTimeout{.duration = &record.deadline},
                  record.user_data() | Record::kDeadlineBit, sqe_flags);
  record.attention |= Record::kPaired;
  record.own_came = record.deadline_came = record.deadline_passed = false;
}

bool Engine::ReserveChain(std::span<Record* const> records, unsigned count) {
  Record& first = *records.front();
  if (count > ring_->get()->sq.ring_entries) {
    first.result.category = &raw::EnterCategory;
    Finish(first, -EINVAL);
  } else if (in_flight_ + records.size() > limit_) {
    Refuse(first);
  } else if (Reserve(first, count)) {
    return true;
  }
  for (Record* const record : records.subspan(1)) {
    record->result.category = first.result.category;
    Finish(*record, first.result.value);
  }
  return false;
}

void Engine::EndLinks() noexcept {
  EntryAt(ring_->get()->sq.sqe_tail - 1).flags &=
      static_cast<std::uint8_t>(~kLinkFlags);
}

void Engine::FinishUnlinked(Record& record) noexcept {
  record.result.category = &raw::EnterCategory;
  Finish(record, -ECANCELED);
}

void Engine::Finish(Record& record, std::int32_t result) noexcept {
  record.hook.unlink();
  record.result.value = result;
  record.result.flags = 0;
  Settle(record);
}

void Engine::SettleSpecial(Record& record) noexcept {
  record.hook.unlink();
  if ((record.attention & Record::kPaired) != 0) {
    record.own_came = true;
    if (!record.deadline_came) {
      // Not to be told after those that came later; but a cancellation may be
      // the deadline's.
      if ((record.attention & Record::kArriving) != 0 &&
          record.result.value >= 0) {
        record.attention &= static_cast<std::uint8_t>(~Record::kArriving);
        (void)record.content_type->arrive(record, /*last=*/true);
      }
      record.stage = Record::Stage::kQueued;
      ++in_flight_;
      return;
    }
    record.attention &= static_cast<std::uint8_t>(~Record::kPaired);
    if (record.deadline_passed &&
        (record.result.value == -ECANCELED || record.result.value == -EINTR)) {
      record.result.value = -ETIMEDOUT;
    }
  }
  if ((record.attention & Record::kArriving) != 0) {
    (void)record.content_type->arrive(record, /*last=*/true);
  }
  record.file.Release();
  if ((record.attention & Record::kHoldsAlso) != 0) {
    record.attention &= static_cast<std::uint8_t>(~Record::kHoldsAlso);
    record.other_file.Release();
  }
  if ((record.attention & Record::kContinued) != 0) {
    ready_.push_back(record);
  } else if ((record.attention & Record::kOrphaned) != 0) {
    // What it owns is not destroyed between two completions.
    if ((busy_ & kReaping) != 0) {
      orphans_.push_back(record);
    } else {
      Discard(record);
    }
  }
}

void Engine::Park(Record& record,
                  void (*unpark)(Record&, Record::Unpark)) noexcept {
  record.stage = Record::Stage::kWaiting;
  record.result.category = &raw::EnterCategory;
  record.unpark = unpark;
  parked_.push_back(record);
}

void Engine::Unpark(Record& record) noexcept {
  record.hook.unlink();
  unparked_.push_back(record);
  busy_ |= kHasChores;
  ++in_flight_;
  LookAhead();
}

void Engine::StartSomeUnparked() noexcept {
  while (!unparked_.empty()) {
    Record& record = unparked_.front();
    unparked_.pop_front();
    --in_flight_;
    record.unpark(record,
                  stopping_ ? Record::Unpark::kGiveUp : Record::Unpark::kStart);
  }
}

// Handles.

void Engine::Drop(Record& record) noexcept {
  if (LeaveHandle()) return;
  record.attention |= Record::kOrphaned;
  record.attention &= ~Record::kContinued;
  if (record.stage == Record::Stage::kDone) {
    if ((record.attention & Record::kNotifying) != 0) {
      record.attention &= static_cast<std::uint8_t>(~Record::kNotifying);
      record.stage = Record::Stage::kQueued;
      record.hook.unlink();
    } else {
      Discard(record);
    }
  } else if (record.stage == Record::Stage::kQueued && !record.stays_on_drop &&
             ring_.has_value()) {
    if (Retractable(record)) {
      Retract(record, -ECANCELED);
    } else {
      RequestCancel(record);
    }
  }
  // Last, for what was destroyed above may have owned other handles.
  HandleGone();
}

void Engine::Detach(Record& record) noexcept {
  record.stays_on_drop = true;
  Drop(record);
}

void Engine::Free(Record& record) noexcept {
  if ((record.attention & Record::kStaged) != 0) {
    record.attention &= static_cast<std::uint8_t>(~Record::kStaged);
    return;
  }
  record.hook.unlink();
  const bool attached = record.attached();
  Release(record);
  if (attached) HandleGone();
}

void Engine::ContinueWith(Record& record, Record::Continuation continuation,
                          void* data, bool handle_stays) noexcept {
  if (ring_.has_value()) CheckOwner();
  record.continuation = continuation;
  record.continuation_data = data;
  record.attention |= Record::kContinued;
  if (!handle_stays) record.attention |= Record::kOrphaned;
  if (record.stage == Record::Stage::kDone || record.has_items) {
    MakeReady(record);
    if (!ring_.has_value()) {
      if (!handle_stays) --handles_;
      DropReady();
    }
  }
}

void Engine::DropReady() noexcept {
  ++handles_;  // continuations may own the last one
  while (!posted_.empty()) (void)posted_.PopFront();
  while (!ready_.empty()) {
    Record& record = ready_.front();
    ready_.pop_front();
    record.attention &= ~Record::kContinued;
    const bool orphaned = !record.attached();
    record.continuation(record, Record::Continue::kDestroyUnrun);
    if (orphaned) Discard(record);
  }
  HandleGone();
}

void Engine::Discard(Record& record) noexcept {
  record.hook.unlink();
  const bool outer = std::exchange(discarding_, true);
  record.content_type->discard(record);
  discarding_ = outer;
  Release(record);
}

void Engine::HandleGoneAfterRing() noexcept {
  if (--handles_ == 0 && !buried_) delete this;
}

// Taking back.

bool Engine::Retractable(const Record& record) const noexcept {
  const io_uring_sq& sq = ring_->get()->sq;
  // Without SQPOLL the kernel reads entries during io_uring_enter(2) only. The
  // SQPOLL thread may be reading whatever has been published.
  const std::uint32_t kernels =
      (ring_->setup_flags() & IORING_SETUP_SQPOLL) != 0
          ? sq.sqe_head
          : io_uring_load_sq_head(ring_->get());
  // Positions come round: what the kernel has had for 2^31 entries or more may
  // seem to lie ahead of it, and in the end even among those still queued.
  return record.sq_position - kernels < sq.sqe_tail - kernels &&
         EntryAt(record.sq_position).user_data == record.user_data();
}

void Engine::Retract(Record& record, std::int32_t result) noexcept {
  const auto overwrite = [](io_uring_sqe& sqe) {
    // What is linked behind it is cancelled with it.
    const auto links = static_cast<std::uint8_t>(sqe.flags & kLinkFlags);
    io_uring_initialize_sqe(&sqe);
    raw::Nop nop;
    if (links != 0) {
      nop.flags = IORING_NOP_INJECT_RESULT;
      nop.result = -ECANCELED;
    }
    raw::Ring::Fill(&sqe, nop, kNobody, links);
  };
  overwrite(EntryAt(record.sq_position));
  if ((record.attention & Record::kPaired) != 0) {
    overwrite(EntryAt(record.sq_position + 1));
    record.attention &= static_cast<std::uint8_t>(~Record::kPaired);
  }
  --in_flight_;
  Finish(record, result);
}

void Engine::RequestCancel(Record& record) noexcept {
  if (record.content_type->second_stage) return;
  RequestCancelLater(record);
  RequestPendingCancels();
  if (to_cancel_.empty()) return;
  // Full. A failure is not an error of anybody's: the next submit tries again.
  (void)ring_->Submit();
  RequestPendingCancels();
}

void Engine::PushPendingCancels() noexcept {
  while (!to_cancel_.empty()) {
    Record& record = to_cancel_.front();
    const bool again = record.cancels > 0 && ring_->get()->sq.ring_entries > 1;
    if (ring_->sq_space_left() < (again ? 2u : 1u)) return;
    if (again) {
      // Who waits for something else meanwhile is not kept busy with this.
      const std::size_t patience =
          std::min<std::size_t>(record.cancels, std::size(kPatience)) - 1;
      (void)ring_->TryPush(raw::Timeout{.duration = &kPatience[patience]},
                           kNobody, IOSQE_IO_HARDLINK);
    }
    (void)ring_->TryPush(raw::Cancel{.user_data = record.user_data()},
                         record.user_data() | Record::kCancelBit);
    if (record.cancels < std::size(kPatience)) ++record.cancels;
    to_cancel_.pop_front();
  }
}

raw::EnterResult Engine::MakeRoomForCancels() noexcept {
  raw::EnterResult made = ring_->Submit();
  if (made && (ring_->setup_flags() & IORING_SETUP_SQPOLL) != 0) {
    made = ring_->WaitForSqSpace();
  }
  PushPendingCancels();
  return made;
}

// Reaping.

unsigned Engine::ReapSome() {
  // Who read them in the middle of this would hand them back twice.
  ESCROW_CHECK((busy_ & kReaping) == 0,
               "a ring used by a Descriptor's WhenAlone() callback");
  if ((busy_ & kWide) != 0 || size() == 0) [[unlikely]] {
    return ReapAsSpecial();
  }
  const io_uring_cq& cq = ring_->get()->cq;
  const unsigned head = *cq.khead;
  const unsigned entries = io_uring_smp_load_acquire(cq.ktail) - head;
  unsigned special = 0;
  const io_uring_cqe* const last = &cq.cqes[cq.ring_mask];
  const io_uring_cqe* cqe = &cq.cqes[head & cq.ring_mask];
  for (unsigned left = entries; left > 0; --left) {
    if (!ReapPlain(*cqe)) [[unlikely]] {
      ReapSpecial(*cqe);
      ++special;
    }
    cqe = cqe == last ? cq.cqes : cqe + 1;
  }
  in_flight_ -= entries - special;
  ring_->Advance(entries);
  if (special > 0) [[unlikely]] {
    EndReaping();
  }
  return entries;
}

unsigned Engine::ReapAsSpecial() {
  const raw::Completions completions = ring_->completions();
  for (const io_uring_cqe& cqe : completions) ReapSpecial(cqe);
  ring_->Advance(completions.entries());
  EndReaping();
  return completions.entries();
}

void Engine::EndReaping() noexcept {
  NotBusy(kReaping);
  // Only now, for what is started may have to reap to find room.
  StartUnparked();
  DiscardOrphans();
}

[[gnu::always_inline]] inline bool Engine::ReapPlain(
    Record& record, const io_uring_cqe& cqe) noexcept {
  const CompletionResult result(cqe);
  if (!result.plain() ||
      record.state() != RecordState{.stage = Record::Stage::kQueued} ||
      (record.file.valid() && !record.file.ReleaseLightly())) [[unlikely]] {
    return false;
  }
  ownership::TakeFromKernel(&record);
  result.Set(record);
  EndWatch(record);
  record.SetState({.stage = Record::Stage::kDone, .plain = true});
  return true;
}

inline bool Engine::ReapSingle(Record& record) noexcept {
  const io_uring_cq& cq = ring_->get()->cq;
  const unsigned head = *cq.khead;
  const io_uring_cqe& cqe = cq.cqes[head & cq.ring_mask];
  if (io_uring_smp_load_acquire(cq.ktail) - head != 1 ||
      cqe.user_data != record.user_data() || !ReapPlain(record, cqe)) {
    return false;
  }
  --in_flight_;
  io_uring_smp_store_release(cq.khead, head + 1);
  return true;
}

void Engine::ReapSpecial(const io_uring_cqe& cqe) noexcept {
  busy_ |= kReaping;
  // Finds neither kNobody nor anything with the topmost bit clear.
  Record* const record = Find(cqe.user_data);
  if (record == nullptr || record->stage != Record::Stage::kQueued) {
    OnForeignCompletion(record, cqe);
    return;
  }
  ownership::TakeFromKernel(record);
  if ((cqe.flags & (IORING_CQE_F_MORE | IORING_CQE_F_NOTIF)) != 0) {
    OnOther(*record, cqe);
  } else {
    --in_flight_;
    CompletionResult(cqe).Set(*record);
    Settle(*record);
  }
}

void Engine::DiscardOrphans() noexcept {
  while (!orphans_.empty()) {
    Record& orphan = orphans_.front();
    orphans_.pop_front();
    Discard(orphan);
  }
}

void Engine::OnOther(Record& record, const io_uring_cqe& cqe) noexcept {
  if ((cqe.flags & IORING_CQE_F_NOTIF) != 0) {
    record.attention &= static_cast<std::uint8_t>(~Record::kNotifying);
    const bool paired = (record.attention & Record::kPaired) != 0;
    if (paired && record.own_came && !record.deadline_came) return;
    --in_flight_;
    Settle(record);
    return;
  }
  record.result.value = cqe.res;
  record.result.flags = cqe.flags;
  if ((record.attention & Record::kArriving) != 0) {
    if (record.content_type->arrive(record, /*last=*/false)) Throttle(record);
    if ((record.attention & Record::kContinued) != 0) MakeReady(record);
  } else if (record.content_type->two_stages) {
    record.cancels = Record::kNoMoreCancels;
    // Nobody is to have the result before it is all over.
    constexpr unsigned kWanted = Record::kOrphaned | Record::kContinued;
    if ((record.attention & kWanted) == Record::kOrphaned) return;
    record.attention |= Record::kNotifying;
    const bool paired = (record.attention & Record::kPaired) != 0;
    if (paired && !record.deadline_came) {
      record.own_came = true;
    } else {
      Settle(record);
    }
  }
}

void Engine::Throttle(const Record& record) noexcept {
  // A timer that has gone off is not found before its completion is there, and
  // by then may be about to go off again whenever somebody asks. But the kernel
  // posts that before it goes on with a link.
  if (ring_->sq_space_left() >= 2) {
    (void)ring_->TryPush(raw::Nop(), kNobody, IOSQE_IO_HARDLINK);
  }
  // Where there is no room, the next completion asks again.
  (void)ring_->TryPush(raw::Cancel{.user_data = record.user_data()}, kNobody);
}

bool Engine::OnDeadline(const io_uring_cqe& cqe) noexcept {
  if ((cqe.user_data & Record::kUserDataBit) == 0 ||
      (cqe.user_data & Record::kDeadlineBit) == 0 || cqe.user_data == kNobody) {
    return false;
  }
  Record* const record = Find(cqe.user_data & ~Record::kDeadlineBit);
  if (record == nullptr || (record->attention & Record::kPaired) == 0) {
    return false;
  }
  record->deadline_came = true;
  // It says how many it has cancelled where those wait for a process or a
  // futex, and like any request to cancel, that it may have missed its target.
  const bool missed = cqe.res == -EALREADY || cqe.res == -ENOENT;
  record->deadline_passed = cqe.res == -ETIME || cqe.res > 0 || missed;
  if (record->own_came) {
    if ((record->attention & Record::kNotifying) == 0) --in_flight_;
    Settle(*record);
  } else if (missed) {
    RequestCancelLater(*record);
  }
  return true;
}

bool Engine::OnCancelAnswer(const io_uring_cqe& cqe) noexcept {
  if ((cqe.user_data & Record::kUserDataBit) == 0 ||
      (cqe.user_data & Record::kDeadlineBit) != 0 ||
      (cqe.user_data & Record::kCancelBit) == 0) {
    return false;
  }
  // A request that is just changing hands in the kernel, or that a worker is
  // about to have poll(2)ed, goes on as if nothing had been said.
  Record* const record = Find(cqe.user_data & ~Record::kCancelBit);
  if (cqe.res < 0 && record != nullptr &&
      record->stage == Record::Stage::kQueued &&
      record->cancels != Record::kNoMoreCancels) {
    CancelAtSubmit(*record);
  }
  return static_cast<std::uint32_t>(cqe.user_data & ~Record::kCancelBit) <
         size();
}

void Engine::OnForeignCompletion(Record* record, const io_uring_cqe& cqe) {
  if (record != nullptr && (record->attention & Record::kNotifying) != 0) {
    record->attention &= static_cast<std::uint8_t>(~Record::kNotifying);
    ownership::TakeFromKernel(record);
    EndWatch(*record);
    --in_flight_;
    return;
  }
  if (cqe.user_data == kEvent) {
    event_polled_ = false;
    mailbox_->ClearEvent();
    return;
  }
  if (OnDeadline(cqe) || OnCancelAnswer(cqe)) return;
  if ((cqe.user_data & Record::kUserDataBit) == 0 && raw_handler_ != nullptr) {
    RawCompletion& copy = raw_ready_.emplace_back();
    const bool wide = (ring_->setup_flags() & IORING_SETUP_CQE32) != 0 ||
                      (cqe.flags & IORING_CQE_F_32) != 0;
    std::memcpy(copy.bytes, &cqe, wide ? 32 : 16);
  } else if (cqe.user_data != kNobody &&
             (cqe.flags & IORING_CQE_F_NOTIF) == 0) {
    // (Zero-copy sends whose chain breaks have a notification that was not
    // announced.)
    ++unknown_completions_;
  }
}

// Waiting.

raw::EnterResult Engine::Enter(unsigned count,
                               std::optional<nanoseconds> limit) {
  BeforeEnter();
  // Where there still is no room, the kernel has just refused what is queued.
  // It may take that in with the wait, which then has nothing that ends it.
  while (!to_cancel_.empty()) {
    const raw::EnterResult made = MakeRoomForCancels();
    if (!made) return made;
  }
  if (!limit.has_value()) return ring_->SubmitAndWait(count);
  if (*limit == nanoseconds(0)) return ring_->SubmitAndGetEvents();
  const __kernel_timespec timeout = ToTimespec(*limit);
  return ring_->SubmitAndWaitTimeout(count, &timeout);
}

void Engine::Wait(Record& record) {
  // One operation at a time, which is the usual way to wait, needs none of what
  // WaitSlowly() is prepared for.
  if (owner_.IsCurrent() && &Of(record) == this &&
      record.state() == RecordState{.stage = Record::Stage::kQueued} &&
      busy_ == 0 && ring_->completions().entries() == 0) [[likely]] {
    const raw::EnterResult entered = ring_->SubmitAndWait(1);
    if (!entered) [[unlikely]] {
      WaitFailed(record, entered);
    } else if (ReapSingle(record) ||
               (Reap() > 0 && record.stage == Record::Stage::kDone)) {
      return;
    }
  }
  WaitSlowly(record);
}

void Engine::CancelAndWait(Record& record) {
  CheckOwner();
  ESCROW_CHECK(&Of(record) == this,
               "CancelAndWait() for another ring's operation");
  if (record.stage == Record::Stage::kQueued) RequestCancel(record);
  Wait(record);
  // A request that there was no room for.
  record.hook.unlink();
}

void Engine::WaitSlowly(Record& record) {
  if (record.stage == Record::Stage::kDone) return;
  CheckOwner();
  ESCROW_CHECK(&Of(record) == this, "Wait() for another ring's operation");
  while (record.stage != Record::Stage::kDone && !record.has_items) {
    if (Reap() > 0) continue;
    if (record.stage == Record::Stage::kWaiting && in_flight_ == 0) {
      // What it waits for is not on this ring, so waiting here is for ever.
      record.unpark(record, Record::Unpark::kGiveUp);
      continue;
    }
    const raw::EnterResult entered = Enter(1, std::nullopt);
    if (!entered) [[unlikely]] {
      WaitFailed(record, entered);
    }
  }
}

void Engine::WaitFailed(Record& record, raw::EnterResult entered) {
  if (entered.error_number() == EINTR) return;
  Reap();
  if (record.stage == Record::Stage::kDone) return;
  if (record.stage == Record::Stage::kQueued && Retractable(record)) {
    record.result.category = &raw::EnterCategory;
    Retract(record, -entered.error_number());
    return;
  }
  ESCROW_CHECK(IsTransient(entered.error_number()),
               entered.error().message().c_str());
  std::this_thread::sleep_for(kNap);
}

std::size_t Engine::WaitAny(const WaitSet& records,
                            std::optional<nanoseconds> limit) {
  CheckOwner();
  ESCROW_CHECK(records.count > 0, "a wait for any of no operations");
  const TimeLeft time_left(limit);
  for (;;) {
    for (std::size_t i = 0; i < records.count; ++i) {
      const Record& record = records[i];
      ESCROW_CHECK(record.pool == this, "Wait() for another ring's operation");
      if (record.stage == Record::Stage::kDone || record.has_items) return i;
    }
    if (Reap() > 0) continue;
    if (in_flight_ == 0) {
      // What it waits for is not on this ring.
      Record& record = records[0];
      record.unpark(record, Record::Unpark::kGiveUp);
      continue;
    }
    const std::optional<nanoseconds> left = time_left.Get();
    const raw::EnterResult entered = Enter(1, left);
    if (Reap() > 0) continue;
    if (left == nanoseconds(0)) return records.count;
    if (!entered && entered.error_number() != ETIME) {
      WaitFailed(records[0], entered);
    }
  }
}

Result<unsigned> Engine::Submit() {
  CheckOwner();
  BeforeEnter();
  const raw::EnterResult submitted = ring_->Submit();
  if (!submitted) return std::unexpected(submitted.error());
  return *submitted;
}

Result<std::size_t> Engine::Dispatch(std::optional<nanoseconds> limit) {
  ESCROW_CHECK(!dispatching_, "Dispatch() from inside a callback");
  CheckOwner();
  interrupted_ = false;
  Reap();
  for (;;) {
    const bool reachable = TakePosted();
    if (AnythingReady()) {
      if (ring_->sq_ready() > 0) (void)Submit();
      return RunReady();
    }
    // A raw handler's requests in flight are not counted.
    const bool idle =
        in_flight_ == 0 && ring_->sq_ready() == 0 && raw_handler_ == nullptr;
    if (idle && !reachable) return 0;
    if (!reachable || limit == nanoseconds(0)) break;
    // Asleep before the event is polled, which would else count as something
    // to wait for.
    if (mailbox_->Sleep(/*needs_remotes=*/idle)) {
      const std::error_code error = PollEvent();
      if (!error) break;
      TakePosted();
      return std::unexpected(error);
    }
  }
  const raw::EnterResult entered = Enter(1, limit);
  interrupted_ = !entered && entered.error_number() == EINTR;
  TakePosted();
  if (Reap() == 0 && !AnythingReady() && !entered &&
      entered.error_number() != EINTR && entered.error_number() != ETIME) {
    return std::unexpected(entered.error());
  }
  return RunReady();
}

bool Engine::HasSomethingToWaitFor() const noexcept {
  // A raw handler's requests in flight are not counted.
  return in_flight_ > 0 || ring_->sq_ready() > 0 || raw_handler_ != nullptr ||
         (mailbox_ != nullptr && mailbox_->HasRemotes());
}

Result<std::shared_ptr<Mailbox>> Engine::GetMailbox(bool prefer_eventfd) {
  if (enabled_ || owner_.inherited()) CheckOwner();
  if (mailbox_ == nullptr) {
    mailbox_ = std::make_shared<Mailbox>(ring_->get()->ring_fd, kNobody);
  }
  if (prefer_eventfd) mailbox_->PreferEventfd();
  if (enabled_) {
    if (const auto error = mailbox_->ChooseWakeup()) {
      return std::unexpected(error);
    }
  }
  return mailbox_;
}

bool Engine::TakePosted() noexcept {
  if (mailbox_ == nullptr) return false;
  PostedList taken = mailbox_->Take();
  while (!taken.empty()) posted_.PushBack(taken.PopFront());
  return mailbox_->HasRemotes();
}

std::error_code Engine::PollEvent() noexcept {
  if (mailbox_->event_fd() < 0 || event_polled_) return {};
  const raw::PollAdd poll = {.fd = mailbox_->event_fd(), .events = POLLIN};
  if (!ring_->TryPush(poll, kEvent)) {
    if (const auto submitted = ring_->Submit(); !submitted) {
      return submitted.error();
    }
    if (!ring_->TryPush(poll, kEvent)) return {EAGAIN, raw::EnterCategory()};
  }
  event_polled_ = true;
  return {};
}

std::size_t Engine::RunReady() {
  // What user code makes ready while it runs is for the next time. If it throws
  // out of here, what was not run yet is too.
  struct Running {
    explicit Running(Engine& its) : engine(its) {
      engine.dispatching_ = true;
      records.swap(engine.ready_);
      completions.swap(engine.raw_ready_);
    }
    ~Running() {
      engine.dispatching_ = false;
      engine.ready_.splice(engine.ready_.begin(), records);
      completions.erase(completions.begin(), completions.begin() + next);
      completions.insert(completions.end(), engine.raw_ready_.begin(),
                         engine.raw_ready_.end());
      engine.raw_ready_.swap(completions);
    }
    Engine& engine;
    ownership::RecordList records;
    std::vector<RawCompletion> completions;
    std::ptrdiff_t next = 0;
  } running(*this);

  std::size_t count = 0;
  while (running.next != std::ssize(running.completions)) {
    const RawCompletion completion =
        running.completions[static_cast<std::size_t>(running.next++)];
    if (raw_handler_ == nullptr) {
      ++unknown_completions_;
      continue;
    }
    raw_handler_(raw_context_,
                 *reinterpret_cast<const io_uring_cqe*>(completion.bytes));
    ++count;
  }
  while (!running.records.empty()) {
    Record& record = running.records.front();
    running.records.pop_front();
    record.attention &= ~Record::kContinued;
    record.continuation(record, Record::Continue::kRun);
    ++count;
  }
  while (!posted_.empty()) {
    posted_.PopFront()->Run();
    ++count;
  }
  return count;
}

// The end.

void Engine::Shutdown() {
  if (owner_.inherited()) {
    Abandon();
    return;
  }
  ESCROW_CHECK(!dispatching_, "a ring destroyed from inside its own callback");
  ESCROW_CHECK(!discarding_,
               "a ring destroyed from inside the destructor of what an "
               "operation on it owned");
  // One that is disabled is nobody's, as is one whose thread has ended.
  if (!owner_.IsCurrent() && enabled_ && !owner_.HasEnded()) NotOwner();
  owner_.Claim();
  starter_ = nullptr;
  stopping_ = true;
  if (mailbox_ != nullptr) {
    PostedList unrun = mailbox_->Close();
    while (!unrun.empty()) posted_.PushBack(unrun.PopFront());
  }
  if (const std::error_code error = EndAll()) Bury(error);

  StartUnparked();
  while (!parked_.empty()) {
    Record& record = parked_.front();
    record.unpark(record, Record::Unpark::kGiveUp);
  }
  while (!attachments_.empty()) {
    Attachment& attachment = attachments_.front();
    attachments_.pop_front();
    attachment.RingEnds();
  }
  ring_.reset();
  owner_.Release();
  // Not counted before, to cost running rings nothing.
  ForEach([this](Record& record) {
    if (record.stage == Record::Stage::kFree || !record.attached()) return;
    record.attention |= Record::kOutliving;
    ++handles_;
  });
  DropReady();
}

std::error_code Engine::EndAll() {
  // What the kernel has not seen yet, it never will. Destructors that run here
  // may drop handles, and so take records out of either list.
  ForEach([this](Record& record) {
    if (record.stage == Record::Stage::kQueued && Retractable(record)) {
      Retract(record, -ECANCELED);
    }
  });
  StartUnparked();

  // The rest is cancelled and reaped. A request that is just changing hands in
  // the kernel slips through a cancellation, so that is repeated.
  const auto start = std::chrono::steady_clock::now();
  milliseconds patience(1);
  while (in_flight_ > 0) {
    (void)ring_->TryPush(
        raw::Cancel{.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL},
        kNobody);
    raw::EnterResult entered = Enter(0, nanoseconds(0));
    Reap();
    if (in_flight_ == 0) break;
    if (entered) entered = Enter(1, patience);
    Reap();
    if (!entered && !IsTransient(entered.error_number())) {
      return entered.error();
    }
    if (teardown_limit_.count() > 0 &&
        std::chrono::steady_clock::now() - start > teardown_limit_) {
      return std::make_error_code(std::errc::timed_out);
    }
    if (!entered && entered.error_number() != ETIME) {
      std::this_thread::sleep_for(kNap);
    }
    patience = std::min(patience * 2, milliseconds(100));
  }
  return {};
}

void Engine::Abandon() noexcept {
  ring_->CloseInChild();
  next_abandoned_ = abandoned.load(std::memory_order_relaxed);
  while (!abandoned.compare_exchange_weak(next_abandoned_, this)) {
  }
}

void Engine::Bury(const std::error_code& reason) {
  buried_ = true;
  Graveyard& graveyard = TheGraveyard();
  const std::lock_guard lock(graveyard.mutex);
  graveyard.engines.push_back(this);
  graveyard.operations += in_flight_;
  std::fprintf(stderr,
               "escrow: a ring was destroyed with %zu operations that the "
               "kernel did not end (%s); their memory is never freed\n",
               in_flight_, reason.message().c_str());
}

// What operation.h calls.

void Drop(ownership::Record& record) noexcept {
  Engine::Of(record).Drop(record);
}

void Detach(ownership::Record& record) noexcept {
  Engine::Of(record).Detach(record);
}

void ReleaseSpecial(ownership::Record& record) noexcept {
  Engine::Of(record).Free(record);
}

void ContinueWith(ownership::Record& record,
                  ownership::Record::Continuation continuation, void* data,
                  bool handle_stays) noexcept {
  Engine::Of(record).ContinueWith(record, continuation, data, handle_stays);
}

bool HasFixedVectors(ownership::Record& record) {
  static const bool has = [&] {
    const auto probe = raw::Probe::Of(Engine::Of(record).ring());
    return probe && probe->SupportsOp(IORING_OP_READV_FIXED);
  }();
  return has;
}

std::size_t BuriedCount() {
  Graveyard& graveyard = TheGraveyard();
  const std::lock_guard lock(graveyard.mutex);
  return graveyard.operations;
}

}  // namespace escrow::safe::internal
