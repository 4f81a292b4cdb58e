#ifndef ESCROW_SAFE_RING_H_
#define ESCROW_SAFE_RING_H_

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/remote.h"
#include "escrow/safe/result.h"
#include "escrow/safe/starter.h"
#include "escrow/safe/stream.h"

// A ring whose operations own what they use.
//
//   auto ring = safe::Ring::Create();
//   if (!ring) return ring.error();
//   auto file = ring->Wait(ring->Open("data", O_RDONLY));
//   auto block = ownership::Buffer::Allocate(4096);
//   auto [size, data] = ring->Wait(ring->Read(*file, std::move(*block), 0));
//
// A buffer given to an operation is out of the program's reach until the kernel
// has posted the operation's last completion; then it comes back with the
// result, or is destroyed if nobody asks. Dropping handles, errors, failed
// submits, cancellation and the destruction of the ring change nothing about
// that.

namespace escrow::safe {

class Ring;

namespace internal {
class Engine;
Engine& EngineOf(Ring& ring) noexcept;
}  // namespace internal

struct RingOptions {
  // Of the submission queue; rounded up to a power of two. More operations than
  // that may be in flight: a full queue is submitted to make room.
  std::uint32_t entries = 256;

  // Of the completion queue; twice `entries` when 0. When it is full the kernel
  // keeps completions back, and loses none.
  std::uint32_t completion_entries = 0;

  // IORING_SETUP_* for exactly these, or unset for the best the running kernel
  // has: one issuing thread, deferred task work (Linux 6.1), no submission
  // array (6.6). Not IORING_SETUP_IOPOLL, _R_DISABLED, _NO_MMAP,
  // _REGISTERED_FD_ONLY or _SQ_REWIND.
  std::optional<std::uint32_t> setup_flags = std::nullopt;

  // How many operations may be in flight, of which one that is started beyond
  // is done at once with resource_unavailable_try_again (EAGAIN), and gives
  // its buffer back. A stream (stream.h) counts for one, and cancelling for
  // none. 0: no limit.
  std::size_t in_flight_limit = 0;

  // Have the ring start with Enable(), and not before: to create it in one
  // thread and use it in another. Until then it may be moved, destroyed, and
  // be given Remotes.
  bool disabled = false;

  // How long the destructor waits for operations that the kernel does not end
  // although they are cancelled (a disk or a network file system that hangs).
  // 0: as long as it takes. After that it leaks their memory, says so on
  // standard error and counts them in BuriedOperations().
  std::chrono::milliseconds teardown_limit{0};
};

struct StartOptions {
  // Have a kernel worker thread do it from the start, instead of trying without
  // blocking first (IOSQE_ASYNC).
  bool async = false;

  // Cancels it when so much time (CLOCK_MONOTONIC) has passed since the kernel
  // took it: it fails with timed_out then, unless it had an outcome all the
  // same, which is not lost. As with any cancellation, what is running and
  // cannot be interrupted goes on to its end. Takes a second entry of the
  // submission queue (IORING_OP_LINK_TIMEOUT). None when 0.
  std::chrono::nanoseconds deadline{0};

