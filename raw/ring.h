#ifndef ESCROW_RAW_RING_H_
#define ESCROW_RAW_RING_H_

#include <liburing.h>

#include <atomic>
#include <cassert>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>
#include <utility>

#include "escrow/raw/contract.h"
#include "escrow/raw/error.h"
#include "escrow/raw/sanitizer.h"

// The io_uring instance itself, as liburing has it.
//
//   auto ring = raw::Ring::Create({.entries = 64});
//   if (!ring) return ring.error();
//   ring->Push(raw::Read{.fd = fd, .buffer = block, .length = 4096},
//              /*user_data=*/7);
//   if (auto n = ring->SubmitAndWait(1); !n) return n.error();
//   const auto completions = ring->completions();  // those there are now
//   for (const io_uring_cqe& cqe : completions) {
//     Handle(cqe.user_data, cqe.res);
//   }
//   ring->Advance(completions.entries());
//
// Unchecked by design: what an entry points to must stay valid as ops.h says,
// and nothing here sees to it. In particular the destructor does not wait: the
// kernel goes on writing into the buffers of requests in flight after it
// returned. escrow::safe is the layer that owns memory.

namespace escrow::raw {

class SharedRing;

// For io_uring_setup(2). The default is a plain ring, as the kernel has it. A
// flag that the running kernel does not know, or not in this combination, makes
// Ring::Create() return its error, EINVAL.
struct RingOptions {
  // Of the submission queue; rounded up to a power of two, at most 32768.
  std::uint32_t entries = 256;

  // IORING_SETUP_*, all of them. In brackets: the first Linux with it. liburing
  // adds NO_SQARRAY itself where the kernel has it.
  //
  // Who runs the kernel's side of a completion, and when:
  //   COOP_TASKRUN   [5.19] not by an interrupt, but when the thread enters the
  //                  kernel next. Not with SQPOLL.
  //   TASKRUN_FLAG   [5.19] taskrun_pending() says that there is some to run.
  //                  Needs COOP_TASKRUN or DEFER_TASKRUN.
  //   SINGLE_ISSUER  [6.0] only one thread submits: the one that creates the
  //                  ring or, with R_DISABLED, enables it. EEXIST in others.
  //   DEFER_TASKRUN  [6.1] only in waits and GetEvents(); nothing completes
  //                  without them. Needs SINGLE_ISSUER; not with SQPOLL.
  // Polling:
  //   SQPOLL         [5.1, unprivileged 5.13] a kernel thread submits, and
  //                  Submit() is a system call only when it sleeps.
  //   SQ_AFF         [5.1] see `sq_thread_cpu`. Needs SQPOLL.
  //   IOPOLL         [5.1] waits and GetEvents() poll for completions: those of
  //                  O_DIRECT reads and writes of devices with poll queues, of
  //                  commands and of nops. Other operations complete with
  //                  EINVAL, files that cannot be polled with EOPNOTSUPP.
  //   HYBRID_IOPOLL  [6.13] sleeps a while before it polls. Needs IOPOLL.
  // Sizes:
  //   CQSIZE         [5.5] see `completion_entries`.
  //   CLAMP          [5.6] sizes beyond the limits become the limits.
  //   SQE128         [5.19] all entries to submit have 128 bytes, not 64.
  //   SQE_MIXED      [6.19] those of operations that need it do, and count as
  //                  two. Not with SQE128.
  //   CQE32          [5.19] all completions have 32 bytes, not 16.
  //   CQE_MIXED      [6.18] some do, which count as two and have the flag
  //                  IORING_CQE_F_32. Not with CQE32.
  //   NO_SQARRAY     [6.6] no indirection between queue and entries.
  //   SQ_REWIND      [7.0] every submit takes its entries from the start of the
  //                  queue's memory, which stays in the cache, and drops those
  //                  that it did not consume (see Submit()). Needs NO_SQARRAY;
  //                  not with SQPOLL.
  // Memory and descriptor:
  //   NO_MMAP        [6.5] the ring is in `memory` or, if that is null, in what
  //                  liburing maps: huge pages of 2 MiB for more than a page of
  //                  entries, and ENOMEM if there are none.
  //   REGISTERED_FD_ONLY
  //                  [6.5] there is no descriptor, only the number that the
  //                  ring has with the thread that creates it. Other threads
  //                  cannot use or destroy it. Needs NO_MMAP.
  // Others:
  //   ATTACH_WQ      [5.6] see `workqueue_ring_fd`.
  //   R_DISABLED     [5.10] nothing can be submitted (EBADFD) until
  //                  EnableRings(): for what has to be registered before,
  //                  restrictions and wait regions.
  //   SUBMIT_ALL     [5.18] an invalid entry does not end a submit.
  std::uint32_t setup_flags = 0;

