#ifndef ESCROW_SAFE_DRIVER_H_
#define ESCROW_SAFE_DRIVER_H_

#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/mailbox.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"

// How operations reach a ring without knowing whose it is: through a driver.
//
//   auto driver = safe::SharedDriver::Instance();  // or LocalDriver(ring)
//   auto removed = safe::Perform(*driver, [] {
//     return safe::Unlink{.path = "old"};
//   });
//   Result<void> result = std::move(removed).Wait();  // or co_await
//
// Files and sockets on a driver are in driven_file.h and driven_sockets.h.

namespace escrow::safe {

// Work for the thread of a driver's ring. Destroyed unrun if the ring has
// ended.
class DriverJob : public internal::Posted {
 public:
  virtual void RunOn(Ring& ring) = 0;

  // For drivers that post it: its ring.
  void set_ring(Ring* ring) noexcept { ring_ = ring; }
  void Run() final { RunOn(*ring_); }

 private:
  Ring* ring_ = nullptr;
};

namespace internal {

// The job that calls `function` with the ring.
template <typename Function>
std::unique_ptr<DriverJob> MakeJob(Function function) {
  class Job final : public DriverJob {
   public:
    explicit Job(Function its) : function_(std::move(its)) {}
    void RunOn(Ring& ring) override { function_(ring); }

   private:
    Function function_;
  };
  return std::make_unique<Job>(std::move(function));
}

}  // namespace internal

// Whoever waits for a permit. Either is called, once, in the ring's thread.
class DriverWaker {
 public:
  DriverWaker() noexcept = default;
  DriverWaker(const DriverWaker&) = delete;
  DriverWaker& operator=(const DriverWaker&) = delete;
  virtual ~DriverWaker() = default;
  virtual void Wake() = 0;       // the permit is there
  virtual void RingEnded() = 0;  // there will be none
};

// What a driver is: copies refer to the same ring.
//
//   Run(job, eager)  has the job run in the ring's thread, in the order of
//                    these calls of a thread; from any thread that may use the
//                    driver. With `eager`, what it started should be submitted
//                    at once: a hint.
//   Block(word, end) returns when `word` is `end`, which is notified; called
//                    where Run() is.
//
// And in the ring's thread:
//
//   Reserve(waker)   a permit for an operation in flight, until Release(); or
//                    false, and then `waker` is woken when it has got one.
//                    First come, first served.
//   Release()        gives a permit back.
//   RingEnded()      the ring is being destroyed: wakers are told.
//
// What may be used by several threads has an InRingThread(), too: whether it is
// called in the ring's. Coroutines that await are destroyed only there.
template <typename D>
concept Driver = std::copy_constructible<D> &&
    requires(const D& driver, std::unique_ptr<DriverJob> job, bool eager,
             std::shared_ptr<DriverWaker> waker,
             const std::atomic<std::uint32_t>& word, std::uint32_t end) {
  { driver.Run(std::move(job), eager) } -> std::same_as<void>;
  { driver.Block(word, end) } -> std::same_as<void>;
  { driver.Reserve(std::move(waker)) } -> std::same_as<bool>;
  { driver.Release() } -> std::same_as<void>;
  { driver.RingEnded() } -> std::same_as<void>;
};

namespace internal {

class LocalPermits;

}  // namespace internal

// Drives on a ring of the calling thread's, to which everything that is made
// with the driver belongs, too. Operations are submitted by the ring's
// Dispatch(), Wait() and Submit(), and their coroutines resumed by its
// Dispatch(). The ring stays where it is. When it ends, submissions that are in
// flight are done, with what became of them; no other one is started or resumed
// any more, and none of these may be waited for. Objects on it may outlive it.
class LocalDriver {
 public:
  // Not more than `permits` operations are in flight.
  explicit LocalDriver(Ring& ring, std::size_t permits = 512);

  void Run(std::unique_ptr<DriverJob> job, bool eager) const;
  void Block(const std::atomic<std::uint32_t>& word, std::uint32_t end) const;
  bool Reserve(std::shared_ptr<DriverWaker> waker) const;
  void Release() const;
  void RingEnded() const;

