#include "escrow/ownership/watch.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <boost/intrusive/set.hpp>
#include <boost/intrusive/set_hook.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "escrow/raw/contract.h"
#include "escrow/raw/memory.h"
#include "escrow/raw/sanitizer.h"

// Declared here, for g++ 12 has not got all of the headers. A build only calls
// what its sanitizer defines.
extern "C" {
// NOLINTBEGIN(clang-diagnostic-reserved-identifier)
void __asan_get_shadow_mapping(std::size_t* scale, std::size_t* offset);
void __asan_poison_memory_region(const volatile void* data, std::size_t size);
void __asan_unpoison_memory_region(const volatile void* data, std::size_t size);
void* __asan_region_is_poisoned(void* data, std::size_t size);
void __asan_set_error_report_callback(void (*callback)(const char*));
void* __asan_get_report_address();
void __asan_describe_address(void* address);
void __msan_unpoison(const volatile void* data, std::size_t size);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
int __sanitizer_install_malloc_and_free_hooks(
    void (*malloc_hook)(const volatile void*, std::size_t),
    void (*free_hook)(const volatile void*));
int __sanitizer_get_ownership(const volatile void* data);
std::size_t __sanitizer_get_allocated_size(const volatile void* data);
void __sanitizer_print_stack_trace();
// NOLINTEND(clang-diagnostic-reserved-identifier)
}

#if defined(__clang__)
#define ESCROW_UNINSTRUMENTED __attribute__((no_sanitize("address", "memory")))
#else
#define ESCROW_UNINSTRUMENTED __attribute__((no_sanitize("address")))
#endif

namespace escrow::ownership::internal {

#if ESCROW_SHADOWS_MEMORY
namespace {

namespace intrusive = boost::intrusive;
using Address = std::uintptr_t;
using raw::kAddressSanitizer;
using raw::kMemorySanitizer;

void* PointerTo(Address address) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): what it was before.
  return reinterpret_cast<void*>(address);
}

// A piece of memory that the kernel uses.
struct Piece {
  // The memory of a shadow byte. What is poisoned is whole ones of these, for
  // those at the edges hold other memory, too.
  static constexpr Address kGranule = 8;

  Address begin;
  Address end;
  const void* user;
  const char* call;
  raw::Access access;
  bool counted_by_result;
  std::uint64_t checksum;  // of what the kernel only reads

  intrusive::set_member_hook<> by_address;
  intrusive::set_member_hook<> by_user;
  Piece* next_free;

  std::size_t size() const noexcept { return end - begin; }
  bool read() const noexcept { return access == raw::Access::kRead; }
  bool written() const noexcept {
    return access == raw::Access::kWrite || access == raw::Access::kReadWrite;
  }
  Address poison_begin() const noexcept {
    return (begin + kGranule - 1) / kGranule * kGranule;
  }
  Address poison_end() const noexcept {
    return std::max(poison_begin(), end / kGranule * kGranule);
  }
};

struct BeginOf {
  using type = Address;
  Address operator()(const Piece& piece) const noexcept { return piece.begin; }
};
struct UserOf {
  using type = const void*;
  const void* operator()(const Piece& piece) const noexcept {
    return piece.user;
  }
};

void Describe(const char* what, const Piece& piece) noexcept {
  std::fprintf(stderr, "escrow: %s: \"%s\" in flight %s %zu bytes at %p\n",
               what, piece.call, raw::NameOf(piece.access), piece.size(),
               PointerTo(piece.begin));
}

[[noreturn]] void Report(const char* what, const Piece& piece) noexcept {
  Describe(what, piece);
  __sanitizer_print_stack_trace();
  if constexpr (kAddressSanitizer) {
    __asan_describe_address(PointerTo(piece.begin));
  }
  std::abort();
}

// Looking at memory as it is, by words as far as there are whole ones.
constexpr Address kWord = sizeof(std::uint64_t);
bool IsWord(Address at, Address end) noexcept {
  return at % kWord == 0 && end - at >= kWord;
}
ESCROW_UNINSTRUMENTED std::uint64_t WordAt(Address at) noexcept {
  return *static_cast<const volatile std::uint64_t*>(PointerTo(at));
}
ESCROW_UNINSTRUMENTED unsigned char ByteAt(Address at) noexcept {
  return *static_cast<const volatile unsigned char*>(PointerTo(at));
}