  // Of the completion queue; rounded up to a power of two, at least `entries`
  // and at most 65536. Other than 0 implies CQSIZE; else it is twice `entries`.
  std::uint32_t completion_entries = 0;

  // Where the SQPOLL thread runs. A number from 0 on implies SQ_AFF.
  std::int32_t sq_thread_cpu = -1;

  // How long the SQPOLL thread stays awake without work; 0 is one second.
  std::uint32_t sq_thread_idle_ms = 0;

  // A ring whose worker threads to share, and whose SQPOLL thread. A number
  // from 0 on implies ATTACH_WQ. Needed during Create() only.
  std::int32_t workqueue_ring_fd = -1;

  // Where the queues are to be: page-aligned, zeroed, of Ring::MemorySize()
  // bytes (ENOMEM if it has less). Other than null implies NO_MMAP. It remains
  // the caller's, and must remain mapped until the ring is destroyed; but as
  // nothing tells when the kernel has ceased to write there, it must never be
  // used for anything else: unmap it. Several rings can share a huge page.
  KernelPtr<void, Until::kTeardown, Access::kReadWrite> memory = nullptr;
  std::size_t memory_size = 0;  // bytes
};

// What an io_uring_enter(2) returned: a count, or an error. Used like
// std::expected<unsigned, std::error_code>, but is one register.
class [[nodiscard]] EnterResult {
 public:
  explicit constexpr EnterResult(int result) noexcept : result_(result) {}

  constexpr bool has_value() const noexcept { return result_ >= 0; }
  explicit constexpr operator bool() const noexcept { return has_value(); }
  constexpr unsigned operator*() const noexcept {
    return static_cast<unsigned>(result_);
  }
  constexpr int error_number() const noexcept { return -result_; }
  std::error_code error() const noexcept {
    return {error_number(), EnterCategory()};
  }

 private:
  int result_;
};

// The completions that are there to be read, oldest first: a C++20 input range.
// Iterating consumes none of them: Ring::Advance() does, and until then
// references to them stay valid. They, and this object, die with Advance(), a
// Resize(), the end or a move of the ring; on a CQE_MIXED ring also with the
// next wait, which may consume fillers.
//
// Works for all sizes. The second half of a 32-byte completion is
// `cqe.big_cqe[0]` and `[1]`; there is one on a CQE32 ring, and where `flags`
// has IORING_CQE_F_32 on a CQE_MIXED one. (Elsewhere that flag means nothing: a
// message from another ring may have any.) Fillers, IORING_CQE_F_SKIP, are left
// out.
class Completions {
 public:
  struct End {};

  class Iterator {
   public:
    using value_type = io_uring_cqe;
    using difference_type = std::ptrdiff_t;

    const io_uring_cqe& operator*() const noexcept {
      // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.UndefReturn): no end.
      return *cqe_;
    }
    const io_uring_cqe* operator->() const noexcept { return cqe_; }
    Iterator& operator++() noexcept {
      Next();
      return *this;
    }
    void operator++(int) noexcept { Next(); }
    bool operator==(End) const noexcept { return cqe_ == nullptr; }

   private:
    friend class Completions;
    Iterator(io_uring_cqe_iter iter, const io_uring* ring) noexcept
        : iter_(iter), ring_(ring) {
      Next();
    }

