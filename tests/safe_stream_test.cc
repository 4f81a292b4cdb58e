// Multishot operations: what comes more than once.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <deque>
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
  void Send() { clients.push_back(listener.Connect()); }
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

  void Drain() {
    while (ring_.in_flight() > 0) EXPECT_TRUE(ring_.Dispatch());
    EXPECT_EQ(ring_.unknown_completions(), 0u);
  }

  World world_;
  Listener listener_{world_};
  Ring ring_;
};

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
          if (clients.size() < 4) clients.push_back(listener_.Connect());
          EXPECT_TRUE(ring_.Wait(ring_.Nop()));
          if (connections == 4) {
            const auto found = ring_.Wait(ring_.CancelAll(listener_.socket));
            EXPECT_EQ(found.value(), 1u);
          }
        }
      });
  clients.push_back(listener_.Connect());
  while (ends == 0) EXPECT_TRUE(ring_.Dispatch());
  EXPECT_EQ(connections, 4);
  EXPECT_EQ(error, std::errc::operation_canceled);
  EXPECT_EQ(ends, 1);
  Drain();
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

// Each time that the kernel is entered it has gone off, and is not found.
TEST_F(SafeStream, TicksThatComeLateAreStoppedAtTheLimit) {
  constexpr std::size_t kLimit = 3;
  auto ticks =
      ring_.Start(Tick{.period = milliseconds(1)}, {.unread_limit = kLimit});
  int entered = 0;
  do {
    EXPECT_TRUE(ring_.Wait(ring_.Nop()));
    ::usleep(2000);
  } while (++entered < 100 && ring_.in_flight() > 0);
  EXPECT_EQ(ring_.in_flight(), 0u);
  std::size_t unread = 0;
  for (; ticks.ready(); ++unread) EXPECT_TRUE(ticks.Take()->has_value());
  EXPECT_GE(unread, kLimit);
  EXPECT_LT(unread, 2 * kLimit);
  // It goes on.
  EXPECT_TRUE(ring_.Next(ticks)->has_value());
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
}  // namespace escrow::safe::cases
