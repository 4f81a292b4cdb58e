// safe/poll.h: one suite for both that it is made of.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/poll.h"
#include "escrow/safe/result.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using escrow::testing::OpenDescriptors;
using escrow::testing::TemporaryFile;
using ownership::Descriptor;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// Until which something happens that has to.
constexpr std::chrono::seconds kLong(20);
// For which something does not happen that must not.
constexpr milliseconds kShort(20);

struct Backend {
  const char* name;
  Result<Poll> (*make)();
};

// Two connected sockets, not blocking.
struct Sockets : cases::Pair {
  Sockets() : Pair(SOCK_STREAM | SOCK_NONBLOCK) {}

  void Send() const { EXPECT_EQ(::write(there.number(), "x", 1), 1); }
  void Drain() const {
    char byte;
    while (::read(here.number(), &byte, 1) == 1) continue;
    EXPECT_EQ(errno, EAGAIN);
  }
};

class PollTest : public ::testing::TestWithParam<Backend> {
 protected:
  PollTest() {
    auto made = GetParam().make();
    EXPECT_TRUE(made.has_value()) << made.error().message();
    poll_.emplace(std::move(*made));
  }

  const Registry& registry() const { return poll_->registry(); }

  void Register(const Descriptor& file, std::uint64_t token,
                Interest interest = Interest::kReadable) {
    const auto registered =
        registry().Register(file.number(), Token{token}, interest);
    EXPECT_TRUE(registered.has_value()) << registered.error().message();
  }

  // The events that come, of one call.
  std::vector<Event> Wait(nanoseconds limit = kLong) {
    return Wait(events_, limit);
  }
  std::vector<Event> Wait(Events& events, nanoseconds limit) {
    auto waited = poll_->Wait(events, limit);
    // What the end of another ring leaves to do for this thread interrupts,
    // too.
    while (!waited && waited.error() == std::errc::interrupted) {
      waited = poll_->Wait(events, limit);
    }
    EXPECT_TRUE(waited.has_value()) << waited.error().message();
    return {events.begin(), events.end()};
  }
  // The only one that comes.
  Event WaitForOne() {
    const std::vector<Event> events = Wait();
    EXPECT_EQ(events.size(), 1u);
    return events.empty() ? Event(Token{999}, 0) : events[0];
  }
  ::testing::AssertionResult Quiet() {
    const std::vector<Event> events = Wait(kShort);
    if (events.empty()) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure()
           << "token " << static_cast<std::uint64_t>(events[0].token())
           << ", bits " << events[0].bits();
  }

  std::optional<Poll> poll_;
  Events events_{16};
};

// E1, E3: with nothing to wait for, the time passes, and not less of it.
TEST_P(PollTest, NoEventsAreATimeout) {
  for (const nanoseconds limit :
       {nanoseconds(0), nanoseconds(1), nanoseconds(milliseconds(3))}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(Wait(limit).empty());
    EXPECT_GE(std::chrono::steady_clock::now() - start, limit);
  }
}

// E4, E5
TEST_P(PollTest, TellsTheTokenOfWhatHappened) {
  const Sockets first;
  const Sockets second;
  Register(first.here, 10);
  Register(second.here, 20);
  EXPECT_TRUE(Quiet());
  second.Send();
  const Event event = WaitForOne();
  EXPECT_EQ(event.token(), Token{20});
  EXPECT_TRUE(event.is_readable());
  EXPECT_FALSE(event.is_writable());
  EXPECT_FALSE(event.is_error());
  EXPECT_FALSE(event.is_read_closed());
  first.Send();
  EXPECT_EQ(WaitForOne().token(), Token{10});
}

// What was there before counts as well; and a limit of 0 is enough for that.
TEST_P(PollTest, ZeroTakesWhatIsThere) {
  const Sockets sockets;
  sockets.Send();
  Register(sockets.here, 1);
  EXPECT_EQ(Wait(nanoseconds(0)).size(), 1u);
  EXPECT_TRUE(Quiet());
}

// E9: told once, and again when there is more.
TEST_P(PollTest, IsEdgeTriggered) {
  const Sockets sockets;
  Register(sockets.here, 1);
  sockets.Send();
  EXPECT_EQ(WaitForOne().token(), Token{1});
  EXPECT_TRUE(Quiet());
  sockets.Send();
  EXPECT_EQ(WaitForOne().token(), Token{1});
  sockets.Drain();
  EXPECT_TRUE(Quiet());
  sockets.Send();
  EXPECT_EQ(WaitForOne().token(), Token{1});
}

