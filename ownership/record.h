#ifndef ESCROW_OWNERSHIP_RECORD_H_
#define ESCROW_OWNERSHIP_RECORD_H_

#include <linux/time_types.h>

#include <bit>
#include <boost/intrusive/link_mode.hpp>
#include <boost/intrusive/list_hook.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <system_error>
#include <type_traits>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"

namespace escrow::ownership {

class RecordPool;

// What the kernel returned for an operation.
struct RawResult {
  std::int32_t value;   // io_uring_cqe.res: a negated errno below zero
  std::uint32_t flags;  // io_uring_cqe.flags
  // The error category of the call that the operation equals.
  const std::error_category& (*category)() noexcept;

  bool ok() const noexcept { return value >= 0; }
  std::error_code error() const noexcept { return {-value, category()}; }
};

// How an operation stands. Told apart in one comparison, and changed in one
// store, for most operations stand in one of three ways.
struct RecordState {
  enum class Stage : std::uint8_t {
    kFree,
    kWaiting,  // until what has to happen first has happened
    kQueued,   // in the submission queue or in the kernel, whose memory it is
    kDone,     // has its result; the kernel has no claim any more
  };

  // Why a completion, or its handle, cannot just leave the record done; none of
  // them for most records, which one test shows.
  enum Attention : std::uint8_t {
    kOrphaned = 1,   // it has no handle
    kContinued = 2,  // something waits for it: `continuation`
    kHoldsAlso = 4,  // a share in `other_file`, too
    kOutliving = 8,  // its ring is gone
    kArriving = 16,  // its content is told of each completion
    // The completion of its deadline ends it, too: both have to come.
    kPaired = 32,
    kNotifying = 64,  // it is done, and a notification is still to come
    kStaged = 128,    // its second stage begins as the first one is taken
  };

  Stage stage = Stage::kFree;
  std::uint8_t attention = 0;  // Attention bits
  bool has_items = false;      // that wait to be taken from its content
  bool plain = false;  // it is done and has succeeded, and that is all of it

  bool operator==(const RecordState& other) const noexcept {
    return std::bit_cast<std::uint32_t>(*this) ==
           std::bit_cast<std::uint32_t>(other);
  }
};

// One operation: everything that it owns, where its result goes, and how far it
// has got. Records live in a RecordPool, never in a coroutine's frame or on a
// stack, and do not move; what the kernel has the address of is thus neither
// moved nor freed by anything that the program does to its handle.
//
//   free -> queued -> done -> free       or: free -> waiting -> queued or done
//
// A multishot operation has its content told of each completion, and is done at
// the last one. One in two stages (a zero-copy send) is done at its result, is
// taken from once, and is queued again until the kernel has let go of the
// memory, which is what is taken from it then.
//
// The kernel's claim begins when the entry is written into the queue, not at
// the submit: a submit that fails or is short releases nothing. It ends with
// the terminal completion. Meanwhile the record may lose its handle: it is then
// an orphan, which frees itself when done.
struct alignas(64) Record : RecordState {
  // How to end a content (see Emplace) whose type is forgotten.
  struct ContentType {
    // Destroys the content and whatever the result owns.
    void (*discard)(Record& record) noexcept;
    // Tells it of the completion that is in record.result, `last` or not.
    // Whether that is enough, and the operation is to be cancelled.
    bool (*arrive)(Record& record, bool last) noexcept;
    std::size_t inline_used;  // of the inline bytes
    bool two_stages;          // and this is the first one
    bool second_stage;        // which the kernel does not cancel
  };
  template <typename Outcome>
  struct ContentTypeOf : ContentType {
    // Takes the outcome out and destroys the content.
    Outcome (*take)(Record& record);
  };

  // What waits for the record to be done: a callback or a coroutine.
  enum class Continue : bool { kRun, kDestroyUnrun };
  using Continuation = void (*)(Record& record, Continue how);

  // Moves the resources of an operation to where they stay until it is done.
  // More than kInlineBytes of them cost an allocation, whose failure ends the
  // program. `Content` has
  //   Outcome Take(const RawResult&) &&;         what the user gets
  //   void Discard(const RawResult&) noexcept;   frees what the result owns
  // of which one is called, once. If it has
  //   bool Arrive(const RawResult&, bool last) noexcept;
  // that is called as each completion is taken in, before anything else and in
  // the order of the queue. If it has
  //   using Second = ...;
  //   Second TakeSecond() &&;
  // then Take() is called with the record as well, leaves the content alive,
  // and TakeSecond() or Discard() ends it. If it has
  //   using Item = ...;
  // then Take() is called with the record, once for each item, and so is
  // Arrive(); only Discard() ends it.
  template <typename Content, typename... Arguments>
  Content& Emplace(Arguments&&... arguments) noexcept {
    void* place = inline_bytes;
    if constexpr (!kInline<Content>) {
      place = heap_content =
          ::operator new (sizeof(Content), std::align_val_t{alignof(Content)});
    }
    content_type = &kContentType<Content>;
    if constexpr (kArrives<Content>) attention |= kArriving;
    return *::new (place) Content{std::forward<Arguments>(arguments)...};
  }

