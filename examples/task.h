#ifndef ESCROW_EXAMPLES_TASK_H_
#define ESCROW_EXAMPLES_TASK_H_

#include <coroutine>
#include <exception>
#include <utility>

// The smallest coroutine type that is of use with a ring: it runs until it
// awaits an operation, goes on in the ring's Dispatch(), and is over when
// done() says so.
//
//   Task Copy(safe::Ring& ring, ...) { ... co_await ring.Read(...); ... }
//   Task task = Copy(ring, ...);
//   while (!task.done()) ring.Dispatch();

namespace escrow::examples {

// Owns the coroutine's frame. Destroying it half-way is fine, and the way to
// give up: the operation that it awaits is cancelled, and what that operation
// owns stays with the ring until the kernel is done with it.
class [[nodiscard]] Task {
 public:
  struct promise_type {
    Task get_return_object() noexcept {
      return Task(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };

  Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    Task taken(std::move(other));
    std::swap(frame_, taken.frame_);
    return *this;
  }
  ~Task() {
    if (frame_) frame_.destroy();
  }

  bool done() const noexcept { return frame_.done(); }

 private:
  explicit Task(std::coroutine_handle<> frame) noexcept : frame_(frame) {}

  std::coroutine_handle<> frame_;
};

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_TASK_H_
