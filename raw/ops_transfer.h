#ifndef ESCROW_RAW_OPS_TRANSFER_H_
#define ESCROW_RAW_OPS_TRANSFER_H_

#include <liburing.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>

#include "escrow/raw/contract.h"
#include "escrow/raw/op.h"

// Sending and receiving on sockets: once, many times, many buffers at a time,
// and without a copy. See ops.h for what holds of all operations.
//
// `flags` are MSG_* as in send(2) and recv(2); `io_flags` are
// IORING_RECVSEND_POLL_FIRST and what a type names besides. Sends and receives
// may be short; MSG_WAITALL makes the kernel go on until all is transferred.

namespace escrow::raw {

// An address to send to.
using SendAddress = KernelPtr<const sockaddr, Until::kConsumed>;

struct ZeroCopyMessageData {
  static constexpr Region kRegions[] = {{"iov_base",
                                         Access::kRead,
                                         Until::kNotification,
                                         {},
                                         "the man page says: the submit"}};
};

// What a msghdr to be sent points to: `Data` is the vectors'.
template <typename Data>
struct SentMessage {
  static constexpr Region kRegions[] = {
      {"msg_iov", Access::kRead, Until::kConsumed, Data::kRegions},
      {"msg_name", Access::kRead, Until::kConsumed},
      {"msg_control",
       Access::kRead,
       Until::kCompletion,
       {},
       "the man page says: the submit; descriptors in it are looked up at "
       "issue"}};
};

// What a msghdr to be filled points to.
struct ReceivedMessage {
  static constexpr Region kRegions[] = {
      {"msg_iov", Access::kRead, Until::kConsumed,
       VectorData<Access::kWrite, Until::kCompletion>::kRegions},
      {"msg_name",
       Access::kWrite,
       Until::kCompletion,
       {},
       "the man page says: the submit"},
      {"msg_control",
       Access::kWrite,
       Until::kCompletion,
       {},
       "never -EFAULT: written over silently; the man page says: the submit"}};
};

// The same with a selected buffer in the place of the vectors.
struct ReceivedMessageSelected {
  static constexpr Region kRegions[] = {
      {"msg_iov", Access::kRead, Until::kConsumed, {}, "its length only"},
      {"msg_name", Access::kWrite, Until::kCompletion},
      {"msg_control", Access::kWrite, Until::kCompletion}};
};

// send(2), or sendto(2) with an address. Result: bytes sent. Linux 5.6; the
// address 6.0, and on kernels before 6.10 it is needed until the completion.
struct Send {
  Fd fd;
  KernelPtr<const void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;    // bytes
  int flags = 0;                     // MSG_*
  SendAddress address = nullptr;     // null: as connected
  std::uint16_t address_length = 0;  // bytes
  std::uint16_t io_flags = 0;        // IORING_RECVSEND_POLL_FIRST (5.19)

  static constexpr OpInfo kInfo = {IORING_OP_SEND, "Send", "send",
                                   "io_uring_prep_send(3)", "5.6"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Send::fd),
                                        RegionOf("buffer", &Send::buffer),
                                        RegionOf("address", &Send::address)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_send(sqe, fd.number(), buffer.get(), length, flags);
    io_uring_prep_send_set_addr(sqe, address.get(), address_length);
    sqe->ioprio = io_flags;
    sqe->flags |= fd.sqe_flags();
  }
};

// Send of several pieces, as writev(2). Linux 6.17.
struct SendVectors {
  Fd fd;
  KernelVectors<Access::kRead, Until::kCompletion> vectors;
  Required<std::uint32_t> count;     // of vectors; at most IOV_MAX
  int flags = 0;                     // MSG_*
  SendAddress address = nullptr;     // null: as connected
  std::uint16_t address_length = 0;  // bytes
  std::uint16_t io_flags = 0;        // IORING_RECVSEND_POLL_FIRST