 private:
  Ring* ring_;
  std::shared_ptr<internal::LocalPermits> permits_;
};

struct SharedDriverOptions {
  RingOptions ring = {};      // not `disabled`
  std::size_t permits = 512;  // how many operations are in flight at most
};

// Drives on a ring with a thread of its own, for all threads: it and what is
// made with it may be used by any, and what it is used for goes on by itself. A
// single object or submission is used by one thread at a time. No handler of a
// signal that is sent to the process runs in that thread.
//
// Coroutines are resumed in the driver's thread, so what they do between two
// operations should not block; nor can they Wait() there, which is checked. A
// coroutine that is suspended may be destroyed in that thread only, which is
// checked, too.
//
// When the last copy is gone and everything in flight is over, which has copies
// of its own, the thread ends; a destructor that finds itself to be the last
// one elsewhere waits for that. A child process of fork(2) has no such thread,
// and may only destroy it; every other use ends the child with a message.
class SharedDriver {
 public:
  // The process's, made at the first use, and ended when the process exits
  // normally. Errors are those of Create(), which is then tried again by the
  // next call.
  static Result<SharedDriver> Instance();

  // Errors: those of Ring::Create() and Ring::CreateRemote(), and of
  // pthread_create(3).
  static Result<SharedDriver> Create(const SharedDriverOptions& options = {});

  void Run(std::unique_ptr<DriverJob> job, bool eager) const;
  void Block(const std::atomic<std::uint32_t>& word, std::uint32_t end) const;
  bool Reserve(std::shared_ptr<DriverWaker> waker) const;
  void Release() const;
  void RingEnded() const;
  bool InRingThread() const noexcept;

 private:
  class Core;
  class Use;

  explicit SharedDriver(std::shared_ptr<Use> use) : use_(std::move(use)) {}

  std::shared_ptr<Use> use_;
};

namespace internal {

// Any driver.
class DriverBase {
 public:
  DriverBase() noexcept = default;
  DriverBase(const DriverBase&) = delete;
  DriverBase& operator=(const DriverBase&) = delete;
  virtual ~DriverBase() = default;
  virtual void Run(std::unique_ptr<DriverJob> job, bool eager) const = 0;
  virtual void Block(const std::atomic<std::uint32_t>& word,
                     std::uint32_t end) const = 0;
  virtual bool Reserve(std::shared_ptr<DriverWaker> waker) const = 0;
  virtual void Release() const = 0;
  virtual void RingEnded() const = 0;
  virtual bool InRingThread() const = 0;
};

template <Driver D>
class DriverOf final : public DriverBase {
 public:
  explicit DriverOf(const D& driver) : driver_(driver) {}
  void Run(std::unique_ptr<DriverJob> job, bool eager) const override {
    driver_.Run(std::move(job), eager);
  }
  void Block(const std::atomic<std::uint32_t>& word,
             std::uint32_t end) const override {
    driver_.Block(word, end);
  }
  bool Reserve(std::shared_ptr<DriverWaker> waker) const override {
    return driver_.Reserve(std::move(waker));
  }
  void Release() const override { driver_.Release(); }
  void RingEnded() const override { driver_.RingEnded(); }
  bool InRingThread() const override {
    if constexpr (requires { driver_.InRingThread(); }) {
      return driver_.InRingThread();
    } else {
      return true;
    }
  }

 private:
  D driver_;
};

class DrivenState;

// What a submission shares with the ring's thread. There is one owner on either
// side, and whoever ends second frees it.
class SubmissionState : public DriverWaker,
                        public std::enable_shared_from_this<SubmissionState> {
 public:
  // Operations of one object: one that is of another kind than those before it
  // has these cancelled.
  enum class Kind : std::uint8_t {
    kNone,
    kRead,
    kWrite,
    kSeek,
    kSync,
    kAccept,
    kShutdown,
    kClose,  // goes on, whoever drops it
  };

  SubmissionState(std::shared_ptr<DriverBase> driver, Kind kind,
                  std::shared_ptr<DrivenState> object);
  ~SubmissionState() override;

  // The submitter's side.
  bool done() const noexcept { return stage_.load() == kDone; }
  void Begin(bool eager);
  void Wait();
  // Whether it is suspended until the outcome is there.
  bool Suspend(std::coroutine_handle<> waiter);
  void Abandon() noexcept;

  // The ring's thread's.
  Kind kind() const noexcept { return kind_; }
  bool Unwanted() const noexcept {
    return kind_ != Kind::kClose && abandoned_.load();
  }
  void Turn();    // its object's, or no object's
  void Cancel();  // has it end early, once it is in flight
  void Retire();  // will not be performed
  void Wake() final;
  void RingEnded() final;

 protected:
  // The operation has ended.
  void Over(ownership::Record::Continue how);

  virtual void Perform(Ring& ring) = 0;
  // Whether an operation is in flight; asks for its cancellation if so.
  virtual bool InFlight() const noexcept = 0;
  virtual Operation<Result<void>> CancelOn(Ring& ring) = 0;
  // Takes the outcome over: whether it is to be performed again.
  virtual bool Store() = 0;
  // Ends what the ring's thread was to do.
  virtual void Forget() noexcept = 0;

 private:
  // NOLINTNEXTLINE(performance-enum-size): as the word is that is waited for.
  enum Stage : std::uint32_t { kPrepared, kStarted, kAwaited, kDone };

  void Arrive(Ring& ring);
  void Dropped();
  void Launch();
  void Finish();

  const std::shared_ptr<DriverBase> driver_;
  const Kind kind_;
  std::atomic<std::uint32_t> stage_ = kPrepared;
  std::atomic<bool> abandoned_ = false;
  std::coroutine_handle<> waiter_;  // with kAwaited

  // The ring's thread's.
  std::shared_ptr<DrivenState> object_;
  Ring* ring_ = nullptr;
  std::shared_ptr<SubmissionState> self_;  // while it is in flight
  bool cancelled_ = false;
  bool asked_ = false;  // the ring, to cancel it
};

// What files and sockets are in the ring's thread: their descriptor, and what
// is to be done with it, one after the other.
class DrivenState : public std::enable_shared_from_this<DrivenState> {
 public:
  explicit DrivenState(ownership::Descriptor its) noexcept
      : file(std::move(its)) {}

