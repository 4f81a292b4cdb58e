#ifndef ESCROW_SAFE_POLL_H_
#define ESCROW_SAFE_POLL_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/result.h"

// Readiness of many files, for programs that read and write by themselves:
//
//   auto poll = safe::Poll::OnRing();
//   safe::Source listener(std::move(socket));
//   listener.Register(poll->registry(), safe::Token{0}, Interest::kReadable);
//   safe::Events events(/*capacity=*/128);
//   while (poll->Wait(events)) {
//     for (const safe::Event& event : events) {
//       if (event.token() == safe::Token{0}) ... accept until EAGAIN
//     }
//   }
//
// Edge-triggered: an event says that something has happened since the file was
// registered, or since the last event, so read and write until EAGAIN. It may
// say so without need, and more than once after the end of a file.
//
// It is the same on a ring (multishot poll) and on epoll(7). A ring is told of
// all that was registered by the next wait, and at once only where that has
// begun.

namespace escrow::safe {

// What a program tells registered files by: an index, mostly.
enum class Token : std::uint64_t {};

// What to be told of; at least one.
enum class Interest : std::uint8_t {
  kReadable = 1,
  kWritable = 2,
  kPriority = 4,  // out-of-band data, changes of a file in /proc
};
constexpr Interest operator|(Interest a, Interest b) noexcept {
  return static_cast<Interest>(static_cast<unsigned>(a) |
                               static_cast<unsigned>(b));
}
constexpr bool Includes(Interest all, Interest some) noexcept {
  return (static_cast<unsigned>(all) & static_cast<unsigned>(some)) ==
         static_cast<unsigned>(some);
}
// `from` without `what`; nothing, if nothing is left.
constexpr std::optional<Interest> Without(Interest from,
                                          Interest what) noexcept {
  const unsigned left =
      static_cast<unsigned>(from) & ~static_cast<unsigned>(what);
  if (left == 0) return std::nullopt;
  return static_cast<Interest>(left);
}

// What has happened to one file. All may be said without need.
class Event {
 public:
  Event(Token token, std::uint32_t bits) noexcept
      : token_(token), bits_(bits) {}

  Token token() const noexcept { return token_; }
  bool is_readable() const noexcept;
  bool is_writable() const noexcept;
  bool is_priority() const noexcept;
  bool is_error() const noexcept;
  // The other side writes no more, or this side has been shut down for reading:
  // what is there can still be read.
  bool is_read_closed() const noexcept;
  // Writing makes no sense any more.
  bool is_write_closed() const noexcept;

  std::uint32_t bits() const noexcept { return bits_; }  // EPOLL*

 private:
  Token token_;
  std::uint32_t bits_;
};

// What Poll::Wait() fills, again and again.
class Events {
 public:
  explicit Events(std::size_t capacity) : capacity_(capacity) {
    ESCROW_CHECK(capacity > 0, "Events without room for one");
    events_.reserve(capacity);
  }

  std::size_t capacity() const noexcept { return capacity_; }
  std::size_t size() const noexcept { return events_.size(); }
  bool empty() const noexcept { return events_.empty(); }
  auto begin() const noexcept { return events_.begin(); }
  auto end() const noexcept { return events_.end(); }
  void clear() noexcept { events_.clear(); }

  // For Poll. Requires size() < capacity().
  void Add(const Event& event) { events_.push_back(event); }

 private:
  std::size_t capacity_;
  std::vector<Event> events_;
};

namespace internal {

// EPOLL* to ask for, which poll(2) has the same values for.
std::uint32_t BitsOf(Interest interest) noexcept;

// What a Poll and its Registries share, on whatever it is.
class PollBackend {
 public:
  PollBackend() = default;
  PollBackend(const PollBackend&) = delete;
  PollBackend& operator=(const PollBackend&) = delete;
  virtual ~PollBackend() = default;

  // For any thread, at any time.
  virtual Result<void> Register(int file, Token token, Interest interest) = 0;
  virtual Result<void> Reregister(int file, Token token, Interest interest) = 0;
  virtual Result<void> Deregister(int file) = 0;

