#ifndef ESCROW_RAW_OPS_FILE_H_
#define ESCROW_RAW_OPS_FILE_H_

#include <liburing.h>

#include <cstdint>

#include "escrow/raw/contract.h"
#include "escrow/raw/op.h"

// What else is done to an open file, or between two: syncing, space, advice,
// splicing, closing. See ops.h for what holds of all operations.

namespace escrow::raw {

// fsync(2). Not ordered against writes in flight: link or drain it behind them.
// Result: 0. Linux 5.1.
struct Fsync {
  Fd fd;
  std::uint64_t offset = 0;  // of the range to sync, bytes
  std::uint32_t length = 0;  // of the range, bytes; 0: to the end of the file
  std::uint32_t flags = 0;   // IORING_FSYNC_DATASYNC for fdatasync(2)

  static constexpr OpInfo kInfo = {IORING_OP_FSYNC, "Fsync", "fsync",
                                   "io_uring_prep_fsync(3)", "5.1"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Fsync::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_fsync(sqe, fd.number(), flags);
    sqe->off = offset;
    sqe->len = length;
    sqe->flags |= fd.sqe_flags();
  }
};

// sync_file_range(2). Result: 0. Linux 5.2.
struct SyncFileRange {
  Fd fd;
  Required<std::uint64_t> offset;  // bytes
  Required<std::uint32_t> length;  // bytes; 0: to the end of the file
  Required<int> flags;             // SYNC_FILE_RANGE_*

  static constexpr OpInfo kInfo = {IORING_OP_SYNC_FILE_RANGE, "SyncFileRange",
                                   "sync_file_range",
                                   "io_uring_prep_sync_file_range(3)", "5.2"};
  static constexpr Region kRegions[] = {RegionOf("fd", &SyncFileRange::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_sync_file_range(sqe, fd.number(), length, offset, flags);
    sqe->flags |= fd.sqe_flags();
  }
};

// fallocate(2). Result: 0. Linux 5.6.
struct Fallocate {
  Fd fd;
  int mode = 0;                    // FALLOC_FL_*
  Required<std::uint64_t> offset;  // bytes
  Required<std::uint64_t> length;  // bytes

  static constexpr OpInfo kInfo = {IORING_OP_FALLOCATE, "Fallocate",
                                   "fallocate", "io_uring_prep_fallocate(3)",
                                   "5.6"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Fallocate::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_fallocate(sqe, fd.number(), mode, offset, length);
    sqe->flags |= fd.sqe_flags();
  }
};

// ftruncate(2). Result: 0. Linux 6.9.
struct Ftruncate {
  Fd fd;
  Required<std::int64_t> length;  // bytes that the file has then

  static constexpr OpInfo kInfo = {IORING_OP_FTRUNCATE, "Ftruncate",
                                   "ftruncate", "io_uring_prep_ftruncate(3)",
                                   "6.9"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Ftruncate::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_ftruncate(sqe, fd.number(), length);
    sqe->flags |= fd.sqe_flags();
  }
};

// posix_fadvise(2). Result: 0. Linux 5.6; lengths above 32 bits since 6.10.
struct Fadvise {
  Fd fd;
  std::uint64_t offset = 0;  // bytes
  std::int64_t length = 0;   // bytes; 0: to the end of the file
  Required<int> advice;      // POSIX_FADV_*

  static constexpr OpInfo kInfo = {IORING_OP_FADVISE, "Fadvise", "fadvise",
                                   "io_uring_prep_fadvise64(3)", "5.6"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Fadvise::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_fadvise64(sqe, fd.number(), offset, length, advice);
    sqe->flags |= fd.sqe_flags();
  }
};

// madvise(2). Result: 0. Linux 5.6; lengths above 32 bits since 6.10.
//
// Acts on whatever is mapped at the address when it is issued: MADV_DONTNEED on
// a range that was freed after the submit wipes its next owner's data.
struct Madvise {
  KernelPtr<void, Until::kCompletion, Access::kAddress> address;
  Required<std::int64_t> length;  // bytes
  Required<int> advice;           // MADV_*

