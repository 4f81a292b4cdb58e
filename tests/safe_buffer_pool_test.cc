// The buffers of buffer_pool.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/registered_buffer.h"
#include "escrow/safe/buffer_pool.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/message_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/vector_ops.h"
#include "escrow/safe/zero_copy_ops.h"
#include "tests/allocations.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using ownership::RegisteredBuffer;
using ownership::Slice;

constexpr BufferPoolOptions kOptions = {.count = 8 * kManifold, .size = 100};

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
  static bool HasRoom() { return pool->available() >= 4; }
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
struct ReadVectorCase : Pooled {
  World world;
  Ends ends;
  static constexpr const char* kName = "ReadVector";
  static constexpr const char* kCall = "readv (fixed buffer)";
  using Buffers = std::array<RegisteredBuffer, 2>;

  ReadVector<Buffers> Make(const Descriptor& file) {
    Buffers buffers = {Buffer(), Buffer()};
    buffers[0].resize(3);
    return {.file = file, .buffers = std::move(buffers), .offset = 4};
  }
  ReadVector<Buffers> Good() { return Make(world.OpenFile()); }
  void Expect(Transfer<Buffers> read) {
    EXPECT_EQ(read.result.value(), 6u);
    EXPECT_EQ(Text(read.buffer[0], 3), "456");
    EXPECT_EQ(Text(read.buffer[1], 3), "789");
  }
  ReadVector<Buffers> Bad() { return Make(ends.write); }
  static constexpr int kError = EBADF;
};
struct WriteVectorCase : Pooled {
  World world;
  Ends ends;
  static constexpr const char* kName = "WriteVector";
  static constexpr const char* kCall = "writev (fixed buffer)";
  using Buffers = std::vector<RegisteredBuffer>;

  WriteVector<Buffers> Make(const Descriptor& file) {
    Buffers buffers;
    for (const char* const text : {"abc", "defg"}) {
      buffers.push_back(Buffer());
      Fill(buffers.back(), text);
    }
    return {.file = file, .buffers = std::move(buffers)};
  }
  WriteVector<Buffers> Good() { return Make(ends.write); }
  void Expect(Transfer<Buffers> written) {
    EXPECT_EQ(written.result.value(), 7u);
    EXPECT_EQ(written.buffer.size(), 2u);
    EXPECT_EQ(ends.Content(), "abcdefg");
  }
  WriteVector<Buffers> Bad() { return Make(ends.read); }
  static constexpr int kError = EBADF;
};
struct SendZeroCopyCase : Pooled {
  World world;
  Tcp tcp;
  static constexpr const char* kName = "SendZeroCopy";
  static constexpr const char* kCall = "send (zero-copy, fixed buffer)";

  SendZeroCopy<Slice<RegisteredBuffer>> Make(const Descriptor& socket) {
    RegisteredBuffer buffer = Buffer();
    Fill(buffer, "abcdefg");
    return {.socket = socket, .buffer = Slice(std::move(buffer), 2, 3)};
  }
  SendZeroCopy<Slice<RegisteredBuffer>> Good() { return Make(tcp.here); }
  void Expect(ZeroCopySent<Slice<RegisteredBuffer>> sent) {
    EXPECT_EQ(sent.result.value(), 3u);
    EXPECT_EQ(tcp.Receive(3), "cde");
  }
  SendZeroCopy<Slice<RegisteredBuffer>> Bad() { return Make(world.OpenFile()); }
  static constexpr int kError = ENOTSOCK;

  SendZeroCopy<Slice<RegisteredBuffer>> Waits() {
    tcp.Fill();
    return Good();
  }
  void EndWait() { tcp.Drain(); }
  void ExpectWaited(ZeroCopySent<Slice<RegisteredBuffer>> sent) {
    EXPECT_EQ(sent.result.value(), 3u);
  }
};
struct SendMessageZeroCopyCase : Pooled {
  World world;
  Tcp tcp;
  static constexpr const char* kName = "SendMessageZeroCopy";
  static constexpr const char* kCall = "sendmsg (zero-copy, fixed buffer)";
  using Parts = std::tuple<RegisteredBuffer, Slice<RegisteredBuffer>>;

  SendMessageZeroCopy<Parts> Make(const Descriptor& socket) {
    RegisteredBuffer head = Buffer(), body = Buffer();
    Fill(head, "abc");
    Fill(body, "defg");
    return {
        .socket = socket,
        .message = {.bytes = {std::move(head), Slice(std::move(body), 1, 2)}}};
  }
  SendMessageZeroCopy<Parts> Good() { return Make(tcp.here); }
  void Expect(ZeroCopySent<OutgoingMessage<Parts>> sent) {
    EXPECT_EQ(sent.result.value(), 5u);
    EXPECT_EQ(tcp.Receive(5), "abcef");
  }
  SendMessageZeroCopy<Parts> Bad() { return Make(world.OpenFile()); }
  static constexpr int kError = ENOTSOCK;

