// Holes that io_uring libraries have been found with, where no other test shows
// that this one has none. docs/bug_classes.md lists them all.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/lease.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/raw_access.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"
#include "escrow/safe/stream_ops.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using cases::Ends;
using cases::Pair;
using cases::World;
using ownership::Descriptor;
using ownership::Lease;
using testing::Arena;
using testing::Tracked;

Ring MakeRing(const RingOptions& options = {.entries = 8}) {
  auto ring = Ring::Create(options);
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

// Leaking a handle leaks what the operation owns, and frees nothing early.
TEST(SafeHoles, HandleThatIsNeverDestroyed) {
  using Handle = Operation<Transfer<Tracked>>;
  // So that it counts as reachable.
  alignas(Handle) static std::byte place[sizeof(Handle)];
  std::byte memory[4] = {};
  Arena arena{memory, sizeof(memory)};
  const Ends pipe;
  {
    Ring ring = MakeRing();
    ::new (place) Handle(ring.Read(pipe.read, Tracked(arena)));
    EXPECT_TRUE(ring.Wait(ring.Nop()));
  }
  EXPECT_EQ(::write(pipe.write.number(), "late", 4), 4);
  EXPECT_EQ(arena.releases, 0);
  EXPECT_EQ(memory[0], std::byte{0});
}

// A submit that ends at an entry which the kernel refuses has not taken those
// behind it, which are still in the queue.
TEST(SafeHoles, ShortSubmitReleasesNothing) {
  Ring ring = MakeRing({.entries = 8, .setup_flags = 0u});
  const Ends pipe("data");
  std::byte memory[4] = {};
  Arena arena{memory, sizeof(memory)};
  auto refused = ring.Start(Pipe{.flags = O_CREAT});
  auto read = ring.Read(pipe.read, Tracked(arena));
  EXPECT_EQ(ring.Submit().value(), 1u);
  EXPECT_EQ(arena.releases, 0);
  EXPECT_FALSE(ring.Wait(std::move(refused)));
  auto [size, back] = ring.Wait(std::move(read));
  EXPECT_EQ(size.value(), 4u);
  EXPECT_EQ(memory[0], std::byte{'d'});
}

// A file that the program gives up while an operation on it is still in the
// queue keeps its number, so that the operation does not hit another file.
TEST(SafeHoles, NumberOfAQueuedOperationsFileIsNotUsedAgain) {
  Ring ring = MakeRing();
  std::optional<Ends> first("first");
  const int number = first->read.number();
  auto read = ring.Read(first->read, std::string(5, ' '));
  first.reset();
  const Ends other("other");
  EXPECT_NE(other.read.number(), number);
  EXPECT_NE(other.write.number(), number);
  ASSERT_EQ(ring.Wait(std::move(read)).buffer, "first");
  EXPECT_EQ(other.Content(), "other");
}

// A multishot request of which several completions are unread when its ring
// ends owns each result once, and stays what it is until its last one. A plain
// ring has them at once.
TEST(SafeHoles, ManyUnreadCompletionsAtTheEnd) {
  const World world;
  const cases::Listener listener(world);
  const int descriptors = testing::OpenDescriptors();
  for (const bool dropped : {false, true}) {
    std::optional<Stream<Descriptor>> connections;
    Descriptor clients[3];
    {
      Ring ring = MakeRing({.entries = 8, .setup_flags = 0u});
      connections.emplace(ring.Start(AcceptMany{.socket = listener.socket}));
      EXPECT_TRUE(ring.Submit());
      for (Descriptor& client : clients) client = listener.Connect();
      if (dropped) connections.reset();
    }
    int accepted = 0;
    while (connections && connections->ready()) {
      const auto item = connections->Take();
      if (!item) break;
      if (item->has_value()) ++accepted;
    }
    EXPECT_EQ(accepted, dropped ? 0 : 3);
    connections.reset();
    for (Descriptor& client : clients) client = Descriptor();
    EXPECT_EQ(testing::OpenDescriptors(), descriptors);
  }
}

// A kernel that hands out a buffer which a lease has would let it be written
// while it is read.
TEST(SafeHolesDeathTest, BufferThatIsHandedOutTwice) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(
      cases::WithOwnRing([](Ring& ring) {
        auto ignore = [](const io_uring_cqe&) {};
        RawAccess access(ring, ignore);
        const Pair pair;
        auto group = BufferGroup::Create(ring, {.count = 2, .size = 64});
        const ReceiveInto receive = {.socket = pair.here, .group = *group};
        (void)::write(pair.there.number(), "abc", 3);
        const Result<Lease> lease = ring.Wait(ring.Start(ReceiveInto(receive)));
        auto waiting = ring.Start(ReceiveInto(receive));
        const auto itself = ring.Duplicate();
        // The first buffer of a group is number 0.
        access.ring().Push(raw::MsgRing{.ring = itself->number(),
                                        .result = 3,
                                        .data = waiting.record().user_data(),
                                        .flags = IORING_MSG_RING_FLAGS_PASS,
                                        .cqe_flags = IORING_CQE_F_BUFFER},
                           /*user_data=*/1);
        (void)ring.Wait(std::move(waiting));
      }),
      "a completion names a buffer that the kernel does not have");
}

}  // namespace
}  // namespace escrow::safe
