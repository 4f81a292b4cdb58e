#ifndef ESCROW_SIM_POLLER_H_
#define ESCROW_SIM_POLLER_H_

#include <csignal>
#include <cstdint>
#include <mutex>
#include <optional>

namespace escrow::sim {

// Learns what happens to real descriptors, for the requests of all rings. One
// thread at a time polls; others wait for what it finds. The kernel's lock
// guards all of it.
class Poller {
 public:
  Poller() noexcept;
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  // The epoll instance, whose data are Requests.
  int fd() const noexcept { return epoll_; }

  // Tells the requests for which something has happened.
  void TakeEvents() noexcept;

  // Releases `mutex` until something has happened, to whichever ring, or
  // `limit` (ns) has passed. 0, or -EINTR.
  int Wait(std::mutex& mutex, std::optional<std::int64_t> limit,
           const sigset_t* mask);

  // Has all who wait look again.
  void Wake() noexcept;

  // For a thread that polls when no other does. Whether one does; and the same
  // as Wait(), but without making it known that somebody polls.
  bool polled() const noexcept { return polling_; }
  void WaitInBackground(std::mutex& mutex, std::optional<std::int64_t> limit);

  // In a child process, whose events are not the parent's.
  void Renew() noexcept;

 private:
  int epoll_ = -1;
  int wake_ = -1;
  unsigned waiting_ = 0;
  bool polling_ = false;
  bool background_ = false;
  std::uint32_t rounds_ = 0;  // a futex word
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_POLLER_H_
