#include "escrow/safe/driver.h"

#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/error.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/owner.h"
#include "escrow/safe/remote.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/thread.h"

namespace escrow::safe {

using ownership::Record;

namespace internal {

// Permits, and who waits for one. Not thread-safe.
class Permits {
 public:
  explicit Permits(std::size_t free) noexcept : free_(free) {
    ESCROW_CHECK(free > 0, "a driver that lets nothing be in flight");
  }

  bool Reserve(std::shared_ptr<DriverWaker> waker);
  void Release();
  void RingEnded() noexcept;

 private:
  std::size_t free_;
  std::deque<std::shared_ptr<DriverWaker>> waiting_;
  bool waking_ = false;  // which the ones that are woken do not begin again
};

// Those of a ring, which they know the end of.
class LocalPermits final : public Permits, private Attachment {
 public:
  LocalPermits(Ring& ring, std::size_t free) : Permits(free) {
    EngineOf(ring).Attach(*this);
  }

  bool ring_ended() const noexcept { return ended_; }

 private:
  void RingEnds() noexcept override {
    ended_ = true;
    RingEnded();
  }

  bool ended_ = false;
};

bool Permits::Reserve(std::shared_ptr<DriverWaker> waker) {
  // Those that wait come first, while they are being woken.
  if (free_ > 0 && waiting_.empty()) {
    --free_;
    return true;
  }
  waiting_.push_back(std::move(waker));
  return false;
}

void Permits::Release() {
  ++free_;
  // One that is woken and wants nothing any more comes back here.
  if (waking_) return;
  waking_ = true;
  while (free_ > 0 && !waiting_.empty()) {
    --free_;
    const auto next = std::move(waiting_.front());
    waiting_.pop_front();
    next->Wake();
  }
  waking_ = false;
}

void Permits::RingEnded() noexcept {
  // They may own the last of what this is a part of.
  const auto dropped = std::exchange(waiting_, {});
  for (const auto& waker : dropped) waker->RingEnded();
}

SubmissionState::SubmissionState(std::shared_ptr<DriverBase> driver, Kind kind,
                                 std::shared_ptr<DrivenState> object)
    : driver_(std::move(driver)), kind_(kind), object_(std::move(object)) {}

SubmissionState::~SubmissionState() = default;

void SubmissionState::Begin(bool eager) {
  if (stage_.load() != kPrepared) return;
  stage_.store(kStarted);
  driver_->Run(
      MakeJob([self = shared_from_this()](Ring& ring) { self->Arrive(ring); }),
      eager);
}

void SubmissionState::Wait() {
  Begin(/*eager=*/false);
  if (!done()) driver_->Block(stage_, kDone);
}

bool SubmissionState::Suspend(std::coroutine_handle<> waiter) {
  // Nothing of this may be used once the ring's thread can resume the waiter,
  // which may have this destroyed.
  waiter_ = waiter;
  Begin(/*eager=*/false);
  std::uint32_t started = kStarted;
  return stage_.compare_exchange_strong(started, kAwaited);
}

void SubmissionState::Abandon() noexcept {
  abandoned_.store(true);
  std::uint32_t stage = kAwaited;
  if (stage_.compare_exchange_strong(stage, kStarted)) {
    stage = kStarted;
    // The waiter is being destroyed.
    ESCROW_CHECK(driver_->InRingThread(),
                 "a coroutine that awaits is destroyed in another thread than "
                 "its driver's");
  }
  if (kind_ == Kind::kClose || stage != kStarted) return;
  driver_->Run(MakeJob([self = shared_from_this()](Ring&) { self->Dropped(); }),
               /*eager=*/false);
}

void SubmissionState::Arrive(Ring& ring) {
  ring_ = &ring;
  if (object_ != nullptr) {
    object_->Add(shared_from_this());
  } else {
    Turn();
  }
}

void SubmissionState::Turn() {
  if (Unwanted()) {
    Retire();
  } else if (driver_->Reserve(shared_from_this())) {
    Launch();
  }
}

void SubmissionState::Wake() {
  if (Unwanted()) {
    // This may be the last that holds them.
    const auto self = shared_from_this();
    driver_->Release();
    Retire();
  } else {
    Launch();
  }
}

void SubmissionState::RingEnded() {
  if (object_ != nullptr) object_->RingEnded();
}

void SubmissionState::Dropped() {
  Cancel();
  // It may be long until its turn, if it has not begun.
  if (self_ == nullptr && !InFlight()) Forget();
}

void SubmissionState::Launch() {
  self_ = shared_from_this();
  asked_ = false;
  Perform(*ring_);
  if (cancelled_) Cancel();
}

void SubmissionState::Cancel() {
  cancelled_ = true;
  if (!InFlight() || asked_ || kind_ == Kind::kClose) return;
  asked_ = true;
  CancelOn(*ring_).Then([self = shared_from_this()](Result<void> result) {
    self->asked_ = false;
    if (result.has_value() || !self->InFlight()) return;
    // A worker that is about to have a file polled goes on; or the outcome is
    // there and nobody has looked.
    self->asked_ = true;
    self->ring_->Timeout(std::chrono::milliseconds(1))
        .Then([self](const Result<void>&) {
          self->asked_ = false;
          self->Cancel();
        });
  });
}

void SubmissionState::Over(Record::Continue how) {
  const auto self = std::move(self_);
  if (how != Record::Continue::kRun) {
    // The outcome stays in the record, for whoever asks, and so does what it is
    // made of. Coroutines are not resumed.
    driver_->RingEnded();
    if (object_ != nullptr) object_->RingEnded();
    stage_.store(kDone);
    return;
  }
  if (Store() && !cancelled_) {
    Launch();
    return;
  }
  driver_->Release();
  Finish();
}

void SubmissionState::Retire() {
  const auto self = shared_from_this();
  Finish();
}

void SubmissionState::Finish() {
  // In this thread, to which what it refers to belongs.
  Forget();
  const auto object = std::move(object_);
  if (object != nullptr) object->Over(*this);
  const std::uint32_t before = stage_.exchange(kDone);
  stage_.notify_all();
  if (before == kAwaited) waiter_.resume();
}

void DrivenState::Add(std::shared_ptr<SubmissionState> submission) {
  ESCROW_CHECK(!closed_, "use of a file or socket after its Close() or end");
  closed_ = submission->kind() == SubmissionState::Kind::kClose;
  if (running_ != nullptr && running_->kind() != submission->kind()) {
    running_->Cancel();
  }
  // Those of other kinds that are before the last ones were cancelled by them.
  if (!waiting_.empty() && waiting_.back()->kind() != submission->kind()) {
    const auto last = waiting_.back()->kind();
    for (auto each = waiting_.rbegin();
         each != waiting_.rend() && (*each)->kind() == last; ++each) {
      (*each)->Cancel();
    }
  }
  waiting_.push_back(std::move(submission));
  Next();
}

void DrivenState::Over(const SubmissionState& submission) {
  if (running_.get() != &submission) return;
  running_.reset();
  Next();
}

void DrivenState::Next() {
  // One that nobody wants is over before its Turn() returns.
  if (advancing_) return;
  const auto self = shared_from_this();
  advancing_ = true;
  while (running_ == nullptr && !waiting_.empty()) {
    running_ = std::move(waiting_.front());
    waiting_.pop_front();
    const auto next = running_;
    next->Turn();
  }
  advancing_ = false;
  if (running_ == nullptr && ended_) file = ownership::Descriptor();
}

void DrivenState::End(Ring& ring) {
  ended_ = true;
  if (!closed_) {
    closed_ = true;
    for (const auto& each : waiting_) each->Cancel();
    if (running_ != nullptr) {
      running_->Cancel();
      // What it does not take is in the queue for the next time. Without
      // anything in flight, the ring may have ended.
      (void)ring.Submit();
    }
  }
  Next();
}

void DrivenState::RingEnded() noexcept {
  const auto running = std::exchange(running_, nullptr);
  const auto dropped = std::exchange(waiting_, {});
  if (ended_) file = ownership::Descriptor();
}

Result<void> PrintWork::Progress::operator()(
    Transfer<ownership::Slice<std::string>> outcome) const {
  work->text_ = std::move(outcome.buffer).whole();
  if (!outcome.result) return std::unexpected(outcome.result.error());
  work->written_ += *outcome.result;
  if (*outcome.result == 0 && work->written_ < work->text_.size()) {
    return std::unexpected(std::make_error_code(std::errc::io_error));
  }
  return {};
}

}  // namespace internal

LocalDriver::LocalDriver(Ring& ring, std::size_t permits)
    : ring_(&ring),
      permits_(std::make_shared<internal::LocalPermits>(ring, permits)) {}

bool LocalDriver::Reserve(std::shared_ptr<DriverWaker> waker) const {
  return permits_->Reserve(std::move(waker));
}

void LocalDriver::Release() const { permits_->Release(); }

void LocalDriver::RingEnded() const { permits_->RingEnded(); }

void LocalDriver::Run(std::unique_ptr<DriverJob> job, bool eager) const {
  if (permits_->ring_ended()) return;
  job->RunOn(*ring_);
  job.reset();
  // What it does not take is in the queue for the next time.
  if (eager) (void)ring_->Submit();
}

void LocalDriver::Block(const std::atomic<std::uint32_t>& word,
                        std::uint32_t end) const {
  while (word.load() != end) {
    ESCROW_CHECK(!permits_->ring_ended(),
                 "Wait() on a driver whose ring has ended");
    const auto dispatched = ring_->Dispatch();
    if (word.load() == end) return;
    if (dispatched.has_value()) {
      ESCROW_CHECK(
          *dispatched > 0 || internal::EngineOf(*ring_).HasSomethingToWaitFor(),
          "Wait() for what nothing in flight can end");
    } else {
      // The kernel takes what it refused when it has memory again.
      ESCROW_CHECK(
          dispatched.error() == std::errc::resource_unavailable_try_again ||
              dispatched.error() == std::errc::device_or_resource_busy ||
              dispatched.error() == std::errc::not_enough_memory ||
              dispatched.error() == std::errc::interrupted,
          "the kernel refuses to submit what a driver waits for");
    }
  }
}

// The ring, and its thread, which shares it with the Use.
class SharedDriver::Core {
 public:
  explicit Core(const SharedDriverOptions& options)
      : options_(options), permits(options.permits) {}

