// The ops of ring_ops.h and command_ops.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <linux/loop.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/raw/ring.h"
#include "escrow/safe/command_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/raw_access.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/ring_ops.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using ownership::Buffer;
using ownership::StaticBytes;

Ring MakeRing(RingOptions options = {.entries = 4}) {
  auto ring = Ring::Create(options);
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

// A ring that is sent to, and what it got.
struct Target {
  Target() = default;
  // Its RawAccess refers to it.
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  Descriptor Address() const {
    auto address = ring.Duplicate();
    EXPECT_TRUE(address);
    return std::move(*address);
  }

  Ring ring = MakeRing();
  struct Handler {
    void operator()(const io_uring_cqe& cqe) {
      ++count;
      user_data = cqe.user_data;
      result = cqe.res;
    }
    int count = 0;
    std::uint64_t user_data = 0;
    std::int32_t result = 0;
  } got;
  RawAccess access{ring, got};
};

struct SendToRingCase {
  World world;
  Target target;
  static constexpr const char* kName = "SendToRing";
  static constexpr const char* kCall = "msg_ring";

  static constexpr std::uint64_t kMost = ~std::uint64_t{0} >> 1;

  auto Good() {
    return SendToRing{
        .ring = target.Address(), .user_data = kMost, .result = -5};
  }
  void Expect(Result<void>) {
    EXPECT_EQ(target.ring.Dispatch().value(), 1u);
    EXPECT_EQ(target.got.count, 1);
    EXPECT_EQ(target.got.user_data, kMost);
    EXPECT_EQ(target.got.result, -5);
  }
  auto Bad() { return SendToRing{.ring = world.OpenFile(), .user_data = 0}; }
  static constexpr int kError = EBADFD;
};

// Bytes that wait in a socket, asked for by a command. Takes no payload, which
// comes back all the same.
struct UringCommandCase {
  World world;
  Descriptor socket =
      Descriptor::Adopt(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  static constexpr const char* kName = "UringCommand";
  static constexpr const char* kCall = "uring_cmd";

  auto OpOn(const Descriptor& file) {
    return UringCommand{
        .file = file,
        .command = SOCKET_URING_OP_SIOCINQ,
        .buffer = std::string("payload"),
        .make = [](std::byte*, std::size_t) { return std::uint64_t{0}; }};
  }
  auto Good() {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(socket.number(), any, size), 0);
    EXPECT_EQ(::getsockname(socket.number(), any, &size), 0);
    EXPECT_EQ(::sendto(socket.number(), "1234567", 7, 0, any, size), 7);
    char byte;
    EXPECT_EQ(::recv(socket.number(), &byte, 1, MSG_PEEK), 1);
    return OpOn(socket);
  }
  void Expect(Transfer<std::string> done) {
    EXPECT_EQ(*done.result, 7u);
    EXPECT_EQ(done.buffer, "payload");
  }
  auto Bad() { return OpOn(world.OpenFile()); }
  static constexpr int kError = EOPNOTSUPP;
};

// A block device in memory, where the machine lets us have one.
class LoopDevice {
 public:
  LoopDevice() {
    const int there = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (there < 0) return;
    const Descriptor loops = Descriptor::Adopt(there);
    const int free = ::ioctl(loops.number(), LOOP_CTL_GET_FREE);
    if (free < 0) return;
    const int opened = ::open(("/dev/loop" + std::to_string(free)).c_str(),
                              O_RDWR | O_CLOEXEC);
    if (opened < 0) return;
    device = Descriptor::Adopt(opened);
    const int memory = ::memfd_create("blocks", MFD_CLOEXEC);
    if (memory < 0 || ::ftruncate(memory, kSize) != 0) return;
    backing = Descriptor::Adopt(memory);
    loop_config config = {};
    config.fd = static_cast<std::uint32_t>(memory);
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    ready = ::ioctl(opened, LOOP_CONFIGURE, &config) == 0;
  }
  static constexpr off_t kSize = 1 << 20;

  Descriptor device;
  Descriptor backing;
  bool ready = false;
};

struct DiscardBlocksCase {
  World world;
  LoopDevice loop;
  static constexpr const char* kName = "DiscardBlocks";
  static constexpr const char* kCall = "ioctl BLKDISCARD";

  bool Possible() const { return loop.ready; }
  auto Good() {
    const std::string bytes(8192, 'x');
    EXPECT_EQ(::pwrite(loop.backing.number(), bytes.data(), bytes.size(), 0),
              8192);
    return DiscardBlocks{.device = loop.device, .offset = 4096, .length = 4096};
  }
  void Expect(Result<void>) {
    char bytes[2] = {};
    EXPECT_EQ(::pread(loop.backing.number(), bytes, 2, 4095), 2);
    EXPECT_EQ(bytes[0], 'x');
    EXPECT_EQ(bytes[1], 0);
  }
  auto Bad() {
    return DiscardBlocks{.device = loop.device, .offset = 1, .length = 4096};
  }
  static constexpr int kError = EINVAL;
};

using Cases = ::testing::Types<SendToRingCase, UringCommandCase>;
ESCROW_OP_CASES(Ring, Cases);

// Not for the soak: there are only so many devices.
using DeviceCases = ::testing::Types<DiscardBlocksCase>;
INSTANTIATE_TYPED_TEST_SUITE_P(Device, SafeOps, DeviceCases, CaseNames);

// What a row cannot say.

TEST(SafeRingOps, OnlyBlockDevicesAreDiscarded) {
  Ring ring = MakeRing();
  const World world;
  const auto discarded = ring.Wait(ring.Start(
      DiscardBlocks{.device = world.OpenFile(), .offset = 0, .length = 4096}));
  ASSERT_FALSE(discarded);
  EXPECT_EQ(discarded.error(), std::errc::operation_not_supported);
  EXPECT_EQ(world.Content("file"), "0123456789");
}

// The entry that was written last, before it is submitted.
const io_uring_sqe& LastEntry(RawAccess& access) {
  const io_uring* const ring = access.ring().get();
  return ring->sq.sqes[((ring->sq.sqe_tail - 1) & ring->sq.ring_mask)
                       << io_uring_sqe_shift(ring)];
}

struct Command {
  std::uint64_t address;
  std::uint64_t length;
};
struct BigCommand {
  char other[64];
  Command last;
};

// What is the kernel's by then: AddressSanitizer is not to look.
__attribute__((no_sanitize("address"))) char CharacterAt(
    std::uint64_t address) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): as the kernel does.
  return *reinterpret_cast<const char*>(static_cast<std::uintptr_t>(address));
}

