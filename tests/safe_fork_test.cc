// What fork(2), exec(3) and exit(3) do to rings with operations in flight.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/raw/buffer_table.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/raw_access.h"
#include "escrow/safe/remote.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using ownership::Descriptor;
using std::chrono::milliseconds;
using testing::Arena;
using testing::Pipe;
using testing::TemporaryFile;
using testing::Tracked;

struct Kind {
  const char* name;
  std::optional<std::uint32_t> setup_flags;
};

Ring MakeRing(const RingOptions& options = {}) {
  auto ring = Ring::Create(options);
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

class SafeForkTest : public ::testing::TestWithParam<Kind> {
 protected:
  SafeForkTest()
      : ring_(MakeRing({.setup_flags = GetParam().setup_flags})),
        in_(Descriptor::Adopt(pipe_.read_end)),
        out_(Descriptor::Adopt(pipe_.write_end)) {}

  // Runs `body` in a child that inherits everything. Its wait status.
  static int InChild(const std::function<void()>& body) {
    const pid_t child = ::fork();
    if (child == 0) {
      body();
      ::_exit(HasFailure() ? 1 : 0);
    }
    return Reaped(child);
  }

  static int Reaped(pid_t child) {
    int status = -1;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
  }

  // The ring is as good as ever, and so is what was in flight.
  void ExpectUntouched(Operation<Transfer<std::string>> read) {
    EXPECT_EQ(::write(out_.number(), "parent", 6), 6);
    auto [size, bytes] = ring_->Wait(std::move(read));
    ASSERT_TRUE(size) << size.error().message();
    EXPECT_EQ(bytes, "parent");
    EXPECT_TRUE(ring_->Wait(ring_->Nop()));
    EXPECT_EQ(ring_->in_flight(), 0u);
    EXPECT_EQ(ring_->unknown_completions(), 0u);
  }

  Operation<Transfer<std::string>> StartRead() {
    auto read = ring_->Read(in_, std::string(6, '-'));
    EXPECT_TRUE(ring_->Submit());
    return read;
  }

  Pipe pipe_;
  std::optional<Ring> ring_;
  Descriptor in_;
  Descriptor out_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, SafeForkTest,
                         ::testing::Values(Kind{"Best", std::nullopt},
                                           Kind{"Plain", 0u},
                                           Kind{"SqPoll", IORING_SETUP_SQPOLL}),
                         [](const auto& kind) {
                           return std::string(kind.param.name);
                         });

TEST_P(SafeForkTest, AChildThatOnlyExits) {
  auto read = StartRead();
  EXPECT_EQ(InChild([] {}), 0);
  ExpectUntouched(std::move(read));
}

// Its only thread is known to have been another one.
TEST_P(SafeForkTest, AChildWhoseThreadEnds) {
  pid_t child = -1;
  std::thread([&] {
    { const Ring ring = MakeRing({.setup_flags = GetParam().setup_flags}); }
    child = ::fork();
    if (child != 0) return;
    // Behind what else is done at the end of the thread, which would end the
    // process otherwise as if all of its memory were still referred to.
    pthread_key_t last;
    EXPECT_EQ(::pthread_key_create(&last, [](void*) { ::_exit(0); }), 0);
    EXPECT_EQ(::pthread_setspecific(last, &child), 0);
  }).join();
  EXPECT_EQ(Reaped(child), 0);
}

TEST_P(SafeForkTest, AChildThatDestroysTheRing) {
  Arena arena = {};
  auto read = StartRead();
  auto kept = ring_->Timeout(std::chrono::hours(1));
  ring_->Timeout(std::chrono::hours(1))
      .Then([tracked = Tracked(arena)](Result<void>) {});
  const Remote remote = ring_->CreateRemote().value();
  EXPECT_EQ(InChild([&] {
              const int before = testing::OpenDescriptors();
              ring_.reset();
              EXPECT_EQ(testing::OpenDescriptors(), before - 1);
              EXPECT_FALSE(kept.done());
              { const auto dropped = std::move(kept); }
              { const auto dropped = std::move(read); }
              EXPECT_EQ(arena.releases, 0);
              EXPECT_EQ(BuriedOperations(), 0u);
            }),
            0);
  EXPECT_FALSE(kept.done());
  EXPECT_EQ(ring_->in_flight(), 3u);
  { const auto dropped = std::move(kept); }
  EXPECT_EQ(::write(out_.number(), "parent", 6), 6);
  EXPECT_EQ(ring_->Wait(std::move(read)).buffer, "parent");
  EXPECT_EQ(arena.releases, 0);
  ring_.reset();
  EXPECT_EQ(arena.releases, 1);
}

TEST_P(SafeForkTest, AChildThatDropsTheHandles) {
  auto read = StartRead();
  auto not_submitted = ring_->Nop();
  EXPECT_EQ(InChild([&] {
              { const auto dropped = std::move(read); }
              { const auto dropped = std::move(not_submitted); }
              ring_.reset();
            }),
            0);
  EXPECT_TRUE(ring_->Wait(std::move(not_submitted)));
  ExpectUntouched(std::move(read));
}

// exit(3) ends static objects, and lets leak checkers look.
TEST_P(SafeForkTest, AChildThatExitsWithAStaticRing) {
  static std::optional<Ring> ring;
  ring.emplace(std::move(*ring_));
  ring_.reset();
  const auto timeout = ring->Timeout(std::chrono::hours(1));
  EXPECT_TRUE(ring->Submit());
  const pid_t child = ::fork();
  if (child == 0) std::exit(0);
  EXPECT_EQ(Reaped(child), 0);
  EXPECT_FALSE(timeout.done());
  EXPECT_TRUE(ring->Wait(ring->Nop()));
  ring_.emplace(std::move(*ring));
  ring.reset();
}

TEST_P(SafeForkTest, AChildThatForksInACallback) {
  std::optional<int> status;
  ring_->Nop().Then(
      [&](Result<void>) { status = InChild([&] { ring_.reset(); }); });
  ASSERT_TRUE(ring_->Dispatch());
  EXPECT_EQ(status, 0);
  ExpectUntouched(StartRead());
}

TEST_P(SafeForkTest, AChildHasRingsOfItsOwn) {
  auto read = StartRead();
  EXPECT_EQ(InChild([&] {
              Ring ring = MakeRing({.setup_flags = GetParam().setup_flags});
              EXPECT_TRUE(ring.Wait(ring.Nop()));
              ring_.reset();
              EXPECT_TRUE(ring.Wait(ring.Nop()));
              bool ran = false;
              std::thread([&ran, remote = ring.CreateRemote().value()] {
                EXPECT_TRUE(remote.Post([&ran] { ran = true; }));
              }).join();
              while (!ran) EXPECT_TRUE(ring.Dispatch());
            }),
            0);
  ExpectUntouched(std::move(read));
}

// Another thread than the ring's makes the child, at any time.
TEST_P(SafeForkTest, ForksWhileTheRingIsBusy) {
  std::atomic<bool> stop = false;
  std::atomic<int> bad = 0;
  std::thread forking([&] {
    for (int i = 0; i < 30; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        ring_.reset();
        ::_exit(0);
      }
      if (Reaped(child) != 0) ++bad;
    }
    stop = true;
  });
  while (!stop) {
    auto timeout = ring_->Timeout(std::chrono::hours(1));
    EXPECT_TRUE(ring_->Wait(ring_->Nop()));
    ring_->Nop().Then([](Result<void>) {});
    ASSERT_TRUE(ring_->Dispatch(milliseconds(0)));
  }
  forking.join();
  EXPECT_EQ(bad, 0);
  ring_.reset();
  EXPECT_EQ(BuriedOperations(), 0u);
}

