#include "escrow/sim/ledger.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "escrow/sim/memory.h"
#include "escrow/sim/real_call.h"
#include "escrow/sim/report.h"
#include "escrow/sim/shadow.h"

// What there is of these depends on the program.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
__attribute__((weak)) int __sanitizer_install_malloc_and_free_hooks(
    void (*malloc_hook)(const volatile void*, std::size_t),
    void (*free_hook)(const volatile void*));
__attribute__((weak)) int __sanitizer_get_ownership(const volatile void* data);
__attribute__((weak)) std::size_t __sanitizer_get_allocated_size(
    const volatile void* data);
__attribute__((weak)) void __asan_set_error_report_callback(
    void (*callback)(const char*));
__attribute__((weak)) void* __asan_get_report_address();
// NOLINTEND(bugprone-reserved-identifier)
}

namespace escrow::sim {
namespace {

using Address = std::uintptr_t;

void* PointerTo(Address address) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): what it was before.
  return reinterpret_cast<void*>(address);
}

// Set while the thread is in the simulator: what it frees is the simulator's.
thread_local bool inside = false;
// Whether it has the ledger's lock.
thread_local bool locked = false;
// Because it forks.
thread_local bool forking = false;

std::atomic<bool> keeps = true;

struct Piece {
  Address begin;
  Address end;
  const Owner* owner;
  Use use;
  bool poisoned;  // by the ledger
  bool has_sum;   // memory that cannot be read has none
  std::uint64_t sum;
  const char* what;
  // Of those whose owners have the same hash.
  Piece* previous;
  Piece* next;

  std::size_t size() const noexcept { return end - begin; }
  void* data() const noexcept { return PointerTo(begin); }
  bool stored_into() const noexcept {
    return use == Use::kWrite || use == Use::kReadWrite ||
           use == Use::kProvided;
  }
  // Only the address matters, or nothing does yet.
  bool idle() const noexcept {
    return use == Use::kAddress || use == Use::kRegistered;
  }
};

// What a report of AddressSanitizer's in this thread would be about.
thread_local const Piece* checked = nullptr;

[[noreturn]] void Report(const char* kind, const char* what, const Piece& piece,
                         const Piece* other = nullptr) noexcept {
  Report({.kind = kind, .what = what}, piece.data(), piece.size(), piece.owner,
         other != nullptr ? other->owner : nullptr);
}

constexpr char kFreed[] = "io-uring-free-in-flight";
constexpr char kFreedWhat[] = "memory is freed while the kernel is using it";
constexpr char kReused[] = "io-uring-reuse-in-flight";
constexpr char kReusedWhat[] =
    "memory was given back while the kernel was writing it";
constexpr char kChanged[] = "io-uring-change-in-flight";
constexpr char kChangedWhat[] =
    "memory was changed while the kernel was reading it";
constexpr char kShared[] = "io-uring-shared-in-flight";
constexpr char kSharedWhat[] = "memory is used by two operations at once";

// All that the kernel may use.
class Ledger {
 public:
  // Never destroyed: memory may be in flight to the very end.
  static Ledger& Get() noexcept {
    static auto& ledger = *new Ledger;
    return ledger;
  }

  void Hold(const Owner& owner, Use use, void* data, std::size_t size,
            const char* what) noexcept {
    if (size == 0) return;
    const Lock lock(*this);
    Piece piece = {.begin = reinterpret_cast<Address>(data),
                   .end = reinterpret_cast<Address>(data) + size,
                   .owner = &owner,
                   .use = use,
                   .poisoned = false,
                   .has_sum = false,
                   .sum = 0,
                   .what = what,
                   .previous = nullptr,
                   .next = nullptr};
    if (piece.end < piece.begin) return;  // an EFAULT
    CheckValid(piece);
    CheckUnshared(piece);
    if (use == Use::kRead) piece.has_sum = Sum(piece, &piece.sum);
    // What somebody else has poisoned is left to whoever that is.
    if (piece.stored_into() && IsReadable(data, size) &&
        PoisonOf(data, size) == Poison::kNone) {
      piece.poisoned = SetPoison(data, size);
    }
    Insert(*new Piece(piece));
  }

  void Release(const Owner& owner, const void* data) noexcept {
    const Lock lock(*this);
    const auto begin = reinterpret_cast<Address>(data);
    for (auto at = LowerBound(begin);
         at != by_address_.end() && (*at)->begin == begin; ++at) {
      if ((*at)->owner == &owner) {
        Remove(at);
        return;
      }
    }
  }

  void ReleaseAll(const Owner& owner) noexcept {
    const Lock lock(*this);
    for (Piece* piece = Bucket(owner); piece != nullptr;) {
      Piece* const next = piece->next;
      if (piece->owner == &owner) {
        Remove(std::find(LowerBound(piece->begin), by_address_.end(), piece));
      }
      piece = next;
    }
  }

