// safe/driven_sockets.h

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/socket_address.h"
#include "escrow/safe/driven_file.h"
#include "escrow/safe/driven_sockets.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/safe_driver_cases.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using cases::Counted;
using cases::DescriptorsAtRest;
using cases::DriverTest;
using cases::RunAndWait;
using cases::Shared;
using cases::Sources;
using escrow::testing::OpenDescriptors;
using escrow::testing::TemporaryFile;
using ownership::SocketAddress;

TYPED_TEST_SUITE(DriverTest, Sources);

// R10: one of another kind cancels those before it, and nothing else, however
// often.
TYPED_TEST(DriverTest, AnotherKindCancelsWhatIsRunning) {
  TypeParam source;
  auto pair = UnixStream::Pair(source.driver());
  ASSERT_TRUE(pair);
  auto& [here, there] = *pair;
  for (int i = 0; i < 50; ++i) {
    auto read = here.Read(std::string("kept"));
    auto queued = here.Read(std::string("too"));
    read.Start();
    queued.Start();
    EXPECT_EQ(here.Write(std::string("abc")).Wait().result, 3u);
    auto [size, buffer] = std::move(read).Wait();
    EXPECT_EQ(size.error(), std::errc::operation_canceled);
    EXPECT_EQ(buffer, "kept");
    EXPECT_EQ(std::move(queued).Wait().result.error(),
              std::errc::operation_canceled);
    EXPECT_EQ(there.Read(std::string("...")).Wait().buffer, "abc");
  }
  // Of the same kind: not.
  auto first = here.Read(std::string("..."));
  auto second = here.Read(std::string("..."));
  first.Start();
  second.Start();
  EXPECT_EQ(there.Write(std::string("abc")).Wait().result, 3u);
  EXPECT_EQ(std::move(first).Wait().buffer, "abc");
  EXPECT_EQ(there.Write(std::string("def")).Wait().result, 3u);
  EXPECT_EQ(std::move(second).Wait().buffer, "def");
  // With a single permit there is no deadlock either.
  TypeParam narrow(1);
  auto other = UnixStream::Pair(narrow.driver());
  auto blocked = other->first.Read(std::string("..."));
  blocked.Start();
  EXPECT_EQ(other->first.Write(std::string("abc")).Wait().result, 3u);
  EXPECT_EQ(std::move(blocked).Wait().result.error(),
            std::errc::operation_canceled);
}

SocketAddress Loopback() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return SocketAddress(address);
}
// R17: in the abstract namespace, which processes share that may have the same
// number.
SocketAddress UnixName(int number) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name = "escrow-" + std::to_string(std::random_device()()) +
                           "-" + std::to_string(number);
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  return {reinterpret_cast<const sockaddr*>(&address),
          offsetof(sockaddr_un, sun_path) + 1 + name.size()};
}

template <typename Listener, typename Source>
void ExpectConnections(Source& source, const SocketAddress& address) {
  using Stream = typename Listener::Stream;
  const auto& driver = source.driver();
  RunAndWait(source, [](Ring&) {});
  const int before = DescriptorsAtRest();
  {
    auto listener = Listener::Bind(driver, address);
    ASSERT_TRUE(listener) << listener.error().message();
    EXPECT_EQ(Listener::Bind(driver, listener->address()).error(),
              std::errc::address_in_use);
    auto incoming = listener->Incoming();
    for (int i = 0; i < 3; ++i) {
      auto accepting = incoming.Next();
      accepting.Start();
      auto client = Stream::Connect(driver, listener->address()).Wait();
      ASSERT_TRUE(client) << client.error().message();
      auto server = std::move(accepting).Wait();
      ASSERT_TRUE(server);
      EXPECT_EQ(client->Write(std::string("hello")).Wait().result, 5u);
      EXPECT_EQ(server->Read(std::string("....."), MSG_WAITALL).Wait().buffer,
                "hello");
      EXPECT_TRUE(server->Shutdown(SHUT_WR).Wait());
      EXPECT_EQ(client->Read(std::string(".")).Wait().result, 0u);
      EXPECT_TRUE(client->Close().Wait());
      auto taken = server->IntoDescriptor().Wait();
      ASSERT_TRUE(taken);
      auto back = Stream::Adopt(driver, std::move(*taken));
      EXPECT_EQ(back.Read(std::string(".")).Wait().result, 0u);
    }
    auto client = Stream::Connect(driver, listener->address()).Wait();
    auto accepted = listener->Accept().Wait();
    ASSERT_TRUE(accepted);
    EXPECT_EQ(accepted->peer.family(), address.family());
    // Accepted, and nobody takes it.
    auto second = Stream::Connect(driver, listener->address()).Wait();
    auto dropped = listener->AcceptStream();
    dropped.Start();
    source.Until([&] { return dropped.done(); });
    // Closed while it accepts.
    auto blocked = listener->Accept();
    blocked.Start();
    EXPECT_TRUE(listener->Close().Wait());
    EXPECT_EQ(std::move(blocked).Wait().error(), std::errc::operation_canceled);
    EXPECT_FALSE(Stream::Connect(driver, listener->address()).Wait());
  }
  source.Until([&] { return OpenDescriptors() <= before; });
}
TYPED_TEST(DriverTest, TcpConnections) {
  TypeParam source;
  ExpectConnections<TcpListener>(source, Loopback());
}
TYPED_TEST(DriverTest, UnixConnections) {
  TypeParam source;
  ExpectConnections<UnixListener>(source, UnixName(1));
  // socket(2) has errors, too.
  EXPECT_EQ(
      UnixStream::Connect(source.driver(), SocketAddress()).Wait().error(),
      std::errc::address_family_not_supported);
}

// R20 (#21), R5, R6: many threads, which drop what they have at any time.
TEST(SharedDriverTest, ManyThreadsDropAtRandom) {
  const TemporaryFile temporary(std::string(1000, 'x'));
  const int before = DescriptorsAtRest();
  std::atomic<int> alive = 0;
  std::atomic<int> done = 0;
  {
    Shared source(8);
    const auto work = [&](unsigned seed) {
      const SharedDriver driver = source.driver();
      std::mt19937 random(seed);
      for (int i = 0; i < 60; ++i) {
        auto pair = UnixStream::Pair(driver);
        ASSERT_TRUE(pair);
        auto opening = DrivenFile::Open(driver, temporary.path());
        opening.Start();
        std::vector<Submission<Transfer<Counted>>> pending;
        for (unsigned n = random() % 6; n-- > 0;) {
          UnixStream& side = random() % 2 == 0 ? pair->first : pair->second;
          pending.push_back(random() % 2 == 0 ? side.Read(Counted(alive))
                                              : side.Write(Counted(alive)));
          if (random() % 8 != 0) pending.back().Start(random() % 2 == 0);
          if (random() % 4 == 0) {
            std::swap(pending[random() % pending.size()], pending.back());
            pending.pop_back();
          }
        }
        if (random() % 4 != 0) {
          auto file = std::move(opening).Wait();
          ASSERT_TRUE(file);
          EXPECT_EQ(file->Read(Counted(alive)).Wait().result, 64u);
          auto tail = file->Read(Counted(alive));
          if (random() % 2 == 0) tail.Start();
        }
        if (random() % 2 == 0) (void)pair->first.Close().Wait();
        ++done;
      }
    };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 6; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(done, 360);
  for (int i = 0; i < 10'000 && (alive != 0 || OpenDescriptors() > before);
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(alive, 0);
  EXPECT_LE(OpenDescriptors(), before);
}

}  // namespace
}  // namespace escrow::safe