// Memory that is the kernel's: AddressSanitizer is not to look.
__attribute__((no_sanitize("address"))) void Fill(std::byte* data,
                                                  std::size_t size,
                                                  std::byte value) {
  for (std::size_t i = 0; i < size; ++i) data[i] = value;
}
__attribute__((no_sanitize("address"))) bool IsFilled(const std::byte* data,
                                                      std::size_t size,
                                                      std::byte value) {
  for (std::size_t i = 0; i < size; ++i) {
    if (data[i] != value) return false;
  }
  return true;
}

// The child writes to its copies of all memory that the kernel is given.
TEST_P(SafeForkTest, MemoryThatTheKernelWritesIsTheParents) {
  std::byte memory[8] = {};
  Arena arena{memory, sizeof(memory)};
  auto read = ring_->Read(in_, Tracked(arena));
  EXPECT_TRUE(ring_->Submit());
  EXPECT_EQ(InChild([&] { Fill(memory, sizeof(memory), std::byte{'c'}); }), 0);
  EXPECT_TRUE(IsFilled(memory, sizeof(memory), std::byte{0}));
  EXPECT_EQ(::write(out_.number(), "abcdefgh", 8), 8);
  EXPECT_EQ(ring_->Wait(std::move(read)).result.value(), 8u);
  EXPECT_EQ(memory[7], std::byte{'h'});
}

