#include "escrow/sim/poller.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <optional>

#include "escrow/sim/file.h"
#include "escrow/sim/real_call.h"
#include "escrow/sim/request.h"

namespace escrow::sim {
namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;

}  // namespace

Poller::Poller() noexcept { Renew(); }

void Poller::Renew() noexcept {
  for (const int fd : {epoll_, wake_}) {
    if (fd >= 0) RealCall(SYS_close, fd);
  }
  epoll_ = File::Adopt(::epoll_create1(EPOLL_CLOEXEC)).Release();
  wake_ = File::Adopt(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)).Release();
  epoll_event event = {.events = EPOLLIN, .data = {.ptr = nullptr}};
  (void)::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event);
  waiting_ = 0;
  polling_ = false;
  background_ = false;
}

void Poller::TakeEvents() noexcept {
  constexpr int kMost = 64;
  epoll_event events[kMost];
  int count;
  do {
    count = ::epoll_wait(epoll_, events, kMost, 0);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.ptr != nullptr) {
        static_cast<Request*>(events[i].data.ptr)->OnEvents(events[i].events);
        continue;
      }
      // Whom it wakes must still find it.
      if (polling_ || background_) continue;
      std::uint64_t ignored;
      // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): it does
      // not.
      (void)!::read(wake_, &ignored, sizeof(ignored));
    }
  } while (count == kMost);
}

int Poller::Wait(std::mutex& mutex, std::optional<std::int64_t> limit,
                 const sigset_t* mask) {
  timespec time = {};
  if (limit.has_value()) {
    time = {.tv_sec = *limit / kNanoseconds, .tv_nsec = *limit % kNanoseconds};
  }
  const timespec* const timeout = limit.has_value() ? &time : nullptr;
  const std::uint32_t round = rounds_;
  const bool polls = !polling_;
  polling_ = true;
  ++waiting_;
  mutex.unlock();
  long result;
  if (polls) {
    pollfd polled = {.fd = epoll_, .events = POLLIN, .revents = 0};
    result = ::ppoll(&polled, 1, timeout, mask) < 0 ? -errno : 0;
  } else {
    sigset_t outer;
    if (mask != nullptr) ::pthread_sigmask(SIG_SETMASK, mask, &outer);
    result =
        RealCall(SYS_futex, reinterpret_cast<long>(&rounds_),
                 FUTEX_WAIT_PRIVATE, round, reinterpret_cast<long>(timeout));
    if (mask != nullptr) ::pthread_sigmask(SIG_SETMASK, &outer, nullptr);
  }
  mutex.lock();
  --waiting_;
  if (polls) {
    polling_ = false;
    TakeEvents();
    // One of the others polls from now on.
    __atomic_fetch_add(&rounds_, 1, __ATOMIC_SEQ_CST);
    RealCall(SYS_futex, reinterpret_cast<long>(&rounds_), FUTEX_WAKE_PRIVATE,
             INT_MAX);
  }
  return result == -EINTR ? -EINTR : 0;
}

void Poller::WaitInBackground(std::mutex& mutex,
                              std::optional<std::int64_t> limit) {
  timespec time = {};
  if (limit.has_value()) {
    time = {.tv_sec = *limit / kNanoseconds, .tv_nsec = *limit % kNanoseconds};
  }
  background_ = true;
  mutex.unlock();
  pollfd polled = {.fd = epoll_, .events = POLLIN, .revents = 0};
  (void)::ppoll(&polled, 1, limit.has_value() ? &time : nullptr, nullptr);
  mutex.lock();
  background_ = false;
  TakeEvents();
}

void Poller::Wake() noexcept {
  if (waiting_ == 0 && !background_) return;
  const std::uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof(one));
}

}  // namespace escrow::sim
