// The ops of socket_option_ops.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_option_ops.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

// Values that own what the kernel reads, and no others.
static_assert(PlainOption<int> && PlainOption<linger> && PlainOption<timeval>);
static_assert(!PlainOption<int*> && !PlainOption<const char*>);
static_assert(!PlainOption<std::string_view>);
static_assert(!PlainOption<std::span<int>>);
static_assert(!PlainOption<sock_fprog>, "it points to a program");
static_assert(!PlainOption<bool>, "it is an int");
template <typename T>
concept IsOption = requires {
  typename SetSocketOption<T>;
};
static_assert(IsOption<int> && IsOption<std::string>);
static_assert(IsOption<std::vector<char>> && IsOption<ownership::StaticBytes>);
static_assert(!IsOption<std::string_view> && !IsOption<const char*>);
static_assert(!IsOption<sock_fprog>);

// Both ends of a TCP connection.
struct TcpPair {
  TcpPair() {
    const auto listener = Socket();
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(listener.number(), any, size), 0);
    EXPECT_EQ(::listen(listener.number(), 1), 0);
    EXPECT_EQ(::getsockname(listener.number(), any, &size), 0);
    name = SocketAddress(address);
    EXPECT_EQ(::connect(here.number(), any, size), 0);
    there = Descriptor::Adopt(
        ::accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  static Descriptor Socket() {
    return Descriptor::Adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  SocketAddress name;  // of `there`
  Descriptor here = Socket();
  Descriptor there;
};

int OptionOf(const Descriptor& socket, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  EXPECT_EQ(::getsockopt(socket.number(), SOL_SOCKET, option, &value, &size),
            0);
  return value;
}

struct SetSocketOptionCase {
  Descriptor socket = TcpPair::Socket();
  static constexpr const char* kName = "SetSocketOption";
  static constexpr const char* kCall = "setsockopt";
  using Op = SetSocketOption<int>;

  auto Good() {
    return Op{.socket = socket, .option = SO_KEEPALIVE, .value = 1};
  }
  void Expect(Result<void>) { EXPECT_EQ(OptionOf(socket, SO_KEEPALIVE), 1); }
  auto Bad() { return Op{.socket = socket, .option = 9999, .value = 1}; }
  static constexpr int kError = ENOPROTOOPT;
};

struct SetTextOptionCase {
  Descriptor socket = TcpPair::Socket();
  static constexpr const char* kName = "SetTextOption";
  static constexpr const char* kCall = "setsockopt";
  using Op = SetSocketOption<std::string>;

  auto OpWith(std::string algorithm) {
    return Op{.socket = socket,
              .level = IPPROTO_TCP,
              .option = TCP_CONGESTION,
              .value = std::move(algorithm)};
  }
  auto Good() { return OpWith("reno"); }
  void Expect(Result<void>) {
    char value[16] = {};
    socklen_t size = sizeof(value);
    EXPECT_EQ(::getsockopt(socket.number(), IPPROTO_TCP, TCP_CONGESTION, value,
                           &size),
              0);
    EXPECT_STREQ(value, "reno");
  }
  auto Bad() { return OpWith("there is none"); }
  static constexpr int kError = ENOENT;
};

struct GetSocketOptionCase {
  World world;
  Descriptor socket = TcpPair::Socket();
  static constexpr const char* kName = "GetSocketOption";
  static constexpr const char* kCall = "getsockopt";
  using Op = GetSocketOption<linger>;

  auto Good() {
    const linger value = {.l_onoff = 1, .l_linger = 77};
    EXPECT_EQ(::setsockopt(socket.number(), SOL_SOCKET, SO_LINGER, &value,
                           sizeof(value)),
              0);
    return Op{.socket = socket, .option = SO_LINGER};
  }
  void Expect(Result<linger> value) {
    EXPECT_EQ(value->l_onoff, 1);
    EXPECT_EQ(value->l_linger, 77);
  }
  auto Bad() { return Op{.socket = socket, .option = 9999}; }
  static constexpr int kError = ENOPROTOOPT;
};

constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD

struct GetOwnedOptionCase {
  Pair pair;
  Descriptor alone = TcpPair::Socket();
  static constexpr const char* kName = "GetOwnedOption";
  static constexpr const char* kCall = "getsockopt";
  using Op = GetSocketOption<Descriptor>;

  bool Possible() {  // Linux 6.5
    int number = -1;
    socklen_t size = sizeof(number);
    const bool possible = ::getsockopt(pair.here.number(), SOL_SOCKET,
                                       kPeerPidfd, &number, &size) == 0;
    if (possible) ::close(number);
    return possible;
  }
  auto Good() { return Op{.socket = pair.here, .option = kPeerPidfd}; }
  void Expect(Result<Descriptor> process) {
    EXPECT_EQ(::fcntl(process->number(), F_GETFD), FD_CLOEXEC);
  }
  auto Bad() { return Op{.socket = alone, .option = kPeerPidfd}; }
  static constexpr int kError = ENODATA;
};

struct ReceivableBytesCase {
  TcpPair pair;
  Descriptor unix_socket = UnixSocket();
  static constexpr const char* kName = "ReceivableBytes";
  static constexpr const char* kCall = "ioctl SIOCINQ";

  auto Good() {
    EXPECT_EQ(::write(pair.there.number(), "12345", 5), 5);
    // Has come when this has.
    char byte;
    EXPECT_EQ(::recv(pair.here.number(), &byte, 1, MSG_PEEK), 1);
    return ReceivableBytes{.socket = pair.here};
  }
  void Expect(Result<std::size_t> size) { EXPECT_EQ(*size, 5u); }
  auto Bad() { return ReceivableBytes{.socket = unix_socket}; }
  static constexpr int kError = EOPNOTSUPP;
};

struct UnsentBytesCase {
  TcpPair pair;
  Descriptor unix_socket = UnixSocket();
  static constexpr const char* kName = "UnsentBytes";
  static constexpr const char* kCall = "ioctl SIOCOUTQ";

  auto Good() {
    const std::string bytes(65536, '.');
    while (::send(pair.here.number(), bytes.data(), bytes.size(),
                  MSG_DONTWAIT) > 0) {
    }
    return UnsentBytes{.socket = pair.here};
  }
  void Expect(Result<std::size_t> size) { EXPECT_GT(*size, 0u); }
  auto Bad() { return UnsentBytes{.socket = unix_socket}; }
  static constexpr int kError = EOPNOTSUPP;
};

using Cases = ::testing::Types<SetSocketOptionCase, SetTextOptionCase,
                               GetSocketOptionCase, GetOwnedOptionCase,
                               ReceivableBytesCase, UnsentBytesCase>;
ESCROW_OP_CASES(SocketOption, Cases);

// What a row cannot say.

TEST(SafeSocketOptionOps, ReadsNoMoreThanTheKernelWrites) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const Descriptor socket = TcpPair::Socket();
  using Values = std::array<int, 4>;
  const auto values = ring->Wait(ring->Start(
      GetSocketOption<Values>{.socket = socket, .option = SO_TYPE}));
  ASSERT_TRUE(values) << values.error().message();
  EXPECT_EQ(*values, (Values{SOCK_STREAM, 0, 0, 0}));
}

TEST(SafeSocketOptionOps, NamesOfBothEnds) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const TcpPair pair;
  for (const bool peer : {false, true}) {
    const auto name = ring->Wait(ring->Start(
        GetSocketName{.socket = peer ? pair.here : pair.there, .peer = peer}));
    if (!name) {  // Linux 6.19 has it
      EXPECT_EQ(name.error(), std::errc::operation_not_supported);
      EXPECT_TRUE(name.error().message().starts_with("getsockname: "));
      continue;
    }
    ASSERT_EQ(name->size(), sizeof(sockaddr_in));
    EXPECT_EQ(reinterpret_cast<const sockaddr_in*>(name->data())->sin_port,
              reinterpret_cast<const sockaddr_in*>(pair.name.data())->sin_port);
  }
}

TEST(SafeSocketOptionOpsDeathTest, DescriptorsAreAskedForAsSuch) {
  const Pair pair;
  EXPECT_DEATH(WithOwnRing([&](Ring& ring) {
                 (void)ring.Start(GetSocketOption<int>{.socket = pair.here,
                                                       .option = kPeerPidfd});
               }),
               "SO_PEERPIDFD as a number");
  EXPECT_DEATH(WithOwnRing([&](Ring& ring) {
                 (void)ring.Start(GetSocketOption<Descriptor>{
                     .socket = pair.here, .option = SO_TYPE});
               }),
               "a socket option as a Descriptor");
}

}  // namespace
}  // namespace escrow::safe::cases