    // io_uring_cqe_iter_next() knows neither fillers nor that the flag of wide
    // completions means nothing on other rings.
    void Next() noexcept {
      while (iter_.head != iter_.tail) {
        cqe_ = &iter_.cqes[(iter_.head++ & iter_.mask) << iter_.shift];
        if ((cqe_->flags & (IORING_CQE_F_32 | IORING_CQE_F_SKIP)) == 0)
            [[likely]] {
          return;
        }
        // Keeps compilers from reading the ring's flags ahead of the loop,
        // which would cost every batch a register that is rarely needed.
        std::atomic_signal_fence(std::memory_order_acquire);
        if ((cqe_->flags & IORING_CQE_F_32) != 0 &&
            (ring_->flags & IORING_SETUP_CQE_MIXED) != 0 &&
            iter_.head != iter_.tail) {
          ++iter_.head;
        }
        if ((cqe_->flags & IORING_CQE_F_SKIP) == 0) return;
      }
      cqe_ = nullptr;
    }

    io_uring_cqe_iter iter_;
    const io_uring* ring_;
    io_uring_cqe* cqe_ = nullptr;
  };

  Iterator begin() const noexcept { return Iterator(iter_, ring_); }
  End end() const noexcept { return {}; }

  // How much to Advance() by to consume all of them; more than their number if
  // there are wide ones in a CQE_MIXED ring, or fillers.
  unsigned entries() const noexcept { return iter_.tail - iter_.head; }

  // How much to Advance() by to consume those up to and including `*position`,
  // which is not the end.
  unsigned EntriesThrough(const Iterator& position) const noexcept {
    return position.iter_.head - iter_.head;
  }

 private:
  friend class Ring;
  explicit Completions(const io_uring* ring) noexcept
      : iter_(io_uring_cqe_iter_init(ring)), ring_(ring) {}

  io_uring_cqe_iter iter_;
  const io_uring* ring_;
};

// Owns one ring: its descriptor and its memory, unless that is the caller's.
// Not thread-safe; with IORING_SETUP_SINGLE_ISSUER the kernel itself insists on
// one thread. Movable; a moved-from ring may only be destroyed or assigned to.
//
// An error leaves the ring usable, unless a function says otherwise.
class Ring {
 public:
  // io_uring_setup(2) and the mapping of the ring's memory, which counts
  // against RLIMIT_MEMLOCK of the user and which the kernel gives back some
  // time after a ring is destroyed: creating rings in a loop fails with ENOMEM
  // before the limit is really reached, and succeeds again a millisecond later.
  static std::expected<Ring, std::error_code> Create(
      const RingOptions& options);

  // The bytes that such a ring takes, in whole pages: what `options.memory`
  // must have, and what counts as locked memory. (Not
  // io_uring_mlock_size_params(), which says 0 for any kernel from 5.12 on.)
  // EINVAL for sizes that the kernel does not allow. No system call.
  static std::expected<std::size_t, std::error_code> MemorySize(
      const RingOptions& options);

  Ring(Ring&& other) noexcept : ring_(other.ring_) {
    assert(!other.reservation_open_ && "a ring moved with a Reservation open");
    other.ring_.ring_fd = kMovedFrom;
  }
  Ring& operator=(Ring&& other) noexcept {
    Ring taken(std::move(other));
    std::swap(ring_, taken.ring_);
    return *this;
  }

  // Unmaps and closes at once, whatever is in flight: requests then go on,
  // without anybody who learns of their end.
  ~Ring() {
    if (ring_.ring_fd != kMovedFrom) {
      const MappingLock lock;
      io_uring_queue_exit(&ring_);
    }
  }

  // The submission queue.

  // An entry to be filled by hand, cleared but for its operation, or null when
  // the queue is full. The next submit takes it, filled or not.
  io_uring_sqe* GetSqe() noexcept { return io_uring_get_sqe(Unreserved()); }

