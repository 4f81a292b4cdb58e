#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/io_uring.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/examples/task.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/ring.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using examples::Task;
using ownership::Array;
using ownership::Buffer;
using ownership::Descriptor;
using ownership::Slice;
using ownership::StaticBytes;
using std::chrono::milliseconds;
using testing::Arena;
using testing::Pipe;
using testing::TemporaryFile;
using testing::Tracked;

constexpr std::uint32_t kDeferTaskrun = 1u << 13;

struct Kind {
  const char* name;
  std::optional<std::uint32_t> setup_flags;
};

// Rings of each kind in turn.
class SafeRingTest : public ::testing::TestWithParam<Kind> {
 protected:
  Ring MakeRing(RingOptions options = {}) {
    options.setup_flags = GetParam().setup_flags;
    auto ring = Ring::Create(options);
    if (!ring) {
      ADD_FAILURE() << ring.error().message();
      std::abort();
    }
    return std::move(*ring);
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, SafeRingTest,
                         ::testing::Values(Kind{"Best", std::nullopt},
                                           Kind{"Plain", 0u},
                                           Kind{"SqPoll", IORING_SETUP_SQPOLL}),
                         [](const auto& kind) {
                           return std::string(kind.param.name);
                         });

Ring BestRing(RingOptions options = {}) {
  return std::move(Ring::Create(options).value());
}

// Operations.

TEST_P(SafeRingTest, ReadsIntoEveryKindOfBuffer) {
  Ring ring = MakeRing();
  const TemporaryFile file("0123456789");
  const auto source = Descriptor::Adopt(file.Open(O_RDONLY));

  {
    auto [n, buffer] = ring.Wait(ring.Read(
        source, std::move(*Buffer::Allocate(4, /*alignment=*/512)), 1));
    ASSERT_TRUE(n) << n.error().message();
    EXPECT_EQ(*n, 4u);
    EXPECT_EQ(std::string(reinterpret_cast<char*>(buffer.data()), 4), "1234");
  }
  {
    auto [n, vector] = ring.Wait(ring.Read(source, std::vector<char>(3), 2));
    EXPECT_EQ(n.value(), 3u);
    EXPECT_EQ(vector, (std::vector<char>{'2', '3', '4'}));
  }
  {
    // Short enough to live inside the string object, which moves.
    auto [n, string] = ring.Wait(ring.Read(source, std::string(2, '-'), 8));
    EXPECT_EQ(n.value(), 2u);
    EXPECT_EQ(string, "89");
  }
  {
    // Lives inside the array object, which moves.
    auto [n, array] = ring.Wait(ring.Read(source, std::array<char, 5>(), 0));
    EXPECT_EQ(n.value(), 5u);
    EXPECT_EQ(array, (std::array<char, 5>{'0', '1', '2', '3', '4'}));
  }
  {
    // Larger than a record.
    auto [n, array] = ring.Wait(ring.Read(source, std::array<char, 9000>(), 9));
    EXPECT_EQ(n.value(), 1u);
    EXPECT_EQ(array[0], '9');
  }
  {
    auto [n, array] = ring.Wait(
        ring.Read(source, Array(std::make_unique<std::uint16_t[]>(2), 2), 0));
    EXPECT_EQ(n.value(), 4u);
    EXPECT_EQ(array[1], '2' | '3' << 8);
    EXPECT_NE(std::move(array).release(), nullptr);
  }
  {
    auto [n, slice] =
        ring.Wait(ring.Read(source, Slice(std::string("abcdefgh"), 2, 3), 0));
    EXPECT_EQ(n.value(), 3u);
    EXPECT_EQ(std::move(slice).whole(), "ab012fgh");
  }
}

TEST_P(SafeRingTest, WritesAndSyncs) {
  Ring ring = MakeRing();
  const TemporaryFile file;
  const auto target = Descriptor::Adopt(file.Open(O_RDWR));
  auto [n, text] = ring.Wait(ring.Write(target, std::string("hello "), 0));
  EXPECT_EQ(n.value(), 6u);
  EXPECT_EQ(text, "hello ");
  EXPECT_EQ(ring.Wait(ring.Write(target, StaticBytes("world"), 6)).result, 5u);
  EXPECT_TRUE(ring.Wait(ring.Fsync(target)));
  EXPECT_TRUE(ring.Wait(ring.Fsync(target, SyncMode::kData)));
  EXPECT_EQ(file.Content(), "hello world");
}

TEST_P(SafeRingTest, UsesAndAdvancesTheCurrentPosition) {
  Ring ring = MakeRing();
  const TemporaryFile file("abcdef");
  const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
  EXPECT_EQ(ring.Wait(ring.Read(source, std::string(4, ' '))).buffer, "abcd");
  auto [n, rest] = ring.Wait(ring.Read(source, std::string(4, ' ')));
  EXPECT_EQ(n.value(), 2u);
  EXPECT_EQ(rest, "ef  ");
  EXPECT_EQ(ring.Wait(ring.Read(source, std::string(4, ' '))).result, 0u);
}

TEST_P(SafeRingTest, ReadsWithAWorkerThread) {
  Ring ring = MakeRing();
  const TemporaryFile file("abcdef");
  const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
  EXPECT_EQ(
      ring.Wait(ring.Read(source, std::string(6, ' '), 0, {.async = true}))
          .buffer,
      "abcdef");
}

TEST_P(SafeRingTest, DirectIo) {
  const TemporaryFile file(std::string(8192, 'x'));
  const int fd = open(file.path().c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd < 0) GTEST_SKIP() << "this file system has no O_DIRECT";
  Ring ring = MakeRing();
  const auto source = Descriptor::Adopt(fd);
  auto [n, buffer] = ring.Wait(
      ring.Read(source, std::move(*Buffer::Allocate(4096, 4096)), 4096));
  ASSERT_TRUE(n) << n.error().message();
  EXPECT_EQ(*n, 4096u);
  EXPECT_EQ(buffer[4095], std::byte{'x'});
}

TEST_P(SafeRingTest, OpensStatsAndCloses) {
  Ring ring = MakeRing();
  const int before = testing::OpenDescriptors();
  const TemporaryFile file("12345");
  auto opened = ring.Wait(ring.Open(file.path(), O_RDONLY));
  ASSERT_TRUE(opened) << opened.error().message();
  EXPECT_NE(fcntl(opened->number(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(ring.Wait(ring.Statx(file.path())).value().stx_size, 5u);
  EXPECT_EQ(
      ring.Wait(ring.Statx(*opened, {.mask = STATX_SIZE})).value().stx_size,
      5u);
  EXPECT_EQ(testing::OpenDescriptors(), before + 1);
  EXPECT_TRUE(ring.Wait(ring.Close(std::move(*opened))));
  EXPECT_EQ(testing::OpenDescriptors(), before);

  const std::string created = file.path() + ".new";
  auto made = ring.Wait(ring.Open(created, O_WRONLY | O_CREAT | O_EXCL, 0640));
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(ring.Wait(ring.Statx(*made)).value().stx_mode & 0777, 0640);
  unlink(created.c_str());
}

TEST_P(SafeRingTest, ErrorsNameTheCallAndReturnTheBuffer) {
  Ring ring = MakeRing();
  const auto opened = ring.Wait(ring.Open("/no/such/file", O_RDONLY));
  EXPECT_EQ(opened.error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(opened.error().message(), "openat: No such file or directory");

  const TemporaryFile file;
  const auto write_only = Descriptor::Adopt(file.Open(O_WRONLY));
  auto [n, buffer] = ring.Wait(ring.Read(write_only, std::string("mine"), 0));
  EXPECT_EQ(n.error(), std::errc::bad_file_descriptor);
  EXPECT_EQ(n.error().message(), "read: Bad file descriptor");
  EXPECT_EQ(buffer, "mine");

  EXPECT_EQ(ring.Wait(ring.Statx("/no/such/file")).error().message(),
            "statx: No such file or directory");
  EXPECT_EQ(ring.Wait(ring.Fsync(Descriptor::Adopt(Pipe().read_end)))
                .error()
                .message(),
            "fsync: Invalid argument");
}

TEST_P(SafeRingTest, PathsWithANulAreRefused) {
  Ring ring = MakeRing();
  const std::string path("/proc/self/exe\0.txt", 19);
  EXPECT_EQ(ring.Wait(ring.Open(path, O_RDONLY)).error(),
            std::errc::invalid_argument);
  EXPECT_EQ(ring.Wait(ring.Statx(path)).error(), std::errc::invalid_argument);
}

TEST_P(SafeRingTest, TimeoutLastsAsLongAsAsked) {
  Ring ring = MakeRing();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(ring.Wait(ring.Timeout(milliseconds(20))));
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(20));
}

TEST_P(SafeRingTest, TimeThatIsPastIsNow) {
  Ring ring = MakeRing();
  const auto timeout = ring.Wait(ring.Timeout(milliseconds(-5)));
  EXPECT_TRUE(timeout) << timeout.error().message();
  const auto hour = ring.Timeout(std::chrono::hours(1));
  EXPECT_EQ(ring.Dispatch(milliseconds(-5)).value(), 0u);
  EXPECT_EQ(ring.Dispatch(std::chrono::seconds(-5)).value(), 0u);
}

TEST_P(SafeRingTest, ManyMoreOperationsThanEntries) {
  Ring ring = MakeRing({.entries = 4});
  const TemporaryFile file("x");
  const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
  std::vector<Operation<Transfer<std::string>>> operations;
  for (int i = 0; i < 1000; ++i) {
    operations.push_back(ring.Read(source, std::string(1, ' '), 0));
  }
  for (auto& operation : operations) {
    auto [n, buffer] = ring.Wait(std::move(operation));
    ASSERT_TRUE(n) << n.error().message();
    EXPECT_EQ(buffer, "x");
  }
  EXPECT_EQ(ring.in_flight(), 0u);
  EXPECT_EQ(ring.unknown_completions(), 0u);
}

// Cancelling.

TEST_P(SafeRingTest, CancelledReadGivesItsBufferBack) {
  Ring ring = MakeRing();
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  const auto out = Descriptor::Adopt(pipe.write_end);
  auto read = ring.Read(in, std::string("untouched"));
  ASSERT_TRUE(ring.Submit());
  EXPECT_TRUE(ring.Wait(ring.Cancel(read)));
  auto [n, buffer] = ring.Wait(std::move(read));
  EXPECT_EQ(n.error(), std::errc::operation_canceled);
  EXPECT_EQ(buffer, "untouched");
}

TEST_P(SafeRingTest, CancelOfWhatIsOverFindsNothing) {
  Ring ring = MakeRing();
  auto nop = ring.Nop();
  ASSERT_TRUE(ring.Wait(ring.Nop()));
  while (!nop.done()) ASSERT_TRUE(ring.Dispatch());
  EXPECT_EQ(ring.Wait(ring.Cancel(nop)).error(),
            std::errc::no_such_file_or_directory);
  EXPECT_TRUE(ring.Wait(std::move(nop)));
}

// Handles.

TEST_P(SafeRingTest, DroppedBeforeSubmit) {
  Ring ring = MakeRing();
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  std::byte memory[16] = {};
  Arena arena{memory, sizeof(memory)};
  { const auto read = ring.Read(in, Tracked(arena)); }
  // The kernel never saw it.
  EXPECT_EQ(arena.releases, 1);
  EXPECT_EQ(ring.in_flight(), 0u);
  // What is queued behind is still done.
  ASSERT_EQ(write(pipe.write_end, "abc", 3), 3);
  EXPECT_EQ(ring.Wait(ring.Read(in, std::string(3, ' '))).buffer, "abc");
  EXPECT_EQ(memory[0], std::byte{0});
  close(pipe.write_end);
}

TEST_P(SafeRingTest, DroppedAfterSubmit) {
  Ring ring = MakeRing();
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  std::byte memory[16] = {};
  Arena arena{memory, sizeof(memory)};
  {
    const auto read = ring.Read(in, Tracked(arena));
    ASSERT_TRUE(ring.Submit());
    if (GetParam().setup_flags == IORING_SETUP_SQPOLL) {
      // Only what the kernel's thread has taken shows the case.
      std::this_thread::sleep_for(milliseconds(20));
    }
  }
  EXPECT_EQ(arena.releases, 0) << "the kernel still has it";
  EXPECT_EQ(ring.in_flight(), 1u);
  while (ring.in_flight() > 0) ASSERT_TRUE(ring.Dispatch());
  EXPECT_EQ(arena.releases, 1);
  // Cancelled, so it takes nothing out of the pipe any more.
  ASSERT_EQ(write(pipe.write_end, "abc", 3), 3);
  EXPECT_EQ(ring.Wait(ring.Read(in, std::string(3, ' '))).buffer, "abc");
  close(pipe.write_end);
}

// The queue's positions are 32-bit counters. Instead of 2^31 entries, which
// take minutes, the record is told that its own was that long ago.
TEST(SafeRing, DroppedBillionsOfEntriesAfterItsSubmit) {
  Ring ring = BestRing();
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  std::byte memory[16] = {};
  Arena arena{memory, sizeof(memory)};
  for (const bool all_the_way_round : {false, true}) {
    arena.releases = 0;
    std::optional<Operation<Transfer<Tracked>>> read(
        ring.Read(in, Tracked(arena)));
    ASSERT_TRUE(ring.Submit());
    auto nop = ring.Nop();
    read->record().sq_position = all_the_way_round
                                     ? nop.record().sq_position
                                     : read->record().sq_position + (1u << 31);
    read.reset();
    EXPECT_EQ(arena.releases, 0) << "the kernel still has it";
    EXPECT_EQ(ring.in_flight(), 2u);
    EXPECT_TRUE(ring.Wait(std::move(nop)));
    while (ring.in_flight() > 0) ASSERT_TRUE(ring.Dispatch());
    EXPECT_EQ(arena.releases, 1);
  }
  close(pipe.write_end);
}

TEST(SafeRing, DroppedAfterCompletionButBeforeReaping) {
  // A plain ring completes this read during the submit.
  Ring ring = BestRing({.setup_flags = 0u});
  const TemporaryFile file("data");
  const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
  std::byte memory[4] = {};
  Arena arena{memory, sizeof(memory)};
  {
    const auto read = ring.Read(source, Tracked(arena), 0);
    ASSERT_TRUE(ring.Submit());
    EXPECT_EQ(memory[0], std::byte{'d'});
  }
  EXPECT_EQ(arena.releases, 0) << "not known to be complete";
  while (ring.in_flight() > 0) ASSERT_TRUE(ring.Dispatch());
  EXPECT_EQ(arena.releases, 1);
}

TEST_P(SafeRingTest, DroppedAfterReaping) {
  Ring ring = MakeRing();
  const TemporaryFile file("data");
  const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
  std::byte memory[4] = {};
  Arena arena{memory, sizeof(memory)};
  {
    const auto read = ring.Read(source, Tracked(arena), 0);
    while (!read.done()) ASSERT_TRUE(ring.Dispatch());
    EXPECT_EQ(arena.releases, 0);
  }
  EXPECT_EQ(arena.releases, 1);
}

TEST_P(SafeRingTest, DetachedGoesOnToItsEnd) {
  Ring ring = MakeRing();
  const TemporaryFile file;
  const auto target = Descriptor::Adopt(file.Open(O_WRONLY));
  ring.Write(target, std::string("kept"), 0).Detach();
  while (ring.in_flight() > 0) ASSERT_TRUE(ring.Dispatch());
  EXPECT_EQ(file.Content(), "kept");
}

TEST_P(SafeRingTest, DroppedOpenClosesWhatItOpened) {
  const int before = testing::OpenDescriptors();
  {
    Ring ring = MakeRing();
    const TemporaryFile file;
    const int with_ring = testing::OpenDescriptors();
    {
      const auto opened = ring.Open(file.path(), O_RDONLY);
      while (!opened.done()) ASSERT_TRUE(ring.Dispatch());
      EXPECT_EQ(testing::OpenDescriptors(), with_ring + 1);
    }
    EXPECT_EQ(testing::OpenDescriptors(), with_ring);
    ring.Open(file.path(), O_RDONLY).Detach();
    while (ring.in_flight() > 0) ASSERT_TRUE(ring.Dispatch());
    EXPECT_EQ(testing::OpenDescriptors(), with_ring);
  }
  EXPECT_EQ(testing::OpenDescriptors(), before);
}

TEST_P(SafeRingTest, HandleOutlivesTheRing) {
  std::optional<Ring> ring(MakeRing());
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  auto submitted = ring->Read(in, std::string("one"));
  ASSERT_TRUE(ring->Submit());
  auto queued = ring->Read(in, std::string("two"));
  ring.reset();
  ASSERT_TRUE(submitted.done());
  auto first = std::move(submitted).Take();
  EXPECT_EQ(first.result.error(), std::errc::operation_canceled);
  EXPECT_EQ(first.buffer, "one");
  auto second = std::move(queued).Take();
  EXPECT_EQ(second.result.error(), std::errc::operation_canceled);
  EXPECT_EQ(second.buffer, "two");
  close(pipe.write_end);
}

TEST_P(SafeRingTest, MovedRingAndHandlesWork) {
  Ring first = MakeRing();
  auto nop = first.Nop();
  Ring second = std::move(first);
  auto moved = std::move(nop);
  EXPECT_TRUE(second.Wait(std::move(moved)));

  // What is assigned to is dropped at once, not when the other one ends.
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  std::byte memory[8] = {};
  std::byte other_memory[8] = {};
  Arena arena{memory, sizeof(memory)};
  Arena other_arena{other_memory, sizeof(other_memory)};
  auto read = second.Read(in, Tracked(arena));
  auto other_read = second.Read(in, Tracked(other_arena));
  read = std::move(other_read);
  EXPECT_EQ(arena.releases, 1);
  EXPECT_EQ(other_arena.releases, 0);
  Ring third = MakeRing();
  const int descriptors = testing::OpenDescriptors();
  third = std::move(second);
  EXPECT_EQ(testing::OpenDescriptors(), descriptors - 1);
  close(pipe.write_end);
}

// Descriptors.

TEST_P(SafeRingTest, DescriptorIsClosedAfterItsLastOperation) {
  Ring ring = MakeRing();
  const Pipe pipe;
  auto in = Descriptor::Adopt(pipe.read_end);
  auto read = ring.Read(in, std::string(3, ' '));
  ASSERT_TRUE(ring.Submit());
  in = Descriptor();
  EXPECT_NE(fcntl(pipe.read_end, F_GETFD), -1) << "an operation uses it";
  ASSERT_EQ(write(pipe.write_end, "abc", 3), 3);
  EXPECT_EQ(ring.Wait(std::move(read)).buffer, "abc");
  EXPECT_EQ(fcntl(pipe.read_end, F_GETFD), -1);
  close(pipe.write_end);
}

TEST_P(SafeRingTest, CloseWaitsForOperationsInFlight) {
  Ring ring = MakeRing();
  const Pipe pipe;
  auto in = Descriptor::Adopt(pipe.read_end);
  auto read = ring.Read(in, std::string(3, ' '));
  auto closed = ring.Close(std::move(in));
  ASSERT_TRUE(ring.Dispatch(milliseconds(10)));
  EXPECT_FALSE(closed.done());
  ASSERT_EQ(write(pipe.write_end, "abc", 3), 3);
  EXPECT_EQ(ring.Wait(std::move(read)).buffer, "abc");
  EXPECT_TRUE(ring.Wait(std::move(closed)));
  EXPECT_EQ(fcntl(pipe.read_end, F_GETFD), -1);
  close(pipe.write_end);
}

TEST_P(SafeRingTest, CloseDoesNotWaitForOutcomesToBeTaken) {
  Ring ring = MakeRing();
  const Pipe pipe;
  auto in = Descriptor::Adopt(pipe.read_end);
  auto read = ring.Read(in, std::string(3, ' '));
  auto closed = ring.Close(std::move(in));
  ASSERT_EQ(write(pipe.write_end, "abc", 3), 3);
  EXPECT_TRUE(ring.Wait(std::move(closed)));
  EXPECT_EQ(fcntl(pipe.read_end, F_GETFD), -1);
  ASSERT_TRUE(read.done());
  EXPECT_EQ(ring.Wait(std::move(read)).buffer, "abc");
  close(pipe.write_end);
}

TEST_P(SafeRingTest, DroppedReadLetsAWaitingCloseGo) {
  Ring ring = MakeRing({.entries = 2});
  const Pipe pipe;
  auto in = Descriptor::Adopt(pipe.read_end);
  std::optional read(ring.Read(in, std::string(3, ' ')));
  auto closed = ring.Close(std::move(in));
  read.reset();
  // With a full queue the close has to make room for itself.
  auto first = ring.Nop();
  auto second = ring.Nop();
  EXPECT_TRUE(ring.Wait(std::move(closed)));
  EXPECT_EQ(fcntl(pipe.read_end, F_GETFD), -1);
  close(pipe.write_end);
}

TEST_P(SafeRingTest, WaitingCloseIsGivenUpWithTheRing) {
  const int before = testing::OpenDescriptors();
  const Pipe pipe;
  {
    Ring ring = MakeRing();
    Ring other = MakeRing();
    auto in = Descriptor::Adopt(pipe.read_end);
    auto read = other.Read(in, std::string(3, ' '));
    ASSERT_TRUE(other.Submit());
    auto dropped = ring.Close(std::move(in));
    { Ring ended = std::move(ring); }
    ASSERT_TRUE(dropped.done());
    EXPECT_EQ(std::move(dropped).Take().error(), std::errc::operation_canceled);
    // The read on the other ring still holds the descriptor.
    EXPECT_NE(fcntl(pipe.read_end, F_GETFD), -1);
    ASSERT_EQ(write(pipe.write_end, "abc", 3), 3);
    EXPECT_EQ(other.Wait(std::move(read)).buffer, "abc");
  }
  close(pipe.write_end);
  EXPECT_EQ(testing::OpenDescriptors(), before);
}

TEST_P(SafeRingTest, WaitingCloseAndWhatItWaitsForEndWithTheRing) {
  const int before = testing::OpenDescriptors();
  const Pipe pipe;
  {
    Ring ring = MakeRing();
    auto in = Descriptor::Adopt(pipe.read_end);
    auto read = ring.Read(in, std::string(3, ' '));
    ASSERT_TRUE(ring.Submit());
    auto closed = ring.Close(std::move(in));
    { const Ring ended = std::move(ring); }
    EXPECT_EQ(std::move(read).Take().result.error(),
              std::errc::operation_canceled);
    EXPECT_EQ(std::move(closed).Take().error(), std::errc::operation_canceled);
    EXPECT_EQ(fcntl(pipe.read_end, F_GETFD), -1);
  }
  close(pipe.write_end);
  EXPECT_EQ(testing::OpenDescriptors(), before);
}

TEST_P(SafeRingTest, CloseThatCannotHappenHereIsGivenUpByWait) {
  Ring ring = MakeRing();
  Ring other = MakeRing();
  const Pipe pipe;
  auto in = Descriptor::Adopt(pipe.read_end);
  auto read = other.Read(in, std::string(3, ' '));
  EXPECT_EQ(ring.Wait(ring.Close(std::move(in))).error(),
            std::errc::operation_canceled);
  close(pipe.write_end);
  EXPECT_EQ(other.Wait(std::move(read)).result, 0u);
  EXPECT_EQ(fcntl(pipe.read_end, F_GETFD), -1);
}

TEST_P(SafeRingTest, DroppedCloseStillCloses) {
  const int before = testing::OpenDescriptors();
  {
    Ring ring = MakeRing();
    const TemporaryFile file;
    const int with_ring = testing::OpenDescriptors();
    { auto closed = ring.Close(Descriptor::Adopt(file.Open(O_RDONLY))); }
    while (ring.in_flight() > 0) ASSERT_TRUE(ring.Dispatch());
    EXPECT_EQ(testing::OpenDescriptors(), with_ring);
    // Not even submitted.
    { auto closed = ring.Close(Descriptor::Adopt(file.Open(O_RDONLY))); }
  }
  EXPECT_EQ(testing::OpenDescriptors(), before);
}

// Callbacks and coroutines.

TEST_P(SafeRingTest, CallbackGetsResultAndBuffer) {
  Ring ring = MakeRing();
  const TemporaryFile file("abc");
  const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
  std::string got;
  bool opened = false;
  ring.Read(source, std::string(3, ' '), 0)
      .Then([&](Result<std::size_t> n, std::string buffer) {
        EXPECT_EQ(n.value(), 3u);
        got = std::move(buffer);
      });
  ring.Open(file.path(), O_RDONLY).Then([&](Result<Descriptor> result) {
    opened = result.has_value();
  });
  EXPECT_EQ(got, "") << "called before Dispatch()";
  std::size_t called = 0;
  while (called < 2) called += ring.Dispatch().value();
  EXPECT_EQ(got, "abc");
  EXPECT_TRUE(opened);
  EXPECT_EQ(ring.Dispatch().value(), 0u) << "nothing is in flight";
}

TEST_P(SafeRingTest, CallbackOfWhatIsDoneRunsInTheNextDispatch) {
  Ring ring = MakeRing();
  auto nop = ring.Nop();
  while (!nop.done()) ASSERT_TRUE(ring.Dispatch());
  int calls = 0;
  std::move(nop).Then([&](Result<void>) { ++calls; });
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(ring.Dispatch().value(), 1u);
  EXPECT_EQ(calls, 1);
}

TEST_P(SafeRingTest, WaitRunsNoCallback) {
  Ring ring = MakeRing();
  bool called = false;
  ring.Nop().Then([&](Result<void>) { called = true; });
  EXPECT_TRUE(ring.Wait(ring.Timeout(milliseconds(5))));
  EXPECT_FALSE(called);
  EXPECT_EQ(ring.Dispatch().value(), 1u);
  EXPECT_TRUE(called);
}

TEST_P(SafeRingTest, CallbackMayStartWaitAndDrop) {
  Ring ring = MakeRing();
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  std::byte memory[8] = {};
  Arena arena{memory, sizeof(memory)};
  std::optional<Operation<Transfer<Tracked>>> victim(
      ring.Read(in, Tracked(arena)));
  std::vector<int> order;
  ring.Nop().Then([&](Result<void>) {
    order.push_back(1);
    victim.reset();
    EXPECT_TRUE(ring.Wait(ring.Nop()));
    ring.Nop().Then([&](Result<void>) { order.push_back(2); });
  });
  while (order.size() < 2 || ring.in_flight() > 0) ASSERT_TRUE(ring.Dispatch());
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_EQ(arena.releases, 1);
  close(pipe.write_end);
}

TEST_P(SafeRingTest, CallbackMayDropWhatIsReadyBesideIt) {
  Ring ring = MakeRing();
  bool second_ran = false;
  std::optional<Task> task;
  ring.Nop().Then([&](Result<void>) { task.reset(); });
  auto body = [&]() -> Task {
    (void)co_await ring.Nop();
    second_ran = true;
  };
  task.emplace(body());
  // Both are done when the callbacks begin to run.
  ASSERT_TRUE(ring.Wait(ring.Timeout(milliseconds(5))));
  EXPECT_EQ(ring.Dispatch().value(), 1u);
  EXPECT_FALSE(second_ran);
}

TEST_P(SafeRingTest, BigCallbacksAndMoveOnlyOnes) {
  Ring ring = MakeRing();
  std::array<char, 2000> big = {};
  big[1999] = 7;
  int sum = 0;
  ring.Nop().Then([&sum, big](Result<void>) { sum += big[1999]; });
  ring.Nop().Then([&sum, three = std::make_unique<int>(3)](Result<void>) {
    sum += *three;
  });
  // Destroyed with the ring, not called.
  for (std::size_t called = 0; called < 2;) called += ring.Dispatch().value();
  EXPECT_EQ(sum, 10);
}

#ifdef __cpp_exceptions
// A callback that is copied on its way, as one that captured something const.
class ThrowingCallback {
 public:
  ThrowingCallback(std::shared_ptr<int> held, int& copies_left)
      : held_(std::move(held)), copies_left_(&copies_left) {}
  ThrowingCallback(const ThrowingCallback& other)
      : held_(other.held_), copies_left_(other.copies_left_) {
    if ((*copies_left_)-- == 0) throw 1;
  }
  void operator()(Result<std::size_t>, Tracked) const {}

 private:
  std::shared_ptr<int> held_;
  int* copies_left_;
};

TEST_P(SafeRingTest, CallbackWhoseMoveThrowsLeavesNothingBehind) {
  for (int copies = 0; copies < 4; ++copies) {
    const TemporaryFile file("abc");
    std::byte memory[3] = {};
    Arena arena{memory, sizeof(memory)};
    const auto held = std::make_shared<int>();
    int thrown = 0;
    {
      Ring ring = MakeRing();
      const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
      int copies_left = copies;
      try {
        const ThrowingCallback callback(held, copies_left);
        ring.Read(source, Tracked(arena), 0).Then(callback);
      } catch (int) {
        ++thrown;
      }
      while (ring.in_flight() > 0 || arena.releases == 0) {
        try {
          if (ring.Dispatch(milliseconds(5)).value() == 0 && thrown > 0) break;
        } catch (int) {
          ++thrown;
        }
      }
      EXPECT_EQ(arena.releases, 1) << copies;
    }
    EXPECT_EQ(thrown, copies < 3 ? 1 : 0);
    EXPECT_EQ(held.use_count(), 1) << copies;
  }
}
#endif

TEST_P(SafeRingTest, CallbacksNotCalledAreDestroyedWithTheRing) {
  const auto captured = std::make_shared<int>(1);
  const std::array<char, 2000> big = {};
  const Pipe pipe;
  {
    Ring ring = MakeRing();
    const auto in = Descriptor::Adopt(pipe.read_end);
    ring.Nop().Then([captured](Result<void>) { ADD_FAILURE(); });
    ring.Read(in, std::string(100, ' '))
        .Then([captured, big](Result<std::size_t>, std::string) {
          ADD_FAILURE() << big[0];
        });
    ASSERT_TRUE(ring.Submit());
    ring.Nop().Then([captured](Result<void>) { ADD_FAILURE(); });
    EXPECT_EQ(captured.use_count(), 4);
  }
  EXPECT_EQ(captured.use_count(), 1);
  close(pipe.write_end);
}

TEST_P(SafeRingTest, CallbackNotCalledMayOwnTheLastHandle) {
  std::optional<Ring> ring(MakeRing());
  auto nop = ring->Nop();
  ring->Nop().Then([nop = std::move(nop)](Result<void>) { ADD_FAILURE(); });
  ring->Nop().Then([](Result<void>) { ADD_FAILURE(); });
  ring.reset();
}

TEST_P(SafeRingTest, AwaitedInACoroutine) {
  Ring ring = MakeRing();
  const TemporaryFile file("abcdef");
  bool finished = false;
  auto body = [&]() -> Task {
    auto source = co_await ring.Open(file.path(), O_RDWR);
    EXPECT_TRUE(source);
    auto [n, text] = co_await ring.Read(*source, std::string(3, ' '), 0);
    EXPECT_EQ(n.value(), 3u);
    EXPECT_EQ(text, "abc");
    auto [m, same] = co_await ring.Write(*source, std::move(text), 3);
    EXPECT_EQ(m.value(), 3u);
    EXPECT_TRUE(co_await ring.Timeout(milliseconds(1)));
    EXPECT_TRUE(co_await ring.Close(std::move(*source)));
    // Done before it is awaited.
    auto nop = ring.Nop();
    EXPECT_TRUE(ring.Wait(ring.Timeout(milliseconds(1))));
    EXPECT_TRUE(co_await std::move(nop));
    finished = true;
  };
  const Task task = body();
  while (!finished) ASSERT_TRUE(ring.Dispatch());
  EXPECT_EQ(file.Content(), "abcabc");
}

TEST_P(SafeRingTest, DestroyedCoroutineLeavesItsBufferInEscrow) {
  Ring ring = MakeRing();
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  std::byte memory[8] = {};
  Arena arena{memory, sizeof(memory)};
  auto body = [&]() -> Task {
    (void)co_await ring.Read(in, Tracked(arena));
    ADD_FAILURE() << "resumed";
  };
  std::optional<Task> task(body());
  ASSERT_TRUE(ring.Submit());
  if (GetParam().setup_flags == IORING_SETUP_SQPOLL) {
    std::this_thread::sleep_for(milliseconds(20));
  }
  task.reset();
  EXPECT_EQ(arena.releases, 0);
  while (ring.in_flight() > 0) ASSERT_TRUE(ring.Dispatch());
  EXPECT_EQ(arena.releases, 1);
  close(pipe.write_end);
}

TEST_P(SafeRingTest, CoroutineMayOutliveTheRing) {
  std::optional<Ring> ring(MakeRing());
  const Pipe pipe;
  const auto in = Descriptor::Adopt(pipe.read_end);
  std::byte memory[8] = {};
  Arena arena{memory, sizeof(memory)};
  auto body = [&]() -> Task {
    (void)co_await ring->Read(in, Tracked(arena));
    ADD_FAILURE() << "resumed";
  };
  std::optional<Task> task(body());
  ASSERT_TRUE(ring->Submit());
  ring.reset();
  EXPECT_FALSE(task->done());
  task.reset();
  EXPECT_EQ(arena.releases, 1);
  close(pipe.write_end);
}

TEST_P(SafeRingTest, DispatchWithALimit) {
  Ring ring = MakeRing();
  auto timeout = ring.Timeout(std::chrono::hours(1));
  EXPECT_EQ(ring.Dispatch(milliseconds(5)).value(), 0u);
  EXPECT_EQ(ring.Dispatch(milliseconds(0)).value(), 0u);
  EXPECT_FALSE(timeout.done());
  bool called = false;
  ring.Nop().Then([&](Result<void>) { called = true; });
  while (!called) ASSERT_TRUE(ring.Dispatch(milliseconds(0)));
}

TEST_P(SafeRingTest, WaitsAreNotEndedBySignals) {
  Ring ring = MakeRing();
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  struct sigaction old_action;
  ASSERT_EQ(sigaction(SIGALRM, &action, &old_action), 0);
  const itimerval often = {.it_interval = {0, 1000}, .it_value = {0, 1000}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &often, nullptr), 0);
  EXPECT_TRUE(ring.Wait(ring.Timeout(milliseconds(30))));
  auto timeout = ring.Timeout(milliseconds(30));
  while (!timeout.done()) EXPECT_TRUE(ring.Dispatch());
  const itimerval never = {};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &old_action, nullptr);
}

// Submits that fail.

TEST(SafeRing, FailedSubmitReleasesNothingAndLosesNothing) {
  testing::ExpectChildSucceeds([] {
    Ring ring = BestRing();
    const TemporaryFile file("data");
    const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
    std::byte memory[4] = {};
    Arena arena{memory, sizeof(memory)};
    testing::MakeEnterFail(EAGAIN, /*to_submit=*/1);

    auto read = ring.Read(source, Tracked(arena), 0);
    const auto submitted = ring.Submit();
    EXPECT_FALSE(submitted);
    EXPECT_EQ(submitted.error(), std::errc::resource_unavailable_try_again);
    EXPECT_EQ(submitted.error().message(),
              "io_uring_enter: Resource temporarily unavailable");
    EXPECT_EQ(arena.releases, 0);
    EXPECT_EQ(ring.in_flight(), 1u);

    // With a second entry the submit goes through, and takes the first along.
    EXPECT_TRUE(ring.Wait(ring.Nop()));
    EXPECT_EQ(ring.Wait(std::move(read)).result, 4u);
    EXPECT_EQ(memory[0], std::byte{'d'});
  });
}

TEST(SafeRing, WaitTakesBackWhatTheKernelRefuses) {
  testing::ExpectChildSucceeds([] {
    Ring ring = BestRing();
    const TemporaryFile file("data");
    const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
    testing::MakeEnterFail(EBUSY, /*to_submit=*/1);
    auto [n, buffer] = ring.Wait(ring.Read(source, std::string("kept"), 0));
    EXPECT_EQ(n.error(), std::errc::device_or_resource_busy);
    EXPECT_EQ(n.error().message(), "io_uring_enter: Device or resource busy");
    EXPECT_EQ(buffer, "kept");
    // The entry that was taken back goes along, and does nothing.
    EXPECT_TRUE(ring.Wait(ring.Nop()));
    EXPECT_EQ(ring.unknown_completions(), 0u);
  });
}

TEST(SafeRing, DroppedAfterFailedSubmit) {
  testing::ExpectChildSucceeds([] {
    Ring ring = BestRing();
    const Pipe pipe;
    const auto in = Descriptor::Adopt(pipe.read_end);
    std::byte memory[4] = {};
    Arena arena{memory, sizeof(memory)};
    testing::MakeEnterFail(EAGAIN, /*to_submit=*/1);
    {
      const auto read = ring.Read(in, Tracked(arena));
      EXPECT_FALSE(ring.Submit());
      EXPECT_EQ(arena.releases, 0);
    }
    EXPECT_EQ(arena.releases, 1);
    EXPECT_EQ(write(pipe.write_end, "abc", 3), 3);
    EXPECT_TRUE(ring.Wait(ring.Nop()));
    EXPECT_EQ(memory[0], std::byte{0});
  });
}

TEST(SafeRing, FullQueueThatTheKernelRefusesIsAnError) {
  testing::ExpectChildSucceeds([] {
    Ring ring = BestRing({.entries = 4});
    const TemporaryFile file("data");
    const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
    testing::MakeEnterFail(EAGAIN, /*to_submit=*/4);
    std::vector<Operation<Result<void>>> nops;
    for (int i = 0; i < 4; ++i) nops.push_back(ring.Nop());
    auto read = ring.Read(source, std::string("kept"), 0);
    EXPECT_TRUE(read.done());
    auto [n, buffer] = ring.Wait(std::move(read));
    EXPECT_EQ(n.error(), std::errc::resource_unavailable_try_again);
    EXPECT_EQ(buffer, "kept");
    // Dropped handles make no entry, but need none either.
    nops.pop_back();
    EXPECT_EQ(ring.in_flight(), 3u);
  });
}

TEST(SafeRing, WhatTheKernelWillNotEndIsBuried) {
  testing::ExpectChildSucceeds([] {
    const Pipe pipe;
    const auto in = Descriptor::Adopt(pipe.read_end);
    std::byte memory[8] = {};
    Arena arena{memory, 4};
    Arena other_arena{memory + 4, 4};
    std::optional<Operation<Transfer<Tracked>>> kept;
    {
      Ring ring = BestRing();
      ring.Read(in, Tracked(arena)).Detach();
      kept.emplace(ring.Read(in, Tracked(other_arena)));
      EXPECT_EQ(ring.Submit().value(), 2u);
      testing::MakeEnterFail(EPERM);
    }
    EXPECT_EQ(BuriedOperations(), 2u);
    EXPECT_FALSE(kept->done());
    kept.reset();
    EXPECT_EQ(arena.releases, 0);
    EXPECT_EQ(other_arena.releases, 0);
  });
}

TEST(SafeRing, TeardownGivesUpAtItsLimit) {
  testing::ExpectChildSucceeds([] {
    const Pipe pipe;
    const auto in = Descriptor::Adopt(pipe.read_end);
    std::byte memory[4] = {};
    Arena arena{memory, sizeof(memory)};
    {
      Ring ring = BestRing({.teardown_limit = milliseconds(20)});
      ring.Read(in, Tracked(arena)).Detach();
      EXPECT_TRUE(ring.Submit());
      testing::MakeEnterFail(EAGAIN);
    }
    EXPECT_EQ(BuriedOperations(), 1u);
    EXPECT_EQ(arena.releases, 0);
  });
}

// Creation.

TEST(SafeRing, RingsCanBeMadeInALoop) {
  for (int i = 0; i < 300; ++i) {
    const auto ring = Ring::Create({.entries = 256});
    ASSERT_TRUE(ring) << "at " << i << ": " << ring.error().message();
  }
}

TEST(SafeRing, TheLimitOnLockedMemoryIsNamed) {
  testing::ExpectChildSucceeds([] {
    const rlimit none = {0, 0};
    EXPECT_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    const auto ring = Ring::Create();
    // Who has CAP_IPC_LOCK has no limit.
    if (!ring) {
      EXPECT_EQ(ring.error(), std::errc::not_enough_memory);
      EXPECT_NE(ring.error().message().find("RLIMIT_MEMLOCK is 0 KiB"),
                std::string::npos)
          << ring.error().message();
    }
  });
}

TEST(SafeRing, AMachineWithoutIoUringSaysWhy) {
  testing::ExpectChildSucceeds([] {
    testing::MakeSetupFail(EPERM);
    const auto ring = Ring::Create();
    EXPECT_EQ(ring.error(), std::errc::operation_not_permitted);
    EXPECT_NE(ring.error().message().find("seccomp"), std::string::npos);
  });
  testing::ExpectChildSucceeds([] {
    testing::MakeSetupFail(ENOSYS);
    const auto ring = Ring::Create();
    EXPECT_EQ(ring.error(), std::errc::function_not_supported);
    EXPECT_NE(ring.error().message().find("io_uring_setup: "),
              std::string::npos);
  });
}

TEST(SafeRing, OptionsAreChecked) {
  EXPECT_EQ(Ring::Create({.entries = 0}).error(), std::errc::invalid_argument);
  EXPECT_EQ(Ring::Create({.setup_flags = IORING_SETUP_R_DISABLED}).error(),
            std::errc::invalid_argument);
  const Ring ring = BestRing({.entries = 8, .completion_entries = 64});
  EXPECT_NE(ring.setup_flags() & IORING_SETUP_CQSIZE, 0u);
  EXPECT_NE(ring.setup_flags() & kDeferTaskrun, 0u)
      << "the best flags of Linux 6.1 and later";
}

// Misuse.

// A buffer whose destructor does what it is told.
class AtTheEnd {
 public:
  explicit AtTheEnd(std::function<void()> action)
      : action_(std::move(action)) {}
  AtTheEnd(AtTheEnd&& other) noexcept
      : action_(std::exchange(other.action_, nullptr)) {}
  ~AtTheEnd() {
    if (action_) action_();
  }
  std::array<std::byte, 8>& bytes() { return bytes_; }

 private:
  std::function<void()> action_;
  std::array<std::byte, 8> bytes_;
};

}  // namespace
}  // namespace escrow::safe

