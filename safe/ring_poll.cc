#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/raw/error.h"
#include "escrow/safe/poll.h"
#include "escrow/safe/remote.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"
#include "escrow/safe/stream_ops.h"
#include "escrow/safe/time_left.h"

namespace escrow::safe {
namespace {

using std::chrono::nanoseconds;

// A coroutine that runs until it is destroyed, or has nothing more to do.
class Listening {
 public:
  struct promise_type {
    Listening get_return_object() noexcept {
      return Listening(
          std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };

  Listening(Listening&& other) noexcept
      : frame_(std::exchange(other.frame_, nullptr)) {}
  ~Listening() {
    if (frame_) frame_.destroy();
  }

 private:
  explicit Listening(std::coroutine_handle<> frame) noexcept : frame_(frame) {}

  std::coroutine_handle<> frame_;
};

// What is registered is in a table that any thread may change. The thread of
// the ring polls what the table says, and puts what has happened into it.
class RingBackend final : public internal::PollBackend {
 public:
  explicit RingBackend(Ring ring)
      : ring_(std::move(ring)), owner_(std::this_thread::get_id()) {}

  Result<void> Connect() {
    auto remote = ring_->CreateRemote();
    if (!remote) return std::unexpected(remote.error());
    remote_ = std::move(*remote);
    return {};
  }

  Result<void> Register(int file, Token token, Interest interest) override {
    if (const int error = WhyNot(file)) return Failure(error);
    {
      const std::lock_guard lock(mutex_);
      if (!remote_) return Failure(EOWNERDEAD);
      const Entry entry = {token, interest, ++serial_};
      if (!entries_.try_emplace(file, entry).second) return Failure(EEXIST);
    }
    return Changed(file);
  }

  Result<void> Reregister(int file, Token token, Interest interest) override {
    if (const int error = WhyNot(file)) return Failure(error);
    {
      const std::lock_guard lock(mutex_);
      if (!remote_) return Failure(EOWNERDEAD);
      const auto entry = entries_.find(file);
      if (entry == entries_.end()) return Failure(ENOENT);
      entry->second = {token, interest, ++serial_};
    }
    return Changed(file);
  }

  Result<void> Deregister(int file) override {
    if (::fcntl(file, F_GETFD) < 0) return Failure(errno);
    {
      const std::lock_guard lock(mutex_);
      if (!remote_) return Failure(EOWNERDEAD);
      if (entries_.erase(file) == 0) return Failure(ENOENT);
    }
    auto changed = Changed(file);
    // The file is not to be kept open any longer.
    if (changed && owner_ == std::this_thread::get_id()) {
      (void)ring_->Dispatch(nanoseconds(0));
    }
    return changed;
  }

  Result<void> Wait(Events& events, std::optional<nanoseconds> limit) override {
    events.clear();
    PollAgain();
    const internal::TimeLeft time_left(limit);
    // Apart from the wait, which would not tell of a signal then.
    if (const auto submitted = ring_->Submit(); !submitted) {
      return std::unexpected(submitted.error());
    }
    for (;;) {
      std::optional<nanoseconds> left = time_left.Get();
      const bool last = left == nanoseconds(0);
      if (AnyHappened()) left = nanoseconds(0);
      const auto dispatched = ring_->Dispatch(left);
      if (!dispatched) return std::unexpected(dispatched.error());
      TakeHappened(events);
      if (!events.empty() || last) return {};
      if (ring_->interrupted()) return Failure(EINTR);
    }
  }

  void End() override {
    // A Remote's last use waits for nobody, and work that it has posted, with
    // the ring, is destroyed.
    std::optional<Remote> remote;
    {
      const std::lock_guard lock(mutex_);
      remote.swap(remote_);
    }
    remote.reset();
    listening_.clear();
    ring_.reset();
  }

 private:
  struct Entry {
    Token token;
    Interest interest;
    std::uint64_t serial;  // another one for each (re)registration
    std::uint32_t happened = 0;
    bool listed = false;
  };

  // A registration.
  struct Registered {
    int file;
    std::uint64_t serial;
  };

  // In the thread of the ring.
  struct Listener {
    std::uint64_t serial;
    Listening listening;
  };

  static std::unexpected<std::error_code> Failure(int error) {
    return std::unexpected(std::error_code(error, raw::CategoryOf<"poll">()));
  }

