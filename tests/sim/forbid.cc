// usage: forbid [--error=EPERM|ENOSYS] PROGRAM ARGUMENTS...
//
// Runs a program where io_uring is forbidden, as in a container.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

int main(int count, char** arguments) {
  unsigned error = EPERM;
  if (count > 1 && std::strncmp(arguments[1], "--error=", 8) == 0) {
    if (std::strcmp(arguments[1] + 8, "ENOSYS") == 0) error = ENOSYS;
    ++arguments;
    --count;
  }
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {std::size(code), code};
  if (count < 2 || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    std::perror("forbid");
    return 2;
  }
  ::execv(arguments[1], arguments + 1);
  std::perror(arguments[1]);
  return 2;
}
