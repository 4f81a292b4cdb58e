#ifndef ESCROW_SAFE_STREAM_H_
#define ESCROW_SAFE_STREAM_H_

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"

// Multishot operations: one request, many results.
//
//   auto connections = ring.Start(safe::AcceptMany{.socket = listener});
//   while (auto connection = ring.Next(connections)) {
//     if (!*connection) return connection->error();
//     Serve(std::move(**connection));
//   }
//
// The kernel ends such a request whenever it likes: because its completion
// queue is full, because an item was an error, because the group of buffers is
// empty. A stream starts it again when more is asked for, and ends only where
// going on makes no sense.

namespace escrow::safe {

struct StreamOptions {
  // Items that may wait to be asked for. At so many the request is cancelled,
  // and started again when they have been taken; what the kernel posted
  // meanwhile comes as well.
  std::size_t unread_limit = 1024;
};

// What a stream does after the last completion of its request.
enum class AfterLast : std::uint8_t {
  kGoOn,   // starts the request again when more is asked for
  kPause,  // likewise; the program has to give back buffers first
  kEnd,
};

// What Ring::Start() makes a Stream of: an op (op.h) whose Start() may be
// called several times, and which has, instead of an Outcome,
//
//   using Item = ...;
//   Result<Item> Take(const ownership::RawResult&);
//   void Discard(const ownership::RawResult&) noexcept;
//
// of which one is called for each item. They can be left out where they can be
// in an op with a Result<Item>. Where the order of completions matters, an op
// has
//
//   using Arrived = ...;                                     // a small value
//   Arrived Arrive(const ownership::RawResult&) noexcept;
//
// called in that order, and is given the value as a second argument by Take()
// and Discard(). What is left to the op, too:
//
//   bool IsItem(const ownership::RawResult&) const;             // true
//   AfterLast After(const ownership::RawResult&) const;
//   ownership::BufferLedger& Buffers() const;   // that kPause is about
template <typename T>
concept StreamOp = std::move_constructible<T> && !std::is_reference_v<T> &&
                   requires(T op, ownership::Record& record) {
  typename T::Item;
  { op.Start(record) } -> std::same_as<void>;
};

namespace internal {

// What streams of all items have in common.
struct StreamState {
  void (*start)(ownership::Record& record);
  void (*unpark)(ownership::Record& record, ownership::Record::Unpark how);
  std::size_t unread_limit;
  ownership::BufferLedger* buffers = nullptr;  // if the op has some
  ownership::BufferWaiter waiter = {};         // for one of these
  AfterLast next = AfterLast::kGoOn;
  bool throttled = false;  // by unread_limit
};

// Starts the request of a stream again, unless it is running or over.
void ArmStream(ownership::Record& record, StreamState& state);
// The same once no items are left, but only when a buffer is there, if that is
// what it paused for.
void ArmStreamWithBuffers(ownership::Record& record, StreamState& state);
void UnparkStream(ownership::Record& record, StreamState& state,
                  ownership::Record::Unpark how);
void Forget(ownership::Record& record) noexcept;

// The error that is a full stop for no reason of the stream's own.
bool IsCancellation(const ownership::RawResult& result) noexcept;
AfterLast UsualAfter(const ownership::RawResult& result) noexcept;

struct NothingArrived {};
template <typename Op>
struct ArrivedOf {
  using Type = NothingArrived;
};
template <typename Op>
requires requires { typename Op::Arrived; }
struct ArrivedOf<Op> {
  using Type = typename Op::Arrived;
};

template <typename Op>
struct StreamContent : StreamState {
  using Item = typename Op::Item;
  using Arrived = typename ArrivedOf<Op>::Type;
  struct Unread {
    ownership::RawResult result;
    [[no_unique_address]] Arrived arrived;
  };
  static_assert(std::is_trivially_copyable_v<Arrived>);

  Op op;
  // A circle that grows: the `count` items from `first` on.
  std::vector<Unread> unread;
  std::size_t first = 0;
  std::size_t count = 0;

  StreamContent(Op its, std::size_t limit)
      : StreamState{&StartAgain, &Unpark, limit}, op(std::move(its)) {
    if constexpr (requires { op.Buffers(); }) buffers = &op.Buffers();
  }