// What happens twice between two calls is one event.
TEST_P(PollTest, OneEventForEachFile) {
  const Sockets sockets;
  Register(sockets.here, 1, Interest::kReadable | Interest::kWritable);
  sockets.Send();
  EXPECT_TRUE(Wait(nanoseconds(0)).size() == 1);
  sockets.Drain();
  sockets.Send();
  sockets.Drain();
  sockets.Send();
  const Event event = WaitForOne();
  EXPECT_TRUE(event.is_readable());
}

// E3: at most as many as there is room for; the others come later. What is in
// `events` is replaced.
TEST_P(PollTest, MoreThanThereIsRoomFor) {
  std::vector<Sockets> sockets(5);
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    Register(sockets[i].here, i);
    sockets[i].Send();
  }
  Events two(2);
  EXPECT_EQ(two.capacity(), 2u);
  std::vector<int> seen(sockets.size());
  for (const std::size_t expected : {2u, 2u, 1u}) {
    EXPECT_EQ(Wait(two, kLong).size(), expected);
    for (const Event& event : two) {
      ++seen.at(static_cast<std::size_t>(event.token()));
    }
    // What has not been told yet happens once more, and is told once.
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      if (seen[i] == 0) sockets[i].Send();
    }
  }
  EXPECT_EQ(seen, std::vector<int>(5, 1));
  EXPECT_TRUE(Wait(two, kShort).empty());
  EXPECT_DEATH(Events(0), "Events without room for one");
}

// E3: what a signal interrupts says so.
TEST_P(PollTest, SignalsInterrupt) {
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  std::atomic<bool> stop = false;
  std::thread sender([&stop, thread = ::pthread_self()] {
    while (!stop.load()) {
      ::pthread_kill(thread, SIGUSR1);
      std::this_thread::sleep_for(milliseconds(5));
    }
  });
  const auto waited = poll_->Wait(events_);
  stop.store(true);
  sender.join();
  ASSERT_FALSE(waited.has_value());
  EXPECT_EQ(waited.error(), std::errc::interrupted);
  ASSERT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
}

TEST_P(PollTest, WhatCannotBeRegisteredSaysWhy) {
  const Sockets sockets;
  Register(sockets.here, 1);
  const int file = sockets.here.number();
  // E4
  EXPECT_EQ(registry().Register(file, Token{2}, Interest::kReadable).error(),
            std::errc::file_exists);
  const int other = sockets.there.number();
  EXPECT_EQ(registry().Reregister(other, Token{2}, Interest::kReadable).error(),
            std::errc::no_such_file_or_directory);
  EXPECT_EQ(registry().Deregister(other).error(),
            std::errc::no_such_file_or_directory);
  for (const int closed : {-1, 1'000'000}) {
    EXPECT_EQ(
        registry().Register(closed, Token{2}, Interest::kReadable).error(),
        std::errc::bad_file_descriptor);
    EXPECT_EQ(registry().Deregister(closed).error(),
              std::errc::bad_file_descriptor);
  }
  const TemporaryFile regular;
  const Descriptor always_ready = Descriptor::Adopt(regular.Open(O_RDONLY));
  EXPECT_EQ(registry()
                .Register(always_ready.number(), Token{2}, Interest::kReadable)
                .error(),
            std::errc::operation_not_permitted);
  // So is what can only be waited for in vain.
  const Descriptor null = Descriptor::Adopt(::open("/dev/null", O_RDWR));
  EXPECT_EQ(
      registry().Register(null.number(), Token{2}, Interest::kReadable).error(),
      std::errc::operation_not_permitted);
  // None of it has changed what is registered.
  sockets.Send();
  EXPECT_EQ(WaitForOne().token(), Token{1});
}

TEST_P(PollTest, ReregisteringChangesTokenAndInterest) {
  const Sockets sockets;
  Register(sockets.here, 1);
  sockets.Send();
  EXPECT_EQ(WaitForOne().token(), Token{1});
  // Again, for it is still readable.
  ASSERT_TRUE(registry().Reregister(sockets.here.number(), Token{2},
                                    Interest::kReadable));
  EXPECT_EQ(WaitForOne().token(), Token{2});
  ASSERT_TRUE(registry().Reregister(sockets.here.number(), Token{3},
                                    Interest::kWritable));
  const Event event = WaitForOne();
  EXPECT_EQ(event.token(), Token{3});
  EXPECT_TRUE(event.is_writable());
  EXPECT_FALSE(event.is_readable());
}

