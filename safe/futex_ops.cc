#include "escrow/safe/futex_ops.h"

#include <linux/futex.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "escrow/ownership/futex_word.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using internal::FutexEntry;
using ownership::FutexWord;
using ownership::Record;

static_assert(sizeof(FutexEntry) == sizeof(futex_waitv) &&
              offsetof(FutexEntry, expected) == offsetof(futex_waitv, val) &&
              offsetof(FutexEntry, address) == offsetof(futex_waitv, uaddr) &&
              offsetof(FutexEntry, flags) == offsetof(futex_waitv, flags));

// futex2's, which Debian 12's headers do not have.
constexpr std::uint32_t kSize32 = 2;
constexpr std::uint32_t kPrivate = 128;

std::uint32_t FlagsOf(const FutexWord& word) {
  return word.scope() == FutexWord::Scope::kProcess ? kSize32 | kPrivate
                                                    : kSize32;
}

const std::uint32_t* AddressOf(const FutexWord& word) {
  return reinterpret_cast<const std::uint32_t*>(&*word);
}

}  // namespace

void FutexWait::Start(Record& record) {
  Engine::Of(record).Start(record,
                           raw::FutexWait{.word = AddressOf(word),
                                          .expected = expected,
                                          .mask = mask,
                                          .futex_flags = FlagsOf(word)},
                           record.sqe_flags);
}

void FutexWake::Start(Record& record) {
  // The kernel takes a signed number.
  constexpr std::uint32_t kMost = 0x7fff'ffff;
  Engine::Of(record).Start(record,
                           raw::FutexWake{.word = AddressOf(word),
                                          .count = std::min(count, kMost),
                                          .mask = mask,
                                          .futex_flags = FlagsOf(word)},
                           record.sqe_flags);
}

namespace internal {

FutexEntry EntryOf(const WatchedWord& watched) {
  return {.expected = watched.expected,
          .address = reinterpret_cast<std::uintptr_t>(AddressOf(watched.word)),
          .flags = FlagsOf(watched.word),
          .reserved = 0};
}

void StartFutexWaitAny(Record& record, const FutexEntry* entries,
                       std::size_t count) {
  Engine::Of(record).Start(
      record,
      raw::FutexWaitV{.futexes = reinterpret_cast<const futex_waitv*>(entries),
                      .count = TransferLength(count)},
      record.sqe_flags);
}

}  // namespace internal
}  // namespace escrow::safe
