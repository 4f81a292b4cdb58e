#include <liburing.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <vector>

#include "escrow/raw/ops.h"
#include "tests/conformance/measure.h"
#include "tests/conformance/scripts.h"
#include "tests/conformance/stage.h"

// Scripts for raw/ops_wait.h.

namespace escrow::testing {
namespace {

// FUTEX2_SIZE_U32, which older <linux/futex.h> lack.
constexpr std::uint32_t kFutex = 2;
constexpr std::uint32_t kPrivateFutex = kFutex | FUTEX_PRIVATE_FLAG;

const __kernel_timespec kForever = {.tv_sec = 1000, .tv_nsec = 0};

const __kernel_timespec* OneMillisecond(Stage& stage) {
  return stage.Value("duration",
                     __kernel_timespec{.tv_sec = 0, .tv_nsec = 1'000'000});
}

void Timeout(Stage& stage) {
  stage.Run(raw::Timeout{.duration = OneMillisecond(stage)}, "-ETIME");
}

void TimeoutMultishot(Stage& stage) {
  stage.Run(
      raw::TimeoutMultishot{.duration = OneMillisecond(stage), .count = 2},
      "-ETIME+ -ETIME");
}

void TimeoutUpdate(Stage& stage) {
  const std::uint64_t timer = stage.Start(raw::Timeout{.duration = &kForever});
  stage.Run(raw::TimeoutUpdate{.user_data = timer,
                               .duration = stage.Value("duration", kForever)},
            "0");
}

// The deadline of a read that does not end by itself.
void LinkTimeout(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  stage.LinkBefore(raw::Read{
      .fd = stage.Own(pipe.ours), .buffer = stage.Scratch(1), .length = 1});
  stage.Run(raw::LinkTimeout{.duration = OneMillisecond(stage)}, "-ETIME");
}

void PollAdd(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  WriteTo(pipe.theirs, "hello");
  static_assert(POLLIN == 1);
  stage.Run(raw::PollAdd{.fd = stage.File("fd", pipe.ours), .events = POLLIN},
            "1");
}

void PollMultishot(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  WriteTo(pipe.theirs, "hello");
  stage.Run(
      raw::PollMultishot{.fd = stage.File("fd", pipe.ours), .events = POLLIN},
      "1+ 1+ -ECANCELED");
  stage.OnFirst([pipe](int) { WriteTo(pipe.theirs, "again"); });
  stage.CancelAfter(2);
}

void EpollCtl(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  stage.Run(
      raw::EpollCtl{
          .epoll = stage.Descriptor("epoll", epoll_create1(EPOLL_CLOEXEC)),
          .operation = EPOLL_CTL_ADD,
          .fd = stage.Descriptor("fd", pipe.ours),
          .event =
              stage.Value("event", epoll_event{.events = EPOLLIN, .data = {}})},
      "0");
}

void EpollWait(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  WriteTo(pipe.theirs, "hello");
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {.events = EPOLLIN, .data = {}};
  Must(epoll_ctl(epoll, EPOLL_CTL_ADD, stage.Own(pipe.ours), &event) == 0,
       "epoll_ctl");
  stage.Run(raw::EpollWait{.epoll = stage.File("epoll", epoll),
                           .events = stage.Value<epoll_event>("events"),
                           .max_events = 1},
            "1");
}

// Wakes a private futex, by its address only.
void Wake(const std::uint32_t* word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

void FutexWait(Stage& stage) {
  const auto* const word = stage.Value<std::uint32_t>("word", 1);
  stage.Run(
      raw::FutexWait{.word = word, .expected = 1, .futex_flags = kPrivateFutex},
      "0");
  stage.UntilComplete([word] { Wake(word); });
}

void FutexWaitV(Stage& stage) {
  const auto* const word = stage.Value<std::uint32_t>("futexes/uaddr", 1);
  futex_waitv futex = {};
  futex.val = 1;
  futex.uaddr = reinterpret_cast<std::uintptr_t>(word);
  futex.flags = kPrivateFutex;
  stage.Run(
      raw::FutexWaitV{.futexes = stage.Value("futexes", futex), .count = 1},
      "0");
  stage.UntilComplete([word] { Wake(word); });
}

// Not a private one, whose address would be used whatever is mapped there.
void FutexWake(Stage& stage) {
  const auto* const word = stage.Value<std::uint32_t>("word");
  stage.Start(
      raw::FutexWait{.word = word, .expected = 0, .futex_flags = kFutex});
  stage.Run(raw::FutexWake{.word = word, .count = 1, .futex_flags = kFutex},
            "1");
}

// The child is reaped at the end, and until then can be waited for again and
// again.
void WaitId(Stage& stage) {
  const pid_t child = fork();
  Must(child >= 0, "fork");
  if (child == 0) _exit(0);
  stage.AtEnd([child] { waitpid(child, nullptr, 0); });
  stage.Run(raw::WaitId{.id_type = P_PID,
                        .id = static_cast<id_t>(child),
                        .info = stage.Value<siginfo_t>("info"),
                        .options = WEXITED | WNOWAIT},
            "0");
}

}  // namespace

std::vector<NamedScript> WaitScripts() {
  return {
      {"Timeout", Timeout},
      {"TimeoutMultishot", TimeoutMultishot},
      {"TimeoutUpdate", TimeoutUpdate},
      {"LinkTimeout", LinkTimeout},
      {"PollAdd", PollAdd},
      {"PollMultishot", PollMultishot},
      {"EpollCtl", EpollCtl},
      {"EpollWait", EpollWait},
      {"FutexWait", FutexWait},
      {"FutexWaitV", FutexWaitV},
      {"FutexWake", FutexWake},
      {"WaitId", WaitId},
  };
}

}  // namespace escrow::testing
