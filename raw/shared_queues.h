#ifndef ESCROW_RAW_SHARED_QUEUES_H_
#define ESCROW_RAW_SHARED_QUEUES_H_

#include <liburing.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

// The algorithms of shared_ring.h, apart from memory and system calls: what
// several threads and a kernel do to the words of the two queues. Nothing here
// takes a lock, and no thread waits for another. Orders are argued for the C++
// memory model, of which the kernel's loads with acquire and stores with
// release are taken to be part.
//
// `Memory` says what an atomic is, so that a model checker can stand in for the
// machine (StandardMemory is the machine):
//
//   Atomic<T>     an atomic of this process
//   Word          an unsigned that the kernel reads or writes as well
//   Entry         a completion as the kernel writes it, and Completion, a copy
//   Load, Store, Exchange, FetchAdd, CompareExchange, Fence
//                 with an order, and with the place where it matters
//   Copy          reads an Entry that may be overwritten meanwhile

namespace escrow::raw {

// Where the order of memory matters, for a test that relaxes one at a time.
enum class OrderedAt : std::uint8_t {
  kNowhere,
  kTakeCounter,
  kTakeHead,
  kTakeClaim,
  kPublishClaim,
  kPublish,
  kCollect,
  kTail,
  kEnter,
  kLeave,
  kWakeup,
  kReapCounter,
  kReapTail,
  kReapClaim,
  kGiveBackCounter,
  kGiveBackHead,
};

// A completion, copied out of the queue: io_uring_cqe without its second half,
// which shared rings do not have.
struct SharedCompletion {
  std::uint64_t user_data;
  std::int32_t result;
  std::uint32_t flags;

  // Whether the request goes on, and has more completions.
  bool more() const noexcept { return (flags & IORING_CQE_F_MORE) != 0; }

  friend bool operator==(const SharedCompletion&,
                         const SharedCompletion&) = default;
};

struct StandardMemory {
  template <typename T>
  using Atomic = std::atomic<T>;
  using Word = unsigned;
  using Entry = io_uring_cqe;
  using Completion = SharedCompletion;
  using Order = std::memory_order;

  template <typename T>
  static T Load(const std::atomic<T>& atomic, Order order, OrderedAt) noexcept {
    return atomic.load(order);
  }
  static unsigned Load(Word& word, Order order, OrderedAt) noexcept {
    return std::atomic_ref(word).load(order);
  }
  template <typename T>
  static void Store(std::atomic<T>& atomic, T value, Order order,
                    OrderedAt) noexcept {
    atomic.store(value, order);
  }
  static void Store(Word& word, unsigned value, Order order,
                    OrderedAt) noexcept {
    std::atomic_ref(word).store(value, order);
  }
  template <typename T>
  static T Exchange(std::atomic<T>& atomic, T value, Order order,
                    OrderedAt) noexcept {
    return atomic.exchange(value, order);
  }
  template <typename T>
  static T FetchAdd(std::atomic<T>& atomic, T value, Order order,
                    OrderedAt) noexcept {
    return atomic.fetch_add(value, order);
  }
  template <typename T>
  static bool CompareExchange(std::atomic<T>& atomic, T& expected, T value,
                              Order success, Order failure,
                              OrderedAt) noexcept {
    return atomic.compare_exchange_strong(expected, value, success, failure);
  }
  static bool CompareExchange(Word& word, unsigned& expected, unsigned value,
                              Order success, Order failure,
                              OrderedAt) noexcept {
    return std::atomic_ref(word).compare_exchange_strong(expected, value,
                                                         success, failure);
  }
  static void Fence(Order order, OrderedAt) noexcept {
    std::atomic_thread_fence(order);
  }
  static Completion Copy(Entry& entry) noexcept {
    constexpr Order kRelaxed = std::memory_order_relaxed;
    return {
        .user_data = std::atomic_ref(entry.user_data).load(kRelaxed),
        .result = std::atomic_ref(entry.res).load(kRelaxed),
        .flags = std::atomic_ref(entry.flags).load(kRelaxed),
    };
  }
};

// The submission queue. The kernel's array of indices is two things at once:
//
//            taken          collected        published
//   ...free... | ... held and waiting ... | waiting | ...
//
// Behind the kernel's head its elements are the entries that are free, in the
// order in which the kernel consumed them; from there to the tail they are
// those to be consumed. Both are addressed by counters that never wrap in 64
// bits; the kernel's two are their lower halves. As each element published was
// taken before, no element is overwritten that has not been read.
template <typename Memory>
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): between threads.
class SubmissionQueue {
  template <typename T>
  using Atomic = typename Memory::template Atomic<T>;
  using Word = typename Memory::Word;
  using enum OrderedAt;

