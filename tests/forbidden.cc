// Whatever this is linked with finds io_uring forbidden, as in a container,
// from before main() on: with the error that ESCROW_FORBIDDEN is.

#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "tests/forbid_io_uring.h"

namespace {

__attribute__((constructor(102))) void Forbid() {
  if (!escrow::testing::ForbidIoUring(ESCROW_FORBIDDEN)) {
    std::perror("forbidden");
    ::_exit(2);
  }
}

}  // namespace
