#ifndef ESCROW_RAW_SHARED_RING_H_
#define ESCROW_RAW_SHARED_RING_H_

#include <liburing.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

#include "escrow/raw/ring.h"
#include "escrow/raw/shared_queues.h"

// One ring for several threads: any of them takes entries, fills and publishes
// them, any submits, any reaps.
//
//   auto ring = raw::SharedRing::Create({.entries = 64});
//   if (!ring) return ring.error();
//   // In any thread:
//   if (auto entry = (*ring)->Take()) {
//     entry.Fill(raw::Read{.fd = fd, .buffer = block, .length = 4096},
//                /*user_data=*/7);
//     entry.Publish();
//   }
//   if (auto entered = (*ring)->Submit(); !entered) return entered.error();
//   // In any thread:
//   if (auto waited = (*ring)->Wait(1); !waited) return waited.error();
//   raw::SharedCompletion completions[32];
//   const std::size_t count = (*ring)->Reap(completions);
//
// Think of a ring for each thread first, with messages between them
// (raw::MsgRing) where work has to move. Nothing is contended then, the kernel
// can do with IORING_SETUP_SINGLE_ISSUER and DEFER_TASKRUN, and each thread's
// submits do its own work. Several threads take a quarter to a third of the
// time that way, and about as much as with this when each sends a message for
// each of its batches. This is for programs whose threads cannot have rings, or
// whose work is no thread's in particular: several threads take 0.4 to 0.8 of
// what they do with a ring between two mutexes, and one thread, or threads that
// seldom run at once, 1.0 to 1.3. Here nobody waits for a thread that is in the
// kernel, or that was interrupted.
// (//bench:shared measures all of them.)
//
// Unchecked like Ring: what an entry points to must stay valid as ops.h says,
// and the destructor does not wait.

namespace escrow::raw {

struct SharedRingOptions {
  // As in RingOptions.
  std::uint32_t entries = 256;
  std::uint32_t completion_entries = 0;
  std::int32_t sq_thread_cpu = -1;
  std::uint32_t sq_thread_idle_ms = 0;
  std::int32_t workqueue_ring_fd = -1;

  // IORING_SETUP_SQPOLL, SQ_AFF, CQSIZE, CLAMP, ATTACH_WQ and SUBMIT_ALL;
  // EINVAL for others. (SINGLE_ISSUER and DEFER_TASKRUN contradict all of this.
  // COOP_TASKRUN would leave completions to the next system call of the thread
  // that happened to submit, which may never come. The others change the shape
  // of the queues.) SUBMIT_ALL is always set: one thread's invalid entry is not
  // to hold up another's.
  std::uint32_t setup_flags = 0;

  // How many entries may be taken whose requests have not had their last
  // completion reaped. 0 is as many as the completion queue has room for, and
  // more are made as many.
  std::uint32_t most_in_flight = 0;
};

// Every member function may be called by any number of threads at a time, but
// for the destructor. None waits for another thread, except in the kernel, and
// none but those that say so enters it. Share it by std::shared_ptr where no
// thread is known to be the last.
//
// What a thread did before it published an entry, the thread that reaps its
// completion sees; what was done before one was reaped, the next user of the
// same entry.
class SharedRing {
 public:
  class Entry;

  // io_uring_setup(2), with a queue of indices: no IORING_SETUP_NO_SQARRAY.
  // Linux 5.18 (IORING_SETUP_SUBMIT_ALL), EINVAL before. The errors are those
  // of Ring::Create(), and ENOMEM of the process.
  static std::expected<std::unique_ptr<SharedRing>, std::error_code> Create(
      const SharedRingOptions& options);

  SharedRing(const SharedRing&) = delete;
  SharedRing& operator=(const SharedRing&) = delete;

  // Unmaps and closes at once, whatever is in flight, as ~Ring() does: requests
  // go on, and the kernel writes to their memory, without anybody who learns of
  // their end. Requires that no thread uses the ring and no Entry is left.
  // To go in order, cancel and Reap() until in_flight() is 0.
  ~SharedRing();

  // The submission queue.

