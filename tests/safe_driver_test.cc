// safe/driver.h

#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/registered_buffer.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/driven_file.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/raw_access.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/vector_ops.h"
#include "escrow/safe/wait_ops.h"
#include "tests/safe_driver_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using cases::Counted;
using cases::DescriptorsAtRest;
using cases::DriverTest;
using cases::Ends;
using cases::Local;
using cases::RunAndWait;
using cases::Shared;
using cases::Sources;
using cases::Task;
using escrow::testing::OpenDescriptors;
using escrow::testing::TemporaryFile;
using ownership::Buffer;
using ownership::Descriptor;

TYPED_TEST_SUITE(DriverTest, Sources);

static_assert(Driver<LocalDriver> && Driver<SharedDriver>);

// R13
TYPED_TEST(DriverTest, TheBufferComesBackOnSuccessAndOnError) {
  TypeParam source;
  const Ends pipe;
  pipe.Put("abc");
  auto [size, buffer] = this->ReadOf(source, pipe.read, "....").Wait();
  EXPECT_EQ(size, 3u);
  EXPECT_EQ(buffer, "abc.");
  std::tie(size, buffer) = [&] {
    auto outcome = this->ReadOf(source, pipe.write, "kept").Wait();
    return std::pair(outcome.result, outcome.buffer);
  }();
  EXPECT_EQ(size.error(), std::errc::bad_file_descriptor);
  EXPECT_EQ(buffer, "kept");
}

// R13, R5: in a coroutine, whether it is done before or after it is awaited.
template <typename Source>
Task Await(Source& source, const Ends& pipe, std::atomic<int>& got) {
  auto early = DriverTest<Source>::ReadOf(source, pipe.read, "....");
  early.Start();
  got = 1;
  auto [first, buffer] = co_await std::move(early);
  EXPECT_EQ(first, 3u);
  auto [second, again] =
      co_await DriverTest<Source>::ReadOf(source, pipe.read, std::move(buffer));
  EXPECT_EQ(second, 2u);
  EXPECT_EQ(again, "dec.");
  got = 2;
}
TYPED_TEST(DriverTest, CoroutinesAreResumed) {
  const Ends pipe;
  TypeParam source;
  std::atomic<int> got = 0;
  Await(source, pipe, got);
  EXPECT_EQ(got, 1);
  pipe.Put("abc");
  char left = 'x';
  source.Until([&] {
    // Not before the first one is read.
    if (left == 'x') {
      int unread = 1;
      EXPECT_EQ(::ioctl(pipe.read.number(), FIONREAD, &unread), 0);
      if (unread == 0) {
        left = 0;
        pipe.Put("de");
      }
    }
    return got == 2;
  });
}

// R11: what is done before it is awaited goes on at once.
TYPED_TEST(DriverTest, DoneIsNotWaitedFor) {
  const Ends pipe;
  TypeParam source;
  pipe.Put("abc");
  auto read = this->ReadOf(source, pipe.read, "...");
  read.Start();
  source.Until([&] { return read.done(); });
  bool resumed = false;
  [](auto submission, bool& flag) -> Task {
    auto [size, bytes] = co_await std::move(submission);
    EXPECT_EQ(size, 3u);
    EXPECT_EQ(bytes, "abc");
    flag = true;
  }(std::move(read), resumed);
  EXPECT_TRUE(resumed);
}

// R20: what is prepared becomes started, once; and moves meanwhile.
TYPED_TEST(DriverTest, StartsOnceAndMovesInFlight) {
  const Ends pipe;
  TypeParam source;
  std::atomic<int> made = 0;
  auto read = Perform(source.driver(), [&] {
    ++made;
    return Read<std::string>{.file = pipe.read, .buffer = "..."};
  });
  source.Until([&] { return true; });
  EXPECT_EQ(made, 0);
  read.Start();
  read.Start(/*eager=*/true);
  auto moved = std::make_unique<decltype(read)>(std::move(read));
  pipe.Put("abc");
  EXPECT_EQ(std::move(*moved).Wait().buffer, "abc");
  EXPECT_EQ(made, 1);
}

