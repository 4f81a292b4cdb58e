// The ops of path_ops.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

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

struct StatCase {
  World world;
  static constexpr const char* kName = "Stat";
  static constexpr const char* kCall = "statx";

  auto Good() {
    return Stat{.directory = world.OpenDirectory(), .path = "file"};
  }
  void Expect(Result<struct ::statx> status) {
    EXPECT_EQ(status->stx_size, 10u);
  }
  auto Bad() { return Stat{.path = world.Path("absent")}; }
  static constexpr int kError = ENOENT;
};

struct GetXattrCase {
  World world;
  static constexpr const char* kName = "GetXattr";
  static constexpr const char* kCall = "getxattr";

  auto Good() {
    EXPECT_TRUE(Possible());
    return GetXattr<std::string>{.path = world.Path("file"),
                                 .name = "user.escrow",
                                 .value = std::string(8, '.')};
  }
  void Expect(Transfer<std::string> got) {
    EXPECT_EQ(*got.result, 5u);
    EXPECT_EQ(got.buffer, "value...");
  }
  bool Possible() {
    return ::setxattr(world.Path("file").c_str(), "user.escrow", "value", 5,
                      0) == 0;
  }
  auto Bad() {
    return GetXattr<std::string>{
        .path = world.Path("file"), .name = "user.absent", .value = "...."};
  }
  static constexpr int kError = ENODATA;
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

using Cases = ::testing::Types<OpenCase, OpenBeneathCase, RenameCase,
                               UnlinkCase, MakeDirectoryCase, SymlinkCase,
                               LinkCase, StatCase, GetXattrCase, SetXattrCase>;
ESCROW_OP_CASES(Path, Cases);

// What a row cannot say.

TEST(SafePathOps, StringsWithANulAreRefused) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const std::string nul("a\0b", 3);
  const auto refused = [&](auto op) {
    const auto outcome = ring->Wait(ring->Start(std::move(op)));
    return !ResultOf(outcome).has_value() &&
           ResultOf(outcome).error() == std::errc::invalid_argument;
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
  EXPECT_TRUE(refused(Stat{.path = nul}));
  using Get = GetXattr<std::string>;
  EXPECT_TRUE(refused(Get{.path = nul, .name = "b", .value = ""}));
  EXPECT_TRUE(refused(Get{.path = "b", .name = nul, .value = ""}));
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
  const auto get = [&](std::size_t room) {
    return ring->Wait(
        ring->Start(GetXattr<std::string>{.path = world.Path("file"),
                                          .name = "user.escrow",
                                          .value = std::string(room, '.')}));
  };
  EXPECT_EQ(get(16).result.value(), 15u);
  EXPECT_EQ(get(16).buffer, value + ".");
  EXPECT_EQ(get(15).buffer, value);
  EXPECT_EQ(get(14).result.error(), std::errc::result_out_of_range);
  EXPECT_EQ(get(14).buffer, std::string(14, '.'));
  EXPECT_EQ(get(0).result.value(), 15u);
}

}  // namespace
}  // namespace escrow::safe::cases
