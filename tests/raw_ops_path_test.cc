#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include "escrow/raw/ops_path.h"
#include "tests/raw_ops_test.h"

namespace escrow::raw {
namespace {

// Where tests put files.
std::string Parent() {
  const char* const directory = std::getenv("TEST_TMPDIR");
  return directory != nullptr ? directory : "/tmp";
}

// A directory that is gone at the end of the test, with what is in it.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const std::string& parent) {
    path_ = parent + "/opsXXXXXX";
    EXPECT_NE(mkdtemp(path_.data()), nullptr) << std::strerror(errno);
    fd_ = open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    EXPECT_GE(fd_, 0) << std::strerror(errno);
  }
  TemporaryDirectory() : TemporaryDirectory(Parent()) {}
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    close(fd_);
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  int fd() const { return fd_; }
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  // Makes a file in it.
  void Touch(const std::string& name, const std::string& content = "") const {
    const Closing file(
        open(Path(name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    WriteTo(file.get(), content);
  }
  bool Has(const std::string& name) const {
    struct stat status;
    return lstat(Path(name).c_str(), &status) == 0;
  }

 private:
  std::string path_;
  int fd_ = -1;
};

TEST_F(RawOps, OpenAt) {
  const TemporaryDirectory directory;
  const mode_t mask = umask(0);
  umask(mask);
  {
    const Closing made(ResultOf(OpenAt{.directory = directory.fd(),
                                       .path = "file",
                                       .flags = O_CREAT | O_RDWR | O_CLOEXEC,
                                       .mode = 0640}));
    WriteTo(made.get(), "abc");
    struct stat status;
    ASSERT_EQ(fstat(made.get(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0640u & ~mask);
    EXPECT_EQ(fcntl(made.get(), F_GETFD), FD_CLOEXEC);
  }
  const std::string path = directory.Path("file");
  const Closing absolute(
      ResultOf(OpenAt{.path = path.c_str(), .flags = O_RDONLY}));
  EXPECT_EQ(ReadFrom(absolute.get()), "abc");

  // Into a slot, whose file is replaced: the result is 0.
  ASSERT_EQ(io_uring_register_files_sparse(ring().get(), 2), 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ResultOf(OpenAt{.directory = directory.fd(),
                              .path = "file",
                              .flags = O_RDONLY,
                              .into = FixedFile{1}}),
              0);
  }
  // Into any slot: the result is the slot, until there is none.
  EXPECT_EQ(ResultOf(OpenAt{.directory = directory.fd(),
                            .path = "file",
                            .flags = O_RDONLY,
                            .into = kAnyFixedFile}),
            0);
  EXPECT_EQ(RefusalOf(OpenAt{.directory = directory.fd(),
                             .path = "file",
                             .flags = O_RDONLY,
                             .into = kAnyFixedFile}),
            ENFILE);
  EXPECT_EQ(RefusalOf(OpenAt{.path = "/no/such/file", .flags = O_RDONLY}),
            ENOENT);
}

TEST_F(RawOps, OpenAt2) {
  const TemporaryDirectory directory;
  directory.Touch("file", "abc");
  open_how how = {};
  how.flags = O_RDONLY | O_CLOEXEC;
  const Closing fd(ResultOf(
      OpenAt2{.directory = directory.fd(), .path = "file", .how = &how}));
  EXPECT_EQ(ReadFrom(fd.get()), "abc");

  how.flags = O_RDONLY;
  ASSERT_EQ(io_uring_register_files_sparse(ring().get(), 2), 0);
  EXPECT_EQ(ResultOf(OpenAt2{.directory = directory.fd(),
                             .path = "file",
                             .how = &how,
                             .into = FixedFile{0}}),
            0);
  EXPECT_EQ(ResultOf(OpenAt2{.directory = directory.fd(),
                             .path = "file",
                             .how = &how,
                             .into = kAnyFixedFile}),
            1);
  how.resolve = RESOLVE_BENEATH;
  EXPECT_EQ(RefusalOf(OpenAt2{
                .directory = directory.fd(), .path = "../file", .how = &how}),
            EXDEV);
}

TEST_F(RawOps, Statx) {
  const TemporaryDirectory directory;
  directory.Touch("file", "12345");
  struct statx status = {};
  EXPECT_EQ(
      ResultOf(Statx{
          .directory = directory.fd(), .path = "file", .result = &status}),
      0);
  EXPECT_EQ(status.stx_size, 5u);
  EXPECT_EQ(status.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
  const Closing fd(open(directory.Path("file").c_str(), O_RDONLY | O_CLOEXEC));
  status = {};
  EXPECT_EQ(ResultOf(Statx{.directory = fd.get(),
                           .path = "",
                           .flags = AT_EMPTY_PATH,
                           .mask = STATX_SIZE,
                           .result = &status}),
            0);
  EXPECT_EQ(status.stx_size, 5u);
  EXPECT_EQ(
      RefusalOf(Statx{
          .directory = directory.fd(), .path = "none", .result = &status}),
      ENOENT);
}

TEST_F(RawOps, RenameAt) {
  const TemporaryDirectory from;
  const TemporaryDirectory to;
  from.Touch("old");
  to.Touch("taken");
  EXPECT_EQ(RefusalOf(RenameAt{.old_directory = from.fd(),
                               .old_path = "old",
                               .new_directory = to.fd(),
                               .new_path = "taken",
                               .flags = RENAME_NOREPLACE}),
            EEXIST);
  EXPECT_EQ(ResultOf(RenameAt{.old_directory = from.fd(),
                              .old_path = "old",
                              .new_directory = to.fd(),
                              .new_path = "new"}),
            0);
  EXPECT_FALSE(from.Has("old"));
  EXPECT_TRUE(to.Has("new"));
}

TEST_F(RawOps, UnlinkAt) {
  const TemporaryDirectory directory;
  directory.Touch("file");
  ASSERT_EQ(mkdir(directory.Path("sub").c_str(), 0700), 0);
  EXPECT_EQ(ResultOf(UnlinkAt{.directory = directory.fd(), .path = "file"}), 0);
  EXPECT_FALSE(directory.Has("file"));
  EXPECT_EQ(RefusalOf(UnlinkAt{.directory = directory.fd(), .path = "sub"}),
            EISDIR);
  EXPECT_EQ(
      ResultOf(UnlinkAt{
          .directory = directory.fd(), .path = "sub", .flags = AT_REMOVEDIR}),
      0);
  EXPECT_FALSE(directory.Has("sub"));
}

TEST_F(RawOps, MkdirAt) {
  const TemporaryDirectory directory;
  EXPECT_EQ(ResultOf(MkdirAt{
                .directory = directory.fd(), .path = "sub", .mode = 0700}),
            0);
  struct stat status;
  ASSERT_EQ(stat(directory.Path("sub").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & (S_IFMT | 0077), unsigned{S_IFDIR});
  EXPECT_EQ(RefusalOf(MkdirAt{
                .directory = directory.fd(), .path = "sub", .mode = 0700}),
            EEXIST);
}

TEST_F(RawOps, SymlinkAt) {
  const TemporaryDirectory directory;
  EXPECT_EQ(
      ResultOf(SymlinkAt{
          .target = "the target", .directory = directory.fd(), .path = "link"}),
      0);
  std::error_code error;
  EXPECT_EQ(std::filesystem::read_symlink(directory.Path("link"), error),
            "the target");
}

TEST_F(RawOps, LinkAt) {
  const TemporaryDirectory directory;
  directory.Touch("file", "abc");
  EXPECT_EQ(ResultOf(LinkAt{.old_directory = directory.fd(),
                            .old_path = "file",
                            .new_directory = directory.fd(),
                            .new_path = "other"}),
            0);
  EXPECT_EQ(std::filesystem::hard_link_count(directory.Path("file")), 2u);
  // The link itself, or what it leads to.
  ASSERT_EQ(symlink("file", directory.Path("soft").c_str()), 0);
  EXPECT_EQ(ResultOf(LinkAt{.old_directory = directory.fd(),
                            .old_path = "soft",
                            .new_directory = directory.fd(),
                            .new_path = "third",
                            .flags = AT_SYMLINK_FOLLOW}),
            0);
  EXPECT_EQ(std::filesystem::hard_link_count(directory.Path("file")), 3u);
}

// A directory of a file system that has attributes, if there is one.
std::string WithAttributes() {
  const std::string parents[] = {Parent(), "/tmp", "/var/tmp", "/dev/shm"};
  for (const std::string& parent : parents) {
    std::string path = parent + "/opsXXXXXX";
    const int fd = mkstemp(path.data());
    if (fd < 0) continue;
    const bool works = fsetxattr(fd, "user.escrow", "x", 1, 0) == 0;
    close(fd);
    unlink(path.c_str());
    if (works) return parent;
  }
  return "";
}

class AttributedFile {
 public:
  explicit AttributedFile(const std::string& parent) : directory_(parent) {
    directory_.Touch("file");
    path_ = directory_.Path("file");
  }
  const char* path() const { return path_.c_str(); }
  Closing Open() const { return Closing(open(path(), O_RDWR | O_CLOEXEC)); }
  void Set(const std::string& value) const {
    EXPECT_EQ(setxattr(path(), "user.escrow", value.data(), value.size(), 0),
              0);
  }
  std::string Get() const {
    char value[64];
    const ssize_t size = getxattr(path(), "user.escrow", value, sizeof(value));
    return size < 0 ? std::strerror(errno)
                    : std::string(value, static_cast<std::size_t>(size));
  }

 private:
  TemporaryDirectory directory_;
  std::string path_;
};

TEST_F(RawOps, GetXattr) {
  const std::string parent = WithAttributes();
  if (parent.empty()) GTEST_SKIP() << "no file system with user attributes";
  const AttributedFile file(parent);
  file.Set("value");
  char value[16] = {};
  EXPECT_EQ(ResultOf(GetXattr{.path = file.path(),
                              .name = "user.escrow",
                              .value = value,
                              .length = sizeof(value)}),
            5);
  EXPECT_STREQ(value, "value");
  EXPECT_EQ(ResultOf(GetXattr{.path = file.path(),
                              .name = "user.escrow",
                              .value = nullptr,
                              .length = 0}),
            5);
  EXPECT_EQ(RefusalOf(GetXattr{.path = file.path(),
                               .name = "user.escrow",
                               .value = value,
                               .length = 4}),
            ERANGE);
  EXPECT_EQ(RefusalOf(GetXattr{.path = file.path(),
                               .name = "user.none",
                               .value = value,
                               .length = 4}),
            ENODATA);
}

TEST_F(RawOps, FgetXattr) {
  const std::string parent = WithAttributes();
  if (parent.empty()) GTEST_SKIP() << "no file system with user attributes";
  const AttributedFile file(parent);
  file.Set("value");
  const Closing fd = file.Open();
  char value[16] = {};
  EXPECT_EQ(ResultOf(FgetXattr{.fd = fd.get(),
                               .name = "user.escrow",
                               .value = value,
                               .length = sizeof(value)}),
            5);
  EXPECT_STREQ(value, "value");
}

TEST_F(RawOps, SetXattr) {
  const std::string parent = WithAttributes();
  if (parent.empty()) GTEST_SKIP() << "no file system with user attributes";
  const AttributedFile file(parent);
  EXPECT_EQ(RefusalOf(SetXattr{.path = file.path(),
                               .name = "user.escrow",
                               .value = "one",
                               .length = 3,
                               .flags = XATTR_REPLACE}),
            ENODATA);
  EXPECT_EQ(ResultOf(SetXattr{.path = file.path(),
                              .name = "user.escrow",
                              .value = "one",
                              .length = 3}),
            0);
  EXPECT_EQ(file.Get(), "one");
  EXPECT_EQ(RefusalOf(SetXattr{.path = file.path(),
                               .name = "user.escrow",
                               .value = "two",
                               .length = 3,
                               .flags = XATTR_CREATE}),
            EEXIST);
}

TEST_F(RawOps, FsetXattr) {
  const std::string parent = WithAttributes();
  if (parent.empty()) GTEST_SKIP() << "no file system with user attributes";
  const AttributedFile file(parent);
  const Closing fd = file.Open();
  EXPECT_EQ(
      ResultOf(FsetXattr{
          .fd = fd.get(), .name = "user.escrow", .value = "one", .length = 3}),
      0);
  EXPECT_EQ(file.Get(), "one");
  EXPECT_EQ(RefusalOf(FsetXattr{.fd = fd.get(),
                                .name = "user.escrow",
                                .value = "two",
                                .length = 3,
                                .flags = XATTR_CREATE}),
            EEXIST);
}

}  // namespace
}  // namespace escrow::raw
