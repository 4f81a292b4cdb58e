// The groups of buffer_group.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_stream_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using ownership::Lease;
using ownership::LeaseBundle;

constexpr std::size_t kCount = 4;
constexpr std::size_t kSize = 8;

std::string Text(const Lease& lease) {
  return {reinterpret_cast<const char*>(lease.data()), lease.size()};
}
std::vector<std::string> Texts(LeaseBundle bundle) {
  std::vector<std::string> texts;
  while (!bundle.empty()) texts.push_back(Text(bundle.Next()));
  return texts;
}
void Put(const Descriptor& file, std::string_view text) {
  EXPECT_EQ(::write(file.number(), text.data(), text.size()), std::ssize(text));
}

// A group of each ring, which outlives it.
template <bool kIncremental, std::size_t kBytes = kSize>
struct Grouped {
  inline static std::optional<BufferGroup> group;

  static void Prepare(Ring& ring) {
    auto made = BufferGroup::Create(
        ring, {.count = kCount, .size = kBytes, .incremental = kIncremental});
    ASSERT_TRUE(made) << made.error().message();
    group = std::move(*made);
  }
  // Whatever became of the operations, the kernel has all buffers again.
  static void Check(Ring& ring) {
    EXPECT_EQ(group->available(), kCount);
    const Pair pair;
    Put(pair.there, std::string(kCount * kBytes + 1, 'x'));
    std::vector<Lease> leases;
    std::size_t size = 0;
    for (;;) {
      auto lease = ring.Wait(
          ring.Start(ReceiveInto{.socket = pair.here, .group = *group}));
      if (!lease) {
        EXPECT_EQ(lease.error(), std::errc::no_buffer_space);
        break;
      }
      size += lease->size();
      leases.push_back(std::move(*lease));
    }
    // One of them may have been used in part.
    EXPECT_GT(size, (kCount - 1) * kBytes);
    leases.clear();
    EXPECT_EQ(group->available(), kCount);
  }
  static void End() { group.reset(); }
};

template <bool kIncremental>
struct ReceiveIntoCase : Grouped<kIncremental, 1024> {
  World world;
  Pair pair;
  static constexpr const char* kName =
      kIncremental ? "ReceiveInto_incremental" : "ReceiveInto";
  static constexpr const char* kCall = "recv (selected buffer)";

  ReceiveInto Good() {
    EndWait();
    return Waits();
  }
  void Expect(Result<Lease> lease) { EXPECT_EQ(Text(*lease), "abc"); }
  ReceiveInto Bad() {
    return {.socket = world.OpenFile(), .group = *this->group};
  }
  static constexpr int kError = ENOTSOCK;
  ReceiveInto Short() {
    EndWait();
    return {.socket = pair.here, .group = *this->group, .limit = 2};
  }
  void ExpectShort(Result<Lease> lease) { EXPECT_EQ(Text(*lease), "ab"); }
  ReceiveInto Waits() { return {.socket = pair.here, .group = *this->group}; }
  void EndWait() { Put(pair.there, "abc"); }
  void ExpectWaited(Result<Lease> lease) { Expect(std::move(lease)); }
};

template <bool kIncremental>
struct ReceiveBundleCase : Grouped<kIncremental> {
  World world;
  Pair pair;
  static constexpr const char* kName =
      kIncremental ? "ReceiveBundle_incremental" : "ReceiveBundle";
  static constexpr const char* kCall = "recv (bundle)";

  ReceiveBundle Good() {
    EndWait();
    return Waits();
  }
  void Expect(Result<LeaseBundle> bundle) {
    EXPECT_EQ(bundle->size(), 10u);
    std::string all;
    for (const std::string& text : Texts(std::move(*bundle))) all += text;
    EXPECT_EQ(all, "0123456789");
  }
  ReceiveBundle Bad() {
    return {.socket = world.OpenFile(), .group = *this->group};
  }
  static constexpr int kError = ENOTSOCK;
  ReceiveBundle Waits() { return {.socket = pair.here, .group = *this->group}; }
  void EndWait() { Put(pair.there, "0123456789"); }
  void ExpectWaited(Result<LeaseBundle> bundle) { Expect(std::move(bundle)); }
};

struct ReadIntoCase : Grouped<false> {
  Ends ends;
  static constexpr const char* kName = "ReadInto";
  static constexpr const char* kCall = "read (selected buffer)";

