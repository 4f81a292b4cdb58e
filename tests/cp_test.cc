#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <pty.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "escrow/examples/byte_size.h"
#include "escrow/examples/copy_file.h"
#include "escrow/examples/generate.h"
#include "escrow/examples/progress_bar.h"
#include "escrow/examples/session.h"
#include "escrow/safe/ring.h"

// The library where something has to happen at a certain moment of a copy, the
// program itself for the rest; all on the kernel's own io_uring.

namespace escrow::examples {
namespace {

namespace fs = std::filesystem;

// Files.

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  // Not a byte at a time, which takes seconds where nothing is inlined.
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return std::move(bytes).str();
}

void WriteAt(const std::string& path, std::size_t offset,
             const std::string& bytes) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  ASSERT_GE(file, 0) << path << ": " << std::strerror(errno);
  ASSERT_EQ(
      ::pwrite(file, bytes.data(), bytes.size(), static_cast<::off_t>(offset)),
      std::ssize(bytes));
  ::close(file);
}

std::string Random(std::size_t size) {
  std::string bytes(size, '\0');
  FillReproducibly(std::as_writable_bytes(std::span(bytes)), 1 << 20);
  return bytes;
}

struct ::stat StatusOf(const std::string& path) {
  struct ::stat status = {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status;
}

::mode_t ModeOf(const std::string& path) {
  return StatusOf(path).st_mode & 07777;
}

using Names = std::set<std::string>;

Names NamesIn(const std::string& directory) {
  Names names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.insert(entry.path().filename());
  }
  return names;
}

// An empty directory, which is checked to hold no temporary files at the end.
class DirectoryTest : public testing::Test {
 protected:
  DirectoryTest() {
    std::string name = testing::TempDir() + "/cp_test.XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr) << std::strerror(errno);
    directory_ = name;
  }
  ~DirectoryTest() override {
    for (const auto& entry : fs::recursive_directory_iterator(
             directory_, fs::directory_options::skip_permission_denied)) {
      EXPECT_NE(entry.path().filename().string().substr(0, 1), ".")
          << "left behind: " << entry.path();
    }
    fs::remove_all(directory_);
  }

  std::string Path(const std::string& name) const {
    return directory_ + "/" + name;
  }
  Names NamesNow() const { return NamesIn(directory_); }

  std::string directory_;
};

// The program.

struct Outcome {
  int status = 0;  // of wait(2)
  std::string out;
  std::string err;

