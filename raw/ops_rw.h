#ifndef ESCROW_RAW_OPS_RW_H_
#define ESCROW_RAW_OPS_RW_H_

#include <liburing.h>
#include <sys/uio.h>

#include <cstdint>

#include "escrow/raw/contract.h"
#include "escrow/raw/op.h"

// Reading and writing files: plain, vectored, in registered buffers, into
// provided buffers. (On sockets and pipes, too, where the offset has to be
// kCurrentPosition.) See ops.h for what holds of all operations.

namespace escrow::raw {

// As an offset: use and advance the file's own position. The only choice for
// pipes, sockets and terminals. Several requests in flight at the current
// position run in any order.
inline constexpr std::uint64_t kCurrentPosition = ~std::uint64_t{0};

struct ProtectionData {
  static constexpr Region kRegions[] = {
      {"addr", Access::kReadWrite, Until::kCompletion}};
};

// Protection information that goes with a transfer to a block device that has
// it (IORING_RW_ATTR_FLAG_PI). Linux 6.13.
using ProtectionInfo = KernelPtr<const io_uring_attr_pi, Until::kConsumed,
                                 Access::kRead, ProtectionData>;

// What all of these have in common.
inline void SetRwFields(io_uring_sqe* sqe, Fd fd, __kernel_rwf_t rw_flags,
                        std::uint16_t priority,
                        const io_uring_attr_pi* protection) noexcept {
  sqe->flags |= fd.sqe_flags();
  sqe->rw_flags = rw_flags;
  sqe->ioprio = priority;
  if (protection != nullptr) {
    sqe->attr_ptr = uring_ptr_to_u64(protection);
    sqe->attr_type_mask = IORING_RW_ATTR_FLAG_PI;
  }
}

// pread(2), or read(2) at the current position. Result: bytes read, 0 at the
// end of the file; short reads happen. Linux 5.6.
//
// The kernel stores into `buffer` until the completion. A close() of the
// descriptor does not end the request: it goes on to consume data.
struct Read {
  Fd fd;
  KernelPtr<void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;           // bytes
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  __kernel_rwf_t rw_flags = 0;              // RWF_* of preadv2(2)
  std::uint16_t priority = 0;               // of ioprio_set(2); 0: the task's
  ProtectionInfo protection = nullptr;

  static constexpr OpInfo kInfo = {IORING_OP_READ, "Read", "read",
                                   "io_uring_prep_read(3)", "5.6"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &Read::fd), RegionOf("buffer", &Read::buffer),
      RegionOf("protection", &Read::protection)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_read(sqe, fd.number(), buffer.get(), length, offset);
    SetRwFields(sqe, fd, rw_flags, priority, protection.get());
  }
};

// pwrite(2), or write(2) at the current position. Result: bytes written; short
// writes happen. Linux 5.6.
//
// The kernel loads from `buffer` until the completion: what is changed before
// may be what is written.
struct Write {
  Fd fd;
  KernelPtr<const void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;           // bytes
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  __kernel_rwf_t rw_flags = 0;              // RWF_* of pwritev2(2)
  std::uint16_t priority = 0;               // of ioprio_set(2); 0: the task's
  ProtectionInfo protection = nullptr;

  static constexpr OpInfo kInfo = {IORING_OP_WRITE, "Write", "write",
                                   "io_uring_prep_write(3)", "5.6"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &Write::fd), RegionOf("buffer", &Write::buffer),
      RegionOf("protection", &Write::protection)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_write(sqe, fd.number(), buffer.get(), length, offset);
    SetRwFields(sqe, fd, rw_flags, priority, protection.get());
  }
};

// preadv2(2). Result: bytes read. The array may go once the entry is consumed;
// what it describes is written until the completion. Linux 5.1.
struct Readv {
  Fd fd;
  KernelVectors<Access::kWrite, Until::kCompletion> vectors;
  Required<std::uint32_t> count;            // of vectors; at most IOV_MAX
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  __kernel_rwf_t rw_flags = 0;              // RWF_*
  std::uint16_t priority = 0;               // of ioprio_set(2); 0: the task's
  ProtectionInfo protection = nullptr;

  static constexpr OpInfo kInfo = {IORING_OP_READV, "Readv", "readv",
                                   "io_uring_prep_readv2(3)", "5.1"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &Readv::fd), RegionOf("vectors", &Readv::vectors),
      RegionOf("protection", &Readv::protection)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_readv(sqe, fd.number(), vectors.get(), count, offset);
    SetRwFields(sqe, fd, rw_flags, priority, protection.get());
  }
};