  ReadInto Good() {
    EndWait();
    return Waits();
  }
  void Expect(Result<Lease> lease) { EXPECT_EQ(Text(*lease), "abc"); }
  ReadInto Bad() { return {.file = ends.write, .group = *group}; }
  static constexpr int kError = EBADF;
  ReadInto Short() {
    EndWait();
    return {.file = ends.read, .group = *group, .limit = 2};
  }
  void ExpectShort(Result<Lease> lease) { EXPECT_EQ(Text(*lease), "ab"); }
  ReadInto Waits() { return {.file = ends.read, .group = *group}; }
  void EndWait() { Put(ends.write, "abc"); }
  void ExpectWaited(Result<Lease> lease) { Expect(std::move(lease)); }
};

struct ReadFileIntoCase : Grouped<false> {
  World world;
  static constexpr const char* kName = "ReadInto_file";
  static constexpr const char* kCall = "read (selected buffer)";

  ReadInto Good() {
    return {.file = world.OpenFile(), .group = *group, .offset = 4};
  }
  void Expect(Result<Lease> lease) { EXPECT_EQ(Text(*lease), "456789"); }
  ReadInto Bad() {
    return {.file = world.OpenDirectory(), .group = *group, .offset = 0};
  }
  static constexpr int kError = EISDIR;
};

using Cases =
    ::testing::Types<ReceiveIntoCase<false>, ReceiveIntoCase<true>,
                     ReceiveBundleCase<false>, ReceiveBundleCase<true>,
                     ReadIntoCase, ReadFileIntoCase>;
ESCROW_OP_CASES(BufferGroup, Cases);

// Streams. With more room than they use up before anybody takes an item.
[[maybe_unused]] void ExpectSent(const std::string& text) {
  EXPECT_EQ(text.substr(0, 3), "abc");
  EXPECT_EQ(text.size() % 3, 0u);
}

template <typename T, bool kIncremental>
struct Streamed : Grouped<kIncremental, 16384> {
  World world;
  Pair pair;

  T Op() { return {.socket = pair.here, .group = *this->group}; }
  void Send() { Put(pair.there, "abc"); }
  void Finish() { pair.there = Descriptor(); }
  T Bad() { return {.socket = world.OpenFile(), .group = *this->group}; }
  static constexpr int kError = ENOTSOCK;
};

template <bool kIncremental>
struct ReceiveManyCase : Streamed<ReceiveMany, kIncremental> {
  static constexpr const char* kName =
      kIncremental ? "ReceiveMany_incremental" : "ReceiveMany";
  static constexpr const char* kCall = "recv (multishot)";

  void Expect(Result<Lease> lease) { ExpectSent(Text(*lease)); }
};

template <bool kIncremental>
struct ReceiveBundlesCase : Streamed<ReceiveBundles, kIncremental> {
  static constexpr const char* kName =
      kIncremental ? "ReceiveBundles_incremental" : "ReceiveBundles";
  static constexpr const char* kCall = "recv (bundle, multishot)";

  void Expect(Result<LeaseBundle> bundle) {
    ASSERT_FALSE(bundle->empty());
    ExpectSent(Text(bundle->Next()));
    EXPECT_TRUE(bundle->empty());
  }
};

template <bool kIncremental>
struct ReadManyCase : Grouped<kIncremental, 16384> {
  Ends ends;
  static constexpr const char* kName =
      kIncremental ? "ReadMany_incremental" : "ReadMany";
  static constexpr const char* kCall = "read (multishot)";

  ReadMany Op() { return {.file = ends.read, .group = *this->group}; }
  void Send() { Put(ends.write, "abc"); }
  void Finish() { ends.write = Descriptor(); }
  void Expect(Result<Lease> lease) { ExpectSent(Text(*lease)); }
  ReadMany Bad() { return {.file = ends.write, .group = *this->group}; }
  static constexpr int kError = EBADF;
};

using StreamCases =
    ::testing::Types<ReceiveManyCase<false>, ReceiveManyCase<true>,
                     ReceiveBundlesCase<false>, ReceiveBundlesCase<true>,
                     ReadManyCase<false>, ReadManyCase<true>>;
ESCROW_STREAM_CASES(BufferGroup, StreamCases);

// What a row cannot say.

