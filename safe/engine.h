#ifndef ESCROW_SAFE_ENGINE_H_
#define ESCROW_SAFE_ENGINE_H_

#include <sys/socket.h>

#include <algorithm>
#include <boost/intrusive/link_mode.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/list_hook.hpp>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/record_pool.h"
#include "escrow/ownership/watch.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/error.h"
#include "escrow/raw/memory.h"
#include "escrow/raw/op.h"
#include "escrow/raw/ring.h"
#include "escrow/safe/mailbox.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/owner.h"
#include "escrow/safe/result.h"
#include "escrow/safe/starter.h"

namespace escrow::safe::internal {

// What is registered with a raw ring, and so ends with it.
class Attachment {
 public:
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;

  // The raw ring is about to go, and nothing is in flight on it any more but
  // what is buried. Called once, unless this is destroyed before.
  virtual void RingEnds() noexcept = 0;

  boost::intrusive::list_member_hook<
      boost::intrusive::link_mode<boost::intrusive::auto_unlink>>
      hook;

 protected:
  Attachment() = default;
  ~Attachment() = default;
};

// What a safe::Ring consists of: a raw ring, the records of its operations, and
// the bookkeeping between the two. Private to this layer. Outlives its Ring
// when handles do, without a raw ring then.
//
// The lists say what a record waits for that is neither free nor just in
// flight, whoever holds its handle.
class Engine final : public Starter {
 public:
  using Record = ownership::Record;

  static Engine& Of(Record& record) noexcept {
    return static_cast<Engine&>(*record.pool);
  }

  Engine(raw::Ring ring, std::chrono::milliseconds teardown_limit,
         std::size_t limit);

  // Queues `op`, which points into `record`; from here on the record is the
  // kernel's. When there is no room and the kernel takes nothing, the operation
  // is done, with that error. `sqe_flags` are IOSQE_*.
  // `kHeld` is until when the record and what it owns are kept.
  template <raw::Until kHeld = raw::Until::kCompletion, typename Op>
  void Start(Record& record, const Op& op, std::uint8_t sqe_flags) {
    static_assert(raw::HeldUntil<Op>() <= kHeld && Op::kInfo.ends <= kHeld,
                  "the kernel uses the record for longer than it is kept");
    record.result.category = &raw::OperationCategory<Op>;
    const std::uint32_t position = NextPosition();
    if (Ready(position)) [[likely]] {
      Queue(record, op, sqe_flags, position);
    } else {
      // Not by reference, so that the usual way keeps it in registers.
      StartSlowly<Op>(record, op, sqe_flags);
    }
  }

  // Where the next entry goes. Asked for once for each, before anything is
  // written, because compilers would ask again.
  std::uint32_t NextPosition() const noexcept {
    return ring_->get()->sq.sqe_tail;
  }
  // Whether the entry there is known to be free, and no limit in the way. If
  // not, MakeReady() finds out.
  bool Ready(std::uint32_t position) const noexcept {
    return static_cast<std::int32_t>(ready_until_ - position) > 0;
  }

  // The free record for an operation in whose way nothing is, or null. To be
  // acquired and started promptly.
  Record* Prompt(std::uint32_t position) const noexcept {
    Record* const record = free();
    const bool prompt =
        starter_ == t_owner_thread && record != nullptr && Ready(position);
    return prompt ? record : nullptr;
  }
  // Start() in a straight line. Requires Ready(position).
  template <typename Op>
  void StartPromptly(Record& record, const Op& op, std::uint8_t sqe_flags,
                     std::uint32_t position) {
    static_assert(raw::HeldUntil<Op>() <= raw::Until::kCompletion &&
                      Op::kInfo.ends <= raw::Until::kCompletion,
                  "the kernel uses the record for longer than it is kept");
    record.result.category = &raw::OperationCategory<Op>;
    Queue(record, op, sqe_flags, position);
  }

