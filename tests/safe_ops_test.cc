// Every op, through every way that an operation can go. A case says how to
// start it so that it succeeds, how so that it fails, and what to expect.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

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
    const testing::Pipe pipe;
    read = Descriptor::Adopt(pipe.read_end);
    write = Descriptor::Adopt(pipe.write_end);
    EXPECT_EQ(::write(pipe.write_end, content.data(), content.size()),
              std::ssize(content));
  }
  std::string Content() const {
    char bytes[64];
    const ssize_t size = ::read(read.number(), bytes, sizeof(bytes));
    return {bytes, static_cast<std::size_t>(size < 0 ? 0 : size)};
  }
  Descriptor read;
  Descriptor write;
};

// The cases.

struct OpenCase {
  World world;
  static constexpr const char* kName = "Open";
  static constexpr const char* kCall = "openat2";

  auto Good() {
    return Open{.path = world.Path("new"),
                .flags = O_RDWR | O_CREAT | O_EXCL,
                .mode = 0600};
  }
  void Expect(Result<Descriptor> file) {
    EXPECT_TRUE(world.Has("new"));
    EXPECT_EQ(::fcntl(file->number(), F_GETFD), FD_CLOEXEC);
  }
  auto Bad() { return Open{.path = world.Path("absent/file")}; }
  static constexpr int kError = ENOENT;
};

struct OpenBeneathCase {
  World world;
  static constexpr const char* kName = "OpenBeneath";
  static constexpr const char* kCall = "openat2";
  static constexpr std::uint64_t kResolveBeneath = 0x08;

  auto Good() {
    return Open{.directory = world.OpenDirectory(),
                .path = "file",
                .resolve = kResolveBeneath};
  }
  void Expect(Result<Descriptor> file) {
    char byte;
    EXPECT_EQ(::read(file->number(), &byte, 1), 1);
    EXPECT_EQ(byte, '0');
  }
  auto Bad() {
    return Open{.directory = world.OpenDirectory(),
                .path = "../file",
                .resolve = kResolveBeneath};
  }
  static constexpr int kError = EXDEV;
};

struct RenameCase {
  World world;
  static constexpr const char* kName = "Rename";
  static constexpr const char* kCall = "renameat2";

  auto Good() {
    return Rename{.from_directory = world.OpenDirectory(),
                  .from = "file",
                  .to_directory = world.OpenDirectory(),
                  .to = "renamed"};
  }
  void Expect(Result<void>) {
    EXPECT_FALSE(world.Has("file"));
    EXPECT_TRUE(world.Has("renamed"));
  }
  auto Bad() {
    return Rename{.from = world.Path("absent"), .to = world.Path("renamed")};
  }
  static constexpr int kError = ENOENT;
};

struct UnlinkCase {
  World world;
  static constexpr const char* kName = "Unlink";
  static constexpr const char* kCall = "unlinkat";

  auto Good() { return Unlink{.path = world.Path("file")}; }
  void Expect(Result<void>) { EXPECT_FALSE(world.Has("file")); }
  auto Bad() {
    return Unlink{.path = world.Path("file"), .flags = AT_REMOVEDIR};
  }
  static constexpr int kError = ENOTDIR;
};

struct MakeDirectoryCase {
  World world;
  static constexpr const char* kName = "MakeDirectory";
  static constexpr const char* kCall = "mkdirat";

  auto Good() {
    return MakeDirectory{.directory = world.OpenDirectory(), .path = "made"};
  }
  void Expect(Result<void>) {
    EXPECT_TRUE(fs::is_directory(world.Path("made")));
  }
  auto Bad() { return MakeDirectory{.path = world.Path("file")}; }
  static constexpr int kError = EEXIST;
};

struct SymlinkCase {
  World world;
  static constexpr const char* kName = "Symlink";
  static constexpr const char* kCall = "symlinkat";

  auto Good() {
    return Symlink{.target = "nowhere", .path = world.Path("link")};
  }
  void Expect(Result<void>) {
    EXPECT_EQ(fs::read_symlink(world.Path("link")), "nowhere");
  }
  auto Bad() {
    return Symlink{.target = "nowhere", .path = world.Path("file")};
  }
  static constexpr int kError = EEXIST;
};

struct LinkCase {
  World world;
  static constexpr const char* kName = "Link";
  static constexpr const char* kCall = "linkat";