class SafeBufferGroup : public ::testing::TestWithParam<bool> {
 protected:
  SafeBufferGroup() : ring_(MakeRing()), group_(MakeGroup(GetParam())) {}
  ~SafeBufferGroup() override {
    if (group_ && ring_) {
      EXPECT_EQ(group_->available(), kCount);
    }
  }

  static std::optional<Ring> MakeRing() {
    auto ring = Ring::Create({.entries = 8});
    EXPECT_TRUE(ring) << ring.error().message();
    return std::move(*ring);
  }
  std::optional<BufferGroup> MakeGroup(bool incremental,
                                       std::size_t size = kSize) {
    auto group = BufferGroup::Create(
        *ring_, {.count = kCount, .size = size, .incremental = incremental});
    EXPECT_TRUE(group) << group.error().message();
    return std::move(*group);
  }
  ReceiveInto Receive() { return {.socket = pair_.here, .group = *group_}; }
  Result<Lease> Get() { return ring_->Wait(ring_->Start(Receive())); }
  Result<LeaseBundle> GetBundle() {
    return ring_->Wait(
        ring_->Start(ReceiveBundle{.socket = pair_.here, .group = *group_}));
  }
  // One may bring fewer bytes than there are.
  std::string GetBytes(std::size_t count) {
    std::string all;
    while (all.size() < count) {
      auto lease = Get();
      if (!lease || lease->empty()) return all + " and no more";
      all += Text(*lease);
    }
    return all;
  }
  std::string GetBundles(std::size_t count) {
    std::string all;
    while (all.size() < count) {
      auto bundle = GetBundle();
      if (!bundle || bundle->empty()) return all + " and no more";
      for (const auto& text : Texts(std::move(*bundle))) all += text;
    }
    return all;
  }
  void Drain() {
    while (ring_->in_flight() > 0) EXPECT_TRUE(ring_->Dispatch());
  }

  Pair pair_;
  std::optional<Ring> ring_;
  std::optional<BufferGroup> group_;
};
INSTANTIATE_TEST_SUITE_P(, SafeBufferGroup, ::testing::Bool(),
                         [](const auto& param) {
                           return param.param ? "Incremental" : "Plain";
                         });

TEST_P(SafeBufferGroup, RunsDryAndGoesOn) {
  std::vector<Lease> leases;
  for (std::size_t i = 0; i < kCount; ++i) {
    Put(pair_.there, std::string(kSize, static_cast<char>('a' + i)));
    auto lease = Get();
    ASSERT_TRUE(lease) << lease.error().message();
    leases.push_back(std::move(*lease));
    EXPECT_EQ(group_->available(), kCount - i - 1);
  }
  Put(pair_.there, "more");
  EXPECT_EQ(Get().error(), std::errc::no_buffer_space);
  EXPECT_EQ(GetBundle().error(), std::errc::no_buffer_space);
  for (std::size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(Text(leases[i]), std::string(kSize, static_cast<char>('a' + i)));
  }
  leases.erase(leases.begin() + 1);
  EXPECT_EQ(group_->available(), 1u);
  EXPECT_EQ(Text(Get().value()), "more");
  EXPECT_EQ(Text(leases[1]), std::string(kSize, 'c'));
}

TEST_P(SafeBufferGroup, EndOfAStreamHasNoBytes) {
  pair_.there = Descriptor();
  const auto lease = Get();
  ASSERT_TRUE(lease) << lease.error().message();
  EXPECT_TRUE(lease->empty());
  const auto bundle = GetBundle();
  ASSERT_TRUE(bundle);
  EXPECT_TRUE(bundle->empty());
  EXPECT_EQ(group_->available(), kCount);
}

TEST_P(SafeBufferGroup, LeaseIsSentOn) {
  Put(pair_.there, "echo");
  auto lease = Get();
  ASSERT_TRUE(lease);
  (*lease)[0] = std::byte{'E'};
  auto [sent, back] = ring_->Wait(ring_->Start(
      Send<Lease>{.socket = pair_.here, .buffer = std::move(*lease)}));
  EXPECT_EQ(sent.value(), 4u);
  char bytes[8];
  EXPECT_EQ(::read(pair_.there.number(), bytes, sizeof(bytes)), 4);
  EXPECT_EQ(std::string_view(bytes, 4), "Echo");
}