  // What Emplace() returned. Requires that it was of this type.
  template <typename Content>
  Content& content() noexcept {
    if constexpr (kInline<Content>) {
      return *std::launder(reinterpret_cast<Content*>(inline_bytes));
    } else {
      return *static_cast<Content*>(heap_content);
    }
  }

  // The outcome of a done operation. `Outcome` is what its Content's Take()
  // returns.
  template <typename Outcome>
  Outcome Take() {
    return static_cast<const ContentTypeOf<Outcome>*>(content_type)
        ->take(*this);
  }

  // The same where that is known, faster. Requires Holds<Content>().
  template <typename Content>
  auto TakeFrom() {
    return TakeContent<Content>(*this);
  }

  // Whether Emplace() was called for this type. Where a type has several copies
  // in a program, may be false although it was.
  template <typename Content>
  bool Holds() const noexcept {
    return content_type == &kContentType<Content>;
  }

  // A copy of `value` behind the content, or on the heap if it does not fit;
  // to be ended by DestroyBeside().
  template <typename T>
  T* EmplaceBeside(T&& value) {
    if constexpr (kInline<T>) {
      const std::size_t offset = (content_type->inline_used + alignof(T) - 1) /
                                 alignof(T) * alignof(T);
      if (offset + sizeof(T) <= kInlineBytes) {
        return ::new (static_cast<void*>(inline_bytes + offset))
            T(std::forward<T>(value));
      }
    }
    return new T(std::forward<T>(value));
  }
  template <typename T>
  void DestroyBeside(T* value) noexcept {
    const auto* const address = reinterpret_cast<const std::byte*>(value);
    const std::less<> before;
    if (!before(address, inline_bytes) &&
        before(address, inline_bytes + kInlineBytes)) {
      std::destroy_at(value);
    } else {
      delete value;
    }
  }

  // Identifies this use of the record in SQEs and CQEs; another use has another
  // value, until 2^31 uses later. Never a pointer. The topmost bit, which other
  // kinds of user_data leave clear, is set.
  std::uint64_t user_data() const noexcept {
    return std::uint64_t{use} << 32 | index;
  }
  static constexpr std::uint64_t kUserDataBit = std::uint64_t{1} << 63;
  static constexpr std::uint32_t kUseBit = 1u << 31;  // the same, of `use`
  // In the index: what the deadline of the operation has, and what a request to
  // cancel it has.
  static constexpr std::uint64_t kDeadlineBit = std::uint64_t{1} << 31;
  static constexpr std::uint64_t kCancelBit = std::uint64_t{1} << 30;
  // The index of no record.
  static constexpr std::uint32_t kNoIndex = 0xffff'ffff;

  // Holds a struct statx (256 bytes), a path and a callback, and makes records
  // an odd number of cache lines, so that their first ones, of which all have
  // much use, are spread over all of a cache.
  static constexpr std::size_t kInlineBytes = 432;

  // What a record can hold without an allocation.
  template <typename T>
  static constexpr bool kInline = sizeof(T) <= kInlineBytes &&
                                  alignof(T) <= alignof(std::max_align_t);

  // With the state, what every operation needs, in one cache line.

  std::uint8_t sqe_flags = 0;  // IOSQE_* that its entry gets
  bool stays_on_drop = false;  // is not cancelled when its handle is dropped
  // While it is started: the file that it makes goes into a slot.
  bool makes_slot = false;
  bool own_came = false;  // see below

  RecordPool* pool = nullptr;
  const ContentType* content_type = nullptr;
  std::uint32_t index = 0;      // in its pool
  std::uint32_t use = kUseBit;  // that bit, and how often it was released
  union {
    Record* next_free = nullptr;  // while it is free
    std::uint32_t sq_position;    // of its entry, as the queue's tail counts
  };
  DescriptorShare file;  // that the operation works on, until it is done
  RawResult result = {};

  // What has been emplaced: here, or there if it is too large.
  alignas(64) std::byte inline_bytes[kInlineBytes];
  void* heap_content = nullptr;

  // Of a paired record: which of the two completions have come (with own_came).
  bool deadline_came = false;
  bool deadline_passed = false;
  // How often the kernel was told to cancel it, once it was; or that there is
  // no sense in that any more.
  std::uint8_t cancels = 0;
  static constexpr std::uint8_t kNoMoreCancels = 0xff;

  // For the one list that its stage puts the record in.
  boost::intrusive::list_member_hook<
      boost::intrusive::link_mode<boost::intrusive::auto_unlink>>
      hook;
  Continuation continuation = nullptr;
  void* continuation_data = nullptr;
  // Of a waiting record: queues it, or ends the wait without.
  enum class Unpark : bool { kStart, kGiveUp };
  void (*unpark)(Record& record, Unpark how) = nullptr;
  DescriptorShare other_file;
  __kernel_timespec deadline;

