// The ops of message_ops.h, and the control data of messages.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
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
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using ownership::Buffer;
using ownership::ControlData;
using ownership::ControlMessage;
using ownership::ControlRoom;
using ownership::StaticBytes;

// What may be the bytes of a message.
static_assert(ReadableMessage<std::string>);
static_assert(ReadableMessage<StaticBytes> && !WritableMessage<StaticBytes>);
static_assert(WritableMessage<std::vector<std::string>>);
static_assert(WritableMessage<std::array<Buffer, 3>>);
static_assert(ReadableMessage<std::tuple<StaticBytes, Buffer>>);
static_assert(!WritableMessage<std::tuple<StaticBytes, Buffer>>);
static_assert(!ReadableMessage<std::string_view>);
static_assert(!ReadableMessage<std::span<std::byte>>);
static_assert(!ReadableMessage<std::vector<std::string_view>>);
static_assert(!ReadableMessage<std::array<std::span<char>, 2>>);
static_assert(!ReadableMessage<std::tuple<std::string, std::string_view>>);
static_assert(!ReadableMessage<iovec> && !ReadableMessage<msghdr>);

// What a record has room for.
template <typename T>
constexpr bool kFits =
    ownership::Record::kInline<internal::OpContent<SendMessage<T>>>&&
        ownership::Record::kInline<internal::OpContent<ReceiveMessage<T>>>;
static_assert(kFits<std::array<std::string, 2>>);
static_assert(kFits<std::vector<Buffer>> && kFits<std::array<Buffer, 3>>);

