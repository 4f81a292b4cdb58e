// The ops of futex_ops.h.

#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/futex_word.h"
#include "escrow/ownership/mapping.h"
#include "escrow/safe/futex_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/safe_op_cases.h"

namespace escrow::safe::cases {
namespace {

using ownership::FutexWord;
using ownership::Mapping;

// Waiters on `word` that were woken, which is done for this process.
int WakeBySystemCall(const FutexWord& word, int count) {
  return static_cast<int>(
      ::syscall(SYS_futex, &*word, FUTEX_WAKE_PRIVATE, count, 0, 0, 0));
}

// Whether this machine has the operations.
bool HasFutexes() {
  auto ring = Ring::Create({.entries = 8});
  return ring->Wait(ring->Start(FutexWake{.word = FutexWord()})).has_value();
}

// Wakes a waiter on `word` as soon as there is one.
class Waker {
 public:
  explicit Waker(const FutexWord& word)
      : thread_([this, word] {
          while (!stop_.load() && WakeBySystemCall(word, 1) == 0) {
            std::this_thread::sleep_for(std::chrono::microseconds(100));
          }
        }) {}
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;
  ~Waker() {
    stop_.store(true);
    thread_.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

struct FutexWaitCase {
  FutexWord word{5};
  std::unique_ptr<Waker> waker = {};
  static constexpr const char* kName = "FutexWait";
  static constexpr const char* kCall = "futex wait";

  bool Possible() { return HasFutexes(); }
  auto Good() {
    waker = std::make_unique<Waker>(word);
    return Waits();
  }
  void Expect(Result<void>) {}
  FutexWait Waits() { return {.word = word, .expected = 5}; }
  void EndWait() { (void)WakeBySystemCall(word, 10); }
  void ExpectWaited(Result<void>) {}
  auto Bad() { return FutexWait{.word = word, .expected = 6}; }
  static constexpr int kError = EAGAIN;
};

struct FutexWakeCase {
  static constexpr const char* kName = "FutexWake";
  static constexpr const char* kCall = "futex wake";

  bool Possible() { return HasFutexes(); }
  auto Good() { return FutexWake{.word = FutexWord()}; }
  void Expect(Result<std::size_t> woken) { EXPECT_EQ(*woken, 0u); }
  auto Bad() { return FutexWake{.word = FutexWord(), .mask = 0}; }
  static constexpr int kError = EINVAL;
};

struct FutexWaitAnyCase {
  FutexWord first{5}, second{6};
  std::unique_ptr<Waker> waker = {};
  static constexpr const char* kName = "FutexWaitAny";
  static constexpr const char* kCall = "futex_waitv";

  bool Possible() { return HasFutexes(); }
  auto Good() {
    waker = std::make_unique<Waker>(second);
    return Waits();
  }
  void Expect(Result<std::size_t> index) { EXPECT_EQ(*index, 1u); }
  FutexWaitAny<std::array<WatchedWord, 2>> Waits() {
    return {.words = {WatchedWord{.word = first, .expected = 5},
                      WatchedWord{.word = second, .expected = 6}}};
  }
  void EndWait() { (void)WakeBySystemCall(second, 10); }
  void ExpectWaited(Result<std::size_t> index) { EXPECT_EQ(*index, 1u); }
  auto Bad() {
    return FutexWaitAny<std::vector<WatchedWord>>{
        .words = {WatchedWord{.word = first, .expected = 5},
                  WatchedWord{.word = second, .expected = 5}}};
  }
  static constexpr int kError = EAGAIN;
};

using Cases = ::testing::Types<FutexWaitCase, FutexWakeCase, FutexWaitAnyCase>;
ESCROW_OP_CASES(Futex, Cases);

// What a row cannot say.

class SafeFutexOps : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasFutexes()) GTEST_SKIP() << "not on this machine";
  }

  void LetPass() { EXPECT_TRUE(ring_.Wait(ring_.Nop())); }
  std::size_t Wake(FutexWake wake) {
    return ring_.Wait(ring_.Start(std::move(wake))).value();
  }