TEST_P(SafeBufferGroup, OutcomesAreTakenInAnyOrder) {
  const Pair other;
  auto first = ring_->Start(Receive());
  auto second =
      ring_->Start(ReceiveInto{.socket = other.here, .group = *group_});
  EXPECT_TRUE(ring_->Submit());
  Put(other.there, "one");
  while (!second.done()) EXPECT_TRUE(ring_->Wait(ring_->Nop()));
  Put(pair_.there, "two");
  EXPECT_EQ(Text(ring_->Wait(std::move(first)).value()), "two");
  EXPECT_EQ(Text(ring_->Wait(std::move(second)).value()), "one");
}

// With a deadline an operation is over only when that is, too, but its place
// in the buffer is that of its completion.
TEST_P(SafeBufferGroup, DeadlinesDoNotDisturbTheOrder) {
  const Pair other;
  group_ = MakeGroup(GetParam(), 4096);
  for (int i = 0; i < 50; ++i) {
    auto first = ring_->Start(Receive(), {.deadline = std::chrono::hours(1)});
    auto second =
        ring_->Start(ReceiveInto{.socket = other.here, .group = *group_});
    EXPECT_TRUE(ring_->Submit());
    Put(pair_.there, "one");
    Put(other.there, "two");
    EXPECT_EQ(Text(ring_->Wait(std::move(second)).value()), "two");
    EXPECT_EQ(Text(ring_->Wait(std::move(first)).value()), "one");
  }
}

TEST_P(SafeBufferGroup, BundlesOverSeveralBuffers) {
  Put(pair_.there, "0123456789012345");
  auto bundle = GetBundle();
  ASSERT_TRUE(bundle) << bundle.error().message();
  EXPECT_EQ(bundle->size(), 16u);
  EXPECT_EQ(group_->available(), 2u);
  {
    const Lease first = bundle->Next();
    EXPECT_EQ(Text(first), "01234567");
    EXPECT_EQ(bundle->size(), 8u);
    const LeaseBundle rest = std::move(*bundle);
    EXPECT_EQ(group_->available(), 2u);
    EXPECT_TRUE(bundle->empty());
  }
  EXPECT_EQ(group_->available(), kCount);
  // On from there, and round the end of the ring.
  for (int i = 0; i < 5; ++i) {
    Put(pair_.there, "abcdefghijklmnopqrs");
    EXPECT_EQ(GetBundles(19), "abcdefghijklmnopqrs");
  }
}

TEST_P(SafeBufferGroup, BundlesFollowTheOrderOfReturning) {
  std::vector<Lease> leases;
  for (std::size_t i = 0; i < kCount; ++i) {
    Put(pair_.there, std::string(kSize, 'x'));
    leases.push_back(std::move(Get().value()));
  }
  for (const std::size_t i : {2, 0, 3, 1}) leases[i] = Lease();
  Put(pair_.there, "aaaaaaaabbbbbbbbccccccccdddddddd");
  auto bundle = GetBundle();
  ASSERT_TRUE(bundle);
  EXPECT_EQ(Texts(std::move(*bundle)),
            (std::vector<std::string>{"aaaaaaaa", "bbbbbbbb", "cccccccc",
                                      "dddddddd"}));
}

// A bundle that comes to nothing may leave the kernel's entry shortened.
TEST_P(SafeBufferGroup, BundlesWithOtherReceives) {
  for (int i = 0; i < 20; ++i) {
    Put(pair_.there, "abc");
    EXPECT_EQ(GetBytes(3), "abc");
    Put(pair_.there, "0123456789");
    EXPECT_EQ(GetBundles(10), "0123456789");
  }
}

TEST_P(SafeBufferGroup, EndsBeforeItsLeases) {
  Put(pair_.there, "lease");
  auto lease = Get();
  Put(pair_.there, "0123456789");
  auto bundle = GetBundle();
  ASSERT_TRUE(lease && bundle);
  group_.reset();
  EXPECT_EQ(Text(*lease), "lease");
  *lease = Lease();
  std::string all;
  for (const auto& text : Texts(std::move(*bundle))) all += text;
  EXPECT_EQ(all, "0123456789");
  group_ = MakeGroup(GetParam());
  Put(pair_.there, "new");
  EXPECT_EQ(Text(Get().value()), "new");
}

