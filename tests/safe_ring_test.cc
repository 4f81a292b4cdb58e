#include "escrow/safe/ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <coroutine>

#include "escrow/ownership/buffer.h"

namespace escrow::safe {
namespace {

struct Detached {
  struct promise_type {
    Detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::abort(); }
  };
};

TEST(SafeRing, Smoke) {
  auto ring = Ring::Create();
  ASSERT_TRUE(ring) << ring.error().message();
  auto file = ring->Wait(ring->Open("/proc/self/exe", O_RDONLY));
  ASSERT_TRUE(file) << file.error().message();
  auto [n, s] = ring->Wait(ring->Read(*file, std::string(4, ' '), 0));
  ASSERT_TRUE(n);
  EXPECT_EQ(*n, 4u);
  EXPECT_EQ(s, "\177ELF");
  auto none = ring->Wait(ring->Open("/nonexistent", O_RDONLY));
  EXPECT_EQ(none.error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(none.error().message(), "openat: No such file or directory");
  int got = 0;
  ring->Read(*file, std::vector<char>(4), 1).Then([&](Result<std::size_t> r, std::vector<char> v) {
    got = *r + v[0];
  });
  ASSERT_EQ(*ring->Dispatch(), 1u);
  EXPECT_EQ(got, 4 + 'E');
  bool finished = false;
  auto body = [&]() -> Detached {
    auto [r, b] = co_await ring->Read(*file, *ownership::Buffer::Allocate(4096, 4096), 0);
    EXPECT_EQ(*r, 4096u);
    auto t = co_await ring->Timeout(std::chrono::milliseconds(3));
    EXPECT_TRUE(t);
    auto st = co_await ring->Statx("/proc/self/exe");
    EXPECT_TRUE(st && st->stx_size > 0);
    finished = true;
  };
  body();
  while (!finished) ASSERT_TRUE(ring->Dispatch());
  EXPECT_TRUE(ring->Wait(ring->Fsync(*file)));
  EXPECT_TRUE(ring->Wait(ring->Close(std::move(*file))));
}

}  // namespace
}  // namespace escrow::safe
