// Multishot operations and zero-copy sends: what comes more than once.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
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
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using cases::Ends;
using cases::Listener;
using cases::Pair;
using cases::UnixSocket;
using cases::World;
using ownership::Descriptor;
using std::chrono::milliseconds;

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

TEST_F(SafeStream, CancelledIsOver) {
  auto connections = ring_.Start(AcceptMany{.socket = listener_.socket});
  const Descriptor client = Connect();
  EXPECT_TRUE(ring_.Next(connections)->has_value());
  EXPECT_TRUE(ring_.Wait(ring_.Cancel(connections)));
  const auto last = ring_.Next(connections);
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->error(), std::errc::operation_canceled);
  EXPECT_EQ(last->error().message().substr(0, 8), "accept (");
  EXPECT_TRUE(connections.ready());
  EXPECT_FALSE(ring_.Next(connections).has_value());
  EXPECT_FALSE(ring_.Next(connections).has_value());
  Drain();
}

TEST_F(SafeStream, ErrorsAreItemsAndEndIt) {
  const Descriptor socket = UnixSocket();
  auto connections = ring_.Start(AcceptMany{.socket = socket});
  const auto item = ring_.Next(connections);
  ASSERT_TRUE(item.has_value());
  EXPECT_EQ(item->error(), std::errc::invalid_argument);
  EXPECT_FALSE(ring_.Next(connections).has_value());
}

// Accepted or not, taken or not.
TEST_F(SafeStream, DroppedAnywhereClosesWhatNobodyTook) {
  const int descriptors = testing::OpenDescriptors();
  {
    auto never_submitted = ring_.Start(AcceptMany{.socket = listener_.socket});
  }
  {
    auto idle = ring_.Start(AcceptMany{.socket = listener_.socket});
    EXPECT_TRUE(ring_.Submit());
  }
  // It would be woken by the first connection while it ends.
  Drain();
  {
    auto connections = ring_.Start(AcceptMany{.socket = listener_.socket});
    EXPECT_TRUE(ring_.Submit());
    const Descriptor clients[] = {Connect(), Connect(), Connect()};
    EXPECT_TRUE(ring_.Next(connections)->has_value());
    EXPECT_TRUE(ring_.Wait(ring_.Nop()));
  }
  Drain();
  {
    auto connections = ring_.Start(AcceptMany{.socket = listener_.socket});
    EXPECT_TRUE(ring_.Submit());
    const Descriptor unseen = Connect();
  }
  Drain();
  EXPECT_EQ(testing::OpenDescriptors(), descriptors);
}

TEST_F(SafeStream, OutlivesItsRing) {
  const int descriptors = testing::OpenDescriptors();
  std::optional<Stream<Descriptor>> connections;
  Descriptor client;
  {
    Ring ring = Make({.entries = 8});
    connections.emplace(ring.Start(AcceptMany{.socket = listener_.socket}));
    EXPECT_TRUE(ring.Submit());
    client = Connect();
    EXPECT_TRUE(ring.Wait(ring.Nop()));
  }
  ASSERT_TRUE(connections->ready());
  EXPECT_TRUE(connections->Take()->has_value());
  EXPECT_EQ(connections->Take()->error(), std::errc::operation_canceled);
  EXPECT_FALSE(connections->Take().has_value());
  connections.reset();
  client = Descriptor();
  EXPECT_EQ(testing::OpenDescriptors(), descriptors);
}

TEST_F(SafeStream, EndsWithTheRingWhileCallbacksWait) {
  const int descriptors = testing::OpenDescriptors();
  {
    Ring ring = Make({.entries = 8});
    auto counted = std::make_shared<int>(0);
    ring.Start(AcceptMany{.socket = listener_.socket})
        .ForEach([counted](std::optional<Result<Descriptor>>) { ++*counted; });
    EXPECT_TRUE(ring.Submit());
    EXPECT_EQ(counted.use_count(), 2);
    { const Ring ended = std::move(ring); }
    EXPECT_EQ(counted.use_count(), 1);
    EXPECT_EQ(*counted, 0);
  }
  EXPECT_EQ(testing::OpenDescriptors(), descriptors);
}

TEST_F(SafeStream, CallsBackUntilItIsToldToStop) {
  int taken = 0;
  bool destroyed = false;
  struct Sentinel {
    bool* flag;
    explicit Sentinel(bool* its) : flag(its) {}
    Sentinel(Sentinel&& other) noexcept
        : flag(std::exchange(other.flag, nullptr)) {}
    ~Sentinel() {
      if (flag != nullptr) *flag = true;
    }
  };
  ring_.Start(AcceptMany{.socket = listener_.socket})
      .ForEach([&taken, sentinel = Sentinel(&destroyed)](
                   std::optional<Result<Descriptor>> connection) {
        EXPECT_TRUE(connection.has_value() && connection->has_value());
        return ++taken < 3;
      });
  std::vector<Descriptor> clients;
  while (!destroyed) {
    clients.push_back(Connect());
    EXPECT_TRUE(ring_.Dispatch());
  }
  EXPECT_EQ(taken, 3);
  Drain();
}