TEST_P(SafeBufferGroup, EndsBeforeWhatWasDropped) {
  { auto never_submitted = ring_->Start(Receive()); }
  {
    auto waiting = ring_->Start(Receive());
    EXPECT_TRUE(ring_->Submit());
  }
  {
    Put(pair_.there, "abc");
    auto submitted = ring_->Start(Receive());
    EXPECT_TRUE(ring_->Submit());
  }
  group_.reset();
  Drain();
}

TEST_P(SafeBufferGroup, OperationKeepsIt) {
  auto receive = ring_->Start(Receive());
  EXPECT_TRUE(ring_->Submit());
  group_.reset();
  Put(pair_.there, "late");
  EXPECT_EQ(Text(ring_->Wait(std::move(receive)).value()), "late");
}

TEST_P(SafeBufferGroup, RingEndsFirst) {
  Put(pair_.there, "lease");
  auto lease = Get();
  Put(pair_.there, "0123456789");
  auto done =
      ring_->Start(ReceiveBundle{.socket = pair_.here, .group = *group_});
  auto receive = ring_->Start(Receive());
  { auto dropped = ring_->Start(Receive()); }
  while (!done.done()) EXPECT_TRUE(ring_->Wait(ring_->Nop()));
  ring_.reset();
  EXPECT_EQ(std::move(receive).Take().error(), std::errc::operation_canceled);
  std::string all;
  for (const auto& text : Texts(std::move(std::move(done).Take().value()))) {
    all += text;
  }
  EXPECT_EQ(all, "0123456789");
  EXPECT_EQ(Text(*lease), "lease");
  group_.reset();
  EXPECT_EQ(Text(*lease), "lease");
}

TEST_P(SafeBufferGroup, GroupsOfARingDoNotMeet) {
  auto other = MakeGroup(!GetParam());
  Put(pair_.there, "mine");
  const auto lease = Get();
  EXPECT_EQ(other->available(), kCount);
  Put(pair_.there, "other");
  const auto theirs = ring_->Wait(
      ring_->Start(ReceiveInto{.socket = pair_.here, .group = *other}));
  EXPECT_EQ(Text(lease.value()), "mine");
  EXPECT_EQ(Text(theirs.value()), "other");
}

TEST_P(SafeBufferGroup, RefusesWhatCannotBe) {
  for (const BufferGroupOptions options :
       {BufferGroupOptions{.count = 0}, BufferGroupOptions{.size = 0},
        BufferGroupOptions{.count = (1u << 15) + 1},
        BufferGroupOptions{.size = std::size_t{1} << 31}}) {
    EXPECT_EQ(BufferGroup::Create(*ring_, options).error(),
              std::errc::invalid_argument);
  }
  Put(pair_.there, "x");
  const auto bundle = ring_->Wait(ring_->Start(ReceiveBundle{
      .socket = pair_.here, .group = *group_, .flags = MSG_WAITALL}));
  EXPECT_EQ(bundle.error(), std::errc::invalid_argument);
  const auto lease = ring_->Wait(ring_->Start(
      ReceiveInto{.socket = pair_.here, .group = *group_, .flags = MSG_TRUNC}));
  Put(pair_.there, "y");
  const auto read =
      ring_->Wait(ring_->Start(ReadInto{.file = pair_.here, .group = *group_}));
  if (GetParam()) {
    EXPECT_EQ(lease.error(), std::errc::invalid_argument);
    EXPECT_EQ(read.error(), std::errc::invalid_argument);
  } else {
    EXPECT_EQ(lease->size(), 1u);
  }
}

TEST_P(SafeBufferGroup, StreamsLeases) {
  auto stream =
      ring_->Start(ReceiveMany{.socket = pair_.here, .group = *group_});
  std::string sent, got;
  for (int i = 0; i < 50; ++i) {
    const std::string text = std::to_string(i) + " ";
    sent += text;
    Put(pair_.there, text);
    while (got.size() < sent.size()) {
      auto lease = ring_->Next(stream);
      ASSERT_TRUE(lease && *lease) << (*lease).error().message();
      EXPECT_FALSE((*lease)->empty());
      got += Text(**lease);
    }
  }
  EXPECT_EQ(got, sent);
  pair_.there = Descriptor();
  EXPECT_FALSE(ring_->Next(stream));
}

