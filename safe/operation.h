#ifndef ESCROW_SAFE_OPERATION_H_
#define ESCROW_SAFE_OPERATION_H_

#include <coroutine>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/record_pool.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

namespace escrow::safe {

namespace internal {

// The ring's part in what happens to a handle; engine.cc.
void Drop(ownership::Record& record) noexcept;
void Detach(ownership::Record& record) noexcept;
void ReleaseSpecial(ownership::Record& record) noexcept;
inline void Release(ownership::Record& record) noexcept {
  if (record.attention == 0) [[likely]] {
    record.pool->Release(record);
  } else {
    ReleaseSpecial(record);
  }
}
void ContinueWith(ownership::Record& record,
                  ownership::Record::Continuation continuation, void* data,
                  bool handle_stays) noexcept;

// Records to wait for, in whatever they are.
struct WaitSet {
  std::size_t count;
  ownership::Record& (*at)(const void* operations, std::size_t index);
  const void* operations;

  ownership::Record& operator[](std::size_t index) const {
    return at(operations, index);
  }
};

template <typename Callback, typename Outcome>
void Deliver(Callback& callback, Outcome outcome) {
  callback(std::move(outcome));
}
template <typename Callback, typename B, typename T>
void Deliver(Callback& callback, Transfer<B, T> outcome) {
  callback(std::move(outcome.result), std::move(outcome.buffer));
}

}  // namespace internal

// A started operation, to be asked for its outcome exactly once, in one of
// three ways:
//
//   auto outcome = ring.Wait(std::move(operation));     // blocks
//   auto outcome = co_await std::move(operation);       // in any coroutine
//   std::move(operation).Then([](auto... outcome) {});  // from Dispatch()
//
// `Outcome` is a Transfer for what has a buffer and a Result<T> for the rest.
// The operation is submitted with the ring's next Wait(), Dispatch() or
// Submit().
//
// Dropping the handle (also with the coroutine that awaits it) cancels the
// operation. What it owns stays where it is until the kernel is done with it
// and is destroyed then; so is a descriptor that it might have opened. A handle
// may outlive its ring: the operation is over by then and has its outcome.
//
// Movable. A handle belongs to the thread of its ring.
template <typename Outcome>
class [[nodiscard]] Operation {
 public:
  Operation(Operation&& other) noexcept
      : record_(std::exchange(other.record_, nullptr)) {}
  Operation& operator=(Operation&& other) noexcept {
    ownership::Record* const old =
        std::exchange(record_, std::exchange(other.record_, nullptr));
    if (old != nullptr) internal::Drop(*old);
    return *this;
  }
  ~Operation() {
    if (record_ != nullptr) internal::Drop(*record_);
  }

  // Whether the outcome is there, as of the ring's last Wait() or Dispatch().
  bool done() const noexcept {
    return record().stage == ownership::Record::Stage::kDone;
  }

  // Whether it is done in the simplest way, which others may not show.
  bool plain() const noexcept {
    return record().state() ==
           ownership::RecordState{.stage = ownership::Record::Stage::kDone,
                                  .plain = true};
  }

  // The outcome. Requires done().
  Outcome Take() && {
    if constexpr (requires { sizeof(internal::UsualContent<Outcome>); }) {
      using Content = internal::UsualContent<Outcome>;
      if (plain() && record_->template Holds<Content>()) [[likely]] {
        ownership::Record& mine = *std::exchange(record_, nullptr);
        struct Releasing {
          ownership::Record& record;
          ~Releasing() { record.pool->Release(record); }
        } releasing{mine};
        // As plain() says, which spares the content to look.
        if (!mine.result.ok()) std::unreachable();
        return mine.template TakeFrom<Content>();
      }
    }
    // In a place of its own, so that the other way out needs none in memory.
    Outcome outcome = TakeAny(*std::exchange(record_, nullptr));
    return Outcome(std::move(outcome));
  }

  // Has `callback` called by the ring's Dispatch() when the operation is done,
  // with the parts of a Transfer (result, buffer) or with the Result. It may
  // start, drop and wait for operations, but not destroy the ring. Destroying
  // the ring first destroys the callback uncalled.
  template <typename Callback>
  void Then(Callback callback) && {
    // Still this handle's, for the callback's move may throw.
    Callback* const stored = record().EmplaceBeside(std::move(callback));
    internal::ContinueWith(*std::exchange(record_, nullptr),
                           &RunCallback<Callback>, stored,
                           /*handle_stays=*/false);
  }

  // Lets the operation go on to its end without anybody who asks for the
  // outcome.
  void Detach() && {
    ownership::Record& mine = record();
    record_ = nullptr;
    internal::Detach(mine);
  }

  // The coroutine is resumed by the ring's Dispatch(), or goes on at once if
  // the operation is done.
  auto operator co_await() && noexcept { return Awaiter(std::move(*this)); }

  // For the ring. The record, attached to this handle.
  explicit Operation(ownership::Record& record) noexcept : record_(&record) {}
  ownership::Record& record() const noexcept {
    ESCROW_CHECK(record_ != nullptr, "use of an operation that was moved from");
    return *record_;
  }

 private:
  class Awaiter {
   public:
    explicit Awaiter(Operation operation) noexcept
        : operation_(std::move(operation)) {}

    bool await_ready() const noexcept { return operation_.done(); }
    void await_suspend(std::coroutine_handle<> waiter) {
      internal::ContinueWith(operation_.record(), &Resume, waiter.address(),
                             /*handle_stays=*/true);
    }
    Outcome await_resume() { return std::move(operation_).Take(); }

   private:
    Operation operation_;
  };

  [[gnu::noinline]] static Outcome TakeAny(ownership::Record& record) {
    ESCROW_CHECK(record.stage == ownership::Record::Stage::kDone,
                 "Take() of an operation that is not done");
    // Released on the way out, for the outcome is built in the caller's place.
    struct Releasing {
      ownership::Record& record;
      ~Releasing() { internal::Release(record); }
    } releasing{record};
    return record.template Take<Outcome>();
  }

  static void Resume(ownership::Record& record,
                     ownership::Record::Continue how) {
    // A frame that is never resumed is its owner's to destroy, not ours.
    if (how == ownership::Record::Continue::kRun) {
      std::coroutine_handle<>::from_address(record.continuation_data).resume();
    }
  }

  template <typename Callback>
  static void RunCallback(ownership::Record& record,
                          ownership::Record::Continue how) {
    auto* const stored = static_cast<Callback*>(record.continuation_data);
    if (how == ownership::Record::Continue::kDestroyUnrun) {
      record.DestroyBeside(stored);
      return;
    }
    // Ends it on every way out, also by an exception of the callback's move.
    Operation operation(record);
    struct Ending {
      ownership::Record& record;
      Callback* stored;
      ~Ending() { record.DestroyBeside(stored); }
    };
    // Out of the record first: the callback may start an operation in it.
    Callback callback = [&] {
      const Ending ending{record, stored};
      return Callback(std::move(*stored));
    }();
    internal::Deliver(callback, std::move(operation).Take());
  }

  ownership::Record* record_;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_OPERATION_H_