  bool operator==(const StartOptions&) const noexcept = default;
};

// An op with options of its own, as the member of a chain.
template <Op T>
struct With {
  T op;
  StartOptions options;
};

namespace internal {

enum class OnError : std::uint8_t { kStop, kGoOn };

template <OnError kOnError, typename... Members>
struct ChainOf {
  std::tuple<Members...> members;
};

}  // namespace internal

// Ops that are executed one after the other, until one fails or transfers less
// than it could (IOSQE_IO_LINK): those behind it are cancelled.
//
//   auto [write, sync] = ring.Start(safe::Chain(
//       safe::Write<Buffer>{.file = log, .buffer = std::move(entry)},
//       safe::Sync{.file = log}));
//
// Members are ops, or ops With() options; in braces, Chain{...}, they are made
// one after the other, in parentheses in any order. Linux goes on behind some
// ops although they failed (measured on 6.18: fsync, fallocate, ftruncate,
// madvise, extended attributes, and those on paths that open nothing). They
// have kStopsChain == false, and can be the last member only, or have nothing
// but a Close behind them, which closes in any case.
template <typename... Members>
class Chain : public internal::ChainOf<internal::OnError::kStop, Members...> {
 public:
  explicit Chain(Members... members);
};

// Ops that are executed one after the other, whatever becomes of the ones
// before (IOSQE_IO_HARDLINK). Only one that the kernel refuses as soon as it
// sees it, for flags that it does not know, cancels all others.
template <typename... Members>
class HardChain
    : public internal::ChainOf<internal::OnError::kGoOn, Members...> {
 public:
  explicit HardChain(Members... members)
      : internal::ChainOf<internal::OnError::kGoOn, Members...>{
            {std::move(members)...}} {}
};

struct StatOptions {
  int flags = 0;                      // AT_*, for paths
  unsigned mask = STATX_BASIC_STATS;  // STATX_*, what is asked for
};

// Owns an io_uring instance and the operations in flight on it. Movable; a
// moved-from ring may only be destroyed or assigned to.
//
// Belongs to the thread that creates it or, if it is created disabled, enables
// it: every member is called there, unless it says otherwise, and so is the
// destructor, while that thread is there. What else happens in another thread
// ends the program with a message. Other threads hand over work (CreateRemote).
//
// When its thread ends first, what is in flight is cancelled, and the end waits
// for the kernel, as the destructor does. Any thread may then destroy the ring,
// and find the outcomes, once it knows of that end (std::thread::join()).
// Callbacks not called by then are not. A thread's end is that of
// std::thread or pthread_exit(3); when the process exits, the kernel ends what
// is in flight.
//
// A child process that fork(2) makes shares nothing with the parent's rings. It
// may destroy them and their handles, which closes a descriptor and leaves in
// place, never to be freed, what the operations own. Every other use ends the
// child with a message; or with SIGSEGV, if it was made around fork(2), by
// _Fork(3) or clone(2).
//
// Starting an operation costs no system call: Wait(), Dispatch() and Submit()
// submit all that was started. A start can fail only with the queue full and
// the kernel refusing to take from it; the operation is then done at once, with
// that error (EAGAIN, EBUSY, ENOMEM) and with its buffer. Operations run
// concurrently, in no order.
class Ring {
 public:
  // io_uring_setup(2). Needs Linux 5.19. Ring memory counts against
  // RLIMIT_MEMLOCK of the user and is given back by the kernel only some time
  // after a ring was destroyed, so creation retries for 500 ms before it
  // believes ENOMEM. Errors: not_enough_memory when the limit is really
  // reached, function_not_supported or operation_not_permitted where the
  // machine has no io_uring for us (the message says why), invalid_argument for
  // the options.
  static Result<Ring> Create(const RingOptions& options = {});

  Ring(Ring&& other) noexcept
      : engine_(std::exchange(other.engine_, nullptr)) {}
  Ring& operator=(Ring&& other) noexcept {
    Ring taken(std::move(other));
    std::swap(engine_, taken.engine_);
    return *this;
  }

  // Cancels what is in flight and returns when the kernel is done with all of
  // it: from then on it touches no memory that an operation of this ring owned.
  // Callbacks not called by then are destroyed, coroutines are not resumed, and
  // handles find the outcome. Must not run inside a callback or coroutine
  // that this ring runs, nor inside the destructor of what an operation on it
  // owned; and such destructors, when they run in here, use the ring no more.
  ~Ring();

  // pread(2) into the whole of `buffer`, or read(2) at the current position.
  // Fewer bytes than asked for are no error; 0 is the end of the file.
  template <ownership::Writable B>
  Operation<Transfer<B>> Read(File file, B buffer,
                              std::uint64_t offset = kCurrentPosition,
                              StartOptions options = {});

  // pwrite(2) of the whole of `buffer`, or write(2) at the current position.
  // May write less.
  template <ownership::Readable B>
  Operation<Transfer<B>> Write(File file, B buffer,
                               std::uint64_t offset = kCurrentPosition,
                               StartOptions options = {});

  // Any operation that is described by an op: those of path_ops.h and
  // file_ops.h, and your own (op.h).
  template <Op T>
  Operation<typename T::Outcome> Start(T op, StartOptions options = {});

  // A multishot operation.
  template <StreamOp T>
  Stream<typename T::Item> Start(T op, StreamOptions options = {});

  // A chain: an Operation for each member. All of them are started, or, when
  // the queue has no room for all (a deadline counts as a member) or the limit
  // would be exceeded, all are done with that error: invalid_argument for a
  // chain longer than the queue. A member that fails has its own error, and
  // those behind it operation_canceled. Dropping one cancels it, and thus
  // these.
  template <internal::OnError kOnError, typename... Members>
  auto Start(internal::ChainOf<kOnError, Members...> chain);

