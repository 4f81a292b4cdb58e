// What liburing's system calls are, in a program that is linked with the
// fallback.

#include "escrow/sim/fallback/syscall.h"

#include <liburing/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "escrow/sim/fallback.h"
#include "escrow/sim/kernel.h"
#include "escrow/sim/ledger.h"
#include "escrow/sim/report.h"

// What there is of these depends on the program.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
__attribute__((weak)) void* __asan_region_is_poisoned(void* data,
                                                      std::size_t size);
// NOLINTEND(bugprone-reserved-identifier)
}

namespace sim = escrow::sim;

namespace escrow::sim {
namespace {

Fallback FromEnvironment() noexcept {
  const char* const value = std::getenv("ESCROW_FALLBACK");
  if (value == nullptr || *value == '\0') return Fallback::kWhereForbidden;
  if (std::strcmp(value, "always") == 0) return Fallback::kAlways;
  if (std::strcmp(value, "never") == 0) return Fallback::kNever;
  std::fprintf(stderr,
               "escrow: ESCROW_FALLBACK is neither \"always\" nor \"never\": "
               "%s\n",
               value);
  ::_exit(1);
}

std::atomic<Fallback>& Policy() noexcept {
  static std::atomic<Fallback> policy = FromEnvironment();
  return policy;
}

std::atomic<FallbackUse> last_use = FallbackUse();
static_assert(std::atomic<FallbackUse>::is_always_lock_free);

// Whether there ever was an emulated ring.
std::atomic<bool> emulates = false;

void BeginEmulation() noexcept {
  static std::once_flag begun;
  std::call_once(begun, [] {
    if (__asan_region_is_poisoned == nullptr) {
      KeepNothing();
      Stack::TakeNone();
    }
    Options options;
    options.threads = true;
    Reset(std::move(options));
    emulates.store(true, std::memory_order_release);
  });
}

bool Emulates() noexcept { return emulates.load(std::memory_order_acquire); }

// What is answered where there is no io_uring, or for a descriptor which is no
// ring. (EBADF is for a number which is none; an emulated ring's is one.)
bool MayBeEmulated(int error) noexcept {
  switch (error) {
    case -EPERM:
    case -EACCES:
    case -ENOSYS:
    case -EOPNOTSUPP:
      return Emulates();
    default:
      return false;
  }
}

bool IsForbidden(int error) noexcept {
  return error == -EPERM || error == -EACCES || error == -ENOSYS;
}

}  // namespace

void SetFallback(Fallback policy) noexcept { Policy().store(policy); }
Fallback GetFallback() noexcept { return Policy().load(); }
FallbackUse LastFallbackUse() noexcept { return last_use.load(); }
bool IsEmulated(int ring_fd) noexcept { return Emulates() && IsRing(ring_fd); }

}  // namespace escrow::sim

extern "C" {

int escrow_fallback_setup(unsigned entries, io_uring_params* params) {
  ESCROW_SIM_CALLED_HERE;
  const sim::Fallback policy = sim::GetFallback();
  int error = 0;
  if (policy != sim::Fallback::kAlways) {
    const int result = escrow_or_error(
        static_cast<int>(::syscall(SYS_io_uring_setup, entries, params)));
    const bool emulate =
        policy == sim::Fallback::kWhereForbidden && sim::IsForbidden(result);
    error = result < 0 ? -result : 0;
    if (!emulate) {
      sim::last_use.store({.emulated = false, .error = error});
      return result;
    }
  }
  sim::BeginEmulation();
  sim::last_use.store({.emulated = true, .error = error});
  return sim::SysSetup(entries, params);
}

int escrow_fallback_enter(unsigned fd, unsigned to_submit,
                          unsigned min_complete, std::uint64_t error_and_flags,
                          const void* arg, std::size_t size) {
  const auto flags = static_cast<unsigned>(error_and_flags);
  const auto error = static_cast<int>(error_and_flags >> 32);
  // Indices are the kernel's.
  if (!sim::MayBeEmulated(error) ||
      (flags & IORING_ENTER_REGISTERED_RING) != 0) {
    return error;
  }
  ESCROW_SIM_CALLED_HERE;
  const int result =
      sim::SysEnter(fd, to_submit, min_complete, flags, arg, size);
  // Of what is no ring of either kind, the kernel's answer.
  return result == -EOPNOTSUPP ? error : result;
}

int escrow_fallback_register(unsigned fd, unsigned opcode, const void* arg,
                             unsigned count, int error) {
  if (!sim::MayBeEmulated(error) ||
      (opcode & IORING_REGISTER_USE_REGISTERED_RING) != 0 ||
      !sim::IsRing(static_cast<int>(fd))) {
    return error;
  }
  ESCROW_SIM_CALLED_HERE;
  return sim::SysRegister(fd, opcode, const_cast<void*>(arg), count);
}

int escrow_fallback_close(int fd) {
  if (!sim::IsEmulated(fd)) return escrow_or_error(::close(fd));
  ESCROW_SIM_CALLED_HERE;
  return sim::SysClose(fd);
}

void* escrow_fallback_mmap(void* address, std::size_t length, int protection,
                           int flags, int fd, ::off_t offset) {
  void* mapped;
  if ((flags & MAP_ANONYMOUS) != 0 || !sim::IsEmulated(fd)) {
    mapped = ::mmap(address, length, protection, flags, fd, offset);
  } else {
    ESCROW_SIM_CALLED_HERE;
    mapped = sim::SysMap(address, length, protection, flags, fd, offset);
  }
  // NOLINTNEXTLINE(performance-no-int-to-ptr): as liburing wants it.
  return mapped != MAP_FAILED ? mapped : reinterpret_cast<void*>(-errno);
}

int escrow_fallback_munmap(void* address, std::size_t length) {
  if (!sim::Emulates() || !sim::IsMapped(address)) {
    return escrow_or_error(::munmap(address, length));
  }
  ESCROW_SIM_CALLED_HERE;
  return sim::SysUnmap(address, length);
}

}  // extern "C"
