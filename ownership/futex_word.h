#ifndef ESCROW_OWNERSHIP_FUTEX_WORD_H_
#define ESCROW_OWNERSHIP_FUTEX_WORD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "escrow/ownership/check.h"

namespace escrow::ownership {

// A word of 32 bits to wait on and to wake by: futex(7). Copies are handles of
// one word, which lives until the last is gone; an operation holds one, so that
// no waiter stays behind on memory that became something else. The word and
// copies of its handle may be used by any thread.
//
//   FutexWord ready;
//   ring.Start(FutexWait{.word = ready, .expected = 0});
//   // elsewhere:
//   ready->store(1);
//   other_ring.Start(FutexWake{.word = ready});
class FutexWord {
 public:
  // Who can wait and wake.
  enum class Scope : std::uint8_t {
    kProcess,  // the threads of this process
    kMachine,  // every process that maps the memory, at whatever address
  };

  // A word of its own, for this process.
  explicit FutexWord(std::uint32_t value = 0)
      : FutexWord(std::make_shared<std::atomic<std::uint32_t>>(value),
                  Scope::kProcess) {}

  // A word inside of something that `word` owns: for kMachine mostly a Mapping
  // with MAP_SHARED. Requires that it is not null.
  FutexWord(std::shared_ptr<std::atomic<std::uint32_t>> word,
            Scope scope) noexcept
      : word_(std::move(word)), scope_(scope) {
    ESCROW_CHECK(word_ != nullptr, "a FutexWord without a word");
  }

  // The word. Requires that the handle was not moved from.
  std::atomic<std::uint32_t>& operator*() const noexcept {
    ESCROW_CHECK(word_ != nullptr, "use of a FutexWord that was moved from");
    return *word_;
  }
  std::atomic<std::uint32_t>* operator->() const noexcept { return &**this; }

  Scope scope() const noexcept { return scope_; }

 private:
  static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t) &&
                std::atomic<std::uint32_t>::is_always_lock_free);

  std::shared_ptr<std::atomic<std::uint32_t>> word_;
  Scope scope_;
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_FUTEX_WORD_H_
