// Multishot operations: what comes more than once.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"
#include "escrow/safe/stream_ops.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using cases::Ends;
using cases::Listener;
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

}  // namespace
}  // namespace escrow::safe