  // Returns when the ring is there.
  std::error_code Begin(const std::shared_ptr<Core>& self) {
    auto share = std::make_unique<std::shared_ptr<Core>>(self);
    if (const int error =
            internal::StartThread(thread_, &Thread, share.get())) {
      return {error, raw::CategoryOf<"pthread_create">()};
    }
    (void)share.release();
    ready_.wait(0);
    if (error_) ::pthread_join(thread_, nullptr);
    return error_;
  }

  // After which nothing is posted any more.
  void End() {
    Post(internal::MakeJob([this](Ring&) { stopping_ = true; }));
    if (current()) {
      ::pthread_detach(thread_);
    } else {
      ::pthread_join(thread_, nullptr);
    }
  }

  void Post(std::unique_ptr<DriverJob> job) {
    job->set_ring(ring_);
    // By then there is no Use any more.
    ESCROW_CHECK(remote_->Post(std::move(job)).has_value(),
                 "the thread of a SharedDriver cannot be woken");
  }

  // Whether this is a child of the process that has the thread.
  bool inherited() const noexcept {
    return generation_ != internal::ForkGeneration();
  }

  bool current() const noexcept {
    return ::pthread_equal(thread_, ::pthread_self()) != 0;
  }

 private:
  static void* Thread(void* share) {
    const std::unique_ptr<std::shared_ptr<Core>> self(
        static_cast<std::shared_ptr<Core>*>(share));
    (*self)->Loop();
    return nullptr;
  }

