// That sanitizers see what the kernel does: each mistake with memory that an
// operation uses ends the program, and the report names the operation. In other
// builds there is nothing to see.

#include "escrow/ownership/watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/memory.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "escrow/raw/sanitizer.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "tests/support.h"

namespace escrow {
namespace {

using ownership::Descriptor;
using ownership::Unwatch;
using ownership::Watch;
using raw::kAddressSanitizer;
using safe::Ring;

// A buffer type that lies: others have what it says to own.
struct Liar {
  std::byte* data;
  std::size_t size;
};

// One whose bytes are in itself, and can be found there.
struct Inline {
  static inline std::byte* place;
  std::array<std::byte, 64> bytes = {};
};

}  // namespace
}  // namespace escrow

template <>
struct escrow::ownership::OwnedMemory<escrow::Liar> {
  static std::byte* Data(Liar& value) noexcept { return value.data; }
  static std::size_t Size(const Liar& value) noexcept { return value.size; }
};
template <>
struct escrow::ownership::OwnedMemory<escrow::Inline> {
  static std::byte* Data(Inline& value) noexcept {
    return Inline::place = value.bytes.data();
  }
  static std::size_t Size(const Inline& value) noexcept {
    return value.bytes.size();
  }
};

namespace escrow {
namespace {

// Dies with a message that has a match for `message`, where this can be seen.
#define EXPECT_REPORT(statement, message) \
  if (kAddressSanitizer) {                \
    EXPECT_DEATH(statement, message);     \
  }                                       \
  static_assert(true)

// A ring, a pipe that a read waits for and a full one that a write waits for.
class Waiting {
 public:
  Waiting() {
    const testing::Pipe empty;
    in_ = Descriptor::Adopt(empty.read_end);
    in_other_ = Descriptor::Adopt(empty.write_end);
    const testing::Pipe full;
    out_ = Descriptor::Adopt(full.write_end);
    out_other_ = Descriptor::Adopt(full.read_end);
    ::fcntl(out_.number(), F_SETFL, O_NONBLOCK);
    const std::vector<char> bytes(4096, 'f');
    while (::write(out_.number(), bytes.data(), bytes.size()) > 0) continue;
    ::fcntl(out_.number(), F_SETFL, 0);
  }

  auto Read(Liar buffer) { return ring.Read(in_, buffer); }
  auto Write(Liar buffer) { return ring.Write(out_, buffer); }

  void EndRead(std::string_view bytes) {
    ASSERT_EQ(::write(in_other_.number(), bytes.data(), bytes.size()),
              std::ssize(bytes));
  }
  void EndWrite() {
    std::vector<char> bytes(1 << 20);
    ASSERT_GT(::read(out_other_.number(), bytes.data(), bytes.size()), 0);
  }

  // Whatever was started waits when this returns.
  void Settle() { EXPECT_TRUE(ring.Wait(ring.Nop())); }

  Ring ring = MakeRing();
  const Descriptor& in() const { return in_; }

 private:
  static Ring MakeRing() {
    auto ring = Ring::Create({.entries = 8});
    if (!ring) std::abort();
    return std::move(*ring);
  }

