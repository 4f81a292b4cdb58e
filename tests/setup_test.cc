// Runs ./setup on machines that do not exist: its PATH is a folder of stubs
// that answer for the machine and keep a log of what was asked of them.

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace escrow {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr int kIoUringSetup = 425;

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// From here on, io_uring_setup(2) fails with `error` in this process and those
// it becomes.
bool ForbidIoUring(int error) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kIoUringSetup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K,
               SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = std::size(code), .filter = code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

bool Redirect(int descriptor, const std::string& path, int flags) {
  const int file = open(path.c_str(), flags, 0600);
  return file >= 0 && dup2(file, descriptor) == descriptor;
}

struct Outcome {
  int status = -1;  // the exit status, or 128 and the signal
  std::string out;
  std::string err;

  std::string All() const {
    return "status " + std::to_string(status) + "\nstdout:\n" + out +
           "stderr:\n" + err;
  }
};

class SetupTest : public testing::Test {
 protected:
  static constexpr int kCannotFilter = 99;

  // A machine on which nothing is left to do, used by root.
  SetupTest() {
    std::string folder = testing::TempDir() + "/setup_test.XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) std::abort();
    root_ = folder;
    std::filesystem::create_directories(root_ / "bin");
    std::filesystem::create_directories(root_ / "proc/sys/kernel");
    for (const char* tool : {"env", "tail", "true"}) {
      std::filesystem::create_symlink(std::string("/usr/bin/") + tool,
                                      root_ / "bin" / tool);
    }

    Stub("id", "echo 0");
    Stub("uname", "echo 6.1.0-13-amd64");
    Stub("perl", "printf ok");
    // What the script reads with cat is all below /proc.
    Stub("cat", R"sh(
      [ -e "$ROOT$1" ] || exit 1
      while read -r line; do echo "$line"; done <"$ROOT$1")sh");
    // `missing` and `removed` are lists of packages; the latter have left
    // configuration files behind.
    Stub("dpkg-query", R"sh(
      status=0
      for argument in "$@"; do
        case $argument in --*) continue ;; esac
        case " $(cat /missing) " in *" $argument "*) status=1; continue ;; esac
        case " $(cat /removed) " in
          *" $argument "*) printf ' config-files:%s ' "$argument" ;;
          *) printf ' installed:%s ' "$argument" ;;
        esac
      done
      exit $status)sh");
    Stub("apt-get", R"sh(
      echo "frontend=${DEBIAN_FRONTEND-} as_root=${AS_ROOT-} apt-get $*" \
        >>"$ROOT/log"
      if read -r line; then echo "apt-get reads $line" >>"$ROOT/log"; fi)sh");
    Stub("apt-cache", R"sh(
      [ "$1" = policy ] || exit 100
      shift
      for package in "$@"; do
        case " $(cat /unknown) " in *" $package "*) continue ;; esac
        candidate=1.0
        case " $(cat /virtual) " in
          *" $package "*) candidate='(none)' ;;
        esac
        echo "$package:"
        echo "  Installed: (none)"
        echo "  Candidate: $candidate"
        echo "  Version table:"
        echo "     1.0 500"
      done)sh");
    for (const char* list : {"missing", "removed", "unknown", "virtual"}) {
      Write(list, "");
    }
  }

  ~SetupTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  // Makes `name` a command that runs `body`, in which $ROOT is the folder
  // Write() writes to.
  void Stub(const std::string& name, std::string_view body) {
    std::filesystem::remove(root_ / "bin" / name);
    Write("bin/" + name,
          "#!/bin/sh\nROOT=" + root_.string() + "\n" + std::string(body));
    std::filesystem::permissions(root_ / "bin" / name,
                                 std::filesystem::perms::owner_all);
  }

  void Remove(const std::string& name) {
    std::filesystem::remove(root_ / "bin" / name);
  }

  void UseReal(const std::string& name) {
    Remove(name);
    std::filesystem::create_symlink("/usr/bin/" + name, root_ / "bin" / name);
  }

  void Write(const std::string& name, const std::string& content) {
    std::ofstream(root_ / name) << content << "\n";
  }

  // A user who is not root, whom sudo lets do anything. As the real one, it
  // passes hardly any of the environment on.
  void BecomeUserWithSudo() {
    Stub("id", R"sh([ "$1" = -u ] && echo 1000)sh");
    Stub("sudo", R"sh(
      [ "$1" = -n ] || exit 1
      shift
      exec env -i PATH="$PATH" AS_ROOT=yes "$@")sh");
  }

  // `io_uring_error`: what io_uring_setup(2) is made to fail with; 0 leaves it
  // alone.
  Outcome Run(const std::vector<std::string>& environment = {},
              int io_uring_error = 0) {
    // A test runs in the root of its workspace's runfiles.
    const std::string script = std::filesystem::canonical("setup");
    const std::string out = root_ / "out";
    const std::string err = root_ / "err";
    const std::string in = root_ / "in";
    Write("in", "a line of standard input");
    std::vector<std::string> variables = environment;
    variables.push_back("PATH=" + (root_ / "bin").string());
    std::vector<char*> envp;
    envp.reserve(variables.size() + 1);
    for (std::string& variable : variables) envp.push_back(variable.data());
    envp.push_back(nullptr);
    const char* const argv[] = {script.c_str(), nullptr};

    const pid_t child = fork();
    if (child == 0) {
      if (!Redirect(0, in, O_RDONLY) ||
          !Redirect(1, out, O_WRONLY | O_CREAT | O_TRUNC) ||
          !Redirect(2, err, O_WRONLY | O_CREAT | O_TRUNC)) {
        _exit(98);
      }
      if (io_uring_error != 0 && !ForbidIoUring(io_uring_error)) {
        _exit(kCannotFilter);
      }
      execve(argv[0], const_cast<char**>(argv), envp.data());
      _exit(97);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return {.status = WIFEXITED(status) ? WEXITSTATUS(status)
                                        : 128 + WTERMSIG(status),
            .out = ReadFile(out),
            .err = ReadFile(err)};
  }

  // The lines that stubs have written to $ROOT/log.
  std::vector<std::string> Log() const {
    return Lines(ReadFile(root_ / "log"));
  }

 private:
  std::filesystem::path root_;
};

