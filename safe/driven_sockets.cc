#include "escrow/safe/driven_sockets.h"

#include <sys/socket.h>

#include <cerrno>
#include <expected>
#include <limits>
#include <memory>
#include <system_error>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/raw/error.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/result.h"
#include "escrow/safe/socket_ops.h"

namespace escrow::safe {

using ownership::Descriptor;
using ownership::SocketAddress;

namespace internal {

Result<Descriptor> MakeSocket(int family) {
  const int made = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (made < 0) {
    return std::unexpected(raw::LastError<"socket">());
  }
  return Descriptor::Adopt(made);
}

Result<std::pair<Descriptor, Descriptor>> MakePair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return std::unexpected(raw::LastError<"socketpair">());
  }
  return std::pair(Descriptor::Adopt(ends[0]), Descriptor::Adopt(ends[1]));
}

Result<BoundSocket> BindSocket(const SocketAddress& address, int backlog) {
  auto made = MakeSocket(address.family());
  if (!made) return std::unexpected(made.error());
  const int socket = made->number();
  const int yes = 1;
  if (address.family() != AF_UNIX &&
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0) {
    return std::unexpected(raw::LastError<"setsockopt">());
  }
  if (::bind(socket, address.data(), address.size()) != 0) {
    return std::unexpected(raw::LastError<"bind">());
  }
  if (::listen(socket, backlog) != 0) {
    return std::unexpected(raw::LastError<"listen">());
  }
  SocketAddress bound;
  if (::getsockname(socket, bound.room(), bound.size_room()) != 0) {
    return std::unexpected(raw::LastError<"getsockname">());
  }
  return BoundSocket{std::move(*made), bound};
}

}  // namespace internal

template <Transport kTransport>
Submission<Result<DrivenStream<kTransport>>> DrivenStream<kTransport>::Connect(
    const std::shared_ptr<internal::DriverBase>& driver,
    const SocketAddress& address) {
  auto make = [driver = driver, address] {
    auto made = internal::MakeSocket(address.family());
    // Without a socket nothing is done, and why there is none is the outcome.
    std::error_code error = made ? std::error_code() : made.error();
    Descriptor socket =
        made ? std::move(*made)
             : Descriptor::Permanent(std::numeric_limits<int>::max());
    safe::Connect connect{.socket = socket, .address = address};
    return internal::MapOutcome(
        std::move(connect),
        [driver, error, socket = std::move(socket)](
            const Result<void>& connected) mutable -> Result<DrivenStream> {
          if (error) return std::unexpected(error);
          if (!connected) return std::unexpected(connected.error());
          return DrivenStream(driver, std::move(socket));
        });
  };
  return internal::SubmitOp(driver, std::move(make));
}

template <Transport kTransport>
template <typename Outcome, typename Map>
Submission<Result<Outcome>> DrivenListener<kTransport>::AcceptAs(Map map) {
  return object_.SubmitOp(
      Kind::kAccept, [driver = object_.driver(), map](Descriptor& socket) {
        return internal::MapOutcome(
            safe::Accept{.socket = socket},
            [driver, map](
                Result<safe::Accept::Connection> accepted) -> Result<Outcome> {
              if (!accepted) return std::unexpected(accepted.error());
              return map(Stream(driver, std::move(accepted->socket)),
                         accepted->peer);
            });
      });
}

template <Transport kTransport>
auto DrivenListener<kTransport>::Accept() -> Submission<Result<Connection>> {
  return AcceptAs<Connection>([](Stream stream, const SocketAddress& peer) {
    return Connection{std::move(stream), peer};
  });
}

template <Transport kTransport>
auto DrivenListener<kTransport>::AcceptStream() -> Submission<Result<Stream>> {
  return AcceptAs<Stream>(
      [](Stream stream, const SocketAddress&) { return stream; });
}

template class DrivenStream<Transport::kTcp>;
template class DrivenStream<Transport::kUnix>;
template class DrivenListener<Transport::kTcp>;
template class DrivenListener<Transport::kUnix>;

}  // namespace escrow::safe
