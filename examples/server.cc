#include "escrow/examples/server.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <expected>
#include <functional>
#include <list>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/examples/failure.h"
#include "escrow/examples/stop_signals.h"
#include "escrow/examples/task.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream.h"
#include "escrow/safe/stream_ops.h"

namespace escrow::examples {

using ownership::Descriptor;

namespace {

struct Listener {
  Descriptor socket;
  std::uint16_t port;
};

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

// Until there is an error.
Task Accept(safe::Stream<Descriptor>& stream,
            const std::function<Task(Descriptor peer)>& serve,
            std::list<Task>& connections, safe::Result<void>& accepted) {
  while (auto connection = co_await stream.Next()) {
    if (*connection) {
      connections.push_back(serve(std::move(**connection)));
    } else {
      accepted = std::unexpected(connection->error());
    }
  }
}

}  // namespace

Expected<std::uint16_t> ParsePort(const char* text) {
  std::uint16_t port = 0;
  const char* const end = text + std::strlen(text);
  if (const auto [rest, error] = std::from_chars(text, end, port);
      error != std::errc() || rest != end) {
    return Failed(text, "not a port (0 to 65535)");
  }
  return port;
}

Expected<void> Serve(safe::Ring& ring, const StopSignals& signals,
                     std::uint16_t port, const char* before, const char* behind,
                     const std::function<Task(Descriptor peer)>& serve) {
  const auto listener = ListenOnLoopback(ring, port);
  if (!listener) return std::unexpected(listener.error());

  std::list<Task> connections;
  safe::Result<void> accepted;
  // Dropped with the connections: it refers to them.
  auto stream = ring.Start(safe::AcceptMany{.socket = listener->socket});
  const Task accepting = Accept(stream, serve, connections, accepted);
  std::printf("listening on %s127.0.0.1:%u%s\n", before,
              unsigned{listener->port}, behind);
  std::fflush(stdout);

  while (signals.arrived() == 0) {
    if (auto run = ring.Dispatch(); !run) return Failed("ring", run.error());
    if (!accepted) return Failed("connections", accepted.error());
    connections.remove_if([](const Task& task) { return task.done(); });
  }
  return {};
}

}  // namespace escrow::examples