TEST_P(SafeForkTest, MemoryThatIsReadDirectlyIsTheParents) {
  constexpr std::size_t kSize = 1 << 20;
  const TemporaryFile file(std::string(kSize, 'x'));
  const int fd = ::open(file.path().c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd < 0) GTEST_SKIP() << "this file system has no O_DIRECT";
  const auto source = Descriptor::Adopt(fd);
  auto buffer = ownership::Buffer::Allocate(kSize, 4096);
  ASSERT_TRUE(buffer);
  for (int i = 0; i < 8; ++i) {
    std::byte* const data = buffer->data();
    for (std::size_t at = 0; at < kSize; at += 512) data[at] = std::byte{'-'};
    auto read = ring_->Read(source, std::move(*buffer), 0);
    EXPECT_TRUE(ring_->Submit());
    EXPECT_EQ(InChild([&] { Fill(data, kSize, std::byte{'c'}); }), 0);
    auto [size, back] = ring_->Wait(std::move(read));
    ASSERT_EQ(size.value(), kSize);
    for (std::size_t at = 0; at < kSize; at += 512) {
      ASSERT_EQ(back[at], std::byte{'x'});
    }
    *buffer = std::move(back);
  }
}

TEST_P(SafeForkTest, RegisteredMemoryIsTheParents) {
  constexpr std::size_t kSize = 4096;
  void* const mapped = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  auto* const memory = static_cast<char*>(mapped);
  std::optional<std::int32_t> result;
  auto handler = [&](const io_uring_cqe& cqe) { result = cqe.res; };
  {
    RawAccess access(*ring_, handler);
    const raw::TableBuffer table[] = {{mapped, kSize}};
    ASSERT_FALSE(raw::RegisterBuffers(access.ring(), table));
    access.ring().Push(raw::ReadFixed{.fd = in_.number(),
                                      .buffer = memory,
                                      .length = 8,
                                      .offset = kCurrentPosition,
                                      .buffer_index = 0},
                       /*user_data=*/1);
    EXPECT_TRUE(ring_->Submit());
    EXPECT_EQ(InChild([&] {
                std::fill(memory, memory + kSize, 'c');
                ring_.reset();
              }),
              0);
    EXPECT_TRUE(IsFilled(static_cast<std::byte*>(mapped), 8, std::byte{0}));
    // Written before the kernel writes: the page must not be copied now.
    Fill(static_cast<std::byte*>(mapped) + 100, 1, std::byte{'p'});
    EXPECT_EQ(::write(out_.number(), "abcdefgh", 8), 8);
    while (!result) ASSERT_TRUE(ring_->Dispatch());
    EXPECT_EQ(result, 8);
    EXPECT_EQ(std::string(memory, 8), "abcdefgh");
    EXPECT_EQ(memory[100], 'p');
  }
  ring_.reset();
  ::munmap(mapped, kSize);
}

// The ring's own memory is not there at all.
TEST_P(SafeForkTest, AChildMadeAroundForkCannotReachTheRing) {
  auto read = StartRead();
  const auto child = static_cast<pid_t>(
      ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (child == 0) {
    // Sanitizers catch it otherwise.
    std::signal(SIGSEGV, SIG_DFL);
    (void)ring_->Nop();
    (void)ring_->Submit();
    ::_exit(0);
  }
  const int status = Reaped(child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) << status;
  ExpectUntouched(std::move(read));
}

// exec(3).

TEST_P(SafeForkTest, AChildThatExecutes) {
  auto read = StartRead();
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", "ls -l /proc/self/fd | grep -q io_uring",
            nullptr);
    ::_exit(127);
  }
  EXPECT_EQ(WEXITSTATUS(Reaped(child)), 1) << "it has the ring's descriptor";
  ExpectUntouched(std::move(read));
}

