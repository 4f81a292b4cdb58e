#ifndef ESCROW_SIM_WORKERS_H_
#define ESCROW_SIM_WORKERS_H_

#include <condition_variable>
#include <deque>

namespace escrow::sim {

class Kernel;
class Request;

// Threads that do what blocks (Op::Work), in the order in which it comes. Made
// when there is more to do than there are threads that have nothing to do, up
// to kMost; they stay. The kernel's lock guards all of it.
class Workers {
 public:
  static constexpr unsigned kMost = 16;

  explicit Workers(Kernel& kernel) noexcept : kernel_(kernel) {}
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Has Op::Work() called for `request`, then Kernel::Worked().
  void Start(Request& request);

 private:
  void Run();

  Kernel& kernel_;
  std::deque<Request*> queue_;
  std::condition_variable queued_;
  unsigned threads_ = 0;
  unsigned idle_ = 0;
};

// Starts a thread that runs for ever, and gets no signals; false if there
// cannot be one.
bool StartThread(void* (*run)(void*), void* argument) noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_WORKERS_H_
