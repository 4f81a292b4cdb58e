#include "escrow/safe/buffer_group.h"

#include <liburing.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <system_error>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/buffer_ring.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/error.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using internal::FdOf;
using ownership::Arrival;
using ownership::BufferLedger;
using ownership::Lease;
using ownership::LeaseBundle;
using ownership::RawResult;
using ownership::Record;

class Group final : public BufferLedger, public internal::Attachment {
 public:
  static Result<Group*> Make(Engine& engine, const Options& options) {
    std::expected<Memory, std::error_code> memory = Allocate(options);
    if (!memory) return std::unexpected(memory.error());
    auto* const group = new Group(engine, std::move(*memory), options);
    if (const std::error_code error = group->Register()) {
      delete group;
      return std::unexpected(error);
    }
    return group;
  }

  std::uint16_t number() const noexcept { return ring_->group(); }

  void RingEnds() noexcept override {
    Unregister();
    engine_ = nullptr;
  }

 private:
  Group(Engine& engine, Memory memory, const Options& options)
      : BufferLedger(std::move(memory), options), engine_(&engine) {}
  ~Group() = default;

  std::error_code Register() {
    // From above, for groups of raw operations are numbered from below.
    raw::BufferRingOptions options = {
        .group = 0xffff,
        .entries = entry_count(),
        .flags = incremental() ? std::uint16_t{IOU_PBUF_RING_INC}
                               : std::uint16_t{0}};
    auto made = raw::BufferRing::Register(engine_->ring(), options, entries());
    while (!made && made.error().value() == EEXIST && options.group != 0) {
      --options.group;
      made = raw::BufferRing::Register(engine_->ring(), options, entries());
    }
    if (!made) return made.error();
    ring_ = *made;
    engine_->Attach(*this);
    Open(*engine_);
    return {};
  }

  // What is in flight on the group uses it, unless it was buried.
  void Unregister() noexcept {
    Close();
    (void)ring_->Unregister(engine_->ring());
  }

  void Publish(std::byte* data, std::uint32_t size,
               std::uint16_t id) noexcept override {
    ring_->Add(data, size, id);
    ring_->Advance(1);
  }

  void Unused() noexcept override {
    if (engine_ != nullptr && !engine_->LeaveHandle()) Unregister();
    delete this;
  }

  Engine* engine_;  // null when the ring is gone
  std::optional<raw::BufferRing> ring_;
};

// The record's content uses the group, so that is registered until then.
constexpr raw::Until kHeld = raw::Until::kUnregistered;

// Offsets in incremental buffers follow from the order of the completions,
// which is that in which the kernel took the bytes only while one thread does
// that. And it takes more at once than it says where it cannot wait for more.
std::uint8_t SqeFlagsFor(const Record& record, const BufferLedger& ledger) {
  return ledger.incremental() ? record.sqe_flags & ~unsigned{IOSQE_ASYNC}
                              : record.sqe_flags;
}

template <typename Op>
void Refuse(Record& record) {
  record.result.category = &raw::OperationCategory<Op>;
  Engine::Of(record).Finish(record, -EINVAL);
}

std::uint32_t Limit(std::size_t limit) {
  return internal::TransferLength(limit);
}

Result<Lease> TakeLease(BufferLedger& ledger, const Arrival& arrival,
                        const RawResult& result) {
  if (!result.ok()) return internal::Failure(result);
  return ledger.MakeLease(arrival);
}

// The end of a stream is no item of it.
bool BringsSomething(const RawResult& result) { return result.value != 0; }
AfterLast AfterReceive(const RawResult& result) {
  return result.value == 0 ? AfterLast::kEnd : internal::UsualAfter(result);
}

constexpr int kUncountable = MSG_WAITALL | MSG_TRUNC;

}  // namespace

Result<BufferGroup> BufferGroup::Create(Ring& ring,
                                        const BufferGroupOptions& options) {
  Engine& engine = internal::EngineOf(ring);
  engine.CheckOwner();
  const Result<Group*> group =
      Group::Make(engine, {.count = options.count,
                           .size = options.size,
                           .incremental = options.incremental});
  if (!group) return std::unexpected(group.error());
  return BufferGroup(**group);
}

std::uint16_t internal::GroupOf::NumberFor(
    const Record& record) const noexcept {
  ESCROW_CHECK(share_->pool() == record.pool,
               "a BufferGroup used on a ring other than its own");
  return static_cast<const Group&>(*share_).number();
}

void ReceiveInto::Start(Record& record) {
  const std::uint16_t number = group.NumberFor(record);
  const BufferLedger& ledger = group.ledger();
  if (ledger.incremental() && (flags & kUncountable) != 0) {
    Refuse<raw::RecvSelected>(record);
    return;
  }
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start<kHeld>(record,
                                  raw::RecvSelected{.fd = FdOf(record.file),
                                                    .group = number,
                                                    .length = Limit(limit),
                                                    .flags = flags},
                                  SqeFlagsFor(record, ledger));
}

bool ReceiveInto::Arrive(const RawResult& result, bool) noexcept {
  arrival = group.ledger().Arrive(result, /*bundle=*/false);
  return false;
}

Result<Lease> ReceiveInto::Take(const RawResult& result) && {
  return TakeLease(group.ledger(), arrival, result);
}

void ReceiveInto::Discard(const RawResult&) noexcept {
  (void)group.ledger().MakeLease(arrival);
}