template <>
struct escrow::ownership::OwnedMemory<escrow::safe::AtTheEnd> {
  static std::byte* Data(safe::AtTheEnd& value) noexcept {
    return value.bytes().data();
  }
  static std::size_t Size(const safe::AtTheEnd&) noexcept { return 8; }
};

namespace escrow::safe {
namespace {

using SafeRingDeathTest = ::testing::Test;

TEST(SafeRingDeathTest, MisuseIsNamed) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(
      {
        Ring ring = BestRing();
        std::thread([&] {
          (void)ring.Wait(ring.Timeout(milliseconds(1)));
        }).join();
      },
      "used by a thread that it does not belong to");
  EXPECT_DEATH(
      {
        std::optional<Ring> ring(BestRing());
        std::thread([&] { ring.reset(); }).join();
      },
      "used by a thread that it does not belong to");
  EXPECT_DEATH(
      {
        Ring ring = BestRing();
        Ring other = BestRing();
        (void)other.Wait(ring.Nop());
      },
      "another ring's operation");
  EXPECT_DEATH(
      {
        Ring ring = BestRing();
        ring.Nop().Then([&](Result<void>) { (void)ring.Dispatch(); });
        (void)ring.Dispatch();
      },
      "Dispatch\\(\\) from inside a callback");
  EXPECT_DEATH(
      {
        std::optional<Ring> ring(BestRing());
        ring->Nop().Then([&](Result<void>) { ring.reset(); });
        (void)ring->Dispatch();
      },
      "destroyed from inside its own callback");
  EXPECT_DEATH(
      {
        std::optional<Ring> ring(BestRing());
        // While it is reset, the optional counts as empty.
        Ring* const itself = &*ring;
        ring->Nop().Then([last = AtTheEnd([=] { (void)itself->Submit(); })](
                             Result<void>) {});
        ring.reset();
      },
      "used in its own destruction");
  for (const bool submitted : {false, true}) {
    EXPECT_DEATH(
        {
          auto ring = std::make_shared<std::optional<Ring>>(BestRing());
          Ring& same = **ring;
          const auto in = Descriptor::Adopt(Pipe().read_end);
          {
            const auto read =
                same.Read(in, AtTheEnd([ring] { ring->reset(); }));
            if (submitted) (void)same.Submit();
          }
          (void)same.Dispatch();
        },
        "destroyed from inside the destructor");
  }
  EXPECT_DEATH(
      {
        Ring ring = BestRing();
        const TemporaryFile file("abc");
        auto source = Descriptor::Adopt(file.Open(O_RDONLY));
        auto read = ring.Read(source, std::string(3, ' '), 0);
        source.WhenAlone(
            [](void* context) {
              auto& same = *static_cast<Ring*>(context);
              (void)same.Wait(same.Nop());
            },
            &ring);
        (void)ring.Wait(std::move(read));
      },
      "WhenAlone");
  EXPECT_DEATH(
      {
        Ring ring = BestRing();
        (void)ring.Read(Descriptor(), std::string(1, ' '));
      },
      "empty Descriptor");
  EXPECT_DEATH(
      {
        Ring ring = BestRing();
        auto nop = ring.Nop();
        (void)std::move(nop).Take();
      },
      "not done");
  EXPECT_DEATH(
      {
        Ring ring = BestRing();
        auto nop = ring.Nop();
        auto moved = std::move(nop);
        (void)nop.done();
      },
      "moved from");
  EXPECT_DEATH(
      {
        Ring ring = BestRing();
        auto nop = ring.Nop();
        auto moved = std::move(nop);
        std::move(nop).Then([](Result<void>) {});
      },
      "moved from");
  EXPECT_DEATH(
      {
        Ring ring = BestRing();
        auto nop = ring.Nop();
        auto moved = std::move(nop);
        std::move(nop).Detach();
      },
      "moved from");
}

}  // namespace
}  // namespace escrow::safe