  // Whether `count` entries can be written without a submit. If not, because
  // the kernel takes nothing, `record` is done, with that error.
  bool Reserve(Record& record, unsigned count) {
    return ring_->sq_space_left() >= count || MakeRoom(record, count);
  }

  // Has the entry behind that of `record`, for which there has to be room, end
  // the record with ETIMEDOUT when `limit` has passed. The record's entry must
  // be linked; what comes behind in its chain is, with `sqe_flags`.
  void AddDeadline(Record& record, std::chrono::nanoseconds limit,
                   std::uint8_t sqe_flags);

  // Whether there are `count` free entries, and `records` may all be started.
  // If not, they are done, with the error.
  bool ReserveChain(std::span<Record* const> records, unsigned count);

  // Lets the entry written last not be linked to the next one.
  void EndLinks() noexcept;

  // Ends a record without starting it because one that it is linked to did not
  // start.
  void FinishUnlinked(Record& record) noexcept;

  // Makes a record done that the kernel does not have.
  void Finish(Record& record, std::int32_t result) noexcept;

  // Keeps a record that is not to be started yet. `unpark` is called once: to
  // start it, some time after Unpark(), or to finish it without.
  void Park(Record& record,
            void (*unpark)(Record& record, Record::Unpark how)) noexcept;
  // What the record waited for has happened. May be called while completions
  // are taken in, when nothing can be started.
  void Unpark(Record& record) noexcept;

  // Handles; operation.h says what they mean.
  void Drop(Record& record) noexcept;
  void Detach(Record& record) noexcept;
  void Free(Record& record) noexcept;  // whose content is ended
  void ContinueWith(Record& record, Record::Continuation continuation,
                    void* data, bool handle_stays) noexcept;

  // Blocks until `record` is done, or has items. Nothing to do if it is done,
  // whichever ring's it was.
  void Wait(Record& record);
  // Likewise, and has the kernel cancel it.
  void CancelAndWait(Record& record);

  // Blocks until one of `records` is, or until `limit` has passed: its index,
  // or their number.
  std::size_t WaitAny(const WaitSet& records,
                      std::optional<std::chrono::nanoseconds> limit);

  // Of a record that is not continued after all.
  void Forget(Record& record) noexcept {
    record.attention &= static_cast<std::uint8_t>(~Record::kContinued);
    record.hook.unlink();
  }

  bool interrupted() const noexcept { return interrupted_; }

  bool alive() const noexcept { return ring_.has_value() && !stopping_; }

  // Submits, waits at most `limit` (for ever without) for one completion if
  // nothing is ready, and runs what is ready. The number of continuations run.
  Result<std::size_t> Dispatch(std::optional<std::chrono::nanoseconds> limit);

  Result<unsigned> Submit();

  // Starts a disabled ring, as the calling thread's.
  std::error_code Enable();
  // Makes the ring the calling thread's, which its kind must allow.
  void TakeOver();

  // Where Remotes post. Made at the first call.
  Result<std::shared_ptr<Mailbox>> GetMailbox(bool prefer_eventfd);

  // Ends the program when the ring is not the calling thread's.
  void CheckOwner() const noexcept {
    if (!owner_.IsCurrent()) [[unlikely]] {
      NotOwner();
    }
  }

  // Ends everything in flight, gives up the raw ring, and deletes the engine
  // unless handles remain, the last of which does that then.
  void Shutdown();

  // Tells `attachment` when the ring ends.
  void Attach(Attachment& attachment) noexcept {
    attachments_.push_back(attachment);
  }

  // For what can be done to a handle when its ring is gone, too. Whether there
  // is nothing to be done: in a child process everything stays as it is.
  bool LeaveHandle() const noexcept {
    return ring_.has_value() && !owner_.IsCurrent() && MayLeaveHandle();
  }

  raw::Ring& ring() noexcept { return *ring_; }
  std::size_t in_flight() const noexcept { return in_flight_; }
  // Whether Dispatch() waits for something: completions, or posts.
  bool HasSomethingToWaitFor() const noexcept;
  std::uint64_t unknown_completions() const noexcept {
    return unknown_completions_;
  }