 public:
  struct Layout {
    Word* head;
    Word* tail;
    Word* array;
    unsigned entries;                  // a power of two
    Atomic<std::uint64_t>* published;  // as many
  };

  // No other function is called before. `most_in_flight` is what Take() keeps
  // to. The kernel's head and tail may be anything, if they are equal.
  void Init(const Layout& layout, std::uint64_t most_in_flight) noexcept {
    layout_ = layout;
    mask_ = layout.entries - 1;
    most_in_flight_ = most_in_flight;
    const std::uint64_t start =
        Memory::Load(*layout.head, std::memory_order_relaxed, kNowhere);
    for (unsigned i = 0; i < layout.entries; ++i) {
      Memory::Store(layout_.array[(start + i) & mask_], i,
                    std::memory_order_relaxed, kNowhere);
      // What no position of this lap is published as.
      Memory::Store(layout_.published[(start + i) & mask_], start,
                    std::memory_order_relaxed, kNowhere);
    }
    for (Atomic<std::uint64_t>* counter :
         {&taken_, &completed_, &pushed_, &collected_}) {
      Memory::Store(*counter, start, std::memory_order_relaxed, kNowhere);
    }
    Memory::Store(asked_, std::uint64_t{0}, std::memory_order_relaxed,
                  kNowhere);
  }

  // Takes up to `indices.size()` free entries; returns how many. From here on
  // they are the caller's alone, until published.
  //
  // The elements are read first and claimed then: if nobody else claimed them
  // meanwhile, nobody overwrote them. Whoever sees another's claim also sees
  // the head and the completions that it was based on (acquire and release of
  // `taken_`); with older ones the difference below would be negative. The
  // head's acquire is the end of the kernel's reading of what is free.
  std::size_t Take(std::span<unsigned> indices) noexcept {
    std::uint64_t taken =
        Memory::Load(taken_, std::memory_order_acquire, kTakeCounter);
    for (;;) {
      const std::uint64_t completed =
          Memory::Load(completed_, std::memory_order_relaxed, kNowhere);
      const unsigned head =
          Memory::Load(*layout_.head, std::memory_order_acquire, kTakeHead);
      const unsigned free =
          head + layout_.entries - static_cast<unsigned>(taken);
      const std::uint64_t credits = most_in_flight_ - (taken - completed);
      const std::size_t count = std::min(
          indices.size(),
          static_cast<std::size_t>(std::min<std::uint64_t>(free, credits)));
      if (count == 0) return 0;
      // A stale counter makes for more than there can be; the claim fails.
      for (std::size_t i = 0; i < count; ++i) {
        indices[i] = Memory::Load(layout_.array[(taken + i) & mask_],
                                  std::memory_order_relaxed, kNowhere);
      }
      if (Memory::CompareExchange(taken_, taken, taken + count,
                                  std::memory_order_acq_rel,
                                  std::memory_order_acquire, kTakeClaim)) {
        return count;
      }
    }
  }

  // Makes `count` entries that were taken, and are filled, part of the queue:
  // together, in this order and with nothing between them. `index(i)` is one of
  // them, asked for once, the last one first. At least one. Returns whether a
  // Submit() came upon the gap that was here until now, and left what is behind
  // it: call it again.
  //
  // The claim's acquire and release order this after all reads of the elements
  // by whoever took what was in them. The first is published last, and found
  // first, so that no submit ends within a batch. It is exchanged, because
  // either the one who collects finds it, or we find their mark.
  template <typename Index>
  [[nodiscard]] bool Publish(std::size_t count, const Index& index) noexcept {
    const std::uint64_t at =
        Memory::FetchAdd(pushed_, static_cast<std::uint64_t>(count),
                         std::memory_order_acq_rel, kPublishClaim);
    for (std::size_t i = count; --i > 0;) {
      Memory::Store(layout_.array[(at + i) & mask_], index(i),
                    std::memory_order_relaxed, kNowhere);
      Memory::Store(layout_.published[(at + i) & mask_], at + i + 1,
                    std::memory_order_release, kPublish);
    }
    Memory::Store(layout_.array[at & mask_], index(0),
                  std::memory_order_relaxed, kNowhere);
    return Memory::Exchange(layout_.published[at & mask_], at + 1,
                            std::memory_order_release, kPublish) == kWanted;
  }

