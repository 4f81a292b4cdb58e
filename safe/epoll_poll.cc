#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <limits>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/raw/error.h"
#include "escrow/safe/poll.h"
#include "escrow/safe/result.h"

namespace escrow::safe {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

class EpollBackend final : public internal::PollBackend {
 public:
  explicit EpollBackend(ownership::Descriptor epoll) noexcept
      : epoll_(std::move(epoll)) {}

  Result<void> Register(int file, Token token, Interest interest) override {
    return Control(EPOLL_CTL_ADD, file, token, internal::BitsOf(interest));
  }
  Result<void> Reregister(int file, Token token, Interest interest) override {
    return Control(EPOLL_CTL_MOD, file, token, internal::BitsOf(interest));
  }
  Result<void> Deregister(int file) override {
    return Control(EPOLL_CTL_DEL, file, Token(), 0);
  }

  Result<void> Wait(Events& events, std::optional<nanoseconds> limit) override {
    events.clear();
    std::array<epoll_event, 128> room;
    const std::size_t count = std::min(events.capacity(), room.size());
    const int found =
        ::epoll_wait(epoll_.number(), room.data(), static_cast<int>(count),
                     MillisecondsOf(limit));
    if (found < 0) return std::unexpected(raw::LastError<"epoll_wait">());
    for (int i = 0; i < found; ++i) {
      const epoll_event& event = room[static_cast<std::size_t>(i)];
      events.Add({Token{event.data.u64}, event.events});
    }
    return {};
  }

  void End() override { ended_.store(true); }

 private:
  static int MillisecondsOf(std::optional<nanoseconds> limit) noexcept {
    if (!limit.has_value()) return -1;
    const auto rounded = std::chrono::ceil<milliseconds>(*limit).count();
    return static_cast<int>(std::clamp<milliseconds::rep>(
        rounded, 0, std::numeric_limits<int>::max()));
  }

  Result<void> Control(int operation, int file, Token token,
                       std::uint32_t bits) const {
    if (ended_.load()) {
      return std::unexpected(
          std::error_code(EOWNERDEAD, raw::CategoryOf<"epoll_ctl">()));
    }
    epoll_event event = {};
    event.events = bits | EPOLLET;
    event.data.u64 = static_cast<std::uint64_t>(token);
    if (::epoll_ctl(epoll_.number(), operation, file, &event) != 0) {
      return std::unexpected(raw::LastError<"epoll_ctl">());
    }
    return {};
  }

  ownership::Descriptor epoll_;
  std::atomic<bool> ended_ = false;
};

}  // namespace

Result<Poll> Poll::OnEpoll() {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return std::unexpected(raw::LastError<"epoll_create1">());
  return Poll(
      std::make_shared<EpollBackend>(ownership::Descriptor::Adopt(epoll)));
}

}  // namespace escrow::safe