  // Covers the writes that are done when it is started, not those in flight.
  Operation<Result<void>> Fsync(File file, SyncMode mode = SyncMode::kAll);

  // open(2), with O_CLOEXEC in any case. `mode` is for O_CREAT and O_TMPFILE.
  // If the handle is dropped, what was opened is closed, but a file may have
  // been created.
  Operation<Result<ownership::Descriptor>> Open(std::string path, int flags,
                                                ::mode_t mode = 0);

  // close(2), once the operations in flight on `file` are done, whichever ring
  // they are on; in a chain, the op Close. Reports what a destructor could not;
  // the descriptor is closed whatever the outcome is, and also if the handle is
  // dropped. Closes a Descriptor::Permanent() one, too. bad_file_descriptor for
  // that of an io_uring instance, which is then closed by close(2).
  Operation<Result<void>> Close(ownership::Descriptor file);
  // The same of a FixedFile of this ring's table: empties its slot.
  Operation<Result<void>> Close(ownership::FixedFile file);

  // statx(2).
  Operation<Result<struct ::statx>> Statx(std::string path,
                                          StatOptions options = {});
  Operation<Result<struct ::statx>> Statx(const ownership::Descriptor& file,
                                          StatOptions options = {});

  // Succeeds after `duration` (CLOCK_MONOTONIC), not earlier; at once if that
  // is not above zero.
  Operation<Result<void>> Timeout(std::chrono::nanoseconds duration);

  // Does nothing. For waking up and for measuring.
  Operation<Result<void>> Nop() { return Operation<Result<void>>(StartNop()); }

  // Asks the kernel to cancel `target`. Succeeds when it did; fails with
  // no_such_file_or_directory when there is nothing to cancel,
  // connection_already_in_progress (EALREADY) when `target` is running and may
  // or may not end early. In each case `target` has an outcome of its own,
  // mostly operation_canceled, and its buffer comes back with that.
  template <typename Outcome>
  Operation<Result<void>> Cancel(const Operation<Outcome>& target) {
    return CancelRecord(target.record());
  }
  template <typename T>
  Operation<Result<void>> Cancel(const Stream<T>& target) {
    return CancelRecord(target.record());
  }

  // Asks the kernel to cancel every operation in flight on this ring, or all
  // that are on `file`: how many it found. Each has an outcome of its own.
  Operation<Result<std::size_t>> CancelAll();
  Operation<Result<std::size_t>> CancelAll(File file);

  // Cancels `operation` and blocks until it is done, which it may be because it
  // was, or because the cancellation came too late. Asks again where the kernel
  // says that it may not have: a worker that is about to have a file polled
  // goes on, and what is linked behind another operation is not found.
  template <typename Outcome>
  Outcome CancelAndWait(Operation<Outcome> operation) {
    if (!operation.done()) CancelAndWaitFor(operation.record());
    return std::move(operation).Take();
  }

  // Submits and blocks until `operation` is done. Other completions are taken
  // in, but no callback runs. Interrupted waits go on. If the kernel refuses
  // the submission, the operation is taken back from the queue and that error
  // is the outcome, buffer included. A Close() that waits for what nothing in
  // flight on this ring can end fails with operation_canceled, and the
  // descriptor is closed later; for operations on another ring, dispatch that.
  template <typename Outcome>
  Outcome Wait(Operation<Outcome> operation) {
    if (!operation.plain()) [[unlikely]] {
      WaitFor(operation.record());
    }
    return std::move(operation).Take();
  }

  // Blocks until the stream has an item, or is over; like Wait().
  template <typename T>
  typename Stream<T>::Item Next(Stream<T>& stream) {
    while (!stream.ready()) {
      stream.Arm();
      if (!stream.ready()) WaitFor(stream.record());
    }
    return stream.Take();
  }

  // All of them.
  template <typename... Outcomes>
  std::tuple<Outcomes...> WaitAll(Operation<Outcomes>... operations) {
    return std::tuple<Outcomes...>{Wait(std::move(operations))...};
  }
  template <typename... Outcomes>
  std::tuple<Outcomes...> WaitAll(
      std::tuple<Operation<Outcomes>...> operations) {
    return std::apply(
        [this](auto&... each) { return this->WaitAll(std::move(each)...); },
        operations);
  }