  Ring ring_ = *Ring::Create({.entries = 8});
};

TEST_F(SafeFutexOps, WakesAsManyAsAskedFor) {
  const FutexWord word;
  std::vector<Operation<Result<void>>> waits;
  for (int i = 0; i < 5; ++i) {
    waits.push_back(ring_.Start(FutexWait{.word = word}));
  }
  LetPass();
  EXPECT_EQ(Wake({.word = word, .count = 2}), 2u);
  EXPECT_TRUE(ring_.Wait(std::move(waits[0])));
  EXPECT_TRUE(ring_.Wait(std::move(waits[1])));
  LetPass();
  EXPECT_FALSE(waits[2].done());
  EXPECT_EQ(Wake({.word = word, .count = ~std::uint32_t{0}}), 3u);
}

TEST_F(SafeFutexOps, WakesByMask) {
  const FutexWord word;
  auto wait = ring_.Start(FutexWait{.word = word, .mask = 0b01});
  LetPass();
  EXPECT_EQ(Wake({.word = word, .mask = 0b10}), 0u);
  EXPECT_EQ(Wake({.word = word, .mask = 0b11}), 1u);
  EXPECT_TRUE(ring_.Wait(std::move(wait)));
}

// The ring of another thread, which has the last handle but the operation's.
TEST_F(SafeFutexOps, WakesAcrossRings) {
  FutexWord word;
  auto wait = ring_.Start(FutexWait{.word = word});
  LetPass();
  std::thread([word] {
    auto ring = Ring::Create({.entries = 8});
    word->store(1);
    EXPECT_EQ(ring->Wait(ring->Start(FutexWake{.word = word})).value(), 1u);
  }).join();
  EXPECT_TRUE(ring_.Wait(std::move(wait)));
  EXPECT_EQ(word->load(), 1u);
}

// A word whose end shows.
struct Watched {
  explicit Watched(bool& gone_flag) : gone(gone_flag) {}
  ~Watched() { gone = true; }
  std::atomic<std::uint32_t> word = 0;
  bool& gone;
};
FutexWord WordOf(std::shared_ptr<Watched> owner) {
  auto* const word = &owner->word;
  return {std::shared_ptr<std::atomic<std::uint32_t>>(std::move(owner), word),
          FutexWord::Scope::kProcess};
}

TEST_F(SafeFutexOps, AWordLivesUntilItsWaiterIsGone) {
  bool one_gone = false, other_gone = false;
  {
    auto wait = ring_.Start(
        FutexWait{.word = WordOf(std::make_shared<Watched>(one_gone))});
    auto wait_any = ring_.Start(FutexWaitAny<std::vector<WatchedWord>>{
        .words = {WatchedWord{
            .word = WordOf(std::make_shared<Watched>(other_gone))}}});
    LetPass();
  }
  EXPECT_FALSE(one_gone || other_gone);
  while (ring_.in_flight() > 0) EXPECT_TRUE(ring_.Dispatch());
  EXPECT_TRUE(one_gone && other_gone);
}

// Two addresses of one word, which only Scope::kMachine finds to be the same.
TEST_F(SafeFutexOps, SharedWordsAreSharedByProcesses) {
  auto mapping = Mapping::Anonymous(4096, MAP_SHARED);
  ASSERT_TRUE(mapping);
  auto owner = std::make_shared<Mapping>(std::move(*mapping));
  auto* const place = ::new (owner->data() + 64) std::atomic<std::uint32_t>(0);
  const FutexWord word(
      std::shared_ptr<std::atomic<std::uint32_t>>(std::move(owner), place),
      FutexWord::Scope::kMachine);
  auto wait = ring_.Start(FutexWait{.word = word});
  auto private_wait = ring_.Start(
      FutexWait{.word = FutexWord(std::shared_ptr<std::atomic<std::uint32_t>>(
                                      std::make_shared<FutexWord>(word), place),
                                  FutexWord::Scope::kProcess)});
  LetPass();
  const ::pid_t child = ::fork();
  if (child == 0) {
    word->store(1);
    ::_exit(static_cast<int>(
        ::syscall(SYS_futex, &*word, FUTEX_WAKE, 10, 0, 0, 0)));
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_TRUE(ring_.Wait(std::move(wait)));
  EXPECT_EQ(word->load(), 1u);
  LetPass();
  EXPECT_FALSE(private_wait.done());
}

TEST_F(SafeFutexOps, AnyOfManyWords) {
  using Words = std::vector<WatchedWord>;
  Words words;
  for (std::uint32_t i = 0; i < 128; ++i) {
    words.push_back({.word = FutexWord(i), .expected = i});
  }
  auto wait = ring_.Start(FutexWaitAny<Words>{.words = words});
  LetPass();
  EXPECT_EQ(Wake({.word = words[100].word}), 1u);
  EXPECT_EQ(ring_.Wait(std::move(wait)).value(), 100u);
  words.push_back({.word = FutexWord()});
  EXPECT_EQ(
      ring_.Wait(ring_.Start(FutexWaitAny<Words>{.words = words})).error(),
      std::errc::invalid_argument);
  EXPECT_EQ(ring_.Wait(ring_.Start(FutexWaitAny<Words>{.words = {}})).error(),
            std::errc::invalid_argument);
}

TEST(FutexWordDeathTest, WithoutAWord) {
  EXPECT_DEATH(FutexWord(nullptr, FutexWord::Scope::kProcess),
               "a FutexWord without a word");
  FutexWord word;
  const FutexWord other = std::move(word);
  EXPECT_DEATH((void)word->load(), "use of a FutexWord that was moved from");
}

}  // namespace
}  // namespace escrow::safe::cases