  auto Good() {
    return Link{.from = world.Path("file"),
                .to_directory = world.OpenDirectory(),
                .to = "second"};
  }
  void Expect(Result<void>) {
    EXPECT_EQ(fs::hard_link_count(world.Path("file")), 2u);
  }
  auto Bad() {
    return Link{.from = world.Path("absent"), .to = world.Path("second")};
  }
  static constexpr int kError = ENOENT;
};

struct SetXattrCase {
  World world;
  static constexpr const char* kName = "SetXattr";
  static constexpr const char* kCall = "setxattr";

  auto Good() {
    return SetXattr{
        .path = world.Path("file"), .name = "user.escrow", .value = "value"};
  }
  void Expect(Result<void>) {
    char value[8];
    EXPECT_EQ(::getxattr(world.Path("file").c_str(), "user.escrow", value, 8),
              5);
  }
  bool Possible() {
    return ::setxattr(world.Path("file").c_str(), "user.test", "", 0, 0) == 0;
  }
  auto Bad() {
    return SetXattr{.path = world.Path("file"), .name = "none", .value = "v"};
  }
  static constexpr int kError = EOPNOTSUPP;
};

struct SyncRangeCase {
  World world;
  static constexpr const char* kName = "SyncRange";
  static constexpr const char* kCall = "sync_file_range";

  auto Good() {
    return SyncRange{.file = world.OpenFile(), .flags = SYNC_FILE_RANGE_WRITE};
  }
  void Expect(Result<void>) {}
  auto Bad() { return SyncRange{.file = world.OpenFile(), .flags = ~0}; }
  static constexpr int kError = EINVAL;
};

struct AllocateCase {
  World world;
  static constexpr const char* kName = "Allocate";
  static constexpr const char* kCall = "fallocate";

  auto Good() { return Allocate{.file = world.OpenFile(), .length = 100}; }
  void Expect(Result<void>) {
    EXPECT_EQ(fs::file_size(world.Path("file")), 100u);
  }
  auto Bad() { return Allocate{.file = world.OpenFile(), .length = 0}; }
  static constexpr int kError = EINVAL;
};

struct TruncateCase {
  World world;
  static constexpr const char* kName = "Truncate";
  static constexpr const char* kCall = "ftruncate";

  auto Good() { return Truncate{.file = world.OpenFile(), .length = 3}; }
  void Expect(Result<void>) {
    EXPECT_EQ(fs::file_size(world.Path("file")), 3u);
  }
  auto Bad() { return Truncate{.file = world.OpenFile(), .length = -1}; }
  static constexpr int kError = EINVAL;
};

struct AdviseCase {
  World world;
  static constexpr const char* kName = "Advise";
  static constexpr const char* kCall = "fadvise";

  auto Good() {
    return Advise{.file = world.OpenFile(), .advice = POSIX_FADV_WILLNEED};
  }
  void Expect(Result<void>) {}
  auto Bad() { return Advise{.file = world.OpenFile(), .advice = 999}; }
  static constexpr int kError = EINVAL;
};

struct SpliceCase {
  World world;
  Ends pipe;
  static constexpr const char* kName = "Splice";
  static constexpr const char* kCall = "splice";

  auto Good() {
    return Splice{
        .in = world.OpenFile(), .in_offset = 2, .out = pipe.write, .length = 5};
  }
  void Expect(Result<std::size_t> moved) {
    EXPECT_EQ(*moved, 5u);
    EXPECT_EQ(pipe.Content(), "23456");
  }
  auto Bad() {
    return Splice{.in = world.OpenFile(), .out = world.OpenFile(), .length = 5};
  }
  static constexpr int kError = EINVAL;
};

struct TeeCase {
  Ends from{"tee"};
  Ends to;
  static constexpr const char* kName = "Tee";
  static constexpr const char* kCall = "tee";

  auto Good() { return Tee{.in = from.read, .out = to.write, .length = 10}; }
  void Expect(Result<std::size_t> copied) {
    EXPECT_EQ(*copied, 3u);
    EXPECT_EQ(from.Content(), "tee");
    EXPECT_EQ(to.Content(), "tee");
  }
  auto Bad() { return Tee{.in = from.read, .out = from.write, .length = 10}; }
  static constexpr int kError = EINVAL;
};

struct PipeCase {
  static constexpr const char* kName = "Pipe";
  static constexpr const char* kCall = "pipe2";