  // Blocks until one of the operations is done: the index of the first that is.
  // Is as Wait() in all else.
  template <typename Outcome, typename... Outcomes>
  std::size_t WaitAny(const Operation<Outcome>& first,
                      const Operation<Outcomes>&... more) {
    ownership::Record* const records[] = {&first.record(), &more.record()...};
    return WaitForAny({1 + sizeof...(more), &RecordAt, records}, std::nullopt);
  }
  template <typename Outcome>
  std::size_t WaitAny(std::span<const Operation<Outcome>> operations) {
    return WaitForAny(
        {operations.size(), &OperationAt<Outcome>, operations.data()},
        std::nullopt);
  }

  // Blocks until `operation` is done or `limit` has passed: whether it is done.
  template <typename Outcome>
  bool WaitAtMost(std::chrono::nanoseconds limit,
                  const Operation<Outcome>& operation) {
    return WaitForAny({1, &OperationAt<Outcome>, &operation}, limit) == 0;
  }

  // Submits, waits for a completion unless some are there, and runs the
  // callbacks and coroutines that are ready, and what was posted by Remotes:
  // their number. Returns 0 at once when nothing is in flight and there is no
  // Remote, and may return 0 when a signal, the end of the last Remote or a
  // completion without a continuation ends the wait. With a `limit`, waits that
  // long at most; with a limit of 0, not at all. Errors are those of
  // io_uring_enter(2); nothing is lost by one. Not from inside a callback.
  Result<std::size_t> Dispatch(
      std::optional<std::chrono::nanoseconds> limit = std::nullopt);

  // Whether a signal handler has ended the wait of the last Dispatch(). One
  // that submitted something does not tell.
  bool interrupted() const noexcept;

  // Hands what was started to the kernel, without waiting: the number of
  // entries it took. After an error they are still in the queue, for the next
  // time.
  Result<unsigned> Submit();

  // Another descriptor of this ring, for other threads' rings to send to
  // (SendToRing), or for poll(2). Errors are those of fcntl(2). The kernel
  // keeps the ring and its memory until this is closed, too; what is sent there
  // after the Ring is gone goes nowhere.
  //
  // To be polled it needs `setup_flags` without IORING_SETUP_DEFER_TASKRUN:
  // with that, which is the default, Linux (6.18) does not wake who polls for
  // work that it has deferred. A Remote's posts do not show either.
  Result<ownership::Descriptor> Duplicate() const;

  // Starts a ring that was created disabled. From here on it belongs to the
  // calling thread, which may be any. Errors: those of io_uring_register(2),
  // after which it is still disabled; and, if it has Remotes, those of
  // CreateRemote(), after which it is not.
  Result<void> Enable();

  // Makes the ring the calling thread's, which may be any: for rings that were
  // created with `setup_flags` without IORING_SETUP_SINGLE_ISSUER. The thread
  // it belonged to, if it is still there, uses it and its handles no more.
  //
  // What that thread started goes on, but for most of it not beyond its end:
  // then operations that have to wait for something end when it happens, with
  // operation_canceled and nothing transferred, and those that a worker runs
  // are interrupted. Cancel them to have them end earlier.
  void TakeOver();

  // A way for other threads to have work done in the ring's (remote.h). Errors:
  // those of eventfd(2).
  Result<Remote> CreateRemote(RemoteOptions options = {});

  // Operations that the kernel has, or will have with the next submit.
  std::size_t in_flight() const noexcept;

  // IORING_SETUP_* in force. For any thread.
  std::uint32_t setup_flags() const noexcept;

  // Completions for operations that do not exist (any more), which were
  // ignored: MSG_RING from elsewhere can cause them, and so can kernel bugs.
  // Those with the topmost bit of user_data clear are RawAccess's instead, if
  // there is one.
  std::uint64_t unknown_completions() const noexcept;

 private:
  friend internal::Engine& internal::EngineOf(Ring& ring) noexcept;

  explicit Ring(internal::Starter* engine) noexcept : engine_(engine) {}

  internal::Engine& engine() const noexcept;

  ownership::Record& StartNop();
  Operation<Result<void>> CancelRecord(const ownership::Record& target);
  void WaitFor(ownership::Record& record);
  void CancelAndWaitFor(ownership::Record& record);
  std::size_t WaitForAny(const internal::WaitSet& records,
                         std::optional<std::chrono::nanoseconds> limit);

