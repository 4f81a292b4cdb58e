// usage: echo_server [PORT]
//
// Sends back what it receives, on the loopback interface, to any number of
// connections at once; each is a coroutine. Until SIGINT or SIGTERM.

#include <sys/socket.h>

#include <cstdint>
#include <cstdio>
#include <expected>
#include <utility>

#include "escrow/examples/failure.h"
#include "escrow/examples/server.h"
#include "escrow/examples/stop_signals.h"
#include "escrow/examples/task.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"

namespace escrow::examples {
namespace {

using ownership::Buffer;
using ownership::Descriptor;
using ownership::Slice;

// Until the peer has said all, or is gone. Whenever this is destroyed, what is
// in flight keeps the buffer and the socket for as long as it needs them.
Task Echo(safe::Ring& ring, Descriptor peer) {
  auto allocated = Buffer::Allocate(16384);
  if (!allocated) co_return;
  Buffer buffer = std::move(*allocated);
  for (;;) {
    // Not in one expression with the co_await: see safe/op.h.
    auto receive = ring.Start(
        safe::Receive<Buffer>{.socket = peer, .buffer = std::move(buffer)});
    auto [size, text] = co_await std::move(receive);
    if (!size || *size == 0) co_return;
    auto send = ring.Start(safe::Send<Slice<Buffer>>{
        .socket = peer,
        .buffer = Slice<Buffer>(std::move(text), 0, *size),
        .flags = MSG_WAITALL | MSG_NOSIGNAL});
    auto [sent, slice] = co_await std::move(send);
    if (!sent || *sent < *size) co_return;
    buffer = std::move(slice).whole();
  }
}

Expected<void> Run(std::uint16_t port) {
  StopSignals signals;
  auto ring = safe::Ring::Create();
  if (!ring) return Failed("ring", ring.error());
  if (auto watched = signals.Watch(*ring); !watched) return watched;
  return Serve(*ring, signals, port, "", "", [&ring](Descriptor peer) {
    return Echo(*ring, std::move(peer));
  });
}

}  // namespace
}  // namespace escrow::examples

int main(int argc, char** argv) {
  using namespace escrow::examples;
  auto port = ParsePort(argc > 1 ? argv[1] : "7777");
  auto served = port ? Run(*port) : std::unexpected(port.error());
  if (!served) {
    std::fprintf(stderr, "echo_server: %s: %s\n", served.error().what.c_str(),
                 served.error().why.c_str());
    return 1;
  }
}
