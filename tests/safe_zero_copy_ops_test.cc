// The ops of zero_copy_ops.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "escrow/ownership/control_data.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/message_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/zero_copy_ops.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using ownership::ControlData;
using ownership::StaticBytes;

// What a record has room for.
template <typename T>
constexpr bool kFits =
    ownership::Record::kInline<internal::OpContent<SendMessageZeroCopy<T>>>;
static_assert(kFits<std::array<std::string, 2>>);
static_assert(kFits<std::vector<std::string>>);

// One string, as either op sends it.
struct AsBytes {
  static constexpr const char* kCall = "send (zero-copy)";
  template <typename B>
  using Op = SendZeroCopy<B>;
  template <typename B>
  static Op<B> Make(const Descriptor& socket, B bytes) {
    return {.socket = socket, .buffer = std::move(bytes)};
  }
  template <typename B>
  static B BytesOf(B sent) {
    return sent;
  }
};
struct AsMessage {
  static constexpr const char* kCall = "sendmsg (zero-copy)";
  template <typename B>
  using Op = SendMessageZeroCopy<B>;
  template <typename B>
  static Op<B> Make(const Descriptor& socket, B bytes) {
    return {.socket = socket, .message = {.bytes = std::move(bytes)}};
  }
  template <typename B>
  static B BytesOf(OutgoingMessage<B> sent) {
    return std::move(sent.bytes);
  }
};

template <typename As>
struct SendCase : As {
  World world;
  Tcp tcp;
  using Op = typename As::template Op<std::string>;
  using Outcome = typename Op::Outcome;

  Op Good() { return As::Make(tcp.here, std::string("zeros")); }
  void Expect(Outcome sent) {
    EXPECT_EQ(*sent.result, 5u);
    tcp.Receive(5);
  }
  Op Bad() { return As::Make(world.OpenFile(), std::string("unsent")); }
  static constexpr int kError = ENOTSOCK;

  static constexpr std::size_t kMany = std::size_t{1} << 20;
  Op Short() { return As::Make(tcp.here, std::string(kMany, 'z')); }
  void ExpectShort(Outcome sent) {
    EXPECT_GT(*sent.result, 0u);
    EXPECT_LT(*sent.result, kMany);
  }

  Op Waits() {
    tcp.Fill();
    return Good();
  }
  void EndWait() { tcp.Drain(); }
  void ExpectWaited(Outcome sent) { EXPECT_EQ(*sent.result, 5u); }
};
struct SendZeroCopyCase : SendCase<AsBytes> {
  static constexpr const char* kName = "SendZeroCopy";
};
struct SendMessageZeroCopyCase : SendCase<AsMessage> {
  static constexpr const char* kName = "SendMessageZeroCopy";
};

// Two UDP sockets of the loopback.
struct Udp {
  Udp() {
    sockaddr_in place = {};
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(place);
    auto* const generic = reinterpret_cast<sockaddr*>(&place);
    EXPECT_EQ(::bind(there.number(), generic, size), 0);
    EXPECT_EQ(::getsockname(there.number(), generic, &size), 0);
    address = SocketAddress(place);
  }
  static Descriptor Make() {
    return Descriptor::Adopt(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  }
  std::string Receive() const {
    char bytes[64];
    const ssize_t size = ::recv(there.number(), bytes, sizeof(bytes), 0);
    return {bytes, static_cast<std::size_t>(size < 0 ? 0 : size)};
  }
  Descriptor here = Make();
  Descriptor there = Make();
  SocketAddress address;
};

// Several pieces, an address, and control data, by which the kernel makes
// several datagrams of it.
struct SendDatagramsCase {
  Udp udp;
  static constexpr const char* kName = "SendDatagrams";
  static constexpr const char* kCall = "sendmsg (zero-copy)";
  using Op = SendMessageZeroCopy<std::tuple<StaticBytes, std::string>>;

