#ifndef ESCROW_RAW_OPS_RING_H_
#define ESCROW_RAW_OPS_RING_H_

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "escrow/raw/contract.h"
#include "escrow/raw/op.h"

// What concerns the ring itself, its requests and its tables, other rings, and
// the commands of drivers. See ops.h for what holds of all operations.

namespace escrow::raw {

// Does nothing. Result: `result`. Linux 5.1.
struct Nop {
  std::uint32_t flags = 0;   // IORING_NOP_*
  std::int32_t result = 0;   // with IORING_NOP_INJECT_RESULT (6.9)
  std::uint64_t first = 0;   // for big_cqe[0], with IORING_NOP_CQE32 (6.18)
  std::uint64_t second = 0;  // for big_cqe[1]

  static constexpr OpInfo kInfo = {IORING_OP_NOP, "Nop", "nop",
                                   "io_uring_prep_nop(3)", "5.1"};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_nop(sqe);
    sqe->nop_flags = flags;
    sqe->len = static_cast<std::uint32_t>(result);
    sqe->off = first;
    sqe->addr = second;
  }
};

// Nop in a 128-byte entry. Linux 6.19.
struct Nop128 {
  std::uint32_t flags = 0;   // IORING_NOP_*
  std::int32_t result = 0;   // with IORING_NOP_INJECT_RESULT
  std::uint64_t first = 0;   // for big_cqe[0], with IORING_NOP_CQE32
  std::uint64_t second = 0;  // for big_cqe[1]

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_NOP128,
                                   .name = "Nop128",
                                   .call = "nop",
                                   .manual = "io_uring_prep_nop128(3)",
                                   .since = "6.19",
                                   .sqe128 = true};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_nop128(sqe);
    sqe->nop_flags = flags;
    sqe->len = static_cast<std::uint32_t>(result);
    sqe->off = first;
    sqe->addr = second;
  }
};

// Asks the kernel to cancel requests. Result: 0 (or their number, with
// IORING_ASYNC_CANCEL_ALL), -ENOENT for nothing found, -EALREADY for a request
// that is running and may or may not end early. Linux 5.5; flags 5.19.
//
// This completion says nothing about the target's memory: only the target's own
// terminal completion does, and it may come before or after. `user_data` is a
// key: if it was given to another request meanwhile, that one is hit.
struct Cancel {
  std::uint64_t user_data = 0;  // of the requests to cancel
  // IORING_ASYNC_CANCEL_*; with ANY, `user_data` is ignored.
  unsigned flags = 0;
  // Of the requests to cancel, with IORING_ASYNC_CANCEL_OP (6.6).
  io_uring_op opcode = IORING_OP_NOP;

  static constexpr OpInfo kInfo = {IORING_OP_ASYNC_CANCEL, "Cancel",
                                   "async cancel", "io_uring_prep_cancel(3)",
                                   "5.5"};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cancel64(sqe, user_data, static_cast<int>(flags));
    sqe->len = opcode;
  }
};

// Cancels what is in flight on a file. Result: as Cancel. Linux 5.19.
struct CancelFd {
  Fd fd;
  unsigned flags = 0;  // IORING_ASYNC_CANCEL_*
  // Of the requests to cancel, with IORING_ASYNC_CANCEL_USERDATA (6.6).
  std::uint64_t user_data = 0;
  // Of the requests to cancel, with IORING_ASYNC_CANCEL_OP (6.6).
  io_uring_op opcode = IORING_OP_NOP;

  static constexpr OpInfo kInfo = {IORING_OP_ASYNC_CANCEL, "CancelFd",
                                   "async cancel", "io_uring_prep_cancel_fd(3)",
                                   "5.19"};
  static constexpr Region kRegions[] = {RegionOf("fd", &CancelFd::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cancel_fd(
        sqe, fd.number(),
        flags | (fd.is_fixed() ? IORING_ASYNC_CANCEL_FD_FIXED : 0));
    sqe->addr = user_data;
    sqe->len = opcode;
  }
};

// Puts descriptors into slots of the ring's file table: -1 empties one,
// IORING_REGISTER_FILES_SKIP leaves it. Result: slots updated. With
// IORING_FILE_INDEX_ALLOC as `offset`, the kernel chooses the slots and writes
// them over `fds`. Linux 5.6; the choice 6.0.
//
// io_uring_prep_files_update(3) says that `fds` need only be valid until the
// submit; measured, it is read, and written, at issue.
struct FilesUpdate {
  KernelPtr<int, Until::kCompletion, Access::kReadWrite> fds;
  Required<std::uint32_t> count;   // of fds
  Required<std::uint32_t> offset;  // the first slot, or IORING_FILE_INDEX_ALLOC

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_FILES_UPDATE,
                                   .name = "FilesUpdate",
                                   .call = "files update",
                                   .manual = "io_uring_prep_files_update(3)",
                                   .since = "5.6",
                                   .result_owns_file = true};
  static constexpr Region kRegions[] = {
      RegionOf("fds", &FilesUpdate::fds,
               "written only when the kernel chooses the slots; the man page "
               "says: the submit")};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_files_update(sqe, fds.get(), count, static_cast<int>(offset));
  }
};

