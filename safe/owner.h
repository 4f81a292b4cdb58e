#ifndef ESCROW_SAFE_OWNER_H_
#define ESCROW_SAFE_OWNER_H_

#include <boost/intrusive/link_mode.hpp>
#include <boost/intrusive/list_hook.hpp>
#include <cstdint>

// Which thread something belongs to, in which process, and whether that thread
// is still there.

namespace escrow::safe::internal {

// Is another one in a child that fork(2) made, or anything that runs the
// handlers of pthread_atfork(3), once the process has had an Owner.
std::uint32_t ForkGeneration() noexcept;

// A thread that owns something.
struct OwnerThread;

// The calling thread's OwnerThread or, for one that never owned anything or is
// at its very end, a common address. Trivial, so that asking is a load.
extern constinit thread_local const void* t_owner_thread;

// Not thread-safe but where it says so.
class Owner {
 public:
  // Nobody's. `on_thread_end` is called with `context` when the owner's thread
  // ends, in that thread, after the destructors of its thread_local objects.
  // Not when the process exits.
  Owner(void (*on_thread_end)(void* context), void* context);
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
  ~Owner() { Release(); }

  // Makes it the calling thread's. Both wait while the end of the thread that
  // it belonged to is being handled.
  void Claim();
  // Makes it nobody's.
  void Release() noexcept;

  // Whether it is the calling thread's. Never in a child process.
  bool IsCurrent() const noexcept { return thread_ == t_owner_thread; }

  // What IsCurrent() compares to t_owner_thread. Null for nobody.
  const void* identity() const noexcept { return thread_; }

  // Whether the thread that it belongs to has ended. Waits as Claim() does.
  bool HasEnded() const;

  // Whether this process is a child of the one that made this.
  bool inherited() const noexcept { return generation_ != ForkGeneration(); }

 private:
  friend struct OwnerThread;

  void (*const on_thread_end_)(void* context);
  void* const context_;
  const std::uint32_t generation_;
  OwnerThread* thread_ = nullptr;
  boost::intrusive::list_member_hook<
      boost::intrusive::link_mode<boost::intrusive::auto_unlink>>
      hook_;  // under the mutex of thread_
};

}  // namespace escrow::safe::internal

#endif  // ESCROW_SAFE_OWNER_H_
