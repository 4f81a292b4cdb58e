#ifndef ESCROW_SAFE_RING_H_
#define ESCROW_SAFE_RING_H_

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"

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

namespace internal {
class Engine;
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
  // its buffer back. A stream (stream.h) counts for one. 0: no limit.
  std::size_t in_flight_limit = 0;

  // How long the destructor waits for operations that the kernel does not end
  // although they are cancelled (a disk or a network file system that hangs).
  // 0: as long as it takes. After that it leaks their memory, says so on
  // standard error and counts them in BuriedOperations().
  std::chrono::milliseconds teardown_limit{0};
};

// As an offset: use and advance the file's own position. For pipes and
// terminals.
inline constexpr std::uint64_t kCurrentPosition = ~std::uint64_t{0};

struct StartOptions {
  // Have a kernel worker thread do it from the start, instead of trying without
  // blocking first (IOSQE_ASYNC).
  bool async = false;
};

struct StatOptions {
  int flags = 0;                      // AT_*, for paths
  unsigned mask = STATX_BASIC_STATS;  // STATX_*, what is asked for
};

enum class SyncMode : std::uint8_t {
  kAll,   // fsync(2)
  kData,  // fdatasync(2)
};

// Owns an io_uring instance and the operations in flight on it. Belongs to the
// thread that creates it: every member is called there, and so is the
// destructor. Movable; a moved-from ring may only be
// destroyed or assigned to.
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
  Operation<Transfer<B>> Read(const ownership::Descriptor& file, B buffer,
                              std::uint64_t offset = kCurrentPosition,
                              StartOptions options = {});

  // pwrite(2) of the whole of `buffer`, or write(2) at the current position.
  // May write less.
  template <ownership::Readable B>
  Operation<Transfer<B>> Write(const ownership::Descriptor& file, B buffer,
                               std::uint64_t offset = kCurrentPosition,
                               StartOptions options = {});

  // Any operation that is described by an op: those of path_ops.h and
  // file_ops.h, and your own (op.h).
  template <Op T>
  Operation<typename T::Outcome> Start(T op, StartOptions options = {});

  // Covers the writes that are done when it is started, not those in flight.
  Operation<Result<void>> Fsync(const ownership::Descriptor& file,
                                SyncMode mode = SyncMode::kAll);

  // open(2), with O_CLOEXEC in any case. `mode` is for O_CREAT and O_TMPFILE.
  // If the handle is dropped, what was opened is closed, but a file may have
  // been created.
  Operation<Result<ownership::Descriptor>> Open(std::string path, int flags,
                                                ::mode_t mode = 0);

  // close(2), once the operations in flight on `file` are done, whichever ring
  // they are on. Reports what a destructor could not; the descriptor is closed
  // whatever the outcome is, and also if the handle is dropped. Closes a
  // Descriptor::Permanent() one, too. bad_file_descriptor for that of an
  // io_uring instance, which is then closed by close(2).
  Operation<Result<void>> Close(ownership::Descriptor file);

  // statx(2).
  Operation<Result<struct ::statx>> Statx(std::string path,
                                          StatOptions options = {});
  Operation<Result<struct ::statx>> Statx(const ownership::Descriptor& file,
                                          StatOptions options = {});

  // Succeeds after `duration` (CLOCK_MONOTONIC), not earlier; at once if that
  // is not above zero.
  Operation<Result<void>> Timeout(std::chrono::nanoseconds duration);

  // Does nothing. For waking up and for measuring.
  Operation<Result<void>> Nop();

  // Asks the kernel to cancel `target`. Succeeds when it did; fails with
  // no_such_file_or_directory when there is nothing to cancel,
  // connection_already_in_progress (EALREADY) when `target` is running and may
  // or may not end early. In each case `target` has an outcome of its own,
  // mostly operation_canceled, and its buffer comes back with that.
  template <typename Outcome>
  Operation<Result<void>> Cancel(const Operation<Outcome>& target) {
    return CancelRecord(target.record());
  }

  // Submits and blocks until `operation` is done. Other completions are taken
  // in, but no callback runs. Interrupted waits go on. If the kernel refuses
  // the submission, the operation is taken back from the queue and that error
  // is the outcome, buffer included. A Close() that waits for what nothing in
  // flight on this ring can end fails with operation_canceled, and the
  // descriptor is closed later; for operations on another ring, dispatch that.
  template <typename Outcome>
  Outcome Wait(Operation<Outcome> operation) {
    if (!operation.done()) WaitFor(operation.record());
    return std::move(operation).Take();
  }

  // Submits, waits for a completion unless some are there, and runs the
  // callbacks and coroutines that are ready: their number. Returns 0 at once
  // when nothing is in flight, and may return 0 when a signal or a completion
  // without a continuation ends the wait. With a `limit`, waits that long at
  // most; with a limit of 0, not at all. Errors are those of io_uring_enter(2);
  // nothing is lost by one. Not from inside a callback.
  Result<std::size_t> Dispatch();
  Result<std::size_t> Dispatch(std::chrono::nanoseconds limit);

  // Hands what was started to the kernel, without waiting: the number of
  // entries it took. After an error they are still in the queue, for the next
  // time.
  Result<unsigned> Submit();

  // Operations that the kernel has, or will have with the next submit.
  std::size_t in_flight() const noexcept;

  // IORING_SETUP_* in force.
  std::uint32_t setup_flags() const noexcept;

  // Completions for operations that do not exist (any more), which were
  // ignored: MSG_RING from elsewhere can cause them, and so can kernel bugs.
  // Those with the topmost bit of user_data clear are RawAccess's instead, if
  // there is one.
  std::uint64_t unknown_completions() const noexcept;

 private:
  friend class RawAccess;

  explicit Ring(internal::Engine* engine) noexcept : engine_(engine) {}

  Operation<Result<void>> CancelRecord(const ownership::Record& target);
  void WaitFor(ownership::Record& record);

  internal::Engine* engine_;
};