  // Gets the completions whose user_data has the topmost bit clear.
  using RawHandler = void (*)(void* context, const io_uring_cqe& cqe);
  void SetRawHandler(RawHandler handler, void* context) noexcept {
    ESCROW_CHECK(handler == nullptr || raw_handler_ == nullptr,
                 "a second RawAccess to one ring");
    if (handler != nullptr) {
      CheckOwner();
      // From here on the queue may get another size at any time.
      looks_ahead_ = false;
      ready_until_ = NextPosition();
    }
    raw_handler_ = handler;
    raw_context_ = context;
  }

 private:
  // For entries that no record stands behind, such as those that were taken
  // back.
  static constexpr std::uint64_t kNobody =
      Record::kUserDataBit | Record::kNoIndex;
  // For the poll of the mailbox's event.
  static constexpr std::uint64_t kEvent =
      Record::kUserDataBit | (Record::kNoIndex - 1);

  // Why Wait() cannot just enter the kernel and look at one completion; zero
  // when it can.
  enum Busy : std::uint8_t {
    kReaping = 1,    // completions are read that are not handed back yet
    kHasChores = 2,  // there may be something for BeforeEnter()
    kWide = 4,       // not all completions have 16 bytes
  };

  ~Engine() = default;

  // Shows sanitizers what `op` uses, until the record is settled.
  template <typename Op>
  static void Watch(const Record& record, const Op& op) {
    if constexpr (ownership::kWatching) {
      raw::ForEachMemory(op, [&](const raw::Memory& memory) {
        ownership::Watch(&record, Op::kInfo.call, memory);
      });
    }
    ownership::HandToKernel(&record);
  }
  static void EndWatch(const Record& record) noexcept {
    if constexpr (ownership::kWatching) {
      // A result may come before the kernel has let go of the memory.
      if ((record.attention & Record::kNotifying) == 0) {
        ownership::Unwatch(&record, record.result.value);
      }
    }
  }

  // Writes the entry at NextPosition(), which is free. The record is the
  // kernel's from here on.
  template <typename Op>
  void Queue(Record& record, const Op& op, std::uint8_t sqe_flags,
             std::uint32_t position) noexcept {
    assert(!ring_->reserving() &&
           "an operation started while a raw Reservation is open");
    io_uring_sq& sq = ring_->get()->sq;
    io_uring_sqe* const sqe = &EntryAt(position);
    sq.sqe_tail = position + 1;
    record.sq_position = position;
    record.stage = Record::Stage::kQueued;
    ++in_flight_;
    // Read before the entry is cleared, so that clearing and filling it are the
    // same stores.
    const std::uint64_t user_data = record.user_data();
    io_uring_initialize_sqe(sqe);
    raw::Ring::Fill(sqe, op, user_data, sqe_flags);
    Watch(record, op);
  }

  template <typename Op>
  [[gnu::noinline, gnu::cold]] void StartSlowly(Record& record, Op op,
                                                std::uint8_t sqe_flags) {
    // A limit is no reason to keep what is to be cancelled.
    constexpr bool kLimited = Op::kInfo.opcode != IORING_OP_ASYNC_CANCEL;
    if (MakeReady(record, kLimited)) {
      Queue(record, op, sqe_flags, NextPosition());
    }
  }

  // Whether there is a free entry now, and no limit in the way. If not, the
  // record is done.
  bool MakeReady(Record& record, bool limited);
  bool MakeRoom(Record& record, unsigned count = 1);
  void LookAhead() noexcept;
  void Refuse(Record& record) noexcept;

  // Puts `record` where it belongs now that it is done.
  void Settle(Record& record) noexcept {
    EndWatch(record);
    record.stage = Record::Stage::kDone;
    if (record.attention != 0 || record.file.valid()) SettleSpecial(record);
  }
  void SettleSpecial(Record& record) noexcept;

