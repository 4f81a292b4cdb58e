// All operations at once, again and again, each meeting a random end: dropped,
// cancelled, too late, waited for, called back, forgotten, or in flight when
// its ring ends. At the end nothing is left.
//
//   bazel test //tests:soak                                    # one minute
//   bazel run --config=asan //tests:soak -- --seconds=3600 --seed=1

#include "tests/soak.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"
#include "escrow/safe/stream_ops.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

unsigned seconds = 60;
unsigned seed = std::random_device()();

// A stream of connections, some of which are taken.
void SoakAccept(Soak& soak) {
  const World world;
  const Listener listener(world);
  auto connections = std::make_shared<Stream<Descriptor>>(
      soak.ring().Start(AcceptMany{.socket = listener.socket},
                        {.unread_limit = 1 + soak.Choose(4)}));
  for (std::size_t i = soak.Choose(6); i > 0; --i) {
    const Descriptor client = UnixSocket();
    EXPECT_EQ(::connect(client.number(), listener.address.data(),
                        listener.address.size()),
              0);
    if (soak.OneIn(2)) {
      EXPECT_TRUE(soak.ring().Submit());
    }
    if (connections->ready()) (void)connections->Take();
  }
  if (soak.OneIn(2)) {
    std::move(*connections).ForEach([left = soak.Choose(4)](auto item) mutable {
      return item.has_value() && left-- > 0;
    });
  } else {
    soak.Keep([connections] {
      if (connections->ready()) (void)connections->Take();
    });
  }
}

void SoakTick(Soak& soak) {
  auto ticks = std::make_shared<Stream<void>>(
      soak.ring().Start(Tick{.period = std::chrono::microseconds(100),
                             .count = static_cast<unsigned>(soak.Choose(4))}));
  soak.Keep([ticks] {
    if (ticks->ready()) (void)ticks->Take();
  });
}

TEST(Soak, EndsWithNothingLeft) {
  SoakSteps().push_back(&SoakAccept);
  SoakSteps().push_back(&SoakTick);
  std::printf("seed %u\n", seed);
  const int descriptors = testing::OpenDescriptors();
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  {
    Soak soak(seed);
    while (std::chrono::steady_clock::now() < end && !HasFailure()) {
      SoakSteps()[soak.Choose(SoakSteps().size())](soak);
      if (soak.OneIn(8)) soak.Dispatch();
      if (soak.OneIn(8)) soak.Forget();
      if (soak.OneIn(256)) (void)soak.ring().CancelAll();
      if (soak.OneIn(100)) soak.Restart();
    }
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