  // A free entry, which is a nop until it is filled; or none, if either queue
  // is full: if all entries are taken or wait for a submit, or `most_in_flight`
  // are in flight, so that more completions might find no room. Submit() helps
  // in the first case, Reap() in the second.
  //
  // That keeps the completion queue from overflowing as long as each request
  // has one completion at a time. A request with many (multishot, zero-copy
  // sends) counts once, until its last; leave room for those between with a
  // `most_in_flight` below the size of the completion queue. The kernel keeps
  // what does not fit: see cq_has_overflow().
  [[nodiscard]] Entry Take() noexcept;

  // Takes as many as are free, up to `entries.size()`, and puts them into the
  // first of `entries`, all of which are empty. Returns how many, perhaps 0.
  [[nodiscard]] std::size_t Take(std::span<Entry> entries) noexcept;

  // Makes `entries`, which are of this ring and not empty, part of the queue:
  // together, in this order and with nothing between, so that chains of links
  // stay chains. They are empty then. No entry has IOSQE_CQE_SKIP_SUCCESS, and
  // the last one no link: the first has no completion that could count, the
  // second would reach for another thread's.
  //
  // Publishing is not submitting. But if a Submit() of another thread meets
  // this half done, this does the rest of it, and enters the kernel. An error
  // there is nobody's: the entries wait for the next Submit().
  void Publish(std::span<Entry> entries) noexcept;

  // Take(), Fill() and Publish(); false, with nothing done, when there is none
  // to take. The arguments are those of Ring::Push().
  template <typename Op>
  [[nodiscard]] bool TryPush(const Op& op, std::uint64_t user_data,
                             std::uint8_t sqe_flags = 0,
                             std::uint16_t personality = 0) noexcept;

  // Submits all that was published before, by whatever thread; so one thread
  // can decide when, or each for itself: do not submit every entry by itself if
  // more are to come. If another thread is submitting already, returns 0 at
  // once, and that thread takes these along, before its Submit() returns. It is
  // in the kernel for as long as others keep asking.
  //
  // Returns how many entries the kernel consumed, or with IORING_SETUP_SQPOLL
  // how many it is now told of; an error if it was none. What was not consumed
  // remains in the queue for the next Submit(), so it is one thread that learns
  // of an error, and of the entries of all: whoever waits should submit from
  // time to time, if prepared() is not 0.
  //
  // The kernel takes requests for those of the thread that entered it. When
  // that has ended, what is in flight of its submits fails (ECANCELED) instead
  // of having its result, whoever published it: threads that submit outlive the
  // requests of all, or the ring has IORING_SETUP_SQPOLL. Credentials are that
  // thread's, too.
  //
  // io_uring_enter(2); with IORING_SETUP_SQPOLL only when the kernel's thread
  // sleeps. Errors as in Ring::Submit().
  EnterResult Submit() noexcept;

  // How many entries can be taken, are published and not consumed, and are
  // taken with their last completion not reaped. Each is true at some moment
  // during the call. The first does not know of `most_in_flight`.
  unsigned available() const noexcept { return submission_.available(); }
  unsigned prepared() const noexcept { return submission_.prepared(); }
  std::uint64_t in_flight() const noexcept { return submission_.in_flight(); }

  // Whether the SQPOLL thread sleeps. Submit() looks itself, and wakes it.
  bool sq_needs_wakeup() const noexcept { return ring_.sq_needs_wakeup(); }

  // The completion queue.

  // Copies the oldest completions, up to `completions.size()`, and consumes
  // them; returns how many, perhaps 0. Each is one thread's. Those of one call
  // are in the kernel's order. (There is no looking at completions without
  // taking them: another thread could.)
  //
  // Requires that no other ring posts to this one (raw::MsgRing), except
  // completions with IORING_CQE_F_MORE: any other is taken for the end of a
  // request, and makes room for one too many in flight.
  [[nodiscard]] std::size_t Reap(
      std::span<SharedCompletion> completions) noexcept;

  // How many Reap() could take at some moment during the call.
  unsigned ready() const noexcept { return completion_.ready(); }