  // The slot of the queue at a position, which may be another's by now.
  io_uring_sqe& EntryAt(std::uint32_t position) const noexcept {
    const io_uring_sq& sq = ring_->get()->sq;
    return *reinterpret_cast<io_uring_sqe*>(
        reinterpret_cast<std::byte*>(sq.sqes) +
        (position & sq.ring_mask) * entry_bytes_);
  }
  // Whether the kernel has not consumed the record's entry and will not before
  // the next submit.
  bool Retractable(const Record& record) const noexcept;
  // Overwrites such an entry with a nop and ends the operation.
  void Retract(Record& record, int result) noexcept;

  // Tells the kernel to cancel `record`, or has it told at the next submit;
  // again and again, until it is done.
  void RequestCancel(Record& record) noexcept;
  // The same while completions are taken in.
  void RequestCancelLater(Record& record) noexcept {
    record.cancels = 0;
    CancelAtSubmit(record);
  }
  void CancelAtSubmit(Record& record) noexcept {
    record.hook.unlink();
    to_cancel_.push_back(record);
    busy_ |= kHasChores;
  }
  void RequestPendingCancels() noexcept {
    if (!to_cancel_.empty()) [[unlikely]] {
      PushPendingCancels();
    }
  }
  void StartUnparked() noexcept {
    if (!unparked_.empty()) [[unlikely]] {
      StartSomeUnparked();
    }
  }
  void StartSomeUnparked() noexcept;
  void DiscardOrphans() noexcept;
  void PushPendingCancels() noexcept;
  raw::EnterResult MakeRoomForCancels() noexcept;

  friend Starter;  // for NotStarter()
  // Says what the matter is.
  void NotOwner() const noexcept;
  bool MayLeaveHandle() const noexcept;
  // Has to come before every io_uring_enter(2) but those that make room.
  void BeforeEnter() noexcept {
    StartUnparked();
    RequestPendingCancels();
    // What waits for them may have nothing else that ends it.
    if (!to_cancel_.empty()) [[unlikely]] {
      (void)MakeRoomForCancels();
    }
    if (unparked_.empty() && to_cancel_.empty()) NotBusy(kHasChores);
  }
  // Wait() whatever there is to be done.
  void WaitSlowly(Record& record);
  // Wait()'s enter failed: takes the record back from the queue, naps, or ends
  // the program.
  void WaitFailed(Record& record, raw::EnterResult entered);
  // One io_uring_enter(2): submits, and waits for `count` completions; not at
  // all with a limit of 0, but the kernel's deferred work is run.
  raw::EnterResult Enter(unsigned count,
                         std::optional<std::chrono::nanoseconds> limit);

  // Takes the completions that are there, copied, and moves their records on.
  // Runs no user code but the destructors of what orphans own. Their number.
  unsigned Reap() {
    return ring_->completions().entries() == 0 ? 0 : ReapSome();
  }
  unsigned ReapSome();
  unsigned ReapAsSpecial();
  void NotBusy(Busy bit) noexcept { busy_ &= static_cast<std::uint8_t>(~bit); }
  // Whether the completion was the only one of a record that is now done and
  // calls for nothing else.
  bool ReapPlain(const io_uring_cqe& cqe) noexcept {
    Record* const record = FindFirst(cqe.user_data);
    return record != nullptr && ReapPlain(*record, cqe);
  }
  // The same of its record.
  static bool ReapPlain(Record& record, const io_uring_cqe& cqe) noexcept;
  // Reap() when the only completion is such a one, of this record: whether it
  // was.
  bool ReapSingle(Record& record) noexcept;
  // Takes in any other; EndReaping() after the last one.
  void ReapSpecial(const io_uring_cqe& cqe) noexcept;
  void EndReaping() noexcept;
  // For one that is not the last of its record, or a notification.
  void OnOther(Record& record, const io_uring_cqe& cqe) noexcept;
  // Asks the kernel to end a stream that has enough items.
  void Throttle(const Record& record) noexcept;
  // For one that belongs to no record in flight; `record` has its user_data, or
  // is null.
  void OnForeignCompletion(Record* record, const io_uring_cqe& cqe);
  // Whether it was that of a deadline.
  bool OnDeadline(const io_uring_cqe& cqe) noexcept;
  // Whether it was the answer to a request to cancel.
  bool OnCancelAnswer(const io_uring_cqe& cqe) noexcept;
  // Has the continuation of `record` run.
  void MakeReady(Record& record) noexcept {
    record.hook.unlink();
    ready_.push_back(record);
  }
  std::size_t RunReady();
  bool AnythingReady() const noexcept {
    return !ready_.empty() || !raw_ready_.empty() || !posted_.empty();
  }

