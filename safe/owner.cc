#include "escrow/safe/owner.h"

#include <pthread.h>

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <mutex>
#include <utility>

namespace escrow::safe::internal {
namespace {

constexpr char kNoThread = 0;

std::atomic<std::uint32_t> fork_generation = 0;

}  // namespace

constinit thread_local const void* t_owner_thread = &kNoThread;

// Lives until its thread has ended and no Owner refers to it: an address stands
// for one thread only.
struct OwnerThread {
  // Recursive, for the end of a thread runs destructors that may end Owners.
  std::recursive_mutex mutex;
  boost::intrusive::list<Owner,
                         boost::intrusive::member_hook<
                             Owner, decltype(Owner::hook_), &Owner::hook_>,
                         boost::intrusive::constant_time_size<false>>
      owners;
  bool ended = false;
  std::atomic<std::uint32_t> references = 1;

  void Unreference() noexcept {
    if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  static OwnerThread* Current() noexcept {
    return t_owner_thread == &kNoThread
               ? nullptr
               : static_cast<OwnerThread*>(const_cast<void*>(t_owner_thread));
  }

  // A key of pthread_key_create(3), for its destructor: it runs later than
  // those of thread_local objects, and not in exit(3).
  static pthread_key_t Key() {
    static const pthread_key_t key = [] {
      pthread_key_t made;
      // Without one, ends are not noticed: what belongs to a thread then stays
      // that thread's.
      if (::pthread_key_create(&made, &End) != 0) made = ~pthread_key_t{0};
      ::pthread_atfork(nullptr, nullptr, &InChild);
      return made;
    }();
    return key;
  }

  static void End(void* ending) {
    auto& thread = *static_cast<OwnerThread*>(ending);
    {
      const std::lock_guard lock(thread.mutex);
      while (!thread.owners.empty()) {
        Owner& owner = thread.owners.front();
        thread.owners.pop_front();
        owner.on_thread_end_(owner.context_);
      }
      thread.ended = true;
    }
    t_owner_thread = &kNoThread;
    thread.Unreference();
  }

  // The thread that forked goes on as another one. Locks nothing: threads that
  // are not in this process may hold it.
  static void InChild() {
    fork_generation.fetch_add(1, std::memory_order_relaxed);
    OwnerThread* const thread = Current();
    if (thread == nullptr) return;
    t_owner_thread = &kNoThread;
    ::pthread_setspecific(Key(), nullptr);
    thread->Unreference();
  }
};

std::uint32_t ForkGeneration() noexcept {
  return fork_generation.load(std::memory_order_relaxed);
}

Owner::Owner(void (*on_thread_end)(void*), void* context)
    : on_thread_end_(on_thread_end),
      context_(context),
      // The handler of fork(2) comes first.
      generation_(((void)OwnerThread::Key(), ForkGeneration())) {}

void Owner::Claim() {
  Release();
  OwnerThread* thread = OwnerThread::Current();
  if (thread == nullptr) {
    thread = new OwnerThread;
    t_owner_thread = thread;
    ::pthread_setspecific(OwnerThread::Key(), thread);
  }
  const std::lock_guard lock(thread->mutex);
  thread->references.fetch_add(1, std::memory_order_relaxed);
  thread->owners.push_back(*this);
  thread_ = thread;
}

void Owner::Release() noexcept {
  OwnerThread* const thread = std::exchange(thread_, nullptr);
  if (thread == nullptr) return;
  {
    const std::lock_guard lock(thread->mutex);
    hook_.unlink();
  }
  thread->Unreference();
}

bool Owner::HasEnded() const {
  if (thread_ == nullptr) return false;
  const std::lock_guard lock(thread_->mutex);
  return thread_->ended;
}

}  // namespace escrow::safe::internal
