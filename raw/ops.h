#ifndef ESCROW_RAW_OPS_H_
#define ESCROW_RAW_OPS_H_

#include <liburing.h>
#include <sys/stat.h>

#include <cstdint>
#include <tuple>

#include "escrow/raw/kernel_ptr.h"

// One aggregate per io_uring operation. A field without a default has to be
// given; a default is the kernel's.
//
//   ring.Push(raw::Read{.fd = file, .buffer = block, .length = 4096},
//             /*user_data=*/7);
//
// Nothing here checks, owns or allocates. The type of each pointer says how
// long the memory must stay valid (kernel_ptr.h); breaking that promise is a
// write by the kernel into memory that is somebody else's by then, which no
// sanitizer sees. `Prepare` fills an entry through liburing's own
// io_uring_prep_*() function and what it generates is what hand-written calls
// generate. `kCall` names the system call that an operation equals and whose
// errors it has.
//
// A result below zero is a negated errno, as in io_uring_cqe.res.

#if !defined(IO_URING_VERSION_MAJOR) || IO_URING_VERSION_MAJOR < 2 || \
    (IO_URING_VERSION_MAJOR == 2 && IO_URING_VERSION_MINOR < 15)
#error "escrow needs liburing 2.15 or newer"
#endif

namespace escrow::raw {

// A required number: a field of this type cannot be left out of an aggregate's
// initializer.
template <typename T>
class Required {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): stands for a T.
  constexpr Required(T value) noexcept : value_(value) {}
  // NOLINTNEXTLINE(google-explicit-constructor): stands for a T.
  constexpr operator T() const noexcept { return value_; }

 private:
  T value_;
};

// A slot of the ring's registered file table.
struct FixedFile {
  std::uint32_t slot;
};

// What an operation works on: a descriptor number or a registered file.
//
// The number is resolved when the request is *issued*, which for linked or
// drained requests can be long after the submit: close it or replace it
// earlier, and the request hits whatever is there by then. Keep it until
// kCompletion.
class Fd {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): reads `.fd = 0`.
  constexpr Fd(int number) noexcept : number_(number) {}
  // NOLINTNEXTLINE(google-explicit-constructor): an Fd is either.
  constexpr Fd(FixedFile file) noexcept
      : number_(static_cast<int>(file.slot)), sqe_flags_(IOSQE_FIXED_FILE) {}

  constexpr int number() const noexcept { return number_; }
  constexpr bool is_fixed() const noexcept { return sqe_flags_ != 0; }
  constexpr std::uint8_t sqe_flags() const noexcept { return sqe_flags_; }

 private:
  int number_;
  std::uint8_t sqe_flags_ = 0;
};

// As an offset: use and advance the file's own position. The only choice for
// pipes and terminals.
inline constexpr std::uint64_t kCurrentPosition = ~std::uint64_t{0};

// Does nothing and completes with 0.
struct Nop {
  static constexpr io_uring_op kOpcode = IORING_OP_NOP;
  static constexpr const char* kCall = "nop";
  static constexpr std::tuple<> kRegions = {};

  void Prepare(io_uring_sqe* sqe) const noexcept { io_uring_prep_nop(sqe); }
};

// pread(2), or read(2) at the current position. Result: bytes read, 0 at the
// end of the file. Linux 5.6.
struct Read {
  Fd fd;
  KernelPtr<void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;           // bytes
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  __kernel_rwf_t rw_flags = 0;              // RWF_* of preadv2(2)

  static constexpr io_uring_op kOpcode = IORING_OP_READ;
  static constexpr const char* kCall = "read";
  static constexpr auto kRegions = std::tuple(&Read::buffer);

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_read(sqe, fd.number(), buffer.get(), length, offset);
    sqe->flags |= fd.sqe_flags();
    sqe->rw_flags = rw_flags;
  }
};

// pwrite(2), or write(2) at the current position. Result: bytes written.
// Linux 5.6.
struct Write {
  Fd fd;
  KernelPtr<const void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;           // bytes
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  __kernel_rwf_t rw_flags = 0;              // RWF_* of pwritev2(2)

  static constexpr io_uring_op kOpcode = IORING_OP_WRITE;
  static constexpr const char* kCall = "write";
  static constexpr auto kRegions = std::tuple(&Write::buffer);

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_write(sqe, fd.number(), buffer.get(), length, offset);
    sqe->flags |= fd.sqe_flags();
    sqe->rw_flags = rw_flags;
  }
};

// Read into a part of registered buffer `buffer_index`. The kernel holds the
// buffer's pages, not its addresses: memory that was unmapped or reused
// meanwhile is still written, with no error. The table entry is looked up when
// the request is issued (from Linux 6.15 on; before, when it is consumed), so
// it must outlive the request too. Linux 5.1.
struct ReadFixed {
  Fd fd;
  // Inside the registered buffer.
  KernelPtr<void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;           // bytes
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  Required<std::uint16_t> buffer_index;
  __kernel_rwf_t rw_flags = 0;  // RWF_* of preadv2(2)

  static constexpr io_uring_op kOpcode = IORING_OP_READ_FIXED;
  static constexpr const char* kCall = "read (fixed buffer)";
  static constexpr auto kRegions = std::tuple(&ReadFixed::buffer);

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_read_fixed(sqe, fd.number(), buffer.get(), length, offset,
                             buffer_index);
    sqe->flags |= fd.sqe_flags();
    sqe->rw_flags = rw_flags;
  }
};