  // Takes what was posted. Whether more can be.
  bool TakePosted() noexcept;
  // Has the event of the mailbox end a wait, if it has one. An error of
  // io_uring_enter(2) when there is no room for that.
  std::error_code PollEvent() noexcept;

  // Takes the record out of every list, ends its content, frees it.
  void Discard(Record& record) noexcept;
  // Destroys the continuations of what is ready, unrun.
  void DropReady() noexcept;
  void BecomeOwner();
  // Cancels everything in flight and waits until the kernel is done with it.
  // The error because of which it is not.
  std::error_code EndAll();
  // The owner's thread is about to end.
  void OnThreadEnd();
  // Gives up, in a child process, what is the parent's.
  void Abandon() noexcept;
  void Bury(const std::error_code& reason);
  // When the raw ring is gone, the last handle takes the engine with it.
  void HandleGone() noexcept {
    if (!ring_.has_value()) [[unlikely]] {
      HandleGoneAfterRing();
    }
  }
  void HandleGoneAfterRing() noexcept;

  std::optional<raw::Ring> ring_;
  ownership::RecordList to_cancel_;  // kQueued, and the kernel is to be told
  ownership::RecordList parked_;     // kWaiting
  ownership::RecordList unparked_;   // kWaiting, to be started
  ownership::RecordList ready_;      // kDone, with a continuation
  ownership::RecordList orphans_;    // kDone, to be discarded
  std::size_t entry_bytes_;          // of an entry to submit
  std::size_t in_flight_ = 0;        // kQueued, and in unparked_
  std::size_t limit_;                // of in_flight_
  // The position, as the queue's tail counts, up to which Ready() need not look
  // at the queue and the limit; and whether there is such a thing.
  std::uint32_t ready_until_;
  bool looks_ahead_ = true;
  std::size_t handles_ = 0;  // records that are attached, once ring_ is gone
  boost::intrusive::list<
      Attachment,
      boost::intrusive::member_hook<Attachment, decltype(Attachment::hook),
                                    &Attachment::hook>,
      boost::intrusive::constant_time_size<false>>
      attachments_;
  std::uint64_t unknown_completions_ = 0;

  // Completions without a record, until the next Dispatch(): copies of
  // io_uring_cqe, which no container holds because it ends in an array of
  // unknown size.
  struct RawCompletion {
    alignas(io_uring_cqe) std::byte bytes[32];
  };
  std::vector<RawCompletion> raw_ready_;
  RawHandler raw_handler_ = nullptr;
  void* raw_context_ = nullptr;

  Owner owner_;  // nobody's while the ring is disabled
  bool enabled_ = true;

  std::shared_ptr<Mailbox> mailbox_;  // null without Remotes
  PostedList posted_;                 // taken from it, to be run
  bool event_polled_ = false;         // there is an entry for that
  Engine* next_abandoned_ = nullptr;

  std::uint8_t busy_;  // Busy bits