  // The same with 128 bytes, of which the first 64 are cleared. Null also when
  // the ring has no such entries: it needs IORING_SETUP_SQE128 or
  // IORING_SETUP_SQE_MIXED. On a ring of the latter kind it takes two entries,
  // and one more as a filler (a nop without completion) when they would not be
  // adjacent. A filler ends a chain of links: Reserve() those.
  io_uring_sqe* GetSqe128() noexcept {
    return io_uring_get_sqe128(Unreserved());
  }

  // Puts `op` into the queue for the next submit. It is an operation of ops.h
  // or any type with a `void Prepare(io_uring_sqe*) const`, and gets a 128-byte
  // entry if it says that it needs one (`Op::kInfo.sqe128`). `sqe_flags` are
  // IOSQE_*, in addition to those that `op` sets; `personality` is the number
  // of registered credentials, or 0 for those of the thread. Requires a free
  // entry: as many as sq_space_left() says. Everything `op` points to is the
  // kernel's from here on.
  template <typename Op>
  void Push(const Op& op, std::uint64_t user_data, std::uint8_t sqe_flags = 0,
            std::uint16_t personality = 0) noexcept {
    io_uring_sqe* sqe = GetSqeFor<Op>();
    assert(sqe != nullptr &&
           "Push() into a full submission queue: submit, or ask TryPush()");
    Fill(sqe, op, user_data, sqe_flags, personality);
  }

  // Push() that returns false, with nothing done, when the queue is full.
  template <typename Op>
  [[nodiscard]] bool TryPush(const Op& op, std::uint64_t user_data,
                             std::uint8_t sqe_flags = 0,
                             std::uint16_t personality = 0) noexcept {
    io_uring_sqe* sqe = GetSqeFor<Op>();
    if (sqe == nullptr) return false;
    Fill(sqe, op, user_data, sqe_flags, personality);
    return true;
  }

  // Writes `op` into an entry that GetSqe() gave, or GetSqe128() if `op` needs
  // it.
  template <typename Op>
  static void Fill(io_uring_sqe* sqe, const Op& op, std::uint64_t user_data,
                   std::uint8_t sqe_flags = 0,
                   std::uint16_t personality = 0) noexcept {
    op.Prepare(sqe);
    sqe->flags |= sqe_flags;
    if (personality != 0) sqe->personality = personality;
    io_uring_sqe_set_data64(sqe, user_data);
  }

  // Some entries that become part of the queue together, or not at all:
  //
  //   if (auto chain = ring.Reserve(2)) {
  //     chain.Push(raw::Write{...}, 1, IOSQE_IO_LINK);
  //     chain.Push(raw::Fsync{...}, 2);
  //     chain.Commit();
  //   }
  //
  // No submit sees any of them before Commit(); without it, the queue is as if
  // nothing had happened. While a reservation is open, nothing else is pushed,
  // submitted or reserved, and the ring is neither moved nor resized.
  class [[nodiscard]] Reservation {
   public:
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    ~Reservation() { Close(); }

    // Whether there was room. If not, nothing else may be called.
    explicit operator bool() const noexcept { return ring_ != nullptr; }

    // Fills the next entry. The arguments are those of Ring::Push(). Links are
    // flags, as everywhere: IOSQE_IO_LINK on all of a chain but the last.
    template <typename Op>
    void Push(const Op& op, std::uint64_t user_data, std::uint8_t sqe_flags = 0,
              std::uint16_t personality = 0) noexcept {
      io_uring_sqe* sqe;
      if constexpr (NeedsSqe128<Op>()) {
        sqe = Next128();
      } else {
        sqe = Next();
      }
      Fill(sqe, op, user_data, sqe_flags, personality);
    }

    // Puts the entries into the queue, for the next submit. Requires that all
    // are filled (a programmer's error otherwise; then none is put).
    void Commit() noexcept {
      assert(next_ == end_ &&
             "Commit() of a Reservation with entries unfilled");
      if (next_ == end_) ring_->ring_.sq.sqe_tail = next_;
      Close();
    }