  static constexpr OpInfo kInfo = {IORING_OP_SEND, "SendVectors", "send",
                                   "io_uring_enter(2)", "6.17"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &SendVectors::fd),
      RegionOf("vectors", &SendVectors::vectors),
      RegionOf("address", &SendVectors::address)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_send(sqe, fd.number(), vectors.get(), count, flags);
    io_uring_prep_send_set_addr(sqe, address.get(), address_length);
    sqe->ioprio = io_flags | IORING_SEND_VECTORIZED;
    sqe->flags |= fd.sqe_flags();
  }
};

// Send of a buffer that the kernel takes from `group` when the socket has room.
// Linux 6.10.
struct SendSelected {
  Fd fd;
  BufferGroup<Access::kRead> group;
  std::uint32_t length = 0;    // bytes at most; 0: the buffer's
  int flags = 0;               // MSG_*
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST

  static constexpr OpInfo kInfo = {IORING_OP_SEND, "SendSelected",
                                   "send (selected buffer)",
                                   "io_uring_provided_buffers(7)", "6.10"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &SendSelected::fd),
      RegionOf("group", &SendSelected::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_send(sqe, fd.number(), nullptr, length, flags);
    sqe->ioprio = io_flags;
    sqe->flags |= fd.sqe_flags();
    SetBufferGroup(sqe, group);
  }
};

// Send of as many buffers of `group` as there are, in their order in the group.
// A completion names the first; the others follow it, as far as the result, in
// bytes, reaches. Linux 6.10.
//
// With a `length` it does not end there: that much is one completion, with
// IORING_CQE_F_MORE, and the request goes on with all that is left in the
// group, or -ENOBUFS when nothing is. When it is cancelled while it waits, the
// buffers that it has taken are gone from the group, and the completion names
// only the first.
struct SendBundle {
  Fd fd;
  BufferGroup<Access::kRead> group;
  std::uint32_t length = 0;    // bytes of the first completion; 0: all
  int flags = 0;               // MSG_*
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST

  static constexpr OpInfo kInfo = {
      IORING_OP_SEND,  "SendBundle",
      "send (bundle)", "io_uring_prep_send_bundle(3)",
      "6.10",          Until::kLastCompletion};
  static constexpr Region kRegions[] = {RegionOf("fd", &SendBundle::fd),
                                        RegionOf("group", &SendBundle::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_send_bundle(sqe, fd.number(), length, flags);
    sqe->ioprio |= io_flags;
    sqe->flags |= fd.sqe_flags();
    SetBufferGroup(sqe, group);
  }
};

// Send without a copy: two completions, of which the first has the result, and
// IORING_CQE_F_MORE if the second will come; the second has IORING_CQE_F_NOTIF
// and says that the network stack is done with `buffer`. Linux 6.0.
//
// Until then every byte that changes may be what the peer gets: measured,
// 1,044,480 of 1,048,576 bytes that were overwritten after the first completion
// arrived so. Errors have a notification, too. When it is cancelled because a
// link before it failed, the first completion lacks IORING_CQE_F_MORE and a
// notification comes all the same: user_data must not be a pointer that dies
// with the first. Destroying the ring does not stop the stack from reading, and
// loses the notification. With IOSQE_IO_DRAIN it never completes; with
// IOSQE_CQE_SKIP_SUCCESS it is refused with -EINVAL.
struct SendZeroCopy {
  Fd fd;
  KernelPtr<const void, Until::kNotification> buffer;
  Required<std::uint32_t> length;    // bytes
  int flags = 0;                     // MSG_*
  SendAddress address = nullptr;     // null: as connected
  std::uint16_t address_length = 0;  // bytes
  // IORING_RECVSEND_POLL_FIRST, IORING_SEND_ZC_REPORT_USAGE (6.2)
  std::uint16_t io_flags = 0;

  static constexpr OpInfo kInfo = {
      IORING_OP_SEND_ZC,          "SendZeroCopy", "send (zero-copy)",
      "io_uring_prep_send_zc(3)", "6.0",          Until::kNotification};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &SendZeroCopy::fd),
      RegionOf("buffer", &SendZeroCopy::buffer),
      RegionOf("address", &SendZeroCopy::address)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_send_zc(sqe, fd.number(), buffer.get(), length, flags,
                          io_flags);
    io_uring_prep_send_set_addr(sqe, address.get(), address_length);
    sqe->flags |= fd.sqe_flags();
  }
};