TEST_F(SetupTest, DoesNothingWhenThereIsNothingToDo) {
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 0) << outcome.All();
  EXPECT_EQ(outcome.out, "setup: nothing to install; io_uring works\n");
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(Log(), IsEmpty());
}

TEST_F(SetupTest, InstallsWhatIsMissingAndSaysWhy) {
  Write("missing", "llvm-19 g++ clang-19");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 0) << outcome.All();
  EXPECT_EQ(outcome.out,
            "setup: installing\n"
            "  g++: the compiler, the build, and libraries it uses\n"
            "  clang-19 llvm-19: the second compiler, sanitizers, fuzzing\n"
            "setup: done; io_uring works\n");
  EXPECT_EQ(outcome.err, "");
  const std::vector<std::string> log = Log();
  ASSERT_EQ(log.size(), 2u) << testing::PrintToString(log);
  EXPECT_THAT(log[0], AllOf(StartsWith("frontend=noninteractive "),
                            HasSubstr(" -o APT::Update::Error-Mode=any "),
                            EndsWith(" update")));
  EXPECT_THAT(
      log[1],
      AllOf(StartsWith("frontend=noninteractive "), HasSubstr(" --yes "),
            HasSubstr(" --no-install-recommends "), HasSubstr(" --no-remove "),
            HasSubstr(" -o Dpkg::Options::=--force-confdef "),
            HasSubstr(" -o Dpkg::Options::=--force-confold "),
            EndsWith(" install g++ clang-19 llvm-19")));
}