// The callback waits for other operations of the ring, while items come in.
TEST_F(SafeStream, CallbacksMayWaitAndTheEndIsToldToThem) {
  std::vector<Descriptor> clients;
  int connections = 0, ends = 0;
  std::error_code error;
  auto stream = ring_.Start(AcceptMany{.socket = listener_.socket});
  const ownership::Record& record = stream.record();
  (void)record;
  std::move(stream).ForEach([&](std::optional<Result<Descriptor>> connection) {
    if (!connection.has_value()) {
      ++ends;
    } else if (!connection->has_value()) {
      error = connection->error();
    } else {
      ++connections;
      if (clients.size() < 4) clients.push_back(Connect());
      EXPECT_TRUE(ring_.Wait(ring_.Nop()));
      if (connections == 4) {
        EXPECT_EQ(ring_.Wait(ring_.CancelAll(listener_.socket)).value(), 1u);
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

TEST_F(SafeStream, StopsAtItsLimitOfUnreadItems) {
  const int descriptors = testing::OpenDescriptors();
  std::vector<Descriptor> clients;
  {
    auto connections = ring_.Start(AcceptMany{.socket = listener_.socket},
                                   {.unread_limit = 2});
    EXPECT_TRUE(ring_.Submit());
    for (int i = 0; i < 8; ++i) {
      clients.push_back(Connect());
      EXPECT_TRUE(ring_.Wait(ring_.Nop()));
    }
    // The clients and what was accepted by the time of the cancellation.
    EXPECT_LT(testing::OpenDescriptors(), descriptors + 8 + 5);
    for (int i = 0; i < 8; ++i) {
      EXPECT_TRUE(ring_.Next(connections)->has_value());
    }
  }
  clients.clear();
  Drain();
  EXPECT_EQ(testing::OpenDescriptors(), descriptors);
}

// Any coroutine type will do.
struct Task {
  struct promise_type {
    Task get_return_object() {
      return Task{std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::abort(); }
  };
  std::coroutine_handle<promise_type> handle;
};

Task AcceptThree(Stream<Descriptor>& connections, int& count) {
  while (count < 3) {
    auto connection = co_await connections.Next();
    EXPECT_TRUE(connection.has_value() && connection->has_value());
    ++count;
  }
}

TEST_F(SafeStream, CanBeAwaited) {
  auto connections = ring_.Start(AcceptMany{.socket = listener_.socket});
  int count = 0;
  const Task task = AcceptThree(connections, count);
  std::vector<Descriptor> clients;
  while (!task.handle.done()) {
    clients.push_back(Connect());
    EXPECT_TRUE(ring_.Dispatch());
  }
  EXPECT_EQ(count, 3);
  task.handle.destroy();
}

TEST_F(SafeStream, SurvivesTheCoroutineThatAwaitsIt) {
  auto connections = ring_.Start(AcceptMany{.socket = listener_.socket});
  int count = 0;
  const Task task = AcceptThree(connections, count);
  EXPECT_TRUE(ring_.Submit());
  const Descriptor first = Connect();
  EXPECT_TRUE(ring_.Wait(ring_.Nop()));
  task.handle.destroy();
  EXPECT_TRUE(ring_.Dispatch(milliseconds(0)));
  EXPECT_EQ(count, 0);
  EXPECT_TRUE(ring_.Next(connections)->has_value());
}

TEST_F(SafeStream, TheRingsEndLeavesACoroutineSuspended) {
  int count = 0;
  std::optional<Stream<Descriptor>> connections;
  std::optional<Task> task;
  {
    Ring ring = Make({.entries = 8});
    connections.emplace(ring.Start(AcceptMany{.socket = listener_.socket}));
    task.emplace(AcceptThree(*connections, count));
    EXPECT_TRUE(ring.Submit());
  }
  EXPECT_FALSE(task->handle.done());
  task->handle.destroy();
  EXPECT_EQ(count, 0);
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

TEST_F(SafeStream, PollsEachTime) {
  const Ends pipe;
  auto events = ring_.Start(PollMany{.file = pipe.read, .events = POLLIN});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(::write(pipe.write.number(), "x", 1), 1);
    EXPECT_EQ(ring_.Next(events)->value(), std::size_t{POLLIN});
    EXPECT_EQ(pipe.Content(), "x");
  }
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
}  // namespace escrow::safe