  // Entries to submit: those that the kernel does not know yet, and all.
  struct Collected {
    unsigned added;
    unsigned pending;
  };

  // Gives what is published to the kernel: calls `enter(Collected)` until that
  // was after every Publish() that came before a Submit(). Only one thread at a
  // time is in there; the others return false at once, and it calls once more
  // for them.
  //
  // One word counts who has asked. Who finds that nobody has enters, and
  // acquires what the last one to leave released, `collected_`. It leaves by
  // setting the word to 0, which fails if somebody has asked since it looked;
  // then it acquires what that one published before. All of it is one order of
  // read-modify-writes, so none is missed.
  template <typename Enter>
  bool Submit(const Enter& enter) noexcept {
    if (Memory::FetchAdd(asked_, std::uint64_t{1}, std::memory_order_acq_rel,
                         kEnter) != 0) {
      return false;
    }
    std::uint64_t asked = 1;
    do {
      enter(Collect());
    } while (!Memory::CompareExchange(asked_, asked, std::uint64_t{0},
                                      std::memory_order_acq_rel,
                                      std::memory_order_acquire, kLeave));
    return true;
  }

  // Whether a thread of the kernel that sleeps has to be woken to see the tail.
  // It says that it is going to sleep and then looks at the tail again, we
  // store the tail and then look at whether it sleeps: one of both sees the
  // other's store only if neither's load comes first, which takes a full
  // barrier. Acquire and release order no store before a load.
  bool NeedsWakeup(Word& flags) noexcept {
    Memory::Fence(std::memory_order_seq_cst, kWakeup);
    return (Memory::Load(flags, std::memory_order_relaxed, kNowhere) &
            IORING_SQ_NEED_WAKEUP) != 0;
  }

  // Requests that have had their last completion. Release is not needed: it is
  // a number, and Take() orders those who see it.
  void Complete(std::uint64_t count) noexcept {
    (void)Memory::FetchAdd(completed_, count, std::memory_order_relaxed,
                           kNowhere);
  }

  // Free entries, entries published that the kernel has not consumed, and
  // requests taken and not completed: each as it was at some moment.
  unsigned available() const noexcept {
    const std::uint64_t taken =
        Memory::Load(taken_, std::memory_order_acquire, kTakeCounter);
    const unsigned free =
        Memory::Load(*layout_.head, std::memory_order_acquire, kTakeHead) +
        layout_.entries - static_cast<unsigned>(taken);
    return std::min(free, layout_.entries);
  }
  unsigned prepared() const noexcept {
    const unsigned head =
        Memory::Load(*layout_.head, std::memory_order_acquire, kTakeHead);
    const std::uint64_t pushed =
        Memory::Load(pushed_, std::memory_order_acquire, kTakeCounter);
    return std::min(static_cast<unsigned>(pushed) - head, layout_.entries);
  }
  std::uint64_t in_flight() const noexcept {
    const std::uint64_t completed =
        Memory::Load(completed_, std::memory_order_acquire, kTakeCounter);
    return Memory::Load(taken_, std::memory_order_acquire, kTakeCounter) -
           completed;
  }

 private:
  // In `published`: a submit waits for this.
  static constexpr std::uint64_t kWanted = ~std::uint64_t{0};

  // Moves the tail over what is published without a gap. Where there is one,
  // its position is marked, for the thread that is about to close it. What was
  // claimed before the submit was asked for is seen here, so no gap before it
  // is missed.
  Collected Collect() noexcept {
    const std::uint64_t begin =
        Memory::Load(collected_, std::memory_order_relaxed, kNowhere);
    std::uint64_t end = begin;
    for (;;) {
      Atomic<std::uint64_t>& position = layout_.published[end & mask_];
      std::uint64_t found =
          Memory::Load(position, std::memory_order_acquire, kCollect);
      if (found == end + 1) {
        ++end;
        continue;
      }
      if (found == kWanted ||
          Memory::Load(pushed_, std::memory_order_relaxed, kNowhere) == end ||
          Memory::CompareExchange(position, found, kWanted,
                                  std::memory_order_relaxed,
                                  std::memory_order_relaxed, kNowhere)) {
        break;
      }
    }
    if (end != begin) {
      Memory::Store(collected_, end, std::memory_order_relaxed, kNowhere);
      Memory::Store(*layout_.tail, static_cast<unsigned>(end),
                    std::memory_order_release, kTail);
    }
    const unsigned head =
        Memory::Load(*layout_.head, std::memory_order_relaxed, kNowhere);
    return {.added = static_cast<unsigned>(end - begin),
            .pending = static_cast<unsigned>(end) - head};
  }

