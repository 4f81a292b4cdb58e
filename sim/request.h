#ifndef ESCROW_SIM_REQUEST_H_
#define ESCROW_SIM_REQUEST_H_

#include <liburing/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "escrow/sim/file.h"
#include "escrow/sim/ledger.h"
#include "escrow/sim/op.h"
#include "escrow/sim/report.h"

namespace escrow::sim {

class Ring;

// One request, from the time when its entry was consumed. Guarded, as all of
// the simulator is, by the kernel's lock.
class Request {
 public:
  enum class Stage : std::uint8_t {
    kLinked,     // behind another one of its chain, or drained
    kArmed,      // tried, and would have blocked; or put off
    kRunning,    // a worker has it, which nothing interrupts
    kNotifying,  // its result is posted, its notification not
    kDone,
  };

  Request(Ring& ring, const OpType& type, const io_uring_sqe* entry);
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  ~Request();

  // For ops.

  // A copy of the entry; all 128 bytes of it on a ring with wide ones.
  const io_uring_sqe& sqe() const noexcept {
    return *reinterpret_cast<const io_uring_sqe*>(entry_);
  }
  Ring& ring() const noexcept { return ring_; }
  // The file of sqe().fd, once it is issued: a descriptor of the simulator's
  // or of the program's, valid during Try() only.
  int fd() const noexcept { return file_.fd(); }
  const File& file() const noexcept { return file_; }

  // Keeps memory until the last completion (for zero-copy, the notification).
  void Hold(Use use, const void* data, std::size_t size, const char* what);

  // To be tried again when one of `events` (POLL*) is there for fd(), or for
  // another real descriptor, which has to stay open until then.
  void WaitFor(std::uint32_t events) noexcept { WaitFor(fd(), events); }
  void WaitFor(int fd, std::uint32_t events) noexcept;
  // To be tried again after `time` (of the ring's clock, ns) at the latest.
  void WaitUntil(std::int64_t time) noexcept { time_ = time; }
  std::optional<std::int64_t> wait_time() const noexcept { return time_; }
  // Events that have come since the last Try(), as edges; 0 at first.
  std::uint32_t TakeEvents() noexcept;

  // Posts a completion that others follow: IORING_CQE_F_MORE is added. False if
  // there was no room in the queue, so that the kernel ends the multishot (the
  // completion itself is kept back, not lost).
  bool Post(std::int32_t result, std::uint32_t flags);

  // The last completion, when Try() is done, is a result that a notification
  // follows; with `flags` IORING_CQE_F_MORE is set in it.
  void Notify() noexcept { notifies_ = true; }

  // How much of a transfer of `size` bytes is made in one go: less by choice,
  // but not nothing.
  std::size_t Shorten(std::size_t size);
  // Whether a multishot ends by choice after a completion.
  bool EndsByChoice();

  bool has_flag(unsigned flag) const noexcept {
    return (sqe().flags & flag) != 0;
  }

  // For the ring.

  Owner owner;
  Stage stage = Stage::kArmed;
  std::unique_ptr<Op> op;
  const OpType& type;
  // The rest of its chain, in order; owned by it until it is done.
  Request* next_link = nullptr;
  // That times it out, if any: armed together with it.
  Request* link_timeout = nullptr;
  Request* timed = nullptr;    // of a link timeout: what it times
  std::uint32_t sequence = 0;  // of its entry, for drains
  unsigned skipped = 0;        // how often it could have been tried
  bool broken = false;         // its chain, before it
  bool ready = true;           // to be tried
  bool notifies() const noexcept { return notifies_; }
  bool keeps_quiet() const noexcept {  // IOSQE_CQE_SKIP_SUCCESS
    return has_flag(IOSQE_CQE_SKIP_SUCCESS);
  }
  // Takes the file: 0, or -EBADF.
  int Resolve();
  // Has its own reference to the file, for it outlives the system call.
  void Keep();
  void OnEvents(std::uint32_t events) noexcept;
  void StopWaiting() noexcept;

 private:
  Ring& ring_;
  File file_;
  int watched_ = -1;  // in the ring's epoll instance: a duplicate
  std::uint32_t events_ = 0;
  std::optional<std::int64_t> time_;
  bool notifies_ = false;
  alignas(io_uring_sqe) std::byte entry_[128] = {};
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_REQUEST_H_