// R1, R19: what has no permit waits, in order; and one that is dropped while it
// waits takes nobody's turn.
TYPED_TEST(DriverTest, PermitsBoundWhatIsInFlight) {
  const Ends pipe;
  const Ends other;
  TypeParam source(1);
  auto first = this->ReadOf(source, pipe.read, "1");
  auto dropped =
      std::make_unique<decltype(first)>(this->ReadOf(source, other.read, "x"));
  auto second = this->ReadOf(source, other.read, "2");
  first.Start();
  dropped->Start();
  second.Start();
  RunAndWait(source, [](Ring& ring) { EXPECT_EQ(ring.in_flight(), 1u); });
  dropped.reset();
  other.Put("b");
  RunAndWait(source, [](Ring& ring) { EXPECT_EQ(ring.in_flight(), 1u); });
  EXPECT_FALSE(second.done());
  pipe.Put("a");
  EXPECT_EQ(std::move(second).Wait().buffer, "b");
  EXPECT_EQ(std::move(first).Wait().buffer, "a");
  // All came back, the dropped one's too.
  pipe.Put("c");
  EXPECT_EQ(this->ReadOf(source, pipe.read, "3").Wait().buffer, "c");
}

// R6, R7: what is dropped in flight is kept until the kernel is done, and freed
// once.
TYPED_TEST(DriverTest, DroppedInFlightIsParked) {
  std::atomic<int> alive = 0;
  const Ends pipe;
  TypeParam source;
  for (const bool parked : {true, false}) {
    std::optional read =
        Perform(source.driver(), [&pipe, bytes = Counted(alive)]() mutable {
          return Read<Counted>{.file = pipe.read, .buffer = std::move(bytes)};
        });
    EXPECT_EQ(alive, 1);
    if (parked) {
      read->Start();
      RunAndWait(source, [](Ring& ring) { EXPECT_EQ(ring.in_flight(), 1u); });
      RunAndWait(source, [&](Ring&) {
        read.reset();
        EXPECT_EQ(alive, 1);
      });
    } else {
      read.reset();  // never started
    }
    source.Until([&] { return alive == 0; });
  }
  // Cancelled, so that nothing is taken from who comes next.
  RunAndWait(source, [](Ring&) {});
  pipe.Put("abc");
  EXPECT_EQ(this->ReadOf(source, pipe.read, "...").Wait().buffer, "abc");
}

