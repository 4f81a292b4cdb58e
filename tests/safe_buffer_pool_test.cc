// The buffers of buffer_pool.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/registered_buffer.h"
#include "escrow/safe/buffer_pool.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "tests/allocations.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using ownership::RegisteredBuffer;
using ownership::Slice;

constexpr BufferPoolOptions kOptions = {.count = 4, .size = 100};

std::string_view Text(const RegisteredBuffer& buffer, std::size_t size) {
  return {reinterpret_cast<const char*>(buffer.data()), size};
}
void Fill(RegisteredBuffer& buffer, std::string_view text) {
  std::memcpy(buffer.data(), text.data(), text.size());
  buffer.resize(text.size());
}

// A pool of each ring.
struct Pooled {
  inline static std::optional<BufferPool> pool;
  static void Prepare(Ring& ring) {
    auto made = BufferPool::Create(ring, kOptions);
    ASSERT_TRUE(made) << made.error().message();
    pool = std::move(*made);
  }
  static void Check(Ring&) { EXPECT_EQ(pool->available(), kOptions.count); }
  static void End() { pool.reset(); }
  static bool HasRoom() { return pool->available() >= 2; }
  static RegisteredBuffer Buffer() { return std::move(*pool->Take()); }
};

// Any op takes one, and gives it back.
struct ReceiveCase : Pooled {
  World world;
  Pair pair;
  static constexpr const char* kName = "Receive";
  static constexpr const char* kCall = "recv";

  Receive<RegisteredBuffer> Good() {
    EndWait();
    return Waits();
  }
  void Expect(Transfer<RegisteredBuffer> received) {
    EXPECT_EQ(Text(received.buffer, received.result.value()), "abc");
  }
  Receive<RegisteredBuffer> Bad() {
    return {.socket = world.OpenFile(), .buffer = Buffer()};
  }
  static constexpr int kError = ENOTSOCK;
  Receive<RegisteredBuffer> Waits() {
    return {.socket = pair.here, .buffer = Buffer()};
  }
  void EndWait() { EXPECT_EQ(::write(pair.there.number(), "abc", 3), 3); }
  void ExpectWaited(Transfer<RegisteredBuffer> received) {
    Expect(std::move(received));
  }
};
// Those that have a form for registered memory are called after it.
struct ReadCase : Pooled {
  World world;
  Ends ends{"abc"};
  static constexpr const char* kName = "Read";
  static constexpr const char* kCall = "read (fixed buffer)";

  Read<RegisteredBuffer> Good() {
    return {.file = world.OpenFile(), .buffer = Buffer(), .offset = 4};
  }
  void Expect(Transfer<RegisteredBuffer> read) {
    EXPECT_EQ(Text(read.buffer, read.result.value()), "456789");
  }
  Read<RegisteredBuffer> Bad() {
    return {.file = ends.write, .buffer = Buffer()};
  }
  static constexpr int kError = EBADF;
};
struct WriteCase : Pooled {
  World world;
  Ends ends;
  static constexpr const char* kName = "Write";
  static constexpr const char* kCall = "write (fixed buffer)";

  Write<RegisteredBuffer> Make(const Descriptor& file) {
    RegisteredBuffer buffer = Buffer();
    Fill(buffer, "abc");
    return {.file = file, .buffer = std::move(buffer)};
  }
  Write<RegisteredBuffer> Good() { return Make(ends.write); }
  void Expect(Transfer<RegisteredBuffer> written) {
    EXPECT_EQ(written.result.value(), 3u);
    EXPECT_EQ(ends.Content(), "abc");
  }
  Write<RegisteredBuffer> Bad() { return Make(ends.read); }
  static constexpr int kError = EBADF;
};
using Cases = ::testing::Types<ReceiveCase, ReadCase, WriteCase>;
ESCROW_OP_CASES(BufferPool, Cases);

class SafeBufferPool : public ::testing::Test {
 protected:
  SafeBufferPool() : ring_(MakeRing()), pool_(MakePool(ring_)) {}
  ~SafeBufferPool() override {
    if (pool_) {
      EXPECT_EQ(pool_->available(), kOptions.count);
    }
  }