TEST_F(SetupTest, InstallsEverythingOnABareMachine) {
  const std::string everything =
      "bazel-bootstrap g++ libboost-dev googletest ca-certificates "
      "debian-archive-keyring xz-utils clang-19 libclang-rt-19-dev lld-19 "
      "llvm-19 "
      "valgrind apache2-utils relacy-dev git clang-format clang-tidy-19 "
      "python3";
  Write("missing", everything);
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 0) << outcome.All();
  const std::vector<std::string> log = Log();
  ASSERT_EQ(log.size(), 2u) << testing::PrintToString(log);
  EXPECT_THAT(log[1], EndsWith(" install " + everything));
}

TEST_F(SetupTest, InstallsAPackageThatWasRemovedButNotPurged) {
  Write("removed", "valgrind");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 0) << outcome.All();
  const std::vector<std::string> log = Log();
  ASSERT_EQ(log.size(), 2u) << testing::PrintToString(log);
  EXPECT_THAT(log[1], EndsWith(" install valgrind"));
}

TEST_F(SetupTest, ReportsAFailedInstallation) {
  Write("missing", "g++");
  Stub("apt-get", R"sh(
    case "$*" in *install*) echo "dpkg is broken" >&2; exit 100 ;; esac)sh");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("dpkg is broken"),
                                 HasSubstr("setup: apt-get install failed"),
                                 HasSubstr("apt-get --fix-broken install")));
  EXPECT_THAT(outcome.out, Not(HasSubstr("done")));
}

TEST_F(SetupTest, ListsWhatToInstallByHandWhereThereIsNoApt) {
  for (const char* tool : {"apt-get", "dpkg-query"}) {
    SCOPED_TRACE(tool);
    Remove(tool);
    const Outcome outcome = Run();
    EXPECT_EQ(outcome.status, 1) << outcome.All();
    EXPECT_THAT(
        outcome.err,
        AllOf(StartsWith("setup: this is no Debian system"),
              HasSubstr("Debian 12 or newer"),
              ContainsRegex("bazel-bootstrap .* clang-tidy-19 python3")));
    EXPECT_EQ(outcome.out, "");
    Stub(tool, "true");
  }
}

TEST_F(SetupTest, ShowsTheEndOfAFailedUpdate) {
  Write("missing", "g++");
  Stub("apt-get", R"sh(
    echo "apt-get $*" >>"$ROOT/log"
    for i in 1 2 3 4 5 6 7 8; do echo "Ign:$i" >&2; done
    echo "E: Failed to fetch" >&2
    exit 100)sh");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(outcome.err,
              AllOf(StartsWith("Ign:2\n"), HasSubstr("E: Failed to fetch\n"),
                    HasSubstr("setup: apt-get update failed"),
                    HasSubstr("Check the network")));
  EXPECT_EQ(Log().size(), 1u);
}

TEST_F(SetupTest, NamesPackagesWithoutCandidate) {
  Write("missing", "g++ clang-19 llvm-19 valgrind");
  Write("unknown", "clang-19");
  Write("virtual", "llvm-19");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(
      outcome.err,
      AllOf(
          StartsWith(
              "setup: apt's sources have no candidate for: clang-19 llvm-19\n"),
          HasSubstr("Nothing was installed"),
          HasSubstr("apt-get install --no-install-recommends g++ valgrind\n")));
  EXPECT_EQ(Log().size(), 1u);
}

TEST_F(SetupTest, OffersNoEmptyInstallation) {
  Write("missing", "clang-19");
  Write("unknown", "clang-19");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(outcome.err, Not(HasSubstr("apt-get install")));
}

TEST_F(SetupTest, UserWithoutSudoIsToldWhatToRun) {
  Write("missing", "g++ valgrind");
  BecomeUserWithSudo();
  Remove("sudo");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(
      outcome.err,
      AllOf(
          StartsWith("setup: installing needs root, and there is no sudo"),
          ContainsRegex("su -c '/.*/setup'"),
          HasSubstr("apt-get install --no-install-recommends g++ valgrind'")));
  EXPECT_THAT(Log(), IsEmpty());
}

