// What a ring's destructor promises: when it has returned, the kernel writes
// into no memory that an operation of the ring owned.
//
// The case that breaks naive teardowns is a big read by a kernel worker thread:
// closing a ring does not wait for it, and it goes on for milliseconds.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/ring.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using ownership::Descriptor;
using testing::Arena;
using testing::TemporaryFile;
using testing::Tracked;

constexpr std::size_t kMegabyte = 1024 * 1024;
constexpr std::size_t kSize = 64 * kMegabyte;
constexpr std::size_t kPage = 4096;
constexpr std::byte kUntouched{0xa5};
constexpr int kRings = 200;   // at most
constexpr int kEnough = 100;  // of those that were caught in the act

struct Kind {
  const char* name;
  std::uint32_t setup_flags;
};

class TeardownTest : public ::testing::TestWithParam<Kind> {
 protected:
  TeardownTest() : file_(std::string(kSize, 'k')) {
    void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    memory_ = static_cast<std::byte*>(memory);
  }
  ~TeardownTest() override { munmap(memory_, kSize); }

  // One byte a page tells whether the kernel has been there.
  void Mark() {
    for (std::size_t i = 0; i < kSize; i += kPage) memory_[i] = kUntouched;
  }
  // Looks at what is the kernel's, so it may not be told not to.
  __attribute__((no_sanitize("address"))) int PagesWritten() const {
    int pages = 0;
    for (std::size_t i = 0; i < kSize; i += kPage) {
      // The compiler does not know that the kernel may write here.
      if (const_cast<volatile std::byte*>(memory_)[i] != kUntouched) ++pages;
    }
    return pages;
  }

  // A ring with the whole read in flight, about to be destroyed.
  std::optional<Ring> RingInMidRead(Arena& arena, bool keep_handle) {
    auto ring =
        Ring::Create({.entries = 8, .setup_flags = GetParam().setup_flags});
    if (!ring) {
      ADD_FAILURE() << ring.error().message();
      return std::nullopt;
    }
    const auto source = Descriptor::Adopt(file_.Open(O_RDONLY));
    Mark();
    auto read = ring->Read(source, Tracked(arena), 0, {.async = true});
    EXPECT_TRUE(ring->Submit());
    // Until the worker is writing, or did not start in time to matter.
    for (int i = 0; i < 2000 && PagesWritten() == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::microseconds(10));
    }
    if (keep_handle) handle_.emplace(std::move(read));
    return std::optional<Ring>(std::move(*ring));
  }

  TemporaryFile file_;
  std::byte* memory_;
  std::optional<Operation<Transfer<Tracked>>> handle_;
};

INSTANTIATE_TEST_SUITE_P(
    Kinds, TeardownTest,
    ::testing::Values(Kind{"Default", 0},
                      Kind{"DeferTaskrun",
                           IORING_SETUP_SINGLE_ISSUER | (1u << 13)},
                      Kind{"SqPoll", IORING_SETUP_SQPOLL}),
    [](const auto& kind) { return std::string(kind.param.name); });

TEST_P(TeardownTest, NoByteChangesAfterTheDestructor) {
  int caught_in_the_act = 0;
  for (int i = 0; i < kRings && caught_in_the_act < kEnough; ++i) {
    Arena arena{memory_, kSize};
    const bool keep_handle = i % 2 == 0;
    std::optional<Ring> ring = RingInMidRead(arena, keep_handle);
    ASSERT_TRUE(ring);
    const int before = PagesWritten();
    ring.reset();
    const int at_return = PagesWritten();
    if (before > 0 && before < static_cast<int>(kSize / kPage)) {
      ++caught_in_the_act;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_EQ(PagesWritten(), at_return) << "ring " << i;
    if (keep_handle) {
      ASSERT_TRUE(handle_->done());
      EXPECT_EQ(arena.releases, 0);
      auto [result, buffer] = std::move(*handle_).Take();
      // Read before the cancellation took hold, or not.
      if (!result) {
        EXPECT_EQ(result.error(), std::errc::operation_canceled);
      }
      handle_.reset();
    }
    ASSERT_EQ(arena.releases, 1) << "ring " << i;
  }
  // Else the test shows nothing.
  EXPECT_GT(caught_in_the_act, kRings / 4);
}

}  // namespace
}  // namespace escrow::safe