// Operations of all rings of this process that teardown_limit or a failing
// kernel left unfinished.
std::size_t BuriedOperations();

namespace internal {

ownership::Record& Begin(Engine& engine);
std::uint8_t SqeFlags(StartOptions options);
// On record.file.
void StartRead(ownership::Record& record, std::byte* data, std::size_t size,
               std::uint64_t offset, StartOptions options);
void StartWrite(ownership::Record& record, const std::byte* data,
                std::size_t size, std::uint64_t offset, StartOptions options);

template <typename B>
struct TransferContent {
  B buffer;

  Transfer<B> Take(const ownership::RawResult& result) && {
    if (!result.ok()) {
      return {std::unexpected(result.error()), std::move(buffer)};
    }
    return {static_cast<std::size_t>(result.value), std::move(buffer)};
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

}  // namespace internal

template <Op T>
Operation<typename T::Outcome> Ring::Start(T op, StartOptions options) {
  ownership::Record& record = internal::Begin(*engine_);
  record.sqe_flags = internal::SqeFlags(options);
  record.Emplace<internal::OpContent<T>>(std::move(op)).op.Start(record);
  return Operation<typename T::Outcome>(record);
}

template <ownership::Writable B>
Operation<Transfer<B>> Ring::Read(const ownership::Descriptor& file, B buffer,
                                  std::uint64_t offset, StartOptions options) {
  ownership::Record& record = internal::Begin(*engine_);
  record.Hold(file.Share());
  auto& content =
      record.Emplace<internal::TransferContent<B>>(std::move(buffer));
  internal::StartRead(record, ownership::OwnedMemory<B>::Data(content.buffer),
                      ownership::OwnedMemory<B>::Size(content.buffer), offset,
                      options);
  return Operation<Transfer<B>>(record);
}

template <ownership::Readable B>
Operation<Transfer<B>> Ring::Write(const ownership::Descriptor& file, B buffer,
                                   std::uint64_t offset, StartOptions options) {
  ownership::Record& record = internal::Begin(*engine_);
  record.Hold(file.Share());
  auto& content =
      record.Emplace<internal::TransferContent<B>>(std::move(buffer));
  internal::StartWrite(record, ownership::OwnedMemory<B>::Data(content.buffer),
                       ownership::OwnedMemory<B>::Size(content.buffer), offset,
                       options);
  return Operation<Transfer<B>>(record);
}

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_RING_H_