TEST_F(SetupTest, UserInstallsThroughSudo) {
  Write("missing", "g++");
  BecomeUserWithSudo();
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 0) << outcome.All();
  const std::vector<std::string> log = Log();
  ASSERT_EQ(log.size(), 2u) << testing::PrintToString(log);
  EXPECT_THAT(log[0],
              AllOf(StartsWith("frontend=noninteractive as_root=yes apt-get "),
                    EndsWith(" update")));
  EXPECT_THAT(log[1],
              AllOf(StartsWith("frontend=noninteractive as_root=yes apt-get "),
                    EndsWith(" install g++")));
}

TEST_F(SetupTest, UserWhoseSudoWantsAPasswordIsToldWhatToRun) {
  Write("missing", "g++");
  BecomeUserWithSudo();
  Stub("sudo", R"sh([ "$1" = -n ] && exit 1; read -r password)sh");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("sudo wants a password"),
                                 ContainsRegex("  sudo /.*/setup\n")));
  EXPECT_THAT(Log(), IsEmpty());
}

TEST_F(SetupTest, UserNeedsNoSudoWhenThereIsNothingToDo) {
  BecomeUserWithSudo();
  Remove("sudo");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 0) << outcome.All();
  EXPECT_EQ(outcome.err, "");
}

// root may be allowed what the user is not.
TEST_F(SetupTest, TriesIoUringAsTheUserWhoCalledSudo) {
  Stub("setpriv", R"sh(
    echo "setpriv $1 $2 $3" >>"$ROOT/log"
    shift 3
    AS_CALLER=yes exec "$@")sh");
  Stub("perl",
       R"sh([ "${AS_CALLER-}" = yes ] && printf ok || printf "EPERM no")sh");
  EXPECT_EQ(Run({"SUDO_UID=1000", "SUDO_GID=1001"}).status, 0);
  EXPECT_THAT(Log(), testing::ElementsAre(
                         "setpriv --reuid=1000 --regid=1001 --init-groups"));
}

TEST_F(SetupTest, WarnsOfOldKernels) {
  for (const char* release :
       {"5.1", "5.10.0-28-amd64", "6.0.12", "4.19.0-rc1"}) {
    SCOPED_TRACE(release);
    Stub("uname", std::string("echo ") + release);
    const Outcome outcome = Run();
    EXPECT_EQ(outcome.status, 0) << outcome.All();
    EXPECT_THAT(outcome.err, AllOf(StartsWith("setup: warning: Linux " +
                                              std::string(release) +
                                              " is older than Debian 12's 6.1"),
                                   HasSubstr("5.19")));
  }
  for (const char* release :
       {"6.1.0-13-amd64", "6.1-rc1", "6.12+deb13", "7.0", "10.0.1", "custom"}) {
    SCOPED_TRACE(release);
    Stub("uname", std::string("echo ") + release);
    const Outcome outcome = Run();
    EXPECT_EQ(outcome.status, 0) << outcome.All();
    EXPECT_EQ(outcome.err, "");
  }
}

TEST_F(SetupTest, ExplainsMissingIoUring) {
  Stub("perl", "printf 'ENOSYS Function not implemented'");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(
      outcome.err,
      AllOf(StartsWith("setup: there is no io_uring (ENOSYS)"),
            HasSubstr("6.1.0-13-amd64"), HasSubstr("5.1"),
            HasSubstr("CONFIG_IO_URING"), HasSubstr("seccomp=unconfined")));
  EXPECT_EQ(outcome.out, "");
}

TEST_F(SetupTest, ExplainsIoUringForAGroupOnly) {
  Stub("perl", "printf 'EPERM Operation not permitted'");
  Write("proc/sys/kernel/io_uring_disabled", "1");
  Write("proc/sys/kernel/io_uring_group", "4711");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("kernel.io_uring_disabled is 1"),
                    HasSubstr("CAP_SYS_ADMIN"),
                    HasSubstr("kernel.io_uring_group (now 4711)"),
                    HasSubstr("  sysctl -w kernel.io_uring_group="),
                    HasSubstr("  sysctl -w kernel.io_uring_disabled=0\n"),
                    Not(HasSubstr("seccomp"))));
}