  ownership::Descriptor file;
  std::uint64_t position = 0;

  void Add(std::shared_ptr<SubmissionState> submission);
  // That one is over.
  void Over(const SubmissionState& submission);
  // Nobody has it any more: cancels what there is, at once, and closes after
  // that.
  void End(Ring& ring);
  void RingEnded() noexcept;

 private:
  void Next();

  std::shared_ptr<SubmissionState> running_;
  std::deque<std::shared_ptr<SubmissionState>> waiting_;
  bool advancing_ = false;  // in Next(), of which one is enough
  bool closed_ = false;
  bool ended_ = false;
};

// Does `Work`: its Make() returns the op, and its Done(outcome) says whether
// that is to be done again.
template <typename Outcome>
class SubmissionOf : public SubmissionState {
 public:
  using SubmissionState::SubmissionState;

  Outcome Take() {
    if (operation_.has_value()) return std::move(*operation_).Take();
    ESCROW_CHECK(outcome_.has_value(),
                 "the outcome of an operation whose driver's ring has ended");
    Outcome outcome = std::move(*outcome_);
    outcome_.reset();
    return outcome;
  }

 protected:
  bool InFlight() const noexcept override { return operation_.has_value(); }
  Operation<Result<void>> CancelOn(Ring& ring) override {
    return ring.Cancel(*operation_);
  }
  void Watch(Operation<Outcome> operation) {
    operation_.emplace(std::move(operation));
    ContinueWith(operation_->record(), &Continue, this, /*handle_stays=*/true);
  }
  Outcome& TakeIn() {
    outcome_.emplace(std::move(*operation_).Take());
    operation_.reset();
    return *outcome_;
  }

 private:
  static void Continue(ownership::Record& record,
                       ownership::Record::Continue how) {
    static_cast<SubmissionOf*>(record.continuation_data)->Over(how);
  }

  std::optional<Operation<Outcome>> operation_;
  std::optional<Outcome> outcome_;
};

template <typename Work>
class SubmissionWith final
    : public SubmissionOf<typename std::invoke_result_t<decltype(&Work::Make),
                                                        Work&>::Outcome> {
 public:
  using Op = std::invoke_result_t<decltype(&Work::Make), Work&>;
  using Base = SubmissionOf<typename Op::Outcome>;

  SubmissionWith(std::shared_ptr<DriverBase> driver, SubmissionState::Kind kind,
                 std::shared_ptr<DrivenState> object, Work work)
      : Base(std::move(driver), kind, std::move(object)),
        work_(std::move(work)) {}

 private:
  void Perform(Ring& ring) override { this->Watch(ring.Start(work_->Make())); }
  bool Store() override { return work_->Done(this->TakeIn()); }
  void Forget() noexcept override { work_.reset(); }

  std::optional<Work> work_;
};

// The work of an op that `make_op` makes.
template <typename Function>
struct Single {
  Function make_op;

  auto Make() { return make_op(); }
  template <typename Outcome>
  bool Done(const Outcome&) {
    return false;
  }
};

// An op whose outcome is what `map` makes of that of `op`.
template <Op T, typename Map>
struct MappedOp {
  OpContent<T> content;
  Map map;