TEST(SafeRingOps, CommandsHaveTheAddressOfWhatTheyOwn) {
  Ring ring = MakeRing();
  auto ignore = [](const io_uring_cqe&) {};
  RawAccess access(ring, ignore);
  const World world;
  const Descriptor file = world.OpenFile();
  // Its bytes are in the record.
  using Bytes = std::array<char, 24>;
  for (const bool in_entry : {false, true}) {
    auto command = ring.Start(UringCommand{
        .file = file,
        .command = 77,
        .buffer = Bytes{"in the record"},
        .make =
            [](std::byte* data, std::size_t size) {
              return Command{reinterpret_cast<std::uintptr_t>(data), size};
            },
        .buffer_in_entry = in_entry});
    const io_uring_sqe& entry = LastEntry(access);
    EXPECT_EQ(entry.cmd_op, 77u);
    Command written;
    std::memcpy(&written, entry.cmd, sizeof(written));
    EXPECT_EQ(written.length, sizeof(Bytes));
    EXPECT_EQ(CharacterAt(written.address + 3), 't');
    EXPECT_EQ(CharacterAt(written.address + 12), 'd');
    EXPECT_EQ(entry.addr, in_entry ? written.address : 0);
    EXPECT_EQ(entry.len, in_entry ? sizeof(Bytes) : 0);
    auto [result, buffer] = ring.Wait(std::move(command));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error(), std::errc::operation_not_supported);
    EXPECT_STREQ(buffer.data(), "in the record");
  }
}

TEST(SafeRingOps, BigCommandsFillBigEntries) {
  Ring ring = MakeRing({.entries = 4, .setup_flags = IORING_SETUP_SQE128});
  auto ignore = [](const io_uring_cqe&) {};
  RawAccess access(ring, ignore);
  const World world;
  const Descriptor file = world.OpenFile();
  auto block = Buffer::Allocate(512);
  ASSERT_TRUE(block);
  const std::byte* const place = block->data();
  auto command = ring.Start(UringCommand{
      .file = file,
      .command = 1,
      .buffer = std::move(*block),
      .make = [](std::byte* data, std::size_t size) {
        BigCommand big = {
            .other = "here",
            .last = {reinterpret_cast<std::uintptr_t>(data), size}};
        return big;
      }});
  BigCommand written;
  std::memcpy(&written, LastEntry(access).cmd, sizeof(written));
  EXPECT_STREQ(written.other, "here");
  EXPECT_EQ(written.last.address, reinterpret_cast<std::uintptr_t>(place));
  EXPECT_EQ(written.last.length, 512u);
  auto [result, buffer] = ring.Wait(std::move(command));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), std::errc::operation_not_supported);
  EXPECT_EQ(buffer.data(), place);
}

TEST(SafeRingOps, CommandsGetReadOnlyMemoryAsSuch) {
  Ring ring = MakeRing();
  const World world;
  const Descriptor file = world.OpenFile();
  const void* seen = nullptr;
  const StaticBytes bytes("static");
  const auto make = [&seen](const std::byte* data, std::size_t) {
    seen = data;
    return 0;
  };
  auto [result, buffer] = ring.Wait(ring.Start(
      UringCommand{.file = file, .command = 1, .buffer = bytes, .make = make}));
  EXPECT_FALSE(result);
  EXPECT_EQ(seen, bytes.data());
  EXPECT_EQ(buffer.data(), bytes.data());
}