TEST_P(SafeBufferGroup, StreamGoesOnWhenALeaseIsBack) {
  auto stream =
      ring_->Start(ReceiveMany{.socket = pair_.here, .group = *group_});
  const std::string sent(kCount * kSize + 3, 'x');
  Put(pair_.there, sent);
  std::string got;
  std::vector<Lease> leases;
  for (;;) {
    auto lease = ring_->Next(stream);
    ASSERT_TRUE(lease);
    if (!*lease) {
      EXPECT_EQ(lease->error(), std::errc::no_buffer_space);
      break;
    }
    got += Text(**lease);
    leases.push_back(std::move(**lease));
  }
  EXPECT_EQ(got.size(), kCount * kSize);
  leases.clear();
  auto lease = ring_->Next(stream);
  ASSERT_TRUE(lease && *lease);
  EXPECT_EQ(Text(**lease), "xxx");
}

// What a callback is told, which keeps what it gets.
struct Kept {
  std::string text;
  std::vector<Lease> leases;
  int dry = 0;
  bool over = false;

  void operator()(std::optional<Result<Lease>> item) {
    if (!item) {
      over = true;
    } else if (*item) {
      text += Text(**item);
      leases.push_back(std::move(**item));
    } else {
      EXPECT_EQ(item->error(), std::errc::no_buffer_space);
      ++dry;
    }
  }
};

TEST_P(SafeBufferGroup, CallbackIsCalledAgainWhenALeaseIsBack) {
  const std::string sent((kCount + 1) * kSize, 'x');
  Put(pair_.there, sent);
  Kept kept;
  ring_->Start(ReceiveMany{.socket = pair_.here, .group = *group_})
      .ForEach([&](auto item) { kept(std::move(item)); });
  // It waits, and does not try in vain.
  Drain();
  EXPECT_EQ(ring_->Dispatch().value(), 0u);
  EXPECT_EQ(kept.dry, 1);
  EXPECT_EQ(kept.text.size(), kCount * kSize);
  kept.leases.erase(kept.leases.begin());
  while (kept.text.size() < sent.size()) {
    ASSERT_EQ(ring_->in_flight(), 1u);
    ASSERT_TRUE(ring_->Dispatch());
    if (group_->available() == 0 && kept.text.size() < sent.size()) {
      kept.leases.clear();
    }
  }
  EXPECT_EQ(kept.text, sent);
  kept.leases.clear();
  pair_.there = Descriptor();
  Drain();
  EXPECT_TRUE(kept.over);
}

TEST_P(SafeBufferGroup, CallbackThatGivesALeaseBackGoesOn) {
  const std::string sent((kCount + 1) * kSize, 'x');
  Put(pair_.there, sent);
  Kept kept;
  ring_->Start(ReceiveMany{.socket = pair_.here, .group = *group_})
      .ForEach([&](auto item) {
        const bool dry = item && !*item;
        kept(std::move(item));
        if (dry) kept.leases.clear();
        return kept.text.size() < sent.size();
      });
  Drain();
  EXPECT_EQ(kept.text, sent);
  EXPECT_GE(kept.dry, 1);
}

TEST_P(SafeBufferGroup, CallbackThatWantsNoMoreDoesNotWait) {
  Put(pair_.there, std::string((kCount + 1) * kSize, 'x'));
  std::vector<Lease> leases;
  const auto alive = std::make_shared<int>();
  ring_->Start(ReceiveMany{.socket = pair_.here, .group = *group_})
      .ForEach([&leases, alive](auto item) {
        if (!item || !*item) return false;
        leases.push_back(std::move(**item));
        return true;
      });
  Drain();
  EXPECT_EQ(alive.use_count(), 1);
  leases.clear();
  EXPECT_EQ(ring_->in_flight(), 0u);
}

TEST_P(SafeBufferGroup, StreamsWaitForTheSameBuffers) {
  Pair other;
  Kept kept[2];
  const auto start = [&](const Descriptor& socket, Kept& its) {
    ring_->Start(ReceiveMany{.socket = socket, .group = *group_})
        .ForEach([&](auto item) { its(std::move(item)); });
  };
  const std::string sent(kCount * kSize, 'x');
  Put(pair_.there, sent);
  start(pair_.here, kept[0]);
  while (group_->available() > 0) ASSERT_TRUE(ring_->Dispatch());
  Put(pair_.there, "abc");
  Put(other.there, "def");
  start(other.here, kept[1]);
  Drain();
  EXPECT_EQ(kept[0].dry, 1);
  EXPECT_EQ(kept[1].dry, 1);
  kept[0].leases.clear();
  EXPECT_EQ(ring_->in_flight(), 2u);
  while (kept[0].text.size() < sent.size() + 3 || kept[1].text.empty()) {
    ASSERT_TRUE(ring_->Dispatch());
  }
  EXPECT_EQ(kept[0].text, sent + "abc");
  EXPECT_EQ(kept[1].text, "def");
  pair_.there = Descriptor();
  other.there = Descriptor();
  Drain();
  EXPECT_TRUE(kept[0].over);
  EXPECT_TRUE(kept[1].over);
}

