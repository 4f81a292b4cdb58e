// Checks of entries that a program has already submitted: of what nothing
// forbids, and yet is a mistake most of the time. See Checks.

#include <liburing/io_uring.h>

#include <cstddef>
#include <cstdint>

#include "escrow/sim/kernel_state.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/report.h"
#include "escrow/sim/ring.h"

namespace escrow::sim {
namespace {

// What no program means.
constexpr std::uint64_t kConsumed = 0x5ca1'ab1e'0ddb'a11d;

constexpr Mistake kChanged = {
    "io-uring-changed-entry",
    "an entry was changed after the kernel had consumed it"};
constexpr Mistake kStale = {
    "io-uring-stale-user-data",
    "an entry is submitted with the user_data of an earlier one"};

// FNV-1a.
std::uint64_t SumOf(const std::byte* bytes, std::size_t size) noexcept {
  std::uint64_t sum = 0xcbf2'9ce4'8422'2325;
  for (std::size_t i = 0; i < size; ++i) {
    sum = (sum ^ static_cast<std::uint64_t>(bytes[i])) * 0x100'0000'01b3;
  }
  return sum;
}

}  // namespace

void Ring::CheckUserData(const io_uring_sqe& entry) {
  if (!kernel_.options().checks.stale_user_data ||
      entry.user_data != kConsumed) {
    return;
  }
  const Owner owner = {.name = "the entry",
                       .user_data = entry.user_data,
                       .submitted = Stack::Here()};
  Report(kStale, &entry, entry_bytes_, &owner);
}

void Ring::KeepEntry(std::uint32_t index) {
  const Checks& checks = kernel_.options().checks;
  auto* const entry = reinterpret_cast<io_uring_sqe*>(Entry(index));
  if (checks.stale_user_data) {
    (void)Store(&entry->user_data, &kConsumed, sizeof(kConsumed));
  }
  if (!checks.changed_entries) return;
  if (kept_entries_.size() != sq_entries_) {
    kept_entries_.assign(sq_entries_, KeptEntry());
  }
  kept_entries_[index] = {true, SumOf(Entry(index), entry_bytes_)};
}

void Ring::CheckEntries() {
  if (!kernel_.options().checks.changed_entries ||
      kept_entries_.size() != sq_entries_ || entries_ == nullptr) {
    return;
  }
  for (std::uint32_t at = QueueHead(); at != QueueTail(); ++at) {
    const std::uint32_t index = EntryIndex(at);
    if (index < sq_entries_) kept_entries_[index].kept = false;
  }
  for (std::uint32_t i = 0; i < sq_entries_; ++i) {
    if (kept_entries_[i].kept &&
        kept_entries_[i].sum != SumOf(Entry(i), entry_bytes_)) {
      Report(kChanged, Entry(i), entry_bytes_, nullptr);
    }
  }
}

}  // namespace escrow::sim