// What describes a command.
template <typename B, typename Make>
concept IsCommand = requires {
  typename UringCommand<B, Make>;
};
using MakesWhole = BigCommand (*)(std::byte*, std::size_t);
using MakesTooMuch = std::array<char, 81> (*)(std::byte*, std::size_t);
using MakesText = std::string (*)(std::byte*, std::size_t);
static_assert(IsCommand<std::string, MakesWhole>);
static_assert(!IsCommand<std::string, MakesTooMuch>);
static_assert(!IsCommand<std::string, MakesText>);
static_assert(!IsCommand<StaticBytes, MakesWhole>, "it is read-only");
static_assert(!IsCommand<std::string_view, MakesWhole>);

TEST(SafeRingOpsDeathTest, BigCommandsNeedBigEntries) {
  const World world;
  const Descriptor file = world.OpenFile();
  const auto make = [](std::byte*, std::size_t) { return BigCommand(); };
  EXPECT_DEATH(WithOwnRing([&](Ring& ring) {
                 (void)ring.Start(UringCommand{.file = file,
                                               .command = 1,
                                               .buffer = std::string("x"),
                                               .make = make});
               }),
               "on a ring without IORING_SETUP_SQE128");
}

TEST(SafeRingOps, SendsToItself) {
  Target target;
  EXPECT_TRUE(target.ring.Wait(
      target.ring.Start(SendToRing{.ring = target.Address(), .user_data = 3})));
  while (target.got.count == 0) EXPECT_TRUE(target.ring.Dispatch());
  EXPECT_EQ(target.got.user_data, 3u);
}

TEST(SafeRingOps, IsUnknownWhereNobodyListens) {
  Ring ring = MakeRing();
  Ring target = MakeRing();
  auto address = target.Duplicate();
  ASSERT_TRUE(address);
  EXPECT_EQ(::fcntl(address->number(), F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(
      ring.Wait(ring.Start(SendToRing{.ring = *address, .user_data = 1})));
  EXPECT_TRUE(target.Wait(target.Nop()));
  EXPECT_EQ(target.unknown_completions(), 1u);
}

// Whatever its low bits say, it ends none of the target's operations.
TEST(SafeRingOps, EndsNoOperationOfTheTarget) {
  Target target;
  const Ends ends;
  auto reading = target.ring.Read(ends.read, std::string(4, '.'));
  EXPECT_TRUE(target.ring.Submit());
  const std::uint64_t its = LastEntry(target.access).user_data;
  ASSERT_NE(its >> 63, 0u);
  Ring ring = MakeRing();
  const Descriptor address = target.Address();
  EXPECT_TRUE(ring.Wait(ring.Start(
      SendToRing{.ring = address, .user_data = its << 1 >> 1, .result = 4})));
  while (target.got.count == 0) EXPECT_TRUE(target.ring.Dispatch());
  EXPECT_FALSE(reading.done());
  EXPECT_EQ(target.ring.in_flight(), 1u);
  EXPECT_DEATH(WithOwnRing([&](Ring& own) {
                 (void)own.Start(SendToRing{.ring = address, .user_data = its});
               }),
               "SendToRing with the topmost bit of user_data set");
}

TEST(SafeRingOps, WakesAnotherThread) {
  std::optional<Descriptor> address;
  std::atomic<bool> ready = false;
  std::uint64_t sum = 0;
  std::thread thread([&] {
    Target target;
    address.emplace(target.Address());
    ready = true;
    ready.notify_one();
    // Sleeps in between, with nothing in flight.
    while (target.got.count < 100) {
      EXPECT_TRUE(target.ring.Dispatch());
      sum = target.got.user_data;
    }
  });
  ready.wait(false);
  // This thread's from here on.
  const Descriptor target = std::move(*address);
  address.reset();
  Ring ring = MakeRing();
  for (std::uint64_t i = 1; i <= 100; ++i) {
    EXPECT_TRUE(
        ring.Wait(ring.Start(SendToRing{.ring = target, .user_data = i})));
  }
  thread.join();
  EXPECT_EQ(sum, 100u);
}

// Its number is not reused while somebody may send to it.
TEST(SafeRingOps, WhatIsSentToARingThatIsGoneGoesNowhere) {
  Ring ring = MakeRing();
  auto gone = std::make_unique<Target>();
  const Descriptor address = gone->Address();
  gone.reset();
  Target other;
  EXPECT_NE(other.Address().number(), address.number());
  (void)ring.Wait(ring.Start(SendToRing{.ring = address, .user_data = 1}));
  EXPECT_TRUE(other.ring.Wait(other.ring.Nop()));
  EXPECT_EQ(other.ring.Dispatch(std::chrono::nanoseconds(0)).value(), 0u);
  EXPECT_EQ(other.got.count, 0);
}

}  // namespace
}  // namespace escrow::safe::cases