  auto Good() { return Pipe{.flags = O_NONBLOCK}; }
  void Expect(Result<Pipe::Ends> ends) {
    EXPECT_EQ(::write(ends->write.number(), "x", 1), 1);
    char byte;
    EXPECT_EQ(::read(ends->read.number(), &byte, 1), 1);
    EXPECT_EQ(::fcntl(ends->read.number(), F_GETFD), FD_CLOEXEC);
  }
  auto Bad() { return Pipe{.flags = O_CREAT}; }
  static constexpr int kError = EINVAL;
};

// Unix sockets, of which the address is a file of the world.
Descriptor UnixSocket() {
  return Descriptor::Adopt(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
SocketAddress UnixAddress(const std::string& path) {
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

struct SocketCase {
  static constexpr const char* kName = "Socket";
  static constexpr const char* kCall = "socket";

  auto Good() { return Socket{.domain = AF_INET, .type = SOCK_DGRAM}; }
  void Expect(Result<Descriptor> socket) {
    EXPECT_EQ(::fcntl(socket->number(), F_GETFD), FD_CLOEXEC);
  }
  auto Bad() { return Socket{.domain = 999}; }
  static constexpr int kError = EAFNOSUPPORT;
};

struct BindCase {
  World world;
  Descriptor socket = UnixSocket();
  static constexpr const char* kName = "Bind";
  static constexpr const char* kCall = "bind";

  auto Good() {
    return Bind{.socket = socket, .address = UnixAddress(world.Path("bound"))};
  }
  void Expect(Result<void>) { EXPECT_TRUE(world.Has("bound")); }
  auto Bad() {
    return Bind{.socket = socket, .address = UnixAddress(world.Path("file"))};
  }
  static constexpr int kError = EADDRINUSE;
};

struct ListenCase {
  World world;
  Descriptor socket = UnixSocket();
  static constexpr const char* kName = "Listen";
  static constexpr const char* kCall = "listen";

  auto Good() {
    const SocketAddress address = UnixAddress(world.Path("bound"));
    EXPECT_EQ(::bind(socket.number(), address.data(), address.size()), 0);
    return Listen{.socket = socket, .backlog = 1};
  }
  void Expect(Result<void>) {
    const SocketAddress address = UnixAddress(world.Path("bound"));
    const Descriptor client = UnixSocket();
    EXPECT_EQ(::connect(client.number(), address.data(), address.size()), 0);
  }
  auto Bad() { return Listen{.socket = socket}; }
  static constexpr int kError = EINVAL;
};

struct ConnectCase {
  World world;
  Listener listener{world};
  Descriptor socket = UnixSocket();
  static constexpr const char* kName = "Connect";
  static constexpr const char* kCall = "connect";

  auto Good() { return Connect{.socket = socket, .address = listener.address}; }
  void Expect(Result<void>) {
    const int accepted = ::accept(listener.socket.number(), nullptr, nullptr);
    EXPECT_GE(accepted, 0);
    ::close(accepted);
  }
  auto Bad() {
    return Connect{.socket = socket,
                   .address = UnixAddress(world.Path("absent"))};
  }
  static constexpr int kError = ENOENT;
};

struct AcceptCase {
  World world;
  Listener listener{world};
  Descriptor client = UnixSocket();
  static constexpr const char* kName = "Accept";
  static constexpr const char* kCall = "accept";

  auto Good() {
    const SocketAddress name = UnixAddress(world.Path("client"));
    EXPECT_EQ(::bind(client.number(), name.data(), name.size()), 0);
    EXPECT_EQ(::connect(client.number(), listener.address.data(),
                        listener.address.size()),
              0);
    return Accept{.socket = listener.socket};
  }
  void Expect(Result<Accept::Connection> connection) {
    EXPECT_EQ(::write(connection->socket.number(), "x", 1), 1);
    char byte;
    EXPECT_EQ(::read(client.number(), &byte, 1), 1);
    EXPECT_EQ(connection->peer.family(), AF_UNIX);
    const auto* const name =
        reinterpret_cast<const sockaddr_un*>(connection->peer.data());
    EXPECT_EQ(name->sun_path, world.Path("client"));
  }
  auto Bad() { return Accept{.socket = client}; }
  static constexpr int kError = EINVAL;
};

struct ShutdownCase {
  World world;
  Pair pair;
  static constexpr const char* kName = "Shutdown";
  static constexpr const char* kCall = "shutdown";

  auto Good() { return Shutdown{.socket = pair.here, .how = SHUT_WR}; }
  void Expect(Result<void>) {
    char byte;
    EXPECT_EQ(::read(pair.there.number(), &byte, 1), 0);
  }
  auto Bad() { return Shutdown{.socket = world.OpenFile()}; }
  static constexpr int kError = ENOTSOCK;
};

struct SendCase {
  World world;
  Pair pair;
  static constexpr const char* kName = "Send";
  static constexpr const char* kCall = "send";

  auto Good() {
    return Send<std::string>{.socket = pair.here, .buffer = "sent"};
  }
  void Expect(Transfer<std::string> sent) {
    EXPECT_EQ(*sent.result, 4u);
    EXPECT_EQ(sent.buffer, "sent");
    char bytes[8];
    EXPECT_EQ(::read(pair.there.number(), bytes, sizeof(bytes)), 4);
  }
  auto Bad() {
    pair.there = Descriptor();
    return Send<std::string>{.socket = pair.here, .buffer = "sent"};
  }
  static constexpr int kError = EPIPE;
};

struct ReceiveCase {
  World world;
  Pair pair;
  static constexpr const char* kName = "Receive";
  static constexpr const char* kCall = "recv";

  auto Good() {
    EXPECT_EQ(::write(pair.there.number(), "abc", 3), 3);
    return Receive<std::string>{.socket = pair.here,
                                .buffer = std::string(8, '.')};
  }
  void Expect(Transfer<std::string> received) {
    EXPECT_EQ(*received.result, 3u);
    EXPECT_EQ(received.buffer, "abc.....");
  }
  auto Bad() {
    return Receive<std::string>{.socket = world.OpenFile(),
                                .buffer = std::string(8, '.')};
  }
  static constexpr int kError = ENOTSOCK;
};

// Of either kind of outcome.
template <typename T>
const Result<T>& ResultOf(const Result<T>& outcome) {
  return outcome;
}
template <typename B>
const Result<std::size_t>& ResultOf(const Transfer<B>& outcome) {
  return outcome.result;
}

using Cases =
    ::testing::Types<OpenCase, OpenBeneathCase, RenameCase, UnlinkCase,
                     MakeDirectoryCase, SymlinkCase, LinkCase, SetXattrCase,
                     SyncRangeCase, AllocateCase, TruncateCase, AdviseCase,
                     SpliceCase, TeeCase, PipeCase, SocketCase, BindCase,
                     ListenCase, ConnectCase, AcceptCase, ShutdownCase,
                     SendCase, ReceiveCase>;

struct CaseNames {
  template <typename Case>
  static std::string GetName(int) {
    return Case::kName;
  }
};

template <typename Case>
class SafeOps : public ::testing::Test {
 protected:
  // What happened to descriptors shows in their number: lazily, for workers of
  // the kernel close some.
  static void ExpectDescriptors(int number) {
    for (int i = 0; i < 500 && testing::OpenDescriptors() != number; ++i) {
      ::usleep(1000);
    }
    EXPECT_EQ(testing::OpenDescriptors(), number);
  }

  static Ring MakeRing() {
    auto ring = Ring::Create({.entries = 8});
    if (!ring) {
      ADD_FAILURE() << ring.error().message();
      std::abort();
    }
    return std::move(*ring);
  }
};
TYPED_TEST_SUITE(SafeOps, Cases, CaseNames);

TYPED_TEST(SafeOps, Succeeds) {
  for (const bool async : {false, true}) {
    const int descriptors = testing::OpenDescriptors();
    {
      Ring ring = this->MakeRing();
      TypeParam its;
      if constexpr (requires { its.Possible(); }) {
        if (!its.Possible()) {
          GTEST_SKIP() << "not on the file system of the temporary directory";
        }
      }
      auto outcome = ring.Wait(ring.Start(its.Good(), {.async = async}));
      ASSERT_TRUE(ResultOf(outcome).has_value())
          << ResultOf(outcome).error().message();
      its.Expect(std::move(outcome));
      EXPECT_EQ(ring.unknown_completions(), 0u);
    }
    this->ExpectDescriptors(descriptors);
  }
}

TYPED_TEST(SafeOps, FailsWithTheNameOfTheCall) {
  const int descriptors = testing::OpenDescriptors();
  {
    Ring ring = this->MakeRing();
    TypeParam its;
    const auto outcome = ring.Wait(ring.Start(its.Bad()));
    ASSERT_FALSE(ResultOf(outcome).has_value());
    const std::error_code error = ResultOf(outcome).error();
    EXPECT_EQ(error.value(), TypeParam::kError) << error.message();
    EXPECT_TRUE(
        error.message().starts_with(std::string(TypeParam::kCall) + ": "))
        << error.message();
  }
  this->ExpectDescriptors(descriptors);
}

TYPED_TEST(SafeOps, DroppedAnywhereLeavesNothing) {
  const int descriptors = testing::OpenDescriptors();
  {
    Ring ring = this->MakeRing();
    TypeParam first, second, third;
    {
      auto before_submit = ring.Start(first.Good());
      auto after_submit = ring.Start(second.Good(), {.async = true});
      EXPECT_TRUE(ring.Submit());
      auto never_submitted = ring.Start(third.Good());
    }
    {
      TypeParam its;
      auto done = ring.Start(its.Good());
      while (!done.done()) EXPECT_TRUE(ring.Wait(ring.Nop()));
    }
    while (ring.in_flight() > 0) EXPECT_TRUE(ring.Dispatch());
    EXPECT_EQ(ring.unknown_completions(), 0u);
  }
  this->ExpectDescriptors(descriptors);
}

TYPED_TEST(SafeOps, EndsWithTheRing) {
  const int descriptors = testing::OpenDescriptors();
  {
    TypeParam queued, submitted;
    using Handle = decltype(std::declval<Ring&>().Start(queued.Good()));
    std::optional<Handle> handles[2];
    {
      Ring ring = this->MakeRing();
      handles[0].emplace(ring.Start(submitted.Good(), {.async = true}));
      EXPECT_TRUE(ring.Submit());
      handles[1].emplace(ring.Start(queued.Good()));
    }
    ASSERT_TRUE(handles[0]->done());
    auto outcome = std::move(*handles[0]).Take();
    if (ResultOf(outcome).has_value()) submitted.Expect(std::move(outcome));
    ASSERT_TRUE(handles[1]->done());
    const auto other = std::move(*handles[1]).Take();
    EXPECT_EQ(ResultOf(other).error(), std::errc::operation_canceled);
  }
  this->ExpectDescriptors(descriptors);
}

TYPED_TEST(SafeOps, DetachedGoesOn) {
  const int descriptors = testing::OpenDescriptors();
  {
    Ring ring = this->MakeRing();
    TypeParam its;
    ring.Start(its.Good()).Detach();
    while (ring.in_flight() > 0) EXPECT_TRUE(ring.Dispatch());
  }
  this->ExpectDescriptors(descriptors);
}

// What one row cannot say.

TEST(SafePathOps, StringsWithANulAreRefused) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const std::string nul("a\0b", 3);
  const auto refused = [&](auto op) {
    const auto outcome = ring->Wait(ring->Start(std::move(op)));
    return !outcome.has_value() &&
           outcome.error() == std::errc::invalid_argument;
  };
  EXPECT_TRUE(refused(Open{.path = nul}));
  EXPECT_TRUE(refused(Rename{.from = nul, .to = "b"}));
  EXPECT_TRUE(refused(Rename{.from = "b", .to = nul}));
  EXPECT_TRUE(refused(Unlink{.path = nul}));
  EXPECT_TRUE(refused(MakeDirectory{.path = nul}));
  EXPECT_TRUE(refused(Symlink{.target = nul, .path = "b"}));
  EXPECT_TRUE(refused(Symlink{.target = "b", .path = nul}));
  EXPECT_TRUE(refused(Link{.from = nul, .to = "b"}));
  EXPECT_TRUE(refused(Link{.from = "b", .to = nul}));
  EXPECT_TRUE(refused(GetXattr{.path = nul, .name = "b"}));
  EXPECT_TRUE(refused(GetXattr{.path = "b", .name = nul}));
  EXPECT_TRUE(refused(SetXattr{.path = nul, .name = "b", .value = ""}));
  EXPECT_TRUE(refused(SetXattr{.path = "b", .name = nul, .value = ""}));
}

TEST(SafePathOps, XattrsComeBack) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const World world;
  const std::string value("with a \0 inside", 15);
  const auto set = ring->Wait(ring->Start(SetXattr{
      .path = world.Path("file"), .name = "user.escrow", .value = value}));
  if (!set && set.error() == std::errc::operation_not_supported) {
    GTEST_SKIP() << "the file system has no user attributes";
  }
  ASSERT_TRUE(set) << set.error().message();
  const auto get = [&](std::size_t limit) {
    return ring->Wait(ring->Start(GetXattr{
        .path = world.Path("file"), .name = "user.escrow", .limit = limit}));
  };
  EXPECT_EQ(get(65536).value(), value);
  EXPECT_EQ(get(15).value(), value);
  EXPECT_EQ(get(14).error(), std::errc::result_out_of_range);
  EXPECT_EQ(get(0).value(), "");
}

// A close has to wait for both files of an operation.
TEST(SafeFileOps, BothFilesOfASpliceStayOpen) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const int descriptors = testing::OpenDescriptors();
  Ends from, to;
  auto splice =
      ring->Start(Splice{.in = from.read, .out = to.write, .length = 4});
  EXPECT_TRUE(ring->Submit());
  auto close_in = ring->Close(std::move(from.read));
  auto close_out = ring->Close(std::move(to.write));
  EXPECT_TRUE(ring->Wait(ring->Nop()));
  EXPECT_FALSE(close_in.done());
  EXPECT_FALSE(close_out.done());
  EXPECT_EQ(testing::OpenDescriptors(), descriptors + 4);
  EXPECT_EQ(::write(from.write.number(), "abcd", 4), 4);
  EXPECT_EQ(ring->Wait(std::move(splice)).value(), 4u);
  EXPECT_TRUE(ring->Wait(std::move(close_in)));
  EXPECT_TRUE(ring->Wait(std::move(close_out)));
  EXPECT_EQ(to.Content(), "abcd");
  EXPECT_EQ(testing::OpenDescriptors(), descriptors + 2);
}

