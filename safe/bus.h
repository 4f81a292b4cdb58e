#ifndef ESCROW_SAFE_BUS_H_
#define ESCROW_SAFE_BUS_H_

#include <boost/intrusive/link_mode.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/list_hook.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"

// A ring for programs with a loop that takes one result after the other and
// looks whose it is:
//
//   auto bus = safe::Bus::Create();
//   auto read = bus->Prepare(safe::Read<Buffer>{.file = file, .buffer = ...});
//   bus->Enqueue(read);
//   while (auto result = bus->Dispatch()) {
//     if (result->Is(read)) {
//       auto [size, buffer] = read.End();
//       if (safe::IsEnd(size)) break;
//       ...
//       read.Prepare(safe::Read<Buffer>{...});
//       bus->Enqueue(read);
//     }
//   }
//
// Operations own what they use, as all of a ring's do. For everything else
// there is the ring itself (registered files and buffers, groups of buffers,
// streams, remotes), whose callbacks and coroutines run in Dispatch(), too.

namespace escrow::safe {

class Bus;
class BusResult;

// Whether a read has met the end of its file, which is neither bytes nor an
// error. Not for one into a buffer without room.
inline bool IsEnd(const Result<std::size_t>& read) noexcept {
  return read.has_value() && *read == 0;
}

using BusCallback = std::function<void(const BusResult&)>;

namespace internal {

// What a handle refers to, and does not move.
class BusNode {
 public:
  enum class Stage : std::uint8_t { kIdle, kPrepared, kEnqueued, kDone };

  explicit BusNode(const void* its_type) noexcept : type(its_type) {}
  BusNode(const BusNode&) = delete;
  BusNode& operator=(const BusNode&) = delete;
  virtual ~BusNode() {
    if (ended != nullptr) *ended = true;
  }

  // A value of its own for each type of op.
  template <typename T>
  static const void* TypeOf() noexcept {
    static constexpr char kType = 0;
    return &kType;
  }

  const void* const type;
  Stage stage = Stage::kIdle;
  void* user = nullptr;
  std::vector<BusCallback> callbacks;
  bool* ended = nullptr;  // to be told of the destruction
  boost::intrusive::list_member_hook<
      boost::intrusive::link_mode<boost::intrusive::auto_unlink>>
      hook;  // while it is done and nobody has been told
};

using BusList = boost::intrusive::list<
    BusNode,
    boost::intrusive::member_hook<BusNode, decltype(BusNode::hook),
                                  &BusNode::hook>,
    boost::intrusive::constant_time_size<false>>;

template <Op T>
class BusNodeOf final : public BusNode {
 public:
  using Outcome = typename T::Outcome;

  BusNodeOf() noexcept : BusNode(TypeOf<T>()) {}

  void Prepare(T its) {
    ESCROW_CHECK(stage != Stage::kEnqueued,
                 "an operation prepared again before it is done");
    operation_.reset();
    hook.unlink();
    op_.emplace(std::move(its));
    stage = Stage::kPrepared;
  }

  T TakeOp() {
    ESCROW_CHECK(stage == Stage::kPrepared,
                 "an operation enqueued without being prepared");
    T its = std::move(*op_);
    op_.reset();
    return its;
  }

  // Lists itself in `done` when `operation` is.
  void Started(Operation<Outcome> operation, BusList& done) {
    stage = Stage::kEnqueued;
    done_ = &done;
    operation_.emplace(std::move(operation));
    ContinueWith(operation_->record(), &Continue, this, /*handle_stays=*/true);
  }

  Outcome End() {
    ESCROW_CHECK(stage != Stage::kPrepared,
                 "the result of an operation that is prepared, but not "
                 "enqueued");
    ESCROW_CHECK(stage == Stage::kDone,
                 "the result of an operation that is not done, or taken");
    stage = Stage::kIdle;
    hook.unlink();
    Operation<Outcome> operation = std::move(*operation_);
    operation_.reset();
    return std::move(operation).Take();
  }

 private:
  static void Continue(ownership::Record& record,
                       ownership::Record::Continue how) {
    auto& self = *static_cast<BusNodeOf*>(record.continuation_data);
    self.stage = Stage::kDone;
    // Else the bus has ended.
    if (how == ownership::Record::Continue::kRun) self.done_->push_back(self);
  }

  std::optional<T> op_;  // while it is prepared
  std::optional<Operation<Outcome>> operation_;
  BusList* done_ = nullptr;
};

}  // namespace internal

// An operation, which is prepared, enqueued or done, or none of these. Movable
// at any time; may outlive its bus, and is done then. Dropping it cancels the
// operation; what that owns stays with the ring until the kernel is done.
template <Op T>
class BusHandle {
 public:
  // Has `op` be what is enqueued next. Requires that no other one is, whose
  // result was not dispatched; a result that was not taken is dropped.
  void Prepare(T op) { node_->Prepare(std::move(op)); }