// What is dropped before its turn owns nothing any more while it waits for it;
// and however many there are, the end of all of them is no deeper than of one.
TYPED_TEST(DriverTest, DroppedBeforeTheirTurn) {
  const Ends pipe;
  TypeParam source(1);
  const auto count_of = [&](std::atomic<int>& alive) {
    return Perform(source.driver(), [&pipe, bytes = Counted(alive)]() mutable {
      return Read<Counted>{.file = pipe.read, .buffer = std::move(bytes)};
    });
  };
  auto blocked = this->ReadOf(source, pipe.read, "...");
  blocked.Start();
  std::atomic<int> alive = 0;
  for (int i = 0; i < 50'000; ++i) count_of(alive).Start();
  RunAndWait(source, [](Ring&) {});
  EXPECT_EQ(alive, 0);
  auto last = this->ReadOf(source, pipe.read, "...");
  last.Start();
  pipe.Put("abc");
  EXPECT_EQ(std::move(blocked).Wait().buffer, "abc");
  pipe.Put("def");
  EXPECT_EQ(std::move(last).Wait().buffer, "def");
}

// Cancelled again, until it is, what the kernel did not find: this is linked
// behind a request that goes on.
TYPED_TEST(DriverTest, CancelsAgainWhatCouldNotBe) {
  const Ends first;
  const Ends second;
  std::atomic<int> alive = 0;
  std::atomic<int> went_on = 0;
  TypeParam source;
  auto handler = [&](const io_uring_cqe&) { ++went_on; };
  std::optional<RawAccess> access;
  RunAndWait(source, [&](Ring& ring) { access.emplace(ring, handler); });
  std::optional read =
      Perform(source.driver(), [&, bytes = Counted(alive)]() mutable {
        access->ring().Push(
            raw::PollAdd{.fd = first.read.number(), .events = POLLIN},
            /*user_data=*/1, IOSQE_IO_LINK);
        return Read<Counted>{.file = second.read, .buffer = std::move(bytes)};
      });
  read->Start();
  RunAndWait(source, [](Ring& ring) { EXPECT_EQ(ring.in_flight(), 1u); });
  read.reset();
  // That is asked for by the time of what comes behind it.
  const auto pass = [&] {
    (void)Perform(source.driver(), [] {
      return Timeout{.time = std::chrono::milliseconds(5)};
    }).Wait();
  };
  pass();
  EXPECT_EQ(alive, 1);
  first.Put("x");
  for (int i = 0; i < 2000 && alive != 0; ++i) pass();
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(went_on, 1);
  second.Put("x");  // ends it in any case
  source.Until([&] { return alive == 0; });
  RunAndWait(source, [&](Ring&) { access.reset(); });
}

// R7, R21: a coroutine that is destroyed while it awaits, and what a dropped
// one opens is closed.
TYPED_TEST(DriverTest, DroppedLeavesNothingOpen) {
  const TemporaryFile file("x");
  const Ends pipe;
  TypeParam source;
  (void)source.driver();
  RunAndWait(source, [](Ring&) {});
  const int before = DescriptorsAtRest();
  std::atomic<int> got = 0;
  Task task = Await(source, pipe, got);
  RunAndWait(source, [&](Ring&) { task.frame.destroy(); });
  for (int i = 0; i < 20; ++i) {
    auto opened = DrivenFile::Open(source.driver(), file.path());
    if (i % 4 != 0) opened.Start(i % 4 == 1);
    if (i % 4 == 2) source.Until([&] { return opened.done(); });
  }
  source.Until([&] { return OpenDescriptors() <= before; });
}

// R20 (double free when cancelled, a lock dropped after its memory): dropped at
// any time, and with everything that is in flight then.
TYPED_TEST(DriverTest, EndsWithItsHandles) {
  const Ends pipe;
  std::atomic<int> alive = 0;
  const int before = DescriptorsAtRest();
  {
    std::optional<Submission<Transfer<Counted>>> late;
    TypeParam source(2);
    std::vector<Submission<Transfer<Counted>>> reads;
    for (int i = 0; i < 5; ++i) {
      reads.push_back(
          Perform(source.driver(), [&pipe, bytes = Counted(alive)]() mutable {
            return Read<Counted>{.file = pipe.read, .buffer = std::move(bytes)};
          }));
      if (i != 3) reads.back().Start();
    }
    reads.pop_back();
    if (std::is_same_v<TypeParam, Local>) {
      late.emplace(std::move(reads.front()));
    } else {
      reads.front() = std::move(reads.back());
    }
  }
  for (int i = 0; i < 5000 && (alive != 0 || OpenDescriptors() > before); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(alive, 0);
  EXPECT_LE(OpenDescriptors(), before);
}

// R15: the outcome of what the end of a ring ends is there.
TEST(LocalDriverTest, OutcomesOutliveTheRing) {
  const Ends pipe;
  auto source = std::make_unique<Local>();
  auto read = DriverTest<Local>::ReadOf(*source, pipe.read, "kept");
  read.Start();
  source.reset();
  ASSERT_TRUE(read.done());
  auto [size, buffer] = std::move(read).Wait();
  EXPECT_EQ(size.error(), std::errc::operation_canceled);
  EXPECT_EQ(buffer, "kept");
}

// So is a file that was opened and that nobody has taken.
TEST(LocalDriverTest, ObjectsInOutcomesOutliveTheRing) {
  const TemporaryFile file("x");
  const int before = DescriptorsAtRest();
  auto source = std::make_unique<Local>();
  auto taken = DrivenFile::Open(source->driver(), file.path());
  std::optional dropped = DrivenFile::Open(source->driver(), file.path());
  taken.Start();
  dropped->Start();
  source->Until([&] { return taken.done() && dropped->done(); });
  source.reset();
  EXPECT_TRUE(std::move(taken).Wait());
  dropped.reset();
  EXPECT_EQ(OpenDescriptors(), before);
}

// R2
TEST(LocalDriverTest, EagerIsSubmittedAtOnce) {
  const Ends pipe;
  Local source;
  const auto write_of = [&] {
    return Perform(source.driver(), [&] {
      return Write<std::string>{.file = pipe.write, .buffer = "abc"};
    });
  };
  auto lazy = write_of();
  lazy.Start();
  int unread = -1;
  ASSERT_EQ(::ioctl(pipe.read.number(), FIONREAD, &unread), 0);
  EXPECT_EQ(unread, 0);
  auto eager = write_of();
  eager.Start(/*eager=*/true);
  char bytes[6];
  EXPECT_EQ(::read(pipe.read.number(), bytes, sizeof(bytes)), 6);
  EXPECT_EQ(std::move(lazy).Wait().result, 3u);
  EXPECT_EQ(std::move(eager).Wait().result, 3u);
}

// R1: a driver of somebody else's; each permit comes back.
class CountingDriver {
 public:
  struct Counts {
    int jobs = 0;
    int reserved = 0;
    int released = 0;
  };
  CountingDriver(const LocalDriver& inner, Counts& counts)
      : inner_(inner), counts_(&counts) {}
  void Run(std::unique_ptr<DriverJob> job, bool eager) const {
    ++counts_->jobs;
    inner_.Run(std::move(job), eager);
  }
  void Block(const std::atomic<std::uint32_t>& word, std::uint32_t end) const {
    inner_.Block(word, end);
  }
  bool Reserve(std::shared_ptr<DriverWaker> waker) const {
    ++counts_->reserved;
    return inner_.Reserve(std::move(waker));
  }
  void Release() const {
    ++counts_->released;
    inner_.Release();
  }
  void RingEnded() const { inner_.RingEnded(); }

 private:
  LocalDriver inner_;
  Counts* counts_;
};
TEST(LocalDriverTest, DriversCanBeYourOwn) {
  const TemporaryFile temporary("0123456789");
  CountingDriver::Counts counts;
  Local source;
  {
    const CountingDriver driver(source.driver(), counts);
    auto file = DrivenFile::Open(driver, temporary.path()).Wait();
    ASSERT_TRUE(file);
    EXPECT_EQ(file->Read(std::string("....")).Wait().buffer, "0123");
    auto dropped = file->Read(std::string("...."));
    dropped.Start();
  }
  source.Until([&] { return source.ring().in_flight() == 0; });
  EXPECT_EQ(counts.reserved, 3);
  EXPECT_EQ(counts.released, 3);
  EXPECT_EQ(counts.jobs, 5);  // three starts, a drop, and the file's end
}

// R15
TEST(SharedDriverTest, TheProcessHasOne) {
  auto one = SharedDriver::Instance();
  ASSERT_TRUE(one) << one.error().message();
  std::thread([] {
    auto two = SharedDriver::Instance();
    ASSERT_TRUE(two);
    EXPECT_TRUE(Perform(*two, [] { return Timeout{}; }).Wait());
  }).join();
  EXPECT_TRUE(Perform(*one, [] { return Timeout{}; }).Wait());
}
TEST(SharedDriverTest, ErrorsAreThoseOfTheRing) {
  EXPECT_EQ(SharedDriver::Create({.ring = {.entries = 1 << 20}}).error(),
            std::errc::invalid_argument);
}

// Ends a child behind the exit handlers of the library, for which this comes
// early enough, and before LeakSanitizer, which does not find in a child what
// the stacks of the parent's threads refer to.
bool g_is_child = false;
const bool g_ends_children = std::atexit([] {
                               if (g_is_child) ::_exit(0);
                             }) == 0;

// A child has no thread that drives, and ends nevertheless.
TEST(SharedDriverTest, ChildrenMayEnd) {
  auto global = SharedDriver::Instance();
  ASSERT_TRUE(global);
  std::optional<Shared> own(std::in_place);
  const pid_t child = ::fork();
  if (child == 0) {
    g_is_child = g_ends_children;
    own.reset();
    std::exit(0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// R3: nothing but Perform() makes one, and nobody takes an outcome twice.
static_assert(!std::is_default_constructible_v<Submission<Result<void>>> &&
              !std::is_copy_constructible_v<Submission<Result<void>>> &&
              !std::is_constructible_v<Submission<Result<void>>, Ring&>);

template <typename Outcome>
Task AwaitOne(Submission<Outcome> submission) {
  (void)co_await std::move(submission);
}
template <typename Outcome>
Task AwaitTwice(Submission<Outcome> submission) {
  (void)co_await std::move(submission);
  (void)co_await std::move(submission);
}
TYPED_TEST(DriverTest, MistakesEndTheProgram) {
  EXPECT_DEATH(
      {
        TypeParam source;
        auto done = Perform(source.driver(), [] { return Timeout{}; });
        (void)std::move(done).Wait();
        (void)std::move(done).Wait();
      },
      "a submission that was awaited or moved from");
  EXPECT_DEATH(
      {
        TypeParam source;
        auto moved = Perform(source.driver(), [] { return Timeout{}; });
        auto target = std::move(moved);
        moved.Start();
      },
      "a submission that was awaited or moved from");
  EXPECT_DEATH(
      {
        TypeParam source;
        auto moved = Perform(source.driver(), [] { return Timeout{}; });
        auto target = std::move(moved);
        (void)moved.done();
      },
      "a submission that was awaited or moved from");
  EXPECT_DEATH(
      {
        TypeParam source;
        auto done = Perform(source.driver(), [] { return Timeout{}; });
        (void)std::move(done).Wait();
        AwaitOne(std::move(done));
      },
      "a submission that was awaited or moved from");
  EXPECT_DEATH(
      {
        TypeParam source;
        auto timeout = Perform(source.driver(), [] { return Timeout{}; });
        AwaitTwice(std::move(timeout));
        source.Until([] { return false; });
      },
      "a submission that was awaited or moved from");
  EXPECT_DEATH(TypeParam(0), "lets nothing be in flight");
}
// Before there are other threads.
TEST(SharedDriverDeathTest, WaitInItsThreadEndsTheProgram) {
  EXPECT_DEATH(
      {
        Shared source;
        RunAndWait(source, [&](Ring&) {
          (void)Perform(source.driver(), [] { return Timeout{}; }).Wait();
        });
      },
      "Wait.. in the thread of a SharedDriver");
}

// Where it might be resumed meanwhile.
TEST(SharedDriverDeathTest, DestroyedElsewhereWhileItAwaitsEndsTheProgram) {
  EXPECT_DEATH(
      {
        const Ends pipe;
        Shared source;
        AwaitOne(DriverTest<Shared>::ReadOf(source, pipe.read, "."))
            .frame.destroy();
      },
      "a coroutine that awaits is destroyed in another thread");
}

// R14, R12: an op for each kind of event that a driver is used for. Groups of
// buffers are BufferGroup::Create(), and tables of files FileTable's.
template <typename T>
concept Performed = Op<T> && requires(SharedDriver driver, T (*make)()) {
  Perform(driver, make);
};
template <Performed... Ts>
constexpr bool kPerformed = true;
static_assert(
    kPerformed<Accept, Close<Descriptor>, Close<ownership::FixedFile>, Connect,
               EpollControl, Advise, Allocate, Direct<Open>, Sync, Open,
               ReadInto, Read<Buffer>, Read<ownership::RegisteredBuffer>,
               ReadVector<std::vector<Buffer>>, Receive<Buffer>, Send<Buffer>,
               Splice, Stat, StatFile, Timeout, Write<Buffer>,
               Write<ownership::RegisteredBuffer>,
               WriteVector<std::vector<Buffer>>>);
TYPED_TEST(DriverTest, AnyOpIsPerformed) {
  const TemporaryFile file("0123");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDWR));
  const Ends pipe;
  TypeParam source;
  const auto& driver = source.driver();
  EXPECT_EQ(Perform(driver, [&] { return Stat{.path = file.path()}; })
                .Wait()
                ->stx_size,
            4u);
  EXPECT_TRUE(Perform(driver, [&] { return Sync{.file = regular}; }).Wait());
  EXPECT_EQ(Perform(driver,
                    [&] {
                      return Splice{.in = regular,
                                    .in_offset = 0,
                                    .out = pipe.write,
                                    .length = 4};
                    })
                .Wait(),
            4u);
  std::vector<std::string> parts = {"..", "."};
  EXPECT_EQ(
      Perform(driver,
              [&] {
                return ReadVector<std::vector<std::string>>{
                    .file = regular, .buffers = std::move(parts), .offset = 0};
              })
          .Wait()
          .buffer[1],
      "2");
}

TYPED_TEST(DriverTest, SignalsAreTheProgramsOwn) {
  TypeParam source;
  EXPECT_TRUE(escrow::testing::SignalsAreLeftToThisThread());
}

// R18: all of it, in parts.
TYPED_TEST(DriverTest, PrintWritesAll) {
  TypeParam source;
  std::optional<Ends> pipe(std::in_place);
  const std::string text(300'000, 'x');
  auto print = Print(source.driver(), text, pipe->write.number());
  print.Start(/*eager=*/true);
  std::size_t size = 0;
  std::thread reader([&] {
    std::string bytes(1000, ' ');
    while (size < text.size()) {
      const auto got = ::read(pipe->read.number(), bytes.data(), bytes.size());
      ASSERT_GT(got, 0);
      size += static_cast<std::size_t>(got);
    }
  });
  EXPECT_TRUE(std::move(print).Wait());
  reader.join();
  EXPECT_EQ(size, text.size());
  EXPECT_TRUE(Print(source.driver(), "").Wait());
  EXPECT_EQ(Print(source.driver(), "x", pipe->read.number()).Wait().error(),
            std::errc::bad_file_descriptor);
}

}  // namespace
}  // namespace escrow::safe