// Runs `end` in a child with a ring of its own, and operations in flight on it.
int EndInFlight(const Kind& kind, bool is_static,
                const std::function<void()>& end) {
  const pid_t child = ::fork();
  if (child == 0) {
    static std::optional<Ring> static_ring;
    std::optional<Ring> local_ring;
    std::optional<Ring>& ring = is_static ? static_ring : local_ring;
    ring.emplace(MakeRing({.setup_flags = kind.setup_flags}));
    const TemporaryFile file(std::string(1 << 20, 'x'));
    static std::byte memory[3][1 << 20];
    static Arena arenas[] = {{memory[0], sizeof(memory[0])},
                             {memory[1], sizeof(memory[1])},
                             {memory[2], sizeof(memory[2])}};
    const Pipe pipe;
    const auto in = Descriptor::Adopt(pipe.read_end);
    const auto source = Descriptor::Adopt(file.Open(O_RDONLY));
    // Static, as handles that a program exits with may be.
    static std::optional<Operation<Transfer<Tracked>>> kept;
    static std::optional<Remote> remote;
    ring->Read(in, Tracked(arenas[0])).Detach();
    ring->Read(in, Tracked(arenas[1]), kCurrentPosition, {.async = true})
        .Detach();
    ring->Nop().Then([](Result<void>) { ::_exit(3); });
    remote.emplace(ring->CreateRemote().value());
    EXPECT_TRUE(remote->Post([] { ::_exit(4); }));
    auto read = ring->Read(source, Tracked(arenas[2]), 0, {.async = true});
    if (is_static) kept.emplace(std::move(read));
    EXPECT_TRUE(ring->Submit());
    end();
    ::_exit(2);
  }
  int status = -1;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

class ProcessEndTest : public ::testing::TestWithParam<Kind> {};

INSTANTIATE_TEST_SUITE_P(Kinds, ProcessEndTest,
                         ::testing::Values(Kind{"Best", std::nullopt},
                                           Kind{"Plain", 0u},
                                           Kind{"SqPoll", IORING_SETUP_SQPOLL}),
                         [](const auto& kind) {
                           return std::string(kind.param.name);
                         });

TEST_P(ProcessEndTest, ExecutesWithOperationsInFlight) {
  for (const bool is_static : {false, true}) {
    EXPECT_EQ(EndInFlight(GetParam(), is_static,
                          [] { ::execl("/bin/true", "true", nullptr); }),
              0);
  }
}

TEST_P(ProcessEndTest, ExitsAtOnceWithOperationsInFlight) {
  for (const bool is_static : {false, true}) {
    EXPECT_EQ(EndInFlight(GetParam(), is_static, [] { ::_exit(0); }), 0);
  }
}

TEST_P(ProcessEndTest, ExitsWithOperationsInFlight) {
  for (const bool is_static : {false, true}) {
    EXPECT_EQ(EndInFlight(GetParam(), is_static, [] { std::exit(0); }), 0);
  }
}

TEST_P(ProcessEndTest, ExitsWhileAnotherThreadDispatches) {
  EXPECT_EQ(EndInFlight(GetParam(), true,
                        [] {
                          std::thread([] {
                            static Ring& ring = *new Ring(MakeRing());
                            ring.Timeout(std::chrono::hours(1)).Detach();
                            (void)ring.Dispatch();
                          }).detach();
                          std::this_thread::sleep_for(milliseconds(5));
                          std::exit(0);
                        }),
            0);
}

// Misuse.

TEST_P(SafeForkTest, MisuseIsNamed) {
  auto read = StartRead();
  auto nop = ring_->Nop();
  const Remote remote = ring_->CreateRemote().value();
  const std::function<void()> kMisuses[] = {
      [&] { (void)ring_->Nop(); },
      [&] { (void)ring_->Submit(); },
      [&] { (void)ring_->Dispatch(); },
      [&] { (void)ring_->Wait(std::move(read)); },
      [&] { (void)ring_->in_flight(); },
      [&] { (void)ring_->unknown_completions(); },
      [&] { (void)ring_->CreateRemote(); },
      [&] { std::move(nop).Then([](Result<void>) {}); },
      [&] { ring_->Cancel(nop).Detach(); },
      [&] { (void)remote.Post([] {}); },
  };
  ::testing::GTEST_FLAG(death_test_style) = "fast";
  for (const auto& misuse : kMisuses) {
    EXPECT_DEATH(misuse(), "a child process that inherited it");
  }
  EXPECT_TRUE(ring_->Wait(std::move(nop)));
  ExpectUntouched(std::move(read));
}

TEST(SafeFork, DisabledAndUntiedRingsAreInheritedToo) {
  ::testing::GTEST_FLAG(death_test_style) = "fast";
  Ring disabled = MakeRing({.disabled = true});
  EXPECT_DEATH((void)disabled.Enable(), "a child process that inherited it");
  EXPECT_DEATH((void)disabled.CreateRemote(),
               "a child process that inherited it");
  Ring untied = MakeRing({.setup_flags = 0u});
  EXPECT_DEATH(untied.TakeOver(), "a child process that inherited it");
  EXPECT_TRUE(disabled.Enable());
  EXPECT_TRUE(disabled.Wait(disabled.Nop()));
}

}  // namespace
}  // namespace escrow::safe