TEST_F(SetupTest, ExplainsIoUringForNobody) {
  Stub("perl", "printf 'EPERM Operation not permitted'");
  Write("proc/sys/kernel/io_uring_disabled", "2");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(
      outcome.err,
      AllOf(HasSubstr("kernel.io_uring_disabled is 2"),
            HasSubstr("  sysctl -w kernel.io_uring_disabled=0\n"),
            Not(HasSubstr("io_uring_group")), Not(HasSubstr("seccomp"))));
}

TEST_F(SetupTest, ExplainsIoUringBehindSeccomp) {
  Stub("perl", "printf 'EPERM Operation not permitted'");
  const auto is_about_seccomp =
      AllOf(HasSubstr("seccomp filter"),
            HasSubstr("  docker run --security-opt seccomp=unconfined\n"),
            HasSubstr("  podman run --security-opt seccomp=unconfined\n"),
            Not(HasSubstr("sysctl -w")));
  const Outcome without_sysctl = Run();
  EXPECT_EQ(without_sysctl.status, 1) << without_sysctl.All();
  EXPECT_THAT(without_sysctl.err, is_about_seccomp);

  Write("proc/sys/kernel/io_uring_disabled", "0");
  const Outcome with_sysctl = Run();
  EXPECT_EQ(with_sysctl.status, 1) << with_sysctl.All();
  EXPECT_THAT(with_sysctl.err, is_about_seccomp);
}

TEST_F(SetupTest, ExplainsTheLimitOnLockedMemory) {
  Stub("perl", "printf 'ENOMEM Cannot allocate memory'");
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
  const std::string kibibytes = limit.rlim_cur == RLIM_INFINITY
                                    ? "unlimited"
                                    : std::to_string(limit.rlim_cur / 1024);
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(
      outcome.err,
      AllOf(HasSubstr("RLIMIT_MEMLOCK (ulimit -l, in KiB) is " + kibibytes),
            HasSubstr("ulimit -l unlimited"),
            HasSubstr("/etc/security/limits.d/"),
            HasSubstr("--ulimit memlock=-1:-1")));
}

TEST_F(SetupTest, PassesOtherErrorsOn) {
  Stub("perl", "printf 'other Too many open files'");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(
      outcome.err,
      StartsWith("setup: io_uring_setup(2) failed: Too many open files.\n"));
}

TEST_F(SetupTest, NeedsPerl) {
  Remove("perl");
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 1) << outcome.All();
  EXPECT_THAT(outcome.err, HasSubstr("perl (package perl-base)"));
}

// The stubs of perl above stand for what perl really prints.
TEST_F(SetupTest, SeesWhatIoUringSetupReturns) {
  if (access("/usr/bin/perl", X_OK) != 0) GTEST_SKIP() << "no perl";
  UseReal("perl");
  const struct {
    int error;
    const char* message;
  } cases[] = {
      {ENOSYS, "setup: there is no io_uring (ENOSYS)"},
      {EPERM, "setup: io_uring is forbidden (EPERM)"},
      {ENOMEM, "setup: there is no memory for a ring (ENOMEM)"},
      {EMFILE, "setup: io_uring_setup(2) failed: Too many open files."},
  };
  for (const auto& [error, message] : cases) {
    SCOPED_TRACE(message);
    const Outcome outcome = Run({}, error);
    if (outcome.status == kCannotFilter) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(outcome.status, 1) << outcome.All();
    EXPECT_THAT(outcome.err, StartsWith(message));
  }

  char parameters[120] = {};
  const long ring = syscall(kIoUringSetup, 1, parameters);
  if (ring < 0) GTEST_SKIP() << "no io_uring here";
  close(static_cast<int>(ring));
  const Outcome outcome = Run();
  EXPECT_EQ(outcome.status, 0) << outcome.All();
  EXPECT_THAT(outcome.out, EndsWith("io_uring works\n"));
}

}  // namespace
}  // namespace escrow