// Gives `count` buffers, one after the other in memory, to a group: the older
// way, which costs a request; a registered buffer ring is the better one.
// Result: not negative. Linux 5.7.
//
// The request itself does not touch the buffers; requests that select from the
// group do, at any time, until a completion names the buffer or RemoveBuffers
// took it out.
struct ProvideBuffers {
  KernelPtr<void, Until::kUnregistered> buffers;
  Required<std::int32_t> length;  // of one buffer, bytes
  Required<std::int32_t> count;
  KernelHandle<std::uint16_t> group;
  std::uint16_t first_id = 0;  // the others follow

  static constexpr OpInfo kInfo = {IORING_OP_PROVIDE_BUFFERS, "ProvideBuffers",
                                   "provide buffers",
                                   "io_uring_prep_provide_buffers(3)", "5.7"};
  static constexpr Region kRegions[] = {
      RegionOf("buffers", &ProvideBuffers::buffers,
               "written by requests that select them, not by this one"),
      RegionOf("group", &ProvideBuffers::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_provide_buffers(sqe, buffers.get(), length, count, group,
                                  first_id);
  }
};

// Takes buffers out of a group. Result: how many, -ENOENT without such a group.
// Those that a request in flight has picked already are not among them.
// Linux 5.7.
struct RemoveBuffers {
  Required<std::int32_t> count;  // at most
  KernelHandle<std::uint16_t> group;

  static constexpr OpInfo kInfo = {IORING_OP_REMOVE_BUFFERS, "RemoveBuffers",
                                   "remove buffers",
                                   "io_uring_prep_remove_buffers(3)", "5.7"};
  static constexpr Region kRegions[] = {
      RegionOf("group", &RemoveBuffers::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_remove_buffers(sqe, count, group);
  }
};

// Posts a completion to another ring: with `result` and `data` as its res and
// user_data, which that ring has to be able to tell from its own. Result: 0,
// also when that ring's queue is full, which then has an overflow; -EOVERFLOW
// when there is no memory for that; -EBADFD while it is disabled, and for a
// file that is no ring. Linux 5.18.
struct MsgRing {
  KernelHandle<int> ring;  // its descriptor, which cannot be in a slot
  std::int32_t result = 0;
  Required<std::uint64_t> data;
  unsigned flags = 0;  // IORING_MSG_RING_*
  // The other completion's flags, with IORING_MSG_RING_FLAGS_PASS (6.3).
  std::uint32_t cqe_flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_MSG_RING, "MsgRing", "msg_ring",
                                   "io_uring_prep_msg_ring(3)", "5.18"};
  static constexpr Region kRegions[] = {RegionOf("ring", &MsgRing::ring)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_msg_ring(sqe, ring, static_cast<std::uint32_t>(result), data,
                           flags);
    sqe->file_index = cqe_flags;
  }
};

// Puts the file in a slot of this ring into a slot of another ring, and posts a
// completion there: the slot, or 0, and `data` as its user_data. Result: as
// that completion's. Linux 6.0.
struct MsgRingFd {
  KernelHandle<int> ring;  // its descriptor, which cannot be in a slot
  FixedFile source;        // of this ring
  FileDestination into;    // of the other: a FixedFile or kAnyFixedFile
  Required<std::uint64_t> data;
  unsigned flags = 0;  // IORING_MSG_RING_CQE_SKIP: no completion there

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_MSG_RING,
                                   .name = "MsgRingFd",
                                   .call = "msg_ring (file)",
                                   .manual = "io_uring_prep_msg_ring_fd(3)",
                                   .since = "6.0",
                                   .result_owns_file = true};
  static constexpr Region kRegions[] = {RegionOf("ring", &MsgRingFd::ring),
                                        RegionOf("source", &MsgRingFd::source),
                                        RegionOf("into", &MsgRingFd::into)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_msg_ring_fd(sqe, ring, static_cast<int>(source.slot), 0, data,
                              flags);
    sqe->file_index = into.file_index();
  }
};

// The bytes of a command that are its own. They are copied when the entry is
// consumed; what pointers among them lead to is the driver's to say, and needed
// until the completion unless it says otherwise.
template <std::size_t kSize>
struct CommandBytes {
  static constexpr Until kUntil = Until::kCompletion;
  static constexpr Access kAccess = Access::kReadWrite;
  static constexpr Regions kBehind = {};

  unsigned char bytes[kSize] = {};
};

