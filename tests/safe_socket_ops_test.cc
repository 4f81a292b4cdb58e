// The ops of socket_ops.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

struct SocketCase {
  static constexpr const char* kName = "Socket";
  static constexpr const char* kCall = "socket";

  auto Good() { return Socket{.domain = AF_INET, .type = SOCK_DGRAM}; }
  void Expect(Result<Descriptor> socket) {
    EXPECT_EQ(::fcntl(socket->number(), F_GETFD), FD_CLOEXEC);
  }
  auto Bad() { return Socket{.domain = 999}; }
  static constexpr int kError = EAFNOSUPPORT;
};

struct BindCase {
  World world;
  Descriptor socket = UnixSocket();
  static constexpr const char* kName = "Bind";
  static constexpr const char* kCall = "bind";

  auto Good() {
    return Bind{.socket = socket, .address = UnixAddress(world.Path("bound"))};
  }
  void Expect(Result<void>) { EXPECT_TRUE(world.Has("bound")); }
  auto Bad() {
    return Bind{.socket = socket, .address = UnixAddress(world.Path("file"))};
  }
  static constexpr int kError = EADDRINUSE;
};

struct ListenCase {
  World world;
  Descriptor socket = UnixSocket();
  static constexpr const char* kName = "Listen";
  static constexpr const char* kCall = "listen";

  auto Good() {
    const SocketAddress address = UnixAddress(world.Path("bound"));
    EXPECT_EQ(::bind(socket.number(), address.data(), address.size()), 0);
    return Listen{.socket = socket, .backlog = 1};
  }
  void Expect(Result<void>) {
    const SocketAddress address = UnixAddress(world.Path("bound"));
    const Descriptor client = UnixSocket();
    EXPECT_EQ(::connect(client.number(), address.data(), address.size()), 0);
  }
  auto Bad() { return Listen{.socket = socket}; }
  static constexpr int kError = EINVAL;
};

struct ConnectCase {
  World world;
  Listener listener{world};
  Descriptor socket = UnixSocket();
  static constexpr const char* kName = "Connect";
  static constexpr const char* kCall = "connect";

  auto Good() { return Connect{.socket = socket, .address = listener.address}; }
  void Expect(Result<void>) {
    const int accepted = ::accept(listener.socket.number(), nullptr, nullptr);
    EXPECT_GE(accepted, 0);
    ::close(accepted);
  }
  auto Bad() {
    return Connect{.socket = socket,
                   .address = UnixAddress(world.Path("absent"))};
  }
  static constexpr int kError = ENOENT;
};

struct AcceptCase {
  World world;
  Listener listener{world};
  Descriptor client = UnixSocket();
  static constexpr const char* kName = "Accept";
  static constexpr const char* kCall = "accept";

  auto Good() {
    const SocketAddress name = UnixAddress(world.Path("client"));
    EXPECT_EQ(::bind(client.number(), name.data(), name.size()), 0);
    listener.Connect(client);
    return Accept{.socket = listener.socket};
  }
  void Expect(Result<Accept::Connection> connection) {
    EXPECT_EQ(::write(connection->socket.number(), "x", 1), 1);
    char byte;
    EXPECT_EQ(::read(client.number(), &byte, 1), 1);
    EXPECT_EQ(connection->peer.family(), AF_UNIX);
    const auto* const name =
        reinterpret_cast<const sockaddr_un*>(connection->peer.data());
    EXPECT_EQ(name->sun_path, world.Path("client"));
  }
  auto Bad() { return Accept{.socket = client}; }
  static constexpr int kError = EINVAL;
};

struct ShutdownCase {
  World world;
  Pair pair;
  static constexpr const char* kName = "Shutdown";
  static constexpr const char* kCall = "shutdown";

  auto Good() { return Shutdown{.socket = pair.here, .how = SHUT_WR}; }
  void Expect(Result<void>) {
    char byte;
    EXPECT_EQ(::read(pair.there.number(), &byte, 1), 0);
  }
  auto Bad() { return Shutdown{.socket = world.OpenFile()}; }
  static constexpr int kError = ENOTSOCK;
};

struct SendCase {
  World world;
  Pair pair;
  static constexpr const char* kName = "Send";
  static constexpr const char* kCall = "send";