  int exit_code() const { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
};

std::string Program() {
  return std::string(std::getenv("TEST_SRCDIR")) + "/" +
         std::getenv("TEST_WORKSPACE") + "/examples/cp";
}

[[noreturn]] void Exec(const std::vector<std::string>& arguments) {
  static std::string program = Program();
  std::vector<char*> argv = {program.data()};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  // Hanging is a failure too.
  ::alarm(60);
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

using InChild = std::function<void()>;

class ProgramTest : public DirectoryTest {
 protected:
  ProgramTest() { ::unsetenv("BUILD_WORKING_DIRECTORY"); }

  // Both outputs in files, so that no pipe can be full.
  std::string output_ = Capture("out");
  std::string errors_ = Capture("err");

  ~ProgramTest() override {
    ::unlink(output_.c_str());
    ::unlink(errors_.c_str());
  }

  ::pid_t Start(const std::vector<std::string>& arguments,
                const InChild& in_child = {}) {
    const ::pid_t child = ::fork();
    if (child != 0) return child;
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    ::dup2(::open(output_.c_str(), kFlags, 0600), STDOUT_FILENO);
    ::dup2(::open(errors_.c_str(), kFlags, 0600), STDERR_FILENO);
    if (in_child) in_child();
    Exec(arguments);
  }

  Outcome Finish(::pid_t child) {
    Outcome outcome;
    EXPECT_EQ(::waitpid(child, &outcome.status, 0), child);
    outcome.out = Contents(output_);
    outcome.err = Contents(errors_);
    EXPECT_FALSE(WIFSIGNALED(outcome.status) &&
                 WTERMSIG(outcome.status) == SIGALRM)
        << "it hangs";
    return outcome;
  }

  Outcome Run(const std::vector<std::string>& arguments,
              const InChild& in_child = {}) {
    return Finish(Start(arguments, in_child));
  }

 private:
  static std::string Capture(const std::string& name) {
    return testing::TempDir() + "/" + std::to_string(::getpid()) + "." + name;
  }
};

// With --raw and without.
class CopyProgramTest : public ProgramTest,
                        public testing::WithParamInterface<bool> {
 protected:
  Outcome Copy(std::vector<std::string> arguments,
               const InChild& in_child = {}) {
    if (GetParam()) arguments.insert(arguments.begin(), "--raw");
    return Run(arguments, in_child);
  }
  ::pid_t StartCopy(std::vector<std::string> arguments,
                    const InChild& in_child = {}) {
    if (GetParam()) arguments.insert(arguments.begin(), "--raw");
    return Start(arguments, in_child);
  }

  // `error` is all that is written, and nothing else happens.
  void ExpectRefused(const std::string& source, const std::string& destination,
                     const std::string& error, const InChild& in_child = {}) {
    SCOPED_TRACE(source + " to " + destination);
    const Names before = NamesNow();
    const Outcome outcome = Copy({source, destination}, in_child);
    EXPECT_EQ(outcome.exit_code(), 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err, "cp: " + error + "\n");
    EXPECT_EQ(NamesNow(), before);
  }
};

std::string ModeName(const testing::TestParamInfo<bool>& info) {
  return info.param ? "Raw" : "Safe";
}
INSTANTIATE_TEST_SUITE_P(, CopyProgramTest, testing::Bool(), ModeName);

TEST_P(CopyProgramTest, CopiesAndSaysSo) {
  const std::string data = Random(3'000'001);
  WriteAt(Path("a"), 0, data);
  const Outcome outcome =
      Copy({"--verify", "--depth=4", "--block=4KiB", Path("a"), Path("b")});
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, testing::MatchesRegex(
                               "3000001 bytes in [0-9.]+ s .*GB/s, at most 4 "
                               "operations in flight at once, verified byte "
                               "for byte\n"));
  EXPECT_TRUE(Contents(Path("b")) == data);
  EXPECT_TRUE(Contents(Path("a")) == data);
}

TEST_P(CopyProgramTest, SaysNothingOfVerifyingWithoutIt) {
  WriteAt(Path("a"), 0, "data");
  const Outcome outcome = Copy({Path("a"), Path("b")});
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.err;
  EXPECT_NE(outcome.out, "");
  EXPECT_EQ(outcome.out.find("verified"), std::string::npos);
}

TEST_P(CopyProgramTest, ProgressWhenAskedForAndQuiet) {
  WriteAt(Path("a"), 0, Random(100'000));
  Outcome outcome = Copy({"--progress", Path("a"), Path("b")});
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_NE(outcome.err.find("100%"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find_first_of("\r\x1b"), std::string::npos);
  outcome = Copy({"--quiet", Path("a"), Path("b")});
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_EQ(outcome.out + outcome.err, "");
}

TEST_P(CopyProgramTest, IntoADirectory) {
  WriteAt(Path("a"), 0, "data");
  fs::create_directory(Path("d"));
  EXPECT_EQ(Copy({Path("a"), Path("d")}).exit_code(), 0);
  EXPECT_EQ(Contents(Path("d/a")), "data");
  WriteAt(Path("a"), 0, "more data");
  fs::create_directory_symlink("d", Path("link"));
  EXPECT_EQ(Copy({Path("a"), Path("link/")}).exit_code(), 0);
  EXPECT_EQ(Contents(Path("d/a")), "more data");
  fs::create_directories(Path("e/a"));
  ExpectRefused(Path("a"), Path("e"),
                Path("e/a") + ": is not a regular file but a directory");
}

TEST_P(CopyProgramTest, RelativePaths) {
  WriteAt(Path("a"), 0, "data");
  fs::create_directory(Path("d"));
  const InChild in_directory = [this] {
    if (::chdir(Path("d").c_str()) != 0) ::_exit(126);
  };
  EXPECT_EQ(Copy({"../a", "b"}, in_directory).exit_code(), 0);
  EXPECT_EQ(Contents(Path("d/b")), "data");
  // What `bazel run` says.
  const InChild in_bazel = [this] {
    ::setenv("BUILD_WORKING_DIRECTORY", directory_.c_str(), 1);
  };
  EXPECT_EQ(Copy({"a", "b"}, in_bazel).exit_code(), 0);
  EXPECT_EQ(Contents(Path("b")), "data");
}

TEST_P(CopyProgramTest, SymlinkDestinationStays) {
  WriteAt(Path("a"), 0, "data");
  WriteAt(Path("old"), 0, "old data");
  fs::create_directory(Path("d"));
  fs::create_symlink("../old", Path("d/link"));
  fs::create_symlink("d/link", Path("link_to_link"));
  EXPECT_EQ(Copy({Path("a"), Path("link_to_link")}).exit_code(), 0);
  EXPECT_EQ(Contents(Path("old")), "data");
  EXPECT_TRUE(fs::is_symlink(Path("link_to_link")));
  EXPECT_TRUE(fs::is_symlink(Path("d/link")));

  fs::create_symlink("d/new", Path("dangling"));
  EXPECT_EQ(Copy({Path("a"), Path("dangling")}).exit_code(), 0);
  EXPECT_EQ(Contents(Path("d/new")), "data");
  EXPECT_TRUE(fs::is_symlink(Path("dangling")));

  fs::create_symlink("loop", Path("loop"));
  ExpectRefused(Path("a"), Path("loop"),
                Path("loop") + ": statx: Too many levels of symbolic links");
  fs::create_symlink("nowhere/new", Path("broken"));
  ExpectRefused(Path("a"), Path("broken"),
                Path("nowhere") + ": openat: No such file or directory");
}

TEST_P(CopyProgramTest, SameFile) {
  WriteAt(Path("a"), 0, "data");
  fs::create_symlink("a", Path("soft"));
  fs::create_hard_link(Path("a"), Path("hard"));
  fs::create_directory(Path("d"));
  fs::create_symlink("../a", Path("d/a"));
  for (const char* destination : {"a", "soft", "hard", "d/../a", "d", "."}) {
    const std::string path = Path(destination);
    ExpectRefused(Path("a"), path, path + ": is the same file as " + Path("a"));
  }
  ExpectRefused(Path("soft"), Path("hard"),
                Path("hard") + ": is the same file as " + Path("soft"));
  EXPECT_EQ(Contents(Path("a")), "data");
}

TEST_P(CopyProgramTest, OnlyRegularFiles) {
  WriteAt(Path("a"), 0, "data");
  ASSERT_EQ(::mkfifo(Path("fifo").c_str(), 0600), 0);
  // In a short path: addresses of sockets are not long.
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
  const fs::path here = fs::current_path();
  fs::current_path(directory_);
  ASSERT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&address),
                   sizeof(address)),
            0);
  fs::current_path(here);
  fs::create_directory(Path("d"));

  const std::string but = ": is not a regular file but ";
  for (const auto& [path, kind] : {
           std::pair(Path("fifo"), "a pipe"),
           std::pair(Path("socket"), "a socket"),
           std::pair(std::string("/dev/null"), "a device"),
       }) {
    ExpectRefused(path, Path("b"), path + but + kind);
    ExpectRefused(Path("a"), path, path + but + kind);
  }
  ExpectRefused(Path("d"), Path("b"), Path("d") + but + "a directory");
  ::close(socket);
}

TEST_P(CopyProgramTest, MissingFilesAndDirectories) {
  WriteAt(Path("a"), 0, "data");
  const std::string none = ": statx: No such file or directory";
  ExpectRefused(Path("none"), Path("b"), Path("none") + none);
  ExpectRefused("", Path("b"), none);
  ExpectRefused(Path("a"), Path("none/b"),
                Path("none") + ": openat: No such file or directory");
  ExpectRefused(Path("a"), Path("none/"),
                Path("none/") + ": does not name a file");
  ExpectRefused(Path("a"), "", ": does not name a file");
  ExpectRefused(Path("a"), Path("a/b"),
                Path("a/b") + ": statx: Not a directory");
}

// Root may do everything, unless it gives that up.
void GiveUpPrivileges() {
  for (const int capability : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH}) {
    if (::geteuid() == 0 &&
        ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
      ::_exit(126);
    }
  }
}

