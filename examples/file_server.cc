// usage: file_server DIRECTORY [PORT]
//
// Serves the files below DIRECTORY by HTTP/1.1, on the loopback interface, to
// any number of connections at once; each is a coroutine. Until SIGINT or
// SIGTERM.

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/examples/failure.h"
#include "escrow/examples/http.h"
#include "escrow/examples/server.h"
#include "escrow/examples/stop_signals.h"
#include "escrow/examples/task.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"

namespace escrow::examples {
namespace {

using ownership::Buffer;
using ownership::Descriptor;
using ownership::Slice;

constexpr std::size_t kBlock = 65536;
constexpr std::size_t kLongestHead = 16384;
// Of a peer that neither asks nor takes.
constexpr safe::StartOptions kPatience = {.deadline = std::chrono::seconds(60)};

int StatusFor(const std::error_code& error) {
  if (error == std::errc::permission_denied) return 403;
  // Also when it leads out of the directory.
  return 404;
}

// What one connection works with.
class Connection {
 public:
  Connection(safe::Ring& ring, const Descriptor& directory, Descriptor peer)
      : ring_(ring), directory_(directory), peer_(std::move(peer)) {}

  // Started when it is awaited.
  auto Open(const std::string& path) {
    return ring_.Start(safe::Open{.directory = directory_,
                                  .path = path,
                                  .flags = O_RDONLY | O_NONBLOCK,
                                  .resolve = RESOLVE_BENEATH});
  }
  auto Stat(const Descriptor& file) {
    return ring_.Statx(file, {.mask = STATX_TYPE | STATX_SIZE});
  }
  auto Read(const Descriptor& file, Buffer buffer, std::uint64_t offset) {
    return ring_.Read(file, std::move(buffer), offset);
  }
  auto Receive(Buffer buffer) {
    return ring_.Start(
        safe::Receive<Buffer>{.socket = peer_, .buffer = std::move(buffer)},
        kPatience);
  }
  template <typename B>
  auto Send(B bytes, bool more = false) {
    return ring_.Start(safe::Send<B>{.socket = peer_,
                                     .buffer = std::move(bytes),
                                     .flags = MSG_WAITALL | MSG_NOSIGNAL |
                                              (more ? MSG_MORE : 0)},
                       kPatience);
  }

 private:
  safe::Ring& ring_;
  const Descriptor& directory_;
  Descriptor peer_;
};

// Answers one request after the other, until the peer has no more, or something
// is wrong. Whenever this is destroyed, what is in flight keeps what it needs.
Task Answer(safe::Ring& ring, const Descriptor& directory, Descriptor peer) {
  Connection connection(ring, directory, std::move(peer));
  auto allocated = Buffer::Allocate(kBlock);
  if (!allocated) co_return;
  Buffer buffer = std::move(*allocated);
  std::string received;
  for (bool keep_alive = true; keep_alive;) {
    std::size_t head = HeadLength(received);
    while (head == 0 && received.size() < kLongestHead) {
      auto [size, text] = co_await connection.Receive(std::move(buffer));
      if (!size || *size == 0) co_return;
      received.append(reinterpret_cast<const char*>(text.data()), *size);
      buffer = std::move(text);
      head = HeadLength(received);
    }
    if (head > kLongestHead) head = 0;
    const auto request = ParseHead(received.substr(0, head));
    received.erase(0, head);

    int status = 200;
    std::uint64_t length = 0;
    Descriptor file;
    std::string path;
    keep_alive = request && request->keep_alive;
    if (head == 0) {
      status = 431;
    } else if (!request) {
      status = 400;
    } else if (request->method != "GET" && request->method != "HEAD") {
      // What it might send is not known here.
      status = 405;
      keep_alive = false;
    } else {
      path = "." + request->path;
      if (path.ends_with('/')) path += "index.html";
      auto opened = co_await connection.Open(path);
      if (opened) {
        file = std::move(*opened);
        const auto stat = co_await connection.Stat(file);
        const bool regular = stat && S_ISREG(stat->stx_mode);
        status = regular ? 200 : 404;
        length = regular ? stat->stx_size : 0;
      } else {
        status = StatusFor(opened.error());
      }
    }

    const bool with_body = request && request->method == "GET" && length > 0;
    auto [sent, text] = co_await connection.Send(
        ResponseHead(status, TypeOf(path), length, keep_alive), with_body);
    if (!sent || *sent < text.size()) co_return;

    for (std::uint64_t offset = 0; with_body && offset < length;) {
      auto [size, block] =
          co_await connection.Read(file, std::move(buffer), offset);
      // It has become shorter than was promised.
      if (!size || *size == 0) co_return;
      const auto part = static_cast<std::size_t>(
          std::min<std::uint64_t>(*size, length - offset));
      offset += part;
      auto [written, slice] = co_await connection.Send(
          Slice<Buffer>(std::move(block), 0, part), offset < length);
      if (!written || *written < part) co_return;
      buffer = std::move(slice).whole();
    }
  }
}

Expected<void> ServeDirectory(const char* path, std::uint16_t port) {
  StopSignals signals;
  auto ring = safe::Ring::Create();
  if (!ring) return Failed("ring", ring.error());
  if (auto watched = signals.Watch(*ring); !watched) return watched;
  const auto directory = ring->Wait(ring->Open(path, O_RDONLY | O_DIRECTORY));
  if (!directory) return Failed(path, directory.error());
  return Serve(*ring, signals, port, "http://", "/",
               [&ring, &directory](Descriptor peer) {
                 return Answer(*ring, *directory, std::move(peer));
               });
}

}  // namespace
}  // namespace escrow::examples

int main(int argc, char** argv) {
  using namespace escrow::examples;
  if (argc < 2 || argc > 3) {
    std::fputs("usage: file_server DIRECTORY [PORT]\n", stderr);
    return 2;
  }
  auto port = ParsePort(argc > 2 ? argv[2] : "8080");
  auto served =
      port ? ServeDirectory(argv[1], *port) : std::unexpected(port.error());
  if (!served) {
    std::fprintf(stderr, "file_server: %s: %s\n", served.error().what.c_str(),
                 served.error().why.c_str());
    return 1;
  }
}
