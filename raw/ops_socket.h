#ifndef ESCROW_RAW_OPS_SOCKET_H_
#define ESCROW_RAW_OPS_SOCKET_H_

#include <liburing.h>
#include <sys/socket.h>

#include <cstdint>

#include "escrow/raw/contract.h"
#include "escrow/raw/op.h"

// Making sockets and connections, and asking sockets. What goes through them is
// in ops_transfer.h. See ops.h for what holds of all operations.

namespace escrow::raw {

// socket(2). Result: a descriptor, which leaks if the completion is ignored.
// Linux 5.19.
struct Socket {
  Required<int> domain;  // AF_*
  Required<int> type;    // SOCK_*
  int protocol = 0;
  FileDestination into = kNewDescriptor;

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_SOCKET,
                                   .name = "Socket",
                                   .call = "socket",
                                   .manual = "io_uring_prep_socket(3)",
                                   .since = "5.19",
                                   .result_owns_file = true};
  static constexpr Region kRegions[] = {RegionOf("into", &Socket::into)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_socket(sqe, domain, type, protocol, /*flags=*/0);
    sqe->file_index = into.file_index();
  }
};

// bind(2). Result: 0. Linux 6.11.
struct Bind {
  Fd fd;
  KernelPtr<const sockaddr, Until::kConsumed> address;
  Required<socklen_t> address_length;  // bytes

  static constexpr OpInfo kInfo = {IORING_OP_BIND, "Bind", "bind",
                                   "io_uring_prep_bind(3)", "6.11"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Bind::fd),
                                        RegionOf("address", &Bind::address)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_bind(sqe, fd.number(), address.get(), address_length);
    sqe->flags |= fd.sqe_flags();
  }
};

// listen(2). Result: 0. Linux 6.11.
struct Listen {
  Fd fd;
  Required<int> backlog;  // connections

  static constexpr OpInfo kInfo = {IORING_OP_LISTEN, "Listen", "listen",
                                   "io_uring_prep_listen(3)", "6.11"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Listen::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_listen(sqe, fd.number(), backlog);
    sqe->flags |= fd.sqe_flags();
  }
};

// accept4(2). Result: a descriptor, which leaks if the completion is ignored.
// Linux 5.5; slots 5.15.
//
// io_uring_prep_accept(3) says that the addresses need only be valid until the
// submit; measured, they are written at completion. When that fails with
// -EFAULT, the connection is lost.
struct Accept {
  Fd fd;
  KernelPtr<sockaddr, Until::kCompletion> address = nullptr;  // or null
  // In: bytes that `address` has room for. Out: bytes that the address has.
  KernelPtr<socklen_t, Until::kCompletion, Access::kReadWrite> address_length =
      nullptr;
  int flags = 0;               // SOCK_NONBLOCK, SOCK_CLOEXEC
  std::uint16_t io_flags = 0;  // IORING_ACCEPT_DONTWAIT, _POLL_FIRST (6.10)
  FileDestination into = kNewDescriptor;

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_ACCEPT,
                                   .name = "Accept",
                                   .call = "accept",
                                   .manual = "io_uring_prep_accept(3)",
                                   .since = "5.5",
                                   .result_owns_file = true};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &Accept::fd),
      RegionOf("address", &Accept::address, "the man page says: the submit"),
      RegionOf("address_length", &Accept::address_length,
               "the man page says: the submit"),
      RegionOf("into", &Accept::into)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_accept(sqe, fd.number(), address.get(), address_length.get(),
                         flags);
    sqe->ioprio = io_flags;
    sqe->flags |= fd.sqe_flags();
    sqe->file_index = into.file_index();
  }
};

// Accepts again and again: one completion with IORING_CQE_F_MORE for each
// connection, whose result is its descriptor or slot. Linux 5.19.
//
// Every completion writes the same address over the last one, so that it can
// only be read while no other connection comes: getpeername(2) is the way to
// learn the peer.
struct AcceptMultishot {
  Fd fd;
  KernelPtr<sockaddr, Until::kLastCompletion> address = nullptr;  // or null
  // In: bytes that `address` has room for. Out: bytes that the address has.
  KernelPtr<socklen_t, Until::kLastCompletion, Access::kReadWrite>
      address_length = nullptr;
  int flags = 0;               // SOCK_NONBLOCK, SOCK_CLOEXEC
  std::uint16_t io_flags = 0;  // IORING_ACCEPT_POLL_FIRST (6.10)
  // kNewDescriptor or kAnyFixedFile: one slot would not do.
  FileDestination into = kNewDescriptor;

  static constexpr OpInfo kInfo = {
      .opcode = IORING_OP_ACCEPT,
      .name = "AcceptMultishot",
      .call = "accept (multishot)",
      .manual = "io_uring_prep_multishot_accept(3)",
      .since = "5.19",
      .ends = Until::kLastCompletion,
      .result_owns_file = true};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &AcceptMultishot::fd),
      RegionOf("address", &AcceptMultishot::address,
               "written again by every completion; the man page says: the "
               "submit"),
      RegionOf("address_length", &AcceptMultishot::address_length,
               "written again by every completion; the man page says: the "
               "submit"),
      RegionOf("into", &AcceptMultishot::into)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_accept(sqe, fd.number(), address.get(), address_length.get(),
                         flags);
    sqe->ioprio = io_flags | IORING_ACCEPT_MULTISHOT;
    sqe->flags |= fd.sqe_flags();
    sqe->file_index = into.file_index();
  }
};

// connect(2). Result: 0. The address is copied when the entry is consumed.
// Linux 5.5.
struct Connect {
  Fd fd;
  KernelPtr<const sockaddr, Until::kConsumed> address;
  Required<socklen_t> address_length;  // bytes

