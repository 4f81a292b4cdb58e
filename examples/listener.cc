#include "escrow/examples/listener.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/examples/failure.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"

namespace escrow::examples {

Expected<Listener> ListenOnLoopback(safe::Ring& ring, std::uint16_t port) {
  const std::string what = "port " + std::to_string(port);
  auto socket = ring.Wait(
      ring.Start(safe::Socket{.domain = AF_INET, .type = SOCK_STREAM}));
  if (!socket) return Failed(what, socket.error());
  // These are operations only in later kernels.
  const int reuse = 1;
  if (::setsockopt(socket->number(), SOL_SOCKET, SO_REUSEADDR, &reuse,
                   sizeof reuse) != 0) {
    return FailedCall(what, "setsockopt");
  }
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = ::htons(port);
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ::socklen_t size = sizeof address;
  if (::bind(socket->number(), generic, size) != 0) {
    return FailedCall(what, "bind");
  }
  if (::listen(socket->number(), SOMAXCONN) != 0) {
    return FailedCall(what, "listen");
  }
  if (::getsockname(socket->number(), generic, &size) != 0) {
    return FailedCall(what, "getsockname");
  }
  return Listener{std::move(*socket), ::ntohs(address.sin_port)};
}

Expected<std::uint16_t> ParsePort(const char* text) {
  std::uint16_t port = 0;
  const char* const end = text + std::strlen(text);
  if (const auto [rest, error] = std::from_chars(text, end, port);
      error != std::errc() || rest != end) {
    return Failed(text, "not a port (0 to 65535)");
  }
  return port;
}

}  // namespace escrow::examples
