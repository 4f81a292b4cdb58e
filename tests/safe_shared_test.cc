// Memory that several operations share, and memory that stays where it is.

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/ownership/memory.h"
#include "escrow/ownership/pinned.h"
#include "escrow/ownership/registered_buffer.h"
#include "escrow/ownership/shared.h"
#include "escrow/safe/buffer_pool.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/pinned.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using escrow::testing::Arena;
using escrow::testing::Tracked;
using ownership::Pinnable;
using ownership::Pinned;
using ownership::Readable;
using ownership::RegisteredBuffer;
using ownership::Shared;
using ownership::Writable;

static_assert(Readable<Shared<std::string>> && !Writable<Shared<std::string>>);
static_assert(Readable<Shared<ownership::StaticBytes>>);
static_assert(ownership::Registered<Shared<RegisteredBuffer>>);
static_assert(!ownership::Registered<Shared<std::string>>);
static_assert(std::is_copy_constructible_v<Shared<ownership::Buffer>>);

static_assert(Readable<Pinned<int>> && Writable<Pinned<int>>);
static_assert(Readable<Pinned<const int>> && !Writable<Pinned<const int>>);
static_assert(Writable<Pinned<std::string>>);
static_assert(!Writable<Pinned<const std::string>>);
static_assert(Readable<Pinned<ownership::StaticBytes>> &&
              !Writable<Pinned<ownership::StaticBytes>>);
static_assert(!std::is_copy_constructible_v<Pinned<int>>);
static_assert(!std::is_move_constructible_v<Pinnable<int>>);

struct SendSharedCase {
  inline static std::optional<Shared<std::string>> shared;
  static void Prepare(Ring&) { shared.emplace("sent"); }
  static void End() { shared.reset(); }

  Pair pair;
  static constexpr const char* kName = "Send_shared";
  static constexpr const char* kCall = "send";

  auto Good() {
    return Send<Shared<std::string>>{.socket = pair.here, .buffer = *shared};
  }
  void Expect(Transfer<Shared<std::string>> sent) {
    EXPECT_EQ(*sent.result, 4u);
    EXPECT_EQ(*sent.buffer, "sent");
    char bytes[8];
    EXPECT_EQ(::read(pair.there.number(), bytes, sizeof(bytes)), 4);
    EXPECT_EQ(std::string_view(bytes, 4), "sent");
  }
  auto Bad() {
    pair.there = Descriptor();
    return Good();
  }
  static constexpr int kError = EPIPE;
};

struct ReceivePinnedCase {
  // Lives for each of several operations on a ring that does not outlive it.
  std::unique_ptr<Pinnable<std::array<char, 4>>> memory =
      std::make_unique<Pinnable<std::array<char, 4>>>();
  World world;
  Pair pair;
  static constexpr const char* kName = "Receive_pinned";
  static constexpr const char* kCall = "recv";
  using Pin = Pinned<std::array<char, 4>>;

  ~ReceivePinnedCase() {
    // What was dropped in flight is on a ring that goes on.
    if (memory != nullptr && memory->pinned())
      leaked.push_back(std::move(memory));
  }
  inline static std::vector<std::unique_ptr<Pinnable<std::array<char, 4>>>>
      leaked;
  static void Check(Ring&) { leaked.clear(); }
  static void End() { leaked.clear(); }

  Receive<Pin> Good() {
    EndWait();
    return Waits();
  }
  void Expect(Transfer<Pin> received) {
    EXPECT_EQ(received.result.value(), 3u);
    EXPECT_TRUE(memory->pinned());
    { const Pin ended = std::move(received.buffer); }
    EXPECT_EQ(std::string_view((*memory)->data(), 3), "abc");
  }
  Receive<Pin> Bad() {
    return {.socket = world.OpenFile(), .buffer = memory->Pin()};
  }
  static constexpr int kError = ENOTSOCK;
  Receive<Pin> Waits() {
    return {.socket = pair.here, .buffer = memory->Pin()};
  }
  void EndWait() { EXPECT_EQ(::write(pair.there.number(), "abc", 3), 3); }
  void ExpectWaited(Transfer<Pin> received) { Expect(std::move(received)); }
};

using Cases = ::testing::Types<SendSharedCase, ReceivePinnedCase>;
ESCROW_OP_CASES(Shared, Cases);

// Shared.

TEST(Shared, IsSentToManyAtOnceAndEndsWithTheLast) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  std::byte bytes[16] = {};
  Arena arena{bytes, sizeof(bytes)};
  std::vector<Pair> pairs(20);
  std::vector<Operation<Transfer<Shared<Tracked>>>> sends;
  {
    const Shared<Tracked> news{Tracked(arena)};
    for (const Pair& pair : pairs) {
      sends.push_back(ring->Start(
          Send<Shared<Tracked>>{.socket = pair.here, .buffer = news}));
    }
  }
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    EXPECT_EQ(arena.releases, 0);
    EXPECT_EQ(ring->Wait(std::move(sends[i])).result.value(), sizeof(bytes));
    char received[32];
    EXPECT_EQ(::read(pairs[i].there.number(), received, sizeof(received)), 16);
  }
  EXPECT_EQ(arena.releases, 1);
}

