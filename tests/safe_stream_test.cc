// Multishot operations and zero-copy sends: what comes more than once.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream.h"
#include "escrow/safe/stream_ops.h"
#include "escrow/safe/zero_copy_ops.h"
#include "tests/safe_stream_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using std::chrono::milliseconds;

struct AcceptManyCase {
  World world;
  Listener listener{world};
  std::deque<Descriptor> clients = {};
  static constexpr const char* kName = "AcceptMany";
  static constexpr const char* kCall = "accept (multishot)";

  auto Op() { return AcceptMany{.socket = listener.socket}; }
  void Send() {
    clients.push_back(UnixSocket());
    EXPECT_EQ(::connect(clients.back().number(), listener.address.data(),
                        listener.address.size()),
              0);
  }
  void Expect(Result<Descriptor> connection) {
    EXPECT_EQ(::fcntl(connection->number(), F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(::write(clients.front().number(), "x", 1), 1);
    char byte;
    EXPECT_EQ(::recv(connection->number(), &byte, 1, MSG_DONTWAIT), 1);
    clients.pop_front();
  }
  auto Bad() {
    clients.push_back(UnixSocket());
    return AcceptMany{.socket = clients.back()};
  }
  static constexpr int kError = EINVAL;
};

struct PollManyCase {
  Ends pipe;
  static constexpr const char* kName = "PollMany";
  static constexpr const char* kCall = "poll (multishot)";

  auto Op() { return PollMany{.file = pipe.read, .events = POLLIN}; }
  void Send() { EXPECT_EQ(::write(pipe.write.number(), "x", 1), 1); }
  void Expect(Result<std::size_t> events) {
    EXPECT_EQ(*events, std::size_t{POLLIN});
  }
  // Nobody's number.
  auto Bad() {
    return PollMany{.file = Descriptor::Permanent(1 << 30), .events = POLLIN};
  }
  static constexpr int kError = EBADF;
};

struct TickCase {
  static constexpr const char* kName = "Tick";

  auto Op() { return Tick{.period = milliseconds(1)}; }
  void Send() { ::usleep(2000); }
  void Expect(Result<void>) {}
};

using Cases = ::testing::Types<AcceptManyCase, PollManyCase, TickCase>;
ESCROW_STREAM_CASES(Stream, Cases);

// What a row cannot say.

class SafeStream : public ::testing::Test {
 protected:
  SafeStream() : ring_(Make({.entries = 8})) {}

  static Ring Make(const RingOptions& options) {
    auto ring = Ring::Create(options);
    if (!ring) {
      ADD_FAILURE() << ring.error().message();
      std::abort();
    }
    return std::move(*ring);
  }

  Descriptor Connect() {
    Descriptor client = UnixSocket();
    EXPECT_EQ(::connect(client.number(), listener_.address.data(),
                        listener_.address.size()),
              0);
    return client;
  }

  void Drain() {
    while (ring_.in_flight() > 0) EXPECT_TRUE(ring_.Dispatch());
    EXPECT_EQ(ring_.unknown_completions(), 0u);
  }

  World world_;
  Listener listener_{world_};
  Ring ring_;
};

TEST_F(SafeStream, GivesAllConnections) {
  auto connections = ring_.Start(AcceptMany{.socket = listener_.socket});
  for (int i = 0; i < 5; ++i) {
    const Descriptor first = Connect(), second = Connect();
    for (const Descriptor* client : {&first, &second}) {
      const auto accepted = ring_.Next(connections);
      ASSERT_TRUE(accepted.has_value() && accepted->has_value());
      EXPECT_EQ(::write(client->number(), "x", 1), 1);
      char byte;
      EXPECT_EQ(::read((*accepted)->number(), &byte, 1), 1);
    }
  }
  EXPECT_FALSE(connections.ready());
}

// The callback waits for other operations of the ring, while items come in.
TEST_F(SafeStream, CallbacksMayWaitAndTheEndIsToldToThem) {
  std::vector<Descriptor> clients;
  int connections = 0, ends = 0;
  std::error_code error;
  ring_.Start(AcceptMany{.socket = listener_.socket})
      .ForEach([&](std::optional<Result<Descriptor>> connection) {
        if (!connection.has_value()) {
          ++ends;
        } else if (!connection->has_value()) {
          error = connection->error();
        } else {
          ++connections;
          if (clients.size() < 4) clients.push_back(Connect());
          EXPECT_TRUE(ring_.Wait(ring_.Nop()));
          if (connections == 4) {
            const auto found = ring_.Wait(ring_.CancelAll(listener_.socket));
            EXPECT_EQ(found.value(), 1u);
          }
        }
      });
  clients.push_back(Connect());
  while (ends == 0) EXPECT_TRUE(ring_.Dispatch());
  EXPECT_EQ(connections, 4);
  EXPECT_EQ(error, std::errc::operation_canceled);
  EXPECT_EQ(ends, 1);
  Drain();
}

// A full completion queue ends a multishot request, and loses nothing.
TEST_F(SafeStream, GoesOnAfterTheKernelEndedIt) {
  Ring ring = Make({.entries = 2, .completion_entries = 2});
  std::vector<Descriptor> clients;
  auto connections = ring.Start(AcceptMany{.socket = listener_.socket});
  EXPECT_TRUE(ring.Submit());
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 6; ++i) clients.push_back(Connect());
    for (int i = 0; i < 6; ++i) {
      const auto item = ring.Next(connections);
      ASSERT_TRUE(item.has_value() && item->has_value())
          << (item ? item->error().message() : "over");
    }
  }
  EXPECT_EQ(ring.unknown_completions(), 0u);
}