TEST_P(CopyProgramTest, NoPermission) {
  WriteAt(Path("secret"), 0, "data");
  WriteAt(Path("a"), 0, "data");
  WriteAt(Path("read_only"), 0, "old data");
  fs::create_directory(Path("d"));
  ::chmod(Path("secret").c_str(), 0000);
  ::chmod(Path("read_only").c_str(), 0444);
  ::chmod(Path("d").c_str(), 0555);
  ExpectRefused(Path("secret"), Path("b"),
                Path("secret") + ": openat: Permission denied",
                GiveUpPrivileges);
  ExpectRefused(
      Path("a"), Path("d/b"),
      Path("d/b") + ": no temporary file beside it: openat: Permission denied",
      GiveUpPrivileges);
  ExpectRefused(Path("a"), Path("read_only"),
                Path("read_only") + ": access: Permission denied",
                GiveUpPrivileges);
  EXPECT_EQ(Contents(Path("read_only")), "old data");
  // Where one may write only, directories cannot be synced.
  ::chmod(Path("d").c_str(), 0333);
  const Outcome outcome = Copy({Path("a"), Path("d/b")}, GiveUpPrivileges);
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.err;
  ::chmod(Path("d").c_str(), 0755);
  EXPECT_EQ(Contents(Path("d/b")), "data");
}

TEST_P(CopyProgramTest, Permissions) {
  WriteAt(Path("a"), 0, "data");
  for (const ::mode_t mode : {0400, 0640, 0755, 0777}) {
    ::chmod(Path("a").c_str(), mode);
    fs::remove(Path("b"));
    EXPECT_EQ(Copy({Path("a"), Path("b")}).exit_code(), 0);
    EXPECT_EQ(ModeOf(Path("b")), mode);
  }
  ::chmod(Path("b").c_str(), 0604);
  EXPECT_EQ(Copy({Path("a"), Path("b")}).exit_code(), 0);
  EXPECT_EQ(ModeOf(Path("b")), 0604u);
  // A program that was trusted is not the copy.
  ::chmod(Path("b").c_str(), 04755);
  EXPECT_EQ(Copy({Path("a"), Path("b")}).exit_code(), 0);
  EXPECT_EQ(ModeOf(Path("b")), 0755u);
}

TEST_P(CopyProgramTest, FileSizeLimit) {
  WriteAt(Path("a"), 0, Random(1'000'000));
  const InChild limit = [] {
    const rlimit size = {123'456, 123'456};
    ::setrlimit(RLIMIT_FSIZE, &size);
  };
  ExpectRefused(Path("a"), Path("b"), Path("b") + ": write: File too large",
                limit);
  WriteAt(Path("b"), 0, "old data");
  ExpectRefused(Path("a"), Path("b"), Path("b") + ": write: File too large",
                limit);
  EXPECT_EQ(Contents(Path("b")), "old data");
  // Only a hole reaches beyond the limit.
  fs::resize_file(Path("a"), 0);
  fs::resize_file(Path("a"), 1'000'000);
  ExpectRefused(Path("a"), Path("b"), Path("b") + ": ftruncate: File too large",
                limit);
}

TEST_P(CopyProgramTest, FullDisk) {
  WriteAt(Path("a"), 0, Random(3 << 20));
  fs::create_directory(Path("d"));
  // A child with mounts of its own, which are gone with it.
  enum { kNoMounts = 100, kLeftovers, kOldDataGone };
  for (const bool existing : {false, true}) {
    const ::pid_t child = ::fork();
    if (child == 0) {
      const std::string user = std::to_string(::geteuid());
      const std::string group = std::to_string(::getegid());
      if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(kNoMounts);
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/uid_map") << user << " " << user << " 1";
      std::ofstream("/proc/self/gid_map") << group << " " << group << " 1";
      if (::mount("none", Path("d").c_str(), "tmpfs", 0, "size=1m") != 0) {
        ::_exit(kNoMounts);
      }
      if (existing) WriteAt(Path("d/b"), 0, "old data");
      const Outcome outcome = Copy({Path("a"), Path("d/b")});
      if (NamesIn(Path("d")) != (existing ? Names{"b"} : Names{})) {
        ::_exit(kLeftovers);
      }
      if (existing && Contents(Path("d/b")) != "old data") {
        ::_exit(kOldDataGone);
      }
      const bool said = outcome.err == "cp: " + Path("d/b") +
                                           ": write: No space left on device\n";
      ::_exit(said ? outcome.exit_code() : 99);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kNoMounts) {
      GTEST_SKIP() << "no tmpfs can be mounted here";
    }
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1)
        << WEXITSTATUS(status) << Contents(errors_);
  }
}

