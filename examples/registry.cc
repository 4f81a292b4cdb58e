// usage: registry [--epoll]
//
// One thread waits for what happens; the others register what it is to wait
// for, while it waits. Each sends some lines through a pipe of its own, and
// closes it.

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/poll.h"
#include "escrow/safe/result.h"

namespace {

using escrow::ownership::Descriptor;
using escrow::safe::Event;
using escrow::safe::Events;
using escrow::safe::Interest;
using escrow::safe::Poll;
using escrow::safe::Registry;
using escrow::safe::Result;
using escrow::safe::Source;
using escrow::safe::Token;

constexpr std::size_t kSenders = 4;
constexpr int kLines = 100;

// What the threads hand over: by a token, the place of what it stands for.
struct Receiver {
  std::mutex mutex;
  std::optional<Source> source;
  std::size_t lines = 0;
};
using Receivers = std::array<Receiver, kSenders>;

Result<void> Send(const Registry& registry, Receivers& receivers,
                  std::size_t index) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    return std::unexpected(std::error_code(errno, std::generic_category()));
  }
  Source source(Descriptor::Adopt(ends[0]));
  const Descriptor out = Descriptor::Adopt(ends[1]);
  {
    const std::lock_guard lock(receivers[index].mutex);
    auto registered =
        source.Register(registry, Token{index}, Interest::kReadable);
    if (!registered) return registered;
    receivers[index].source.emplace(std::move(source));
  }
  for (int i = 0; i < kLines; ++i) {
    while (::write(out.number(), "line\n", 5) < 0 && errno == EAGAIN) {
      std::this_thread::yield();
    }
  }
  return {};
}

// Reads all that is there, as edges ask for. Whether that was the end.
bool Receive(Receiver& receiver) {
  const std::lock_guard lock(receiver.mutex);
  // There may be more than one event for the end.
  if (!receiver.source) return false;
  char text[4096];
  ssize_t size;
  while ((size = ::read(receiver.source->file().number(), text, sizeof text)) >
         0) {
    for (ssize_t i = 0; i < size; ++i) receiver.lines += text[i] == '\n';
  }
  if (size < 0) return false;
  receiver.source.reset();
  return true;
}

Result<void> Run(bool on_epoll) {
  auto poll = on_epoll ? Poll::OnEpoll() : Poll::OnRing();
  if (!poll) return std::unexpected(poll.error());
  Receivers receivers;
  std::array<Result<void>, kSenders> results;
  std::vector<std::thread> senders;
  for (std::size_t i = 0; i < kSenders; ++i) {
    senders.emplace_back([&, i, registry = poll->registry()] {
      results[i] = Send(registry, receivers, i);
    });
  }
  Result<void> result;
  Events events(kSenders);
  for (std::size_t open = kSenders; open > 0 && result;) {
    result = poll->Wait(events);
    if (!result && result.error() == std::errc::interrupted) {
      result = {};
      continue;
    }
    for (const Event& event : events) {
      open -= Receive(receivers[static_cast<std::size_t>(event.token())]);
    }
  }
  for (std::thread& sender : senders) sender.join();
  for (const Result<void>& sent : results) {
    if (!sent) return sent;
  }
  std::size_t lines = 0;
  for (const Receiver& receiver : receivers) lines += receiver.lines;
  std::printf("%zu lines from %zu threads\n", lines, kSenders);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const bool on_epoll = argc > 1 && std::strcmp(argv[1], "--epoll") == 0;
  if (auto done = Run(on_epoll); !done) {
    std::fprintf(stderr, "registry: %s\n", done.error().message().c_str());
    return 1;
  }
}