  static ownership::Record& RecordAt(const void* records, std::size_t index) {
    return *static_cast<ownership::Record* const*>(records)[index];
  }
  template <typename Outcome>
  static ownership::Record& OperationAt(const void* operations,
                                        std::size_t index) {
    return static_cast<const Operation<Outcome>*>(operations)[index].record();
  }

  internal::Starter* engine_;  // of an Engine
};

// Operations of all rings of this process that teardown_limit or a failing
// kernel left unfinished.
std::size_t BuriedOperations();

namespace internal {

std::uint8_t SqeFlags(const StartOptions& options);
// Around the start of an op with a deadline: whether there is room for both.
bool BeginDeadline(ownership::Record& record);
void EndDeadline(ownership::Record& record, std::chrono::nanoseconds deadline);

// Has `start` write the entry of the operation in `record`.
template <typename Start>
void StartWith(const StartOptions& options, ownership::Record& record,
               const Start& start) {
  record.sqe_flags = SqeFlags(options);
  if (options.deadline == std::chrono::nanoseconds(0)) [[likely]] {
    start();
  } else if (BeginDeadline(record)) {
    start();
    EndDeadline(record, options.deadline);
  }
}

// The parts of a member of a chain.
template <Op T>
T& OpOf(T& member) {
  return member;
}
template <Op T>
T& OpOf(With<T>& member) {
  return member.op;
}
template <Op T>
StartOptions OptionsOf(const T&) {
  return {};
}
template <Op T>
StartOptions OptionsOf(const With<T>& member) {
  return member.options;
}
template <typename Member>
using MemberOp =
    std::remove_reference_t<decltype(OpOf(std::declval<Member&>()))>;

template <typename T>
constexpr bool StopsChain() {
  if constexpr (requires { T::kStopsChain; }) {
    return T::kStopsChain;
  } else {
    return true;
  }
}
template <typename T>
constexpr bool EndsInAnyCase() {
  return requires { T::kEndsInAnyCase; };
}
// Whether what is behind one that fails without an end of the chain makes no
// difference.
template <typename... Ops>
constexpr bool StopWhereItMatters() {
  constexpr bool kStops[] = {StopsChain<Ops>()...};
  constexpr bool kInAnyCase[] = {EndsInAnyCase<Ops>()...};
  bool matters = false;
  for (std::size_t i = sizeof...(Ops); i-- > 0;) {
    if (matters && !kStops[i]) return false;
    matters = matters || !kInAnyCase[i];
  }
  return true;
}

// The start of a chain: its members, with their contents, in order.
class ChainStart {
 public:
  ChainStart(Engine& engine, OnError on_error,
             std::span<ownership::Record* const> records, unsigned entries);
  // Whether the member at `index` is to be started now; End() then. If not, it
  // is done.
  bool Begin(std::size_t index, const StartOptions& options);
  void End(std::size_t index, const StartOptions& options);
  // After the last one.
  void Finish();

