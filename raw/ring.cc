#include "escrow/raw/ring.h"

#include <sys/types.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <system_error>

#include "escrow/raw/error.h"
#include "escrow/raw/sanitizer.h"

namespace escrow::raw {
namespace {

io_uring_params ParamsOf(const RingOptions& options) {
  io_uring_params params = {};
  params.flags = options.setup_flags;
  params.cq_entries = options.completion_entries;
  if (options.completion_entries != 0) params.flags |= IORING_SETUP_CQSIZE;
  params.sq_thread_cpu = static_cast<std::uint32_t>(options.sq_thread_cpu);
  if (options.sq_thread_cpu >= 0) params.flags |= IORING_SETUP_SQ_AFF;
  params.sq_thread_idle = options.sq_thread_idle_ms;
  params.wq_fd = static_cast<std::uint32_t>(options.workqueue_ring_fd);
  if (options.workqueue_ring_fd >= 0) params.flags |= IORING_SETUP_ATTACH_WQ;
  return params;
}

std::error_code ErrorOf(int result, const std::error_category& category) {
  return result < 0 ? std::error_code(-result, category) : std::error_code();
}

}  // namespace

std::expected<Ring, std::error_code> Ring::Create(const RingOptions& options) {
  io_uring_params params = ParamsOf(options);
  io_uring ring;
  const MappingLock lock;
  const int result =
      options.memory.get() != nullptr
          ? io_uring_queue_init_mem(options.entries, &ring, &params,
                                    options.memory.get(), options.memory_size)
          : io_uring_queue_init_params(options.entries, &ring, &params);
  if (result < 0) {
    return std::unexpected(std::error_code(-result, SetupCategory()));
  }
  return Ring(ring);
}

std::expected<Ring, std::error_code> Ring::CreateIndexed(
    const RingOptions& options) {
  io_uring_params params = ParamsOf(options);
  const MappingLock lock;
  const int fd = io_uring_setup(options.entries, &params);
  if (fd < 0) return std::unexpected(std::error_code(-fd, SetupCategory()));
  io_uring ring;
  if (const int result = io_uring_queue_mmap(fd, &params, &ring); result < 0) {
    ::close(fd);
    return std::unexpected(std::error_code(-result, SetupCategory()));
  }
  return Ring(ring);
}

std::expected<std::size_t, std::error_code> Ring::MemorySize(
    const RingOptions& options) {
  io_uring_params params = ParamsOf(options);
  const ssize_t size = io_uring_memory_size_params(options.entries, &params);
  if (size < 0) {
    return std::unexpected(
        std::error_code(static_cast<int>(-size), SetupCategory()));
  }
  return static_cast<std::size_t>(size);
}

// Two adjacent entries. At the end of the queue's memory there is one only: the
// reservation then moves up by one, behind a filler that is no part of it. (A
// filler in the middle, as io_uring_get_sqe128() puts it, ends a chain of
// links.) None of it is visible to the kernel as yet.
io_uring_sqe* Ring::Reservation::NextOfTwo() noexcept {
  const io_uring_sq& sq = ring_->ring_.sq;
  assert((ring_->ring_.flags & IORING_SETUP_SQE_MIXED) != 0 &&
         "a 128-byte operation pushed into a ring of 64-byte entries");
  assert(end_ - next_ >= 2 && "more pushed than reserved");
  if ((next_ & sq.ring_mask) == sq.ring_mask) {
    io_uring_sqe* const first = &sq.sqes[sq.sqe_tail & sq.ring_mask];
    std::memmove(first + 1, first, (next_ - sq.sqe_tail) * sizeof(*first));
    io_uring_initialize_sqe(first);
    io_uring_prep_nop(first);
    first->flags = IOSQE_CQE_SKIP_SUCCESS;
    first->user_data = 0;
    ++next_;
    ++end_;
  }
  io_uring_sqe* const sqe = &sq.sqes[next_ & sq.ring_mask];
  io_uring_initialize_sqe(sqe);
  next_ += 2;
  return sqe;
}

// As liburing does in each of its submits; it does not offer it by itself.
unsigned Ring::Flush() noexcept {
  io_uring_sq& sq = ring_.sq;
  const unsigned tail = sq.sqe_tail;
  if ((ring_.flags & IORING_SETUP_SQ_REWIND) != 0) {
    sq.sqe_tail = 0;
    return tail;
  }
  sq.sqe_head = tail;
  io_uring_smp_store_release(sq.ktail, tail);
  return tail - IO_URING_READ_ONCE(*sq.khead);
}

EnterResult Ring::SubmitAndWaitUntil(unsigned count,
                                     const __kernel_timespec* deadline,
                                     const sigset_t* signals) noexcept {
  io_uring* const ring = Unreserved();
  const unsigned pending = Flush();
  if (pending == 0 && io_uring_cq_ready(ring) >= count) return EnterResult(0);

  unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG |
                   IORING_ENTER_ABS_TIMER | EnterFlags();
  if ((ring->flags & IORING_SETUP_SQPOLL) != 0) {
    // The flag is looked at after the tail was stored.
    io_uring_smp_mb();
    if (sq_needs_wakeup()) flags |= IORING_ENTER_SQ_WAKEUP;
  }
  io_uring_getevents_arg argument = {};
  argument.sigmask = uring_ptr_to_u64(signals);
  argument.sigmask_sz = _NSIG / 8;
  argument.ts = uring_ptr_to_u64(deadline);
  return EnterResult(io_uring_enter2(static_cast<unsigned>(ring->enter_ring_fd),
                                     pending, count, flags, &argument,
                                     sizeof(argument)));
}

std::error_code Ring::SetIowait(bool enabled) noexcept {
  return ErrorOf(io_uring_set_iowait(&ring_, enabled), EnterCategory());
}

std::error_code Ring::SetCqEventfdEnabled(bool enabled) noexcept {
  return ErrorOf(io_uring_cq_eventfd_toggle(&ring_, enabled),
                 CategoryOf<"io_uring_cq_eventfd_toggle">());
}

std::error_code Ring::Resize(std::uint32_t entries,
                             std::uint32_t completion_entries,
                             std::uint32_t setup_flags) noexcept {
  io_uring* const ring = Unreserved();
  // liburing notices only after the kernel has resized the ring, which is too
  // late: it maps the new memory through the descriptor.
  if (ring->ring_fd < 0) return {EBADF, RegisterCategory()};
  // The kernel copies what it knows of; the rest would become nops.
  if ((ring->flags & IORING_SETUP_SQ_REWIND) == 0) {
    Flush();
  } else {
    assert(sq_ready() == 0 &&
           "Resize() of an SQ_REWIND ring with entries to submit");
  }
  io_uring_params params = {};
  params.sq_entries = entries;
  params.cq_entries = completion_entries;
  params.flags = setup_flags;
  if (completion_entries != 0) params.flags |= IORING_SETUP_CQSIZE;
  const MappingLock lock;
  return ErrorOf(io_uring_resize_rings(ring, &params), RegisterCategory());
}

std::error_code Ring::DontFork() noexcept {
  return ErrorOf(io_uring_ring_dontfork(&ring_), CategoryOf<"madvise">());
}

void Ring::CloseInChild() noexcept {
  ::close(ring_.ring_fd);
  ring_.ring_fd = kMovedFrom;
}

std::error_code Ring::RegisterRingFd() noexcept {
  return ErrorOf(io_uring_register_ring_fd(&ring_), RegisterCategory());
}

}  // namespace escrow::raw