  Op WithSegments(std::uint16_t size) {
    ControlData control;
    control.Add(SOL_UDP, UDP_SEGMENT, std::as_bytes(std::span(&size, 1)));
    return Op{.socket = udp.here,
              .message = {.bytes = {StaticBytes("one,"), "two,six"},
                          .control = std::move(control),
                          .address = udp.address}};
  }
  Op Good() { return WithSegments(4); }
  void Expect(Op::Outcome sent) {
    EXPECT_EQ(*sent.result, 11u);
    EXPECT_EQ(udp.Receive(), "one,");
    EXPECT_EQ(udp.Receive(), "two,");
    EXPECT_EQ(udp.Receive(), "six");
  }
  Op Bad() {
    Op op = Good();
    op.message.control.Add(SOL_IP, 0x7fff, {});
    return op;
  }
  static constexpr int kError = EINVAL;
};

using Cases = ::testing::Types<SendDatagramsCase>;
ESCROW_OP_CASES(ZeroCopy, Cases);

// Not for the soak, where rings end before the peer has received: they wait for
// the network stack then.
using TcpCases = ::testing::Types<SendZeroCopyCase, SendMessageZeroCopyCase>;
INSTANTIATE_TYPED_TEST_SUITE_P(ZeroCopyTcp, SafeOps, TcpCases, CaseNames);

// What a row cannot say.

template <typename As>
class SafeZeroCopy : public ::testing::Test {
 protected:
  SafeZeroCopy() : ring_(MakeRing()) {}

  static Ring MakeRing() {
    auto ring = Ring::Create({.entries = 8});
    if (!ring) {
      ADD_FAILURE() << ring.error().message();
      std::abort();
    }
    return std::move(*ring);
  }

  auto Send(std::size_t size = 5) {
    return As::Make(tcp_.here, std::string(size, 'z'));
  }

  // Notifications on the loopback come when the peer has received.
  auto SendTracked() {
    return ring_.Start(As::Make(tcp_.here, escrow::testing::Tracked(arena_)));
  }

  void Drain() {
    while (ring_.in_flight() > 0) EXPECT_TRUE(ring_.Dispatch());
    EXPECT_EQ(ring_.unknown_completions(), 0u);
  }