TEST_P(CopyProgramTest, StoppedBySignals) {
  constexpr std::size_t kSize = 64 << 20;
  std::string data = Random(1 << 20);
  for (std::size_t i = 0; i < kSize; i += data.size()) {
    WriteAt(Path("a"), i, data);
  }
  std::size_t stopped = 0;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    for (const bool existing : {false, true}) {
      SCOPED_TRACE(::strsignal(signal));
      fs::remove(Path("b"));
      if (existing) WriteAt(Path("b"), 0, "old data");
      const Names before = NamesNow();
      // Slow, in small blocks.
      const ::pid_t child =
          StartCopy({"--block=512", "--depth=2", Path("a"), Path("b")});
      // Its temporary file appears, so it is copying; or it is over.
      for (;;) {
        const Names now = NamesNow();
        if (now.size() != before.size()) break;
        if (existing && fs::file_size(Path("b")) == kSize) break;
      }
      ::kill(child, signal);
      const Outcome outcome = Finish(child);
      if (outcome.exit_code() == 0) {
        EXPECT_TRUE(Contents(Path("b")) == Contents(Path("a")));
        continue;
      }
      ++stopped;
      EXPECT_TRUE(WIFSIGNALED(outcome.status) &&
                  WTERMSIG(outcome.status) == signal)
          << outcome.status;
      EXPECT_EQ(outcome.err, "cp: stopped: by a signal\n");
      EXPECT_EQ(NamesNow(), before);
      if (existing) {
        EXPECT_EQ(Contents(Path("b")), "old data");
      }
    }
  }
  RecordProperty("stopped", static_cast<int>(stopped));
}

TEST_P(CopyProgramTest, SignalsThatAreIgnoredDoNotStopIt) {
  WriteAt(Path("a"), 0, Random(8 << 20));
  const ::pid_t child =
      StartCopy({"--block=512", "--depth=2", Path("a"), Path("b")},
                [] { std::signal(SIGHUP, SIG_IGN); });
  siginfo_t info = {};
  while (::waitid(P_PID, static_cast<::id_t>(child), &info,
                  WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0) {
    // Not before it ignores them.
    if (NamesNow() != Names{"a"}) ::kill(child, SIGHUP);
    ::usleep(1000);
  }
  const Outcome outcome = Finish(child);
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.err;
  EXPECT_TRUE(Contents(Path("b")) == Contents(Path("a")));
}

TEST_P(CopyProgramTest, TinyBlocksAndManyOfThem) {
  WriteAt(Path("a"), 0, Random(10'000));
  EXPECT_EQ(
      Copy({"--block=1", "--depth=4096", "--verify", Path("a"), Path("b")})
          .exit_code(),
      0);
  EXPECT_TRUE(Contents(Path("b")) == Contents(Path("a")));
  const Outcome outcome =
      Copy({"--block=1GiB", "--depth=4096", "--verify", Path("a"), Path("b")});
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.err;
}

// The kernel gives out these files by the page.
TEST_P(CopyProgramTest, FilesThatAreReadInParts) {
  const std::string source = "/sys/kernel/btf/vmlinux";
  const int file = ::open(source.c_str(), O_RDONLY | O_CLOEXEC);
  std::string block(65536, '\0');
  const ::ssize_t size = ::pread(file, block.data(), block.size(), 0);
  ::close(file);
  if (size <= 0 || size == std::ssize(block)) {
    GTEST_SKIP() << "reading " << source << " is not short";
  }
  const Outcome outcome =
      Copy({"--block=64KiB", "--depth=5", "--verify", source, Path("b")});
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.err;
  EXPECT_TRUE(Contents(Path("b")) == Contents(source));
}

TEST_P(CopyProgramTest, FilesWithContentButNoSize) {
  ASSERT_EQ(StatusOf("/proc/version").st_size, 0);
  for (const char* block : {"--block=7", "--block=64K"}) {
    // Read-only like the source, so that only root may copy over it.
    const std::string copy = Path(std::string("copy") + block);
    const Outcome outcome = Copy({block, "--verify", "/proc/version", copy});
    EXPECT_EQ(outcome.exit_code(), 0) << outcome.err;
    EXPECT_TRUE(Contents(copy) == Contents("/proc/version"));
  }
}

TEST_P(CopyProgramTest, NobodyReadsTheSummary) {
  WriteAt(Path("a"), 0, "data");
  const Outcome outcome = Copy({Path("a"), Path("b")}, [] {
    ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO);
  });
  EXPECT_EQ(outcome.exit_code(), 1);
  EXPECT_EQ(outcome.err,
            "cp: standard output: write: No space left on device\n");
}

// Generating.

TEST_P(CopyProgramTest, Generates) {
  const Outcome outcome = Copy(
      {"--generate=1000003", "--block=100", "--verify", Path("a"), Path("b")});
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.err;
  std::string expected(1'000'003, '\0');
  FillReproducibly(std::as_writable_bytes(std::span(expected)), 0);
  EXPECT_TRUE(Contents(Path("a")) == expected);
  EXPECT_TRUE(Contents(Path("b")) == expected);
  EXPECT_EQ(Copy({"--generate=1000003", "--block=1MiB", Path("c"), Path("d")})
                .exit_code(),
            0);
  EXPECT_TRUE(Contents(Path("c")) == expected);
  // Not repetitive.
  EXPECT_NE(expected.substr(0, 4096), expected.substr(4096, 4096));

  WriteAt(Path("mine"), 0, "mine");
  EXPECT_EQ(Copy({"--generate=1MiB", Path("mine"), Path("e")}).exit_code(), 0);
  EXPECT_EQ(Contents(Path("mine")), "mine");
  EXPECT_EQ(Contents(Path("e")), "mine");

  EXPECT_EQ(
      Copy({"--generate=0", "--verify", Path("empty"), Path("f")}).exit_code(),
      0);
  EXPECT_EQ(Contents(Path("f")), "");
}

TEST_F(ProgramTest, GeneratesAllOrNothing) {
  const InChild limit = [] {
    const rlimit size = {500'000, 500'000};
    ::setrlimit(RLIMIT_FSIZE, &size);
  };
  Outcome outcome = Run({"--generate=1MiB", Path("a"), Path("b")}, limit);
  EXPECT_EQ(outcome.exit_code(), 1);
  EXPECT_EQ(outcome.err, "cp: " + Path("a") + ": write: File too large\n");
  EXPECT_EQ(NamesNow(), Names{});

  const ::pid_t child =
      Start({"--generate=64MiB", "--block=512", Path("a"), Path("b")});
  while (NamesNow().empty()) continue;
  ::kill(child, SIGTERM);
  outcome = Finish(child);
  if (outcome.exit_code() != 0) {
    EXPECT_EQ(NamesNow(), Names{});
  }
}

// The command line.

TEST_F(ProgramTest, Usage) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"a"},
      {"a", "b", "c"},
      {"--depth=0", "a", "b"},
      {"--depth=4097", "a", "b"},
      {"--depth=-1", "a", "b"},
      {"--depth=7x", "a", "b"},
      {"--depth=", "a", "b"},
      {"--depth"},
      {"--block=0", "a", "b"},
      {"--block=2GiB", "a", "b"},
      {"--block=64KB", "a", "b"},
      {"--generate=-1", "a", "b"},
      {"--generate=8388608TiB", "a", "b"},
      {"--raw=yes", "a", "b"},
      {"--unknown", "a", "b"},
      {"-x", "a", "b"},
  };
  for (const auto& arguments : wrong) {
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.exit_code(), 2) << testing::PrintToString(arguments);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err.substr(0, 4), "cp: ");
  }
  EXPECT_EQ(Run({"--unknown", "a", "b"}).err,
            "cp: --unknown: not an option, or not one with a value\n"
            "Try --help.\n");
  EXPECT_EQ(Run({"a", "b", "--depth"}).err,
            "cp: --depth: needs a value\nTry --help.\n");

  const Outcome help = Run({"--help"});
  EXPECT_EQ(help.exit_code(), 0);
  EXPECT_NE(help.out.find("--generate=SIZE"), std::string::npos);
}

