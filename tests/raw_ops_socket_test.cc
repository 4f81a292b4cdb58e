#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

#include "escrow/raw/ops_file.h"
#include "escrow/raw/ops_ring.h"
#include "escrow/raw/ops_socket.h"
#include "escrow/raw/ring.h"
#include "tests/raw_op_support.h"
#include "tests/raw_ops_test.h"

namespace escrow::raw {
namespace {

// An address of the loopback device, on a port of the kernel's choice.
class LoopbackAddress {
 public:
  LoopbackAddress() {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  // That of a socket.
  explicit LoopbackAddress(int fd) {
    EXPECT_EQ(getsockname(fd, get(), &length_), 0);
  }

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&address_); }
  socklen_t* length() { return &length_; }
  in_port_t port() const { return address_.sin_port; }
  in_addr_t host() const { return address_.sin_addr.s_addr; }

 private:
  sockaddr_in address_ = {};
  socklen_t length_ = sizeof(address_);
};

Closing MakeTcpSocket() {
  return Closing(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

// A socket of SOCK_STREAM or SOCK_DGRAM on the loopback device.
Closing MakeBound(int type) {
  Closing fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
  LoopbackAddress address;
  EXPECT_EQ(bind(fd.get(), address.get(), *address.length()), 0);
  return fd;
}

Closing MakeListener() {
  Closing listener = MakeBound(SOCK_STREAM);
  EXPECT_EQ(listen(listener.get(), 8), 0);
  return listener;
}

Closing ConnectTo(const Closing& listener) {
  LoopbackAddress address(listener.get());
  Closing client = MakeTcpSocket();
  EXPECT_EQ(connect(client.get(), address.get(), *address.length()), 0);
  return client;
}

int TypeOf(int fd) {
  int type = 0;
  socklen_t length = sizeof(type);
  EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length), 0);
  return type;
}

TEST_F(RawOps, Socket) {
  const Closing fd(
      ResultOf(Socket{.domain = AF_INET, .type = SOCK_DGRAM | SOCK_CLOEXEC}));
  EXPECT_EQ(TypeOf(fd.get()), SOCK_DGRAM);
  EXPECT_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  ASSERT_EQ(io_uring_register_files_sparse(ring().get(), 2), 0);
  EXPECT_EQ(ResultOf(Socket{
                .domain = AF_UNIX, .type = SOCK_STREAM, .into = FixedFile{0}}),
            0);
  EXPECT_EQ(ResultOf(Socket{
                .domain = AF_UNIX, .type = SOCK_STREAM, .into = kAnyFixedFile}),
            1);
  EXPECT_EQ(
      RefusalOf(Socket{
          .domain = AF_INET, .type = SOCK_STREAM, .protocol = IPPROTO_UDP}),
      EPROTONOSUPPORT);
}

TEST_F(RawOps, Bind) {
  const Closing fd = MakeTcpSocket();
  LoopbackAddress address;
  EXPECT_EQ(ResultOf(Bind{.fd = fd.get(),
                          .address = address.get(),
                          .address_length = *address.length()}),
            0);
  EXPECT_NE(LoopbackAddress(fd.get()).port(), 0);
  EXPECT_EQ(RefusalOf(Bind{.fd = fd.get(),
                           .address = address.get(),
                           .address_length = *address.length()}),
            EINVAL);
}

TEST_F(RawOps, Listen) {
  const Closing fd = MakeTcpSocket();
  EXPECT_EQ(ResultOf(Listen{.fd = fd.get(), .backlog = 1}), 0);
  int listens = 0;
  socklen_t length = sizeof(listens);
  ASSERT_EQ(getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &length),
            0);
  EXPECT_EQ(listens, 1);
  const Closing datagrams(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(RefusalOf(Listen{.fd = datagrams.get(), .backlog = 1}), EOPNOTSUPP);
}

TEST_F(RawOps, Accept) {
  const Closing listener = MakeListener();
  const Closing client = ConnectTo(listener);
  LoopbackAddress peer;
  {
    const Closing server(ResultOf(Accept{.fd = listener.get(),
                                         .address = peer.get(),
                                         .address_length = peer.length(),
                                         .flags = SOCK_CLOEXEC}));
    EXPECT_EQ(fcntl(server.get(), F_GETFD), FD_CLOEXEC);
    WriteTo(client.get(), "abc");
    EXPECT_EQ(ReadFrom(server.get()), "abc");
  }
  EXPECT_EQ(peer.port(), LoopbackAddress(client.get()).port());
  EXPECT_EQ(*peer.length(), sizeof(sockaddr_in));

  if (KernelIsAtLeast("6.10")) {
    EXPECT_EQ(RefusalOf(Accept{.fd = listener.get(),
                               .io_flags = IORING_ACCEPT_DONTWAIT}),
              EAGAIN);
  }
  ASSERT_EQ(io_uring_register_files_sparse(ring().get(), 2), 0);
  const Closing second = ConnectTo(listener);
  EXPECT_EQ(ResultOf(Accept{.fd = listener.get(), .into = FixedFile{0}}), 0);
  const Closing third = ConnectTo(listener);
  EXPECT_EQ(ResultOf(Accept{.fd = listener.get(), .into = kAnyFixedFile}), 1);
  const Closing fourth = ConnectTo(listener);
  EXPECT_EQ(RefusalOf(Accept{.fd = listener.get(), .into = kAnyFixedFile}),
            ENFILE);
}

TEST_F(RawOps, AcceptMultishot) {
  const Closing listener = MakeListener();
  Push(AcceptMultishot{.fd = listener.get(), .flags = SOCK_CLOEXEC}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  for (int i = 0; i < 2; ++i) {
    const Closing client = ConnectTo(listener);
    const Completion completion = Reap(1).at(0);
    EXPECT_TRUE(completion.more());
    const Closing server(completion.result);
    WriteTo(client.get(), "abc");
    EXPECT_EQ(ReadFrom(server.get()), "abc");
  }
  Push(Cancel{.user_data = 1}, 2);
  std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
  for (const Completion& completion : completions) {
    EXPECT_FALSE(completion.more());
  }

  ASSERT_EQ(io_uring_register_files_sparse(ring().get(), 2), 0);
  Push(AcceptMultishot{.fd = listener.get(), .into = kAnyFixedFile}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  for (int slot = 0; slot < 2; ++slot) {
    const Closing client = ConnectTo(listener);
    const Completion completion = Reap(1).at(0);
    EXPECT_TRUE(completion.more());
    EXPECT_EQ(completion.result, slot);
  }
  // No slot is free: that ends it.
  const Closing client = ConnectTo(listener);
  const Completion last = Reap(1).at(0);
  EXPECT_EQ(last.result, -ENFILE);
  EXPECT_FALSE(last.more());
  EXPECT_EQ(
      RefusalOf(AcceptMultishot{.fd = listener.get(), .into = FixedFile{0}}),
      EINVAL);
}

TEST_F(RawOps, Connect) {
  const Closing listener = MakeListener();
  const Closing client = MakeTcpSocket();
  LoopbackAddress address(listener.get());
  EXPECT_EQ(ResultOf(Connect{.fd = client.get(),
                             .address = address.get(),
                             .address_length = *address.length()}),
            0);
  AwaitInput(listener.get());
  ASSERT_FALSE(HasFatalFailure());
  const Closing server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  WriteTo(client.get(), "abc");
  EXPECT_EQ(ReadFrom(server.get()), "abc");
  EXPECT_EQ(RefusalOf(Connect{.fd = client.get(),
                              .address = address.get(),
                              .address_length = *address.length()}),
            EISCONN);
}

TEST_F(RawOps, Shutdown) {
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  EXPECT_EQ(ResultOf(Shutdown{.fd = sockets.first.get(), .how = SHUT_WR}), 0);
  EXPECT_EQ(ReadFrom(sockets.second.get()), "");
  const Ends pipe = MakePipe();
  EXPECT_EQ(RefusalOf(Shutdown{.fd = pipe.first.get(), .how = SHUT_WR}),
            ENOTSOCK);
}

TEST_F(RawOps, GetSocketOption) {
  const Ends sockets = MakeSocketPair(SOCK_DGRAM);
  int type = 0;
  EXPECT_EQ(ResultOf(GetSocketOption{.fd = sockets.first.get(),
                                     .option = SO_TYPE,
                                     .value = &type,
                                     .length = sizeof(type)}),
            int{sizeof(type)});
  EXPECT_EQ(type, SOCK_DGRAM);
  const Closing tcp = MakeTcpSocket();
  EXPECT_EQ(RefusalOf(GetSocketOption{.fd = tcp.get(),
                                      .level = IPPROTO_TCP,
                                      .option = TCP_NODELAY,
                                      .value = &type,
                                      .length = sizeof(type)}),
            EOPNOTSUPP);
}

TEST_F(RawOps, SetSocketOption) {
  const Closing tcp = MakeTcpSocket();
  const int on = 1;
  EXPECT_EQ(ResultOf(SetSocketOption{.fd = tcp.get(),
                                     .option = SO_KEEPALIVE,
                                     .value = &on,
                                     .length = sizeof(on)}),
            0);
  EXPECT_EQ(ResultOf(SetSocketOption{.fd = tcp.get(),
                                     .level = IPPROTO_TCP,
                                     .option = TCP_NODELAY,
                                     .value = &on,
                                     .length = sizeof(on)}),
            0);
  constexpr int kOptions[][2] = {{SOL_SOCKET, SO_KEEPALIVE},
                                 {IPPROTO_TCP, TCP_NODELAY}};
  for (const auto& [level, option] : kOptions) {
    int value = 0;
    socklen_t length = sizeof(value);
    ASSERT_EQ(getsockopt(tcp.get(), level, option, &value, &length), 0);
    EXPECT_EQ(value, 1);
  }
}

TEST_F(RawOps, GetSocketName) {
  const Closing listener = MakeListener();
  const Closing client = ConnectTo(listener);
  LoopbackAddress own;
  EXPECT_EQ(ResultOf(GetSocketName{.fd = client.get(),
                                   .address = own.get(),
                                   .address_length = own.length()}),
            0);
  EXPECT_EQ(own.port(), LoopbackAddress(client.get()).port());
  LoopbackAddress peer;
  EXPECT_EQ(ResultOf(GetSocketName{.fd = client.get(),
                                   .address = peer.get(),
                                   .address_length = peer.length(),
                                   .peer = true}),
            0);
  EXPECT_EQ(peer.port(), LoopbackAddress(listener.get()).port());
}

TEST_F(RawOpsRefused, GetSocketName) {
  const Closing listener = MakeListener();
  LoopbackAddress address;
  EXPECT_EQ(RefusalOf(GetSocketName{.fd = listener.get(),
                                    .address = address.get(),
                                    .address_length = address.length()}),
            EOPNOTSUPP);
}

TEST_F(RawOps, SocketInputQueue) {
  const Ends tcp = MakeTcpPair();
  WriteTo(tcp.first.get(), "abc");
  AwaitInput(tcp.second.get());
  EXPECT_EQ(ResultOf(SocketInputQueue{.fd = tcp.second.get()}), 3);
  EXPECT_EQ(ResultOf(SocketInputQueue{.fd = tcp.first.get()}), 0);
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  EXPECT_EQ(RefusalOf(SocketInputQueue{.fd = sockets.first.get()}), EOPNOTSUPP);
}

TEST_F(RawOps, SocketOutputQueue) {
  const Ends tcp = MakeTcpPair();
  EXPECT_EQ(ResultOf(SocketOutputQueue{.fd = tcp.first.get()}), 0);
  // More than the peer, who does not read, has room for.
  const std::string bytes(1 << 16, 'x');
  while (send(tcp.first.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
  }
  ASSERT_EQ(errno, EAGAIN);
  EXPECT_GT(ResultOf(SocketOutputQueue{.fd = tcp.first.get()}), 0);
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  EXPECT_EQ(RefusalOf(SocketOutputQueue{.fd = sockets.first.get()}),
            EOPNOTSUPP);
}

TEST_F(RawOps, SocketTxTimestamp) {
  Ring wide = MakeRing({.entries = 4, .setup_flags = IORING_SETUP_CQE32});
  const Ends tcp = MakeTcpPair();
  const int flags = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_TX_SOFTWARE |
                    SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
  ASSERT_EQ(setsockopt(tcp.first.get(), SOL_SOCKET, SO_TIMESTAMPING, &flags,
                       sizeof(flags)),
            0);
  PushTo(wide, SocketTxTimestamp{.fd = tcp.first.get()}, 1);
  ASSERT_EQ(*wide.Submit(), 1u);
  WriteTo(tcp.first.get(), "abc");
  const Completion completion = ReapFrom(wide, 1).at(0);
  EXPECT_TRUE(completion.more());
  EXPECT_NE(completion.extra[0], 0u);
  PushTo(wide, Cancel{.user_data = 1}, 2);
  EXPECT_EQ(ResultFor(1, ReapFrom(wide, 2)), -ECANCELED);
  // Completions of 16 bytes have no room for it.
  EXPECT_EQ(RefusalOf(SocketTxTimestamp{.fd = tcp.first.get()}), EINVAL);
}

}  // namespace
}  // namespace escrow::raw