  auto Good() {
    return Send<std::string>{.socket = pair.here, .buffer = "sent"};
  }
  void Expect(Transfer<std::string> sent) {
    EXPECT_EQ(*sent.result, 4u);
    EXPECT_EQ(sent.buffer, "sent");
    char bytes[8];
    EXPECT_EQ(::read(pair.there.number(), bytes, sizeof(bytes)), 4);
  }
  auto Bad() {
    pair.there = Descriptor();
    return Send<std::string>{.socket = pair.here, .buffer = "sent"};
  }
  static constexpr int kError = EPIPE;
};

struct ReceiveCase {
  World world;
  Pair pair;
  static constexpr const char* kName = "Receive";
  static constexpr const char* kCall = "recv";

  auto Good() {
    EXPECT_EQ(::write(pair.there.number(), "abc", 3), 3);
    return Receive<std::string>{.socket = pair.here,
                                .buffer = std::string(8, '.')};
  }
  void Expect(Transfer<std::string> received) {
    EXPECT_EQ(*received.result, 3u);
    EXPECT_EQ(received.buffer, "abc.....");
  }
  auto Bad() {
    return Receive<std::string>{.socket = world.OpenFile(),
                                .buffer = std::string(8, '.')};
  }
  static constexpr int kError = ENOTSOCK;
};

using Cases = ::testing::Types<SocketCase, BindCase, ListenCase, ConnectCase,
                               AcceptCase, ShutdownCase, SendCase, ReceiveCase>;
ESCROW_OP_CASES(Socket, Cases);

// What a row cannot say.

// Sockets that nothing has come to yet.

TEST(SafeSocketOps, ReceiveThatWaitsIsGivenUpWithItsHandle) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const Pair pair;
  std::byte bytes[16];
  escrow::testing::Arena arena{bytes, sizeof(bytes)};
  {
    auto receive = ring->Start(Receive<escrow::testing::Tracked>{
        .socket = pair.here, .buffer = escrow::testing::Tracked(arena)});
    EXPECT_TRUE(ring->Submit());
    EXPECT_EQ(arena.releases, 0);
  }
  while (ring->in_flight() > 0) EXPECT_TRUE(ring->Dispatch());
  EXPECT_EQ(arena.releases, 1);
  // Nothing was consumed.
  EXPECT_EQ(::write(pair.there.number(), "x", 1), 1);
  auto [size, buffer] = ring->Wait(
      ring->Start(Receive<std::string>{.socket = pair.here, .buffer = "."}));
  EXPECT_EQ(size.value(), 1u);
  EXPECT_EQ(buffer, "x");
}

TEST(SafeSocketOps, AcceptThatWaitsEndsWithTheRing) {
  const World world;
  const Listener listener(world);
  std::optional<Operation<Result<Accept::Connection>>> accept;
  {
    auto ring = Ring::Create({.entries = 8});
    ASSERT_TRUE(ring);
    accept.emplace(ring->Start(Accept{.socket = listener.socket}));
    EXPECT_TRUE(ring->Submit());
  }
  ASSERT_TRUE(accept->done());
  EXPECT_EQ(std::move(*accept).Take().error(), std::errc::operation_canceled);
}

TEST(SafeSocketOps, SendsDatagramsToAddresses) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const World world;
  const auto datagram = [&] {
    return ring->Wait(
        ring->Start(Socket{.domain = AF_UNIX, .type = SOCK_DGRAM}));
  };
  const auto sender = datagram(), receiver = datagram();
  ASSERT_TRUE(sender && receiver);
  const SocketAddress address = UnixAddress(world.Path("mailbox"));
  ASSERT_TRUE(
      ring->Wait(ring->Start(Bind{.socket = *receiver, .address = address})));
  auto [sent, text] = ring->Wait(ring->Start(Send<std::string>{
      .socket = *sender, .buffer = "letter", .address = address}));
  ASSERT_TRUE(sent) << sent.error().message();
  auto [size, buffer] = ring->Wait(ring->Start(Receive<std::string>{
      .socket = *receiver, .buffer = std::string(16, '.')}));
  EXPECT_EQ(size.value(), 6u);
  EXPECT_TRUE(buffer.starts_with("letter."));
}

}  // namespace
}  // namespace escrow::safe::cases