  // The outcome, once; then it can be prepared again. Requires that the result
  // was dispatched.
  typename T::Outcome End() { return node_->End(); }
  bool done() const noexcept {
    return node_->stage == internal::BusNode::Stage::kDone;
  }

  // Has `callback` called by Dispatch() before that returns a result of this,
  // now and later; any number of them, in this order. The result is not
  // returned if one of them takes it by End(), and may prepare and enqueue this
  // again. It may also destroy this: then those behind it are not called. Must
  // not dispatch. What it throws comes out of that Dispatch(), which those
  // behind it and the result do not then; the outcome is there for End().
  void AddCallback(BusCallback callback) {
    node_->callbacks.push_back(std::move(callback));
  }

  // Whatever the program wants to find again with the result.
  void set_user(void* user) noexcept { node_->user = user; }
  void* user() const noexcept { return node_->user; }

 private:
  friend class Bus;
  friend class BusResult;

  explicit BusHandle(T op) : node_(std::make_unique<internal::BusNodeOf<T>>()) {
    Prepare(std::move(op));
  }

  std::unique_ptr<internal::BusNodeOf<T>> node_;
};

// Says whose result there is. Valid until that handle is prepared again or
// destroyed.
class BusResult {
 public:
  template <Op T>
  bool Is(const BusHandle<T>& handle) const noexcept {
    return handle.node_.get() == node_;
  }
  // Whether it is of a handle for such ops.
  template <Op T>
  bool IsOf() const noexcept {
    return node_->type == internal::BusNode::TypeOf<T>();
  }

  // As BusHandle::End(). Requires IsOf<T>().
  template <Op T>
  typename T::Outcome End() const {
    ESCROW_CHECK(IsOf<T>(), "the result of an operation of another type");
    return static_cast<internal::BusNodeOf<T>*>(node_)->End();
  }

  void* user() const noexcept { return node_->user; }

 private:
  friend class Bus;

  explicit BusResult(internal::BusNode* node) noexcept : node_(node) {}

  internal::BusNode* node_;
};

// Owns a Ring, and belongs to a thread as that does. Movable.
class Bus {
 public:
  // Options and errors are those of Ring::Create(). With an `in_flight_limit`,
  // an operation beyond it is done at once, with
  // resource_unavailable_try_again.
  static Result<Bus> Create(const RingOptions& options = {}) {
    auto ring = Ring::Create(options);
    if (!ring) return std::unexpected(ring.error());
    return Bus(std::move(*ring));
  }

  // Its Duplicate() is a file by which another bus, or poll(2), can wait for
  // this one, which is then to be dispatched with a limit of 0.
  Ring& ring() noexcept { return ring_; }

  // A handle with `op` in it.
  template <Op T>
  static BusHandle<T> Prepare(T op) {
    return BusHandle<T>(std::move(op));
  }

  // Starts what is prepared. The kernel gets it with the next Submit() or
  // Dispatch().
  template <Op... Ts>
  void Enqueue(BusHandle<Ts>&... handles) {
    (handles.node_->Started(ring_.Start(handles.node_->TakeOp()), *done_), ...);
  }

  // Likewise, one after the other, until one fails or transfers less than it
  // could: those behind it are done with operation_canceled (safe::Chain).
  template <Op... Ts>
  void EnqueueChain(BusHandle<Ts>&... handles) {
    StartChain(Chain{handles.node_->TakeOp()...}, handles...);
  }
  // Likewise, whatever becomes of the ones before (safe::HardChain).
  template <Op... Ts>
  void EnqueueSerialized(BusHandle<Ts>&... handles) {
    StartChain(HardChain{handles.node_->TakeOp()...}, handles...);
  }

  // Enqueues these and hands everything that is enqueued to the kernel, without
  // waiting. As Ring::Submit().
  template <Op... Ts>
  Result<unsigned> Submit(BusHandle<Ts>&... handles) {
    Enqueue(handles...);
    return ring_.Submit();
  }

  // Submits, waits for a result unless there is one, and returns the one that
  // came first. Interrupted waits go on. Errors: timed_out, when there is none
  // after `limit`; without a limit, resource_deadlock_would_occur, when nothing
  // is in flight that one could come of, and there is no Remote; those of
  // Ring::Dispatch().
  Result<BusResult> Dispatch(
      std::optional<std::chrono::nanoseconds> limit = std::nullopt);

 private:
  explicit Bus(Ring ring)
      : done_(std::make_unique<internal::BusList>()), ring_(std::move(ring)) {}

  template <typename Started, Op... Ts>
  void StartChain(Started chain, BusHandle<Ts>&... handles) {
    auto started = ring_.Start(std::move(chain));
    std::apply(
        [&](auto&... operations) {
          (handles.node_->Started(std::move(operations), *done_), ...);
        },
        started);
  }

  std::unique_ptr<internal::BusList> done_;  // what is enqueued refers to it
  Ring ring_;                                // ends first
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_BUS_H_