  static constexpr OpInfo kInfo = {IORING_OP_MADVISE, "Madvise", "madvise",
                                   "io_uring_prep_madvise64(3)", "5.6"};
  static constexpr Region kRegions[] = {
      RegionOf("address", &Madvise::address,
               "acts on what is mapped there when it is issued")};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_madvise64(sqe, address.get(), length, advice);
  }
};

// As an offset of Splice: use and advance the file's own position.
inline constexpr std::int64_t kNoOffset = -1;

// splice(2); one of the two is a pipe, whose offset is kNoOffset. Result: bytes
// moved, 0 at the end of the input. Linux 5.7.
struct Splice {
  Fd in;
  std::int64_t in_offset = kNoOffset;  // bytes from the start of the file
  Fd out;
  std::int64_t out_offset = kNoOffset;  // bytes from the start of the file
  Required<std::uint32_t> length;       // bytes at most
  std::uint32_t flags = 0;              // SPLICE_F_*

  static constexpr OpInfo kInfo = {IORING_OP_SPLICE, "Splice", "splice",
                                   "io_uring_prep_splice(3)", "5.7"};
  static constexpr Region kRegions[] = {RegionOf("in", &Splice::in),
                                        RegionOf("out", &Splice::out)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_splice(sqe, in.number(), in_offset, out.number(), out_offset,
                         length,
                         flags | (in.is_fixed() ? SPLICE_F_FD_IN_FIXED : 0));
    sqe->flags |= out.sqe_flags();
  }
};

// tee(2), between two pipes. Result: bytes duplicated. Linux 5.8.
struct Tee {
  Fd in;
  Fd out;
  Required<std::uint32_t> length;  // bytes at most
  std::uint32_t flags = 0;         // SPLICE_F_*

  static constexpr OpInfo kInfo = {IORING_OP_TEE, "Tee", "tee",
                                   "io_uring_prep_tee(3)", "5.8"};
  static constexpr Region kRegions[] = {RegionOf("in", &Tee::in),
                                        RegionOf("out", &Tee::out)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_tee(sqe, in.number(), out.number(), length,
                      flags | (in.is_fixed() ? SPLICE_F_FD_IN_FIXED : 0));
    sqe->flags |= out.sqe_flags();
  }
};

// pipe2(2). Result: 0. `fds` gets the two ends, read end first: descriptors, or
// slots that leak when nobody looks there. With a FixedFile, it and the next
// slot are used. Linux 6.16.
struct Pipe {
  KernelPtr<int, Until::kCompletion> fds;  // two
  int flags = 0;                           // O_CLOEXEC, O_NONBLOCK, O_DIRECT
  FileDestination into = kNewDescriptor;

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_PIPE,
                                   .name = "Pipe",
                                   .call = "pipe2",
                                   .manual = "io_uring_prep_pipe(3)",
                                   .since = "6.16",
                                   .result_owns_file = true};
  static constexpr Region kRegions[] = {
      RegionOf("fds", &Pipe::fds, "the files it gets are to be closed"),
      RegionOf("into", &Pipe::into)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_pipe(sqe, fds.get(), flags);
    sqe->file_index = into.file_index();
  }
};

// close(2), of a descriptor or of a registered file's slot. Result: 0. Linux
// 5.6; slots 5.15.
//
// The number is resolved at issue, and requests in flight on the file are
// neither cancelled nor completed by it. io_uring descriptors are refused with
// -EBADF.
struct Close {
  Fd fd;

  static constexpr OpInfo kInfo = {IORING_OP_CLOSE, "Close", "close",
                                   "io_uring_prep_close(3)", "5.6"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &Close::fd, "a reused number closes its next owner's")};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    if (fd.is_fixed()) {
      io_uring_prep_close_direct(sqe, static_cast<unsigned>(fd.number()));
    } else {
      io_uring_prep_close(sqe, fd.number());
    }
  }
};

// Makes a descriptor for the file in a slot. Result: the descriptor, with
// O_CLOEXEC unless `flags` say otherwise. Linux 6.8.
struct FixedFdInstall {
  FixedFile file;
  std::uint32_t flags = 0;  // IORING_FIXED_FD_NO_CLOEXEC

  static constexpr OpInfo kInfo = {
      .opcode = IORING_OP_FIXED_FD_INSTALL,
      .name = "FixedFdInstall",
      .call = "fixed fd install",
      .manual = "io_uring_prep_fixed_fd_install(3)",
      .since = "6.8",
      .result_owns_file = true};
  static constexpr Region kRegions[] = {
      RegionOf("file", &FixedFdInstall::file)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_fixed_fd_install(sqe, static_cast<int>(file.slot), flags);
  }
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_OPS_FILE_H_
