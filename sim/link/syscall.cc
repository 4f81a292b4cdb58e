// What liburing's system calls are, in a program that is linked with it.

#include "escrow/sim/link/syscall.h"

#include <liburing/io_uring.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "escrow/sim/environment.h"
#include "escrow/sim/kernel.h"
#include "escrow/sim/report.h"

namespace sim = escrow::sim;

namespace {

// Before any constructor that may use a ring.
__attribute__((constructor(101))) void Begin() {
  sim::BeginAsEnvironmentSays();
}
__attribute__((destructor(101))) void End() { sim::EndOfProgram(); }

}  // namespace

extern "C" {

int escrow_sim_setup(unsigned entries, io_uring_params* params) {
  ESCROW_SIM_CALLED_HERE;
  return sim::SysSetup(entries, params);
}

int escrow_sim_enter(unsigned fd, unsigned to_submit, unsigned min_complete,
                     unsigned flags, const void* arg, std::size_t size) {
  ESCROW_SIM_CALLED_HERE;
  return sim::SysEnter(fd, to_submit, min_complete, flags, arg, size);
}

int escrow_sim_register(unsigned fd, unsigned opcode, const void* arg,
                        unsigned count) {
  ESCROW_SIM_CALLED_HERE;
  return sim::SysRegister(fd, opcode, const_cast<void*>(arg), count);
}

int escrow_sim_close(int fd) {
  if (!sim::IsRing(fd)) return escrow_or_error(::close(fd));
  ESCROW_SIM_CALLED_HERE;
  return sim::SysClose(fd);
}

void* escrow_sim_mmap(void* address, std::size_t length, int protection,
                      int flags, int fd, ::off_t offset) {
  void* mapped;
  if ((flags & MAP_ANONYMOUS) != 0 || !sim::IsRing(fd)) {
    mapped = ::mmap(address, length, protection, flags, fd, offset);
  } else {
    ESCROW_SIM_CALLED_HERE;
    mapped = sim::SysMap(address, length, protection, flags, fd, offset);
  }
  // NOLINTNEXTLINE(performance-no-int-to-ptr): as liburing wants it.
  return mapped != MAP_FAILED ? mapped : reinterpret_cast<void*>(-errno);
}

int escrow_sim_munmap(void* address, std::size_t length) {
  if (!sim::IsMapped(address))
    return escrow_or_error(::munmap(address, length));
  ESCROW_SIM_CALLED_HERE;
  return sim::SysUnmap(address, length);
}

}  // extern "C"