// FNV-1a, nearly.
std::uint64_t Checksum(const Piece& piece) noexcept {
  constexpr std::uint64_t kPrime = 0x100'0000'01b3;
  std::uint64_t sum = 0xcbf2'9ce4'8422'2325;
  Address at = piece.begin;
  while (at != piece.end) {
    const bool word = IsWord(at, piece.end);
    sum ^= word ? WordAt(at) : ByteAt(at);
    at += word ? kWord : 1;
    // A product has no upper bits of one factor in its lower ones.
    sum = (sum ^ sum >> 32) * kPrime;
  }
  return sum;
}

void Poison(const Piece& piece) noexcept {
  if constexpr (kAddressSanitizer) {
    __asan_poison_memory_region(PointerTo(piece.poison_begin()),
                                piece.poison_end() - piece.poison_begin());
  }
}

// Whether the shadow is as Poison() left it. Freed memory, frames that were
// left, and memory that is used anew have other values there, which unpoisoning
// would hide.
[[maybe_unused]] bool IsPoisoned(const Piece& piece) noexcept {
  constexpr std::uint64_t kPoisoned = 0xf7f7'f7f7'f7f7'f7f7;
  std::size_t scale = 0;
  std::size_t offset = 0;
  __asan_get_shadow_mapping(&scale, &offset);
  Address at = (piece.poison_begin() >> scale) + offset;
  const Address end = (piece.poison_end() >> scale) + offset;
  while (at != end) {
    if (IsWord(at, end)) {
      if (WordAt(at) != kPoisoned) return false;
      at += kWord;
    } else {
      if (ByteAt(at) != static_cast<unsigned char>(kPoisoned)) return false;
      ++at;
    }
  }
  return true;
}

// All that the kernel uses for anybody in this process.
class Ledger {
 public:
  // Never destroyed: memory may be in flight to the very end.
  static Ledger& Get() noexcept {
    static auto& ledger = *new Ledger;
    return ledger;
  }

  void Add(const void* user, const char* call,
           const raw::Memory& memory) noexcept {
    const Lock lock(*this);
    Piece& piece = Acquire();
    piece.begin = reinterpret_cast<Address>(memory.data);
    piece.end = piece.begin + memory.size;
    piece.user = user;
    piece.call = call;
    piece.access = memory.access;
    piece.counted_by_result = memory.counted_by_result;
    Check(piece);
    if (piece.read()) piece.checksum = Checksum(piece);
    by_address_.insert(piece);
    by_user_.insert(piece);
    longest_ = std::max(longest_, piece.size());
    used_.fetch_add(1, std::memory_order_relaxed);
    if (piece.written()) Poison(piece);
  }

  void Remove(const void* user, std::int32_t result) noexcept {
    const Lock lock(*this);
    std::size_t left = result > 0 ? static_cast<std::size_t>(result) : 0;
    for (auto at = by_user_.find(user);
         at != by_user_.end() && at->user == user;) {
      Piece& piece = *at;
      at = by_user_.erase(at);
      by_address_.erase(by_address_.iterator_to(piece));
      used_.fetch_sub(1, std::memory_order_relaxed);
      if (piece.read()) CheckUnchanged(piece);
      if (piece.written()) {
        GiveBack(piece);
        if (kMemorySanitizer && result >= 0) {
          std::size_t size = piece.size();
          if (piece.counted_by_result) {
            size = std::min(size, left);
            left -= size;
          }
          __msan_unpoison(PointerTo(piece.begin), size);
        }
      }
      piece.next_free = free_;
      free_ = &piece;
    }
  }

 private:
  // Keeps the hooks, which this thread's allocator calls, from waiting for it.
  class Lock {
   public:
    explicit Lock(Ledger& ledger) noexcept : lock_(ledger.mutex_) {
      busy_ = true;
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    ~Lock() { busy_ = false; }

   private:
    std::lock_guard<std::mutex> lock_;
  };

  Ledger() {
    __sanitizer_install_malloc_and_free_hooks(
        [](const volatile void*, std::size_t) {},
        [](const volatile void* data) { Get().OnFree(data); });
    if constexpr (kAddressSanitizer) {
      __asan_set_error_report_callback(
          [](const char*) { Get().OnError(__asan_get_report_address()); });
    }
    // A child process, whose memory is another, frees some; so do those that
    // are called meanwhile.
    const auto after = [] {
      busy_ = false;
      Get().mutex_.unlock();
    };
    ::pthread_atfork(
        [] {
          Get().mutex_.lock();
          busy_ = true;
        },
        after, after);
  }