TEST_F(ProgramTest, NamesThatLookLikeOptions) {
  WriteAt(Path("--raw"), 0, "data");
  const Outcome outcome = Run({"--", "--raw", "-b"}, [this] {
    if (::chdir(directory_.c_str()) != 0) ::_exit(126);
  });
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.err;
  EXPECT_EQ(Contents(Path("-b")), "data");
}

TEST(ByteSize, Parse) {
  EXPECT_EQ(ParseByteSize("0"), 0u);
  EXPECT_EQ(ParseByteSize("4096"), 4096u);
  EXPECT_EQ(ParseByteSize("64KiB"), 65536u);
  EXPECT_EQ(ParseByteSize("64K"), 65536u);
  EXPECT_EQ(ParseByteSize("64kB"), 64000u);
  EXPECT_EQ(ParseByteSize("1TiB"), std::uint64_t{1} << 40);
  EXPECT_EQ(ParseByteSize("9223372036854775807"), 0x7fff'ffff'ffff'ffffu);
  for (const char* wrong :
       {"", "K", "-1", "+1", " 1", "1 K", "1.5K", "1X", "1KiBs",
        "9223372036854775808", "8388608TiB", "99999999999999999999999"}) {
    EXPECT_EQ(ParseByteSize(wrong), std::nullopt) << wrong;
  }
}

TEST(ByteSize, Format) {
  EXPECT_EQ(FormatByteSize(0), "0 B");
  EXPECT_EQ(FormatByteSize(1023), "1023 B");
  EXPECT_EQ(FormatByteSize(1023.9), "1.0 KiB");
  EXPECT_EQ(FormatByteSize(1536), "1.5 KiB");
  EXPECT_EQ(FormatByteSize(256 << 20), "256 MiB");
  EXPECT_EQ(FormatByteSize(1e18), "888 PiB");
  for (double bytes = 1; bytes < 1e20; bytes *= 1.01) {
    EXPECT_LE(FormatByteSize(bytes).size(), 8u) << bytes;
  }
}

// Progress.

TEST(Progress, Format) {
  using std::chrono::duration;
  EXPECT_EQ(FormatProgress(60, "copy", 512 << 20, 1 << 30, duration<double>(4)),
            "[#############..............]  50%  128 MiB/s  0:04     copy");
  EXPECT_EQ(
      FormatProgress(80, "copy", 0, 0, duration<double>(0)).substr(0, 50),
      FormatProgress(80, "copy", 7, 7, duration<double>(0)).substr(0, 50));
  EXPECT_EQ(FormatProgress(4, "copy", 999, 1000, duration<double>(1)), " 99%");
  EXPECT_EQ(FormatProgress(3, "copy", 999, 1000, duration<double>(1)), "");
  for (std::size_t width = 0; width < 200; ++width) {
    for (const std::uint64_t total : {0ull, 1ull, 1000ull, 1ull << 62, ~0ull}) {
      for (const double seconds : {0.0, 1e-9, 59.9, 3600.0, 1e12}) {
        for (const std::uint64_t part : {0, 1, 2}) {
          const std::string line =
              FormatProgress(width, "generate", total / 2 * part, total,
                             duration<double>(seconds));
          EXPECT_LE(line.size(), width);
          if (width >= 4) {
            EXPECT_NE(line.find('%'), std::string::npos);
          }
        }
      }
    }
  }
}

TEST_P(CopyProgramTest, ProgressOnATerminal) {
  WriteAt(Path("a"), 0, Random(100'000));
  for (const unsigned short width : {80, 30, 20, 1}) {
    int terminal = -1;
    int program_side = -1;
    const winsize size = {
        .ws_row = 24, .ws_col = width, .ws_xpixel = 0, .ws_ypixel = 0};
    ASSERT_EQ(::openpty(&terminal, &program_side, nullptr, nullptr, &size), 0);
    const ::pid_t child = StartCopy(
        {Path("a"), Path("b")}, [=] { ::dup2(program_side, STDERR_FILENO); });
    ::close(program_side);
    std::string shown;
    char bytes[4096];
    for (::ssize_t n; (n = ::read(terminal, bytes, sizeof(bytes))) > 0;) {
      shown.append(bytes, static_cast<std::size_t>(n));
    }
    ::close(terminal);
    EXPECT_EQ(Finish(child).exit_code(), 0);
    // Each work ends with its last line and a line end.
    ASSERT_GE(shown.size(), 2u);
    EXPECT_EQ(shown.substr(shown.size() - 2), "\r\n");
    EXPECT_EQ(shown.substr(0, 4), "\r\x1b[K");
    EXPECT_EQ(shown.find("100%") != std::string::npos, width > 4);
    EXPECT_EQ(shown.find("[###") != std::string::npos, width > 20);
    EXPECT_LE(shown.size(), 3 * (width + 6u));
  }
}

// The library.

class CopyFileTest : public DirectoryTest,
                     public testing::WithParamInterface<bool> {
 protected:
  CopyFileTest() : ring_(safe::Ring::Create()) {
    EXPECT_TRUE(ring_) << ring_.error().message();
    settings_.depth = 4;
    settings_.block_size = 4096;
    options_.raw = GetParam();
  }

  Expected<CopyReport> Copy() {
    Session session(*ring_, settings_);
    return CopyFile(session, Path("a"), Path("b"), options_);
  }

  void ExpectSame() {
    const auto report = Copy();
    ASSERT_TRUE(report) << report.error().what << ": " << report.error().why;
    const std::string expected = Contents(Path("a"));
    EXPECT_TRUE(Contents(Path("b")) == expected);
    EXPECT_EQ(report->bytes, expected.size());
    EXPECT_EQ(report->destination, Path("b"));
    ExpectRingIsIdle();
  }

  void ExpectFailure(const std::string& what, const std::string& why) {
    const auto report = Copy();
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().what, what);
    EXPECT_EQ(report.error().why, why);
    ExpectRingIsIdle();
  }

  // What is left of a copy does no harm to what comes next.
  void ExpectRingIsIdle() {
    while (ring_->in_flight() > 0) ASSERT_TRUE(ring_->Dispatch());
    EXPECT_TRUE(ring_->Wait(ring_->Nop()));
    ASSERT_TRUE(ring_->Dispatch(std::chrono::nanoseconds(0)));
    EXPECT_EQ(ring_->unknown_completions(), 0u);
  }

  // The `count`th time that `moment` comes, from 1.
  void At(Moment moment, int count, std::function<void()> action) {
    settings_.at = [=, seen = 0](Moment now) mutable {
      if (now == moment && ++seen == count) action();
    };
  }

  std::string TemporaryPath() const {
    for (const std::string& name : NamesNow()) {
      if (name[0] == '.') return Path(name);
    }
    return "";
  }

  // The descriptor that this process has of the temporary file.
  int TemporaryDescriptor() const {
    const std::string path = TemporaryPath();
    for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      if (fs::read_symlink(entry, error) == fs::canonical(path)) {
        return std::stoi(entry.path().filename());
      }
    }
    ADD_FAILURE();
    return -1;
  }

  // Has reading it take its time.
  static void ForgetCached(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    ::fsync(file);
    ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  }

  safe::Result<safe::Ring> ring_;
  Settings settings_;
  CopyOptions options_;
};

INSTANTIATE_TEST_SUITE_P(, CopyFileTest, testing::Bool(), ModeName);

TEST_P(CopyFileTest, Sizes) {
  options_.verify = true;
  for (const std::size_t size :
       {0, 1, 4095, 4096, 4097, 16384, 16385, 100'000}) {
    SCOPED_TRACE(size);
    fs::remove(Path("a"));
    WriteAt(Path("a"), 0, Random(size));
    ExpectSame();
  }
}

TEST_P(CopyFileTest, AThousandTimesTheBuffers) {
  options_.verify = true;
  settings_.depth = 2;
  settings_.block_size = 512;
  WriteAt(Path("a"), 0, Random(1000 * 2 * 512 + 1));
  ExpectSame();
}

TEST_P(CopyFileTest, KeepsTheQueueFull) {
  WriteAt(Path("a"), 0, Random(1 << 20));
  for (const std::size_t depth : {1, 7, 64, 200, 300}) {
    settings_.depth = depth;
    const auto report = Copy();
    ASSERT_TRUE(report);
    EXPECT_EQ(report->most_in_flight, std::min<std::size_t>(depth, 256));
  }
}

TEST_P(CopyFileTest, KeepsHoles) {
  options_.verify = true;
  constexpr std::size_t kSize = 4 << 20;
  struct Case {
    const char* description;
    std::vector<std::size_t> data;  // where 64 KiB each are
  };
  for (const Case& test : {
           Case{"nothing but a hole", {}},
           Case{"a hole at the end", {0}},
           Case{"a hole at the beginning", {kSize - 65536}},
           Case{"holes between", {0, 1 << 20, 3 << 20, kSize - 65536}},
           Case{"data between", {1 << 20, 3 << 20}},
       }) {
    SCOPED_TRACE(test.description);
    fs::remove(Path("a"));
    WriteAt(Path("a"), 0, "");
    fs::resize_file(Path("a"), kSize);
    for (const std::size_t offset : test.data) {
      WriteAt(Path("a"), offset, Random(65536));
    }
    const auto report = Copy();
    ASSERT_TRUE(report) << report.error().why;
    EXPECT_TRUE(Contents(Path("b")) == Contents(Path("a")));
    EXPECT_EQ(report->bytes, kSize);

    const auto holes = [](const std::string& path) {
      std::vector<::off_t> edges;
      const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
      for (::off_t at = 0; at < static_cast<::off_t>(kSize);) {
        at = ::lseek(file, at, edges.size() % 2 == 0 ? SEEK_DATA : SEEK_HOLE);
        if (at < 0) break;
        edges.push_back(at);
      }
      ::close(file);
      return edges;
    };
    EXPECT_EQ(holes(Path("b")), holes(Path("a")));
    if (StatusOf(Path("a")).st_blocks * 512 < static_cast<::off_t>(kSize)) {
      EXPECT_EQ(report->holes, kSize - 65536 * test.data.size());
    }
  }
}

TEST_P(CopyFileTest, Grows) {
  options_.verify = true;
  for (const std::size_t size : {0, 1, 4096, 100'000}) {
    for (const std::size_t more : {1, 4096, 50'000}) {
      SCOPED_TRACE(std::to_string(size) + " and " + std::to_string(more));
      fs::remove(Path("a"));
      WriteAt(Path("a"), 0, Random(size));
      At(Moment::kEnd, 1, [&] { WriteAt(Path("a"), size, Random(more)); });
      ExpectSame();
      EXPECT_EQ(fs::file_size(Path("b")), size + more);
    }
  }
}

TEST_P(CopyFileTest, GrowsAgainAndAgain) {
  WriteAt(Path("a"), 0, "0");
  settings_.at = [this, length = std::size_t{1}](Moment moment) mutable {
    if (moment != Moment::kEnd || length > 50'000) return;
    WriteAt(Path("a"), length, Random(length));
    length *= 2;
  };
  ExpectSame();
}

TEST_P(CopyFileTest, GrowsByAHole) {
  WriteAt(Path("a"), 0, Random(10'000));
  At(Moment::kEnd, 1, [&] { fs::resize_file(Path("a"), 1 << 20); });
  ExpectSame();
  EXPECT_EQ(fs::file_size(Path("b")), 1u << 20);
}

TEST_P(CopyFileTest, GrowsWhileBlocksAreCopied) {
  WriteAt(Path("a"), 0, Random(100'000));
  At(Moment::kBlock, 3, [&] { WriteAt(Path("a"), 100'000, Random(50'000)); });
  ExpectSame();
}

TEST_P(CopyFileTest, Shrinks) {
  settings_.depth = 1;
  for (const std::string old : {"", "old data"}) {
    for (const std::size_t left : {0, 4096, 8192, 10'000, 99'999}) {
      SCOPED_TRACE(left);
      fs::remove(Path("b"));
      if (!old.empty()) WriteAt(Path("b"), 0, old);
      fs::remove(Path("a"));
      WriteAt(Path("a"), 0, Random(100'000));
      const Names before = NamesNow();
      At(Moment::kBlock, 2, [&] { fs::resize_file(Path("a"), left); });
      const auto report = Copy();
      ASSERT_FALSE(report);
      EXPECT_EQ(report.error().what, Path("a"));
      EXPECT_NE(report.error().why.find("truncated meanwhile"),
                std::string::npos)
          << report.error().why;
      EXPECT_EQ(NamesNow(), before);
      if (!old.empty()) {
        EXPECT_EQ(Contents(Path("b")), old);
      }
    }
  }
}

TEST_P(CopyFileTest, ShrinksWithManyBlocksInFlight) {
  settings_.depth = 64;
  WriteAt(Path("a"), 0, Random(1 << 20));
  At(Moment::kBlock, 70, [&] { fs::resize_file(Path("a"), 5); });
  EXPECT_FALSE(Copy());
  EXPECT_EQ(NamesNow(), Names{"a"});
  ExpectRingIsIdle();
}

TEST_P(CopyFileTest, ShrinksInAHole) {
  WriteAt(Path("a"), 0, Random(4096));
  fs::resize_file(Path("a"), 1 << 20);
  At(Moment::kEnd, 1, [&] { fs::resize_file(Path("a"), 5000); });
  ExpectFailure(Path("a"),
                "read: it ends after 5000 bytes, and had 1048576 when it was "
                "looked at: truncated meanwhile?");
  EXPECT_EQ(NamesNow(), Names{"a"});
}

// What truncating makes of a read, while the file is as before when it is
// looked at again. Between two turns of the ring nothing is read.
TEST_P(CopyFileTest, ShortReads) {
  settings_.depth = 1;
  settings_.block_size = 65536;
  const std::string data = Random(200'000);
  for (const std::size_t left : {65536, 65537, 100'000}) {
    SCOPED_TRACE(left);
    WriteAt(Path("a"), 0, data);
    int turns_until_restored = 0;
    At(Moment::kBlock, 2, [&] {
      fs::resize_file(Path("a"), left);
      turns_until_restored = 2;
    });
    settings_.progress = [&](const Progress&) {
      if (turns_until_restored > 0 && --turns_until_restored == 0) {
        WriteAt(Path("a"), 0, data);
      }
    };
    if (left == 65536) {
      ExpectFailure(Path("a"),
                    "read: it ends after 65536 bytes, and had 200000 when it "
                    "was looked at: truncated meanwhile?");
      EXPECT_EQ(NamesNow(), Names{"a"});
    } else {
      ExpectSame();
    }
  }
}

// The limit makes a write short, and is then raised before the rest of it.
TEST_P(CopyFileTest, ShortWrites) {
  settings_.depth = 1;
  settings_.block_size = 65536;
  WriteAt(Path("a"), 0, Random(200'000));
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  rlimit unlimited;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &unlimited), 0);
  const rlimit limited = {100'000, unlimited.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  int short_writes = 0;
  settings_.progress = [&](const Progress&) {
    const std::string path = TemporaryPath();
    if (path.empty() || fs::file_size(path) != 100'000) return;
    short_writes += 1;
    ::setrlimit(RLIMIT_FSIZE, &unlimited);
  };
  ExpectSame();
  ::setrlimit(RLIMIT_FSIZE, &unlimited);
  std::signal(SIGXFSZ, ignored);
  EXPECT_EQ(short_writes, 1);
}

TEST_P(CopyFileTest, SyncFails) {
  WriteAt(Path("a"), 0, "data");
  WriteAt(Path("b"), 0, "old data");
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  // A pipe in its place has nothing to sync.
  At(Moment::kSync, 1, [&] { ::dup2(pipe[0], TemporaryDescriptor()); });
  ExpectFailure(Path("b"), "fsync: Invalid argument");
  EXPECT_EQ(Contents(Path("b")), "old data");
  EXPECT_EQ(NamesNow(), (Names{"a", "b"}));
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_P(CopyFileTest, CloseFails) {
  WriteAt(Path("a"), 0, "data");
  WriteAt(Path("b"), 0, "old data");
  At(Moment::kClose, 1, [&] { ::close(TemporaryDescriptor()); });
  ExpectFailure(Path("b"), "close: Bad file descriptor");
  EXPECT_EQ(Contents(Path("b")), "old data");
  EXPECT_EQ(NamesNow(), (Names{"a", "b"}));
}

TEST_P(CopyFileTest, RenameFails) {
  WriteAt(Path("a"), 0, "data");
  At(Moment::kRename, 1, [&] { fs::create_directory(Path("b")); });
  ExpectFailure(Path("b"), "rename: Is a directory");
  EXPECT_EQ(NamesNow(), (Names{"a", "b"}));
}

TEST_P(CopyFileTest, NothingIsThereBeforeItIsComplete) {
  WriteAt(Path("a"), 0, Random(100'000));
  int moments = 0;
  settings_.at = [&](Moment) {
    ++moments;
    EXPECT_FALSE(fs::exists(Path("b")));
    if (moments == 1) {
      EXPECT_EQ(ModeOf(TemporaryPath()), 0600u);
    }
  };
  ExpectSame();
  EXPECT_GT(moments, 20);
}

TEST_P(CopyFileTest, VerifyFindsTheFirstDifference) {
  options_.verify = true;
  settings_.depth = 8;
  const std::string same = Random(100'000);
  const auto change = [&](std::size_t offset) {
    WriteAt(Path("a"), offset,
            std::string(1, static_cast<char>(~same[offset])));
  };
  for (const std::size_t offset : {0, 1, 4095, 4096, 50'000, 99'999}) {
    SCOPED_TRACE(offset);
    WriteAt(Path("a"), 0, same);
    At(Moment::kVerify, 1, [&] {
      change(offset);
      change(99'999);
      change(std::min<std::size_t>(offset + 4096, 99'999));
    });
    ExpectFailure(Path("b"), "differs from " + Path("a") + " at offset " +
                                 std::to_string(offset));
    EXPECT_EQ(NamesNow(), Names{"a"});
  }
}

TEST_P(CopyFileTest, VerifyFindsOtherSizes) {
  options_.verify = true;
  for (const std::size_t size : {0, 4096, 10'000, 16384}) {
    fs::remove(Path("a"));
    WriteAt(Path("a"), 0, Random(size));
    At(Moment::kVerify, 1, [&] { WriteAt(Path("a"), size, "x"); });
    ExpectFailure(Path("b"), "differs from " + Path("a") + " at offset " +
                                 std::to_string(size));
    if (size == 0) continue;
    fs::resize_file(Path("a"), size);
    At(Moment::kVerify, 1, [&] { fs::resize_file(Path("a"), size - 1); });
    ExpectFailure(Path("b"), "differs from " + Path("a") + " at offset " +
                                 std::to_string(size - 1));
  }
  EXPECT_EQ(NamesNow(), Names{"a"});
}

// At any time, with as many blocks in flight as possible, on the same ring.
TEST_P(CopyFileTest, CanBeStoppedAtAnyTime) {
  settings_.depth = 32;
  options_.verify = true;
  WriteAt(Path("a"), 0, Random(1 << 20));
  WriteAt(Path("b"), 0, "old data");
  bool completed = false;
  int turns = 1;
  for (; !completed; turns = turns < 20 ? turns + 1 : turns * 2) {
    ForgetCached(Path("a"));
    settings_.stopped = [left = turns]() mutable { return --left == 0; };
    const auto report = Copy();
    EXPECT_EQ(NamesNow(), (Names{"a", "b"}));
    if (report) {
      completed = true;
    } else {
      EXPECT_EQ(report.error().what, "stopped");
      EXPECT_EQ(Contents(Path("b")), "old data");
    }
    ExpectRingIsIdle();
  }
  EXPECT_GT(turns, 5);
  EXPECT_TRUE(Contents(Path("b")) == Contents(Path("a")));
}

// The ring goes before its operations are over.
TEST_P(CopyFileTest, StoppedWithTheRing) {
  settings_.depth = 64;
  WriteAt(Path("a"), 0, Random(1 << 20));
  for (int turns = 1; turns < 20; ++turns) {
    ForgetCached(Path("a"));
    settings_.stopped = [left = turns]() mutable { return --left == 0; };
    {
      auto ring = safe::Ring::Create();
      ASSERT_TRUE(ring);
      Session session(*ring, settings_);
      if (CopyFile(session, Path("a"), Path("b"), options_)) {
        fs::remove(Path("b"));
      }
    }
    EXPECT_EQ(NamesNow(), Names{"a"});
  }
}

TEST_P(CopyFileTest, ManyCopiesOnOneRing) {
  WriteAt(Path("a"), 0, Random(10'000));
  for (int i = 0; i < 20; ++i) {
    options_.raw = i % 2 == 0;
    ExpectSame();
  }
}

}  // namespace
}  // namespace escrow::examples
