#include <liburing.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "escrow/raw/ops.h"
#include "tests/conformance/measure.h"
#include "tests/conformance/scripts.h"
#include "tests/conformance/stage.h"

// Scripts for raw/ops_socket.h.

namespace escrow::testing {
namespace {

int NewSocket(int type) {
  const int made = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  Must(made >= 0, "socket");
  return made;
}

void Socket(Stage& stage) {
  stage.Run(raw::Socket{.domain = AF_INET,
                        .type = SOCK_STREAM,
                        .into = stage.EmptySlot("into")},
            "0");
}

void Bind(Stage& stage) {
  sockaddr_in* const address = stage.Value("address", Loopback());
  stage.Run(raw::Bind{.fd = stage.File("fd", NewSocket(SOCK_STREAM)),
                      .address = Generic(address),
                      .address_length = sizeof(*address)},
            "0");
}

void Listen(Stage& stage) {
  stage.Run(
      raw::Listen{.fd = stage.File("fd", NewSocket(SOCK_STREAM)), .backlog = 1},
      "0");
}

void Connect(Stage& stage) {
  const int listener = stage.Own(MakeListener());
  sockaddr_in* const address = stage.Value("address", AddressOf(listener));
  stage.Run(raw::Connect{.fd = stage.File("fd", NewSocket(SOCK_STREAM)),
                         .address = Generic(address),
                         .address_length = sizeof(*address)},
            "0");
}

void Accept(Stage& stage) {
  const int listener = MakeListener();
  stage.Own(ConnectTo(listener));
  sockaddr_in* const address = stage.Value<sockaddr_in>("address");
  stage.Run(raw::Accept{.fd = stage.File("fd", listener),
                        .address = Generic(address),
                        .address_length = stage.Value<socklen_t>(
                            "address_length", sizeof(*address)),
                        .into = stage.EmptySlot("into")},
            "0");
}

void AcceptMultishot(Stage& stage) {
  const int listener = MakeListener();
  stage.Own(ConnectTo(listener));
  sockaddr_in* const address = stage.Value<sockaddr_in>("address");
  // Files in descriptors, which need not be in the order of their numbers.
  stage.ResultsAreFiles();
  stage.Run(raw::AcceptMultishot{.fd = stage.File("fd", listener),
                                 .address = Generic(address),
                                 .address_length = stage.Value<socklen_t>(
                                     "address_length", sizeof(*address))},
            "file+ file+ -ECANCELED");
  stage.OnFirst([&stage, other = stage.Own(dup(listener))](int) {
    stage.Own(ConnectTo(other));
  });
  stage.CancelAfter(2);
}

void AcceptMultishotInto(Stage& stage) {
  const int listener = stage.Own(MakeListener());
  stage.Own(ConnectTo(listener));
  stage.EmptySlot("into");
  stage.Run(raw::AcceptMultishot{.fd = listener, .into = raw::kAnyFixedFile},
            "0+ 1+ -ECANCELED");
  stage.OnFirst([&stage, listener](int) { stage.Own(ConnectTo(listener)); });
  stage.CancelAfter(2);
}

void Shutdown(Stage& stage) {
  stage.Run(raw::Shutdown{.fd = stage.File(
                              "fd", MakeSocketPair(stage, SOCK_STREAM).ours),
                          .how = SHUT_RDWR},
            "0");
}

void GetSocketOption(Stage& stage) {
  stage.Run(raw::GetSocketOption{.fd = stage.File("fd", NewSocket(SOCK_STREAM)),
                                 .option = SO_TYPE,
                                 .value = stage.Memory("value", sizeof(int)),
                                 .length = sizeof(int)},
            "4");
}

void SetSocketOption(Stage& stage) {
  stage.Run(raw::SetSocketOption{.fd = stage.File("fd", NewSocket(SOCK_STREAM)),
                                 .option = SO_KEEPALIVE,
                                 .value = stage.Value<int>("value", 1),
                                 .length = sizeof(int)},
            "0");
}

void GetSocketName(Stage& stage) {
  sockaddr_in* const address = stage.Value<sockaddr_in>("address");
  stage.Run(raw::GetSocketName{.fd = stage.File("fd", MakeListener()),
                               .address = Generic(address),
                               .address_length = stage.Value<socklen_t>(
                                   "address_length", sizeof(*address))},
            "0");
}

void SocketInputQueue(Stage& stage) {
  const Ends pair = MakeUdpPair(stage);
  sockaddr_in address = AddressOf(pair.ours);
  Must(sendto(pair.theirs, "hello", 5, 0, Generic(&address), sizeof(address)) ==
           5,
       "sendto");
  stage.Run(raw::SocketInputQueue{.fd = stage.File("fd", pair.ours)}, "5");
}

void SocketOutputQueue(Stage& stage) {
  stage.Run(
      raw::SocketOutputQueue{.fd = stage.File("fd", NewSocket(SOCK_STREAM))},
      "0");
}

void SocketTxTimestamp(Stage& stage) {
  const Ends pair = MakeUdpPair(stage);
  const int wanted = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
                     SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
  Must(setsockopt(pair.ours, SOL_SOCKET, SO_TIMESTAMPING, &wanted,
                  sizeof(wanted)) == 0,
       "setsockopt");
  const auto send = [address = AddressOf(pair.theirs),
                     same = stage.Own(dup(pair.ours))] {
    sockaddr_in to = address;
    Must(sendto(same, "hello", 5, 0, Generic(&to), sizeof(to)) == 5, "sendto");
  };
  send();
  stage.CountsVary();
  stage.Run(raw::SocketTxTimestamp{.fd = stage.File("fd", pair.ours)},
            "some+ some+ -ECANCELED");
  stage.OnFirst([send](int) { send(); });
  stage.CancelAfter(2);
}

}  // namespace

std::vector<NamedScript> SocketScripts() {
  return {
      {"Socket", Socket},
      {"Bind", Bind},
      {"Listen", Listen},
      {"Connect", Connect},
      {"Accept", Accept},
      {"AcceptMultishot", AcceptMultishot},
      {"AcceptMultishot", AcceptMultishotInto},
      {"Shutdown", Shutdown},
      {"GetSocketOption", GetSocketOption},
      {"SetSocketOption", SetSocketOption},
      {"GetSocketName", GetSocketName},
      {"SocketInputQueue", SocketInputQueue},
      {"SocketOutputQueue", SocketOutputQueue},
      {"SocketTxTimestamp", SocketTxTimestamp, IORING_SETUP_CQE32},
  };
}

}  // namespace escrow::testing
