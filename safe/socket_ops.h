#ifndef ESCROW_SAFE_SOCKET_OPS_H_
#define ESCROW_SAFE_SOCKET_OPS_H_

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

// Operations on sockets, for Ring::Start().

namespace escrow::safe {

// socket(2), with SOCK_CLOEXEC in any case.
struct Socket {
  int domain = AF_UNIX;    // AF_*
  int type = SOCK_STREAM;  // SOCK_*
  int protocol = 0;

  using Outcome = Result<ownership::Descriptor>;
  void Start(ownership::Record& record);
};

// bind(2). Linux 6.11.
struct Bind {
  File socket;
  ownership::SocketAddress address;

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// listen(2). Linux 6.11.
struct Listen {
  File socket;
  int backlog = SOMAXCONN;  // connections

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// connect(2).
struct Connect {
  File socket;
  ownership::SocketAddress address;

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// accept4(2), with SOCK_CLOEXEC in any case: the connection, and who is at its
// other end. A connection that nobody takes is closed.
struct Accept {
  struct Connection {
    ownership::Descriptor socket;
    ownership::SocketAddress peer;
  };

  File socket;    // that listens
  int flags = 0;  // SOCK_NONBLOCK

  KernelRoom<ownership::SocketAddress> peer =
      KernelRoom<ownership::SocketAddress>();

  using Outcome = Result<Connection>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult& result) noexcept;
};

// shutdown(2): ends a direction of a connection, and the receives that wait on
// it.
struct Shutdown {
  File socket;
  int how = SHUT_RDWR;  // SHUT_*

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

namespace internal {

void StartSend(ownership::Record& record, File socket, const std::byte* data,
               std::size_t size, int flags,
               const ownership::SocketAddress& address);
void StartReceive(ownership::Record& record, File socket, std::byte* data,
                  std::size_t size, int flags);

}  // namespace internal

// send(2) of the whole of `buffer`, or sendto(2) if there is an address. May
// send less; with MSG_WAITALL the kernel goes on until all is sent. With
// MSG_NOSIGNAL in any case: a closed connection is broken_pipe. Not
// MSG_ZEROCOPY, with which the kernel reads the buffer even after that.
template <ownership::Readable B>
struct Send {
  File socket;
  B buffer;
  int flags = 0;                          // MSG_*
  ownership::SocketAddress address = {};  // of a datagram; none: as connected

  using Outcome = Transfer<B>;
  void Start(ownership::Record& record) {
    internal::StartSend(
        record, std::move(socket), ownership::OwnedMemory<B>::Data(buffer),
        ownership::OwnedMemory<B>::Size(buffer), flags, address);
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::TakeTransfer(result, buffer);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

// recv(2) into `buffer`: bytes received, 0 when the peer has closed. With
// MSG_WAITALL the kernel goes on until the buffer is full.
template <ownership::Writable B>
struct Receive {
  File socket;
  B buffer;
  int flags = 0;  // MSG_*

  using Outcome = Transfer<B>;
  void Start(ownership::Record& record) {
    internal::StartReceive(record, std::move(socket),
                           ownership::OwnedMemory<B>::Data(buffer),
                           ownership::OwnedMemory<B>::Size(buffer), flags);
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::TakeTransfer(result, buffer);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_SOCKET_OPS_H_