  std::chrono::milliseconds teardown_limit_;
  bool stopping_ = false;     // Shutdown() has begun
  bool buried_ = false;       // and the kernel kept some records
  bool dispatching_ = false;  // user code is running
  bool interrupted_ = false;
  bool discarding_ = false;  // and so are destructors of user types
};

// Whether one of `strings` has a NUL inside, up to which only the kernel would
// read it. The operation, which is `Op`, is done then.
template <typename Op, typename... Strings>
bool RefuseNul(ownership::Record& record, const Strings&... strings) {
  if (((strings.find('\0') == std::string::npos) && ...)) return false;
  record.result.category = &raw::OperationCategory<Op>;
  Engine::Of(record).Finish(record, -EINVAL);
  return true;
}

// Operations in engines that were shut down without the kernel's consent.
std::size_t BuriedCount();

// What an operation on `file` names in its entry.
inline raw::Fd FdOf(const ownership::DescriptorShare& file) noexcept {
  if (file.is_slot()) [[unlikely]] {
    return raw::FixedFile{static_cast<std::uint32_t>(file.number())};
  }
  return file.number();
}

// The MSG_* that a send gets. One with MSG_ZEROCOPY tells through the socket's
// error queue when the kernel is done with the memory, which is long after the
// completion.
inline int SendFlags(int flags) {
  ESCROW_CHECK((flags & MSG_ZEROCOPY) == 0,
               "a send with MSG_ZEROCOPY, of a buffer that comes back before "
               "the kernel is done with it");
  return flags | MSG_NOSIGNAL;
}

// The same where the kernel looks up descriptors only, and would take the
// number of a slot for that of one.
inline int NumberOf(const ownership::DescriptorShare& file) {
  ESCROW_CHECK(!file.is_slot(),
               "an operation that needs a descriptor, on a registered file");
  return file.number();
}

// Where an op puts the file that it makes, and the close-on-exec flag that it
// sets, which slots do not have.
inline raw::FileDestination DestinationOf(
    const ownership::Record& record) noexcept {
  return record.makes_slot ? raw::kAnyFixedFile : raw::kNewDescriptor;
}
inline int CloseOnExec(const ownership::Record& record, int flag) noexcept {
  return record.makes_slot ? 0 : flag;
}

// The kernel transfers less than 2 GiB at a time, page-aligned.
inline std::uint32_t TransferLength(std::size_t size) {
  constexpr std::size_t kMost = 0x7fff'f000;
  return static_cast<std::uint32_t>(std::min(size, kMost));
}

// A raw::Read or raw::Write on record.file, all of `size` if that may be.
// `flags` are RWF_*.
template <typename RawOp, typename Data>
void StartTransfer(ownership::Record& record, Data* data, std::size_t size,
                   std::uint64_t offset, int flags = 0) {
  Engine::Of(record).Start(record,
                           RawOp{.fd = FdOf(record.file),
                                 .buffer = data,
                                 .length = TransferLength(size),
                                 .offset = offset,
                                 .rw_flags = flags},
                           record.sqe_flags);
}

// The same with memory that may be registered with the record's ring, which
// makes it a FixedOp: a raw::ReadFixed or raw::WriteFixed.
template <typename RawOp, typename FixedOp, typename Data>
void StartTransfer(ownership::Record& record,
                   ownership::BufferRegistration registration, Data* data,
                   std::size_t size, std::uint64_t offset, int flags = 0) {
  if (registration.ring != record.pool) {
    StartTransfer<RawOp>(record, data, size, offset, flags);
    return;
  }
  Engine::Of(record).Start(record,
                           FixedOp{.fd = FdOf(record.file),
                                   .buffer = data,
                                   .length = TransferLength(size),
                                   .offset = offset,
                                   .buffer_index = registration.index,
                                   .rw_flags = flags},
                           record.sqe_flags);
}

// Whether the kernel has operations on several parts of registered memory:
// Linux 6.15.
bool HasFixedVectors(ownership::Record& record);

// The kernel takes no negative ones: what is past is now.
inline __kernel_timespec ToTimespec(std::chrono::nanoseconds duration) {
  duration = std::max(duration, std::chrono::nanoseconds(0));
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(duration);
  return {.tv_sec = seconds.count(), .tv_nsec = (duration - seconds).count()};
}

}  // namespace escrow::safe::internal

#endif  // ESCROW_SAFE_ENGINE_H_
