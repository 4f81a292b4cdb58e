#include "escrow/sim/workers.h"

#include <pthread.h>

#include <csignal>
#include <mutex>

#include "escrow/sim/kernel_state.h"
#include "escrow/sim/ledger.h"
#include "escrow/sim/op.h"
#include "escrow/sim/request.h"

namespace escrow::sim {

bool StartThread(void* (*run)(void*), void* argument) noexcept {
  // They are the program's.
  sigset_t all;
  sigset_t outer;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &outer);
  ::pthread_t thread;
  const bool started = ::pthread_create(&thread, nullptr, run, argument) == 0;
  ::pthread_sigmask(SIG_SETMASK, &outer, nullptr);
  if (!started) return false;
  (void)::pthread_setname_np(thread, "escrow-io");
  (void)::pthread_detach(thread);
  return true;
}

void Workers::Start(Request& request) {
  queue_.push_back(&request);
  if (queue_.size() > idle_ && threads_ < kMost) {
    const auto run = [](void* workers) -> void* {
      static_cast<Workers*>(workers)->Run();
      return nullptr;
    };
    if (StartThread(run, this)) ++threads_;
  }
  if (threads_ > 0) {
    queued_.notify_one();
    return;
  }
  // Rather late than never.
  queue_.pop_back();
  request.op->Work(request);
  request.working = false;
  request.worked = true;
  request.Retry();
}

void Workers::Run() {
  const Inside inside;
  std::unique_lock<std::mutex> lock(kernel_.mutex());
  for (;;) {
    while (queue_.empty()) {
      ++idle_;
      queued_.wait(lock);
      --idle_;
    }
    Request& request = *queue_.front();
    queue_.pop_front();
    lock.unlock();
    request.op->Work(request);
    lock.lock();
    kernel_.Worked(request);
  }
}

}  // namespace escrow::sim