TEST_P(SafeBufferGroup, RingEndsWhileACallbackWaitsForALease) {
  for (const bool back : {false, true}) {
    Put(pair_.there, std::string((kCount + 1) * kSize, 'x'));
    const auto kept = std::make_shared<Kept>();
    ring_->Start(ReceiveMany{.socket = pair_.here, .group = *group_})
        .ForEach([kept](auto item) { (*kept)(std::move(item)); });
    Drain();
    EXPECT_EQ(kept->dry, 1);
    // In the second round it is about to be started again.
    if (back) kept->leases.pop_back();
    ring_.reset();
    EXPECT_EQ(kept.use_count(), 1);
    EXPECT_FALSE(kept->over);
    kept->leases.clear();
    pair_ = Pair();
    ring_ = MakeRing();
    group_ = MakeGroup(GetParam());
  }
}

// It had nothing left to be called for before there was a callback.
TEST_P(SafeBufferGroup, RingEndsAfterAStreamRanDryUnread) {
  const int descriptors = escrow::testing::OpenDescriptors();
  for (const bool called : {false, true}) {
    Put(pair_.there, std::string((kCount + 1) * kSize, 'x'));
    auto stream =
        ring_->Start(ReceiveMany{.socket = pair_.here, .group = *group_});
    while (ring_->in_flight() > 0) EXPECT_TRUE(ring_->Wait(ring_->Nop()));
    EXPECT_EQ(group_->available(), 0u);
    const auto kept = std::make_shared<Kept>();
    std::move(stream).ForEach([kept](auto item) { (*kept)(std::move(item)); });
    if (called) {
      EXPECT_EQ(ring_->Dispatch().value(), 1u);
      EXPECT_EQ(kept->dry, 1);
    }
    ring_.reset();
    EXPECT_EQ(kept.use_count(), 1);
    kept->leases.clear();
    pair_ = Pair();
    ring_ = MakeRing();
    group_ = MakeGroup(GetParam());
    EXPECT_EQ(escrow::testing::OpenDescriptors(), descriptors);
  }
}

TEST_P(SafeBufferGroup, StreamThatIsDroppedGivesBackWhatNobodyTook) {
  {
    auto stream =
        ring_->Start(ReceiveMany{.socket = pair_.here, .group = *group_});
    EXPECT_TRUE(ring_->Submit());
    for (int i = 0; i < 3; ++i) {
      Put(pair_.there, std::string(kSize, 'x'));
      EXPECT_TRUE(ring_->Wait(ring_->Nop()));
    }
    EXPECT_LT(group_->available(), kCount);
  }
  Drain();
  EXPECT_EQ(group_->available(), kCount);
}

TEST_P(SafeBufferGroup, StreamOutlivesTheRing) {
  auto stream =
      ring_->Start(ReceiveMany{.socket = pair_.here, .group = *group_});
  EXPECT_TRUE(ring_->Submit());
  Put(pair_.there, "item");
  EXPECT_TRUE(ring_->Wait(ring_->Nop()));
  ring_.reset();
  group_.reset();
  ASSERT_TRUE(stream.ready());
  const auto lease = stream.Take();
  ASSERT_TRUE(lease && *lease);
  EXPECT_EQ(Text(**lease), "item");
}

TEST_P(SafeBufferGroup, StreamsBundles) {
  auto stream =
      ring_->Start(ReceiveBundles{.socket = pair_.here, .group = *group_});
  for (int i = 0; i < 20; ++i) {
    Put(pair_.there, "0123456789ab");
    std::string got;
    while (got.size() < 12) {
      auto bundle = ring_->Next(stream);
      ASSERT_TRUE(bundle && *bundle) << bundle->error().message();
      for (const auto& text : Texts(std::move(**bundle))) got += text;
    }
    EXPECT_EQ(got, "0123456789ab");
  }
  pair_.there = Descriptor();
  EXPECT_FALSE(ring_->Next(stream));
}