// pwritev2(2). Result: bytes written. The array may go once the entry is
// consumed; what it describes is read until the completion. Linux 5.1.
struct Writev {
  Fd fd;
  KernelVectors<Access::kRead, Until::kCompletion> vectors;
  Required<std::uint32_t> count;            // of vectors; at most IOV_MAX
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  __kernel_rwf_t rw_flags = 0;              // RWF_*
  std::uint16_t priority = 0;               // of ioprio_set(2); 0: the task's
  ProtectionInfo protection = nullptr;

  static constexpr OpInfo kInfo = {IORING_OP_WRITEV, "Writev", "writev",
                                   "io_uring_prep_writev2(3)", "5.1"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &Writev::fd), RegionOf("vectors", &Writev::vectors),
      RegionOf("protection", &Writev::protection)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_writev(sqe, fd.number(), vectors.get(), count, offset);
    SetRwFields(sqe, fd, rw_flags, priority, protection.get());
  }
};

// Read into a part of registered buffer `buffer_index`. Result: as Read. Linux
// 5.1.
//
// The kernel holds the buffer's pages, not its addresses: memory that was
// unmapped or reused meanwhile is still written, with no error, and
// unregistering the buffers does not wait for requests in flight.
struct ReadFixed {
  Fd fd;
  // Inside the registered buffer.
  KernelPtr<void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;           // bytes
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  BufferIndex buffer_index;
  __kernel_rwf_t rw_flags = 0;  // RWF_* of preadv2(2)
  std::uint16_t priority = 0;   // of ioprio_set(2); 0: the task's
  ProtectionInfo protection = nullptr;

  static constexpr OpInfo kInfo = {IORING_OP_READ_FIXED, "ReadFixed",
                                   "read (fixed buffer)",
                                   "io_uring_prep_read_fixed(3)", "5.1"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &ReadFixed::fd),
      RegionOf("buffer", &ReadFixed::buffer,
               "pinned: reuse is written over silently, never -EFAULT"),
      RegionOf("buffer_index", &ReadFixed::buffer_index),
      RegionOf("protection", &ReadFixed::protection)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_read_fixed(sqe, fd.number(), buffer.get(), length, offset,
                             buffer_index);
    SetRwFields(sqe, fd, rw_flags, priority, protection.get());
  }
};

// Write from a part of registered buffer `buffer_index`. Result: as Write. See
// ReadFixed for what holds of the buffer. Linux 5.1.
struct WriteFixed {
  Fd fd;
  // Inside the registered buffer.
  KernelPtr<const void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;           // bytes
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  BufferIndex buffer_index;
  __kernel_rwf_t rw_flags = 0;  // RWF_* of pwritev2(2)
  std::uint16_t priority = 0;   // of ioprio_set(2); 0: the task's
  ProtectionInfo protection = nullptr;

  static constexpr OpInfo kInfo = {IORING_OP_WRITE_FIXED, "WriteFixed",
                                   "write (fixed buffer)",
                                   "io_uring_prep_write_fixed(3)", "5.1"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &WriteFixed::fd),
      RegionOf("buffer", &WriteFixed::buffer,
               "pinned: what is there by then is written, never -EFAULT"),
      RegionOf("buffer_index", &WriteFixed::buffer_index),
      RegionOf("protection", &WriteFixed::protection)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_write_fixed(sqe, fd.number(), buffer.get(), length, offset,
                              buffer_index);
    SetRwFields(sqe, fd, rw_flags, priority, protection.get());
  }
};

// Readv into parts of registered buffer `buffer_index`, inside of which all the
// vectors lie. Linux 6.15.
struct ReadvFixed {
  Fd fd;
  KernelVectors<Access::kWrite, Until::kCompletion> vectors;
  Required<std::uint32_t> count;            // of vectors; at most IOV_MAX
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  BufferIndex buffer_index;
  __kernel_rwf_t rw_flags = 0;  // RWF_* of preadv2(2)
  std::uint16_t priority = 0;   // of ioprio_set(2); 0: the task's
  ProtectionInfo protection = nullptr;

  static constexpr OpInfo kInfo = {IORING_OP_READV_FIXED, "ReadvFixed",
                                   "readv (fixed buffer)",
                                   "io_uring_prep_readv_fixed(3)", "6.15"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &ReadvFixed::fd),
      RegionOf("vectors", &ReadvFixed::vectors,
               "data is pinned: reuse is written over silently"),
      RegionOf("buffer_index", &ReadvFixed::buffer_index),
      RegionOf("protection", &ReadvFixed::protection)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_readv_fixed(sqe, fd.number(), vectors.get(), count, offset,
                              rw_flags, buffer_index);
    SetRwFields(sqe, fd, rw_flags, priority, protection.get());
  }
};