  // What epoll_ctl(2) would say.
  static int WhyNot(int file) noexcept {
    struct stat status = {};
    if (::fstat(file, &status) != 0) return errno;
    if (S_ISSOCK(status.st_mode) || S_ISFIFO(status.st_mode)) return 0;
    if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) return EPERM;
    // Of devices, nobody else knows.
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) return errno;
    const auto asked = ownership::Descriptor::Adopt(epoll);
    epoll_event none = {};
    return ::epoll_ctl(epoll, EPOLL_CTL_ADD, file, &none) == 0 ? 0 : errno;
  }

  // Has the thread of the ring do what the table says of `file`.
  Result<void> Changed(int file) {
    if (owner_ == std::this_thread::get_id()) {
      Apply(file);
      return {};
    }
    const std::lock_guard lock(mutex_);
    if (!remote_) return Failure(EOWNERDEAD);
    auto posted = remote_->Post([this, file] { Apply(file); });
    if (!posted) entries_.erase(file);
    return posted;
  }

  void Apply(int file) {
    std::optional<Entry> entry;
    {
      const std::lock_guard lock(mutex_);
      const auto found = entries_.find(file);
      if (found != entries_.end()) entry = found->second;
    }
    const auto listener = listening_.find(file);
    if (listener != listening_.end()) {
      if (entry && entry->serial == listener->second.serial) return;
      listening_.erase(listener);
    }
    if (!entry) return;
    std::uint32_t bits = internal::BitsOf(entry->interest);
    // Linux (6.18) leaves EPOLLPRI out of what it compares a socket's wake-up
    // with, in which this is, too.
    if ((bits & EPOLLPRI) != 0) bits |= EPOLLRDBAND;
    auto stream = ring_->Start(PollMany{
        .file = ownership::Descriptor::Permanent(file), .events = bits});
    listening_.emplace(
        file, Listener{entry->serial,
                       Listen(std::move(stream), file, entry->serial, bits)});
  }

  Listening Listen(Stream<std::size_t> stream, int file, std::uint64_t serial,
                   std::uint32_t all_bits) {
    while (auto item = co_await stream.Next()) {
      if (*item) {
        Happened(file, serial, static_cast<std::uint32_t>(**item));
        continue;
      }
      // The kernel lacked memory, so anything may happen unseen until the next
      // Wait(): the program has to look.
      Happened(file, serial, all_bits);
      unpolled_.push_back({file, serial});
    }
  }

  void PollAgain() {
    for (const auto& [file, serial] : std::exchange(unpolled_, {})) {
      const auto listener = listening_.find(file);
      if (listener == listening_.end() || listener->second.serial != serial) {
        continue;
      }
      listening_.erase(listener);
      Apply(file);
    }
  }

  void Happened(int file, std::uint64_t serial, std::uint32_t bits) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(file);
    if (found == entries_.end() || found->second.serial != serial) return;
    Entry& entry = found->second;
    entry.happened |= bits;
    if (!entry.listed) {
      entry.listed = true;
      happened_.push_back({file, serial});
    }
  }

  bool AnyHappened() {
    const std::lock_guard lock(mutex_);
    return !happened_.empty();
  }

  void TakeHappened(Events& events) {
    const std::lock_guard lock(mutex_);
    while (!happened_.empty() && events.size() < events.capacity()) {
      const auto [file, serial] = happened_.front();
      happened_.pop_front();
      const auto found = entries_.find(file);
      if (found == entries_.end() || found->second.serial != serial) continue;
      Entry& entry = found->second;
      entry.listed = false;
      events.Add({entry.token, std::exchange(entry.happened, 0)});
    }
  }

  std::optional<Ring> ring_;  // until the end
  const std::thread::id owner_;
  std::unordered_map<int, Listener> listening_;
  std::vector<Registered> unpolled_;  // whose listeners have ended

  std::mutex mutex_;
  std::optional<Remote> remote_;  // until the end
  std::unordered_map<int, Entry> entries_;
  std::uint64_t serial_ = 0;
  std::deque<Registered> happened_;  // whose entries are `listed`, or gone
};

}  // namespace

Result<Poll> Poll::OnRing() {
  auto ring = Ring::Create();
  if (!ring) return std::unexpected(ring.error());
  auto backend = std::make_shared<RingBackend>(std::move(*ring));
  if (const auto connected = backend->Connect(); !connected) {
    return std::unexpected(connected.error());
  }
  return Poll(std::move(backend));
}

}  // namespace escrow::safe