  // One of those that overlap [begin, end) and are `such`, or null.
  template <typename Such>
  Piece* Find(Address begin, Address end, Such such) noexcept {
    // None is longer, so those before end earlier.
    for (auto at = by_address_.lower_bound(begin - std::min(begin, longest_));
         at != by_address_.end() && at->begin < end; ++at) {
      if (at->end > begin && such(*at)) return &*at;
    }
    return nullptr;
  }
  Piece* Find(Address begin, Address end) noexcept {
    return Find(begin, end, [](const Piece&) { return true; });
  }

  // Of what is about to be given to the kernel.
  void Check(const Piece& piece) noexcept {
    if (piece.access == raw::Access::kAddress) return;
    const Piece* const other =
        Find(piece.begin, piece.end, [&](const Piece& its) {
          return its.access != raw::Access::kAddress &&
                 (its.written() || piece.written());
        });
    if (other != nullptr) {
      Describe("memory is used by two operations at once", *other);
      Report("this is the other operation", piece);
    }
    if constexpr (kAddressSanitizer) {
      if (__asan_region_is_poisoned(PointerTo(piece.begin), piece.size()) !=
          nullptr) {
        Report("an operation starts on memory that is not valid", piece);
      }
    }
  }

  static void CheckUnchanged(const Piece& piece) noexcept {
    if (piece.checksum != Checksum(piece)) {
      Report("memory was changed while the kernel was reading it", piece);
    }
  }

  static void GiveBack(const Piece& piece) noexcept {
    if constexpr (kAddressSanitizer) {
      if (!IsPoisoned(piece)) {
        Report("memory was given back while the kernel was writing it", piece);
      }
      __asan_unpoison_memory_region(PointerTo(piece.poison_begin()),
                                    piece.poison_end() - piece.poison_begin());
    }
  }

  void OnFree(const volatile void* data) noexcept {
    if (used_.load(std::memory_order_relaxed) == 0 || busy_) return;
    // A free() of something else is the sanitizer's to report.
    if (__sanitizer_get_ownership(data) == 0) return;
    const auto begin = reinterpret_cast<Address>(data);
    const std::size_t size = __sanitizer_get_allocated_size(data);
    const Lock lock(*this);
    if (const Piece* const piece = Find(begin, begin + size)) {
      Report("memory is freed while the kernel is using it", *piece);
    }
  }

  // In the middle of a report of the sanitizer.
  void OnError(const void* data) noexcept {
    if (data == nullptr || busy_) return;
    const auto begin = reinterpret_cast<Address>(data);
    const Lock lock(*this);
    if (const Piece* const piece = Find(begin, begin + 1)) {
      Describe("memory is touched while the kernel is using it", *piece);
    }
  }

  // Allocates only when there is more in flight than ever before.
  Piece& Acquire() noexcept {
    if (free_ == nullptr) {
      constexpr std::size_t kBlock = 256;
      auto* const block = new Piece[kBlock];
      for (std::size_t i = 0; i < kBlock; ++i) {
        block[i].next_free = i + 1 < kBlock ? &block[i + 1] : nullptr;
      }
      free_ = block;
    }
    Piece& piece = *free_;
    free_ = piece.next_free;
    return piece;
  }

  template <auto kHook, typename Key>
  using Index = intrusive::multiset<
      Piece, intrusive::member_hook<Piece, intrusive::set_member_hook<>, kHook>,
      intrusive::key_of_value<Key>, intrusive::constant_time_size<false>>;

  static inline thread_local bool busy_ = false;

  std::mutex mutex_;
  Index<&Piece::by_address, BeginOf> by_address_;
  Index<&Piece::by_user, UserOf> by_user_;  // of one, in the order of Add()
  std::size_t longest_ = 0;                 // of all there ever were
  Piece* free_ = nullptr;
  std::atomic<std::size_t> used_ = 0;
};

}  // namespace

void Watch(const void* user, const char* call,
           const raw::Memory& memory) noexcept {
  if constexpr (kWatching) Ledger::Get().Add(user, call, memory);
}

void Unwatch(const void* user, std::int32_t result) noexcept {
  if constexpr (kWatching) Ledger::Get().Remove(user, result);
}

#endif  // ESCROW_SHADOWS_MEMORY

void HandToKernel(const void* user) noexcept {
  if constexpr (raw::kThreadSanitizer) __tsan_release(const_cast<void*>(user));
}

void TakeFromKernel(const void* user) noexcept {
  if constexpr (raw::kThreadSanitizer) __tsan_acquire(const_cast<void*>(user));
}

}  // namespace escrow::ownership::internal