  static void StartAgain(ownership::Record& record) {
    record.content<StreamContent>().op.Start(record);
  }
  static void Unpark(ownership::Record& record, ownership::Record::Unpark how) {
    UnparkStream(record, record.content<StreamContent>(), how);
  }

  bool Arrive(ownership::Record& record, bool last) noexcept {
    const ownership::RawResult result = record.result;
    Unread item = {result, Arrived()};
    if constexpr (requires { op.Arrive(result); }) {
      item.arrived = op.Arrive(result);
    }
    bool is_item = true;
    if constexpr (requires { op.IsItem(result); }) is_item = op.IsItem(result);
    if (last) {
      if (throttled && IsCancellation(result)) {
        is_item = false;
        next = AfterLast::kGoOn;
      } else if constexpr (requires { op.After(result); }) {
        next = op.After(result);
      } else {
        next = UsualAfter(result);
      }
    }
    if (is_item) {
      Push(item);
      record.has_items = true;
    }
    const bool enough = !last && count >= unread_limit;
    throttled |= enough;
    return enough;
  }

  std::optional<Result<Item>> Take(ownership::Record& record) {
    if (count == 0) return std::nullopt;
    const Unread item = Pop();
    record.has_items = count > 0;
    if constexpr (requires { op.Take(item.result, item.arrived); }) {
      return op.Take(item.result, item.arrived);
    } else if constexpr (requires { op.Take(item.result); }) {
      return op.Take(item.result);
    } else {
      return UsualOutcome<Result<Item>>::Take(item.result);
    }
  }

  void Discard(const ownership::RawResult&) noexcept {
    while (count > 0) {
      const Unread item = Pop();
      if constexpr (requires { op.Discard(item.result, item.arrived); }) {
        op.Discard(item.result, item.arrived);
      } else if constexpr (requires { op.Discard(item.result); }) {
        op.Discard(item.result);
      } else {
        UsualOutcome<Result<Item>>::Discard(item.result);
      }
    }
  }

 private:
  void Push(const Unread& item) {
    if (count == unread.size()) {
      std::vector<Unread> larger;
      larger.reserve(count == 0 ? 16 : 2 * count);
      for (std::size_t i = 0; i < count; ++i) {
        larger.push_back(unread[(first + i) % count]);
      }
      larger.resize(larger.capacity(), item);
      unread.swap(larger);
      first = 0;
    }
    unread[(first + count++) % unread.size()] = item;
  }
  Unread Pop() {
    const Unread item = unread[first];
    first = (first + 1) % unread.size();
    --count;
    return item;
  }
};

}  // namespace internal

// A started multishot operation, to be asked for one item after the other:
//
//   std::optional<Result<T>> item = ring.Next(stream);   // blocks
//   std::optional<Result<T>> item = co_await stream.Next();
//   std::move(stream).ForEach([](std::optional<Result<T>> item) { ... });
//
// No item means that there are no more. An item that is an error is mostly the
// last one; no_buffer_space is not: the stream goes on when more is asked for,
// which makes sense when buffers were given back.
//
// Dropping the stream cancels the operation, and frees the items that nobody
// took. A stream may outlive its ring, and has the items that came by then.
// Movable. Belongs to the thread of its ring.
template <typename T>
class [[nodiscard]] Stream {
 public:
  using Item = std::optional<Result<T>>;

  Stream(Stream&& other) noexcept
      : record_(std::exchange(other.record_, nullptr)), state_(other.state_) {}
  Stream& operator=(Stream&& other) noexcept {
    ownership::Record* const old =
        std::exchange(record_, std::exchange(other.record_, nullptr));
    state_ = other.state_;
    if (old != nullptr) internal::Drop(*old);
    return *this;
  }
  ~Stream() {
    if (record_ != nullptr) internal::Drop(*record_);
  }

  // Whether Take() has something to say: an item, or that there are no more.
  bool ready() const noexcept {
    return record().has_items ||
           (record().stage == ownership::Record::Stage::kDone &&
            state_->next == AfterLast::kEnd);
  }