  const RecordState& state() const noexcept { return *this; }
  void SetState(RecordState state) noexcept {
    // Not member by member, of which g++ makes a constant in memory.
    const auto bits = std::bit_cast<std::uint32_t>(state);
    void* const mine = static_cast<RecordState*>(this);
    std::memcpy(mine, &bits, sizeof bits);
  }

  bool attached() const noexcept { return (attention & kOrphaned) == 0; }

  // Holds `share`, and another one, until the operation is done.
  void Hold(DescriptorShare share) noexcept {
    if (file.valid()) [[unlikely]] {
      file.Release();
    }
    HoldFirst(std::move(share));
  }
  // Hold(), faster, of a record that was just acquired.
  void HoldFirst(DescriptorShare share) noexcept {
    CheckSlot(share);
    std::construct_at(&file, std::move(share));
  }
  void HoldAlso(DescriptorShare share) noexcept {
    CheckSlot(share);
    other_file = std::move(share);
    attention |= kHoldsAlso;
  }

 private:
  // In another ring's table the number would be another file's.
  void CheckSlot(const DescriptorShare& share) const noexcept {
    if (share.is_slot()) [[unlikely]] {
      ESCROW_CHECK(share.slots().pool() == pool,
                   "a FixedFile used on a ring other than its table's");
    }
  }

  // Destroys a content when its scope ends.
  template <typename Content>
  struct Ending {
    Content& content;
    ~Ending() {
      std::destroy_at(&content);
      if constexpr (!kInline<Content>) {
        ::operator delete (static_cast<void*>(&content),
                           std::align_val_t{alignof(Content)});
      }
    }
  };

  template <typename Content>
  static constexpr bool kHasItems = requires {
    typename Content::Item;
  };
  template <typename Content>
  static constexpr bool kArrives = kHasItems<Content> ||
                                   requires(Content content) {
    content.Arrive(RawResult(), true);
  };
  template <typename Content>
  static constexpr bool kTwoStages = requires {
    typename Content::Second;
  };

  template <typename Content>
  static auto OutcomeFor() {
    if constexpr (kHasItems<Content>) {
      return std::type_identity<decltype(std::declval<Content&>().Take(
          std::declval<Record&>()))>();
    } else if constexpr (kTwoStages<Content>) {
      return std::type_identity<decltype(std::declval<Content>().Take(
          RawResult(), std::declval<Record&>()))>();
    } else {
      return std::type_identity<decltype(std::declval<Content>().Take(
          RawResult()))>();
    }
  }
  template <typename Content>
  using OutcomeOf = typename decltype(OutcomeFor<Content>())::type;

  template <typename Content>
  static OutcomeOf<Content> TakeContent(Record& record) {
    if constexpr (kHasItems<Content>) {
      return record.content<Content>().Take(record);
    } else if constexpr (kTwoStages<Content>) {
      record.content_type = SecondType<Content>();
      record.stage =
          (record.attention & kNotifying) != 0 ? Stage::kQueued : Stage::kDone;
      // It has a handle again: that of the second stage, which is what the
      // outcome holds.
      record.attention &= static_cast<std::uint8_t>(~(kNotifying | kOrphaned));
      record.attention |= kStaged;
      return record.content<Content>().Take(record.result, record);
    } else {
      // Ended on every way out, also by an exception of Take().
      const Ending<Content> ending{record.content<Content>()};
      return std::move(ending.content).Take(record.result);
    }
  }

  template <typename Content>
  static auto TakeSecond(Record& record) -> typename Content::Second {
    const Ending<Content> ending{record.content<Content>()};
    return std::move(ending.content).TakeSecond();
  }

  template <typename Content>
  static void DiscardContent(Record& record) noexcept {
    const Ending<Content> ending{record.content<Content>()};
    ending.content.Discard(record.result);
  }

  template <typename Content>
  static bool Arrive(Record& record, bool last) noexcept {
    if constexpr (kHasItems<Content>) {
      return record.content<Content>().Arrive(record, last);
    } else {
      return record.content<Content>().Arrive(record.result, last);
    }
  }

  template <typename Content>
  static constexpr ContentType Describe() {
    ContentType type = {&DiscardContent<Content>, nullptr,
                        kInline<Content> ? sizeof(Content) : 0,
                        kTwoStages<Content>, false};
    if constexpr (kArrives<Content>) type.arrive = &Arrive<Content>;
    return type;
  }

  template <typename Content>
  static constexpr ContentTypeOf<OutcomeOf<Content>> kContentType = {
      Describe<Content>(), &TakeContent<Content>};

  // From the first Take() on, in two stages.
  template <typename Content>
  static const ContentType* SecondType() noexcept {
    static constexpr ContentTypeOf<typename Content::Second> kType = {
        {&DiscardContent<Content>, nullptr,
         kInline<Content> ? sizeof(Content) : 0, false, true},
        &TakeSecond<Content>};
    return &kType;
  }
};

static_assert(sizeof(Record) % 128 == 64,
              "kInlineBytes makes records an odd number of cache lines");

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_RECORD_H_