  // Waits until `count` completions, of any requests, are there to be reaped;
  // at most as many as the queue has room for. Other threads may be faster:
  // what is left can be less than `count` or nothing, and then it is for the
  // caller to wait again. Does not submit. All who wait are woken, so several
  // threads waiting for one each is a waste; let one wait.
  //
  // io_uring_enter(2), unless they are there already. If there is none at all:
  // EINTR when a signal came first, ETIME after `timeout`; success with fewer
  // otherwise. Linux 5.11 with a timeout.
  EnterResult Wait(unsigned count) noexcept;
  EnterResult WaitTimeout(unsigned count,
                          const __kernel_timespec& timeout) noexcept;

  // Whether completions wait in the kernel for room in the queue: Flush()
  // brings as many as there is room for, as Wait() does when it enters.
  bool cq_has_overflow() const noexcept { return ring_.cq_has_overflow(); }
  EnterResult Flush() noexcept;

  // The ring, for registration and what is not of the queues (its eventfd, its
  // features), which is as thread-safe as the kernel's io_uring_register(2).
  // None of its functions that push, submit, wait, reap or advance may be
  // called, nor RegisterRingFd() or Resize(), and it is not moved from.
  Ring& ring() noexcept { return ring_; }

 private:
  using Collected = SubmissionQueue<StandardMemory>::Collected;

  SharedRing(Ring ring, std::unique_ptr<std::atomic<std::uint64_t>[]> published,
             std::uint64_t most_in_flight) noexcept;

  bool polled() const noexcept {
    return (ring_.setup_flags() & IORING_SETUP_SQPOLL) != 0;
  }
  io_uring_sqe* SqeAt(unsigned index) noexcept {
    return &ring_.get()->sq.sqes[index];
  }
  int EnterToSubmit(Collected collected) noexcept;
  bool ReadyAfterGivingBack(unsigned count) noexcept;
  int Enter(unsigned submit, unsigned wait, unsigned flags) const noexcept;
  void SeeKernelOrder() const noexcept;

  Ring ring_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> published_;
  SubmissionQueue<StandardMemory> submission_;
  CompletionQueue<StandardMemory> completion_;
};

// An entry that was taken, or none. Movable; of one thread at a time. If it is
// destroyed before it was published, it becomes a nop without a completion, for
// the next submit: entries go back by way of the kernel.
class [[nodiscard]] SharedRing::Entry {
 public:
  Entry() = default;
  Entry(Entry&& other) noexcept
      : ring_(std::exchange(other.ring_, nullptr)), index_(other.index_) {}
  Entry& operator=(Entry&& other) noexcept {
    Entry taken(std::move(other));
    std::swap(ring_, taken.ring_);
    std::swap(index_, taken.index_);
    return *this;
  }
  ~Entry() {
    if (ring_ != nullptr) GiveUp();
  }

  explicit operator bool() const noexcept { return ring_ != nullptr; }

  // Requires an entry, as all below. Cleared, which is a nop, and what was
  // filled in since. It is nobody else's until it is published.
  io_uring_sqe* sqe() const noexcept { return ring_->SqeAt(index_); }

  // Writes `op`, an operation of 64 bytes. The arguments are those of
  // Ring::Push(). What it points to is the kernel's from Publish() on.
  template <typename Op>
  void Fill(const Op& op, std::uint64_t user_data, std::uint8_t sqe_flags = 0,
            std::uint16_t personality = 0) const noexcept {
    static_assert(!Ring::NeedsSqe128<Op>(),
                  "shared rings have no entries of 128 bytes");
    Ring::Fill(sqe(), op, user_data, sqe_flags, personality);
  }

  // SharedRing::Publish() of this one.
  void Publish() noexcept { ring_->Publish(std::span(this, 1)); }

 private:
  friend class SharedRing;

  void GiveUp() noexcept;

  SharedRing* ring_ = nullptr;
  unsigned index_ = 0;
};

inline SharedRing::Entry SharedRing::Take() noexcept {
  Entry entry;
  (void)Take(std::span(&entry, 1));
  return entry;
}

template <typename Op>
bool SharedRing::TryPush(const Op& op, std::uint64_t user_data,
                         std::uint8_t sqe_flags,
                         std::uint16_t personality) noexcept {
  Entry entry = Take();
  if (!entry) return false;
  entry.Fill(op, user_data, sqe_flags, personality);
  entry.Publish();
  return true;
}

}  // namespace escrow::raw

#endif  // ESCROW_RAW_SHARED_RING_H_