bool IsSameFile(const Descriptor& one, const Descriptor& other) {
  struct stat first = {}, second = {};
  EXPECT_EQ(::fstat(one.number(), &first), 0);
  EXPECT_EQ(::fstat(other.number(), &second), 0);
  return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

// By system calls: the bytes that wait in `socket`, and the last descriptor
// among them.
std::pair<std::string, Descriptor> ReceiveAll(const Descriptor& socket) {
  std::pair<std::string, Descriptor> all;
  for (;;) {
    ControlRoom room(ControlRoom::For(8 * sizeof(int)));
    char bytes[65536];
    iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = room.data();
    message.msg_controllen = room.size();
    const ssize_t size =
        ::recvmsg(socket.number(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size <= 0) return all;
    all.first.append(bytes, static_cast<std::size_t>(size));
    while (Descriptor passed = room.TakeDescriptor()) {
      all.second = std::move(passed);
    }
  }
}

// Until a send would have to wait.
void Fill(const Descriptor& socket) {
  const std::string bytes(4096, '-');
  while (::send(socket.number(), bytes.data(), bytes.size(), MSG_DONTWAIT) >
         0) {
  }
}

// What is common to the sends.
struct SendWorld {
  World world;
  Pair pair;

  void EndWait() { (void)ReceiveAll(pair.there); }
};

struct SendMessageCase : SendWorld {
  static constexpr const char* kName = "SendMessage";
  static constexpr const char* kCall = "sendmsg";
  using Op = SendMessage<std::string>;

  auto Good() {
    return Op{.socket = pair.here, .message = {.bytes = "a message"}};
  }
  void Expect(Op::Outcome sent) {
    EXPECT_EQ(*sent.result, 9u);
    EXPECT_EQ(sent.buffer.bytes, "a message");
    EXPECT_EQ(ReceiveAll(pair.there).first, "a message");
  }
  auto Bad() {
    pair.there = Descriptor();
    return Good();
  }
  static constexpr int kError = EPIPE;

  static constexpr std::size_t kMany = std::size_t{1} << 24;
  auto Short() {
    return Op{.socket = pair.here,
              .message = {.bytes = std::string(kMany, '.')}};
  }
  void ExpectShort(Op::Outcome sent) {
    EXPECT_LT(*sent.result, kMany);
    EXPECT_EQ(sent.buffer.bytes.size(), kMany);
    EXPECT_EQ(ReceiveAll(pair.there).first, std::string(*sent.result, '.'));
  }

  auto Waits() {
    Fill(pair.here);
    return Good();
  }
  void ExpectWaited(Op::Outcome sent) { Expect(std::move(sent)); }
};

struct SendMessagePassingCase : SendWorld {
  static constexpr const char* kName = "SendMessagePassing";
  static constexpr const char* kCall = "sendmsg";
  using Op = SendMessage<std::tuple<StaticBytes, std::string>>;

  Descriptor file = world.OpenFile();

  auto Good() {
    ControlData control;
    control.Pass(pair.here);
    control.Pass(file);
    return Op{.socket = pair.here,
              .message = {.bytes = {StaticBytes("head,"), "body"},
                          .control = std::move(control)}};
  }
  void Expect(Op::Outcome sent) {
    EXPECT_EQ(*sent.result, 9u);
    EXPECT_EQ(std::get<1>(sent.buffer.bytes), "body");
    EXPECT_TRUE(sent.buffer.control.empty());
    EXPECT_TRUE(file.alone());
    const auto [bytes, passed] = ReceiveAll(pair.there);
    EXPECT_EQ(bytes, "head,body");
    EXPECT_TRUE(passed && IsSameFile(passed, file));
  }
  auto Bad() {
    Op op = Good();
    op.message.control.Add(SOL_SOCKET, 0x7fff, {});
    return op;
  }
  static constexpr int kError = EINVAL;

  auto Waits() {
    Fill(pair.here);
    return Good();
  }
  void ExpectWaited(Op::Outcome sent) { Expect(std::move(sent)); }
};

struct SendDatagramCase {
  World world;
  Pair pair{SOCK_DGRAM};
  Descriptor receiver = Datagram();
  SocketAddress address = UnixAddress(world.Path("mailbox"));
  static constexpr const char* kName = "SendDatagram";
  static constexpr const char* kCall = "sendmsg";
  using Op = SendMessage<std::vector<std::string>>;

  static Descriptor Datagram() {
    return Descriptor::Adopt(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  }

  Op Good() {
    EXPECT_EQ(::bind(receiver.number(), address.data(), address.size()), 0);
    return Bad();
  }
  void Expect(Op::Outcome sent) {
    EXPECT_EQ(*sent.result, 4u);
    EXPECT_EQ(sent.buffer.bytes,
              (std::vector<std::string>{"o", "", "n", "ce"}));
    EXPECT_EQ(ReceiveAll(receiver).first, "once");
  }
  Op Bad() {
    return Op{.socket = pair.here,
              .message = {.bytes = {"o", "", "n", "ce"}, .address = address}};
  }
  static constexpr int kError = ENOENT;
};

struct ReceiveMessageCase {
  World world;
  Pair pair;
  static constexpr const char* kName = "ReceiveMessage";
  static constexpr const char* kCall = "recvmsg";
  using Op = ReceiveMessage<std::array<std::string, 2>>;

  auto OpOn(const Descriptor& socket) {
    return Op{.socket = socket, .message = {.bytes = {"..", "...."}}};
  }
  auto Good() {
    EXPECT_EQ(::write(pair.there.number(), "abcdef", 6), 6);
    return OpOn(pair.here);
  }
  void Expect(Op::Outcome received) {
    EXPECT_EQ(*received.result, 6u);
    EXPECT_EQ(received.buffer.bytes[0], "ab");
    EXPECT_EQ(received.buffer.bytes[1], "cdef");
    EXPECT_EQ(received.buffer.flags, 0);
    EXPECT_EQ(received.buffer.address.size(), 0u);
  }
  auto Bad() { return OpOn(world.OpenFile()); }
  static constexpr int kError = ENOTSOCK;

  auto Short() {
    EXPECT_EQ(::write(pair.there.number(), "abc", 3), 3);
    return OpOn(pair.here);
  }
  void ExpectShort(Op::Outcome received) {
    EXPECT_EQ(*received.result, 3u);
    EXPECT_EQ(received.buffer.bytes[1], "c...");
  }

  auto Waits() { return OpOn(pair.here); }
  void EndWait() { EXPECT_EQ(::write(pair.there.number(), "abcdef", 6), 6); }
  void ExpectWaited(Op::Outcome received) { Expect(std::move(received)); }
};

struct ReceivePassedCase {
  World world;
  Pair pair;
  Descriptor file = world.OpenFile();
  static constexpr const char* kName = "ReceivePassed";
  static constexpr const char* kCall = "recvmsg";
  using Op = ReceiveMessage<std::string>;

  auto OpOn(const Descriptor& socket) {
    return Op{
        .socket = socket,
        .message = {.bytes = "....",
                    .control = ControlRoom(ControlRoom::For(3 * sizeof(int)))}};
  }
  auto Good() {
    EndWait();
    return OpOn(pair.here);
  }
  // One is left to be closed by its owner.
  void Expect(Op::Outcome received) {
    EXPECT_EQ(*received.result, 3u);
    EXPECT_EQ(received.buffer.flags, 0);
    EXPECT_EQ(received.buffer.control.begin(), received.buffer.control.end());
    const Descriptor first = received.buffer.control.TakeDescriptor();
    const Descriptor second = received.buffer.control.TakeDescriptor();
    ASSERT_TRUE(first && second);
    EXPECT_TRUE(IsSameFile(first, pair.there));
    EXPECT_TRUE(IsSameFile(second, file));
    EXPECT_EQ(::fcntl(first.number(), F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(::fcntl(second.number(), F_GETFD), FD_CLOEXEC);
  }
  auto Bad() { return OpOn(world.OpenFile()); }
  static constexpr int kError = ENOTSOCK;

  auto Waits() { return OpOn(pair.here); }
  void EndWait() {
    const int numbers[] = {pair.there.number(), file.number(), file.number()};
    SendPassing(pair.there, "abc", numbers);
  }
  void ExpectWaited(Op::Outcome received) { Expect(std::move(received)); }
};

struct ReceiveDatagramCase {
  World world;
  Descriptor sender = SendDatagramCase::Datagram();
  Descriptor receiver = SendDatagramCase::Datagram();
  SocketAddress from = UnixAddress(world.Path("from"));
  SocketAddress to = UnixAddress(world.Path("to"));
  static constexpr const char* kName = "ReceiveDatagram";
  static constexpr const char* kCall = "recvmsg";
  using Op = ReceiveMessage<std::vector<std::string>>;

  ReceiveDatagramCase() {
    EXPECT_EQ(::bind(sender.number(), from.data(), from.size()), 0);
    EXPECT_EQ(::bind(receiver.number(), to.data(), to.size()), 0);
  }

  auto OpOn(const Descriptor& socket) {
    return Op{.socket = socket, .message = {.bytes = {"..", "..."}}};
  }
  void SendIt(const char* bytes) {
    EXPECT_GT(::sendto(sender.number(), bytes, std::string(bytes).size(), 0,
                       to.data(), to.size()),
              0);
  }
  auto Good() {
    EndWait();
    return OpOn(receiver);
  }
  void Expect(Op::Outcome received) {
    EXPECT_EQ(*received.result, 4u);
    EXPECT_EQ(received.buffer.bytes, (std::vector<std::string>{"ab", "cd."}));
    EXPECT_EQ(received.buffer.flags, 0);
    ExpectSender(received.buffer.address);
  }
  void ExpectSender(const SocketAddress& address) {
    EXPECT_EQ(address.family(), AF_UNIX);
    EXPECT_EQ(reinterpret_cast<const sockaddr_un*>(address.data())->sun_path,
              world.Path("from"));
  }
  auto Bad() { return OpOn(world.OpenFile()); }
  static constexpr int kError = ENOTSOCK;

  auto Short() {
    SendIt("abcdefgh");
    return OpOn(receiver);
  }
  void ExpectShort(Op::Outcome received) {
    EXPECT_EQ(*received.result, 5u);
    EXPECT_EQ(received.buffer.flags, MSG_TRUNC);
    ExpectSender(received.buffer.address);
  }

  auto Waits() { return OpOn(receiver); }
  void EndWait() { SendIt("abcd"); }
  void ExpectWaited(Op::Outcome received) { Expect(std::move(received)); }
};

using Cases = ::testing::Types<SendMessageCase, SendMessagePassingCase,
                               SendDatagramCase, ReceiveMessageCase,
                               ReceivePassedCase, ReceiveDatagramCase>;
ESCROW_OP_CASES(Message, Cases);

// What a row cannot say.

class SafeMessageOps : public ::testing::Test {
 protected:
  static Ring MakeRing() {
    auto ring = Ring::Create({.entries = 8});
    if (!ring) {
      ADD_FAILURE() << ring.error().message();
      std::abort();
    }
    return std::move(*ring);
  }

  auto Receive(ControlRoom control) {
    return ring_.Start(ReceiveMessage<std::string>{
        .socket = pair_.here,
        .message = {.bytes = "....", .control = std::move(control)}});
  }

  Ring ring_ = MakeRing();
  World world_;
  Pair pair_;
};

TEST_F(SafeMessageOps, WhatIsPassedStaysOpenUntilTheSendIsDone) {
  const Descriptor same = world_.OpenFile();
  Descriptor file = world_.OpenFile();
  const int number = file.number();
  Fill(pair_.here);
  ControlData control;
  control.Pass(file);
  auto send = ring_.Start(SendMessage<std::string>{
      .socket = pair_.here,
      .message = {.bytes = "x", .control = std::move(control)}});
  EXPECT_TRUE(ring_.Submit());
  file = Descriptor();
  // Its number is not reused.
  const Descriptor other = world_.OpenDirectory();
  EXPECT_NE(other.number(), number);
  EXPECT_TRUE(IsSameFile(Descriptor::Permanent(number), same));
  (void)ReceiveAll(pair_.there);
  while (!send.done()) EXPECT_TRUE(ring_.Wait(ring_.Nop()));
  // Nobody has taken the outcome yet.
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
  const Descriptor passed = ReceiveAll(pair_.there).second;
  EXPECT_TRUE(passed && IsSameFile(passed, same));
}

TEST_F(SafeMessageOps, CloseOfWhatIsPassedWaitsForTheSend) {
  Descriptor file = world_.OpenFile();
  ControlData control;
  control.Pass(file);
  auto send = ring_.Start(SendMessage<std::string>{
      .socket = pair_.here,
      .message = {.bytes = "x", .control = std::move(control)}});
  EXPECT_TRUE(ring_.Wait(ring_.Close(std::move(file))));
  EXPECT_TRUE(ring_.Wait(std::move(send)).result);
  EXPECT_TRUE(ReceiveAll(pair_.there).second);
}

TEST_F(SafeMessageOps, ASendThatIsNeverSubmittedLetsGo) {
  const Descriptor file = world_.OpenFile();
  ControlData control;
  control.Pass(file);
  EXPECT_FALSE(file.alone());
  {
    auto send = ring_.Start(SendMessage<std::string>{
        .socket = pair_.here,
        .message = {.bytes = "x", .control = std::move(control)}});
    EXPECT_FALSE(file.alone());
  }
  EXPECT_TRUE(file.alone());
  EXPECT_EQ(ReceiveAll(pair_.there).first, "");
}

TEST_F(SafeMessageOps, DescriptorsForAHandleThatIsGoneAreClosed) {
  const Descriptor file = world_.OpenFile();
  const int numbers[] = {file.number(), file.number()};
  const int before = escrow::testing::OpenDescriptors();
  {
    auto receive = Receive(ControlRoom(ControlRoom::For(sizeof(numbers))));
    EXPECT_TRUE(ring_.Submit());
    SendPassing(pair_.there, "abc", numbers);
    while (!receive.done()) EXPECT_TRUE(ring_.Wait(ring_.Nop()));
    EXPECT_EQ(escrow::testing::OpenDescriptors(), before + 2);
  }
  EXPECT_EQ(escrow::testing::OpenDescriptors(), before);
}

TEST_F(SafeMessageOps, DescriptorsBeyondTheRoomAreClosed) {
  const Descriptor file = world_.OpenFile();
  const int numbers[] = {file.number(), file.number(), file.number()};
  const int before = escrow::testing::OpenDescriptors();
  for (const std::size_t room : {0, 2}) {
    SendPassing(pair_.there, "abc", numbers);
    auto [size, message] = ring_.Wait(
        Receive(room == 0 ? ControlRoom()
                          : ControlRoom(ControlRoom::For(room * sizeof(int)))));
    EXPECT_EQ(size.value(), 3u);
    EXPECT_EQ(message.flags, MSG_CTRUNC);
    EXPECT_EQ(escrow::testing::OpenDescriptors(),
              before + static_cast<int>(room));
    for (std::size_t i = 0; i < room; ++i) {
      EXPECT_TRUE(message.control.TakeDescriptor());
    }
    EXPECT_FALSE(message.control.TakeDescriptor());
  }
  EXPECT_EQ(escrow::testing::OpenDescriptors(), before);
}

TEST_F(SafeMessageOps, RoomIsUsedAgain) {
  const Descriptor file = world_.OpenFile();
  const int numbers[] = {file.number(), pair_.there.number()};
  const int before = escrow::testing::OpenDescriptors();
  ControlRoom room(ControlRoom::For(sizeof(numbers)));
  for (int i = 0; i < 3; ++i) {
    SendPassing(pair_.there, "abc", numbers);
    auto [size, message] = ring_.Wait(Receive(std::move(room)));
    EXPECT_EQ(size.value(), 3u);
    room = std::move(message.control);
    EXPECT_TRUE(IsSameFile(room.TakeDescriptor(), file));
    EXPECT_EQ(escrow::testing::OpenDescriptors(), before + 1);
  }
  // One that brings none closes what was left there.
  EXPECT_EQ(::write(pair_.there.number(), "x", 1), 1);
  auto [size, message] = ring_.Wait(Receive(std::move(room)));
  EXPECT_EQ(size.value(), 1u);
  EXPECT_EQ(escrow::testing::OpenDescriptors(), before);
  EXPECT_FALSE(message.control.TakeDescriptor());
}

TEST_F(SafeMessageOps, RoomThatIsGivenUpClosesWhatIsInIt) {
  const int numbers[] = {pair_.there.number(), pair_.there.number()};
  const int before = escrow::testing::OpenDescriptors();
  for (int i = 0; i < 2; ++i) {
    SendPassing(pair_.there, "abc", numbers);
    auto [size, message] =
        ring_.Wait(Receive(ControlRoom(ControlRoom::For(sizeof(numbers)))));
    EXPECT_EQ(size.value(), 3u);
    EXPECT_EQ(escrow::testing::OpenDescriptors(), before + 2);
    if (i == 0) message.control.Clear();
    message.control = ControlRoom();
    EXPECT_EQ(escrow::testing::OpenDescriptors(), before);
  }
}

TEST_F(SafeMessageOps, OtherControlDataIsIterated) {
  const int on = 1;
  ASSERT_EQ(::setsockopt(pair_.here.number(), SOL_SOCKET, SO_PASSCRED, &on,
                         sizeof(on)),
            0);
  const Descriptor file = world_.OpenFile();
  const ucred mine = {.pid = ::getpid(), .uid = ::getuid(), .gid = ::getgid()};
  ControlData control;
  control.Pass(file);
  control.Add(SOL_SOCKET, SCM_CREDENTIALS, std::as_bytes(std::span(&mine, 1)));
  control.Pass(pair_.there);
  auto [sent, gone] = ring_.Wait(ring_.Start(SendMessage<StaticBytes>{
      .socket = pair_.there,
      .message = {.bytes = StaticBytes("x"), .control = std::move(control)}}));
  ASSERT_TRUE(sent) << sent.error().message();
  auto [size, message] = ring_.Wait(Receive(ControlRoom(
      ControlRoom::For(sizeof(ucred)) + ControlRoom::For(2 * sizeof(int)))));
  EXPECT_EQ(size.value(), 1u);
  int count = 0;
  for (const ControlMessage& each : message.control) {
    ++count;
    EXPECT_EQ(each.level, SOL_SOCKET);
    EXPECT_EQ(each.type, SCM_CREDENTIALS);
    ASSERT_TRUE(each.As<ucred>());
    EXPECT_EQ(each.As<ucred>()->pid, mine.pid);
    EXPECT_FALSE((each.As<std::array<char, sizeof(ucred) + 1>>()));
  }
  EXPECT_EQ(count, 1);
  EXPECT_TRUE(IsSameFile(message.control.TakeDescriptor(), file));
  EXPECT_TRUE(IsSameFile(message.control.TakeDescriptor(), pair_.there));
  EXPECT_FALSE(message.control.TakeDescriptor());
  EXPECT_FALSE(message.control.TakePidfd());
}

TEST_F(SafeMessageOps, PidfdIsOwned) {
  constexpr int kPassPidfd = 76;  // SO_PASSPIDFD
  const int on = 1;
  if (::setsockopt(pair_.here.number(), SOL_SOCKET, kPassPidfd, &on,
                   sizeof(on)) != 0) {
    GTEST_SKIP() << "Linux 6.5 has it";
  }
  const int before = escrow::testing::OpenDescriptors();
  for (const bool take : {false, true}) {
    EXPECT_EQ(::write(pair_.there.number(), "x", 1), 1);
    auto [size, message] =
        ring_.Wait(Receive(ControlRoom(ControlRoom::For(sizeof(int)))));
    EXPECT_EQ(size.value(), 1u);
    EXPECT_EQ(escrow::testing::OpenDescriptors(), before + 1);
    EXPECT_EQ(message.control.begin(), message.control.end());
    EXPECT_FALSE(message.control.TakeDescriptor());
    if (!take) continue;
    const Descriptor process = message.control.TakePidfd();
    ASSERT_TRUE(process);
    EXPECT_EQ(::fcntl(process.number(), F_GETFD), FD_CLOEXEC);
    EXPECT_FALSE(message.control.TakePidfd());
  }
  EXPECT_EQ(escrow::testing::OpenDescriptors(), before);
}

TEST_F(SafeMessageOps, ManyPartsGoInTheirOrder) {
  std::vector<std::string> parts;
  std::string whole;
  for (int i = 0; i < 100; ++i) {
    parts.push_back(std::to_string(i) + ",");
    whole += parts.back();
  }
  auto [sent, back] = ring_.Wait(ring_.Start(SendMessage<decltype(parts)>{
      .socket = pair_.there, .message = {.bytes = parts}}));
  EXPECT_EQ(sent.value(), whole.size());
  EXPECT_EQ(back.bytes, parts);
  std::vector<std::string> room(whole.size(), ".");
  auto [size, message] = ring_.Wait(ring_.Start(ReceiveMessage<decltype(room)>{
      .socket = pair_.here, .message = {.bytes = std::move(room)}}));
  ASSERT_EQ(size.value(), whole.size());
  std::string received;
  for (const std::string& part : message.bytes) received += part;
  EXPECT_EQ(received, whole);
}

TEST_F(SafeMessageOps, TooManyPartsAreRefused) {
  const std::vector<std::string> parts(IOV_MAX + 1, "x");
  auto [sent, back] =
      ring_.Wait(ring_.Start(SendMessage<std::vector<std::string>>{
          .socket = pair_.there, .message = {.bytes = parts}}));
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error(), std::errc::message_size);
  EXPECT_EQ(back.bytes, parts);
}

TEST_F(SafeMessageOps, AMessageCanBeControlDataOnly) {
  const Pair datagrams(SOCK_DGRAM);
  ControlData control;
  control.Pass(pair_.here);
  auto [sent, gone] = ring_.Wait(ring_.Start(SendMessage<std::tuple<>>{
      .socket = datagrams.here,
      .message = {.bytes = {}, .control = std::move(control)}}));
  EXPECT_EQ(sent.value(), 0u);
  auto [size, message] = ring_.Wait(ring_.Start(ReceiveMessage<std::tuple<>>{
      .socket = datagrams.there,
      .message = {.bytes = {},
                  .control = ControlRoom(ControlRoom::For(sizeof(int)))}}));
  EXPECT_EQ(size.value(), 0u);
  EXPECT_TRUE(IsSameFile(message.control.TakeDescriptor(), pair_.here));
}

TEST_F(SafeMessageOps, ControlDataIsUsedAgain) {
  ControlData control;
  const Descriptor files[] = {world_.OpenFile(), world_.OpenDirectory()};
  for (const Descriptor& file : files) {
    control.Pass(file);
    auto [sent, message] = ring_.Wait(ring_.Start(SendMessage<std::string>{
        .socket = pair_.here,
        .message = {.bytes = "x", .control = std::move(control)}}));
    EXPECT_TRUE(sent);
    control = std::move(message.control);
    EXPECT_TRUE(IsSameFile(ReceiveAll(pair_.there).second, file));
  }
}

TEST(SafeMessageOpsDeathTest, DescriptorsAreNotPassedAsNumbers) {
  ControlData control;
  const int number = 0;
  EXPECT_DEATH(
      control.Add(SOL_SOCKET, SCM_RIGHTS, std::as_bytes(std::span(&number, 1))),
      "descriptors are passed with ControlData::Pass");
  EXPECT_DEATH(control.Pass(Descriptor()), "an empty Descriptor");
}

// Measured on a TCP connection: bytes that were overwritten after the
// completion went to the peer.
TEST(SafeMessageOpsDeathTest, ZeroCopyIsNoFlag) {
  const Pair pair;
  EXPECT_DEATH(
      WithOwnRing([&](Ring& ring) {
        (void)ring.Start(SendMessage<std::string>{.socket = pair.here,
                                                  .message = {.bytes = "x"},
                                                  .flags = MSG_ZEROCOPY});
      }),
      "a send with MSG_ZEROCOPY");
  EXPECT_DEATH(
      WithOwnRing([&](Ring& ring) {
        (void)ring.Start(Send<std::string>{
            .socket = pair.here, .buffer = "x", .flags = MSG_ZEROCOPY});
      }),
      "a send with MSG_ZEROCOPY");
}

}  // namespace
}  // namespace escrow::safe::cases