  World world_;
  Ring ring_;
  Tcp tcp_;
  std::array<std::byte, 65536> bytes_ = {};
  escrow::testing::Arena arena_{bytes_.data(), bytes_.size()};
};
using Forms = ::testing::Types<AsBytes, AsMessage>;
TYPED_TEST_SUITE(SafeZeroCopy, Forms);

TYPED_TEST(SafeZeroCopy, ResultFirstAndThenTheBuffer) {
  auto [sent, pending] = this->ring_.Wait(this->ring_.Start(this->Send()));
  EXPECT_EQ(sent.value(), 5u);
  this->tcp_.Receive(5);
  EXPECT_EQ(TypeParam::BytesOf(this->ring_.Wait(std::move(pending))), "zzzzz");
  this->Drain();
}

TYPED_TEST(SafeZeroCopy, ErrorsGiveTheBufferBack) {
  const Descriptor file = this->world_.OpenFile();
  auto [sent, pending] = this->ring_.Wait(
      this->ring_.Start(TypeParam::Make(file, std::string("unsent"))));
  EXPECT_EQ(sent.error(), std::errc::not_a_socket);
  EXPECT_EQ(TypeParam::BytesOf(this->ring_.Wait(std::move(pending))), "unsent");
  this->Drain();
}

TYPED_TEST(SafeZeroCopy, NotOnLocalSockets) {
  const Pair pair;
  auto [sent, pending] = this->ring_.Wait(
      this->ring_.Start(TypeParam::Make(pair.here, std::string("unsent"))));
  EXPECT_EQ(sent.error(), std::errc::operation_not_supported);
  EXPECT_EQ(TypeParam::BytesOf(this->ring_.Wait(std::move(pending))), "unsent");
  this->Drain();
}

TYPED_TEST(SafeZeroCopy, DroppedAnywhereKeepsTheBytesForTheStack) {
  { auto before_submit = this->SendTracked(); }
  EXPECT_EQ(this->arena_.releases, 1);
  {
    auto after_submit = this->SendTracked();
    EXPECT_TRUE(this->ring_.Submit());
    EXPECT_EQ(this->arena_.releases, 1);
  }
  EXPECT_EQ(this->arena_.releases, 1);
  this->tcp_ = Tcp();
  this->Drain();
  EXPECT_EQ(this->arena_.releases, 2);
  {
    // Between the result and the notification, which nobody asked for.
    auto send = this->SendTracked();
    while (!send.done()) EXPECT_TRUE(this->ring_.Wait(this->ring_.Nop()));
  }
  EXPECT_EQ(this->arena_.releases, 2);
  this->tcp_ = Tcp();
  this->Drain();
  EXPECT_EQ(this->arena_.releases, 3);
  {
    // The same, with the result taken.
    auto [sent, pending] = this->ring_.Wait(this->SendTracked());
    EXPECT_EQ(sent.value(), this->bytes_.size());
    EXPECT_EQ(this->arena_.releases, 3);
  }
  EXPECT_EQ(this->arena_.releases, 3);
  // The kernel is not asked to cancel what it only has to tell of.
  EXPECT_EQ(this->ring_.Submit().value(), 0u);
  this->tcp_ = Tcp();
  this->Drain();
  EXPECT_EQ(this->arena_.releases, 4);
  {
    auto [sent, pending] = this->ring_.Wait(this->SendTracked());
    this->tcp_ = Tcp();
    while (!pending.done()) EXPECT_TRUE(this->ring_.Dispatch());
  }
  EXPECT_EQ(this->arena_.releases, 5);
}

TYPED_TEST(SafeZeroCopy, TheRingsEndWaitsForTheStack) {
  using Second = typename TypeParam::template Op<std::string>::Second;
  std::optional<Operation<Second>> pending;
  {
    Ring ring = this->MakeRing();
    auto sent = ring.Wait(ring.Start(this->Send()));
    EXPECT_TRUE(sent.result);
    pending.emplace(std::move(sent.buffer));
    this->tcp_.Receive(5);
  }
  ASSERT_TRUE(pending->done());
  EXPECT_EQ(TypeParam::BytesOf(std::move(*pending).Take()), "zzzzz");
}

TYPED_TEST(SafeZeroCopy, WithCallbacksAndDeadlines) {
  std::string back;
  this->ring_.Start(this->Send(), {.deadline = std::chrono::hours(1)})
      .Then([&](auto sent) {
        EXPECT_EQ(sent.result.value(), 5u);
        this->tcp_.Receive(5);
        std::move(sent.buffer).Then([&](auto buffer) {
          back = TypeParam::BytesOf(std::move(buffer));
        });
      });
  while (back.empty()) EXPECT_TRUE(this->ring_.Dispatch());
  EXPECT_EQ(back, "zzzzz");
  this->Drain();
}

// Which comes before the notification, and what a callback keeps of it is a
// handle like any other.
TYPED_TEST(SafeZeroCopy, CallbacksGetTheResultFirst) {
  using Tracked = decltype(escrow::testing::Tracked(this->arena_));
  using Second = typename TypeParam::template Op<Tracked>::Second;
  std::optional<Operation<Second>> first;
  std::optional<Operation<Second>> second;
  {
    Ring ring = this->MakeRing();
    const auto send = [&](std::optional<Operation<Second>>& kept) {
      ring.Start(TypeParam::Make(this->tcp_.here,
                                 escrow::testing::Tracked(this->arena_)))
          .Then([&](auto sent) {
            EXPECT_EQ(sent.result.value(), this->bytes_.size());
            kept.emplace(std::move(sent.buffer));
          });
      while (!kept.has_value()) {
        ASSERT_GT(ring.Dispatch(std::chrono::seconds(10)).value(), 0u);
      }
      EXPECT_FALSE(kept->done());
      this->tcp_ = Tcp();
    };
    send(first);
    while (!first->done()) EXPECT_TRUE(ring.Dispatch());
    send(second);
    EXPECT_EQ(this->arena_.releases, 0);
  }
  ASSERT_TRUE(second->done());
  first.reset();
  EXPECT_EQ(this->arena_.releases, 1);
  (void)std::move(*second).Take();
  EXPECT_EQ(this->arena_.releases, 2);
}

// What cannot be sent yet.
TYPED_TEST(SafeZeroCopy, MissesItsDeadline) {
  using Second = typename TypeParam::template Op<std::string>::Second;
  const int small = 4096;
  EXPECT_EQ(::setsockopt(this->tcp_.here.number(), SOL_SOCKET, SO_SNDBUF,
                         &small, sizeof(small)),
            0);
  std::optional<Operation<Second>> pending;
  for (;;) {
    auto sent = this->ring_.Wait(this->ring_.Start(
        this->Send(65536), {.deadline = std::chrono::milliseconds(5)}));
    pending.emplace(std::move(sent.buffer));
    if (!sent.result) {
      EXPECT_EQ(sent.result.error(), std::errc::timed_out);
      break;
    }
  }
  // The stack keeps what the peer has not received.
  this->tcp_ = Tcp();
  EXPECT_EQ(TypeParam::BytesOf(this->ring_.Wait(std::move(*pending))).size(),
            65536u);
  this->Drain();
}

// The chain breaks, and a notification comes that nobody announced.
TYPED_TEST(SafeZeroCopy, InABrokenChain) {
  const Ends pipe;
  for (int i = 0; i < 10; ++i) {
    auto [recv, send] = this->ring_.Start(
        Chain(Receive<std::string>{.socket = pipe.read, .buffer = "?"},
              this->Send()));
    EXPECT_EQ(this->ring_.Wait(std::move(recv)).result.error(),
              std::errc::not_a_socket);
    auto [sent, pending] = this->ring_.Wait(std::move(send));
    EXPECT_EQ(sent.error(), std::errc::operation_canceled);
    EXPECT_EQ(TypeParam::BytesOf(this->ring_.Wait(std::move(pending))),
              "zzzzz");
  }
  this->Drain();
}

class SafeMessageZeroCopy : public SafeZeroCopy<AsMessage> {};

// Measured: the network stack reads it when it gets to sending.
TEST_F(SafeMessageZeroCopy, ControlDataStaysUntilTheNotification) {
  tcp_.Fill();
  Descriptor file = world_.OpenFile();
  const int number = file.number();
  ControlData control;
  control.Pass(file);  // which TCP ignores
  auto send = ring_.Start(SendMessageZeroCopy<std::string>{
      .socket = tcp_.here,
      .message = {.bytes = "late", .control = std::move(control)}});
  EXPECT_TRUE(ring_.Submit());
  file = Descriptor();
  EXPECT_NE(::fcntl(number, F_GETFD), -1);
  tcp_.Drain();
  auto [sent, pending] = ring_.Wait(std::move(send));
  EXPECT_EQ(sent.value(), 4u);
  tcp_.Drain();
  const auto message = ring_.Wait(std::move(pending));
  EXPECT_TRUE(message.control.empty());
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
  Drain();
}

TEST_F(SafeMessageZeroCopy, SendsManyParts) {
  std::vector<std::string> parts;
  std::string whole;
  for (int i = 0; i < 100; ++i) {
    parts.push_back(std::to_string(i) + ",");
    whole += parts.back();
  }
  auto [sent, pending] =
      ring_.Wait(ring_.Start(SendMessageZeroCopy<decltype(parts)>{
          .socket = tcp_.here, .message = {.bytes = parts}}));
  EXPECT_EQ(sent.value(), whole.size());
  EXPECT_EQ(tcp_.Receive(whole.size()), whole);
  EXPECT_EQ(ring_.Wait(std::move(pending)).bytes, parts);
  Drain();
}

}  // namespace
}  // namespace escrow::safe::cases
