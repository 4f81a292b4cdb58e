#include <liburing.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "escrow/raw/ops.h"
#include "tests/conformance/measure.h"
#include "tests/conformance/scripts.h"
#include "tests/conformance/stage.h"

// Scripts for raw/ops_transfer.h.

namespace escrow::testing {
namespace {

// A socket to send from to the other one, which "hello" has to reach. Datagrams
// over the loopback device.
Ends DatagramsToObserve(Stage& stage) {
  const Ends pair = MakeUdpPair(stage);
  stage.Observe("hello", [pair] { return ReadFrom(pair.theirs); });
  return pair;
}

sockaddr_in* AddressOfPeer(Stage& stage, const Ends& pair) {
  return stage.Value("address", AddressOf(pair.theirs));
}

char* Hello(Stage& stage, const char* region) {
  return stage.Text(region, "hello");
}

// Sends.

void Send(Stage& stage) {
  const Ends pair = DatagramsToObserve(stage);
  stage.Run(raw::Send{.fd = stage.File("fd", pair.ours),
                      .buffer = Hello(stage, "buffer"),
                      .length = 5,
                      .address = Generic(AddressOfPeer(stage, pair)),
                      .address_length = sizeof(sockaddr_in)},
            "5");
}

void SendVectors(Stage& stage) {
  const Ends pair = DatagramsToObserve(stage);
  const iovec vector = {.iov_base = Hello(stage, "vectors/iov_base"),
                        .iov_len = 5};
  stage.Run(raw::SendVectors{.fd = stage.File("fd", pair.ours),
                             .vectors = stage.Value("vectors", vector),
                             .count = 1,
                             .address = Generic(AddressOfPeer(stage, pair)),
                             .address_length = sizeof(sockaddr_in)},
            "5");
}

void SendSelected(Stage& stage) {
  const Ends pair = MakeSocketPair(stage, SOCK_STREAM);
  const raw::SendSelected op = {.fd = stage.File("fd", pair.ours),
                                .group = stage.Group(5, "hello")};
  stage.Run(op, "5#0 5#1");
  stage.Then([] {}, op);
  stage.Observe("hellohello", [pair] { return ReadFrom(pair.theirs); });
}

// Goes on, in steps of which only the first has the length that was asked for,
// until the group is empty. Here the peer has room for one more datagram; the
// request waits with all the other buffers, and is cancelled with them. What
// the group gets meanwhile is left in it.
void SendBundle(Stage& stage) {
  const Ends pair = MakeSocketPair(stage, SOCK_DGRAM);
  while (send(pair.ours, "before", 6, MSG_DONTWAIT) == 6) continue;
  ReadFrom(pair.theirs);
  stage.Run(raw::SendBundle{.fd = stage.File("fd", pair.ours),
                            .group = stage.Group(5, "hello"),
                            .length = 5},
            "5#0+ -ECANCELED#1 5#6");
  stage.OnFirst([&stage](int) { stage.AddToGroup(); });
  stage.CancelAfter(1);
  stage.Then(
      [pair] {
        while (ReadFrom(pair.theirs) == "before") continue;
      },
      raw::SendSelected{.fd = pair.ours, .group = Stage::kGroup});
  stage.Observe("hello", [pair] { return ReadFrom(pair.theirs); });
}

// A message whose parts are regions. `data` is in "message/msg_iov/iov_base".
msghdr* MessageOf(Stage& stage, void* data, std::size_t size,
                  const msghdr& others = {}) {
  msghdr message = others;
  message.msg_iov =
      stage.Value("message/msg_iov", iovec{.iov_base = data, .iov_len = size});
  message.msg_iovlen = 1;
  return stage.Value("message", message);
}

// The name, and control data that goes with a datagram.
msghdr NameAndControl(Stage& stage, const Ends& pair) {
  msghdr message = {};
  message.msg_name = stage.Value("message/msg_name", AddressOf(pair.theirs));
  message.msg_namelen = sizeof(sockaddr_in);
  message.msg_control =
      stage.Memory("message/msg_control", CMSG_SPACE(sizeof(int)));
  message.msg_controllen = CMSG_SPACE(sizeof(int));
  cmsghdr* const control = CMSG_FIRSTHDR(&message);
  const int value = 7;
  control->cmsg_level = IPPROTO_IP;
  control->cmsg_type = IP_TTL;
  control->cmsg_len = CMSG_LEN(sizeof(value));
  std::memcpy(CMSG_DATA(control), &value, sizeof(value));
  return message;
}

void SendMsg(Stage& stage) {
  const Ends pair = DatagramsToObserve(stage);
  char* const data = Hello(stage, "message/msg_iov/iov_base");
  stage.Run(raw::SendMsg{.fd = stage.File("fd", pair.ours),
                         .message = MessageOf(stage, data, 5,
                                              NameAndControl(stage, pair))},
            "5");
}

// Sends without a copy: of so much that it does not fit into the buffers of a
// peer that does not read, so that most of it is only there in the sender's
// memory at the first completion. Then the peer reads and compares.

constexpr std::size_t kMuch = 256 << 10;
constexpr const char* kSent = "some+ notified";

char* Much(Stage& stage, const char* region) {
  auto* const memory = static_cast<char*>(stage.Memory(region, kMuch));
  std::fill_n(memory, kMuch, 'a');
  return memory;
}

bool ReadsOnly(int socket, int count, char expected) {
  std::vector<char> data(static_cast<std::size_t>(count));
  const ssize_t size = recv(socket, data.data(), data.size(), MSG_WAITALL);
  return size == count && std::all_of(data.begin(), data.end(),
                                      [&](char c) { return c == expected; });
}

int StreamToObserve(Stage& stage) {
  const int listener = stage.Own(MakeListener());
  const int little = 4096;
  const int much = 4 * kMuch;
  Must(
      setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)) == 0,
      "setsockopt");
  const int ours = ConnectTo(listener);
  Must(setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &much, sizeof(much)) == 0,
       "setsockopt");
  const int theirs =
      stage.Own(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  const auto same = std::make_shared<bool>(false);
  stage.OnFirst([=, &stage](int count) {
    *same = count > 0 && ReadsOnly(theirs, count, 'a');
    // Acknowledges what is left.
    stage.Close(theirs);
  });
  stage.Observe("as sent", [=] { return *same ? "as sent" : "otherwise"; });
  stage.CountsVary();
  return ours;
}

