// Every op, through every way that an operation can go. A case says how to
// start it so that it succeeds, how so that it fails, and what to expect.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

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
#include "escrow/safe/file_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

namespace fs = std::filesystem;
using ownership::Descriptor;

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

using Cases =
    ::testing::Types<OpenCase, OpenBeneathCase, RenameCase, UnlinkCase,
                     MakeDirectoryCase, SymlinkCase, LinkCase, SetXattrCase,
                     SyncRangeCase, AllocateCase, TruncateCase, AdviseCase,
                     SpliceCase, TeeCase, PipeCase>;

struct CaseNames {
  template <typename Case>
  static std::string GetName(int) {
    const std::string name = ::testing::internal::GetTypeName<Case>();
    return name.substr(name.rfind(':') + 1);
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
      ASSERT_TRUE(outcome.has_value()) << outcome.error().message();
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
    ASSERT_FALSE(outcome.has_value());
    EXPECT_EQ(outcome.error().value(), TypeParam::kError)
        << outcome.error().message();
    EXPECT_TRUE(outcome.error().message().starts_with(
        std::string(TypeParam::kCall) + ": "))
        << outcome.error().message();
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
    if (outcome.has_value()) submitted.Expect(std::move(outcome));
    ASSERT_TRUE(handles[1]->done());
    EXPECT_EQ(std::move(*handles[1]).Take().error(),
              std::errc::operation_canceled);
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