void ReceiveBundle::Start(Record& record) {
  const std::uint16_t number = group.NumberFor(record);
  if ((flags & kUncountable) != 0) {
    Refuse<raw::RecvBundle>(record);
    return;
  }
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start<kHeld>(
      record,
      raw::RecvBundle{.fd = FdOf(record.file), .group = number, .flags = flags},
      SqeFlagsFor(record, group.ledger()));
}

bool ReceiveBundle::Arrive(const RawResult& result, bool) noexcept {
  arrival = group.ledger().Arrive(result, /*bundle=*/true);
  return false;
}

Result<LeaseBundle> ReceiveBundle::Take(const RawResult& result) && {
  if (!result.ok()) return internal::Failure(result);
  return group.ledger().MakeBundle(arrival);
}

void ReceiveBundle::Discard(const RawResult&) noexcept {
  (void)group.ledger().MakeBundle(arrival);
}

void ReadInto::Start(Record& record) {
  const std::uint16_t number = group.NumberFor(record);
  if (group.ledger().incremental()) {
    Refuse<raw::ReadSelected>(record);
    return;
  }
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start<kHeld>(record,
                                  raw::ReadSelected{.fd = FdOf(record.file),
                                                    .group = number,
                                                    .length = Limit(limit),
                                                    .offset = offset},
                                  record.sqe_flags);
}

bool ReadInto::Arrive(const RawResult& result, bool) noexcept {
  arrival = group.ledger().Arrive(result, /*bundle=*/false);
  return false;
}

Result<Lease> ReadInto::Take(const RawResult& result) && {
  return TakeLease(group.ledger(), arrival, result);
}

void ReadInto::Discard(const RawResult&) noexcept {
  (void)group.ledger().MakeLease(arrival);
}

void ReceiveMany::Start(Record& record) {
  const std::uint16_t number = group.NumberFor(record);
  const BufferLedger& ledger = group.ledger();
  if (ledger.incremental() && (flags & kUncountable) != 0) {
    Refuse<raw::RecvMultishot>(record);
    return;
  }
  record.Hold(socket.Share());
  Engine::Of(record).Start<kHeld>(
      record,
      raw::RecvMultishot{
          .fd = FdOf(record.file), .group = number, .flags = flags},
      SqeFlagsFor(record, ledger));
}

Arrival ReceiveMany::Arrive(const RawResult& result) noexcept {
  return group.ledger().Arrive(result, /*bundle=*/false);
}

Result<ReceiveMany::Item> ReceiveMany::Take(const RawResult& result,
                                            const Arrival& arrived) {
  if (!result.ok()) return internal::Failure(result);
  return group.ledger().MakeLease(arrived);
}

void ReceiveMany::Discard(const RawResult&, const Arrival& arrived) noexcept {
  (void)group.ledger().MakeLease(arrived);
}

bool ReceiveMany::IsItem(const RawResult& result) noexcept {
  return BringsSomething(result);
}

AfterLast ReceiveMany::After(const RawResult& result) noexcept {
  return AfterReceive(result);
}

void ReceiveBundles::Start(Record& record) {
  const std::uint16_t number = group.NumberFor(record);
  if ((flags & kUncountable) != 0) {
    Refuse<raw::RecvBundleMultishot>(record);
    return;
  }
  record.Hold(socket.Share());
  Engine::Of(record).Start<kHeld>(
      record,
      raw::RecvBundleMultishot{
          .fd = FdOf(record.file), .group = number, .flags = flags},
      SqeFlagsFor(record, group.ledger()));
}

Arrival ReceiveBundles::Arrive(const RawResult& result) noexcept {
  return group.ledger().Arrive(result, /*bundle=*/true);
}

Result<ReceiveBundles::Item> ReceiveBundles::Take(const RawResult& result,
                                                  const Arrival& arrived) {
  if (!result.ok()) return internal::Failure(result);
  return group.ledger().MakeBundle(arrived);
}

void ReceiveBundles::Discard(const RawResult&,
                             const Arrival& arrived) noexcept {
  (void)group.ledger().MakeBundle(arrived);
}

bool ReceiveBundles::IsItem(const RawResult& result) noexcept {
  return BringsSomething(result);
}

AfterLast ReceiveBundles::After(const RawResult& result) noexcept {
  return AfterReceive(result);
}

void ReadMany::Start(Record& record) {
  const std::uint16_t number = group.NumberFor(record);
  record.Hold(file.Share());
  Engine::Of(record).Start<kHeld>(
      record, raw::ReadMultishot{.fd = FdOf(record.file), .group = number},
      SqeFlagsFor(record, group.ledger()));
}

Arrival ReadMany::Arrive(const RawResult& result) noexcept {
  return group.ledger().Arrive(result, /*bundle=*/false);
}

Result<ReadMany::Item> ReadMany::Take(const RawResult& result,
                                      const Arrival& arrived) {
  if (!result.ok()) return internal::Failure(result);
  return group.ledger().MakeLease(arrived);
}

void ReadMany::Discard(const RawResult&, const Arrival& arrived) noexcept {
  (void)group.ledger().MakeLease(arrived);
}

bool ReadMany::IsItem(const RawResult& result) noexcept {
  return BringsSomething(result);
}

AfterLast ReadMany::After(const RawResult& result) noexcept {
  return AfterReceive(result);
}

}  // namespace escrow::safe