// SendZeroCopy of a part of registered buffer `buffer_index`. Linux 6.0.
struct SendZeroCopyFixed {
  Fd fd;
  // Inside the registered buffer.
  KernelPtr<const void, Until::kNotification> buffer;
  Required<std::uint32_t> length;  // bytes
  BufferIndex buffer_index;
  int flags = 0;                     // MSG_*
  SendAddress address = nullptr;     // null: as connected
  std::uint16_t address_length = 0;  // bytes
  // IORING_RECVSEND_POLL_FIRST, IORING_SEND_ZC_REPORT_USAGE (6.2)
  std::uint16_t io_flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_SEND_ZC,
                                   "SendZeroCopyFixed",
                                   "send (zero-copy, fixed buffer)",
                                   "io_uring_prep_send_zc_fixed(3)",
                                   "6.0",
                                   Until::kNotification};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &SendZeroCopyFixed::fd),
      RegionOf("buffer", &SendZeroCopyFixed::buffer,
               "pinned: what is there by then is sent, never -EFAULT"),
      RegionOf("buffer_index", &SendZeroCopyFixed::buffer_index),
      RegionOf("address", &SendZeroCopyFixed::address)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_send_zc_fixed(sqe, fd.number(), buffer.get(), length, flags,
                                io_flags, buffer_index);
    io_uring_prep_send_set_addr(sqe, address.get(), address_length);
    sqe->flags |= fd.sqe_flags();
  }
};

// SendZeroCopy of several pieces. Linux 6.17.
struct SendZeroCopyVectors {
  Fd fd;
  KernelVectors<Access::kRead, Until::kNotification> vectors;
  Required<std::uint32_t> count;     // of vectors; at most IOV_MAX
  int flags = 0;                     // MSG_*
  SendAddress address = nullptr;     // null: as connected
  std::uint16_t address_length = 0;  // bytes
  // IORING_RECVSEND_POLL_FIRST, IORING_SEND_ZC_REPORT_USAGE
  std::uint16_t io_flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_SEND_ZC,
                                   "SendZeroCopyVectors",
                                   "send (zero-copy)",
                                   "io_uring_enter(2)",
                                   "6.17",
                                   Until::kNotification};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &SendZeroCopyVectors::fd),
      RegionOf("vectors", &SendZeroCopyVectors::vectors),
      RegionOf("address", &SendZeroCopyVectors::address)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_send_zc(sqe, fd.number(), vectors.get(), count, flags,
                          io_flags | IORING_SEND_VECTORIZED);
    io_uring_prep_send_set_addr(sqe, address.get(), address_length);
    sqe->flags |= fd.sqe_flags();
  }
};

// sendmsg(2). Result: bytes sent. Linux 5.3.
//
// The header, the vectors and the name are copied when the entry is consumed.
// io_uring_prep_sendmsg(3) says so of the control data, too, which measured is
// read when the request is issued, as are the descriptors that SCM_RIGHTS
// passes.
struct SendMsg {
  Fd fd;
  KernelPtr<const msghdr, Until::kConsumed, Access::kRead,
            SentMessage<VectorData<Access::kRead, Until::kCompletion>>>
      message;
  unsigned flags = 0;          // MSG_*
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST (5.19)

  static constexpr OpInfo kInfo = {IORING_OP_SENDMSG, "SendMsg", "sendmsg",
                                   "io_uring_prep_sendmsg(3)", "5.3"};
  static constexpr Region kRegions[] = {RegionOf("fd", &SendMsg::fd),
                                        RegionOf("message", &SendMsg::message)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_sendmsg(sqe, fd.number(), message.get(), flags);
    sqe->ioprio = io_flags;
    sqe->flags |= fd.sqe_flags();
  }
};