  // The next item, or none if there are no more. Requires ready().
  Item Take() {
    ESCROW_CHECK(ready(), "Take() from a stream that has no item");
    return record().template Take<Item>();
  }

  // To be awaited: the next item, or none. The stream stays where it is
  // meanwhile. The coroutine is resumed by the ring's Dispatch().
  auto Next() & noexcept { return Awaiter(*this); }

  // Has `callback` called by the ring's Dispatch() with each item, and with
  // none at the end. If it returns a bool, false drops the stream. It may start
  // and wait for operations, but not destroy the ring, whose end destroys the
  // callback. After no_buffer_space the stream goes on by itself as soon as a
  // buffer was given back, and is not in flight until then.
  template <typename Callback>
  void ForEach(Callback callback) && {
    auto* const stored =
        record().EmplaceBeside(Listener<Callback>{std::move(callback), state_});
    // RunCallback() makes a handle of the record again.
    ownership::Record& mine = *std::exchange(record_, nullptr);
    internal::ArmStreamWithBuffers(mine, *state_);
    internal::ContinueWith(mine, &RunCallback<Callback>, stored,
                           /*handle_stays=*/true);
  }

  // Starts the operation again if the kernel has ended it and it is not over:
  // what Next() does when there is no item.
  void Arm() { internal::ArmStream(record(), *state_); }

  // For the ring.
  Stream(ownership::Record& record, internal::StreamState& state) noexcept
      : record_(&record), state_(&state) {}
  ownership::Record& record() const noexcept {
    ESCROW_CHECK(record_ != nullptr, "use of a stream that was moved from");
    return *record_;
  }

 private:
  class Awaiter {
   public:
    explicit Awaiter(Stream& stream) noexcept : stream_(stream) {}
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;
    ~Awaiter() {
      if (waiter_) internal::Forget(stream_.record());
    }

    bool await_ready() {
      if (!stream_.ready()) stream_.Arm();
      return stream_.ready();
    }
    void await_suspend(std::coroutine_handle<> waiter) {
      waiter_ = waiter;
      internal::ContinueWith(stream_.record(), &Resume, this,
                             /*handle_stays=*/true);
    }
    Item await_resume() { return stream_.Take(); }

   private:
    static void Resume(ownership::Record& record,
                       ownership::Record::Continue how) {
      auto& self = *static_cast<Awaiter*>(record.continuation_data);
      if (how == ownership::Record::Continue::kDestroyUnrun) {
        self.waiter_ = nullptr;
        return;
      }
      if (!self.await_ready()) {
        internal::ContinueWith(record, &Resume, &self, /*handle_stays=*/true);
        return;
      }
      std::exchange(self.waiter_, nullptr).resume();
    }

    Stream& stream_;
    std::coroutine_handle<> waiter_;
  };

  template <typename Callback>
  struct Listener {
    Callback callback;
    internal::StreamState* state;
  };

  // Calls it with the items that are there, and waits for more.
  template <typename Callback>
  static void RunCallback(ownership::Record& record,
                          ownership::Record::Continue how) {
    auto* const stored =
        static_cast<Listener<Callback>*>(record.continuation_data);
    struct Ending {
      Stream stream;
      Listener<Callback>* stored;
      bool over = true;
      ~Ending() {
        if (over) {
          stream.record().DestroyBeside(stored);
        } else {
          stream.record_ = nullptr;
        }
      }
    } ending{Stream(record, *stored->state), stored};
    Stream& stream = ending.stream;
    if (how == ownership::Record::Continue::kDestroyUnrun) return;
    while (stream.ready()) {
      Item item = stream.Take();
      const bool last = !item.has_value();
      if constexpr (std::same_as<decltype(stored->callback(std::move(item))),
                                 bool>) {
        if (!stored->callback(std::move(item))) return;
      } else {
        stored->callback(std::move(item));
      }
      if (last) return;
    }
    ending.over = false;
    internal::ArmStreamWithBuffers(record, *stored->state);
    internal::ContinueWith(record, &RunCallback<Callback>, stored,
                           /*handle_stays=*/true);
  }

  ownership::Record* record_;
  internal::StreamState* state_;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_STREAM_H_