  static constexpr std::size_t kCacheLine = 64;

  Layout layout_ = {};
  unsigned mask_ = 0;
  std::uint64_t most_in_flight_ = 0;
  alignas(kCacheLine) Atomic<std::uint64_t> taken_;
  alignas(kCacheLine) Atomic<std::uint64_t> completed_;
  alignas(kCacheLine) Atomic<std::uint64_t> pushed_;
  alignas(kCacheLine) Atomic<std::uint64_t> asked_;
  // Of the thread that submits.
  Atomic<std::uint64_t> collected_;
};

// The completion queue: copied first and claimed then, like the entries above,
// so that all that is claimed is copied, and any thread may give it back to the
// kernel. The kernel's head never passes what nobody has.
template <typename Memory>
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): between threads.
class CompletionQueue {
  template <typename T>
  using Atomic = typename Memory::template Atomic<T>;
  using Word = typename Memory::Word;
  using enum OrderedAt;

 public:
  using Completion = typename Memory::Completion;

  struct Layout {
    Word* head;
    Word* tail;
    typename Memory::Entry* entries;
    unsigned mask;
  };

  // No other function is called before.
  void Init(const Layout& layout) noexcept {
    layout_ = layout;
    Memory::Store(claimed_,
                  static_cast<std::uint64_t>(Memory::Load(
                      *layout.head, std::memory_order_relaxed, kNowhere)),
                  std::memory_order_relaxed, kNowhere);
  }

  // Takes up to `completions.size()`, oldest first; returns how many.
  //
  // The tail's acquire is the end of the kernel's writing. Claims are ordered
  // as in SubmissionQueue::Take(), and their release keeps the copying before
  // them.
  std::size_t Reap(std::span<Completion> completions) noexcept {
    std::uint64_t claimed =
        Memory::Load(claimed_, std::memory_order_acquire, kReapCounter);
    std::size_t count;
    do {
      const unsigned ready =
          Memory::Load(*layout_.tail, std::memory_order_acquire, kReapTail) -
          static_cast<unsigned>(claimed);
      count = std::min<std::size_t>(completions.size(), ready);
      if (count == 0) return 0;
      for (std::size_t i = 0; i < count; ++i) {
        completions[i] =
            Memory::Copy(layout_.entries[(claimed + i) & layout_.mask]);
      }
    } while (!Memory::CompareExchange(claimed_, claimed, claimed + count,
                                      std::memory_order_acq_rel,
                                      std::memory_order_acquire, kReapClaim));
    GiveBack();
    return count;
  }

  // Moves the kernel's head to all that is claimed, whoever claimed it. The
  // counter's acquire and the head's release take the copying of all of them
  // along to the kernel, which then overwrites.
  void GiveBack() noexcept {
    unsigned head =
        Memory::Load(*layout_.head, std::memory_order_relaxed, kNowhere);
    for (;;) {
      const auto claimed = static_cast<unsigned>(
          Memory::Load(claimed_, std::memory_order_acquire, kGiveBackCounter));
      // Others may have moved it further.
      if (static_cast<int>(claimed - head) <= 0) return;
      if (Memory::CompareExchange(*layout_.head, head, claimed,
                                  std::memory_order_release,
                                  std::memory_order_relaxed, kGiveBackHead)) {
        return;
      }
    }
  }

  // Completions that nobody has claimed, as it was at some moment.
  unsigned ready() const noexcept {
    const std::uint64_t claimed =
        Memory::Load(claimed_, std::memory_order_acquire, kReapCounter);
    return std::min(
        Memory::Load(*layout_.tail, std::memory_order_acquire, kReapTail) -
            static_cast<unsigned>(claimed),
        layout_.mask + 1);
  }

 private:
  static constexpr std::size_t kCacheLine = 64;

  Layout layout_ = {};
  alignas(kCacheLine) Atomic<std::uint64_t> claimed_;
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_SHARED_QUEUES_H_
