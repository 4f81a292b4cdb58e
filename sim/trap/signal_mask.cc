// A thread with SIGSYS blocked would end the process at its first system call
// that is caught: nobody can block it.

#include <pthread.h>
#include <sys/syscall.h>

#include <cerrno>
#include <csignal>
#include <cstddef>

#include "escrow/sim/real_call.h"

extern "C" {
// NOLINTNEXTLINE(bugprone-reserved-identifier): what there is of it.
__attribute__((weak)) void __msan_unpoison(const volatile void* data,
                                           std::size_t size);
}

namespace {

int SetMask(int how, const sigset_t* set, sigset_t* old) noexcept {
  sigset_t without;
  if (set != nullptr && how != SIG_UNBLOCK) {
    without = *set;
    sigdelset(&without, SIGSYS);
    // The C library's own, for cancelling threads and setting their users.
    without.__val[0] &= ~(3UL << 31);
    set = &without;
  }
  constexpr std::size_t kSize = _NSIG / 8;
  const long result = escrow::sim::RealCall(
      SYS_rt_sigprocmask, how, reinterpret_cast<long>(set),
      reinterpret_cast<long>(old), static_cast<long>(kSize));
  if (old != nullptr && __msan_unpoison != nullptr) {
    __msan_unpoison(old, sizeof(*old));
  }
  return static_cast<int>(-result);
}

}  // namespace

extern "C" {

int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) {
  return SetMask(how, set, old);
}

int sigprocmask(int how, const sigset_t* set, sigset_t* old) {
  const int error = SetMask(how, set, old);
  if (error == 0) return 0;
  errno = error;
  return -1;
}

}  // extern "C"
