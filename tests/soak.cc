// All operations and streams at once, again and again, each meeting a random
// end: dropped, cancelled, too late, waited for, called back, forgotten, or in
// flight when its ring ends. At the end nothing is left.
//
//   bazel test //tests:soak                                    # one minute
//   bazel run --config=asan //tests:soak -- --seconds=3600 --seed=1

#include "tests/soak.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "escrow/safe/remote.h"
#include "escrow/safe/ring.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

unsigned seconds = 60;
unsigned seed = std::random_device()();

// Another thread, which posts to rings whether they are there or not.
class Poster {
 public:
  Poster() : thread_([this] { Run(); }) {}
  Poster(const Poster&) = delete;
  Poster& operator=(const Poster&) = delete;
  // Run or not, what was posted is gone.
  ~Poster() { EXPECT_EQ(alive_.use_count(), 1); }

  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  void PostTo(Remote remote) {
    {
      const std::lock_guard lock(mutex_);
      remotes_.push_back(std::move(remote));
    }
    changed_.notify_one();
  }

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stop_ || !remotes_.empty(); });
      if (remotes_.empty()) return;
      const Remote remote = std::move(remotes_.front());
      remotes_.pop_front();
      lock.unlock();
      for (int i = 0; i < 3; ++i) {
        if (const auto posted = remote.Post([alive = alive_] {}); !posted) {
          EXPECT_EQ(posted.error(), std::errc::owner_dead);
        }
      }
      lock.lock();
    }
  }

  const std::shared_ptr<int> alive_ = std::make_shared<int>();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Remote> remotes_;
  bool stop_ = false;
  std::thread thread_;
};
Poster* poster = nullptr;

void SoakRemote(Soak& soak) {
  auto remote = soak.ring().CreateRemote({.eventfd = soak.OneIn(8)});
  ASSERT_TRUE(remote) << remote.error().message();
  if (soak.OneIn(2)) poster->PostTo(*remote);
  poster->PostTo(std::move(*remote));
  if (soak.OneIn(2)) soak.Dispatch();
}

TEST(Soak, EndsWithNothingLeft) {
  SoakSteps().push_back(&SoakRemote);
  std::printf("seed %u\n", seed);
  std::fflush(stdout);
  const int descriptors = testing::OpenDescriptors();
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  {
    Poster its_poster;
    poster = &its_poster;
    Soak soak(seed);
    while (std::chrono::steady_clock::now() < end && !HasFailure()) {
      SoakSteps()[soak.Choose(SoakSteps().size())](soak);
      if (soak.OneIn(8)) soak.Dispatch();
      if (soak.OneIn(8)) soak.Forget();
      if (soak.OneIn(256)) (void)soak.ring().CancelAll();
      if (soak.OneIn(100)) soak.Restart();
    }
    its_poster.Stop();
    soak.Finish();
    std::printf("%zu operations, %zu rings\n", soak.started(), soak.restarts());
  }
  EXPECT_EQ(BuriedOperations(), 0u);
  // Workers of the kernel close some of them late.
  for (int i = 0; i < 5000 && testing::OpenDescriptors() != descriptors; ++i) {
    ::usleep(1000);
  }
  EXPECT_EQ(testing::OpenDescriptors(), descriptors);
}

// Whether `argument` is `--name=` and a number.
bool Parse(std::string_view argument, std::string_view name, unsigned& value) {
  if (!argument.starts_with(name)) return false;
  argument.remove_prefix(name.size());
  const char* const end = argument.data() + argument.size();
  const auto [rest, error] = std::from_chars(argument.data(), end, value);
  return error == std::errc() && rest == end;
}

}  // namespace
}  // namespace escrow::safe::cases

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    if (!escrow::safe::cases::Parse(
            argv[i], "--seconds=", escrow::safe::cases::seconds) &&
        !escrow::safe::cases::Parse(argv[i],
                                    "--seed=", escrow::safe::cases::seed)) {
      std::fprintf(stderr, "usage: %s [--seconds=N] [--seed=N]\n", argv[0]);
      return 2;
    }
  }
  // Pipes lose their readers while something is written to them.
  std::signal(SIGPIPE, SIG_IGN);
  // The sources with the rows have tests, too.
  GTEST_FLAG_SET(filter, "Soak.*");
  return RUN_ALL_TESTS();
}
