#ifndef ESCROW_RAW_OP_H_
#define ESCROW_RAW_OP_H_

#include <liburing.h>

#include <cstdint>

#include "escrow/raw/contract.h"

// What the operation types of ops.h are made of.

#if !defined(IO_URING_VERSION_MAJOR) || IO_URING_VERSION_MAJOR < 2 || \
    (IO_URING_VERSION_MAJOR == 2 && IO_URING_VERSION_MINOR < 15)
#error "escrow needs liburing 2.15 or newer"
#endif

namespace escrow::raw {

// What is known of an operation type: its `kInfo`.
struct OpInfo {
  io_uring_op opcode;
  const char* name;    // of the type
  const char* call;    // the system call whose errors it has, for messages
  const char* manual;  // where liburing's manual describes it
  const char* since;   // the first Linux release that has it

  // The completion that ends the request: kCompletion, kLastCompletion or
  // kNotification.
  Until ends = Until::kCompletion;

  // The result is, or may be, a descriptor or an automatically chosen file
  // slot, which leaks when the completion is ignored.
  bool result_owns_file = false;

  // Needs a 128-byte entry.
  bool sqe128 = false;
};

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
  KernelHandle<std::uint32_t> slot;

  static constexpr Until kUntil = Until::kIssued;
  static constexpr Access kAccess = Access::kHandle;
  static constexpr Regions kBehind = {};
};

// What an operation works on: a descriptor number or a registered file. Like
// any handle, resolved when the request is issued, which for linked or drained
// requests can be long after the submit: closing or replacing it earlier
// redirects the request. Keep it until kCompletion.
class Fd {
 public:
  static constexpr Until kUntil = Until::kIssued;
  static constexpr Access kAccess = Access::kHandle;
  static constexpr Regions kBehind = {};

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

// Where an operation puts the file that it makes: into the process's descriptor
// table (kNewDescriptor; the result is its number), into a slot of the ring's
// file table (a FixedFile, whose old file is replaced; the result is 0), or
// into a free slot of the kernel's choice (kAnyFixedFile; the result is the
// slot, or -ENFILE).
class FileDestination {
 public:
  static constexpr Until kUntil = Until::kIssued;
  static constexpr Access kAccess = Access::kHandle;
  static constexpr Regions kBehind = {};

  // NOLINTNEXTLINE(google-explicit-constructor): reads `.into = FixedFile{3}`.
  constexpr FileDestination(FixedFile file) noexcept
      : file_index_(file.slot + 1) {}

  // `file_index` as in io_uring_sqe: 0, a slot + 1, IORING_FILE_INDEX_ALLOC.
  explicit constexpr FileDestination(std::uint32_t file_index) noexcept
      : file_index_(file_index) {}
  constexpr std::uint32_t file_index() const noexcept { return file_index_; }

 private:
  std::uint32_t file_index_;
};

inline constexpr FileDestination kNewDescriptor(0);
inline constexpr FileDestination kAnyFixedFile(IORING_FILE_INDEX_ALLOC);

// A directory's descriptor, or AT_FDCWD.
using Directory = KernelHandle<int>;

// An index of the ring's table of registered buffers. The kernel holds a
// registered buffer's pages, not its addresses: memory that was unmapped or
// reused meanwhile is still read or written, with no error. The entry is looked
// up at issue since Linux 6.15, and when it is consumed before.
using BufferIndex = KernelHandle<std::uint16_t>;

template <Access kUse>
struct GroupBuffers {
  static constexpr Region kRegions[] = {
      {"buffers of the group",
       kUse,
       Until::kUnregistered,
       {},
       "a buffer that a completion names is the program's again"}};
};

// A group of provided buffers, of which the kernel takes one or more when the
// request has data. The completion names them: IORING_CQE_F_BUFFER, and the
// identity above IORING_CQE_BUFFER_SHIFT, on errors too (-EFAULT with a buffer
// that has to be given back). It does not name the group: remember that. No
// buffer left is -ENOBUFS.
template <Access kUse>
using BufferGroup = KernelHandle<std::uint16_t, GroupBuffers<kUse>>;

// Makes the entry select from `group`.
inline void SetBufferGroup(io_uring_sqe* sqe, std::uint16_t group) noexcept {
  sqe->flags |= IOSQE_BUFFER_SELECT;
  io_uring_sqe_set_buf_group(sqe, group);
}

template <Access kUse, Until kHeld>
struct VectorData {
  static constexpr Region kRegions[] = {{"iov_base", kUse, kHeld}};
};

// An array of iovecs, and the class of the memory that they describe.
template <Access kUse, Until kData>
using KernelVectors = KernelPtr<const iovec, Until::kConsumed, Access::kRead,
                                VectorData<kUse, kData>>;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_OP_H_