  void Loop() {
    auto ring = Ring::Create(options_.ring);
    auto remote = ring.has_value()
                      ? ring->CreateRemote()
                      : Result<Remote>(std::unexpected(ring.error()));
    if (remote.has_value()) {
      generation_ = internal::ForkGeneration();
      ring_ = &*ring;
      remote_.emplace(std::move(*remote));
    } else {
      error_ = remote.error();
    }
    ready_.store(1);
    ready_.notify_all();
    if (error_) return;
    while (!stopping_) {
      // After an error nothing is lost, and there is nothing else to be done
      // than to try again.
      (void)ring->Dispatch();
    }
    // What goes on now has been dropped.
    remote_.reset();
  }

  const SharedDriverOptions options_;
  ::pthread_t thread_{};
  std::atomic<std::uint32_t> ready_ = 0;
  std::error_code error_;
  std::uint32_t generation_ = 0;
  Ring* ring_ = nullptr;
  std::optional<Remote> remote_;
  bool stopping_ = false;  // the thread's

 public:
  internal::Permits permits;  // the thread's
};

// All copies of a driver.
class SharedDriver::Use {
 public:
  explicit Use(std::shared_ptr<Core> its) noexcept : core(std::move(its)) {}
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() {
    if (!core->inherited()) core->End();
  }

