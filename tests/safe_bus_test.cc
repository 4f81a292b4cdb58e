// safe/bus.h, and what of a bus is its ring.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/buffer_pool.h"
#include "escrow/safe/bus.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream_ops.h"
#include "escrow/safe/wait_ops.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using cases::Ends;
using cases::World;
using escrow::testing::OpenDescriptors;
using ownership::Descriptor;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

using ReadText = Read<std::string>;
using WriteText = Write<std::string>;

class BusTest : public ::testing::Test {
 protected:
  BusTest() : bus_(*Bus::Create({.entries = 32})) {}

  BusResult Dispatch() {
    auto result = bus_.Dispatch();
    EXPECT_TRUE(result.has_value()) << result.error().message();
    return *result;
  }

  Bus bus_;
  World world_;
};

// B1
TEST(BusSetupTest, HasASizeAndErrors) {
  EXPECT_TRUE(Bus::Create());
  EXPECT_TRUE(Bus::Create({.entries = 512}));
  EXPECT_EQ(Bus::Create({.entries = 1 << 20}).error(),
            std::errc::invalid_argument);
}

// B2, B26: the end of a bus ends what is in flight, and nothing stays open; the
// handles are done.
TEST(BusSetupTest, EndsWithOperationsInFlight) {
  const int before = OpenDescriptors();
  {
    const Ends pipe;
    auto bus = Bus::Create();
    auto read = Bus::Prepare(ReadText{.file = pipe.read, .buffer = "1234"});
    auto dropped = Bus::Prepare(ReadText{.file = pipe.read, .buffer = "1234"});
    auto prepared = Bus::Prepare(Timeout{});
    ASSERT_TRUE(bus->Submit(read, dropped));
    { const auto gone = std::move(dropped); }
    bus = std::unexpected(std::error_code());
    ASSERT_TRUE(read.done());
    auto [size, buffer] = read.End();
    EXPECT_EQ(size.error(), std::errc::operation_canceled);
    EXPECT_EQ(buffer, "1234");
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

// B9, B10, B13, B15, B16, B17
TEST_F(BusTest, HandsOutOneResultAfterTheOther) {
  const Descriptor file = world_.OpenFile();
  auto first = Bus::Prepare(ReadText{
      .file = file, .buffer = std::string(4, ' '), .offset = kCurrentPosition});
  auto second =
      Bus::Prepare(WriteText{.file = file, .buffer = "AB", .offset = 0});
  ASSERT_TRUE(bus_.Submit(first));
  BusResult result = Dispatch();
  EXPECT_TRUE(result.Is(first));
  EXPECT_FALSE(result.Is(second));
  EXPECT_TRUE(result.IsOf<ReadText>());
  EXPECT_FALSE(result.IsOf<WriteText>());
  auto [size, buffer] = result.End<ReadText>();
  EXPECT_EQ(size, 4u);
  EXPECT_EQ(buffer, "0123");

  // The position has advanced; both at once, and one result each.
  first.Prepare({.file = file, .buffer = std::move(buffer)});
  bus_.Enqueue(first, second);
  for (int i = 0; i < 2; ++i) {
    result = Dispatch();
    if (result.Is(first)) {
      EXPECT_EQ(first.End().buffer, "4567");
    } else {
      ASSERT_TRUE(result.Is(second));
      EXPECT_EQ(second.End().result, 2u);
    }
  }
  EXPECT_FALSE(first.done());
  EXPECT_EQ(world_.Content("file"), "AB23456789");
}

// B17: the end of a file is a state of its own.
TEST_F(BusTest, TellsTheEndOfAFile) {
  const Descriptor file = world_.OpenFile();
  auto read =
      Bus::Prepare(ReadText{.file = file, .buffer = "xxxx", .offset = 8});
  bus_.Enqueue(read);
  EXPECT_FALSE(IsEnd(Dispatch().End<ReadText>().result));
  read.Prepare({.file = file, .buffer = "xxxx", .offset = 10});
  bus_.Enqueue(read);
  EXPECT_TRUE(IsEnd(Dispatch().End<ReadText>().result));
  read.Prepare({.file = Descriptor::Permanent(1 << 30), .buffer = "xxxx"});
  bus_.Enqueue(read);
  EXPECT_FALSE(IsEnd(Dispatch().End<ReadText>().result));
}

// With nothing in flight, what another thread may have to do is waited for;
// signals, of which some come while it waits, do not end that.
TEST_F(BusTest, WaitsForPostsWhateverInterrupts) {
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  auto timeout = Bus::Prepare(Timeout{});
  auto remote = bus_.ring().CreateRemote();
  ASSERT_TRUE(remote);
  std::thread other([&, mine = *remote, thread = ::pthread_self()] {
    for (int i = 0; i < 10; ++i) {
      std::this_thread::sleep_for(milliseconds(2));
      ::pthread_kill(thread, SIGUSR1);
    }
    EXPECT_TRUE(mine.Post([&] { bus_.Enqueue(timeout); }));
  });
  EXPECT_TRUE(Dispatch().Is(timeout));
  other.join();
  ASSERT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
}

#if __cpp_exceptions
// What a callback throws comes out of Dispatch(); the result is the handle's.
TEST_F(BusTest, CallbacksMayThrow) {
  std::optional timeout = Bus::Prepare(Timeout{});
  timeout->AddCallback([](const BusResult&) { throw 1; });
  bus_.Enqueue(*timeout);
  EXPECT_THROW((void)bus_.Dispatch(), int);
  ASSERT_TRUE(timeout->done());
  std::array<char, 4096> where_it_was;
  where_it_was.fill(0);
  timeout.reset();
  EXPECT_EQ(std::count(where_it_was.begin(), where_it_was.end(), 0), 4096);
}
#endif

// B25: errors have a text, and name what failed.
TEST_F(BusTest, ErrorsSayWhatFailed) {
  auto open =
      Bus::Prepare(Open{.path = world_.Path("none"), .flags = O_RDONLY});
  bus_.Enqueue(open);
  const auto opened = Dispatch().End<Open>();
  EXPECT_EQ(opened.error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(opened.error().message(), "openat2: No such file or directory");
}

// B9, B11, B17: what is opened, created and accepted.
TEST_F(BusTest, OpensAndAccepts) {
  auto create = Bus::Prepare(Open{
      .path = world_.Path("new"), .flags = O_CREAT | O_WRONLY, .mode = 0600});
  bus_.Enqueue(create);
  auto created = Dispatch().End<Open>();
  ASSERT_TRUE(created);
  EXPECT_EQ(::fcntl(created->number(), F_GETFD), FD_CLOEXEC);
  auto close = Bus::Prepare(Close<Descriptor>{.file = std::move(*created)});
  bus_.Enqueue(close);
  EXPECT_TRUE(Dispatch().End<Close<Descriptor>>());
  EXPECT_TRUE(world_.Has("new"));
}

// B15: waits, but not for longer than it is told to, and not for nothing.
TEST_F(BusTest, DispatchWithoutAResult) {
  const Ends pipe;
  EXPECT_EQ(bus_.Dispatch().error(), std::errc::resource_deadlock_would_occur);
  auto read = Bus::Prepare(ReadText{.file = pipe.read, .buffer = "1"});
  bus_.Enqueue(read);
  EXPECT_EQ(bus_.Dispatch(nanoseconds(0)).error(), std::errc::timed_out);
  EXPECT_EQ(bus_.Dispatch(milliseconds(1)).error(), std::errc::timed_out);
  ASSERT_EQ(::write(pipe.write.number(), "x", 1), 1);
  EXPECT_TRUE(Dispatch().Is(read));
}

// B12, B18: a handle may move at any time, and be used again and again.
TEST_F(BusTest, HandlesMove) {
  auto nop = Bus::Prepare(Timeout{});
  for (int i = 0; i < 100; ++i) {
    auto moved = std::make_unique<BusHandle<Timeout>>(std::move(nop));
    bus_.Enqueue(*moved);
    nop = std::move(*moved);
    moved.reset();
    EXPECT_TRUE(Dispatch().Is(nop));
    EXPECT_TRUE(nop.End());
    nop.Prepare({});
  }
}

// B19: in the order of their registration, before the result is returned.
TEST_F(BusTest, CallbacksComeFirstAndInOrder) {
  auto nop = Bus::Prepare(Timeout{});
  std::string order;
  nop.AddCallback([&](const BusResult& result) {
    EXPECT_TRUE(result.Is(nop));
    order += 'a';
  });
  nop.AddCallback([&](const BusResult&) { order += 'b'; });
  nop.AddCallback([&](const BusResult&) { order += 'c'; });
  bus_.Enqueue(nop);
  EXPECT_EQ(order, "");
  EXPECT_TRUE(Dispatch().Is(nop));
  EXPECT_EQ(order, "abc");
  EXPECT_TRUE(nop.End());
}

// A callback may take the result and go on.
TEST_F(BusTest, CallbacksMayEnqueueAgain) {
  const Descriptor file = world_.OpenFile();
  std::string content;
  auto read = Bus::Prepare(ReadText{.file = file, .buffer = "xxx"});
  read.AddCallback([&](const BusResult& result) {
    auto [size, buffer] = result.End<ReadText>();
    if (IsEnd(size)) return;
    content += buffer.substr(0, *size);
    read.Prepare({.file = file, .buffer = std::move(buffer)});
    bus_.Enqueue(read);
  });
  bus_.Enqueue(read);
  EXPECT_EQ(bus_.Dispatch().error(), std::errc::resource_deadlock_would_occur);
  EXPECT_EQ(content, "0123456789");
}

// B26: or free the handle, which is the end of it.
TEST_F(BusTest, CallbacksMayDestroyTheHandle) {
  auto handle = std::make_unique<BusHandle<Timeout>>(Bus::Prepare(Timeout{}));
  int called = 0;
  handle->AddCallback([&](const BusResult&) {
    ++called;
    handle.reset();
  });
  handle->AddCallback([&](const BusResult&) { ++called; });
  bus_.Enqueue(*handle);
  auto other = Bus::Prepare(Timeout{});
  bus_.Enqueue(other);
  EXPECT_TRUE(Dispatch().Is(other));
  EXPECT_EQ(called, 1);
  EXPECT_EQ(handle, nullptr);
}

// B20
TEST_F(BusTest, CarriesAPointer) {
  int mine = 0;
  auto nop = Bus::Prepare(Timeout{});
  EXPECT_EQ(nop.user(), nullptr);
  nop.set_user(&mine);
  bus_.Enqueue(nop);
  EXPECT_EQ(Dispatch().user(), &mine);
}

// B17, B21: what is wrong is said.
TEST_F(BusTest, MistakesEndTheProgram) {
  auto nop = Bus::Prepare(Timeout{});
  EXPECT_DEATH((void)nop.End(), "prepared, but not enqueued");
  bus_.Enqueue(nop);
  EXPECT_DEATH((void)nop.End(), "not done, or taken");
  EXPECT_DEATH(nop.Prepare({}), "prepared again before it is done");
  EXPECT_DEATH(bus_.Enqueue(nop), "enqueued without being prepared");
  const BusResult result = Dispatch();
  EXPECT_DEATH((void)result.End<ReadText>(), "of another type");
  EXPECT_TRUE(nop.End());
  EXPECT_DEATH((void)nop.End(), "not done, or taken");
}

// A result that nobody takes is dropped with what it owns.
TEST_F(BusTest, UntakenResultsAreDropped) {
  const int before = OpenDescriptors();
  {
    auto open =
        Bus::Prepare(Open{.path = world_.Path("file"), .flags = O_RDONLY});
    bus_.Enqueue(open);
    EXPECT_TRUE(Dispatch().Is(open));
    open.Prepare({.path = world_.Path("file"), .flags = O_RDONLY});
    bus_.Enqueue(open);
    EXPECT_TRUE(Dispatch().Is(open));
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

// B14: a full queue is submitted, and what a limit keeps back is a value.
TEST(BusLimitTest, BackpressureIsAValue) {
  auto bus = Bus::Create({.entries = 2, .in_flight_limit = 3});
  const Ends pipe;
  std::vector<BusHandle<ReadText>> reads;
  for (int i = 0; i < 4; ++i) {
    reads.push_back(Bus::Prepare(ReadText{.file = pipe.read, .buffer = "1"}));
    bus->Enqueue(reads.back());
  }
  const auto result = bus->Dispatch();
  ASSERT_TRUE(result && result->Is(reads[3]));
  auto [size, buffer] = reads[3].End();
  EXPECT_EQ(size.error(), std::errc::resource_unavailable_try_again);
  EXPECT_EQ(buffer, "1");
  ASSERT_EQ(::write(pipe.write.number(), "x", 1), 1);
  ASSERT_TRUE(bus->Dispatch());
  reads[3].Prepare({.file = pipe.read, .buffer = std::move(buffer)});
  bus->Enqueue(reads[3]);
  ASSERT_EQ(::write(pipe.write.number(), "yyy", 3), 3);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(bus->Dispatch());
}

// B22: a chain ends at the first failure, and at a short transfer.
TEST_F(BusTest, ChainsEndAtAFailure) {
  const Descriptor file = world_.OpenFile();
  auto read = Bus::Prepare(
      ReadText{.file = file, .buffer = std::string(20, ' '), .offset = 0});
  auto write =
      Bus::Prepare(WriteText{.file = file, .buffer = "AB", .offset = 0});
  auto nop = Bus::Prepare(Timeout{});
  bus_.EnqueueChain(read, write, nop);
  for (int i = 0; i < 3; ++i) (void)Dispatch();
  EXPECT_EQ(read.End().result, 10u);
  EXPECT_EQ(write.End().result.error(), std::errc::operation_canceled);
  EXPECT_EQ(nop.End().error(), std::errc::operation_canceled);
  EXPECT_EQ(world_.Content("file"), "0123456789");
}

// B23: and does not, with hard links.
TEST_F(BusTest, SerializedOnesGoOn) {
  const Descriptor file = world_.OpenFile();
  const Descriptor none = Descriptor::Permanent(1 << 30);
  auto read = Bus::Prepare(ReadText{.file = none, .buffer = "xx", .offset = 0});
  auto write =
      Bus::Prepare(WriteText{.file = file, .buffer = "AB", .offset = 0});
  auto again =
      Bus::Prepare(ReadText{.file = file, .buffer = "xx", .offset = 0});
  bus_.EnqueueSerialized(read, write, again);
  for (int i = 0; i < 3; ++i) (void)Dispatch();
  EXPECT_FALSE(read.End().result.has_value());
  EXPECT_EQ(write.End().result, 2u);
  EXPECT_EQ(again.End().buffer, "AB");
}

// B5, B6, B8: an operation takes a registered file as it takes any other.
TEST_F(BusTest, FilesAreRegistered) {
  auto table = FileTable::Create(bus_.ring(), {.made = 0, .put = 2});
  ASSERT_TRUE(table) << table.error().message();
  for (int round = 0; round < 5; ++round) {
    std::vector<ownership::FixedFile> files;
    for (int i = 0; i < 2; ++i) {
      auto fixed = table->Put(world_.OpenFile());
      ASSERT_TRUE(fixed) << fixed.error().message();
      files.push_back(std::move(*fixed));
    }
    EXPECT_FALSE(table->Put(world_.OpenFile()));
    auto read =
        Bus::Prepare(ReadText{.file = files[1], .buffer = "xxx", .offset = 4});
    bus_.Enqueue(read);
    files.clear();
    EXPECT_EQ(Dispatch().End<ReadText>().buffer, "456");
  }
}

// B7
TEST_F(BusTest, BuffersAreRegistered) {
  auto pool = BufferPool::Create(bus_.ring(), {.count = 1, .size = 4});
  ASSERT_TRUE(pool) << pool.error().message();
  auto buffer = pool->Take();
  ASSERT_TRUE(buffer);
  using ReadFixed = Read<ownership::RegisteredBuffer>;
  auto read = Bus::Prepare(ReadFixed{
      .file = world_.OpenFile(), .buffer = std::move(*buffer), .offset = 3});
  bus_.Enqueue(read);
  const auto result = Dispatch().End<ReadFixed>();
  EXPECT_EQ(result.result, 4u);
  EXPECT_EQ(static_cast<char>(result.buffer.data()[0]), '3');
}

// B24: more receive than there are buffers, of which each says when it is back.
TEST_F(BusTest, BuffersComeFromAGroup) {
  auto group = BufferGroup::Create(bus_.ring(), {.count = 1, .size = 16});
  ASSERT_TRUE(group) << group.error().message();
  const Ends pipe("abc");
  auto first = Bus::Prepare(ReadInto{.file = pipe.read, .group = *group});
  auto second = Bus::Prepare(ReadInto{.file = pipe.read, .group = *group});
  bus_.Enqueue(first);
  EXPECT_TRUE(Dispatch().Is(first));
  auto lease = first.End();
  ASSERT_TRUE(lease) << lease.error().message();
  ASSERT_EQ(::write(pipe.write.number(), "de", 2), 2);
  bus_.Enqueue(second);
  EXPECT_TRUE(Dispatch().Is(second));
  EXPECT_EQ(second.End().error(), std::errc::no_buffer_space);
  lease = std::unexpected(std::error_code());
  second.Prepare({.file = pipe.read, .group = *group});
  bus_.Enqueue(second);
  EXPECT_TRUE(Dispatch().Is(second));
  EXPECT_EQ(second.End()->size(), 2u);
}

// B4, B27: a bus is a file that another one can wait for, again and again.
TEST_F(BusTest, BusesWaitForBuses) {
  const Ends pipe;
  auto inner = Bus::Create({.setup_flags = IORING_SETUP_SINGLE_ISSUER});
  const auto file = inner->ring().Duplicate();
  ASSERT_TRUE(file);
  auto ready = Bus::Prepare(PollOnce{.file = *file, .events = POLLIN});
  auto read = Bus::Prepare(ReadText{.file = pipe.read, .buffer = "x"});
  for (const char sent : std::string("abc")) {
    ASSERT_TRUE(inner->Submit(read));
    bus_.Enqueue(ready);
    EXPECT_EQ(bus_.Dispatch(milliseconds(1)).error(), std::errc::timed_out);
    ASSERT_EQ(::write(pipe.write.number(), &sent, 1), 1);
    EXPECT_TRUE(Dispatch().Is(ready));
    EXPECT_TRUE(ready.End());
    const auto result = inner->Dispatch(nanoseconds(0));
    ASSERT_TRUE(result) << result.error().message();
    auto [size, buffer] = result->End<ReadText>();
    EXPECT_EQ(buffer, std::string(1, sent));
    read.Prepare({.file = pipe.read, .buffer = std::move(buffer)});
    ready.Prepare({.file = *file, .events = POLLIN});
  }
}

}  // namespace
}  // namespace escrow::safe