  // For the thread of the Poll.
  virtual Result<void> Wait(Events& events,
                            std::optional<std::chrono::nanoseconds> limit) = 0;
  // The Poll ends; the others may be called still.
  virtual void End() = 0;
};

}  // namespace internal

// Where files are registered with a Poll. Copyable; may be used by several
// threads at once, also while the Poll waits, which sees it at once. May
// outlive its Poll: everything fails then, with owner_dead.
//
// A registered file has to be deregistered before it is closed, or, as a Source
// is, both at once: a ring keeps what it polls open. Deregistering is done when
// the call returns as far as events are concerned: no Wait() that begins
// after that returns one of it. What a ring keeps open is closed when it
// returns, too, in the thread of the Poll, and else when that next waits.
class Registry {
 public:
  // Has Wait() tell `token` when what `interest` says happens, or has happened,
  // to `file`, a descriptor. Errors: file_exists (EEXIST) if it is registered,
  // operation_not_permitted for regular files, directories and devices that
  // are always ready, bad_file_descriptor; those of epoll_ctl(2), and of
  // epoll_create1(2) for devices.
  Result<void> Register(int file, Token token, Interest interest) const {
    return backend().Register(file, token, interest);
  }
  // Has it told something else from here on; and again if it has happened
  // already. no_such_file_or_directory (ENOENT) if it is not registered.
  Result<void> Reregister(int file, Token token, Interest interest) const {
    return backend().Reregister(file, token, interest);
  }
  // no_such_file_or_directory (ENOENT) if it is not registered.
  Result<void> Deregister(int file) const { return backend().Deregister(file); }

  // For Poll.
  explicit Registry(std::shared_ptr<internal::PollBackend> backend) noexcept
      : backend_(std::move(backend)) {}

 private:
  internal::PollBackend& backend() const noexcept {
    ESCROW_CHECK(backend_ != nullptr, "use of a Registry that was moved from");
    return *backend_;
  }

  std::shared_ptr<internal::PollBackend> backend_;
};

// Waits for what happens to the files in its Registry. Movable. One on a ring
// belongs to the thread that made it; one on epoll to one thread at a time.
class Poll {
 public:
  // Errors: those of Ring::Create() and CreateRemote().
  static Result<Poll> OnRing();
  // Errors: those of epoll_create1(2).
  static Result<Poll> OnEpoll();

  Poll(Poll&&) noexcept = default;
  Poll& operator=(Poll&& other) noexcept {
    Poll taken(std::move(other));
    std::swap(registry_, taken.registry_);
    std::swap(backend_, taken.backend_);
    return *this;
  }
  ~Poll() {
    if (backend_ != nullptr) backend_->End();
  }

  // To be copied for other threads.
  const Registry& registry() const noexcept { return registry_; }

  // Replaces what is in `events` by what has happened, to no more files than
  // there is room for; the others come with the next calls. Blocks until there
  // is something or `limit`, rounded up to what the system can measure, has
  // passed, which shows by no events. No limit: for ever; 0: not at all.
  //
  // Errors: interrupted (EINTR) when a signal handler has run, or, on epoll,
  // when a ring of this thread had something to do; those of epoll_wait(2) or
  // io_uring_enter(2).
  Result<void> Wait(Events& events,
                    std::optional<std::chrono::nanoseconds> limit = {}) {
    ESCROW_CHECK(backend_ != nullptr, "use of a Poll that was moved from");
    return backend_->Wait(events, limit);
  }

 private:
  explicit Poll(std::shared_ptr<internal::PollBackend> backend) noexcept
      : registry_(backend), backend_(std::move(backend)) {}

  Registry registry_;
  std::shared_ptr<internal::PollBackend> backend_;  // null when moved from
};

// A file that is registered no longer than it is open. Movable. To be used by
// one thread at a time.
class Source {
 public:
  explicit Source(ownership::Descriptor file) noexcept
      : file_(std::move(file)) {}
  Source(Source&& other) noexcept
      : file_(std::move(other.file_)),
        registry_(std::exchange(other.registry_, std::nullopt)) {}
  Source& operator=(Source&& other) noexcept {
    Source taken(std::move(other));
    std::swap(file_, taken.file_);
    std::swap(registry_, taken.registry_);
    return *this;
  }
  ~Source() {
    if (registry_) (void)registry_->Deregister(file_.number());
  }

  const ownership::Descriptor& file() const noexcept { return file_; }

  // As those of Registry. With one Registry at a time: file_exists, if it is
  // registered with another one.
  Result<void> Register(const Registry& registry, Token token,
                        Interest interest);
  Result<void> Reregister(Token token, Interest interest);
  Result<void> Deregister();

 private:
  ownership::Descriptor file_;
  std::optional<Registry> registry_;
};

// Wakes a Poll from other threads, by an event with a token of its own, while
// it is there. One is enough for each Poll.
class Waker {
 public:
  // Errors: those of eventfd(2) and Registry::Register().
  static Result<Waker> Create(const Registry& registry, Token token);

  // For any thread. A Poll that is not waiting is told when it next does; once,
  // however often it was woken until then. Errors: those of write(2).
  Result<void> Wake() const;

 private:
  explicit Waker(Source event) noexcept : event_(std::move(event)) {}

  Source event_;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_POLL_H_