  static constexpr OpInfo kInfo = {IORING_OP_CONNECT, "Connect", "connect",
                                   "io_uring_prep_connect(3)", "5.5"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Connect::fd),
                                        RegionOf("address", &Connect::address)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_connect(sqe, fd.number(), address.get(), address_length);
    sqe->flags |= fd.sqe_flags();
  }
};

// shutdown(2). Result: 0. Linux 5.11.
struct Shutdown {
  Fd fd;
  Required<int> how;  // SHUT_*

  static constexpr OpInfo kInfo = {IORING_OP_SHUTDOWN, "Shutdown", "shutdown",
                                   "io_uring_prep_shutdown(3)", "5.11"};
  static constexpr Region kRegions[] = {RegionOf("fd", &Shutdown::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_shutdown(sqe, fd.number(), how);
    sqe->flags |= fd.sqe_flags();
  }
};

// getsockopt(2), of level SOL_SOCKET. Result: bytes written into `value`. Linux
// 6.7.
struct GetSocketOption {
  Fd fd;
  int level = SOL_SOCKET;
  Required<int> option;  // SO_*
  KernelPtr<void, Until::kCompletion> value;
  Required<int> length;  // bytes that `value` has room for

  static constexpr OpInfo kInfo = {IORING_OP_URING_CMD, "GetSocketOption",
                                   "getsockopt", "io_uring_prep_cmd_sock(3)",
                                   "6.7"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &GetSocketOption::fd),
      RegionOf("value", &GetSocketOption::value)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_GETSOCKOPT, fd.number(), level,
                           option, value.get(), length);
    sqe->flags |= fd.sqe_flags();
  }
};

// setsockopt(2). Result: 0. Unlike most of what the kernel only reads, the
// value is needed until the completion. Linux 6.7.
struct SetSocketOption {
  Fd fd;
  int level = SOL_SOCKET;
  Required<int> option;  // SO_*
  KernelPtr<const void, Until::kCompletion> value;
  Required<int> length;  // of `value`, bytes

  static constexpr OpInfo kInfo = {IORING_OP_URING_CMD, "SetSocketOption",
                                   "setsockopt", "io_uring_prep_cmd_sock(3)",
                                   "6.7"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &SetSocketOption::fd),
      RegionOf("value", &SetSocketOption::value)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_SETSOCKOPT, fd.number(), level,
                           option, const_cast<void*>(value.get()), length);
    sqe->flags |= fd.sqe_flags();
  }
};

// getsockname(2), or getpeername(2). Result: 0. Linux 6.19; -EOPNOTSUPP before.
struct GetSocketName {
  Fd fd;
  KernelPtr<sockaddr, Until::kCompletion> address;
  // In: bytes that `address` has room for. Out: bytes that the address has.
  KernelPtr<socklen_t, Until::kCompletion, Access::kReadWrite> address_length;
  bool peer = false;  // the other end's

  static constexpr OpInfo kInfo = {IORING_OP_URING_CMD, "GetSocketName",
                                   "getsockname",
                                   "io_uring_prep_cmd_getsockname(3)", "6.19"};
  static constexpr Region kRegions[] = {
      RegionOf("fd", &GetSocketName::fd),
      RegionOf("address", &GetSocketName::address),
      RegionOf("address_length", &GetSocketName::address_length)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cmd_getsockname(sqe, fd.number(), address.get(),
                                  address_length.get(), peer ? 1 : 0);
    sqe->flags |= fd.sqe_flags();
  }
};

// ioctl(2) SIOCINQ. Result: bytes that wait to be received; -EOPNOTSUPP for
// unix sockets. Linux 6.7.
struct SocketInputQueue {
  Fd fd;

  static constexpr OpInfo kInfo = {IORING_OP_URING_CMD, "SocketInputQueue",
                                   "ioctl SIOCINQ", "io_uring_prep_cmd_sock(3)",
                                   "6.7"};
  static constexpr Region kRegions[] = {RegionOf("fd", &SocketInputQueue::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_SIOCINQ, fd.number(), 0, 0,
                           nullptr, 0);
    sqe->flags |= fd.sqe_flags();
  }
};

// ioctl(2) SIOCOUTQ. Result: bytes that wait to be sent; -EOPNOTSUPP for unix
// sockets. Linux 6.7.
struct SocketOutputQueue {
  Fd fd;

  static constexpr OpInfo kInfo = {IORING_OP_URING_CMD, "SocketOutputQueue",
                                   "ioctl SIOCOUTQ",
                                   "io_uring_prep_cmd_sock(3)", "6.7"};
  static constexpr Region kRegions[] = {RegionOf("fd", &SocketOutputQueue::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_SIOCOUTQ, fd.number(), 0, 0,
                           nullptr, 0);
    sqe->flags |= fd.sqe_flags();
  }
};

// Transmit timestamps of a socket that asked for them (SO_TIMESTAMPING), one
// completion with IORING_CQE_F_MORE each, with an io_timespec in its upper 16
// bytes. Needs IORING_SETUP_CQE32. Linux 6.17.
struct SocketTxTimestamp {
  Fd fd;

  static constexpr OpInfo kInfo = {IORING_OP_URING_CMD,
                                   "SocketTxTimestamp",
                                   "tx timestamp",
                                   "io_uring_prep_cmd_sock(3)",
                                   "6.17",
                                   Until::kLastCompletion};
  static constexpr Region kRegions[] = {RegionOf("fd", &SocketTxTimestamp::fd)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_TX_TIMESTAMP, fd.number(), 0, 0,
                           nullptr, 0);
    sqe->flags |= fd.sqe_flags();
  }
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_OPS_SOCKET_H_
