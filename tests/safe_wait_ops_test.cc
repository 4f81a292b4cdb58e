// The ops of wait_ops.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/wait_ops.h"
#include "tests/allocations.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

struct TimeoutCase {
  static constexpr const char* kName = "Timeout";
  static constexpr const char* kCall = "timeout";

  auto Good() { return Timeout{.time = milliseconds(1)}; }
  void Expect(Result<void>) {}
  auto Bad() {
    return Timeout{.time = milliseconds(1), .clock = CLOCK_THREAD_CPUTIME_ID};
  }
  static constexpr int kError = EINVAL;
};

struct PollCase {
  Ends full{"x"};
  Ends empty;
  static constexpr const char* kName = "Poll";
  static constexpr const char* kCall = "poll";

  auto Good() { return PollOnce{.file = full.read, .events = POLLIN}; }
  void Expect(Result<std::uint32_t> events) { EXPECT_EQ(*events, POLLIN); }
  auto Waits() {
    return PollOnce{.file = empty.read, .events = POLLIN | POLLPRI};
  }
  void EndWait() { EXPECT_EQ(::write(empty.write.number(), "x", 1), 1); }
  void ExpectWaited(Result<std::uint32_t> events) {
    EXPECT_EQ(*events, POLLIN);
  }
  // Nobody's number.
  auto Bad() {
    return PollOnce{.file = Descriptor::Permanent(1 << 30), .events = POLLIN};
  }
  static constexpr int kError = EBADF;
};

Descriptor Epoll() { return Descriptor::Adopt(::epoll_create1(EPOLL_CLOEXEC)); }

struct EpollControlCase {
  Ends pipe{"x"};
  Descriptor epoll = Epoll();
  static constexpr const char* kName = "EpollControl";
  static constexpr const char* kCall = "epoll_ctl";

  auto Good() {
    return EpollControl{.epoll = epoll,
                        .file = pipe.read,
                        .event = {.events = EPOLLIN, .data = {.u64 = 42}}};
  }
  void Expect(Result<void>) {
    epoll_event event = {};
    EXPECT_EQ(::epoll_wait(epoll.number(), &event, 1, 0), 1);
    EXPECT_EQ(std::uint64_t{event.data.u64}, 42u);
  }
  auto Bad() {
    return EpollControl{
        .epoll = epoll, .operation = EPOLL_CTL_DEL, .file = pipe.read};
  }
  static constexpr int kError = ENOENT;
};

struct EpollWaitCase {
  Ends full{"x"};
  Ends empty;
  Descriptor epoll = Epoll();
  static constexpr const char* kName = "EpollWait";
  static constexpr const char* kCall = "epoll_wait";

  void Watch(const Ends& pipe, std::uint64_t data) {
    epoll_event event = {.events = EPOLLIN, .data = {.u64 = data}};
    EXPECT_EQ(
        ::epoll_ctl(epoll.number(), EPOLL_CTL_ADD, pipe.read.number(), &event),
        0);
  }
  auto Good() {
    Watch(full, 7);
    return EpollWait<std::vector<epoll_event>>{
        .epoll = epoll, .events = std::vector<epoll_event>(3)};
  }
  // Linux 6.15 has it.
  bool Possible() {
    auto ring = Ring::Create({.entries = 8});
    const auto outcome = ring->Wait(ring->Start(Good()));
    return outcome.result.has_value();
  }
  void Expect(Transfer<std::vector<epoll_event>> waited) {
    EXPECT_EQ(*waited.result, 1u);
    EXPECT_EQ(std::uint64_t{waited.buffer.at(0).data.u64}, 7u);
  }
  auto Waits() {
    Watch(empty, 8);
    return EpollWait<std::array<epoll_event, 2>>{.epoll = epoll, .events = {}};
  }
  void EndWait() { EXPECT_EQ(::write(empty.write.number(), "x", 1), 1); }
  void ExpectWaited(Transfer<std::array<epoll_event, 2>> waited) {
    EXPECT_EQ(*waited.result, 1u);
    EXPECT_EQ(std::uint64_t{waited.buffer[0].data.u64}, 8u);
  }
  auto Bad() {
    return EpollWait<std::vector<epoll_event>>{.epoll = epoll, .events = {}};
  }
  static constexpr int kError = EINVAL;
};

// A process that ends with status 7 when it is told to.
class Child {
 public:
  Child() {
    const escrow::testing::Pipe pipe;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(pipe.write_end);
      char byte;
      (void)!::read(pipe.read_end, &byte, 1);
      ::_exit(7);
    }
    EXPECT_GT(pid_, 0);
    ::close(pipe.read_end);
    life_ = Descriptor::Adopt(pipe.write_end);
    EXPECT_EQ(::fcntl(life_.number(), F_SETFD, FD_CLOEXEC), 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    ::kill(pid_, SIGKILL);
    // Unless an operation took it off the table.
    (void)::waitpid(pid_, nullptr, 0);
  }