  static std::optional<Ring> MakeRing() {
    auto ring = Ring::Create({.entries = 8});
    EXPECT_TRUE(ring) << ring.error().message();
    return std::move(*ring);
  }
  static std::optional<BufferPool> MakePool(std::optional<Ring>& ring) {
    auto pool = BufferPool::Create(*ring, kOptions);
    EXPECT_TRUE(pool) << pool.error().message();
    return std::move(*pool);
  }
  void Drain() {
    while (ring_->in_flight() > 0) EXPECT_TRUE(ring_->Dispatch());
  }

  World world_;
  Descriptor file_ = world_.OpenFile();
  std::optional<Ring> ring_;
  std::optional<BufferPool> pool_;
};

TEST_F(SafeBufferPool, ReadsAndWrites) {
  auto buffer = pool_->Take();
  ASSERT_TRUE(buffer);
  EXPECT_EQ(buffer->size(), kOptions.size);
  auto [size, data] = ring_->Wait(ring_->Read(file_, std::move(*buffer), 4));
  ASSERT_TRUE(size) << size.error().message();
  EXPECT_EQ(Text(data, *size), "456789");
  Fill(data, "abc");
  auto [written, back] = ring_->Wait(ring_->Write(file_, std::move(data), 0));
  EXPECT_EQ(written.value(), 3u);
  back.resize(back.capacity());
  auto [all, content] = ring_->Wait(ring_->Read(file_, std::move(back), 0));
  EXPECT_EQ(Text(content, all.value()), "abc3456789");
}

TEST_F(SafeBufferPool, ReadsAndWritesSlices) {
  auto buffer = pool_->Take();
  ASSERT_TRUE(buffer);
  std::memset(buffer->data(), '.', buffer->size());
  auto [size, slice] =
      ring_->Wait(ring_->Read(file_, Slice(std::move(*buffer), 2, 3), 4));
  EXPECT_EQ(size.value(), 3u);
  const RegisteredBuffer whole = std::move(slice).whole();
  EXPECT_EQ(Text(whole, 6), "..456.");
}

// That an operation is one on registered memory shows where the file is such
// that those differ in what they are called.
TEST_F(SafeBufferPool, IsRegisteredWhereItsRingIs) {
  const Ends ends;
  const auto message = [&](Ring& ring) {
    auto buffer = pool_->Take();
    auto [size, data] = ring.Wait(ring.Read(ends.write, std::move(*buffer), 0));
    return size.error().message();
  };
  auto other = MakeRing();
  EXPECT_TRUE(message(*ring_).starts_with("read (fixed buffer): "));
  EXPECT_TRUE(message(*other).starts_with("read: "));
}

TEST_F(SafeBufferPool, LendsEachBufferToOneAtATime) {
  std::vector<RegisteredBuffer> buffers;
  for (std::size_t i = 0; i < kOptions.count; ++i) {
    auto buffer = pool_->Take();
    ASSERT_TRUE(buffer);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % 4096, 0u);
    for (const RegisteredBuffer& other : buffers) {
      EXPECT_NE(buffer->data(), other.data());
    }
    buffers.push_back(std::move(*buffer));
  }
  EXPECT_FALSE(pool_->Take());
  const std::byte* const data = buffers[2].data();
  buffers.erase(buffers.begin() + 2);
  const auto again = pool_->Take();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->data(), data);
  EXPECT_EQ(again->size(), kOptions.size);
}

TEST_F(SafeBufferPool, BufferOfAnOrphanReturnsWhenTheKernelIsDone) {
  const Ends ends;
  { auto read = ring_->Read(ends.read, std::move(*pool_->Take())); }
  EXPECT_EQ(pool_->available(), kOptions.count);
  {
    auto read = ring_->Read(ends.read, std::move(*pool_->Take()));
    EXPECT_TRUE(ring_->Submit());
    EXPECT_EQ(pool_->available(), kOptions.count - 1);
  }
  EXPECT_EQ(pool_->available(), kOptions.count - 1);
  Drain();
  EXPECT_EQ(pool_->available(), kOptions.count);
}

