#ifndef ESCROW_RAW_RING_H_
#define ESCROW_RAW_RING_H_

#include <liburing.h>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <iterator>
#include <system_error>
#include <utility>

#include "escrow/raw/error.h"
#include "escrow/raw/ops.h"

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

// For io_uring_setup(2). The default is a plain ring.
struct RingOptions {
  // Of the submission queue; rounded up to a power of two.
  std::uint32_t entries = 256;

  // IORING_SETUP_*.
  std::uint32_t setup_flags = 0;

  // Of the completion queue, with IORING_SETUP_CQSIZE; else twice `entries`.
  std::uint32_t completion_entries = 0;

  // Where the kernel's thread runs, with IORING_SETUP_SQ_AFF, and how long it
  // stays awake without work, with IORING_SETUP_SQPOLL; 0 is one second.
  std::uint32_t sq_thread_cpu = 0;
  std::uint32_t sq_thread_idle_ms = 0;

  // The ring whose workers to share, with IORING_SETUP_ATTACH_WQ.
  std::uint32_t workqueue_ring_fd = 0;
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

// The completions that are there to be read. Iterating consumes none of them:
// Ring::Advance() does. Handles rings with 16-byte, 32-byte and mixed
// completions, of which a 32-byte one counts as two in a mixed ring (see
// entries()).
class Completions {
 public:
  class Iterator {
   public:
    using value_type = io_uring_cqe;
    using difference_type = std::ptrdiff_t;

    const io_uring_cqe& operator*() const noexcept { return *cqe_; }
    const io_uring_cqe* operator->() const noexcept { return cqe_; }
    Iterator& operator++() noexcept {
      if (!io_uring_cqe_iter_next(&iter_, &cqe_)) cqe_ = nullptr;
      return *this;
    }
    void operator++(int) noexcept { ++*this; }
    bool operator==(std::default_sentinel_t) const noexcept {
      return cqe_ == nullptr;
    }

   private:
    friend class Completions;
    explicit Iterator(io_uring_cqe_iter iter) noexcept : iter_(iter) {
      ++*this;
    }

    io_uring_cqe_iter iter_;
    io_uring_cqe* cqe_ = nullptr;
  };

  Iterator begin() const noexcept { return Iterator(iter_); }
  std::default_sentinel_t end() const noexcept { return {}; }

  // How much to Advance() by to consume all of them.
  unsigned entries() const noexcept { return iter_.tail - iter_.head; }

 private:
  friend class Ring;
  explicit Completions(const io_uring* ring) noexcept
      : iter_(io_uring_cqe_iter_init(ring)) {}

  io_uring_cqe_iter iter_;
};

// Owns one ring: its descriptor and its memory. Not thread-safe; with
// IORING_SETUP_SINGLE_ISSUER the kernel itself insists on one thread. Movable;
// a moved-from ring may only be destroyed or assigned to.
class Ring {
 public:
  // io_uring_setup(2) and the mapping of the ring's memory, which counts
  // against RLIMIT_MEMLOCK of the user and which the kernel gives back some
  // time after a ring is destroyed: creating rings in a loop fails with ENOMEM
  // before the limit is really reached, and succeeds again a millisecond later.
  static std::expected<Ring, std::error_code> Create(
      const RingOptions& options);

  Ring(Ring&& other) noexcept : ring_(other.ring_) {
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
    if (ring_.ring_fd != kMovedFrom) io_uring_queue_exit(&ring_);
  }

  // An entry to be filled by hand, cleared but for its operation, or null when
  // the queue is full.
  io_uring_sqe* GetSqe() noexcept { return io_uring_get_sqe(&ring_); }

  // Puts `op` into the queue for the next submit. `sqe_flags` are IOSQE_*.
  // Requires a free entry: as many as sq_space_left() says. Everything `op`
  // points to is the kernel's from here on.
  template <typename Op>
  void Push(const Op& op, std::uint64_t user_data,
            std::uint8_t sqe_flags = 0) noexcept {
    io_uring_sqe* sqe = GetSqe();
    assert(sqe != nullptr &&
           "Push() into a full submission queue: submit, or ask TryPush()");
    Fill(sqe, op, user_data, sqe_flags);
  }

  // Push() that returns false, with nothing done, when the queue is full.
  template <typename Op>
  [[nodiscard]] bool TryPush(const Op& op, std::uint64_t user_data,
                             std::uint8_t sqe_flags = 0) noexcept {
    io_uring_sqe* sqe = GetSqe();
    if (sqe == nullptr) return false;
    Fill(sqe, op, user_data, sqe_flags);
    return true;
  }

  // Writes `op` into an entry that GetSqe() gave.
  template <typename Op>
  static void Fill(io_uring_sqe* sqe, const Op& op, std::uint64_t user_data,
                   std::uint8_t sqe_flags = 0) noexcept {
    op.Prepare(sqe);
    sqe->flags |= sqe_flags;
    io_uring_sqe_set_data64(sqe, user_data);
  }

  // Entries that can be pushed before the next submit, and entries pushed that
  // the kernel has not consumed.
  unsigned sq_space_left() const noexcept {
    return io_uring_sq_space_left(&ring_);
  }
  unsigned sq_ready() const noexcept { return io_uring_sq_ready(&ring_); }

  // io_uring_enter(2). The result is the number of entries consumed, which is
  // short when an entry was invalid (unless IORING_SETUP_SUBMIT_ALL) or memory
  // ran out; the others stay in the queue, as all do on an error.
  EnterResult Submit() noexcept { return EnterResult(io_uring_submit(&ring_)); }

  // Also waits until `count` completions are there to be read. EINTR when a
  // signal came first.
  EnterResult SubmitAndWait(unsigned count) noexcept {
    return EnterResult(io_uring_submit_and_wait(&ring_, count));
  }

  // Also waits, for `timeout` at most: ETIME when that has passed. A null
  // `timeout` is for ever. The kernel is done with `*timeout` when this
  // returns. Needs IORING_FEAT_EXT_ARG (Linux 5.11).
  EnterResult SubmitAndWaitTimeout(unsigned count,
                                   const __kernel_timespec* timeout) noexcept {
    io_uring_cqe* unused;
    return EnterResult(io_uring_submit_and_wait_timeout(
        &ring_, &unused, count, const_cast<__kernel_timespec*>(timeout),
        /*sigmask=*/nullptr));
  }

  // Submit() and GetEvents() in one.
  EnterResult SubmitAndGetEvents() noexcept {
    return EnterResult(io_uring_submit_and_get_events(&ring_));
  }

  // Runs the kernel's deferred work and flushes overflown completions, without
  // submitting or waiting.
  EnterResult GetEvents() noexcept {
    return EnterResult(io_uring_get_events(&ring_));
  }

  // What is ready to be read. Reads memory only; no system call.
  Completions completions() const noexcept { return Completions(&ring_); }

  // Gives `entries` slots, from the oldest on, back to the kernel. References
  // to them die here.
  void Advance(unsigned entries) noexcept {
    io_uring_cq_advance(&ring_, entries);
  }

  // Whether completions wait in the kernel for room in the queue: GetEvents()
  // brings them.
  bool cq_has_overflow() const noexcept {
    return io_uring_cq_has_overflow(&ring_);
  }

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
  // queue_exit() knows -1 as "the descriptor is closed, the memory is mapped".
  static constexpr int kMovedFrom = -2;

  explicit Ring(const io_uring& ring) noexcept : ring_(ring) {}

  io_uring ring_;
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_RING_H_