 private:
  Engine& engine_;
  std::span<ownership::Record* const> records_;
  OnError on_error_;
  bool reserved_;
  bool broken_ = false;
  bool any_ = false;
};

// What is read or written is on record.file, and in memory that may be
// registered with the record's ring.
void StartRead(ownership::Record& record, std::byte* data, std::size_t size,
               std::uint64_t offset, StartOptions options);
void StartWrite(ownership::Record& record, const std::byte* data,
                std::size_t size, std::uint64_t offset, StartOptions options);
void StartRead(ownership::Record& record,
               ownership::BufferRegistration registration, std::byte* data,
               std::size_t size, std::uint64_t offset, StartOptions options);
void StartWrite(ownership::Record& record,
                ownership::BufferRegistration registration,
                const std::byte* data, std::size_t size, std::uint64_t offset,
                StartOptions options);
// The usual way: record.file is a descriptor, of this number, the memory is not
// registered, and there are no options.
void StartRead(ownership::Record& record, int number, std::byte* data,
               std::size_t size, std::uint64_t offset);
void StartWrite(ownership::Record& record, int number, const std::byte* data,
                std::size_t size, std::uint64_t offset);

// Has `start`, which is one of the above, write the entry of a transfer.
template <typename B, typename Start>
[[gnu::always_inline]] inline Operation<Transfer<B>> StartTransfer(
    Starter& starter, File&& file, B&& buffer, std::uint64_t offset,
    StartOptions options, const Start& start) {
  ownership::Record& record = starter.Begin();
  const bool usual = !file.is_slot() && options == StartOptions{};
  const int number = file.number();
  record.HoldFirst(std::move(file).Take());
  auto& content =
      record.Emplace<UsualContent<Transfer<B>>>(std::forward<B>(buffer));
  ownership::WithMemory(content.buffer, [&](auto... memory) {
    if constexpr (!ownership::Registered<B>) {
      if (usual) [[likely]] {
        start(record, number, memory..., offset);
        return;
      }
    }
    start(record, memory..., offset, options);
  });
  return Operation<Transfer<B>>(record);
}

}  // namespace internal

template <Op T>
Operation<typename T::Outcome> Ring::Start(T op, StartOptions options) {
  ownership::Record& record = engine_->Begin();
  auto& content = record.Emplace<internal::OpContent<T>>(std::move(op));
  internal::StartWith(options, record, [&] { content.op.Start(record); });
  return Operation<typename T::Outcome>(record);
}

template <typename... Members>
Chain<Members...>::Chain(Members... members)
    : internal::ChainOf<internal::OnError::kStop, Members...>{
          {std::move(members)...}} {
  static_assert(internal::StopWhereItMatters<internal::MemberOp<Members>...>(),
                "the kernel goes on behind a member that failed");
}

template <StreamOp T>
Stream<typename T::Item> Ring::Start(T op, StreamOptions options) {
  ownership::Record& record = engine_->Begin();
  auto& content = record.Emplace<internal::StreamContent<T>>(
      std::move(op), options.unread_limit);
  record.stage = ownership::Record::Stage::kDone;
  Stream<typename T::Item> stream(record, content);
  stream.Arm();
  return stream;
}

template <internal::OnError kOnError, typename... Members>
auto Ring::Start(internal::ChainOf<kOnError, Members...> chain) {
  constexpr std::size_t kCount = sizeof...(Members);
  static_assert(kCount > 0);
  ownership::Record* records[kCount];
  std::size_t index = 0;
  unsigned entries = 0;
  const auto hold = [&]<typename Member>(Member& member) {
    const StartOptions options = internal::OptionsOf(member);
    entries += options.deadline == std::chrono::nanoseconds(0) ? 1 : 2;
    using T = internal::MemberOp<Member>;
    ownership::Record& record = engine_->Begin();
    record.Emplace<internal::OpContent<T>>(std::move(internal::OpOf(member)));
    records[index++] = &record;
  };
  const auto start = [&]<typename Member>(internal::ChainStart& starting,
                                          const Member& member) {
    const StartOptions options = internal::OptionsOf(member);
    ownership::Record& record = *records[index];
    using T = internal::MemberOp<Member>;
    if (starting.Begin(index, options)) {
      T& op = record.content<internal::OpContent<T>>().op;
      if constexpr (requires { op.StartBehind(record, {}); }) {
        op.StartBehind(record, std::span(records).first(index));
      } else {
        op.Start(record);
      }
      starting.End(index, options);
    }
    ++index;
  };
  std::apply([&](auto&... each) { (hold(each), ...); }, chain.members);
  internal::ChainStart starting(engine(), kOnError, records, entries);
  index = 0;
  std::apply([&](auto&... each) { (start(starting, each), ...); },
             chain.members);
  starting.Finish();
  return [&]<std::size_t... kIndices>(std::index_sequence<kIndices...>) {
    return std::make_tuple(
        Operation<typename internal::MemberOp<Members>::Outcome>(
            *records[kIndices])...);
  }
  (std::index_sequence_for<Members...>());
}

template <ownership::Writable B>
Operation<Transfer<B>> Ring::Read(File file, B buffer, std::uint64_t offset,
                                  StartOptions options) {
  return internal::StartTransfer(
      *engine_, std::move(file), std::move(buffer), offset, options,
      [](auto&... arguments) { internal::StartRead(arguments...); });
}

template <ownership::Readable B>
Operation<Transfer<B>> Ring::Write(File file, B buffer, std::uint64_t offset,
                                   StartOptions options) {
  return internal::StartTransfer(
      *engine_, std::move(file), std::move(buffer), offset, options,
      [](auto&... arguments) { internal::StartWrite(arguments...); });
}

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_RING_H_