  static void HandleForks() noexcept {
    // A child process has memory of its own, of which the kernel uses nothing.
    // What handlers free that are called meanwhile has to wait for nothing.
    ::pthread_atfork(
        [] {
          if (std::exchange(forking, true)) return;
          Get().mutex_.lock();
          inside = true;
        },
        [] {
          if (!std::exchange(forking, false)) return;
          inside = false;
          Get().mutex_.unlock();
        },
        [] {
          if (!std::exchange(forking, false)) return;
          Get().Forget();
          inside = false;
          Get().mutex_.unlock();
        });
  }

  bool Uses(const Owner& owner) noexcept {
    const Lock lock(*this);
    const Piece* piece = Bucket(owner);
    while (piece != nullptr && (piece->owner != &owner || piece->idle())) {
      piece = piece->next;
    }
    return piece != nullptr;
  }

 private:
  using Pieces = std::vector<Piece*>;

  class Lock {
   public:
    explicit Lock(Ledger& ledger) noexcept
        : lock_(ledger.mutex_, std::defer_lock) {
      if (!forking) lock_.lock();
      locked = true;
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    ~Lock() { locked = false; }

   private:
    Inside inside_;
    std::unique_lock<std::mutex> lock_;
  };

  Ledger() {
    if (__sanitizer_install_malloc_and_free_hooks != nullptr) {
      __sanitizer_install_malloc_and_free_hooks(
          [](const volatile void*, std::size_t) {},
          [](const volatile void* data) { Get().OnFree(data); });
    }
    if (__asan_set_error_report_callback != nullptr) {
      __asan_set_error_report_callback([](const char*) { Get().OnError(); });
    }
    HandleForks();
  }

  // By address.

  Pieces::iterator LowerBound(Address begin) noexcept {
    return std::lower_bound(
        by_address_.begin(), by_address_.end(), begin,
        [](const Piece* piece, Address at) { return piece->begin < at; });
  }

  // One of those that overlap [begin, end) and are `such`, or null.
  template <typename Such>
  const Piece* Find(Address begin, Address end, Such such) noexcept {
    // None is longer, so those before end earlier.
    for (auto at = LowerBound(begin - std::min<Address>(begin, longest_));
         at != by_address_.end() && (*at)->begin < end; ++at) {
      if ((*at)->end > begin && such(**at)) return *at;
    }
    return nullptr;
  }
  const Piece* Find(Address begin, Address end) noexcept {
    return Find(begin, end, [](const Piece&) { return true; });
  }

  // By owner.

  Piece*& Bucket(const Owner& owner) noexcept {
    const auto address = reinterpret_cast<Address>(&owner);
    return by_owner_[(address >> 4 ^ address >> 14) % kBuckets];
  }

  void Insert(Piece& piece) noexcept {
    by_address_.insert(LowerBound(piece.begin), &piece);
    Piece*& first = Bucket(*piece.owner);
    piece.next = first;
    if (first != nullptr) first->previous = &piece;
    first = &piece;
    longest_ = std::max(longest_, piece.size());
    used_.store(by_address_.size(), std::memory_order_relaxed);
  }

  void Remove(Pieces::iterator at) noexcept {
    Piece& piece = **at;
    by_address_.erase(at);
    used_.store(by_address_.size(), std::memory_order_relaxed);
    if (by_address_.empty()) longest_ = 0;
    if (piece.next != nullptr) piece.next->previous = piece.previous;
    if (piece.previous != nullptr) {
      piece.previous->next = piece.next;
    } else {
      Bucket(*piece.owner) = piece.next;
    }
    CheckEnd(piece);
    if (piece.poisoned) ClearPoison(piece.data(), piece.size());
    delete &piece;
  }

  void Forget() noexcept {
    for (Piece* const piece : by_address_) {
      if (piece->poisoned) ClearPoison(piece->data(), piece->size());
      delete piece;
    }
    by_address_.clear();
    used_ = 0;
    longest_ = 0;
    for (Piece*& first : by_owner_) first = nullptr;
  }

  // Checks.

  // Reported as AddressSanitizer reports what is accessed.
  static void CheckValid(const Piece& piece) noexcept {
    if (piece.use == Use::kAddress || IsValid(piece.data(), piece.size())) {
      return;
    }
    checked = &piece;
    if (piece.stored_into()) {
      BeforeStore(piece.data(), piece.size());
    } else {
      BeforeLoad(piece.data(), piece.size());
    }
  }

  void CheckUnshared(const Piece& piece) noexcept {
    if (piece.idle()) return;
    const Piece* const other =
        Find(piece.begin, piece.end, [&](const Piece& its) {
          if (its.idle()) return false;
          // One operation may well be given the same memory twice.
          if (its.owner == piece.owner && its.use != Use::kProvided) {
            return false;
          }
          return its.stored_into() || piece.stored_into();
        });
    if (other != nullptr) Report(kShared, kSharedWhat, piece, other);
  }

