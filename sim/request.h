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
  };

  // Copies the entry of `bytes` bytes.
  Request(Ring& ring, const io_uring_sqe* entry, std::size_t bytes,
          std::uint32_t sequence);
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
  // To be tried again at `time` (of the ring's clock, ns) at the latest.
  void WaitUntil(std::int64_t time) noexcept;
  std::optional<std::int64_t> wait_time() const noexcept { return time_; }
  // Events that have come since the last call, as edges; 0 at first.
  std::uint32_t TakeEvents() noexcept;

  // To be tried again soon, because of something that happened elsewhere.
  void Retry() noexcept;

  // Posts a completion that others follow: IORING_CQE_F_MORE is added. False,
  // with nothing posted, if there is no room in the queue: the kernel then
  // makes it the last one of the multishot, which is kept back until there is.
  bool Post(std::int32_t result, std::uint32_t flags);

  // A notification follows whatever it is completed with, in which
  // IORING_CQE_F_MORE is set: unless its chain is cancelled before it is
  // issued, when one may come that is not announced.
  void Notify(std::int32_t result) noexcept {
    notifies_ = true;
    notification_ = result;
  }
  bool notifies() const noexcept { return notifies_; }
  std::int32_t notification() const noexcept { return notification_; }

  // How much of a transfer of `size` bytes is made in one go: less by choice,
  // but not nothing.
  std::size_t Shorten(std::size_t size);
  // Whether a multishot ends by choice with a completion, which then is not to
  // be posted as one that others follow.
  bool EndsByChoice();

  bool has_flag(unsigned flag) const noexcept {
    return (sqe().flags & flag) != 0;
  }

  // Whether what may block is to be left to Op::Work(); and that it may do so
  // without an end, so that what does not must not wait for it.
  bool has_workers() const noexcept;
  void WorkMayNotEnd() noexcept { endless = true; }

  // For the ring.

  // When it is consumed: 0, or why it is refused.
  int Prepare();
  // Takes the file when it is issued: 0, or -EBADF.
  int Resolve();
  // Has its own reference to the file, for it outlives the system call.
  void Keep();
  // Has the epoll instance tell of what it waits for.
  void Watch(int epoll);
  bool waits_for_file() const noexcept { return wait_fd_ >= 0; }
  // Whether that tells of events.
  bool watches() const noexcept { return watched_.valid(); }
  void OnEvents(std::uint32_t events) noexcept;
  void StopWaiting() noexcept;

  Owner owner;
  const OpType& type;
  std::unique_ptr<Op> op;
  // The rest of its chain, in order, which ends with it unless it is taken out.
  Request* next_link = nullptr;
  // That times it out, if any; and of a link timeout, what it times.
  Request* link_timeout = nullptr;
  Request* timed = nullptr;
  const Ring* polled = nullptr;  // whose completions it waits for
  long thread = 0;               // that has submitted it; 0: the ring's own
  int refused = 0;               // when it was consumed: -errno
  std::int32_t cancelled = 0;    // to be completed with: -errno
  std::uint32_t sequence = 0;    // of its entry
  unsigned skipped = 0;          // how often it could have been tried, in a row
  unsigned slipped = 0;          // how often a cancellation missed it
  Stage stage = Stage::kLinked;
  bool ready = true;             // to be tried
  bool seen = false;             // in this round
  bool interrupted = false;      // a cancellation said EALREADY
  bool asked_for_error = false;  // a choice
  bool counts = false;           // completions, of which each may end it
  bool orphaned = false;         // its thread has ended
  bool working = false;          // Op::Work() is called, or will be
  bool worked = false;           // it has been, since the last attempt
  bool endless = false;          // it may not end

 private:
  Ring& ring_;
  File file_;
  std::shared_ptr<const void> registered_;  // the file, if it is that
  int wait_fd_ = -1;
  std::uint32_t wait_events_ = 0;
  // In an epoll instance: a duplicate, for it has one entry for a descriptor.
  File watched_;
  int watched_fd_ = -1;
  std::uint32_t watched_events_ = 0;
  int epoll_ = -1;
  std::uint32_t events_ = 0;
  std::optional<std::int64_t> time_;
  bool notifies_ = false;
  std::int32_t notification_ = 0;
  alignas(io_uring_sqe) std::byte entry_[128] = {};
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_REQUEST_H_