// SendMsg without a copy of the data: see SendZeroCopy for its completions. The
// control data is needed until the first of them. Linux 6.1.
//
// io_uring_prep_sendmsg_zc(3) says that the data need not remain valid until
// the completion: it must, until the notification.
struct SendMsgZeroCopy {
  Fd fd;
  KernelPtr<const msghdr, Until::kConsumed, Access::kRead,
            SentMessage<ZeroCopyMessageData>>
      message;
  unsigned flags = 0;  // MSG_*
  // IORING_RECVSEND_POLL_FIRST, IORING_SEND_ZC_REPORT_USAGE (6.2)
  std::uint16_t io_flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_SENDMSG_ZC,
                                   "SendMsgZeroCopy",
                                   "sendmsg (zero-copy)",
                                   "io_uring_prep_sendmsg_zc(3)",
                                   "6.1",
                                   Until::kNotification};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &SendMsgZeroCopy::fd),
      RegionOf("message", &SendMsgZeroCopy::message)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_sendmsg_zc(sqe, fd.number(), message.get(), flags);
    sqe->ioprio = io_flags;
    sqe->flags |= fd.sqe_flags();
  }
};

// SendMsgZeroCopy whose vectors lie in registered buffer `buffer_index`. Linux
// 6.15.
struct SendMsgZeroCopyFixed {
  Fd fd;
  KernelPtr<const msghdr, Until::kConsumed, Access::kRead,
            SentMessage<ZeroCopyMessageData>>
      message;
  BufferIndex buffer_index;
  unsigned flags = 0;  // MSG_*
  // IORING_RECVSEND_POLL_FIRST, IORING_SEND_ZC_REPORT_USAGE (6.2)
  std::uint16_t io_flags = 0;

  static constexpr OpInfo kInfo = {IORING_OP_SENDMSG_ZC,
                                   "SendMsgZeroCopyFixed",
                                   "sendmsg (zero-copy, fixed buffer)",
                                   "io_uring_prep_sendmsg_zc(3)",
                                   "6.15",
                                   Until::kNotification};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &SendMsgZeroCopyFixed::fd),
      RegionOf("message", &SendMsgZeroCopyFixed::message),
      RegionOf("buffer_index", &SendMsgZeroCopyFixed::buffer_index)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_sendmsg_zc_fixed(sqe, fd.number(), message.get(), flags,
                                   buffer_index);
    sqe->ioprio |= io_flags;
    sqe->flags |= fd.sqe_flags();
  }
};

// recv(2). Result: bytes received, 0 when the peer has closed.
// IORING_CQE_F_SOCK_NONEMPTY: there is more. Linux 5.6.
struct Recv {
  Fd fd;
  KernelPtr<void, Until::kCompletion> buffer;
  Required<std::uint32_t> length;  // bytes
  int flags = 0;                   // MSG_*
  std::uint16_t io_flags = 0;      // IORING_RECVSEND_POLL_FIRST (5.19)

  static constexpr OpInfo kInfo = {IORING_OP_RECV, "Recv", "recv",
                                   "io_uring_prep_recv(3)", "5.6"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Recv::fd),
                                        RegionOf("buffer", &Recv::buffer)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_recv(sqe, fd.number(), buffer.get(), length, flags);
    sqe->ioprio = io_flags;
    sqe->flags |= fd.sqe_flags();
  }
};

// Recv into a buffer that the kernel takes from `group` when there is data.
// Linux 5.7.
struct RecvSelected {
  Fd fd;
  BufferGroup<Access::kWrite> group;
  std::uint32_t length = 0;    // bytes at most; 0: the buffer's
  int flags = 0;               // MSG_*
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST (5.19)

  static constexpr OpInfo kInfo = {IORING_OP_RECV, "RecvSelected",
                                   "recv (selected buffer)",
                                   "io_uring_provided_buffers(7)", "5.7"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &RecvSelected::fd),
      RegionOf("group", &RecvSelected::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_recv(sqe, fd.number(), nullptr, length, flags);
    sqe->ioprio = io_flags;
    sqe->flags |= fd.sqe_flags();
    SetBufferGroup(sqe, group);
  }
};