// Writev from parts of registered buffer `buffer_index`, inside of which all
// the vectors lie. Linux 6.15.
struct WritevFixed {
  Fd fd;
  KernelVectors<Access::kRead, Until::kCompletion> vectors;
  Required<std::uint32_t> count;            // of vectors; at most IOV_MAX
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  BufferIndex buffer_index;
  __kernel_rwf_t rw_flags = 0;  // RWF_* of pwritev2(2)
  std::uint16_t priority = 0;   // of ioprio_set(2); 0: the task's
  ProtectionInfo protection = nullptr;

  static constexpr OpInfo kInfo = {IORING_OP_WRITEV_FIXED, "WritevFixed",
                                   "writev (fixed buffer)",
                                   "io_uring_prep_writev_fixed(3)", "6.15"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &WritevFixed::fd),
      RegionOf("vectors", &WritevFixed::vectors,
               "data is pinned: what is there by then is written"),
      RegionOf("buffer_index", &WritevFixed::buffer_index),
      RegionOf("protection", &WritevFixed::protection)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_writev_fixed(sqe, fd.number(), vectors.get(), count, offset,
                               rw_flags, buffer_index);
    SetRwFields(sqe, fd, rw_flags, priority, protection.get());
  }
};

// Read into a buffer that the kernel takes from `group` when there is
// something to read. Linux 5.7.
struct ReadSelected {
  Fd fd;
  BufferGroup<Access::kWrite> group;
  std::uint32_t length = 0;                 // bytes at most; 0: the buffer's
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  __kernel_rwf_t rw_flags = 0;              // RWF_* of preadv2(2)
  std::uint16_t priority = 0;               // of ioprio_set(2); 0: the task's

  static constexpr OpInfo kInfo = {IORING_OP_READ, "ReadSelected",
                                   "read (selected buffer)",
                                   "io_uring_provided_buffers(7)", "5.7"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &ReadSelected::fd),
      RegionOf("group", &ReadSelected::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_read(sqe, fd.number(), nullptr, length, offset);
    SetRwFields(sqe, fd, rw_flags, priority, nullptr);
    SetBufferGroup(sqe, group);
  }
};

// Readv into a buffer of `group`. There is one vector, of which only the length
// is used: bytes at most. Older than ReadSelected in style only. Linux 5.7.
struct ReadvSelected {
  Fd fd;
  KernelPtr<const iovec, Until::kConsumed> vector;
  BufferGroup<Access::kWrite> group;
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  __kernel_rwf_t rw_flags = 0;              // RWF_* of preadv2(2)
  std::uint16_t priority = 0;               // of ioprio_set(2); 0: the task's

  static constexpr OpInfo kInfo = {IORING_OP_READV, "ReadvSelected",
                                   "readv (selected buffer)",
                                   "io_uring_provided_buffers(7)", "5.7"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &ReadvSelected::fd),
      RegionOf("vector", &ReadvSelected::vector),
      RegionOf("group", &ReadvSelected::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_readv(sqe, fd.number(), vector.get(), 1, offset);
    SetRwFields(sqe, fd, rw_flags, priority, nullptr);
    SetBufferGroup(sqe, group);
  }
};

// Reads again and again, each time that there is something, into buffers of
// `group`: one completion with IORING_CQE_F_MORE each. Only files that can be
// polled (pipes, terminals, sockets); -EBADFD for others. Ends, without
// IORING_CQE_F_MORE, at the end of the file, on an error, when it is
// cancelled, and with -ENOBUFS when the group is empty. Linux 6.7.
struct ReadMultishot {
  Fd fd;
  BufferGroup<Access::kWrite> group;
  std::uint32_t length = 0;  // bytes; the kernel takes 0 only: the buffer's
  std::uint64_t offset = kCurrentPosition;

  static constexpr OpInfo kInfo = {IORING_OP_READ_MULTISHOT,
                                   "ReadMultishot",
                                   "read (multishot)",
                                   "io_uring_prep_read_multishot(3)",
                                   "6.7",
                                   Until::kLastCompletion};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &ReadMultishot::fd),
      RegionOf("group", &ReadMultishot::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_read_multishot(sqe, fd.number(), length, offset, group);
    sqe->flags |= fd.sqe_flags();
  }
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_OPS_RW_H_
