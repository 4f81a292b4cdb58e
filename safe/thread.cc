#include "escrow/safe/thread.h"

#include <pthread.h>

#include <csignal>
#include <initializer_list>

namespace escrow::safe::internal {

int StartThread(pthread_t& thread, void* (*run)(void*),
                void* argument) noexcept {
  sigset_t signals;
  sigfillset(&signals);
  // What a thread causes by itself. Blocked, it ends the process.
  for (const int its :
       {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) {
    sigdelset(&signals, its);
  }
  // Inherited by the new thread.
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, &signals, &before);
  const int error = ::pthread_create(&thread, nullptr, run, argument);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error;
}

}  // namespace escrow::safe::internal