// Write from a part of registered buffer `buffer_index`. See ReadFixed for what
// holds of the buffer. Linux 5.1.
struct WriteFixed {
  Fd fd;
  // Inside the registered buffer.
  KernelPtr<const void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;           // bytes
  std::uint64_t offset = kCurrentPosition;  // bytes from the start of the file
  Required<std::uint16_t> buffer_index;
  __kernel_rwf_t rw_flags = 0;  // RWF_* of pwritev2(2)

  static constexpr io_uring_op kOpcode = IORING_OP_WRITE_FIXED;
  static constexpr const char* kCall = "write (fixed buffer)";
  static constexpr auto kRegions = std::tuple(&WriteFixed::buffer);

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_write_fixed(sqe, fd.number(), buffer.get(), length, offset,
                              buffer_index);
    sqe->flags |= fd.sqe_flags();
    sqe->rw_flags = rw_flags;
  }
};

// fsync(2). Not ordered against writes in flight: link or drain it behind them.
// Linux 5.1.
struct Fsync {
  Fd fd;
  std::uint32_t flags = 0;  // IORING_FSYNC_DATASYNC for fdatasync(2)

  static constexpr io_uring_op kOpcode = IORING_OP_FSYNC;
  static constexpr const char* kCall = "fsync";
  static constexpr std::tuple<> kRegions = {};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_fsync(sqe, fd.number(), flags);
    sqe->flags |= fd.sqe_flags();
  }
};

// openat(2). Result: a descriptor, which leaks if the completion is ignored.
// `directory` is used at issue. Linux 5.6.
struct OpenAt {
  int directory = AT_FDCWD;
  KernelPtr<const char, Until::kConsumed> path;  // NUL-terminated
  Required<int> flags;                           // O_*
  mode_t mode = 0;                               // with O_CREAT or O_TMPFILE

  static constexpr io_uring_op kOpcode = IORING_OP_OPENAT;
  static constexpr const char* kCall = "openat";
  static constexpr auto kRegions = std::tuple(&OpenAt::path);

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_openat(sqe, directory, path.get(), flags, mode);
  }
};

// close(2), of a descriptor or of a registered file's slot. The number is
// resolved at issue, and requests in flight on the file are neither cancelled
// nor completed by it. Linux 5.6; slots 5.15.
struct Close {
  Fd fd;

  static constexpr io_uring_op kOpcode = IORING_OP_CLOSE;
  static constexpr const char* kCall = "close";
  static constexpr std::tuple<> kRegions = {};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    if (fd.is_fixed()) {
      io_uring_prep_close_direct(sqe, static_cast<unsigned>(fd.number()));
    } else {
      io_uring_prep_close(sqe, fd.number());
    }
  }
};

// statx(2). io_uring_prep_statx(3) says that `result` need only be valid until
// the submit; measured, it is written at completion. Linux 5.6.
struct Statx {
  int directory = AT_FDCWD;
  // NUL-terminated; empty with AT_EMPTY_PATH for `directory` itself.
  KernelPtr<const char, Until::kConsumed> path;
  int flags = 0;                      // AT_*
  unsigned mask = STATX_BASIC_STATS;  // STATX_*
  KernelPtr<struct statx, Until::kCompletion> result;

  static constexpr io_uring_op kOpcode = IORING_OP_STATX;
  static constexpr const char* kCall = "statx";
  static constexpr auto kRegions = std::tuple(&Statx::path, &Statx::result);

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_statx(sqe, directory, path.get(), flags, mask, result.get());
  }
};

// Asks the kernel to cancel requests. Result: 0 (or their number, with
// IORING_ASYNC_CANCEL_ALL), -ENOENT for nothing found, -EALREADY for a request
// that is running and may or may not end early. This completion says nothing
// about the target's memory: only the target's own terminal completion does,
// and it may come before or after. Linux 5.5.
struct Cancel {
  std::uint64_t user_data = 0;  // of the requests to cancel
  // IORING_ASYNC_CANCEL_*; with ANY, `user_data` is ignored.
  unsigned flags = 0;

  static constexpr io_uring_op kOpcode = IORING_OP_ASYNC_CANCEL;
  static constexpr const char* kCall = "async cancel";
  static constexpr std::tuple<> kRegions = {};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cancel64(sqe, user_data, static_cast<int>(flags));
  }
};

// A timer. Result: -ETIME when it fired, 0 when `count` other completions came
// first, -ECANCELED. Linux 5.4.
struct Timeout {
  KernelPtr<const __kernel_timespec, Until::kConsumed> duration;
  unsigned count = 0;  // completions that end it early; 0: none
  unsigned flags = 0;  // IORING_TIMEOUT_*: absolute, clock. The default is
                       // relative, CLOCK_MONOTONIC

  static constexpr io_uring_op kOpcode = IORING_OP_TIMEOUT;
  static constexpr const char* kCall = "timeout";
  static constexpr auto kRegions = std::tuple(&Timeout::duration);

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_timeout(sqe, duration.get(), count, flags);
  }
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_OPS_H_
