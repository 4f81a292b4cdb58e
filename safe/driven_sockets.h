#ifndef ESCROW_SAFE_DRIVEN_SOCKETS_H_
#define ESCROW_SAFE_DRIVEN_SOCKETS_H_

#include <sys/socket.h>

#include <expected>
#include <memory>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/driven_object.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/result.h"
#include "escrow/safe/socket_ops.h"

// Connections on a driver, of TCP (AF_INET, AF_INET6) and of AF_UNIX:
//
//   auto listener = safe::TcpListener::Bind(driver, address);
//   auto incoming = listener->Incoming();
//   while (auto stream = co_await incoming.Next()) {
//     auto [size, buffer] = co_await stream->Read(std::move(buffer));
//
// As driven_object.h says of all objects. A read and a write are of different
// kinds: for both at once, have two objects on descriptors of the same socket.

namespace escrow::safe {

namespace internal {

Result<ownership::Descriptor> MakeSocket(int family);
Result<std::pair<ownership::Descriptor, ownership::Descriptor>> MakePair();
struct BoundSocket {
  ownership::Descriptor socket;
  ownership::SocketAddress address;
};
Result<BoundSocket> BindSocket(const ownership::SocketAddress& address,
                               int backlog);

}  // namespace internal

enum class Transport : std::uint8_t { kTcp, kUnix };

template <Transport kTransport>
class DrivenListener;

// A connection. Movable.
template <Transport kTransport>
class DrivenStream {
 public:
  // socket(2) and connect(2), whose errors it has.
  template <Driver D>
  static Submission<Result<DrivenStream>> Connect(
      const D& driver, const ownership::SocketAddress& address) {
    return Connect(std::make_shared<internal::DriverOf<D>>(driver), address);
  }

  // socketpair(2).
  template <Driver D>
  static Result<std::pair<DrivenStream, DrivenStream>> Pair(
      const D& driver) requires(kTransport == Transport::kUnix) {
    auto made = internal::MakePair();
    if (!made) return std::unexpected(made.error());
    const auto base = std::make_shared<internal::DriverOf<D>>(driver);
    return std::pair(DrivenStream(base, std::move(made->first)),
                     DrivenStream(base, std::move(made->second)));
  }

  // Takes over a connected socket that no operation is on. Requires
  // socket.alone().
  template <Driver D>
  static DrivenStream Adopt(const D& driver, ownership::Descriptor socket) {
    ESCROW_CHECK(socket.valid() && socket.alone(),
                 "a stream of what is not open, or used by somebody else");
    return DrivenStream(std::make_shared<internal::DriverOf<D>>(driver),
                        std::move(socket));
  }

  // recv(2): 0 when the peer has closed.
  template <ownership::Writable B>
  Submission<Transfer<B>> Read(B buffer, int flags = 0) {
    return object_.SubmitOp(
        Kind::kRead, [buffer = std::move(buffer),
                      flags](ownership::Descriptor& socket) mutable {
          return Receive<B>{
              .socket = socket, .buffer = std::move(buffer), .flags = flags};
        });
  }
  // send(2); may send less, without MSG_WAITALL.
  template <ownership::Readable B>
  Submission<Transfer<B>> Write(B buffer, int flags = 0) {
    return object_.SubmitOp(
        Kind::kWrite, [buffer = std::move(buffer),
                       flags](ownership::Descriptor& socket) mutable {
          return Send<B>{
              .socket = socket, .buffer = std::move(buffer), .flags = flags};
        });
  }

  Submission<Result<void>> Shutdown(int how = SHUT_RDWR) {
    return object_.SubmitOp(
        Kind::kShutdown, [how](ownership::Descriptor& socket) {
          return safe::Shutdown{.socket = socket, .how = how};
        });
  }

  Submission<Result<void>> Close() { return object_.Close(); }

  // As Close(), but for that the descriptor comes out.
  Submission<Result<ownership::Descriptor>> IntoDescriptor() {
    return object_.IntoDescriptor();
  }

 private:
  friend class DrivenListener<kTransport>;
  using Kind = internal::SubmissionState::Kind;

  DrivenStream(std::shared_ptr<internal::DriverBase> driver,
               ownership::Descriptor socket)
      : object_(std::move(driver), std::move(socket)) {}

  static Submission<Result<DrivenStream>> Connect(
      const std::shared_ptr<internal::DriverBase>& driver,
      const ownership::SocketAddress& address);

  internal::DrivenObject object_;
};

// A socket that listens. Movable.
template <Transport kTransport>
class DrivenListener {
 public:
  using Stream = DrivenStream<kTransport>;
  struct Connection {
    Stream stream;
    ownership::SocketAddress peer;
  };

  // socket(2), with SO_REUSEADDR for TCP, bind(2) and listen(2), in the calling
  // thread, and their errors.
  template <Driver D>
  static Result<DrivenListener> Bind(const D& driver,
                                     const ownership::SocketAddress& address,
                                     int backlog = 128) {
    auto bound = internal::BindSocket(address, backlog);
    if (!bound) return std::unexpected(bound.error());
    return DrivenListener(std::make_shared<internal::DriverOf<D>>(driver),
                          std::move(*bound));
  }

  // With the port that was chosen, if none was given.
  const ownership::SocketAddress& address() const noexcept { return address_; }

  // accept(2). A connection that nobody takes is closed.
  Submission<Result<Connection>> Accept();
  // Without the address of the peer.
  Submission<Result<Stream>> AcceptStream();

  // One connection after the other; of the listener, which stays where it is.
  class IncomingStreams {
   public:
    Submission<Result<Stream>> Next() { return listener_->AcceptStream(); }

   private:
    friend class DrivenListener;
    explicit IncomingStreams(DrivenListener* listener) noexcept
        : listener_(listener) {}

    DrivenListener* listener_;
  };
  IncomingStreams Incoming() noexcept { return IncomingStreams(this); }

  Submission<Result<void>> Close() { return object_.Close(); }

 private:
  using Kind = internal::SubmissionState::Kind;

  template <typename Outcome, typename Map>
  Submission<Result<Outcome>> AcceptAs(Map map);

  DrivenListener(std::shared_ptr<internal::DriverBase> driver,
                 internal::BoundSocket bound)
      : object_(std::move(driver), std::move(bound.socket)),
        address_(bound.address) {}

  internal::DrivenObject object_;
  ownership::SocketAddress address_;
};

using TcpStream = DrivenStream<Transport::kTcp>;
using TcpListener = DrivenListener<Transport::kTcp>;
using UnixStream = DrivenStream<Transport::kUnix>;
using UnixListener = DrivenListener<Transport::kUnix>;

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_DRIVEN_SOCKETS_H_