  const std::shared_ptr<Core> core;
};

Result<SharedDriver> SharedDriver::Create(const SharedDriverOptions& options) {
  ESCROW_CHECK(!options.ring.disabled, "a SharedDriver on a disabled ring");
  auto core = std::make_shared<Core>(options);
  if (const std::error_code error = core->Begin(core)) {
    return std::unexpected(error);
  }
  return SharedDriver(std::make_shared<Use>(std::move(core)));
}

Result<SharedDriver> SharedDriver::Instance() {
  // Never destroyed, for destructors of other static objects may come here.
  struct Global {
    std::mutex mutex;
    std::optional<SharedDriver> kept;  // until the process exits
    std::weak_ptr<Use> last;
    bool exiting = false;
  };
  static auto& global = *new Global;
  const std::lock_guard lock(global.mutex);
  if (auto use = global.last.lock()) return SharedDriver(std::move(use));
  auto made = Create();
  if (!made) return made;
  global.last = made->use_;
  if (!global.exiting) {
    global.kept = *made;
    std::atexit([] {
      std::optional<SharedDriver> ending;
      const std::lock_guard ending_lock(global.mutex);
      global.exiting = true;
      std::swap(ending, global.kept);
    });
  }
  return made;
}

void SharedDriver::Run(std::unique_ptr<DriverJob> job, bool eager) const {
  if (!eager) {
    use_->core->Post(std::move(job));
    return;
  }
  use_->core->Post(internal::MakeJob([its = std::move(job)](Ring& ring) {
    its->RunOn(ring);
    (void)ring.Submit();
  }));
}

void SharedDriver::Block(const std::atomic<std::uint32_t>& word,
                         std::uint32_t end) const {
  ESCROW_CHECK(!InRingThread(),
               "Wait() in the thread of a SharedDriver, for that thread");
  for (std::uint32_t now = word.load(); now != end; now = word.load()) {
    word.wait(now);
  }
}

bool SharedDriver::Reserve(std::shared_ptr<DriverWaker> waker) const {
  return use_->core->permits.Reserve(std::move(waker));
}

void SharedDriver::Release() const { use_->core->permits.Release(); }

bool SharedDriver::InRingThread() const noexcept {
  return use_->core->current();
}

void SharedDriver::RingEnded() const { use_->core->permits.RingEnded(); }

}  // namespace escrow::safe