TEST(Shared, DroppedInFlightKeepsItsReference) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  // More than the socket takes.
  std::vector<std::byte> bytes(1 << 22);
  Arena arena{bytes.data(), bytes.size()};
  const Pair pair;
  {
    Shared<Tracked> news{Tracked(arena)};
    auto send = ring->Start(Send<Shared<Tracked>>{
        .socket = pair.here, .buffer = news, .flags = MSG_WAITALL});
    EXPECT_TRUE(ring->Submit());
  }
  EXPECT_EQ(arena.releases, 0);
  while (ring->in_flight() > 0) EXPECT_TRUE(ring->Dispatch());
  EXPECT_EQ(arena.releases, 1);
}

TEST(Shared, RegisteredBufferIsWrittenAsSuch) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  auto pool = BufferPool::Create(*ring, {.count = 1, .size = 8});
  ASSERT_TRUE(pool);
  {
    const Shared<RegisteredBuffer> shared(std::move(*pool->Take()));
    const Ends ends;
    auto [written, same] = ring->Wait(ring->Write(ends.write, shared));
    EXPECT_EQ(written.value(), 8u);
    // Told by the name of the call.
    auto [failed, again] = ring->Wait(ring->Write(ends.read, shared));
    EXPECT_TRUE(failed.error().message().starts_with("write (fixed buffer)"));
  }
  EXPECT_EQ(pool->available(), 1u);
}

TEST(Shared, MovedFromHasNoBytes) {
  Shared<std::string> first("bytes");
  const Shared<std::string> second = std::move(first);
  // NOLINTNEXTLINE(bugprone-use-after-move)
  EXPECT_EQ(ownership::OwnedMemory<Shared<std::string>>::Size(first), 0u);
  EXPECT_EQ(second->size(), 5u);
}

// Pinnable.

struct Header {
  int version;
  int length;
};

TEST(Pinnable, IsReadAndWrittenInPlace) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const Ends ends;
  Pinnable<Header> out(Header{3, 4}), in;
  auto [written, pin] = ring->Wait(ring->Write(ends.write, out.PinToRead()));
  EXPECT_EQ(written.value(), sizeof(Header));
  EXPECT_EQ(out->length, 4);
  EXPECT_DEATH(out.Edit() = {}, "Edit\\(\\) of what is pinned");
  {
    auto [read, writing] = ring->Wait(ring->Read(ends.read, in.Pin()));
    EXPECT_EQ(read.value(), sizeof(Header));
    EXPECT_TRUE(in.pinned());
  }
  EXPECT_EQ(in->version, 3);
  in.Edit().version = 5;
  EXPECT_EQ(in->version, 5);
}

TEST(Pinnable, PinsToReadAreManyAndOthersAlone) {
  Pinnable<std::string> text("text");
  {
    const auto first = text.PinToRead();
    const auto second = text.PinToRead();
    EXPECT_EQ(*text, "text");
    EXPECT_DEATH((void)text.Pin(), "Pin\\(\\) of what is pinned");
  }
  EXPECT_FALSE(text.pinned());
  auto pin = text.Pin();
  EXPECT_DEATH((void)text.Pin(), "Pin\\(\\) of what is pinned");
  EXPECT_DEATH((void)text.PinToRead(),
               "PinToRead\\(\\) of what may be written");
  EXPECT_DEATH((void)*text, "a look at what may be written");
  auto moved = std::move(pin);
  EXPECT_TRUE(text.pinned());
  // NOLINTNEXTLINE(bugprone-use-after-move)
  EXPECT_EQ(ownership::OwnedMemory<Pinned<std::string>>::Size(pin), 0u);
}

// Each in a child process, with a ring of its own.
void DestroyWhilePinned() {
  auto ring = Ring::Create({.entries = 8});
  const Ends ends;
  std::optional<Operation<Transfer<Pinned<Header>>>> read;
  {
    Pinnable<Header> header;
    read.emplace(ring->Read(ends.read, header.Pin()));
    (void)ring->Wait(ring->Nop());
  }
}
void DestroyWhilePinnedByAnOutcome() {
  auto ring = Ring::Create({.entries = 8});
  const Ends ends("12345678");
  std::optional<Operation<Transfer<Pinned<Header>>>> read;
  {
    Pinnable<Header, DispatchIfPinned> header({}, {*ring});
    read.emplace(ring->Read(ends.read, header.Pin()));
  }
}

TEST(PinnableDeathTest, DestroyedWhilePinnedFails) {
  EXPECT_DEATH(DestroyWhilePinned(), "a Pinnable destroyed while it is pinned");
  EXPECT_DEATH(DestroyWhilePinnedByAnOutcome(),
               "a Pinnable destroyed while it is pinned");
}

TEST(Pinnable, DestroyedWhilePinnedWaitsForTheKernel) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const Ends ends;
  {
    Pinnable<Header, DispatchIfPinned> header({}, {*ring});
    auto read = ring->Read(ends.read, header.Pin());
    EXPECT_TRUE(ring->Submit());
  }
  EXPECT_EQ(ring->in_flight(), 0u);
}

TEST(Pinnable, AsksTheProgramHowToWait) {
  int asked = 0;
  std::optional<Pinned<Header>> pin;
  const auto wait = [&] {
    if (++asked == 3) pin.reset();
    return true;
  };
  {
    Pinnable<Header, decltype(wait)> header({}, wait);
    pin.emplace(header.Pin());
  }
  EXPECT_EQ(asked, 3);
}

}  // namespace
}  // namespace escrow::safe::cases