// The event of a token that is not in use any more does not come, although it
// happened before.
TEST_P(PollTest, DeregisteredIsNotTold) {
  const Sockets sockets;
  Register(sockets.here, 1);
  EXPECT_TRUE(Quiet());
  sockets.Send();
  ASSERT_TRUE(registry().Deregister(sockets.here.number()));
  EXPECT_TRUE(Quiet());
  EXPECT_EQ(registry().Deregister(sockets.here.number()).error(),
            std::errc::no_such_file_or_directory);
  // And can be registered again.
  Register(sockets.here, 2);
  EXPECT_EQ(WaitForOne().token(), Token{2});
  sockets.Send();
  ASSERT_TRUE(registry().Reregister(sockets.here.number(), Token{3},
                                    Interest::kPriority));
  EXPECT_TRUE(Quiet());
}

TEST_P(PollTest, WritableUntilFull) {
  const Sockets sockets;
  Register(sockets.here, 1, Interest::kWritable);
  EXPECT_TRUE(WaitForOne().is_writable());
  const std::string much(1 << 16, 'x');
  while (::write(sockets.here.number(), much.data(), much.size()) > 0) continue;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_TRUE(Quiet());
  std::string taken(1 << 22, ' ');
  EXPECT_GT(::read(sockets.there.number(), taken.data(), taken.size()), 0);
  EXPECT_TRUE(WaitForOne().is_writable());
}

// The ends of pipes and sockets, and how each says so.
TEST_P(PollTest, PipesTellTheirEnds) {
  cases::Ends first;
  Register(first.read, 1);
  first.write = Descriptor();
  Event event = WaitForOne();
  EXPECT_EQ(event.token(), Token{1});
  EXPECT_TRUE(event.is_read_closed());
  ASSERT_TRUE(registry().Deregister(first.read.number()));

  cases::Ends second;
  Register(second.write, 2, Interest::kWritable);
  EXPECT_FALSE(WaitForOne().is_write_closed());
  second.read = Descriptor();
  event = WaitForOne();
  EXPECT_EQ(event.token(), Token{2});
  EXPECT_TRUE(event.is_write_closed());
  EXPECT_TRUE(event.is_error());
}

TEST_P(PollTest, SocketsTellTheirEnds) {
  Sockets sockets;
  Register(sockets.here, 1);
  sockets.Send();
  EXPECT_FALSE(WaitForOne().is_read_closed());
  ASSERT_EQ(::shutdown(sockets.there.number(), SHUT_WR), 0);
  Event event = WaitForOne();
  EXPECT_TRUE(event.is_read_closed());
  EXPECT_TRUE(event.is_readable());
  EXPECT_FALSE(event.is_write_closed());
  sockets.there = Descriptor();
  event = WaitForOne();
  EXPECT_TRUE(event.is_read_closed());
  EXPECT_TRUE(event.is_write_closed());
}

TEST_P(PollTest, UrgentDataIsAPriority) {
  const cases::Tcp connection;
  Register(connection.there, 1, Interest::kPriority);
  EXPECT_TRUE(Quiet());
  ASSERT_EQ(::send(connection.here.number(), "!", 1, MSG_OOB), 1);
  EXPECT_TRUE(WaitForOne().is_priority());
}