void SendZeroCopy(Stage& stage) {
  stage.Run(raw::SendZeroCopy{.fd = stage.File("fd", StreamToObserve(stage)),
                              .buffer = Much(stage, "buffer"),
                              .length = kMuch},
            kSent);
}

void SendZeroCopyFixed(Stage& stage) {
  char* const memory = Much(stage, "buffer");
  stage.Run(
      raw::SendZeroCopyFixed{
          .fd = stage.File("fd", StreamToObserve(stage)),
          .buffer = memory,
          .length = kMuch,
          .buffer_index = stage.RegisterBuffer(memory, kMuch)},
      kSent);
}

void SendZeroCopyVectors(Stage& stage) {
  const iovec vector = {.iov_base = Much(stage, "vectors/iov_base"),
                        .iov_len = kMuch};
  stage.Run(
      raw::SendZeroCopyVectors{.fd = stage.File("fd", StreamToObserve(stage)),
                               .vectors = stage.Value("vectors", vector),
                               .count = 1},
      kSent);
}

void SendMsgZeroCopy(Stage& stage) {
  char* const memory = Much(stage, "message/msg_iov/iov_base");
  stage.Run(raw::SendMsgZeroCopy{.fd = stage.File("fd", StreamToObserve(stage)),
                                 .message = MessageOf(stage, memory, kMuch)},
            kSent);
}

void SendMsgZeroCopyFixed(Stage& stage) {
  char* const memory = Much(stage, "message/msg_iov/iov_base");
  stage.Run(
      raw::SendMsgZeroCopyFixed{
          .fd = stage.File("fd", StreamToObserve(stage)),
          .message = MessageOf(stage, memory, kMuch),
          .buffer_index = stage.RegisterBuffer(memory, kMuch)},
      kSent);
}

// What streams do not have: addresses and control data.

void SendZeroCopyTo(Stage& stage) {
  const Ends pair = DatagramsToObserve(stage);
  stage.Run(raw::SendZeroCopy{.fd = stage.Own(pair.ours),
                              .buffer = "hello",
                              .length = 5,
                              .address = Generic(AddressOfPeer(stage, pair)),
                              .address_length = sizeof(sockaddr_in)},
            "5+ notified");
}