  using Outcome = std::invoke_result_t<Map&, typename T::Outcome>;
  void Start(ownership::Record& record) { content.op.Start(record); }
  Outcome Take(const ownership::RawResult& result) && {
    return map(std::move(content).Take(result));
  }
  void Discard(const ownership::RawResult& result) noexcept {
    content.Discard(result);
  }
};
template <Op T, typename Map>
MappedOp<T, Map> MapOutcome(T op, Map map) {
  return {{std::move(op)}, std::move(map)};
}

}  // namespace internal

// An operation on a driver, which starts when it is awaited, waited for, or
// with Start(). Only Perform(), and what is built on it, makes one.
//
//   auto outcome = co_await std::move(submission);
//   auto outcome = std::move(submission).Wait();  // blocks
//
// The outcome comes back once, buffer included, on success and on error.
// Dropping it before cancels the operation, or it never starts. What that owns
// stays where it is until the kernel is done with it, and what it opens is
// closed. Movable, also while it is in flight.
template <typename Outcome>
class [[nodiscard]] Submission {
 public:
  Submission(Submission&& other) noexcept = default;
  Submission& operator=(Submission&& other) noexcept {
    Submission taken(std::move(other));
    std::swap(state_, taken.state_);
    return *this;
  }
  ~Submission() {
    if (state_ != nullptr) state_->Abandon();
  }

  // Hands it to the driver, once; with `eager`, to have it submitted at once
  // where that is not so anyway.
  void Start(bool eager = false) { state().Begin(eager); }

  // Whether the outcome is there.
  bool done() const noexcept { return state().done(); }

  Outcome Wait() && {
    state().Wait();
    return TakeOutcome();
  }

  auto operator co_await() && noexcept {
    (void)state();
    return Awaiter(std::move(*this));
  }

  // For Perform().
  explicit Submission(
      std::shared_ptr<internal::SubmissionOf<Outcome>> its) noexcept
      : state_(std::move(its)) {}

 private:
  class Awaiter {
   public:
    explicit Awaiter(Submission its) noexcept : submission_(std::move(its)) {}
    bool await_ready() const noexcept { return submission_.done(); }
    bool await_suspend(std::coroutine_handle<> waiter) {
      return submission_.state().Suspend(waiter);
    }
    Outcome await_resume() { return submission_.TakeOutcome(); }

   private:
    Submission submission_;
  };

  internal::SubmissionOf<Outcome>& state() const noexcept {
    ESCROW_CHECK(state_ != nullptr,
                 "use of a submission that was awaited or moved from");
    return *state_;
  }
  Outcome TakeOutcome() {
    const auto taken = std::move(state_);
    return taken->Take();
  }

  std::shared_ptr<internal::SubmissionOf<Outcome>> state_;
};

namespace internal {

template <typename Work>
auto Submit(std::shared_ptr<DriverBase> driver, SubmissionState::Kind kind,
            std::shared_ptr<DrivenState> object, Work work) {
  using State = SubmissionWith<Work>;
  return Submission<typename State::Op::Outcome>(std::make_shared<State>(
      std::move(driver), kind, std::move(object), std::move(work)));
}

// The same of a single op, of no object's.
template <typename MakeOp>
auto SubmitOp(std::shared_ptr<DriverBase> driver, MakeOp make_op) {
  return Submit(std::move(driver), SubmissionState::Kind::kNone, nullptr,
                Single<MakeOp>{std::move(make_op)});
}

// Writes all of a text.
class PrintWork {
 public:
  PrintWork(int file, std::string text)
      : file_(ownership::Descriptor::Permanent(file)), text_(std::move(text)) {}

  auto Make() {
    const std::size_t size = text_.size() - written_;
    return MapOutcome(
        Write<ownership::Slice<std::string>>{
            .file = file_, .buffer = {std::move(text_), written_, size}},
        Progress{this});
  }
  bool Done(const Result<void>& outcome) {
    return outcome.has_value() && written_ < text_.size();
  }

 private:
  struct Progress {
    PrintWork* work;
    Result<void> operator()(
        Transfer<ownership::Slice<std::string>> outcome) const;
  };

  ownership::Descriptor file_;
  std::string text_;
  std::size_t written_ = 0;
};

}  // namespace internal

// Has the op that `make` returns performed on `driver`. `make` is called once,
// in the ring's thread, to which the Descriptors that it refers to belong, and
// does not throw; it is destroyed there, or where the submission is, if that is
// not started.
template <Driver D, typename Make>
requires Op<std::invoke_result_t<Make&>>
auto Perform(const D& driver, Make make) {
  return internal::SubmitOp(std::make_shared<internal::DriverOf<D>>(driver),
                            std::move(make));
}

// Writes all of `text` to standard output, in parts if need be; or to another
// descriptor that stays open.
template <Driver D>
Submission<Result<void>> Print(const D& driver, std::string text,
                               int file = 1) {
  return internal::Submit(std::make_shared<internal::DriverOf<D>>(driver),
                          internal::SubmissionState::Kind::kNone, nullptr,
                          internal::PrintWork(file, std::move(text)));
}

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_DRIVER_H_