TEST_F(SafeStream, TicksAsOftenAsItShould) {
  auto ticks = ring_.Start(Tick{.period = milliseconds(1), .count = 3});
  for (int i = 0; i < 3; ++i) {
    const auto tick = ring_.Next(ticks);
    ASSERT_TRUE(tick.has_value());
    EXPECT_TRUE(tick->has_value()) << tick->error().message();
  }
  EXPECT_FALSE(ring_.Next(ticks).has_value());
  auto endless = ring_.Start(Tick{.period = milliseconds(1)});
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(ring_.Next(endless)->has_value());
}

// The kernel ends it when its completion queue is full.
TEST_F(SafeStream, TicksAreNotMoreOrFewerWhenTheyAreInterrupted) {
  Ring ring = Make({.entries = 2, .completion_entries = 2});
  auto ticks = ring.Start(Tick{.period = milliseconds(1), .count = 4});
  int count = 0;
  for (;;) {
    std::vector<Operation<Result<void>>> nops;
    for (int i = 0; i < 8; ++i) nops.push_back(ring.Nop());
    EXPECT_TRUE(ring.Submit());
    ::usleep(2000);
    const auto tick = ring.Next(ticks);
    if (!tick.has_value()) break;
    EXPECT_TRUE(tick->has_value()) << tick->error().message();
    ++count;
  }
  EXPECT_EQ(count, 4);
}

TEST_F(SafeStream, CountsForOneAtTheLimit) {
  Ring ring = Make({.entries = 8, .in_flight_limit = 2});
  auto connections = ring.Start(AcceptMany{.socket = listener_.socket});
  auto timeout = ring.Timeout(std::chrono::hours(1));
  auto refused = ring.Start(AcceptMany{.socket = listener_.socket});
  const auto item = ring.Next(refused);
  ASSERT_TRUE(item.has_value());
  EXPECT_EQ(item->error(), std::errc::resource_unavailable_try_again);
  EXPECT_FALSE(ring.Next(refused).has_value());
  const auto nop = ring.Wait(ring.Nop());
  EXPECT_EQ(nop.error(), std::errc::resource_unavailable_try_again);
  (void)ring.CancelAndWait(std::move(timeout));
  EXPECT_TRUE(ring.Wait(ring.Nop()));
}