  Descriptor in_, in_other_, out_, out_other_;
};

using Block = std::vector<std::byte>;
Liar All(Block& block) { return {block.data(), block.size()}; }

// Kept from the optimizer, which knows what malloc() and free() do.
void Free(void* memory) {
  static void (*volatile free)(void*) = &std::free;
  free(memory);
}
void Touch(std::byte* memory) {
  const_cast<volatile std::byte*>(memory)[0] = std::byte{1};
}

TEST(WatchTest, FreeOfWhatTheKernelWrites) {
  EXPECT_REPORT(
      {
        Waiting its;
        auto* const data = static_cast<std::byte*>(std::malloc(64));
        auto read = its.Read({data, 64});
        its.Settle();
        Free(data);
      },
      "freed while the kernel is using it: \"read\" in flight writes 64 bytes");
}

TEST(WatchTest, FreeOfWhatTheKernelReads) {
  EXPECT_REPORT(
      {
        Waiting its;
        auto* const data = static_cast<std::byte*>(std::calloc(64, 1));
        auto write = its.Write({data + 10, 3});
        Free(data);
      },
      "freed while the kernel is using it: \"write\" in flight reads 3 bytes");
}

TEST(WatchTest, DeleteAfterTheHandleIsDropped) {
  EXPECT_REPORT(
      {
        Waiting its;
        auto block = std::make_unique<Block>(64);
        {
          auto read = its.Read(All(*block));
          its.Settle();
        }
        block.reset();
      },
      "freed while the kernel is using it: \"read\"");
}

TEST(WatchTest, Reallocation) {
  EXPECT_REPORT(
      {
        Waiting its;
        void* const data = std::malloc(64);
        auto read = its.Read({static_cast<std::byte*>(data), 64});
        Free(std::realloc(data, 1 << 16));
      },
      "freed while the kernel is using it: \"read\"");
}

TEST(WatchTest, VectorThatGrows) {
  EXPECT_REPORT(
      {
        Waiting its;
        Block block(64);
        auto read = its.Read(All(block));
        block.resize(block.capacity() + 1);
      },
      "while the kernel is using it: \"read\"");
}

TEST(WatchTest, TouchOfWhatTheKernelWrites) {
  EXPECT_REPORT(
      {
        Waiting its;
        Block block(64);
        auto read = its.Read(All(block));
        Touch(&block[32]);
      },
      "touched while the kernel is using it: \"read\" in flight writes 64");
}

TEST(WatchTest, TouchOfWhatIsInTheRecord) {
  EXPECT_REPORT(
      {
        Waiting its;
        auto read = its.ring.Read(its.in(), Inline());
        its.Settle();
        Touch(Inline::place + 40);
      },
      "touched while the kernel is using it: \"read\" in flight writes 64");
}

TEST(WatchTest, ChangeOfWhatTheKernelReads) {
  EXPECT_REPORT(
      {
        Waiting its;
        Block block(1000);
        auto write = its.Write(All(block));
        its.Settle();
        Touch(&block[999]);
        its.EndWrite();
        (void)its.ring.Wait(std::move(write));
      },
      "changed while the kernel was reading it: \"write\" in flight reads "
      "1000");
}

TEST(WatchTest, TwoReadsIntoTheSame) {
  EXPECT_REPORT(
      {
        Waiting its;
        Block block(64);
        auto one = its.Read({block.data(), 40});
        auto two = its.Read({block.data() + 39, 25});
      },
      "used by two operations at once: \"read\" in flight writes 40 bytes"
      "(.|\n)*the other operation: \"read\" in flight writes 25 bytes");
}

TEST(WatchTest, ReadIntoWhatIsWritten) {
  EXPECT_REPORT(
      {
        Waiting its;
        Block block(64);
        auto one = its.Write(All(block));
        auto two = its.Read(All(block));
      },
      "used by two operations at once: \"write\" in flight reads 64 bytes");
  EXPECT_REPORT(
      {
        Waiting its;
        Block block(64);
        auto one = its.Read(All(block));
        auto two = its.Write({block.data() + 32, 1});
      },
      "used by two operations at once: \"read\" in flight writes 64 bytes");
}

TEST(WatchTest, StartWithWhatIsFreed) {
  EXPECT_REPORT(
      {
        Waiting its;
        auto* const data = static_cast<std::byte*>(std::malloc(64));
        Free(data);
        auto read = its.Read({data, 64});
      },
      "starts on memory that is not valid: \"read\"");
  EXPECT_REPORT(
      {
        Waiting its;
        Block block(64);
        auto write = its.Write({block.data(), 65});
      },
      "starts on memory that is not valid: \"write\"");
}

__attribute__((noinline)) auto ReadIntoFrame(Waiting& its) {
  std::byte local[64] = {};
  return its.Read({local, sizeof(local)});
}

TEST(WatchTest, FrameThatIsLeft) {
  EXPECT_REPORT(
      {
        Waiting its;
        auto read = ReadIntoFrame(its);
        its.EndRead("abc");
        (void)its.ring.Wait(std::move(read));
      },
      "given back while the kernel was writing it: \"read\"");
}

TEST(WatchTest, AllIsTheProgramsAgain) {
  Block block(64);
  const auto use = [&block] {
    for (std::byte& byte : block) byte = std::byte{7};
  };
  {
    Waiting its;
    auto read = its.Read(All(block));
    its.EndRead("abc");
    EXPECT_EQ(its.ring.Wait(std::move(read)).result, 3u);
    EXPECT_EQ(block[2], std::byte{'c'});
    use();
  }
  {
    Waiting its;
    // Taken back from the queue, which the kernel never saw.
    { auto read = its.Read(All(block)); }
    use();
    auto read = its.Read(All(block));
    its.Settle();
    (void)its.ring.Wait(its.ring.Cancel(read));
    EXPECT_FALSE(its.ring.Wait(std::move(read)).result.has_value());
    use();
    // Cancelled, too, as the handle is dropped.
    {
      auto dropped = its.Read(All(block));
      its.Settle();
    }
    while (its.ring.in_flight() > 0) ASSERT_TRUE(its.ring.Dispatch());
    use();
  }
  {
    // What a ring's end has ended.
    auto its = std::make_unique<Waiting>();
    auto read = its->Read(All(block));
    its->Settle();
    its.reset();
    EXPECT_TRUE(read.done());
    use();
  }
  {
    Waiting its;
    auto read = its.ring.Read(
        Descriptor::Adopt(::open("/", O_RDONLY | O_CLOEXEC)), All(block));
    EXPECT_EQ(its.ring.Wait(std::move(read)).result.error(),
              std::errc::is_a_directory);
    use();
  }
}

TEST(WatchTest, ManyMayReadTheSame) {
  Waiting its;
  Block block(64);
  auto one = its.Write(All(block));
  auto two = its.Write(All(block));
  its.Settle();
  // The program, too.
  EXPECT_EQ(block[0], std::byte{0});
  its.EndWrite();
  EXPECT_EQ(its.ring.Wait(std::move(one)).result, 64u);
  EXPECT_EQ(its.ring.Wait(std::move(two)).result, 64u);
}

TEST(WatchTest, WhatIsBesideIsNotTheKernels) {
  Waiting its;
  Block block(64, std::byte{1});
  auto read = its.Read({block.data() + 3, 50});
  for (const std::size_t i : {0, 1, 2, 53, 54, 63}) Touch(&block[i]);
  its.EndRead("abc");
  (void)its.ring.Wait(std::move(read));
  // Freed in parts, and elsewhere, while nothing is in flight.
  block.resize(1 << 16);
}

// Without a ring: what has an owner of another kind.

raw::Memory Written(void* data, std::size_t size) {
  return {data, size, raw::Access::kWrite, raw::Until::kCompletion};
}

TEST(WatchTest, EachUserHasItsOwn) {
  Block block(64);
  const int users[2] = {};
  Watch(&users[0], "one", Written(block.data(), 16));
  Watch(&users[0], "one", Written(block.data() + 32, 16));
  Watch(&users[1], "two", Written(block.data() + 16, 16));
  EXPECT_REPORT(Touch(&block[20]), "\"two\" in flight writes 16 bytes");
  Unwatch(&users[1], 0);
  Touch(&block[20]);
  EXPECT_REPORT(Touch(&block[0]), "\"one\" in flight writes 16 bytes");
  EXPECT_REPORT(Touch(&block[40]), "\"one\" in flight writes 16 bytes");
  Unwatch(&users[0], 0);
  Touch(&block[0]);
  Touch(&block[40]);
  Unwatch(&users[0], 0);
}

TEST(WatchTest, AnAddressThatIsUsedHasToStay) {
  EXPECT_REPORT(
      {
        auto* const word = static_cast<std::byte*>(std::calloc(4, 1));
        Watch(word, "futex wait",
              {word, 4, raw::Access::kAddress, raw::Until::kCompletion});
        Touch(word);
        Free(word);
      },
      "\"futex wait\" in flight uses the address 4 bytes");
}

// A long piece must be found behind many short ones that begin after it.
TEST(WatchTest, LongPiecesAreFound) {
  EXPECT_REPORT(
      {
        Block block(1 << 16);
        int users[101] = {};
        Watch(&users[100], "long",
              {block.data(), block.size(), raw::Access::kRead,
               raw::Until::kCompletion});
        for (std::size_t i = 0; i < 100; ++i) {
          Watch(&users[i], "short",
                {block.data() + 8 * i, 8, raw::Access::kRead,
                 raw::Until::kCompletion});
        }
        Watch(users, "written", Written(block.data() + (1 << 16) - 8, 8));
      },
      "used by two operations at once: \"long\"");
}

TEST(WatchTest, ThreadsAndRingsShareTheLedger) {
  std::vector<std::thread> threads;
  std::atomic<int> done = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&done] {
      Waiting its;
      for (int round = 0; round < 200; ++round) {
        auto* const block = new Block(64 + round);
        auto read = its.Read(All(*block));
        its.EndRead("x");
        EXPECT_EQ(its.ring.Wait(std::move(read)).result, 1u);
        delete block;
      }
      ++done;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 4);
}

// One thread submits and another one reaps, which the kernel synchronizes.
TEST(WatchTest, TheKernelIsAnEdgeBetweenThreads) {
  auto ring = testing::CreatePatiently(
      [] { return raw::Ring::Create({.entries = 8}); });
  ASSERT_TRUE(ring.has_value());
  struct Op {
    int payload = 0;
  } op;
  std::thread submitter([&] {
    op.payload = 42;
    ownership::HandToKernel(&op);
    ring->Push(raw::Nop{}, reinterpret_cast<std::uintptr_t>(&op));
    ASSERT_TRUE(ring->Submit());
  });
  std::thread reaper([&] {
    // Looks into memory that only the kernel writes, with an acquire load.
    while (ring->completions().entries() == 0) std::this_thread::yield();
    for (const io_uring_cqe& cqe : ring->completions()) {
      auto* const completed = reinterpret_cast<Op*>(cqe.user_data);
      ownership::TakeFromKernel(completed);
      EXPECT_EQ(completed->payload, 42);
    }
    ring->Advance(1);
  });
  submitter.join();
  reaper.join();
}

}  // namespace
}  // namespace escrow