   private:
    friend class Ring;
    Reservation(Ring* ring, unsigned begin, unsigned count) noexcept
        : ring_(ring), next_(begin), end_(begin + count) {}

    io_uring_sqe* Next() noexcept {
      assert(next_ != end_ && "more pushed than reserved");
      const io_uring_sq& sq = ring_->ring_.sq;
      io_uring_sqe* const sqe = &sq.sqes[(next_++ & sq.ring_mask)
                                         << io_uring_sqe_shift(&ring_->ring_)];
      io_uring_initialize_sqe(sqe);
      return sqe;
    }

    io_uring_sqe* Next128() noexcept {
      if ((ring_->ring_.flags & IORING_SETUP_SQE128) != 0) return Next();
      return NextOfTwo();
    }
    io_uring_sqe* NextOfTwo() noexcept;

    void Close() noexcept {
#ifndef NDEBUG
      if (ring_ != nullptr) ring_->reservation_open_ = false;
#endif
      ring_ = nullptr;
    }

    Ring* ring_;
    unsigned next_;
    unsigned end_;
  };

  // Reserves `count` entries, or none if fewer are free: if `count` is more
  // than sq_space_left(), and so always if it is more than the queue has. On an
  // IORING_SETUP_SQE_MIXED ring an operation that needs 128 bytes counts as
  // two, and one entry more must be free when the reservation reaches beyond
  // the end of the queue's memory: a filler that goes before all of it, so that
  // it breaks no chain.
  Reservation Reserve(unsigned count) noexcept {
    const unsigned tail = Unreserved()->sq.sqe_tail;
    unsigned room = sq_space_left();
    if ((ring_.flags & IORING_SETUP_SQE_MIXED) != 0 && room != 0 &&
        (tail & ring_.sq.ring_mask) + count > ring_.sq.ring_entries) {
      --room;
    }
    if (count > room) return Reservation(nullptr, 0, 0);
#ifndef NDEBUG
    reservation_open_ = true;
#endif
    return Reservation(this, tail, count);
  }

  // For assertions: whether a Reservation is open. False in builds without
  // them.
  bool reserving() const noexcept { return reservation_open_; }

  // Entries that can be pushed before the next submit, and entries pushed that
  // the kernel has not consumed.
  unsigned sq_space_left() const noexcept {
    return io_uring_sq_space_left(&ring_);
  }
  unsigned sq_ready() const noexcept { return io_uring_sq_ready(&ring_); }

  // Entries that the kernel found invalid as such: that the queue's array of
  // indices names none. None ever with IORING_SETUP_NO_SQARRAY.
  unsigned sq_dropped() const noexcept {
    return IO_URING_READ_ONCE(*ring_.sq.kdropped);
  }

  // Whether the SQPOLL thread sleeps. Submit() looks itself, and wakes it.
  bool sq_needs_wakeup() const noexcept {
    return (sq_flags() & IORING_SQ_NEED_WAKEUP) != 0;
  }

  // Waits until the SQPOLL thread has taken an entry of a full queue, which can
  // be a moment before the queue shows it: ask sq_space_left() again. 0 at once
  // on other rings, and when the queue is not full. Linux 5.10.
  EnterResult WaitForSqSpace() noexcept {
    return EnterResult(io_uring_sqring_wait(&ring_));
  }

  // Submitting and waiting: io_uring_enter(2). All results are the number of
  // entries consumed; 0 from what only waits. It is short when an entry was
  // invalid (which completes with its error; unless IORING_SETUP_SUBMIT_ALL) or
  // memory ran out; the others stay in the queue, as all do on an error. Not
  // so with IORING_SETUP_SQ_REWIND: there those are dropped, and have to be
  // pushed again. With IORING_SETUP_SQPOLL it is the number of those that were
  // in the queue: the kernel's thread consumes them at its own pace.
  //
  // A submit that consumed entries succeeds whatever became of its wait: what
  // completions() has then is fewer than were asked for.
  //
  // A wait returns when `count` completions are there to be read, or as many as
  // the queue can hold. ETIME when it took too long; EINTR when a signal came
  // first.
  //
  // EEXIST in another thread than that of a SINGLE_ISSUER or DEFER_TASKRUN
  // ring, EBADFD with R_DISABLED before it is enabled, EBADR when a completion
  // was lost for want of memory, EAGAIN and ENOMEM for want of memory.
  //
  // Memory that a function is given is the kernel's until it returns.

