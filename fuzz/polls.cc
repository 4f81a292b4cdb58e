// Programs that wait for files to be ready, which they register and deregister,
// feed and empty meanwhile. What has happened is told, and only of what is
// registered.

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include "escrow/fuzz/check.h"
#include "escrow/fuzz/front_end.h"
#include "escrow/fuzz/input.h"
#include "escrow/fuzz/world.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/poll.h"

namespace escrow::fuzz {
namespace {

using ownership::Descriptor;
using safe::Interest;
using safe::Poll;
using safe::Token;

constexpr Token kWakerToken{0};

class Program {
 public:
  explicit Program(std::uint8_t kind) { Restart(kind); }

  void Run(std::span<const Action> actions) {
    for (const Action& action : actions) Step(action);
    Settle(2);
  }

 private:
  // This end of something, and the other one.
  struct File {
    std::optional<safe::Source> source;
    Descriptor there;
    bool registered = false;
    Token token{0};
    Interest interest = Interest::kReadable;
    // Whether something has happened that it was not told of.
    bool owed = false;
  };

  void Step(const Action& action) {
    File& file = files_[action.a % files_.size()];
    switch (action.kind % 10) {
      case 0:
        Register(file, action.b);
        break;
      case 1:
        Reregister(file, action.b);
        break;
      case 2:
        Deregister(file);
        break;
      case 3:
        FeedOne(file, action.b);
        break;
      case 4:
        Empty(file);
        break;
      case 5:
        Wait(action.b, std::chrono::nanoseconds(0));
        break;
      case 6:
        // A limit is a millisecond at least on epoll, which takes as long.
        Wait(action.b, std::chrono::microseconds(on_ring_ ? action.a : 0));
        break;
      case 7:
        Settle(1 + action.b % 4);
        break;
      case 8:
        // Registered or not.
        file = File();
        break;
      case 9:
        Other(action);
        break;
    }
  }

  void Other(const Action& action) {
    switch (action.b % 4) {
      case 0:
        Restart(action.a);
        break;
      case 1: {
        Poll elsewhere(std::move(*poll_));
        *poll_ = std::move(elsewhere);
        break;
      }
      case 2:
        if (!waker_) {
          auto waker = safe::Waker::Create(poll_->registry(), kWakerToken);
          ESCROW_REQUIRE(waker.has_value());
          waker_.emplace(std::move(*waker));
        }
        ESCROW_REQUIRE(waker_->Wake());
        woken_ = true;
        break;
      case 3:
        // Sources may move while they are registered.
        std::swap(files_[0], files_[1]);
        break;
    }
  }

  void Restart(std::uint8_t kind) {
    // It may end with files registered, and is missed by them then.
    poll_.reset();
    for (File& file : files_) {
      if (!file.registered) continue;
      ESCROW_REQUIRE(
          file.source->Reregister(file.token, file.interest).error() ==
          std::errc::owner_dead);
      file.registered = false;
      ESCROW_REQUIRE(file.source->Deregister().error() ==
                     std::errc::owner_dead);
    }
    waker_.reset();
    woken_ = false;
    on_ring_ = kind % 8 != 7;
    auto made = on_ring_ ? Poll::OnRing() : Poll::OnEpoll();
    ESCROW_REQUIRE(made.has_value());
    poll_.emplace(std::move(*made));
  }

  static Interest InterestOf(std::uint8_t how) {
    return static_cast<Interest>(1 + how % 7);
  }

  void Register(File& file, std::uint8_t how) {
    if (!file.source) {
      Ends ends = how % 2 == 0 ? MakePipe() : MakeStream();
      file.source.emplace(std::move(ends.here));
      file.there = std::move(ends.there);
    }
    const Token token{++last_token_};
    const auto registered =
        file.source->Register(poll_->registry(), token, InterestOf(how));
    if (file.registered) {
      ESCROW_REQUIRE(registered.error() == std::errc::file_exists);
      return;
    }
    ESCROW_REQUIRE(registered);
    Registered(file, token, how);
  }