// Sockets that nothing has come to yet.

TEST(SafeSocketOps, ReceiveThatWaitsIsGivenUpWithItsHandle) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const Pair pair;
  std::byte bytes[16];
  testing::Arena arena{bytes, sizeof(bytes)};
  {
    auto receive = ring->Start(Receive<testing::Tracked>{
        .socket = pair.here, .buffer = testing::Tracked(arena)});
    EXPECT_TRUE(ring->Submit());
    EXPECT_EQ(arena.releases, 0);
  }
  while (ring->in_flight() > 0) EXPECT_TRUE(ring->Dispatch());
  EXPECT_EQ(arena.releases, 1);
  // Nothing was consumed.
  EXPECT_EQ(::write(pair.there.number(), "x", 1), 1);
  auto [size, buffer] = ring->Wait(
      ring->Start(Receive<std::string>{.socket = pair.here, .buffer = "."}));
  EXPECT_EQ(size.value(), 1u);
  EXPECT_EQ(buffer, "x");
}

TEST(SafeSocketOps, AcceptThatWaitsEndsWithTheRing) {
  const World world;
  const Listener listener(world);
  std::optional<Operation<Result<Accept::Connection>>> accept;
  {
    auto ring = Ring::Create({.entries = 8});
    ASSERT_TRUE(ring);
    accept.emplace(ring->Start(Accept{.socket = listener.socket}));
    EXPECT_TRUE(ring->Submit());
  }
  ASSERT_TRUE(accept->done());
  EXPECT_EQ(std::move(*accept).Take().error(), std::errc::operation_canceled);
}