  ::pid_t pid() const { return pid_; }
  void End() { life_ = Descriptor(); }
  Descriptor Pidfd(unsigned flags = 0) const {
    return Descriptor::Adopt(
        static_cast<int>(::syscall(SYS_pidfd_open, pid_, flags)));
  }
  void ExpectEnded(const ::siginfo_t& info) const {
    EXPECT_EQ(info.si_pid, pid_);
    EXPECT_EQ(info.si_code, CLD_EXITED);
    EXPECT_EQ(info.si_status, 7);
    EXPECT_EQ(::waitpid(pid_, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
  }

 private:
  ::pid_t pid_;
  Descriptor life_;
};

struct WaitIdCase {
  Child child;
  static constexpr const char* kName = "WaitId";
  static constexpr const char* kCall = "waitid";

  auto Good() {
    child.End();
    return Waits();
  }
  void Expect(Result<::siginfo_t> info) { child.ExpectEnded(*info); }
  WaitId Waits() {
    return {.type = P_PID, .id = static_cast<::id_t>(child.pid())};
  }
  void EndWait() { child.End(); }
  void ExpectWaited(Result<::siginfo_t> info) { child.ExpectEnded(*info); }
  // Not a child.
  auto Bad() { return WaitId{.type = P_PID, .id = 1}; }
  static constexpr int kError = ECHILD;
};

struct WaitPidfdCase {
  World world;
  Child child;
  static constexpr const char* kName = "WaitPidfd";
  static constexpr const char* kCall = "waitid";

  auto Good() {
    child.End();
    return Waits();
  }
  void Expect(Result<::siginfo_t> info) { child.ExpectEnded(*info); }
  WaitPidfd Waits() { return {.process = child.Pidfd()}; }
  void EndWait() { child.End(); }
  void ExpectWaited(Result<::siginfo_t> info) { child.ExpectEnded(*info); }
  auto Bad() { return WaitPidfd{.process = world.OpenFile()}; }
  static constexpr int kError = EBADF;
};

using Cases = ::testing::Types<TimeoutCase, PollCase, EpollControlCase,
                               EpollWaitCase, WaitIdCase, WaitPidfdCase>;
ESCROW_OP_CASES(Wait, Cases);

// What a row cannot say.

class SafeWaitOps : public ::testing::Test {
 protected:
  static constexpr clockid_t kClocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME,
                                          CLOCK_REALTIME};

  static nanoseconds Now(clockid_t clock) {
    timespec now = {};
    EXPECT_EQ(::clock_gettime(clock, &now), 0);
    return std::chrono::seconds(now.tv_sec) + nanoseconds(now.tv_nsec);
  }

  // What has to have happened by the time that nothing else has.
  void LetPass() { EXPECT_TRUE(ring_.Wait(ring_.Nop())); }

  Ring ring_ = *Ring::Create({.entries = 8});
};

// The clocks are years apart, so that the wrong one shows.
TEST_F(SafeWaitOps, TimesByEveryClock) {
  for (const clockid_t clock : kClocks) {
    for (const bool absolute : {false, true}) {
      const nanoseconds from = absolute ? Now(clock) : nanoseconds(0);
      const nanoseconds start = Now(clock);
      EXPECT_TRUE(ring_.Wait(ring_.Start(Timeout{.time = from + milliseconds(2),
                                                 .absolute = absolute,
                                                 .clock = clock})));
      EXPECT_GE(Now(clock) - start, milliseconds(absolute ? 0 : 2));
      auto late = ring_.Start(Timeout{
          .time = from + hours(1), .absolute = absolute, .clock = clock});
      LetPass();
      EXPECT_FALSE(late.done());
    }
    // Long ago.
    EXPECT_TRUE(ring_.Wait(ring_.Start(
        Timeout{.time = nanoseconds(-1), .absolute = true, .clock = clock})));
  }
}

TEST_F(SafeWaitOps, TimeoutThatWaitsIsCancelled) {
  auto timeout = ring_.Start(Timeout{.time = hours(1)});
  LetPass();
  EXPECT_TRUE(ring_.Wait(ring_.Cancel(timeout)));
  EXPECT_EQ(ring_.Wait(std::move(timeout)).error(),
            std::errc::operation_canceled);
  (void)ring_.Start(Timeout{.time = hours(1)});
  EXPECT_TRUE(ring_.Submit());
  while (ring_.in_flight() > 0) EXPECT_TRUE(ring_.Dispatch());
}

// One that comes is no failure, which would end a chain.
TEST_F(SafeWaitOps, ChainGoesOnBehindATimeout) {
  const Ends pipe;
  auto [timeout, write] = ring_.WaitAll(ring_.Start(
      Chain(Timeout{.time = milliseconds(1)},
            Write<std::string>{.file = pipe.write, .buffer = "x"})));
  EXPECT_TRUE(timeout);
  EXPECT_TRUE(write.result);
  EXPECT_EQ(pipe.Content(), "x");
}

TEST_F(SafeWaitOps, TimeoutsAreUpdated) {
  for (const clockid_t clock : kClocks) {
    for (const bool absolute : {false, true}) {
      auto timeout = ring_.Start(Timeout{.time = hours(1), .clock = clock});
      const auto update = [&](nanoseconds time) {
        return UpdateTimeout{.timeout = timeout,
                             .time = absolute ? Now(clock) + time : time,
                             .absolute = absolute};
      };
      EXPECT_TRUE(ring_.Wait(ring_.Start(update(hours(2)))));
      LetPass();
      EXPECT_FALSE(timeout.done());
      EXPECT_TRUE(ring_.Wait(ring_.Start(update(milliseconds(1)))));
      EXPECT_TRUE(ring_.Wait(std::move(timeout)));
    }
  }
  // That of the ring's member, too.
  auto timeout = ring_.Timeout(hours(1));
  EXPECT_TRUE(ring_.Wait(
      ring_.Start(UpdateTimeout{.timeout = timeout, .time = milliseconds(1)})));
  EXPECT_TRUE(ring_.Wait(std::move(timeout)));
}

TEST_F(SafeWaitOps, UpdatesOfWhatIsNotThere) {
  auto done = ring_.Timeout(milliseconds(0));
  while (!done.done()) LetPass();
  UpdateTimeout late{.timeout = done, .time = milliseconds(1)};
  EXPECT_EQ(ring_.Wait(ring_.Start(late)).error(),
            std::errc::no_such_file_or_directory);
  // Its record is the next one's, which is another operation.
  EXPECT_TRUE(std::move(done).Take());
  auto next = ring_.Timeout(hours(1));
  EXPECT_EQ(ring_.Wait(ring_.Start(late)).error(),
            std::errc::no_such_file_or_directory);
  LetPass();
  EXPECT_FALSE(next.done());
  // Not a timeout.
  auto other = ring_.Nop();
  const auto wrong = ring_.Wait(
      ring_.Start(UpdateTimeout{.timeout = other, .time = milliseconds(1)}));
  EXPECT_EQ(wrong.error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(wrong.error().message(),
            "timeout update: No such file or directory");
}

TEST_F(SafeWaitOps, PollsAreUpdated) {
  const Ends pipe("x");
  auto poll = ring_.Start(PollOnce{.file = pipe.read, .events = POLLPRI});
  LetPass();
  EXPECT_FALSE(poll.done());
  EXPECT_TRUE(
      ring_.Wait(ring_.Start(UpdatePoll{.poll = poll, .events = POLLIN})));
  EXPECT_EQ(ring_.Wait(std::move(poll)).value(), std::uint32_t{POLLIN});

  // To what is not there yet.
  const Ends empty;
  auto waiting = ring_.Start(PollOnce{.file = empty.read, .events = POLLPRI});
  EXPECT_TRUE(
      ring_.Wait(ring_.Start(UpdatePoll{.poll = waiting, .events = POLLIN})));
  LetPass();
  EXPECT_FALSE(waiting.done());
  EXPECT_EQ(::write(empty.write.number(), "x", 1), 1);
  UpdatePoll late{.poll = waiting, .events = POLLIN};
  EXPECT_EQ(ring_.Wait(std::move(waiting)).value(), std::uint32_t{POLLIN});
  EXPECT_EQ(ring_.Wait(ring_.Start(late)).error(),
            std::errc::no_such_file_or_directory);
}

TEST_F(SafeWaitOps, UpdatesAllocateNothing) {
  const Ends pipe;
  auto timeout = ring_.Timeout(hours(1));
  auto poll = ring_.Start(PollOnce{.file = pipe.read, .events = POLLPRI});
  std::size_t before = 0;
  // The first ones make the pools.
  for (const bool counted : {false, true}) {
    if (counted) before = escrow::testing::Allocations();
    EXPECT_TRUE(ring_.Wait(
        ring_.Start(UpdateTimeout{.timeout = timeout, .time = hours(2)})));
    EXPECT_TRUE(
        ring_.Wait(ring_.Start(UpdatePoll{.poll = poll, .events = POLLIN})));
  }
  EXPECT_EQ(escrow::testing::Allocations(), before);
}

TEST_F(SafeWaitOps, DroppedUpdatesLeaveNothing) {
  const Ends pipe;
  auto timeout = ring_.Timeout(hours(1));
  auto poll = ring_.Start(PollOnce{.file = pipe.read, .events = POLLPRI});
  (void)ring_.Start(UpdateTimeout{.timeout = timeout, .time = hours(2)});
  (void)ring_.Start(UpdatePoll{.poll = poll, .events = POLLIN});
  LetPass();
  (void)ring_.Start(UpdateTimeout{.timeout = timeout, .time = hours(2)});
  (void)ring_.Start(UpdatePoll{.poll = poll, .events = POLLIN});
  EXPECT_TRUE(ring_.Submit());
  LetPass();
  EXPECT_EQ(ring_.in_flight(), 2u);
  EXPECT_EQ(ring_.unknown_completions(), 0u);
}

TEST(SafeWaitOpsDeathTest, UpdatesOfAnotherRingsOperation) {
  EXPECT_DEATH(WithOwnRing([](Ring& ring) {
                 WithOwnRing([&](Ring& other) {
                   auto timeout = other.Timeout(hours(1));
                   (void)ring.Start(UpdateTimeout{.timeout = timeout});
                 });
               }),
               "an update of another ring's operation");
}

// An abandoned wait leaves the child to others, one that was done does not.
TEST_F(SafeWaitOps, ChildrenOfAbandonedWaits) {
  Child child;
  (void)ring_.Start(
      WaitId{.type = P_PID, .id = static_cast<::id_t>(child.pid())});
  {
    auto waiting = ring_.Start(WaitPidfd{.process = child.Pidfd()});
    LetPass();
  }
  while (ring_.in_flight() > 0) EXPECT_TRUE(ring_.Dispatch());
  child.End();
  const auto info = ring_.Wait(ring_.Start(
      WaitPidfd{.process = child.Pidfd(), .options = WEXITED | WNOWAIT}));
  ASSERT_TRUE(info);
  EXPECT_EQ(info->si_status, 7);
  const auto again = ring_.Wait(ring_.Start(WaitId{.type = P_ALL}));
  ASSERT_TRUE(again);
  child.ExpectEnded(*again);
}

TEST_F(SafeWaitOps, WaitsThatDoNotWait) {
  const Child child;
  const auto nothing =
      ring_.Wait(ring_.Start(WaitId{.type = P_PID,
                                    .id = static_cast<::id_t>(child.pid()),
                                    .options = WEXITED | WNOHANG}));
  ASSERT_TRUE(nothing);
  EXPECT_EQ(nothing->si_pid, 0);
  constexpr unsigned kNonblocking = O_NONBLOCK;  // PIDFD_NONBLOCK
  const auto still_nothing =
      ring_.Wait(ring_.Start(WaitPidfd{.process = child.Pidfd(kNonblocking)}));
  ASSERT_TRUE(still_nothing);
  EXPECT_EQ(still_nothing->si_pid, 0);
}

// Both are kept open until the kernel has looked them up.
TEST_F(SafeWaitOps, EpollControlHoldsBothFiles) {
  Descriptor epoll = Epoll();
  Ends pipe("x");
  auto control =
      ring_.Start(EpollControl{.epoll = epoll,
                               .file = pipe.read,
                               .event = {.events = EPOLLIN, .data = {}}});
  const Descriptor watching = *epoll.Duplicate();
  const int number = epoll.number(), read_number = pipe.read.number();
  epoll = Descriptor();
  const Descriptor keeps = *pipe.read.Duplicate();
  pipe.read = Descriptor();
  EXPECT_EQ(::fcntl(number, F_GETFD), FD_CLOEXEC);
  EXPECT_GE(::fcntl(read_number, F_GETFD), 0);
  EXPECT_TRUE(ring_.Wait(std::move(control)));
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
  EXPECT_EQ(::fcntl(read_number, F_GETFD), -1);
  epoll_event event = {};
  EXPECT_EQ(::epoll_wait(watching.number(), &event, 1, 0), 1);
}

static_assert(EpollEvents<std::vector<epoll_event>> &&
              EpollEvents<ownership::Array<epoll_event>>);
static_assert(!EpollEvents<std::vector<char>> && !EpollEvents<epoll_event*>);
template <typename T>
concept IsTimeout = requires(T operation) {
  UpdateTimeout{.timeout = operation};
};
static_assert(IsTimeout<Operation<Result<void>>&> &&
              !IsTimeout<Operation<Result<std::uint32_t>>&> &&
              !IsTimeout<std::uint64_t>);

}  // namespace
}  // namespace escrow::safe::cases