  void Reregister(File& file, std::uint8_t how) {
    if (!file.source) return;
    const Token token{++last_token_};
    const auto registered = file.source->Reregister(token, InterestOf(how));
    if (!file.registered) {
      ESCROW_REQUIRE(registered.error() ==
                     std::errc::no_such_file_or_directory);
      return;
    }
    ESCROW_REQUIRE(registered);
    Registered(file, token, how);
  }

  static void Registered(File& file, Token token, std::uint8_t how) {
    file.registered = true;
    file.token = token;
    file.interest = InterestOf(how);
    int there = 0;
    // What has happened before counts, too.
    file.owed = safe::Includes(file.interest, Interest::kReadable) &&
                ::ioctl(file.source->file().number(), FIONREAD, &there) == 0 &&
                there > 0;
  }

  void Deregister(File& file) {
    if (!file.source) return;
    const auto deregistered = file.source->Deregister();
    if (file.registered) {
      ESCROW_REQUIRE(deregistered);
    } else {
      ESCROW_REQUIRE(deregistered.error() ==
                     std::errc::no_such_file_or_directory);
    }
    file.registered = false;
  }

  static void FeedOne(File& file, std::uint8_t how) {
    if (!file.there.valid()) return;
    if (how % 8 == 7) {
      // Which is something to be told of, too.
      file.there = Descriptor();
    } else {
      Feed(file.there, 1 + how);
    }
    file.owed =
        file.registered && safe::Includes(file.interest, Interest::kReadable);
  }

  static void Empty(File& file) {
    if (!file.source) return;
    std::array<std::byte, 1024> bytes;
    const int fd = file.source->file().number();
    const int flags = ::fcntl(fd, F_GETFL);
    ESCROW_REQUIRE(::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    for (;;) {
      const ::ssize_t size = ::read(fd, bytes.data(), bytes.size());
      if (size <= 0) break;
      RequireSent(bytes.data(), static_cast<std::size_t>(size));
    }
    // Nobody need be told of what is gone.
    file.owed = false;
  }

  // Whether anything was told.
  bool Wait(std::uint8_t capacity, std::chrono::nanoseconds limit) {
    safe::Events events(1 + capacity % 4);
    const auto waited = poll_->Wait(events, limit);
    if (!waited) {
      ESCROW_REQUIRE(IsRefusal(waited.error()));
      return false;
    }
    ESCROW_REQUIRE(events.size() <= events.capacity());
    for (const safe::Event& event : events) {
      if (event.token() == kWakerToken) {
        ESCROW_REQUIRE(waker_.has_value());
        woken_ = false;
        continue;
      }
      unsigned owners = 0;
      for (File& file : files_) {
        if (!file.registered || file.token != event.token()) continue;
        ++owners;
        file.owed = false;
      }
      ESCROW_REQUIRE(owners == 1);
    }
    return !events.empty();
  }

  bool Owes() const {
    for (const File& file : files_) {
      if (file.owed && file.registered) return true;
    }
    return woken_;
  }

  // Whatever the kernel does, it is told in the end.
  void Settle(std::uint8_t capacity) {
    constexpr unsigned kPatience = 10'000;
    unsigned waits = 0;
    while (Owes()) {
      ESCROW_REQUIRE(++waits < kPatience);
      (void)Wait(capacity, std::chrono::nanoseconds(on_ring_ ? 1000 : 0));
    }
  }

  std::optional<Poll> poll_;
  bool on_ring_ = true;
  std::optional<safe::Waker> waker_;
  bool woken_ = false;
  std::uint64_t last_token_ = 0;
  std::array<File, 4> files_;
};

}  // namespace
}  // namespace escrow::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  return escrow::fuzz::RunFrontEnd<escrow::fuzz::Program>(data, size);
}