TEST_F(SafeBufferPool, AllocatesNothing) {
  for (const bool counted : {false, true}) {
    const std::size_t before = escrow::testing::Allocations();
    (void)ring_->Wait(ring_->Read(file_, std::move(*pool_->Take()), 0));
    if (counted) {
      EXPECT_EQ(escrow::testing::Allocations(), before);
    }
  }
}

TEST_F(SafeBufferPool, RefusesWhatCannotBe) {
  EXPECT_EQ(BufferPool::Create(*ring_, kOptions).error(),
            std::errc::device_or_resource_busy);
  auto other = MakeRing();
  for (const BufferPoolOptions options :
       {BufferPoolOptions{.count = 0}, BufferPoolOptions{.size = 0},
        BufferPoolOptions{.alignment = 3}, BufferPoolOptions{.alignment = 0},
        BufferPoolOptions{.size = ~std::size_t{0}}}) {
    EXPECT_EQ(BufferPool::Create(*other, options).error(),
              std::errc::invalid_argument);
  }
  EXPECT_EQ(BufferPool::Create(*other, {.count = ~std::size_t{0}}).error(),
            std::errc::not_enough_memory);
}

TEST_F(SafeBufferPool, EndsBeforeItsBuffers) {
  auto buffer = pool_->Take();
  ASSERT_TRUE(buffer);
  pool_.reset();
  pool_ = MakePool(ring_);
  // Not to be taken for a buffer of the new one.
  auto [size, data] = ring_->Wait(ring_->Read(file_, std::move(*buffer), 4));
  EXPECT_EQ(Text(data, size.value()), "456789");
}

TEST_F(SafeBufferPool, EndsBeforeTheOperationsOnItsBuffers) {
  const Ends ends;
  auto read = ring_->Read(ends.read, std::move(*pool_->Take()));
  auto dropped =
      std::optional(ring_->Read(ends.read, std::move(*pool_->Take())));
  EXPECT_TRUE(ring_->Submit());
  pool_.reset();
  dropped.reset();
  EXPECT_EQ(::write(ends.write.number(), "data", 4), 4);
  auto [size, data] = ring_->Wait(std::move(read));
  EXPECT_EQ(Text(data, size.value()), "data");
  Drain();
}

TEST_F(SafeBufferPool, OperationThatRunsOnlyAfterItsEndFails) {
  const Ends ends;
  auto buffer = pool_->Take();
  ASSERT_TRUE(buffer);
  std::memset(buffer->data(), '.', buffer->size());
  // In the queue, where it waits for the submit.
  auto read = ring_->Read(file_, std::move(*buffer), 0);
  pool_.reset();
  pool_ = MakePool(ring_);
  auto [size, data] = ring_->Wait(std::move(read));
  ASSERT_FALSE(size);
  EXPECT_EQ(size.error(), std::errc::bad_address);
  EXPECT_EQ(Text(data, 3), "...");
}

TEST_F(SafeBufferPool, RingEndsFirst) {
  const Ends ends;
  std::optional<Operation<Transfer<RegisteredBuffer>>> read(
      ring_->Read(ends.read, std::move(*pool_->Take())));
  auto buffer = pool_->Take();
  { auto dropped = ring_->Read(ends.read, std::move(*pool_->Take())); }
  EXPECT_TRUE(ring_->Submit());
  ring_.reset();
  EXPECT_EQ(pool_->available(), kOptions.count - 2);
  ring_ = MakeRing();
  auto [size, data] = ring_->Wait(ring_->Read(file_, std::move(*buffer), 4));
  EXPECT_EQ(Text(data, size.value()), "456789");
  pool_.reset();
  EXPECT_EQ(std::move(*read).Take().result.error(),
            std::errc::operation_canceled);
}

}  // namespace
}  // namespace escrow::safe::cases