void SendZeroCopyFixedTo(Stage& stage) {
  const Ends pair = DatagramsToObserve(stage);
  void* const memory = stage.Scratch(5);
  std::memcpy(memory, "hello", 5);
  stage.Run(
      raw::SendZeroCopyFixed{.fd = stage.Own(pair.ours),
                             .buffer = memory,
                             .length = 5,
                             .buffer_index = stage.RegisterBuffer(memory, 5),
                             .address = Generic(AddressOfPeer(stage, pair)),
                             .address_length = sizeof(sockaddr_in)},
      "5+ notified");
}

iovec* ScratchHello(Stage& stage) {
  void* const memory = stage.Scratch(5);
  std::memcpy(memory, "hello", 5);
  return stage.ScratchValue(iovec{.iov_base = memory, .iov_len = 5});
}

void SendZeroCopyVectorsTo(Stage& stage) {
  const Ends pair = DatagramsToObserve(stage);
  stage.Run(
      raw::SendZeroCopyVectors{.fd = stage.Own(pair.ours),
                               .vectors = ScratchHello(stage),
                               .count = 1,
                               .address = Generic(AddressOfPeer(stage, pair)),
                               .address_length = sizeof(sockaddr_in)},
      "5+ notified");
}

msghdr* ScratchMessage(Stage& stage, const Ends& pair, iovec* vector) {
  msghdr message = NameAndControl(stage, pair);
  message.msg_iov = vector;
  message.msg_iovlen = 1;
  return stage.ScratchValue(message);
}

void SendMsgZeroCopyTo(Stage& stage) {
  const Ends pair = DatagramsToObserve(stage);
  stage.Run(raw::SendMsgZeroCopy{.fd = stage.Own(pair.ours),
                                 .message = ScratchMessage(
                                     stage, pair, ScratchHello(stage))},
            "5+ notified");
}

void SendMsgZeroCopyFixedTo(Stage& stage) {
  const Ends pair = DatagramsToObserve(stage);
  iovec* const vector = ScratchHello(stage);
  stage.Run(
      raw::SendMsgZeroCopyFixed{
          .fd = stage.Own(pair.ours),
          .message = ScratchMessage(stage, pair, vector),
          .buffer_index = stage.RegisterBuffer(vector->iov_base, 5)},
      "5+ notified");
}

// Receives. At the end of those that select, there are buffers left, of which
// another request takes one.

void Recv(Stage& stage) {
  const Ends pair = MakeSocketPair(stage, SOCK_STREAM);
  WriteTo(pair.theirs, "hello");
  stage.Run(raw::Recv{.fd = stage.File("fd", pair.ours),
                      .buffer = stage.Memory("buffer", 5),
                      .length = 5},
            "5");
}

// The completions of a request that receives once, or, until it is cancelled,
// twice.
constexpr const char* kOnce = "5#0 5#1";
constexpr const char* kTwice = "5#0+ 6#1+ -ECANCELED 5#2";

template <typename Op>
void Receive(Stage& stage, int type, const char* untouched, Op op) {
  const Ends pair = MakeSocketPair(stage, type);
  WriteTo(pair.theirs, "hello");
  op.fd = stage.File("fd", pair.ours);
  stage.Run(op, untouched);
  if (Op::kInfo.ends == raw::Until::kLastCompletion) {
    stage.OnFirst([pair](int) { WriteTo(pair.theirs, "second"); });
    stage.CancelAfter(2);
  }
  stage.Then([pair] { WriteTo(pair.theirs, "third"); },
             raw::RecvSelected{.fd = op.fd, .group = op.group});
}

void RecvSelected(Stage& stage) {
  Receive(stage, SOCK_STREAM, kOnce,
          raw::RecvSelected{.fd = -1, .group = stage.Group(64)});
}

void RecvBundle(Stage& stage) {
  Receive(stage, SOCK_STREAM, kOnce,
          raw::RecvBundle{.fd = -1, .group = stage.Group(64)});
}

void RecvMultishot(Stage& stage) {
  Receive(stage, SOCK_STREAM, kTwice,
          raw::RecvMultishot{.fd = -1, .group = stage.Group(64)});
}

