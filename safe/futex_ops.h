#ifndef ESCROW_SAFE_FUTEX_OPS_H_
#define ESCROW_SAFE_FUTEX_OPS_H_

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "escrow/ownership/futex_word.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"
#include "escrow/safe/several.h"

// Waiting on words of memory, and waking who waits, for Ring::Start(): futex(2)
// without a thread that blocks. Whoever else waits or wakes may use the system
// call. Linux 6.7.

namespace escrow::safe {

// FUTEX_WAIT_BITSET: until it is woken, if the word is `expected` when the
// kernel looks; otherwise resource_unavailable_try_again.
struct FutexWait {
  ownership::FutexWord word;
  std::uint32_t expected = 0;
  std::uint32_t mask = ~std::uint32_t{0};  // bits to be woken by; one at least

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// FUTEX_WAKE_BITSET: how many it has woken. Changes nothing about the word.
struct FutexWake {
  ownership::FutexWord word;
  std::uint32_t count = 1;                 // waiters at most
  std::uint32_t mask = ~std::uint32_t{0};  // bits to wake; one at least

  using Outcome = Result<std::size_t>;
  void Start(ownership::Record& record);
};

// One of those that a FutexWaitAny waits on.
struct WatchedWord {
  ownership::FutexWord word;
  std::uint32_t expected = 0;
};

namespace internal {

// What the kernel is told about a word.
struct FutexEntry {
  std::uint64_t expected;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};
FutexEntry EntryOf(const WatchedWord& watched);

template <typename Words>
using FutexRoom = ArrayRoom<FutexEntry, Several<Words>::kFew>;

void StartFutexWaitAny(ownership::Record& record, const FutexEntry* entries,
                       std::size_t count);

}  // namespace internal

// futex_waitv(2), on a std::vector or a std::array of WatchedWords: the index
// of one that was woken. If a word is not as expected,
// resource_unavailable_try_again. More than eight in a std::vector, or what
// does not fit into a record as a std::array, cost an allocation; none, and
// more than 128, are invalid_argument.
template <typename Words>
requires std::same_as<typename internal::Several<Words>::Element, WatchedWord>
struct FutexWaitAny {
  Words words;

  KernelRoom<internal::FutexRoom<Words>> entries =
      KernelRoom<internal::FutexRoom<Words>>();

  using Outcome = Result<std::size_t>;
  void Start(ownership::Record& record) {
    internal::FutexEntry* const first = entries.value.Make(words.size());
    internal::FutexEntry* next = first;
    for (const WatchedWord& watched : words) {
      *next++ = internal::EntryOf(watched);
    }
    internal::StartFutexWaitAny(record, first, words.size());
  }
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_FUTEX_OPS_H_