  EnterResult Submit() noexcept {
    return EnterResult(io_uring_submit(Unreserved()));
  }

  // Submit() and GetEvents() in one.
  EnterResult SubmitAndGetEvents() noexcept {
    return EnterResult(io_uring_submit_and_get_events(Unreserved()));
  }

  EnterResult SubmitAndWait(unsigned count) noexcept {
    io_uring* const ring = Unreserved();
    constexpr unsigned kOthers = IORING_SETUP_SQPOLL | IORING_SETUP_SQ_REWIND;
    if (count == 0 || (ring->flags & kOthers) != 0) [[unlikely]] {
      return EnterResult(io_uring_submit_and_wait(ring, count));
    }
    // What that does for the usual rings, in a straight line.
    io_uring_sq& sq = ring->sq;
    const unsigned tail = sq.sqe_tail;
    sq.sqe_head = tail;
    io_uring_smp_store_release(sq.ktail, tail);
    return EnterResult(
        io_uring_enter(static_cast<unsigned>(ring->enter_ring_fd),
                       tail - IO_URING_READ_ONCE(*sq.khead), count,
                       IORING_ENTER_GETEVENTS | EnterFlags(), nullptr));
  }

  // Waits for `timeout` at most, on the clock that is registered with the ring,
  // which is CLOCK_MONOTONIC by default; null is for ever. `signals`, if not
  // null, is the thread's signal mask during the wait, as in ppoll(2).
  // Linux 5.11 (IORING_FEAT_EXT_ARG).
  EnterResult SubmitAndWaitTimeout(unsigned count,
                                   const __kernel_timespec* timeout,
                                   const sigset_t* signals = nullptr) noexcept {
    io_uring_cqe* unused;
    return EnterResult(io_uring_submit_and_wait_timeout(
        Unreserved(), &unused, count, Mutable(timeout), Mutable(signals)));
  }

  // Waits for `count` completions during `min_wait_usec`; from then on, one is
  // enough. `timeout` is not null: liburing ignores the minimum otherwise.
  // EINVAL before Linux 6.12 (IORING_FEAT_MIN_TIMEOUT).
  EnterResult SubmitAndWaitMinTimeout(
      unsigned count, const __kernel_timespec* timeout, unsigned min_wait_usec,
      const sigset_t* signals = nullptr) noexcept {
    io_uring_cqe* unused;
    return EnterResult(io_uring_submit_and_wait_min_timeout(
        Unreserved(), &unused, count, Mutable(timeout), min_wait_usec,
        Mutable(signals)));
  }

  // Waits until `deadline`, on the clock that is registered with the ring.
  // `signals` as above. EINVAL before Linux 6.12 (IORING_ENTER_ABS_TIMER, for
  // which liburing 2.15 has no function).
  EnterResult SubmitAndWaitUntil(unsigned count,
                                 const __kernel_timespec* deadline,
                                 const sigset_t* signals = nullptr) noexcept;

  // Waits as the struct io_uring_reg_wait `index` of the ring's registered wait
  // region says, which has everything that the others take as arguments: the
  // kernel copies nothing. EFAULT when there is none, EINVAL before Linux 6.13.
  EnterResult SubmitAndWaitRegistered(unsigned count, int index) noexcept {
    io_uring_cqe* unused;
    return EnterResult(
        io_uring_submit_and_wait_reg(Unreserved(), &unused, count, index));
  }