// Recv into several buffers of `group`: no more than the data needs, but maybe
// fewer, with the rest for the next one. The completion names the first; the
// others follow it in the group, as far as the result, in bytes, reaches. Linux
// 6.10.
struct RecvBundle {
  Fd fd;
  BufferGroup<Access::kWrite> group;
  std::uint32_t length = 0;    // bytes at most; 0: what there is
  int flags = 0;               // MSG_*
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST

  static constexpr OpInfo kInfo = {IORING_OP_RECV, "RecvBundle",
                                   "recv (bundle)", "io_uring_prep_recv(3)",
                                   "6.10"};
  static constexpr Region kRegions[] = {RegionOf("fd", &RecvBundle::fd),
                                        RegionOf("group", &RecvBundle::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_recv(sqe, fd.number(), nullptr, length, flags);
    sqe->ioprio = io_flags | IORING_RECVSEND_BUNDLE;
    sqe->flags |= fd.sqe_flags();
    SetBufferGroup(sqe, group);
  }
};

// Receives again and again, into a buffer of `group` each time: one completion
// with IORING_CQE_F_MORE each. Ends, without IORING_CQE_F_MORE, when the peer
// has closed (0), on an error, when it is cancelled, with -ENOBUFS when the
// group is empty or was unregistered, and whenever the kernel finds it better
// to: arm it again. Linux 6.0.
struct RecvMultishot {
  Fd fd;
  BufferGroup<Access::kWrite> group;
  // Bytes of one completion at most; 0: the buffer's. Not 0 needs 6.17.
  std::uint32_t length = 0;
  int flags = 0;               // MSG_*; not MSG_WAITALL
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST
  // The request ends with the completion that reaches so many bytes, or more;
  // 0: never. 6.17.
  std::uint32_t total_length = 0;

  static constexpr OpInfo kInfo = {IORING_OP_RECV,
                                   "RecvMultishot",
                                   "recv (multishot)",
                                   "io_uring_prep_recv_multishot(3)",
                                   "6.0",
                                   Until::kLastCompletion};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &RecvMultishot::fd),
      RegionOf("group", &RecvMultishot::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_recv_multishot(sqe, fd.number(), nullptr, length, flags);
    sqe->ioprio |= io_flags;
    sqe->flags |= fd.sqe_flags();
    sqe->optlen = total_length;
    SetBufferGroup(sqe, group);
  }
};

// RecvMultishot whose every completion is a bundle: see RecvBundle. Linux 6.10.
struct RecvBundleMultishot {
  Fd fd;
  BufferGroup<Access::kWrite> group;
  // Bytes of one completion at most; 0: what there is. Not 0 needs 6.17.
  std::uint32_t length = 0;
  int flags = 0;               // MSG_*; not MSG_WAITALL
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST
  // The request ends with the completion that reaches so many bytes, or more;
  // 0: never. 6.17.
  std::uint32_t total_length = 0;

  static constexpr OpInfo kInfo = {IORING_OP_RECV,
                                   "RecvBundleMultishot",
                                   "recv (bundle, multishot)",
                                   "io_uring_prep_recv_multishot(3)",
                                   "6.10",
                                   Until::kLastCompletion};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &RecvBundleMultishot::fd),
      RegionOf("group", &RecvBundleMultishot::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_recv_multishot(sqe, fd.number(), nullptr, length, flags);
    sqe->ioprio |= io_flags | IORING_RECVSEND_BUNDLE;
    sqe->flags |= fd.sqe_flags();
    sqe->optlen = total_length;
    SetBufferGroup(sqe, group);
  }
};

// What a zero-copy receive queue consists of.
struct ReceiveArea {
  static constexpr Region kRegions[] = {
      {"area",
       Access::kWrite,
       Until::kTeardown,
       {},
       "a chunk that a completion names is the program's until it is refilled"},
      {"refill ring", Access::kReadWrite, Until::kTeardown}};
};

// Receives into the chunks of a zero-copy receive area that was registered with
// the network card's queue: one completion of 32 bytes each, whose io_uring_
// zcrx_cqe says where. A chunk is the program's until it is put into the refill
// ring. Linux 6.15.
struct RecvZeroCopy {
  Fd fd;
  KernelHandle<std::uint32_t, ReceiveArea> interface_queue;
  std::uint32_t length = 0;    // bytes after which it ends; 0: never
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST

