// usage: polls [SECONDS]
//
// Prints what an event takes through the two Polls of safe/poll.h, beside bare
// epoll(7): of 128 files, some become readable, are told, and read. SECONDS, 1
// by default, is for each line.

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <system_error>
#include <vector>

#include "bench/alternate.h"
#include "bench/seconds.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/poll.h"
#include "escrow/safe/result.h"

namespace escrow::bench {
namespace {

using ownership::Descriptor;

constexpr std::size_t kFiles = 128;
constexpr std::size_t kEvents = 1024;  // of a run

std::error_code LastError() { return {errno, std::generic_category()}; }

// Events that happen by turns.
class Files {
 public:
  Files() {
    for (std::size_t i = 0; i < kFiles; ++i) {
      files_.push_back(
          Descriptor::Adopt(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
    }
  }
  std::size_t size() const { return files_.size(); }
  int operator[](std::size_t index) const { return files_[index].number(); }

  void Signal(std::size_t count) {
    for (; count > 0; --count) {
      ::eventfd_write((*this)[next_], 1);
      next_ = (next_ + 1) % kFiles;
    }
  }
  void Read(std::size_t index) const {
    eventfd_t value;
    (void)::eventfd_read((*this)[index], &value);
  }

 private:
  std::vector<Descriptor> files_;
  std::size_t next_ = 0;
};

std::error_code RunEpoll(int epoll, Files& files, std::size_t batch) {
  std::array<epoll_event, kFiles> events;
  for (std::size_t told = 0; told < kEvents;) {
    files.Signal(batch);
    for (std::size_t expected = told + batch; told < expected;) {
      const int found = ::epoll_wait(epoll, events.data(), kFiles, -1);
      if (found < 0 && errno != EINTR) return LastError();
      for (int i = 0; i < found; ++i) {
        files.Read(events[static_cast<std::size_t>(i)].data.u64);
        ++told;
      }
    }
  }
  return {};
}

std::error_code RunPoll(safe::Poll& poll, safe::Events& events, Files& files,
                        std::size_t batch) {
  for (std::size_t told = 0; told < kEvents;) {
    files.Signal(batch);
    for (std::size_t expected = told + batch; told < expected;) {
      const auto waited = poll.Wait(events);
      if (!waited && waited.error() != std::errc::interrupted) {
        return waited.error();
      }
      for (const safe::Event& event : events) {
        files.Read(static_cast<std::size_t>(event.token()));
        ++told;
      }
    }
  }
  return {};
}

std::error_code Register(const safe::Poll& poll, const Files& files) {
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto registered = poll.registry().Register(files[i], safe::Token{i},
                                                     safe::Interest::kReadable);
    if (!registered) return registered.error();
  }
  return {};
}

std::error_code Print(std::size_t batch, std::chrono::seconds limit) {
  Files bare_files;
  const Descriptor epoll = Descriptor::Adopt(::epoll_create1(EPOLL_CLOEXEC));
  for (std::size_t i = 0; i < kFiles; ++i) {
    epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.u64 = i}};
    if (::epoll_ctl(epoll.number(), EPOLL_CTL_ADD, bare_files[i], &event) !=
        0) {
      return LastError();
    }
  }
  auto on_epoll = safe::Poll::OnEpoll();
  if (!on_epoll) return on_epoll.error();
  auto on_ring = safe::Poll::OnRing();
  if (!on_ring) return on_ring.error();
  Files epoll_files;
  Files ring_files;
  if (const auto error = Register(*on_epoll, epoll_files)) return error;
  if (const auto error = Register(*on_ring, ring_files)) return error;

  safe::Events events(kFiles);
  const std::vector<std::function<std::error_code()>> runs = {
      [&] { return RunEpoll(epoll.number(), bare_files, batch); },
      [&] { return RunPoll(*on_epoll, events, epoll_files, batch); },
      [&] { return RunPoll(*on_ring, events, ring_files, batch); }};
  const auto times = Alternate(runs, kEvents, limit);
  if (!times) return times.error();
  std::printf("%6zu %10.0f %9.2fx %9.2fx\n", batch, times->at(0).time,
              times->at(1).ratio, times->at(2).ratio);
  return {};
}

int Main(int argc, char** argv) {
  const std::chrono::seconds limit = SecondsFrom(argc, argv, "polls");
  std::printf("nanoseconds per event, and times as much:\n%6s %10s %10s %10s\n",
              "ready", "bare epoll", "on epoll", "on a ring");
  for (const std::size_t batch : {1, 8, 64}) {
    if (const auto error = Print(batch, limit)) {
      std::fprintf(stderr, "polls: %s\n", error.message().c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
