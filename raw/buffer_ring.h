#ifndef ESCROW_RAW_BUFFER_RING_H_
#define ESCROW_RAW_BUFFER_RING_H_

#include <liburing.h>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/contract.h"
#include "escrow/raw/ring.h"

// A group of buffers among which the kernel chooses when there is something to
// receive, handed to it through a ring in shared memory.
//
//   auto group = raw::BufferRing::Map(ring, {.group = 1, .entries = 64});
//   for (int i = 0; i < 64; ++i) group->Add(block + i * 4096, 4096, i, i);
//   group->Advance(64);
//   ring.Push(raw::ReadSelected{.fd = fd, .group = 1}, /*user_data=*/7);
//   // ...and when it completes:
//   if (raw::HasBuffer(cqe)) {
//     Use(block + raw::BufferId(cqe) * 4096, cqe.res);
//     if (!raw::BufferHasMore(cqe)) {
//       group->Add(block + raw::BufferId(cqe) * 4096, 4096,
//                  raw::BufferId(cqe));
//       group->Advance(1);
//     }
//   }
//
// A buffer is the kernel's from the Advance() that covers it until a completion
// names it without IORING_CQE_F_BUF_MORE. That goes for every completion: one
// with an error may name a buffer too, which is lost to the group when it is
// not added again. One with result 0, at the end of a stream, may name one with
// IORING_CQE_F_BUF_MORE: that is still the kernel's.
//
// The buffers that are never named are the kernel's until Unregister() *and*
// the terminal completions of all requests of the group: Unregister() ends none
// of them. One that has a buffer by then writes into it; the others go on
// waiting and end with ENOBUFS.

namespace escrow::raw {

// Whether a completion names a buffer.
constexpr bool HasBuffer(const io_uring_cqe& cqe) noexcept {
  return (cqe.flags & IORING_CQE_F_BUFFER) != 0;
}

// Which one: the id that Add() was given. With IORING_RECVSEND_BUNDLE, the
// first one; as many as the result fills follow, in the order in which they
// were added.
constexpr std::uint16_t BufferId(const io_uring_cqe& cqe) noexcept {
  assert(HasBuffer(cqe) && "BufferId() of a completion that names none");
  return static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
}

// Whether the kernel keeps the buffer: what comes next goes behind what is in
// it. Only with IOU_PBUF_RING_INC, or when nothing was put into it.
constexpr bool BufferHasMore(const io_uring_cqe& cqe) noexcept {
  return (cqe.flags & IORING_CQE_F_BUF_MORE) != 0;
}

struct BufferRingOptions {
  // Number of the group, by which requests refer to it.
  std::uint16_t group = 0;

  // How many buffers it holds at most: a power of two, 2^15 at most.
  std::uint32_t entries = 0;

  // IOU_PBUF_RING_INC (Linux 6.12): a buffer is used up bit by bit. Each
  // completion with its id continues where the previous one ended.
  std::uint16_t flags = 0;

  // With IOU_PBUF_RING_INC: a buffer with fewer bytes left is given back
  // instead; 0 is 1. EINVAL from kernels that do not know it.
  std::uint32_t min_left = 0;
};

// Refers to a registered buffer ring, like a pointer: copying and destroying it
// does nothing. One thread at a time adds to a ring. Costs what liburing's
// functions of the same names cost.
class BufferRing {
 public:
  // How many bytes the ring of `entries` buffers takes: not the buffers
  // themselves.
  static constexpr std::size_t MemorySize(std::uint32_t entries) noexcept {
    return entries * sizeof(io_uring_buf);
  }

  // Registers a ring in `memory`: MemorySize(options.entries) bytes, at the
  // beginning of a page. The kernel pins them and uses them, for writing too
  // with IOU_PBUF_RING_INC, until Unregister() or until the ring is gone.
  // EEXIST when there is such a group, EINVAL for a number of entries that is
  // not possible. IORING_REGISTER_PBUF_RING, Linux 5.19.
  static std::expected<BufferRing, std::error_code> Register(
      Ring& ring, const BufferRingOptions& options,
      KernelPtr<void, Until::kUnregistered, Access::kReadWrite>
          memory) noexcept;

  // The same in memory that the kernel allocates, mapped here until
  // Unregister(). Groups from kMapGroups on are EINVAL: the offset that mmap(2)
  // takes has no room for their numbers and would name another group. Needs the
  // ring's descriptor: EBADF after CloseRingFd().
  // IORING_REGISTER_PBUF_RING and IOU_PBUF_RING_MMAP, Linux 6.4.
  static constexpr unsigned kMapGroups =  // 2048
      (IORING_OFF_MMAP_MASK & -IORING_OFF_MMAP_MASK) >> IORING_OFF_PBUF_SHIFT;
  static std::expected<BufferRing, std::error_code> Map(
      Ring& ring, const BufferRingOptions& options) noexcept;

  // Writes down a buffer, for the next Advance(): the `offset`th since the last
  // one. Its `id` is what completions will say; nothing asks for ids to be
  // distinct. Requires that at most `entries` buffers are in the ring.
  void Add(KernelPtr<void, Until::kUnregistered, Access::kReadWrite> buffer,
           std::uint32_t size, std::uint16_t id, int offset = 0) noexcept {
    io_uring_buf_ring_add(ring_, buffer.get(), size, id, mask_, offset);
  }

  // Gives the `count` buffers that were added to the kernel.
  void Advance(int count) noexcept { io_uring_buf_ring_advance(ring_, count); }

  // The same and ring.Advance(completions).
  void AdvanceWithCompletions(Ring& ring, int completions, int count) noexcept {
    __io_uring_buf_ring_cq_advance(ring.get(), ring_, completions, count);
  }

  // How many buffers the kernel has taken, modulo 2^16.
  // IORING_REGISTER_PBUF_STATUS, Linux 6.8.
  std::expected<std::uint16_t, std::error_code> Head(Ring& ring) const noexcept;

  // How many there are to be taken: old by the time it returns, if requests are
  // in flight. IORING_REGISTER_PBUF_STATUS, Linux 6.8.
  std::expected<std::uint16_t, std::error_code> Available(
      Ring& ring) const noexcept;

  // Takes the group from the ring, and unmaps it if it was mapped. It must not
  // be used any more, except when this fails: ENOENT when the group is gone.
  // IORING_UNREGISTER_PBUF_RING, Linux 5.19.
  [[nodiscard]] std::error_code Unregister(Ring& ring) noexcept;

  std::uint16_t group() const noexcept { return group_; }
  std::uint32_t entries() const noexcept {
    return static_cast<std::uint32_t>(mask_) + 1;
  }

  // The kernel's structure, for whatever this class lacks.
  io_uring_buf_ring* get() noexcept { return ring_; }

 private:
  BufferRing(io_uring_buf_ring* ring, const BufferRingOptions& options,
             bool mapped) noexcept
      : ring_(ring),
        mask_(io_uring_buf_ring_mask(options.entries)),
        group_(options.group),
        mapped_(mapped) {}

  io_uring_buf_ring* ring_;
  int mask_;
  std::uint16_t group_;
  bool mapped_;
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_BUFFER_RING_H_