  SendMessageZeroCopy<Parts> Waits() {
    tcp.Fill();
    return Good();
  }
  void EndWait() { tcp.Drain(); }
  void ExpectWaited(ZeroCopySent<OutgoingMessage<Parts>> sent) {
    EXPECT_EQ(sent.result.value(), 5u);
  }
};
using Cases = ::testing::Types<ReceiveCase, ReadCase, WriteCase, ReadVectorCase,
                               WriteVectorCase>;
ESCROW_OP_CASES(BufferPool, Cases);
#ifndef ESCROW_SOAK
// In a soak rings end before the peer has received, and wait for the network
// stack then.
using TcpCases = ::testing::Types<SendZeroCopyCase, SendMessageZeroCopyCase>;
INSTANTIATE_TYPED_TEST_SUITE_P(BufferPoolTcp, SafeOps, TcpCases, CaseNames);
#endif

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
// Only what is registered as a whole goes as such: the kernel says -EFAULT of
// an empty part, and of memory elsewhere.
TEST_F(SafeBufferPool, VectorsOfWhatIsNotAllRegisteredGoTheUsualWay) {
  const Ends ends;
  const auto call = [&](auto buffers) {
    auto [size, back] = ring_->Wait(ring_->Start(WriteVector<decltype(buffers)>{
        .file = ends.read, .buffers = std::move(buffers)}));
    return size.error().message();
  };
  const auto filled = [&](std::string_view text) {
    RegisteredBuffer buffer = std::move(*pool_->Take());
    Fill(buffer, text);
    return buffer;
  };
  using Two = std::array<RegisteredBuffer, 2>;
  EXPECT_TRUE(
      call(Two{filled("a"), filled("b")}).starts_with("writev (fixed buffer)"));
  EXPECT_TRUE(call(Two{filled("a"), filled("")}).starts_with("writev: "));
  EXPECT_TRUE(
      call(Two{filled("a"), RegisteredBuffer()}).starts_with("writev: "));
  auto elsewhere = MakeRing();
  auto other = MakePool(elsewhere);
  EXPECT_TRUE(call(Two{filled("a"), std::move(*other->Take())})
                  .starts_with("writev: "));
  EXPECT_TRUE(call(Two{std::move(*other->Take()), std::move(*other->Take())})
                  .starts_with("writev: "));
  EXPECT_TRUE(call(std::array<RegisteredBuffer, 0>()).starts_with("writev: "));

  auto [size, back] = ring_->Wait(ring_->Start(WriteVector<Two>{
      .file = ends.write, .buffers = {filled("a"), filled("")}}));
  EXPECT_EQ(size.value(), 1u);
  const Tcp tcp;
  for (const std::string_view second : {"", "b"}) {
    using Parts = std::tuple<RegisteredBuffer, std::string, RegisteredBuffer>;
    auto [sent, pending] = ring_->Wait(ring_->Start(SendMessageZeroCopy<Parts>{
        .socket = tcp.here,
        .message = {.bytes = {filled("a"), "-", filled(second)}}}));
    EXPECT_EQ(sent.value(), 2 + second.size());
    EXPECT_EQ(tcp.Receive(sent.value()), "a-" + std::string(second));
    (void)ring_->Wait(std::move(pending));
  }
}

// The stack reads registered pages.
TEST_F(SafeBufferPool, ZeroCopyKeepsTheBufferUntilTheNotification) {
  Tcp tcp;
  tcp.Fill();
  {
    auto [sent, pending] = ring_->Wait(ring_->Start(
        SendZeroCopy<RegisteredBuffer>{.socket = tcp.here,
                                       .buffer = std::move(*pool_->Take())},
        {.deadline = std::chrono::milliseconds(5)}));
    EXPECT_EQ(sent.error(), std::errc::timed_out);
    EXPECT_EQ(ring_->Wait(std::move(pending)).size(), kOptions.size);
  }
  tcp.Drain();
  {
    // What is behind a full window stays with the sender.
    while (::send(tcp.here.number(), "-", 1, MSG_DONTWAIT) > 0) {
    }
    tcp.Receive(100'000);
    auto [sent, pending] =
        ring_->Wait(ring_->Start(SendZeroCopy<RegisteredBuffer>{
            .socket = tcp.here, .buffer = std::move(*pool_->Take())}));
    EXPECT_EQ(sent.value(), kOptions.size);
  }
  EXPECT_EQ(pool_->available(), kOptions.count - 1);
  // The pool's end unregisters it, and the memory stays.
  pool_.reset();
  tcp = Tcp();
  while (ring_->in_flight() > 0) EXPECT_TRUE(ring_->Dispatch());
}

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