  // Without submitting; `count` is not 0. No system call if the completions are
  // there already.
  EnterResult Wait(unsigned count) noexcept {
    io_uring_cqe* unused;
    return EnterResult(io_uring_wait_cqe_nr(&ring_, &unused, count));
  }
  EnterResult WaitTimeout(unsigned count, const __kernel_timespec* timeout,
                          const sigset_t* signals = nullptr) noexcept {
    io_uring_cqe* unused;
    return EnterResult(io_uring_wait_cqes(&ring_, &unused, count,
                                          Mutable(timeout), Mutable(signals)));
  }
  EnterResult WaitMinTimeout(unsigned count, const __kernel_timespec* timeout,
                             unsigned min_wait_usec,
                             const sigset_t* signals = nullptr) noexcept {
    io_uring_cqe* unused;
    return EnterResult(
        io_uring_wait_cqes_min_timeout(&ring_, &unused, count, Mutable(timeout),
                                       min_wait_usec, Mutable(signals)));
  }

  // Runs the kernel's deferred work, polls once on an IORING_SETUP_IOPOLL ring
  // and flushes overflown completions, without submitting or waiting.
  EnterResult GetEvents() noexcept {
    return EnterResult(io_uring_get_events(&ring_));
  }

  // Whether waits count as iowait of the thread, as they do by default, which
  // keeps the processor from sleeping deeply. EOPNOTSUPP before Linux 6.15. No
  // system call.
  std::error_code SetIowait(bool enabled) noexcept;

  // The completion queue.

  // What is ready to be read. Reads memory only; no system call.
  Completions completions() const noexcept { return Completions(&ring_); }

  // Gives `entries` slots, from the oldest on, back to the kernel. References
  // to them die here.
  void Advance(unsigned entries) noexcept {
    io_uring_cq_advance(&ring_, entries);
  }

  // Whether completions wait in the kernel for room in the queue: GetEvents()
  // brings them. Every kernel with IORING_FEAT_NODROP (5.5) keeps what does not
  // fit, in memory that it has to allocate; slower, but nothing is lost.
  bool cq_has_overflow() const noexcept {
    return io_uring_cq_has_overflow(&ring_);
  }

  // Completions that were lost: without memory for them, or without
  // IORING_FEAT_NODROP.
  unsigned cq_overflow() const noexcept {
    return IO_URING_READ_ONCE(*ring_.cq.koverflow);
  }

  // Whether there is deferred work that GetEvents() would run. Always false
  // without IORING_SETUP_TASKRUN_FLAG.
  bool taskrun_pending() const noexcept {
    return (sq_flags() & IORING_SQ_TASKRUN) != 0;
  }

  // Whether completions are signalled to the eventfd that is registered with
  // the ring, if one is. Setting it is a store that the kernel looks at when it
  // completes a request. EOPNOTSUPP before Linux 5.8.
  bool cq_eventfd_enabled() const noexcept {
    return io_uring_cq_eventfd_enabled(&ring_);
  }
  std::error_code SetCqEventfdEnabled(bool enabled) noexcept;

  // The ring.

  // Gives the queues other sizes, with what RingOptions says of `entries` and
  // `completion_entries`; `setup_flags` may have IORING_SETUP_CLAMP. What is in
  // the queues remains, and what is in flight goes on, but every pointer and
  // reference to an entry or a completion dies here.
  //
  // Needs IORING_SETUP_DEFER_TASKRUN and is refused with IORING_SETUP_NO_MMAP.
  // On an IORING_SETUP_SQ_REWIND ring nothing may be in the submission queue.
  // On a CQE_MIXED ring, consume the completions before making their queue
  // smaller: the kernel tears wide ones apart.
  //
  // EINVAL if refused, also before Linux 6.13; EOVERFLOW if the sizes are too
  // small for what is in the queues; EEXIST in another thread; EBADF if the
  // ring has a registered number only. If the kernel has resized the ring and
  // the new memory then cannot be mapped (ENOMEM, beyond vm.max_map_count or
  // RLIMIT_AS), the ring can only be destroyed.
  // io_uring_register(2), IORING_REGISTER_RESIZE_RINGS.
  std::error_code Resize(std::uint32_t entries,
                         std::uint32_t completion_entries = 0,
                         std::uint32_t setup_flags = 0) noexcept;

