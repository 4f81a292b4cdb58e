#ifndef ESCROW_SIM_KERNEL_STATE_H_
#define ESCROW_SIM_KERNEL_STATE_H_

#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "escrow/sim/background.h"
#include "escrow/sim/kernel.h"
#include "escrow/sim/poller.h"
#include "escrow/sim/report.h"
#include "escrow/sim/ring.h"
#include "escrow/sim/workers.h"

namespace escrow::sim {

// All rings of the process, and what they share.
class Kernel {
 public:
  // Never destroyed: threads may be inside to the very end.
  static Kernel& Get() noexcept;

  // Held by whoever is inside, but while it blocks.
  std::mutex& mutex() noexcept { return mutex_; }

  Poller& poller() noexcept { return poller_; }
  Background& background() noexcept { return *background_; }
  // For what ends, or for what may not.
  Workers& workers(bool endless) noexcept {
    return endless ? *endless_workers_ : *workers_;
  }

  Options& options() noexcept { return options_; }
  void Reset(Options options);

  void NumberRingsFrom(int first) noexcept { first_ring_ = first; }
  int first_ring() const noexcept { return first_ring_; }

  void Add(std::shared_ptr<Ring> ring);
  // The ring of a descriptor of the program's; null if it is none. The ring may
  // go while the lock is released.
  std::shared_ptr<Ring> Find(int fd) noexcept;
  // By index, of those that the calling thread has registered.
  std::shared_ptr<Ring> FindRegistered(unsigned index) noexcept;
  int RegisterRingFds(void* argument, unsigned count);
  int UnregisterRingFds(void* argument, unsigned count);
  // Of IORING_SETUP_REGISTERED_FD_ONLY: an index, or -errno.
  int RegisterRing(const std::shared_ptr<Ring>& ring);
  void Close(std::shared_ptr<Ring> ring);
  // The number that a ring is known by is closed: it lives on by any other
  // descriptor that the program has of it.
  void CloseNumber(const std::shared_ptr<Ring>& ring);
  std::shared_ptr<Ring> FindMapped(const void* address) noexcept;

  // When a request uses memory. A program that keeps account of that itself,
  // and asks when memory is freed, has handlers of forks for it by now, and
  // those must come after this one's: frees happen in here, too.
  void UseMemory() noexcept;

  // When the calling thread is inside: so that it is known when it ends.
  void WatchThread() noexcept;

  // For a ring on which something was posted: for those that poll it.
  void Posted(const Ring& ring) noexcept;

  // Lets the requests of closed rings go on, or end.
  void ProgressClosed();
  // Moves everything on that no thread in a call does, for the background. In
  // how long there is more to do, in ns, if nothing happens before.
  std::optional<std::int64_t> ProgressUnattended();
  // Op::Work() was called.
  void Worked(Request& request);

  // A ring is closed: a request on it uses memory; nobody will see a result.
  void Left(const Owner& owner);
  void Lost(const Given& given);
  // Reports what is left over at the end, if anything.
  void CheckEnd();

  // Virtual time, as an offset to the real clocks'.
  std::int64_t Now(clockid_t clock) const noexcept;
  bool virtual_clock() const noexcept {
    return options_.clock == Clock::kVirtual;
  }
  void AdvanceTo(std::int64_t now, clockid_t clock) noexcept;

  // Counts what a program asked for in vain, and returns -EINVAL.
  int Unsupported(const char* what, unsigned value) noexcept;
  void PrintUnsupported() noexcept;

 private:
  struct Registered {
    long thread;
    std::shared_ptr<Ring> rings[16];
  };
  struct Asked {
    const char* what;
    unsigned value;
    std::uint64_t times;
  };

  Kernel();

  void MakeThreads();
  // Another descriptor of a ring that the program has; -1 if there is none.
  int FindDuplicate(const Ring& ring) const noexcept;
  // Closes what lives on by a duplicate that was closed where nobody saw it;
  // with `any`, also what has its own number, which takes a system call each.
  void CloseForgotten(bool any);
  void OnEndOfThread(const void* value) noexcept;
  // fork(3) waits for whoever is inside. The last ones who ask for that are the
  // first that it waits for.
  void HandleForks() noexcept;
  // In a child process.
  void Forget() noexcept;
  Registered& OfThread();

  std::mutex mutex_;
  Poller poller_;
  std::unique_ptr<Background> background_;
  std::unique_ptr<Workers> workers_;
  std::unique_ptr<Workers> endless_workers_;
  Options options_;
  std::vector<std::shared_ptr<Ring>> rings_;
  std::vector<std::shared_ptr<Ring>> closed_;
  std::vector<std::unique_ptr<Registered>> registered_;
  std::vector<Asked> unsupported_;
  std::optional<Owner> left_;
  std::vector<Given> lost_;
  ::pthread_key_t end_of_thread_ = {};
  bool uses_memory_ = false;
  int first_ring_ = 0;
  std::int64_t passed_ = 0;  // of virtual time, ns
};

long ThreadId() noexcept;

// The sizes that `params` asks for, with its flags, of a queue of `entries`, as
// the kernel rounds them: 0 or -EINVAL.
int ChooseSizes(unsigned entries, io_uring_params& params) noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_KERNEL_STATE_H_
