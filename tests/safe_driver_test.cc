// safe/driver.h and the objects on it: one suite for all drivers.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <random>
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
#include "escrow/ownership/memory.h"
#include "escrow/ownership/registered_buffer.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/buffer_pool.h"
#include "escrow/safe/driven_file.h"
#include "escrow/safe/driven_object.h"
#include "escrow/safe/driven_sockets.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/vector_ops.h"
#include "escrow/safe/wait_ops.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {
class Counted;
}  // namespace
}  // namespace escrow::safe

template <>
struct escrow::ownership::OwnedMemory<escrow::safe::Counted> {
  static std::byte* Data(safe::Counted& value) noexcept;
  static std::size_t Size(const safe::Counted& value) noexcept;
};

namespace escrow::safe {
namespace {

using cases::Ends;
using escrow::testing::OpenDescriptors;
using escrow::testing::TemporaryFile;
using ownership::Buffer;
using ownership::Descriptor;
using ownership::SocketAddress;

// Bytes that count how many of them there are.
class Counted {
 public:
  explicit Counted(std::atomic<int>& alive) noexcept : alive_(&alive) {
    ++*alive_;
  }
  Counted(Counted&& other) noexcept
      : bytes_(std::move(other.bytes_)),
        alive_(std::exchange(other.alive_, nullptr)) {}
  Counted& operator=(Counted&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(alive_, other.alive_);
    return *this;
  }
  ~Counted() {
    if (alive_ != nullptr) --*alive_;
  }

  std::vector<char> bytes_ = std::vector<char>(64);

 private:
  std::atomic<int>* alive_;
};

}  // namespace
}  // namespace escrow::safe

std::byte* escrow::ownership::OwnedMemory<escrow::safe::Counted>::Data(
    safe::Counted& value) noexcept {
  return reinterpret_cast<std::byte*>(value.bytes_.data());
}
std::size_t escrow::ownership::OwnedMemory<escrow::safe::Counted>::Size(
    const safe::Counted& value) noexcept {
  return value.bytes_.size();
}

namespace escrow::safe {
namespace {

// How many descriptors are open when the thread of the last test's driver,
// which ends by itself, has ended.
int DescriptorsAtRest() {
  int count = OpenDescriptors();
  for (int same = 0; same < 10;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const int now = OpenDescriptors();
    same = now == count ? same + 1 : 0;
    count = now;
  }
  return count;
}

// A coroutine that runs to its end by itself, and says so.
struct Task {
  struct promise_type {
    Task get_return_object() {
      return {std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::abort(); }
  };
  std::coroutine_handle<> frame;
};

// Where a driver comes from, and what goes on behind it.
class Local {
 public:
  using D = LocalDriver;
  explicit Local(std::size_t permits = 64)
      : ring_(*Ring::Create({.entries = 32})), driver_(ring_, permits) {}
  const D& driver() const { return driver_; }
  Ring& ring() { return ring_; }
  template <typename Done>
  void Until(const Done& done) {
    while (!done()) {
      (void)ring_.Dispatch(std::chrono::milliseconds(1));
    }
  }

 private:
  Ring ring_;
  D driver_;
};

class Shared {
 public:
  using D = SharedDriver;
  explicit Shared(std::size_t permits = 64)
      : driver_(*SharedDriver::Create(
            {.ring = {.entries = 32}, .permits = permits})) {}
  const D& driver() const { return driver_; }
  template <typename Done>
  void Until(const Done& done) {
    while (!done()) std::this_thread::yield();
  }