// Polls may be nested: another one's descriptor is a file like others.
TEST_P(PollTest, WaitsForAnEpollInstance) {
  const Sockets sockets;
  const Descriptor epoll = Descriptor::Adopt(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event = {.events = EPOLLIN, .data = {.u64 = 0}};
  ASSERT_EQ(
      ::epoll_ctl(epoll.number(), EPOLL_CTL_ADD, sockets.here.number(), &event),
      0);
  Register(epoll, 7);
  EXPECT_TRUE(Quiet());
  sockets.Send();
  EXPECT_EQ(WaitForOne().token(), Token{7});
}

// A Source is registered as long as it is open, and closed at once.
TEST_P(PollTest, SourcesEndTheirRegistration) {
  // From its first wait on, a ring polls for posts, too, and an emulated one
  // has descriptors for that.
  EXPECT_TRUE(Quiet());
  const int before = OpenDescriptors();
  {
    Sockets sockets;
    const int number = sockets.here.number();
    Source source(std::move(sockets.here));
    EXPECT_EQ(source.Reregister(Token{1}, Interest::kReadable).error(),
              std::errc::no_such_file_or_directory);
    EXPECT_EQ(source.Deregister().error(),
              std::errc::no_such_file_or_directory);
    ASSERT_TRUE(source.Register(registry(), Token{1}, Interest::kReadable));
    EXPECT_EQ(
        source.Register(registry(), Token{2}, Interest::kReadable).error(),
        std::errc::file_exists);
    Source moved = std::move(source);
    ASSERT_TRUE(moved.Reregister(Token{3}, Interest::kReadable));
    sockets.Send();
    EXPECT_EQ(WaitForOne().token(), Token{3});
    moved = Source(Descriptor());

    // The other side learns of it, which needs the last reference to be gone.
    char byte;
    EXPECT_EQ(::recv(sockets.there.number(), &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNRESET);  // for what it had not read
    EXPECT_TRUE(Quiet());
    EXPECT_EQ(registry().Deregister(number).error(),
              std::errc::bad_file_descriptor);
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

// E8
TEST_P(PollTest, NothingStaysOpen) {
  poll_.reset();
  const int before = OpenDescriptors();
  {
    auto poll = GetParam().make();
    ASSERT_TRUE(poll);
    const Sockets sockets;
    ASSERT_TRUE(poll->registry().Register(sockets.here.number(), Token{1},
                                          Interest::kReadable));
    ASSERT_TRUE(poll->Wait(events_, nanoseconds(0)));
    Poll moved = std::move(*poll);
    sockets.Send();
    ASSERT_TRUE(moved.Wait(events_, kLong));
    EXPECT_EQ(events_.size(), 1u);
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

// A Registry that is left over says so.
TEST_P(PollTest, RegistriesMayOutliveIt) {
  const Sockets sockets;
  const Registry left = registry();
  ASSERT_TRUE(
      left.Register(sockets.here.number(), Token{1}, Interest::kReadable));
  poll_.reset();
  const int file = sockets.here.number();
  EXPECT_EQ(left.Register(file, Token{1}, Interest::kReadable).error(),
            std::errc::owner_dead);
  EXPECT_EQ(left.Reregister(file, Token{1}, Interest::kReadable).error(),
            std::errc::owner_dead);
  EXPECT_EQ(left.Deregister(file).error(), std::errc::owner_dead);
}

// E6: also while other threads use it, and there is nothing in between.
TEST_P(PollTest, EndsWhileOthersRegister) {
  for (int round = 0; round < 20; ++round) {
    auto poll = GetParam().make();
    ASSERT_TRUE(poll);
    std::atomic<int> running = 0;
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 3; ++i) {
      threads.emplace_back([&running, i, mine = poll->registry()] {
        const Sockets sockets;
        sockets.Send();
        const int file = sockets.here.number();
        ++running;
        Result<void> result;
        while (result) {
          result = mine.Register(file, Token{i}, Interest::kReadable);
          if (result) {
            result = mine.Reregister(file, Token{i}, Interest::kWritable);
          }
          if (result) result = mine.Deregister(file);
        }
        EXPECT_EQ(result.error(), std::errc::owner_dead);
      });
    }
    while (running < 3) {
      const auto waited = poll->Wait(events_, milliseconds(1));
      EXPECT_TRUE(waited || waited.error() == std::errc::interrupted);
    }
    EXPECT_TRUE(poll->Wait(events_, nanoseconds(0)).has_value());
    { const Poll ended = std::move(*poll); }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST_P(PollTest, MovedFromIsNotUsed) {
  const auto moved = [](auto use) {
    auto poll = GetParam().make();
    const Poll target = std::move(*poll);
    use(*poll);
  };
  EXPECT_DEATH(moved([](Poll& poll) {
                 Events events(1);
                 (void)poll.Wait(events);
               }),
               "a Poll that was moved from");
  EXPECT_DEATH(moved([](Poll& poll) {
                 (void)poll.registry().Register(0, Token{1},
                                                Interest::kReadable);
               }),
               "a Registry that was moved from");
  EXPECT_DEATH(moved([](Poll& poll) { (void)poll.registry().Deregister(0); }),
               "a Registry that was moved from");
}

// E6, E7: registered by another thread while this one waits.
TEST_P(PollTest, RegistersWhileItWaits) {
  const Sockets sockets;
  sockets.Send();
  std::thread other([&sockets, mine = registry()] {
    std::this_thread::sleep_for(kShort);
    EXPECT_TRUE(
        mine.Register(sockets.here.number(), Token{9}, Interest::kReadable));
  });
  EXPECT_EQ(WaitForOne().token(), Token{9});
  // Also when that thread is not there any more.
  other.join();
  sockets.Send();
  EXPECT_EQ(WaitForOne().token(), Token{9});
}

// E6: many threads at once, each with files of its own.
TEST_P(PollTest, RegistriesAreForManyThreads) {
  constexpr std::uint64_t kThreads = 4;
  constexpr int kRounds = 100;
  std::vector<Sockets> sockets(kThreads);
  std::atomic<int> running = kThreads;
  std::vector<std::atomic<int>> told(kThreads);
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i, mine = registry()] {
      const Sockets& its = sockets[i];
      for (int round = 0; round < kRounds; ++round) {
        const int file = its.here.number();
        const int seen = told[i].load();
        EXPECT_TRUE(mine.Register(file, Token{100}, Interest::kPriority));
        EXPECT_TRUE(mine.Reregister(file, Token{i}, Interest::kReadable));
        its.Send();
        while (told[i].load() == seen) std::this_thread::yield();
        its.Drain();
        EXPECT_TRUE(mine.Deregister(file));
      }
      --running;
    });
  }
  while (running.load() > 0) {
    for (const Event& event : Wait(milliseconds(1))) {
      ASSERT_LT(event.token(), Token{kThreads});
      ++told[static_cast<std::size_t>(event.token())];
    }
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(PollTest, WakersWake) {
  const auto waker = Waker::Create(registry(), Token{5});
  ASSERT_TRUE(waker) << waker.error().message();
  EXPECT_TRUE(Quiet());
  // Before the wait, once however often.
  ASSERT_TRUE(waker->Wake());
  ASSERT_TRUE(waker->Wake());
  EXPECT_EQ(WaitForOne().token(), Token{5});
  EXPECT_TRUE(Quiet());
  // While it waits.
  std::thread other([&waker] {
    std::this_thread::sleep_for(kShort);
    EXPECT_TRUE(waker->Wake());
  });
  EXPECT_EQ(WaitForOne().token(), Token{5});
  other.join();
}

TEST_P(PollTest, WakersWakeOnlyWhileTheyAreThere) {
  {
    const auto waker = Waker::Create(registry(), Token{5});
    ASSERT_TRUE(waker);
    ASSERT_TRUE(waker->Wake());
  }
  EXPECT_TRUE(Quiet());
}

INSTANTIATE_TEST_SUITE_P(All, PollTest,
                         ::testing::Values(Backend{"Ring", &Poll::OnRing},
                                           Backend{"Epoll", &Poll::OnEpoll}),
                         [](const auto& its) {
                           return std::string(its.param.name);
                         });

TEST(InterestTest, IsASet) {
  constexpr Interest kBoth = Interest::kReadable | Interest::kWritable;
  static_assert(Includes(kBoth, Interest::kReadable));
  static_assert(Includes(kBoth, kBoth));
  static_assert(!Includes(Interest::kReadable, kBoth));
  static_assert(Without(kBoth, Interest::kReadable) == Interest::kWritable);
  static_assert(Without(kBoth, Interest::kPriority) == kBoth);
  EXPECT_EQ(Without(Interest::kReadable, kBoth), std::nullopt);
}

// As mio has it.
TEST(EventTest, SaysWhatTheBitsMean) {
  using Says = std::map<std::string, bool>;
  const auto of = [](std::uint32_t bits) {
    const Event event(Token{1}, bits);
    Says says;
    says["readable"] = event.is_readable();
    says["writable"] = event.is_writable();
    says["priority"] = event.is_priority();
    says["error"] = event.is_error();
    says["read_closed"] = event.is_read_closed();
    says["write_closed"] = event.is_write_closed();
    std::erase_if(says, [](const auto& one) { return !one.second; });
    return says;
  };
  EXPECT_EQ(of(EPOLLIN), (Says{{"readable", true}}));
  EXPECT_EQ(of(EPOLLPRI), (Says{{"readable", true}, {"priority", true}}));
  EXPECT_EQ(of(EPOLLOUT), (Says{{"writable", true}}));
  EXPECT_EQ(of(EPOLLERR), (Says{{"error", true}, {"write_closed", true}}));
  EXPECT_EQ(of(EPOLLERR | EPOLLIN),
            (Says{{"error", true}, {"readable", true}}));
  EXPECT_EQ(
      of(EPOLLERR | EPOLLOUT),
      (Says{{"error", true}, {"writable", true}, {"write_closed", true}}));
  EXPECT_EQ(of(EPOLLHUP),
            (Says{{"read_closed", true}, {"write_closed", true}}));
  EXPECT_EQ(of(EPOLLIN | EPOLLRDHUP),
            (Says{{"readable", true}, {"read_closed", true}}));
  EXPECT_EQ(of(EPOLLRDHUP), Says());
}

}  // namespace
}  // namespace escrow::safe