TEST_P(SafeBufferGroup, StreamsWhatIsRead) {
  Ends ends;
  auto stream = ring_->Start(ReadMany{.file = ends.read, .group = *group_});
  std::string got;
  for (int i = 0; i < 20; ++i) {
    Put(ends.write, "abcde");
    while (got.size() < 5u) {
      auto lease = ring_->Next(stream);
      ASSERT_TRUE(lease && *lease) << lease->error().message();
      got += Text(**lease);
    }
    EXPECT_EQ(std::exchange(got, ""), "abcde");
  }
  ends.write = Descriptor();
  EXPECT_FALSE(ring_->Next(stream));
}

// Each in a child process, whose rings are its own.
void UseOnAnotherRing(bool own_is_gone) {
  const Pair pair;
  auto ring = Ring::Create({.entries = 8});
  auto group = BufferGroup::Create(*ring, {.count = kCount, .size = kSize});
  if (own_is_gone) {
    // One in its place, as far as that goes.
    { const Ring gone = std::move(*ring); }
    ring = Ring::Create({.entries = 8});
    (void)ring->Start(ReceiveInto{.socket = pair.here, .group = *group});
  } else {
    auto other = Ring::Create({.entries = 8});
    (void)other->Start(ReceiveInto{.socket = pair.here, .group = *group});
  }
}
TEST(SafeBufferGroupDeathTest, BelongsToOneRing) {
  for (const bool own_is_gone : {false, true}) {
    EXPECT_DEATH(UseOnAnotherRing(own_is_gone),
                 "a BufferGroup used on a ring other than its own");
  }
}

using SafeIncrementalGroup = SafeBufferGroup;
INSTANTIATE_TEST_SUITE_P(, SafeIncrementalGroup, ::testing::Values(true));

TEST_P(SafeIncrementalGroup, LeasesShareABuffer) {
  Put(pair_.there, "abc");
  auto first = Get();
  Put(pair_.there, "de");
  auto second = Get();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(second->data(), first->data() + 3);
  EXPECT_EQ(group_->available(), kCount);
  *first = Lease();
  // The rest of the buffer is still to be filled.
  Put(pair_.there, "fgh");
  auto third = Get();
  EXPECT_EQ(third->data(), second->data() + 2);
  EXPECT_EQ(group_->available(), kCount - 1);
  EXPECT_EQ(Text(*second) + Text(*third), "defgh");
  *third = Lease();
  EXPECT_EQ(group_->available(), kCount - 1);
  *second = Lease();
  EXPECT_EQ(group_->available(), kCount);
}

TEST_P(SafeIncrementalGroup, BundleBeginsAndEndsInsideBuffers) {
  Put(pair_.there, "abc");
  auto before = Get();
  Put(pair_.there, "0123456789ABCDEF");
  auto bundle = GetBundle();
  Put(pair_.there, "xyz");
  auto behind = Get();
  ASSERT_TRUE(before && bundle && behind);
  EXPECT_EQ(Texts(std::move(*bundle)),
            (std::vector<std::string>{"01234", "56789ABC", "DEF"}));
  EXPECT_EQ(Text(*before), "abc");
  EXPECT_EQ(Text(*behind), "xyz");
  EXPECT_EQ(group_->available(), kCount - 1);
}

TEST_P(SafeIncrementalGroup, FirstOfSeveralIsTheOneThatCompletedFirst) {
  // Some by a worker thread, if that were allowed.
  group_ = MakeGroup(true, 4096);
  std::vector<Pair> pairs(6);
  for (int round = 0; round < 50; ++round) {
    std::vector<Operation<Result<Lease>>> receives;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      Put(pairs[i].there, std::string(i + 1, static_cast<char>('a' + i)));
      receives.push_back(
          ring_->Start(ReceiveInto{.socket = pairs[i].here, .group = *group_},
                       {.async = i % 2 == 0}));
    }
    for (std::size_t i = pairs.size(); i > 0; --i) {
      auto lease = ring_->Wait(std::move(receives[i - 1]));
      ASSERT_TRUE(lease) << lease.error().message();
      EXPECT_EQ(Text(*lease), std::string(i, static_cast<char>('a' + i - 1)));
    }
  }
}

}  // namespace
}  // namespace escrow::safe::cases