  static constexpr OpInfo kInfo = {
      IORING_OP_RECV_ZC,   "RecvZeroCopy", "recv (zero-copy)",
      "io_uring_enter(2)", "6.15",         Until::kLastCompletion};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &RecvZeroCopy::fd),
      RegionOf("interface_queue", &RecvZeroCopy::interface_queue)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_rw(IORING_OP_RECV_ZC, sqe, fd.number(), nullptr, length, 0);
    sqe->ioprio = io_flags | IORING_RECV_MULTISHOT;
    sqe->zcrx_ifq_idx = interface_queue;
    sqe->flags |= fd.sqe_flags();
  }
};

// recvmsg(2). Result: bytes received. Linux 5.3.
//
// Only the vectors are copied when the entry is consumed. The header itself,
// the name and the control data are written at completion, although
// io_uring_prep_recvmsg(3) says that they need only be valid until the submit;
// control data that is gone by then is written over without an error.
struct RecvMsg {
  Fd fd;
  KernelPtr<msghdr, Until::kCompletion, Access::kReadWrite, ReceivedMessage>
      message;
  unsigned flags = 0;          // MSG_*
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST (5.19)

  static constexpr OpInfo kInfo = {IORING_OP_RECVMSG, "RecvMsg", "recvmsg",
                                   "io_uring_prep_recvmsg(3)", "5.3"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &RecvMsg::fd),
      RegionOf("message", &RecvMsg::message, "the man page says: the submit")};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_recvmsg(sqe, fd.number(), message.get(), flags);
    sqe->ioprio = io_flags;
    sqe->flags |= fd.sqe_flags();
  }
};

// RecvMsg into a buffer that the kernel takes from `group`. The message has one
// vector, of which only the length is used. Linux 5.7.
struct RecvMsgSelected {
  Fd fd;
  KernelPtr<msghdr, Until::kCompletion, Access::kReadWrite,
            ReceivedMessageSelected>
      message;
  BufferGroup<Access::kWrite> group;
  unsigned flags = 0;          // MSG_*
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST (5.19)

  static constexpr OpInfo kInfo = {IORING_OP_RECVMSG, "RecvMsgSelected",
                                   "recvmsg (selected buffer)",
                                   "io_uring_provided_buffers(7)", "5.7"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &RecvMsgSelected::fd),
      RegionOf("message", &RecvMsgSelected::message),
      RegionOf("group", &RecvMsgSelected::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_recvmsg(sqe, fd.number(), message.get(), flags);
    sqe->ioprio = io_flags;
    sqe->flags |= fd.sqe_flags();
    SetBufferGroup(sqe, group);
  }
};

// Receives messages again and again, each into a buffer of `group`, which gets
// an io_uring_recvmsg_out, the name, the control data and the payload. Of
// `message`, only msg_namelen and msg_controllen are used: the room that is
// left for them. Ends as RecvMultishot does. Linux 6.0.
struct RecvMsgMultishot {
  Fd fd;
  KernelPtr<const msghdr, Until::kConsumed> message;
  BufferGroup<Access::kWrite> group;
  unsigned flags = 0;          // MSG_*
  std::uint16_t io_flags = 0;  // IORING_RECVSEND_POLL_FIRST

  static constexpr OpInfo kInfo = {IORING_OP_RECVMSG,
                                   "RecvMsgMultishot",
                                   "recvmsg (multishot)",
                                   "io_uring_prep_recvmsg_multishot(3)",
                                   "6.0",
                                   Until::kLastCompletion};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &RecvMsgMultishot::fd),
      RegionOf("message", &RecvMsgMultishot::message),
      RegionOf("group", &RecvMsgMultishot::group)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_recvmsg_multishot(sqe, fd.number(),
                                    const_cast<msghdr*>(message.get()), flags);
    sqe->ioprio |= io_flags;
    sqe->flags |= fd.sqe_flags();
    SetBufferGroup(sqe, group);
  }
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_OPS_TRANSFER_H_
