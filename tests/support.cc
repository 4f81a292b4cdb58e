#include "tests/support.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace escrow::testing {
namespace {

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::abort();
}

void InstallFilter(std::vector<sock_filter> filter) {
  sock_fprog program = {
      .len = static_cast<unsigned short>(filter.size()),
      .filter = filter.data(),
  };
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    Die("prctl");
  }
}

constexpr unsigned Errno(int error) {
  return SECCOMP_RET_ERRNO | static_cast<unsigned>(error);
}

sock_filter Load(std::size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset));
}

// Goes on if equal, else skips the next `otherwise` instructions.
sock_filter SkipUnless(unsigned value, unsigned char otherwise) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, otherwise);
}

sock_filter Return(unsigned action) {
  return BPF_STMT(BPF_RET | BPF_K, action);
}

void FailCall(unsigned call, int error) {
  InstallFilter({
      Load(offsetof(seccomp_data, nr)),
      SkipUnless(call, 1),
      Return(Errno(error)),
      Return(SECCOMP_RET_ALLOW),
  });
}

void FailCallWithSecondArgument(unsigned call, unsigned argument, int error) {
  InstallFilter({
      Load(offsetof(seccomp_data, nr)),
      SkipUnless(call, 3),
      Load(offsetof(seccomp_data, args[1])),
      SkipUnless(argument, 1),
      Return(Errno(error)),
      Return(SECCOMP_RET_ALLOW),
  });
}

}  // namespace

TemporaryFile::TemporaryFile(const std::string& content) {
  const char* directory = std::getenv("TEST_TMPDIR");
  path_ =
      std::string(directory != nullptr ? directory : "/tmp") + "/fileXXXXXX";
  const int fd = mkstemp(path_.data());
  if (fd < 0) Die("mkstemp");
  if (write(fd, content.data(), content.size()) !=
      static_cast<ssize_t>(content.size())) {
    Die("write");
  }
  close(fd);
}

TemporaryFile::~TemporaryFile() { unlink(path_.c_str()); }

int TemporaryFile::Open(int flags) const {
  const int fd = open(path_.c_str(), flags | O_CLOEXEC);
  if (fd < 0) Die("open");
  return fd;
}

std::string TemporaryFile::Content() const {
  const int fd = Open(O_RDONLY);
  std::string content(static_cast<std::size_t>(lseek(fd, 0, SEEK_END)), ' ');
  if (pread(fd, content.data(), content.size(), 0) !=
      static_cast<ssize_t>(content.size())) {
    Die("pread");
  }
  close(fd);
  return content;
}

Pipe::Pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) Die("pipe2");
  read_end = ends[0];
  write_end = ends[1];
}

int OpenDescriptors() {
  // A simulated kernel keeps its own from the middle of what there may be, or
  // 1024, up to the last quarter, in which its rings may be.
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) Die("getrlimit");
  const auto first_own = std::min<rlim_t>(limit.rlim_cur / 2, 1 << 10);
  const auto first_ring = std::min<rlim_t>(limit.rlim_cur, 1 << 17) / 4 * 3;
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) Die("opendir");
  int count = 0;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    const unsigned long number = std::strtoul(entry->d_name, nullptr, 10);
    if (number < first_own || number >= first_ring) ++count;
  }
  closedir(directory);
  return count - 1;  // but for the one that listed them
}

bool SignalsAreLeftToThisThread() {
  // Which does no harm to who does not block it, but is gone then.
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGURG);
  if (pthread_sigmask(SIG_BLOCK, &signals, &before) != 0) Die("sigmask");
  if (kill(getpid(), SIGURG) != 0) Die("kill");
  // Others have time to take it.
  usleep(50'000);
  const timespec none = {};
  const bool left = sigtimedwait(&signals, nullptr, &none) == SIGURG;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return left;
}

void MakeEnterFail(int error, int to_submit) {
  if (to_submit < 0) {
    FailCall(SYS_io_uring_enter, error);
  } else {
    FailCallWithSecondArgument(SYS_io_uring_enter,
                               static_cast<unsigned>(to_submit), error);
  }
}

void MakeSetupFail(int error) { FailCall(SYS_io_uring_setup, error); }

void MakeEventfdFail(int error) { FailCall(SYS_eventfd2, error); }

void MakeRegisterFail(int error, unsigned opcode) {
  FailCallWithSecondArgument(SYS_io_uring_register, opcode, error);
}

void ExpectChildSucceeds(const std::function<void()>& body) {
  EXPECT_EXIT(
      {
        body();
        _exit(::testing::Test::HasFailure() ? 1 : 0);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace escrow::testing
