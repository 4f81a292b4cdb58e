#ifndef ESCROW_TESTS_SAFE_WORLD_H_
#define ESCROW_TESTS_SAFE_WORLD_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/ring.h"
#include "tests/support.h"

// What tests of the safe layer work on.

namespace escrow::safe::cases {

namespace fs = std::filesystem;
using ownership::Descriptor;
using ownership::SocketAddress;

// A directory that is gone at the end of the test, with a file in it.
class World {
 public:
  World() {
    std::string name = (fs::temp_directory_path() / "escrow_ops_XXXXXX");
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    std::ofstream(Path("file")) << "0123456789";
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }

  std::string Path(const std::string& name) const { return directory_ / name; }
  bool Has(const std::string& name) const {
    return fs::exists(fs::symlink_status(Path(name)));
  }
  std::string Content(const std::string& name) const {
    std::ifstream file(Path(name));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  Descriptor OpenFile() const {
    return Descriptor::Adopt(::open(Path("file").c_str(), O_RDWR | O_CLOEXEC));
  }
  Descriptor OpenDirectory() const {
    return Descriptor::Adopt(
        ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

 private:
  fs::path directory_;
};

// Two ends of a pipe, `content` in it.
struct Ends {
  explicit Ends(const std::string& content = "") {
    const escrow::testing::Pipe pipe;
    read = Descriptor::Adopt(pipe.read_end);
    write = Descriptor::Adopt(pipe.write_end);
    Put(content);
  }
  void Put(const std::string& content) const {
    EXPECT_EQ(::write(write.number(), content.data(), content.size()),
              std::ssize(content));
  }
  std::string Content() const {
    char bytes[64];
    const ssize_t size = ::read(read.number(), bytes, sizeof(bytes));
    return {bytes, static_cast<std::size_t>(size < 0 ? 0 : size)};
  }
  // Until a write has to wait, and so that it does not any more.
  void Fill() const {
    const std::string block(4096, '.');
    SetNonblocking(true);
    while (::write(write.number(), block.data(), block.size()) > 0) {
    }
    SetNonblocking(false);
  }
  void Drain() const {
    char bytes[4096];
    int left = ::fcntl(write.number(), F_GETPIPE_SZ);
    while (left > 0) {
      const ssize_t size = ::read(read.number(), bytes, sizeof(bytes));
      ASSERT_GT(size, 0);
      left -= static_cast<int>(size);
    }
  }

  Descriptor read;
  Descriptor write;

 private:
  void SetNonblocking(bool nonblocking) const {
    EXPECT_EQ(::fcntl(write.number(), F_SETFL, nonblocking ? O_NONBLOCK : 0),
              0);
  }
};

// Unix sockets, of which the address is a file of the world.
inline Descriptor UnixSocket() {
  return Descriptor::Adopt(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
inline SocketAddress UnixAddress(const std::string& path) {
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  EXPECT_LT(path.size(), sizeof(address.sun_path));
  std::copy(path.begin(), path.end(), address.sun_path);
  return SocketAddress(address);
}

// A socket that listens there, and a pair of connected ones.
struct Listener {
  explicit Listener(const World& world)
      : address(UnixAddress(world.Path("socket"))), socket(UnixSocket()) {
    EXPECT_EQ(::bind(socket.number(), address.data(), address.size()), 0);
    EXPECT_EQ(::listen(socket.number(), 8), 0);
  }
  // Connects `client`, or a new one.
  void Connect(const Descriptor& client) const {
    EXPECT_EQ(::connect(client.number(), address.data(), address.size()), 0);
  }
  Descriptor Connect() const {
    Descriptor client = UnixSocket();
    Connect(client);
    return client;
  }
  SocketAddress address;
  Descriptor socket;
};
struct Pair {
  explicit Pair(int type = SOCK_STREAM) {
    int numbers[2];
    EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, numbers), 0);
    here = Descriptor::Adopt(numbers[0]);
    there = Descriptor::Adopt(numbers[1]);
  }
  Descriptor here;
  Descriptor there;
};

// Sends `bytes` and the descriptors `numbers` with them.
inline void SendPassing(const Descriptor& socket, const std::string& bytes,
                        std::span<const int> numbers) {
  iovec part = {.iov_base = const_cast<char*>(bytes.data()),
                .iov_len = bytes.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<std::byte> control(CMSG_SPACE(numbers.size_bytes()));
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* const head = CMSG_FIRSTHDR(&message);
  *head = {.cmsg_len = CMSG_LEN(numbers.size_bytes()),
           .cmsg_level = SOL_SOCKET,
           .cmsg_type = SCM_RIGHTS};
  std::memcpy(CMSG_DATA(head), numbers.data(), numbers.size_bytes());
  EXPECT_EQ(::sendmsg(socket.number(), &message, 0), std::ssize(bytes));
}

// Zero-copy sends need a network protocol; local sockets have none. Most of
// what is sent stays with the sender until the peer receives, or is gone, so
// that the network stack keeps the bytes.
struct Tcp {
  Tcp() {
    const Descriptor listener =
        Descriptor::Adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    const int small = 4096;
    EXPECT_EQ(::setsockopt(listener.number(), SOL_SOCKET, SO_RCVBUF, &small,
                           sizeof(small)),
              0);
    EXPECT_EQ(::bind(listener.number(), generic, size), 0);
    EXPECT_EQ(::listen(listener.number(), 1), 0);
    EXPECT_EQ(::getsockname(listener.number(), generic, &size), 0);
    here = Descriptor::Adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int large = 200'000;
    EXPECT_EQ(::setsockopt(here.number(), SOL_SOCKET, SO_SNDBUF, &large,
                           sizeof(large)),
              0);
    EXPECT_EQ(::connect(here.number(), generic, size), 0);
    there = Descriptor::Adopt(
        ::accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  // Notifications interrupt it, like signals.
  std::string Receive(std::size_t size) const {
    std::string bytes(size, '.');
    for (std::size_t done = 0; done < size;) {
      const ssize_t received =
          ::recv(there.number(), bytes.data() + done, size - done, MSG_WAITALL);
      EXPECT_GT(received, 0);
      if (received <= 0) break;
      done += static_cast<std::size_t>(received);
    }
    return bytes;
  }
  // Until a send has to wait, and so that none has to any more.
  void Fill() const {
    const std::string bytes(65536, '-');
    while (::send(here.number(), bytes.data(), bytes.size(), MSG_DONTWAIT) >
           0) {
    }
  }
  void Drain() const {
    std::vector<char> bytes(65536);
    pollfd more = {.fd = there.number(), .events = POLLIN, .revents = 0};
    int underway = 0;
    do {
      while (::recv(there.number(), bytes.data(), bytes.size(), MSG_DONTWAIT) >
             0) {
      }
      EXPECT_EQ(::ioctl(here.number(), SIOCOUTQ, &underway), 0);
      (void)::poll(&more, 1, underway == 0 ? 0 : 10);
    } while (underway > 0 || more.revents != 0);
  }
  Descriptor here;
  Descriptor there;
};

// Calls `misuse` with a ring of this process: for death tests, whose child
// processes may not use the rings of their parent.
template <typename Misuse>
void WithOwnRing(const Misuse& misuse) {
  auto ring = Ring::Create({.entries = 8});
  if (ring) misuse(*ring);
}

}  // namespace escrow::safe::cases

#endif  // ESCROW_TESTS_SAFE_WORLD_H_