  // Keeps the ring's memory out of children that fork(2) makes, where it would
  // be shared with the parent. Of RingOptions::memory, the part with the
  // completion queue remains for the caller to do. madvise(2), MADV_DONTFORK.
  std::error_code DontFork() noexcept;

  // Ends a ring in a child that inherited it after DontFork(): closes the
  // child's descriptor, and nothing else. There is no memory to be unmapped
  // (what is at its addresses, if anything, is another's), and a number that
  // RegisterRingFd() gave means nothing there. The parent's ring is not
  // affected. From here on this is as one that was moved from.
  void CloseInChild() noexcept;

  // Registers the ring's descriptor with the calling thread, which makes every
  // later enter from that thread cheaper. EEXIST when it is already. From then
  // on the ring is used and destroyed by that thread only: in another one the
  // same registration is another ring's.
  // io_uring_register(2), IORING_REGISTER_RING_FDS, Linux 5.18.
  std::error_code RegisterRingFd() noexcept;

  std::uint32_t setup_flags() const noexcept { return ring_.flags; }
  std::uint32_t features() const noexcept {
    return ring_.features;
  }  // IORING_FEAT_*

  // liburing's own object, for whatever this class lacks.
  io_uring* get() noexcept { return &ring_; }
  const io_uring* get() const noexcept { return &ring_; }

 private:
  friend class SharedRing;

  // Create() with an array of indices between queue and entries, which liburing
  // leaves out where it can.
  static std::expected<Ring, std::error_code> CreateIndexed(
      const RingOptions& options);

  // queue_exit() knows -1 as "the descriptor is closed, the memory is mapped".
  static constexpr int kMovedFrom = -2;

  explicit Ring(const io_uring& ring) noexcept : ring_(ring) {}

  template <typename Op>
  static constexpr bool NeedsSqe128() noexcept {
    if constexpr (requires { Op::kInfo.sqe128; }) {
      return Op::kInfo.sqe128;
    } else {
      return false;
    }
  }

  // What a ring needs one of for `Op`, which needs 128 bytes. On an SQE_MIXED
  // ring it is the opcode that tells the kernel how many entries to take.
  template <typename Op>
  static constexpr unsigned Sqe128Flags() noexcept {
    return IORING_SETUP_SQE128 |
           (Op::kInfo.opcode == IORING_OP_NOP128 ||
                    Op::kInfo.opcode == IORING_OP_URING_CMD128
                ? IORING_SETUP_SQE_MIXED
                : 0u);
  }

  template <typename Op>
  io_uring_sqe* GetSqeFor() noexcept {
    if constexpr (NeedsSqe128<Op>()) {
      assert((ring_.flags & Sqe128Flags<Op>()) != 0 &&
             "a 128-byte operation pushed into a ring of 64-byte entries");
      return GetSqe128();
    } else {
      return GetSqe();
    }
  }

  io_uring* Unreserved() noexcept {
    assert(!reservation_open_ &&
           "a Reservation is open: Commit() it first, or end its scope");
    return &ring_;
  }

  // liburing's functions take what they only read as mutable.
  static __kernel_timespec* Mutable(const __kernel_timespec* time) noexcept {
    return const_cast<__kernel_timespec*>(time);
  }
  static sigset_t* Mutable(const sigset_t* signals) noexcept {
    return const_cast<sigset_t*>(signals);
  }

  unsigned sq_flags() const noexcept {
    return IO_URING_READ_ONCE(*ring_.sq.kflags);
  }

  // What RegisterRingFd() and SetIowait() chose, which liburing keeps as the
  // flags themselves.
  unsigned EnterFlags() const noexcept {
    return ring_.int_flags &
           (IORING_ENTER_REGISTERED_RING | IORING_ENTER_NO_IOWAIT);
  }

  // Makes what was pushed visible to the kernel; returns how much that is.
  unsigned Flush() noexcept;

  io_uring ring_;

  // Kept up to date where assertions are compiled in.
  [[maybe_unused]] bool reservation_open_ = false;
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_RING_H_