void RecvBundleMultishot(Stage& stage) {
  Receive(stage, SOCK_STREAM, kTwice,
          raw::RecvBundleMultishot{.fd = -1, .group = stage.Group(64)});
}

// What is before each message in its buffer.
static_assert(sizeof(io_uring_recvmsg_out) == 16);

void RecvMsgMultishot(Stage& stage) {
  Receive(stage, SOCK_DGRAM, "21#0+ 22#1+ -ECANCELED 5#2",
          raw::RecvMsgMultishot{.fd = -1,
                                .message = stage.Value<msghdr>("message"),
                                .group = stage.Group(64)});
}

// A socket that has a message, with a name and control data to be received.
Ends WithMessage(Stage& stage) {
  const Ends pair = MakeUdpPair(stage);
  const int on = 1;
  sockaddr_in address = AddressOf(pair.ours);
  Must(setsockopt(pair.ours, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) == 0 &&
           connect(pair.theirs, Generic(&address), sizeof(address)) == 0,
       "connect");
  WriteTo(pair.theirs, "hello");
  return pair;
}

// Room for them. That the control data was written is only told by the length
// that it has got.
msghdr* RoomForMessage(Stage& stage, void* data) {
  constexpr std::size_t kRoom = CMSG_SPACE(sizeof(in_pktinfo));
  msghdr room = {};
  room.msg_name = stage.Memory("message/msg_name", sizeof(sockaddr_in));
  room.msg_namelen = sizeof(sockaddr_in);
  room.msg_control = stage.Memory("message/msg_control", kRoom);
  room.msg_controllen = kRoom;
  msghdr* const message = MessageOf(stage, data, 5, room);
  stage.Observe("control data", [=, &stage] {
    const auto* const seen = static_cast<const msghdr*>(stage.Peek(message));
    return stage.revoked("message") || seen->msg_controllen != 0
               ? "control data"
               : "none";
  });
  return message;
}

void RecvMsg(Stage& stage) {
  const Ends pair = WithMessage(stage);
  void* const data = stage.Memory("message/msg_iov/iov_base", 5);
  stage.Run(raw::RecvMsg{.fd = stage.File("fd", pair.ours),
                         .message = RoomForMessage(stage, data)},
            "5");
}

void RecvMsgSelected(Stage& stage) {
  const Ends pair = WithMessage(stage);
  const raw::RecvMsgSelected op = {.fd = stage.File("fd", pair.ours),
                                   .message = RoomForMessage(stage, nullptr),
                                   .group = stage.Group(64)};
  stage.Run(op, kOnce);
  stage.Then([pair] { WriteTo(pair.theirs, "third"); },
             raw::RecvSelected{.fd = op.fd, .group = op.group});
}

}  // namespace

std::vector<NamedScript> TransferScripts() {
  return {
      {"Send", Send},
      {"SendVectors", SendVectors},
      {"SendSelected", SendSelected},
      {"SendBundle", SendBundle},
      {"SendMsg", SendMsg},
      {"SendZeroCopy", SendZeroCopy},
      {"SendZeroCopy", SendZeroCopyTo},
      {"SendZeroCopyFixed", SendZeroCopyFixed},
      {"SendZeroCopyFixed", SendZeroCopyFixedTo},
      {"SendZeroCopyVectors", SendZeroCopyVectors},
      {"SendZeroCopyVectors", SendZeroCopyVectorsTo},
      {"SendMsgZeroCopy", SendMsgZeroCopy},
      {"SendMsgZeroCopy", SendMsgZeroCopyTo},
      {"SendMsgZeroCopyFixed", SendMsgZeroCopyFixed},
      {"SendMsgZeroCopyFixed", SendMsgZeroCopyFixedTo},
      {"Recv", Recv},
      {"RecvSelected", RecvSelected},
      {"RecvBundle", RecvBundle},
      {"RecvMultishot", RecvMultishot},
      {"RecvBundleMultishot", RecvBundleMultishot},
      {"RecvMsg", RecvMsg},
      {"RecvMsgSelected", RecvMsgSelected},
      {"RecvMsgMultishot", RecvMsgMultishot},
  };
}

}  // namespace escrow::testing