template <typename Command>
void SetCommandFields(io_uring_sqe* sqe, const Command& command) noexcept {
  sqe->addr = uring_ptr_to_u64(command.address.get());
  sqe->len = command.length;
  sqe->uring_cmd_flags = command.flags;
  sqe->buf_index = command.buffer_index;
  std::memcpy(sqe->cmd, command.payload.bytes, sizeof(command.payload.bytes));
  sqe->flags |= command.fd.sqe_flags();
}

// A command to the driver of a file, as ioctl(2) is: NVMe, ublk, FUSE, sockets
// (ops_socket.h has theirs). Result: the driver's. Linux 5.19.
struct UringCmd {
  Fd fd;
  Required<std::uint32_t> command;
  // For commands that use io_uring_sqe.addr and len.
  KernelPtr<void, Until::kCompletion, Access::kReadWrite> address = nullptr;
  std::uint32_t length = 0;
  std::uint32_t flags = 0;       // IORING_URING_CMD_FIXED
  BufferIndex buffer_index = 0;  // with IORING_URING_CMD_FIXED
  CommandBytes<16> payload = {};

  static constexpr OpInfo kInfo = {IORING_OP_URING_CMD, "UringCmd", "uring_cmd",
                                   "io_uring_prep_uring_cmd(3)", "5.19"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &UringCmd::fd), RegionOf("address", &UringCmd::address),
      RegionOf("buffer_index", &UringCmd::buffer_index),
      RegionOf("payload", &UringCmd::payload,
               "what pointers in it lead to; the driver may say otherwise")};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_uring_cmd(sqe, static_cast<int>(std::uint32_t{command}),
                            fd.number());
    SetCommandFields(sqe, *this);
  }
};

// UringCmd with 80 bytes, in a 128-byte entry. Linux 6.19; before, use
// UringCmdBig on a ring with IORING_SETUP_SQE128.
struct UringCmd128 {
  Fd fd;
  Required<std::uint32_t> command;
  // For commands that use io_uring_sqe.addr and len.
  KernelPtr<void, Until::kCompletion, Access::kReadWrite> address = nullptr;
  std::uint32_t length = 0;
  std::uint32_t flags = 0;       // IORING_URING_CMD_FIXED
  BufferIndex buffer_index = 0;  // with IORING_URING_CMD_FIXED
  CommandBytes<80> payload = {};

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_URING_CMD128,
                                   .name = "UringCmd128",
                                   .call = "uring_cmd",
                                   .manual = "io_uring_prep_uring_cmd128(3)",
                                   .since = "6.19",
                                   .sqe128 = true};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &UringCmd128::fd),
      RegionOf("address", &UringCmd128::address),
      RegionOf("buffer_index", &UringCmd128::buffer_index),
      RegionOf("payload", &UringCmd128::payload,
               "what pointers in it lead to; the driver may say otherwise")};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_uring_cmd128(sqe, static_cast<int>(std::uint32_t{command}),
                               fd.number());
    SetCommandFields(sqe, *this);
  }
};

// UringCmd with 80 bytes, on a ring with IORING_SETUP_SQE128: what NVMe
// passthrough needs. Linux 5.19.
struct UringCmdBig {
  Fd fd;
  Required<std::uint32_t> command;
  // For commands that use io_uring_sqe.addr and len.
  KernelPtr<void, Until::kCompletion, Access::kReadWrite> address = nullptr;
  std::uint32_t length = 0;
  std::uint32_t flags = 0;       // IORING_URING_CMD_FIXED
  BufferIndex buffer_index = 0;  // with IORING_URING_CMD_FIXED
  CommandBytes<80> payload = {};

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_URING_CMD,
                                   .name = "UringCmdBig",
                                   .call = "uring_cmd",
                                   .manual = "io_uring_prep_uring_cmd(3)",
                                   .since = "5.19",
                                   .sqe128 = true};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &UringCmdBig::fd),
      RegionOf("address", &UringCmdBig::address),
      RegionOf("buffer_index", &UringCmdBig::buffer_index),
      RegionOf("payload", &UringCmdBig::payload,
               "what pointers in it lead to; the driver may say otherwise")};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_uring_cmd(sqe, static_cast<int>(std::uint32_t{command}),
                            fd.number());
    SetCommandFields(sqe, *this);
  }
};

// Discards a range of a block device, as ioctl(2) BLKDISCARD. Result: 0. Linux
// 6.12.
struct BlockDiscard {
  Fd fd;
  Required<std::uint64_t> offset;  // bytes
  Required<std::uint64_t> length;  // bytes

  static constexpr OpInfo kInfo = {IORING_OP_URING_CMD, "BlockDiscard",
                                   "ioctl BLKDISCARD",
                                   "io_uring_prep_cmd_discard(3)", "6.12"};
  static constexpr Region kRegions[] = {RegionOf("fd", &BlockDiscard::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cmd_discard(sqe, fd.number(), offset, length);
    sqe->flags |= fd.sqe_flags();
  }
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_OPS_RING_H_
