// usage: forbid [--error=EPERM|ENOSYS] PROGRAM ARGUMENTS...
//
// Runs a program where io_uring is forbidden, as in a container.

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "tests/forbid_io_uring.h"

int main(int count, char** arguments) {
  unsigned error = EPERM;
  if (count > 1 && std::strncmp(arguments[1], "--error=", 8) == 0) {
    if (std::strcmp(arguments[1] + 8, "ENOSYS") == 0) error = ENOSYS;
    ++arguments;
    --count;
  }
  if (count < 2 || !escrow::testing::ForbidIoUring(error)) {
    std::perror("forbid");
    return 2;
  }
  ::execv(arguments[1], arguments + 1);
  std::perror(arguments[1]);
  return 2;
}