TEST(SafeSocketOps, SendsDatagramsToAddresses) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const World world;
  const auto datagram = [&] {
    return ring->Wait(
        ring->Start(Socket{.domain = AF_UNIX, .type = SOCK_DGRAM}));
  };
  const auto sender = datagram(), receiver = datagram();
  ASSERT_TRUE(sender && receiver);
  const SocketAddress address = UnixAddress(world.Path("mailbox"));
  ASSERT_TRUE(
      ring->Wait(ring->Start(Bind{.socket = *receiver, .address = address})));
  auto [sent, text] = ring->Wait(ring->Start(Send<std::string>{
      .socket = *sender, .buffer = "letter", .address = address}));
  ASSERT_TRUE(sent) << sent.error().message();
  auto [size, buffer] = ring->Wait(ring->Start(Receive<std::string>{
      .socket = *receiver, .buffer = std::string(16, '.')}));
  EXPECT_EQ(size.value(), 6u);
  EXPECT_TRUE(buffer.starts_with("letter."));
}

// An op of one's own, and what Start() does not take.
struct Nothing {
  using Outcome = Result<void>;
  void Start(ownership::Record&) {}
};
static_assert(Op<Nothing> && Op<Rename> && Op<Pipe>);
static_assert(!Op<int> && !Op<Rename&>);
template <typename T>
concept WithoutFile = requires {
  T{.length = 1};
};
static_assert(!WithoutFile<Truncate> && !WithoutFile<Allocate>);
template <typename F>
concept IsFile = requires(F file) {
  Truncate{.file = file};
};
static_assert(IsFile<Descriptor&> && !IsFile<int>);

}  // namespace
}  // namespace escrow::safe