  static void CheckEnd(const Piece& piece) noexcept {
    if (piece.idle()) return;
    // A frame that was left, for that is never freed.
    CheckValid(piece);
    if (piece.poisoned &&
        PoisonOf(piece.data(), piece.size()) != Poison::kAll) {
      Report(kReused, kReusedWhat, piece);
    }
    std::uint64_t sum = 0;
    if (piece.has_sum && Sum(piece, &sum) && sum != piece.sum) {
      Report(kChanged, kChangedWhat, piece);
    }
  }

  // FNV-1a, nearly, of memory that may be gone: false if it is.
  static bool Sum(const Piece& piece, std::uint64_t* sum) noexcept {
    static unsigned char bytes[1 << 16];  // under the ledger's lock
    constexpr std::uint64_t kPrime = 0x100'0000'01b3;
    *sum = 0xcbf2'9ce4'8422'2325;
    for (Address at = piece.begin; at < piece.end;) {
      const std::size_t size = std::min(sizeof(bytes), piece.end - at);
      iovec own = {bytes, size};
      iovec its = {PointerTo(at), size};
      const long copied = RealCall(SYS_process_vm_readv, ::getpid(),
                                   reinterpret_cast<long>(&own), 1,
                                   reinterpret_cast<long>(&its), 1, 0);
      if (copied != static_cast<long>(size)) return false;
      std::size_t i = 0;
      for (; i + sizeof(std::uint64_t) <= size; i += sizeof(std::uint64_t)) {
        std::uint64_t word;
        __builtin_memcpy(&word, bytes + i, sizeof(word));
        *sum = (*sum ^ word) * kPrime;
        *sum ^= *sum >> 32;
      }
      for (; i < size; ++i) *sum = (*sum ^ bytes[i]) * kPrime;
      at += size;
    }
    return true;
  }

  // What the sanitizer tells.

  void OnFree(const volatile void* data) noexcept {
    if (used_.load(std::memory_order_relaxed) == 0 || inside) return;
    // A free() of something else is the sanitizer's to report.
    if (__sanitizer_get_ownership == nullptr ||
        __sanitizer_get_ownership(data) == 0) {
      return;
    }
    const auto begin = reinterpret_cast<Address>(data);
    const std::size_t size = __sanitizer_get_allocated_size(data);
    const Lock lock(*this);
    if (const Piece* const piece = Find(begin, begin + size)) {
      Report(kFreed, kFreedWhat, *piece);
    }
  }

  // In the middle of one of its reports.
  void OnError() noexcept {
    if (checked != nullptr) {
      Describe(*checked->owner, checked->data(), checked->size());
    }
    CallOnReport();
    if (locked || __asan_get_report_address == nullptr) return;
    const auto begin = reinterpret_cast<Address>(__asan_get_report_address());
    if (begin == 0) return;
    const Lock lock(*this);
    if (const Piece* const piece = Find(begin, begin + 1)) {
      Describe(*piece->owner, piece->data(), piece->size());
    }
  }

  static constexpr std::size_t kBuckets = 1024;

  std::mutex mutex_;
  Pieces by_address_;
  Piece* by_owner_[kBuckets] = {};
  std::size_t longest_ = 0;  // of all there ever were
  std::atomic<std::size_t> used_ = 0;
};

}  // namespace

void KeepNothing() noexcept { keeps.store(false, std::memory_order_relaxed); }

void Hold(const Owner& owner, Use use, void* data, std::size_t size,
          const char* what) noexcept {
  if (!keeps.load(std::memory_order_relaxed)) return;
  Ledger::Get().Hold(owner, use, data, size, what);
}

void Release(const Owner& owner, const void* data) noexcept {
  if (!keeps.load(std::memory_order_relaxed)) return;
  Ledger::Get().Release(owner, data);
}

void ReleaseAll(const Owner& owner) noexcept {
  if (!keeps.load(std::memory_order_relaxed)) return;
  Ledger::Get().ReleaseAll(owner);
}

void HandleForksOfLedger() noexcept {
  (void)Ledger::Get();
  Ledger::HandleForks();
}

bool Uses(const Owner& owner) noexcept { return Ledger::Get().Uses(owner); }

void Close(void* data, std::size_t size) noexcept {
  (void)Ledger::Get();  // tells whose it is in reports
  SetPoison(data, size);
}

void Open(void* data, std::size_t size) noexcept { ClearPoison(data, size); }

Inside::Inside() noexcept : outer_(inside) { inside = true; }

Inside::~Inside() { inside = outer_; }

}  // namespace escrow::sim