// Zero-copy sends need a network protocol; local sockets have none. Most of
// what is sent stays with the sender until the peer receives, or is gone, so
// that the network stack keeps the bytes.
struct Tcp {
  Tcp() {
    const Descriptor listener =
        Descriptor::Adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    const int small = 4096;
    EXPECT_EQ(::setsockopt(listener.number(), SOL_SOCKET, SO_RCVBUF, &small,
                           sizeof(small)),
              0);
    EXPECT_EQ(::bind(listener.number(), generic, size), 0);
    EXPECT_EQ(::listen(listener.number(), 1), 0);
    EXPECT_EQ(::getsockname(listener.number(), generic, &size), 0);
    here = Descriptor::Adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int large = 200'000;
    EXPECT_EQ(::setsockopt(here.number(), SOL_SOCKET, SO_SNDBUF, &large,
                           sizeof(large)),
              0);
    EXPECT_EQ(::connect(here.number(), generic, size), 0);
    there = Descriptor::Adopt(
        ::accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  // Notifications interrupt it, like signals.
  void Receive(std::size_t size) const {
    std::vector<char> bytes(size);
    while (size > 0) {
      const ssize_t received =
          ::recv(there.number(), bytes.data(), size, MSG_WAITALL);
      ASSERT_GT(received, 0);
      size -= static_cast<std::size_t>(received);
    }
  }
  Descriptor here;
  Descriptor there;
};

class SafeZeroCopy : public SafeStream {
 protected:
  auto Send(std::size_t size = 5) {
    return ring_.Start(SendZeroCopy<std::string>{
        .socket = tcp_.here, .buffer = std::string(size, 'z')});
  }

  // Notifications on the loopback come when the peer has received.
  auto SendTracked() {
    return ring_.Start(SendZeroCopy<testing::Tracked>{
        .socket = tcp_.here, .buffer = testing::Tracked(arena_)});
  }

  Tcp tcp_;
  std::array<std::byte, 65536> bytes_ = {};
  testing::Arena arena_{bytes_.data(), bytes_.size()};
};

TEST_F(SafeZeroCopy, ResultFirstAndThenTheBuffer) {
  auto [sent, pending] = ring_.Wait(Send());
  EXPECT_EQ(sent.value(), 5u);
  tcp_.Receive(5);
  EXPECT_EQ(ring_.Wait(std::move(pending)), "zzzzz");
  Drain();
}

TEST_F(SafeZeroCopy, ErrorsGiveTheBufferBack) {
  const Descriptor file = world_.OpenFile();
  auto [sent, pending] = ring_.Wait(ring_.Start(
      SendZeroCopy<std::string>{.socket = file, .buffer = "unsent"}));
  EXPECT_EQ(sent.error(), std::errc::not_a_socket);
  EXPECT_TRUE(sent.error().message().starts_with("send (zero-copy): "));
  EXPECT_EQ(ring_.Wait(std::move(pending)), "unsent");
  Drain();
}

TEST_F(SafeZeroCopy, DroppedAnywhereKeepsTheBytesForTheStack) {
  { auto before_submit = SendTracked(); }
  EXPECT_EQ(arena_.releases, 1);
  {
    auto after_submit = SendTracked();
    EXPECT_TRUE(ring_.Submit());
    EXPECT_EQ(arena_.releases, 1);
  }
  EXPECT_EQ(arena_.releases, 1);
  tcp_ = Tcp();
  Drain();
  EXPECT_EQ(arena_.releases, 2);
  {
    // Between the result and the notification, which nobody asked for.
    auto send = SendTracked();
    while (!send.done()) EXPECT_TRUE(ring_.Wait(ring_.Nop()));
  }
  EXPECT_EQ(arena_.releases, 2);
  tcp_ = Tcp();
  Drain();
  EXPECT_EQ(arena_.releases, 3);
  {
    // The same, with the result taken.
    auto [sent, pending] = ring_.Wait(SendTracked());
    EXPECT_EQ(sent.value(), bytes_.size());
    EXPECT_EQ(arena_.releases, 3);
  }
  EXPECT_EQ(arena_.releases, 3);
  tcp_ = Tcp();
  Drain();
  EXPECT_EQ(arena_.releases, 4);
  {
    auto [sent, pending] = ring_.Wait(SendTracked());
    tcp_ = Tcp();
    while (!pending.done()) EXPECT_TRUE(ring_.Dispatch());
  }
  EXPECT_EQ(arena_.releases, 5);
}

TEST_F(SafeZeroCopy, TheRingsEndWaitsForTheStack) {
  std::optional<Operation<std::string>> pending;
  {
    Ring ring = Make({.entries = 8});
    auto sent = ring.Wait(ring.Start(SendZeroCopy<std::string>{
        .socket = tcp_.here, .buffer = std::string(5, 'z')}));
    EXPECT_TRUE(sent.result);
    pending.emplace(std::move(sent.buffer));
    tcp_.Receive(5);
  }
  ASSERT_TRUE(pending->done());
  EXPECT_EQ(std::move(*pending).Take(), "zzzzz");
}

TEST_F(SafeZeroCopy, WithCallbacksAndDeadlines) {
  std::string back;
  ring_
      .Start(SendZeroCopy<std::string>{.socket = tcp_.here, .buffer = "hello"},
             {.deadline = std::chrono::hours(1)})
      .Then([&](ZeroCopySent<std::string> sent) {
        EXPECT_EQ(sent.result.value(), 5u);
        tcp_.Receive(5);
        std::move(sent.buffer).Then([&](std::string buffer) {
          back = std::move(buffer);
        });
      });
  while (back.empty()) EXPECT_TRUE(ring_.Dispatch());
  EXPECT_EQ(back, "hello");
  Drain();
}

// What cannot be sent yet.
TEST_F(SafeZeroCopy, MissesItsDeadline) {
  const int small = 4096;
  EXPECT_EQ(::setsockopt(tcp_.here.number(), SOL_SOCKET, SO_SNDBUF, &small,
                         sizeof(small)),
            0);
  std::optional<Operation<std::string>> pending;
  for (;;) {
    auto sent = ring_.Wait(ring_.Start(
        SendZeroCopy<std::string>{.socket = tcp_.here,
                                  .buffer = std::string(65536, 'z')},
        {.deadline = milliseconds(5)}));
    pending.emplace(std::move(sent.buffer));
    if (!sent.result) {
      EXPECT_EQ(sent.result.error(), std::errc::timed_out);
      break;
    }
  }
  // The stack keeps what the peer has not received.
  tcp_ = Tcp();
  EXPECT_EQ(ring_.Wait(std::move(*pending)).size(), 65536u);
  Drain();
}

// The chain breaks, and a notification comes that nobody announced.
TEST_F(SafeZeroCopy, InABrokenChain) {
  const Ends pipe;
  for (int i = 0; i < 10; ++i) {
    auto [recv, send] = ring_.Start(
        Chain(Receive<std::string>{.socket = pipe.read, .buffer = "?"},
              SendZeroCopy<std::string>{.socket = tcp_.here,
                                        .buffer = std::string(5, 'z')}));
    EXPECT_EQ(ring_.Wait(std::move(recv)).result.error(),
              std::errc::not_a_socket);
    auto [sent, pending] = ring_.Wait(std::move(send));
    EXPECT_EQ(sent.error(), std::errc::operation_canceled);
    EXPECT_EQ(ring_.Wait(std::move(pending)), "zzzzz");
  }
  Drain();
}

}  // namespace
}  // namespace escrow::safe::cases