 private:
  D driver_;
};

static_assert(Driver<LocalDriver> && Driver<SharedDriver>);

template <typename Source>
class DriverTest : public ::testing::Test {
 public:
  static Submission<Transfer<std::string>> ReadOf(const Source& source,
                                                  const Descriptor& file,
                                                  std::string buffer) {
    return Perform(
        source.driver(), [&file, buffer = std::move(buffer)]() mutable {
          return Read<std::string>{.file = file, .buffer = std::move(buffer)};
        });
  }
};

using Sources = ::testing::Types<Local, Shared>;
TYPED_TEST_SUITE(DriverTest, Sources);

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

// Runs a function in the ring's thread.
template <typename Function>
class FunctionJob final : public DriverJob {
 public:
  explicit FunctionJob(Function function) : function_(std::move(function)) {}
  void RunOn(Ring& ring) override { function_(ring); }

 private:
  Function function_;
};
template <typename Source, typename Function>
void RunAndWait(Source& source, Function function) {
  std::atomic<bool> ran = false;
  auto job = [&](Ring& ring) {
    function(ring);
    ran = true;
  };
  source.driver().Run(std::make_unique<FunctionJob<decltype(job)>>(job),
                      /*eager=*/false);
  source.Until([&] { return ran.load(); });
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

// R3: nothing but Perform() makes one, and nobody takes an outcome twice.
static_assert(!std::is_default_constructible_v<Submission<Result<void>>> &&
              !std::is_copy_constructible_v<Submission<Result<void>>> &&
              !std::is_constructible_v<Submission<Result<void>>, Ring&>);
TYPED_TEST(DriverTest, MistakesEndTheProgram) {
  const TemporaryFile file("x");
  const auto adopt = [&](const TypeParam& source) {
    return DrivenFile::Adopt(source.driver(),
                             Descriptor::Adopt(file.Open(O_RDONLY)));
  };
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
        DrivenFile used = adopt(source);
        (void)used.Close();
        (void)used.Read(std::string("x"));
      },
      "after its Close");
  EXPECT_DEATH(
      {
        TypeParam source;
        DrivenFile used = adopt(source);
        auto read = used.Read(std::string("x"));
        (void)used.Close().Wait();
        (void)std::move(read).Wait();
      },
      "after its Close");
  EXPECT_DEATH(
      {
        TypeParam source;
        DrivenFile used = adopt(source);
        BufferedReader(used).Consume(1);
      },
      "more consumed than there is");
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

// R16, R20: what is transferred moves the position, and seeking does, backwards
// too.
TYPED_TEST(DriverTest, FilesHaveAPosition) {
  const TemporaryFile temporary("0123456789");
  TypeParam source;
  auto opened =
      DrivenFile::Open(source.driver(), temporary.path(), O_RDWR).Wait();
  ASSERT_TRUE(opened) << opened.error().message();
  DrivenFile file = std::move(*opened);
  const auto read = [&] {
    return file.Read(std::string("....")).Wait().buffer;
  };
  const auto seek = [&](SeekFrom from, std::int64_t offset) {
    return file.Seek(from, offset).Wait();
  };
  EXPECT_EQ(read(), "0123");
  EXPECT_EQ(read(), "4567");
  EXPECT_EQ(read(), "89..");
  EXPECT_EQ(file.Read(std::string("....")).Wait().result, 0u);
  EXPECT_EQ(seek(SeekFrom::kCurrent, -4), 6u);
  EXPECT_EQ(read(), "6789");
  EXPECT_EQ(seek(SeekFrom::kEnd, -3), 7u);
  EXPECT_EQ(file.Write(std::string("AB")).Wait().result, 2u);
  EXPECT_EQ(seek(SeekFrom::kCurrent, 0), 9u);
  EXPECT_EQ(seek(SeekFrom::kStart, 2), 2u);
  EXPECT_EQ(seek(SeekFrom::kCurrent, -3).error(), std::errc::invalid_argument);
  EXPECT_EQ(seek(SeekFrom::kStart, -1).error(), std::errc::invalid_argument);
  const auto kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(seek(SeekFrom::kEnd, kMost).error(), std::errc::value_too_large);
  EXPECT_EQ(seek(SeekFrom::kCurrent, kMost).error(),
            std::errc::value_too_large);
  EXPECT_EQ(
      seek(SeekFrom::kStart, std::numeric_limits<std::int64_t>::min()).error(),
      std::errc::invalid_argument);
  EXPECT_EQ(read(), "2345");
  EXPECT_TRUE(file.Sync().Wait());
  auto descriptor = file.IntoDescriptor().Wait();
  ASSERT_TRUE(descriptor);
  EXPECT_TRUE(descriptor->alone());
  EXPECT_EQ(temporary.Content(), "0123456AB9");

  // A dropped seek is no seek, and an error is none.
  EXPECT_EQ(DrivenFile::Open(source.driver(), "/nowhere/at/all").Wait().error(),
            std::errc::no_such_file_or_directory);
  auto created = DrivenFile::Create(source.driver(), temporary.path()).Wait();
  ASSERT_TRUE(created);
  EXPECT_EQ(temporary.Content(), "");
  EXPECT_TRUE(created->Close().Wait());
}

// R9, R16: one after the other, in the order of their starts.
TYPED_TEST(DriverTest, OperationsOfAnObjectAreSerialised) {
  const TemporaryFile temporary;
  TypeParam source;
  auto file = DrivenFile::Create(source.driver(), temporary.path()).Wait();
  std::vector<Submission<Transfer<std::string>>> writes;
  std::string expected;
  for (char c = 'a'; c <= 'z'; ++c) {
    writes.push_back(file->Write(std::string(100, c)));
    writes.back().Start();
    expected += std::string(100, c);
  }
  for (auto& write : writes) EXPECT_EQ(std::move(write).Wait().result, 100u);
  EXPECT_EQ(temporary.Content(), expected);
}

// R10: one of another kind cancels those before it, and nothing else, however
// often.
TYPED_TEST(DriverTest, AnotherKindCancelsWhatIsRunning) {
  TypeParam source;
  auto pair = UnixStream::Pair(source.driver());
  ASSERT_TRUE(pair);
  auto& [here, there] = *pair;
  for (int i = 0; i < 50; ++i) {
    auto read = here.Read(std::string("kept"));
    auto queued = here.Read(std::string("too"));
    read.Start();
    queued.Start();
    EXPECT_EQ(here.Write(std::string("abc")).Wait().result, 3u);
    auto [size, buffer] = std::move(read).Wait();
    EXPECT_EQ(size.error(), std::errc::operation_canceled);
    EXPECT_EQ(buffer, "kept");
    EXPECT_EQ(std::move(queued).Wait().result.error(),
              std::errc::operation_canceled);
    EXPECT_EQ(there.Read(std::string("...")).Wait().buffer, "abc");
  }
  // Of the same kind: not.
  auto first = here.Read(std::string("..."));
  auto second = here.Read(std::string("..."));
  first.Start();
  second.Start();
  EXPECT_EQ(there.Write(std::string("abc")).Wait().result, 3u);
  EXPECT_EQ(std::move(first).Wait().buffer, "abc");
  EXPECT_EQ(there.Write(std::string("def")).Wait().result, 3u);
  EXPECT_EQ(std::move(second).Wait().buffer, "def");
  // With a single permit there is no deadlock either.
  TypeParam narrow(1);
  auto other = UnixStream::Pair(narrow.driver());
  auto blocked = other->first.Read(std::string("..."));
  blocked.Start();
  EXPECT_EQ(other->first.Write(std::string("abc")).Wait().result, 3u);
  EXPECT_EQ(std::move(blocked).Wait().result.error(),
            std::errc::operation_canceled);
}

// R21: closing works in the middle of an operation, and so does dropping.
TYPED_TEST(DriverTest, ClosingMidOperationLeaksNothing) {
  const Ends pipe;
  TypeParam source;
  RunAndWait(source, [](Ring&) {});
  const int before = DescriptorsAtRest();
  enum How { kClose, kDropClose, kNeverStartClose, kDrop, kDropAll, kEnd };
  for (int how = kClose; how < kEnd; ++how) {
    std::optional file =
        DrivenFile::Adopt(source.driver(), std::move(*pipe.read.Duplicate()));
    std::optional read = file->Read(std::string("kept"));
    read->Start();
    if (how == kClose) {
      EXPECT_TRUE(file->Close().Wait());
    } else if (how == kDropClose) {
      file->Close().Start();
    } else if (how == kNeverStartClose) {
      (void)file->Close();
      file.reset();
    } else if (how == kDrop) {
      file.reset();
    } else {
      read.reset();
      file.reset();
    }
    if (read.has_value()) {
      auto [size, buffer] = std::move(*read).Wait();
      EXPECT_EQ(size.error(), std::errc::operation_canceled) << how;
      EXPECT_EQ(buffer, "kept");
    }
    source.Until([&] { return OpenDescriptors() <= before; });
  }
  // The error of close(2) is reported.
  auto bad = DrivenFile::Adopt(source.driver(), Descriptor::Permanent(1 << 30));
  EXPECT_EQ(bad.Close().Wait().error(), std::errc::bad_file_descriptor);
}

SocketAddress Loopback() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return SocketAddress(address);
}
// R17: in the abstract namespace, which processes share that may have the same
// number.
SocketAddress UnixName(int number) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name = "escrow-" + std::to_string(std::random_device()()) +
                           "-" + std::to_string(number);
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  return {reinterpret_cast<const sockaddr*>(&address),
          offsetof(sockaddr_un, sun_path) + 1 + name.size()};
}

template <typename Listener, typename Source>
void ExpectConnections(Source& source, const SocketAddress& address) {
  using Stream = typename Listener::Stream;
  const auto& driver = source.driver();
  RunAndWait(source, [](Ring&) {});
  const int before = DescriptorsAtRest();
  {
    auto listener = Listener::Bind(driver, address);
    ASSERT_TRUE(listener) << listener.error().message();
    EXPECT_EQ(Listener::Bind(driver, listener->address()).error(),
              std::errc::address_in_use);
    auto incoming = listener->Incoming();
    for (int i = 0; i < 3; ++i) {
      auto accepting = incoming.Next();
      accepting.Start();
      auto client = Stream::Connect(driver, listener->address()).Wait();
      ASSERT_TRUE(client) << client.error().message();
      auto server = std::move(accepting).Wait();
      ASSERT_TRUE(server);
      EXPECT_EQ(client->Write(std::string("hello")).Wait().result, 5u);
      EXPECT_EQ(server->Read(std::string("....."), MSG_WAITALL).Wait().buffer,
                "hello");
      EXPECT_TRUE(server->Shutdown(SHUT_WR).Wait());
      EXPECT_EQ(client->Read(std::string(".")).Wait().result, 0u);
      EXPECT_TRUE(client->Close().Wait());
      auto taken = server->IntoDescriptor().Wait();
      ASSERT_TRUE(taken);
      auto back = Stream::Adopt(driver, std::move(*taken));
      EXPECT_EQ(back.Read(std::string(".")).Wait().result, 0u);
    }
    auto client = Stream::Connect(driver, listener->address()).Wait();
    auto accepted = listener->Accept().Wait();
    ASSERT_TRUE(accepted);
    EXPECT_EQ(accepted->peer.family(), address.family());
    // Accepted, and nobody takes it.
    auto second = Stream::Connect(driver, listener->address()).Wait();
    auto dropped = listener->AcceptStream();
    dropped.Start();
    source.Until([&] { return dropped.done(); });
    // Closed while it accepts.
    auto blocked = listener->Accept();
    blocked.Start();
    EXPECT_TRUE(listener->Close().Wait());
    EXPECT_EQ(std::move(blocked).Wait().error(), std::errc::operation_canceled);
    EXPECT_FALSE(Stream::Connect(driver, listener->address()).Wait());
  }
  source.Until([&] { return OpenDescriptors() <= before; });
}
TYPED_TEST(DriverTest, TcpConnections) {
  TypeParam source;
  ExpectConnections<TcpListener>(source, Loopback());
}
TYPED_TEST(DriverTest, UnixConnections) {
  TypeParam source;
  ExpectConnections<UnixListener>(source, UnixName(1));
  // socket(2) has errors, too.
  EXPECT_EQ(
      UnixStream::Connect(source.driver(), SocketAddress()).Wait().error(),
      std::errc::address_family_not_supported);
}

// R16
TYPED_TEST(DriverTest, BufferedReaderHandsOutWhatIsThere) {
  const TemporaryFile temporary("0123456789");
  TypeParam source;
  auto file = DrivenFile::Open(source.driver(), temporary.path()).Wait();
  BufferedReader reader(*file, 4);
  std::string all;
  EXPECT_TRUE(reader.bytes().empty());
  while (reader.Fill().Wait().value_or(0) > 0) {
    all += static_cast<char>(reader.bytes()[0]);
    reader.Consume(1);
    // What is there is not read again.
    EXPECT_EQ(reader.Fill().Wait(),
              reader.bytes().empty() ? 0u : reader.bytes().size());
    if (!reader.bytes().empty()) {
      all += static_cast<char>(reader.bytes()[0]);
      reader.Consume(1);
    }
  }
  EXPECT_EQ(all, "0123456789");
  // In a coroutine; and one that was dropped in flight does no harm.
  EXPECT_EQ(file->Seek(SeekFrom::kStart, 0).Wait(), 0u);
  std::atomic<bool> done = false;
  [](auto& its, auto& flag) -> Task {
    EXPECT_EQ(co_await its.Fill(), 4u);
    EXPECT_EQ(co_await its.Fill(), 4u);
    flag = true;
  }(reader, done);
  source.Until([&] { return done.load(); });
  reader.Consume(4);
  (void)reader.Fill();
  EXPECT_EQ(reader.Fill().Wait(), 4u);
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

// R20 (#21), R5, R6: many threads, which drop what they have at any time.
TEST(SharedDriverTest, ManyThreadsDropAtRandom) {
  const TemporaryFile temporary(std::string(1000, 'x'));
  const int before = DescriptorsAtRest();
  std::atomic<int> alive = 0;
  std::atomic<int> done = 0;
  {
    Shared source(8);
    const auto work = [&](unsigned seed) {
      const SharedDriver driver = source.driver();
      std::mt19937 random(seed);
      for (int i = 0; i < 60; ++i) {
        auto pair = UnixStream::Pair(driver);
        ASSERT_TRUE(pair);
        auto opening = DrivenFile::Open(driver, temporary.path());
        opening.Start();
        std::vector<Submission<Transfer<Counted>>> pending;
        for (unsigned n = random() % 6; n-- > 0;) {
          UnixStream& side = random() % 2 == 0 ? pair->first : pair->second;
          pending.push_back(random() % 2 == 0 ? side.Read(Counted(alive))
                                              : side.Write(Counted(alive)));
          if (random() % 8 != 0) pending.back().Start(random() % 2 == 0);
          if (random() % 4 == 0) {
            std::swap(pending[random() % pending.size()], pending.back());
            pending.pop_back();
          }
        }
        if (random() % 4 != 0) {
          auto file = std::move(opening).Wait();
          ASSERT_TRUE(file);
          EXPECT_EQ(file->Read(Counted(alive)).Wait().result, 64u);
          auto tail = file->Read(Counted(alive));
          if (random() % 2 == 0) tail.Start();
        }
        if (random() % 2 == 0) (void)pair->first.Close().Wait();
        ++done;
      }
    };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 6; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(done, 360);
  for (int i = 0; i < 10'000 && (alive != 0 || OpenDescriptors() > before);
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(alive, 0);
  EXPECT_LE(OpenDescriptors(), before);
}

}  // namespace
}  // namespace escrow::safe
