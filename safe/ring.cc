#include "escrow/safe/ring.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/error.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/remote.h"
#include "escrow/safe/result.h"
#include "escrow/safe/wait_ops.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using internal::FdOf;
using ownership::Descriptor;
using ownership::FixedFile;
using ownership::RawResult;
using ownership::Record;

// Setup.

// Entries are retracted and counted by their position in the queue, the ring is
// enabled and mapped, and waiting is for interrupts.
constexpr std::uint32_t kUnsupportedFlags =
    IORING_SETUP_IOPOLL | IORING_SETUP_R_DISABLED | IORING_SETUP_NO_MMAP |
    IORING_SETUP_REGISTERED_FD_ONLY | IORING_SETUP_SQ_REWIND;

// Best first. The last one is the least that Linux 5.19 has.
constexpr std::uint32_t kOneIssuer =
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
    IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
constexpr std::uint32_t kBestFlags[] = {
    kOneIssuer | IORING_SETUP_NO_SQARRAY,
    kOneIssuer,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG,
};

// raw::Ring::Create() that outlasts the memory of rings destroyed just before.
Result<raw::Ring> CreatePatiently(const raw::RingOptions& options) {
  using std::chrono::milliseconds;
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(500);
  for (;;) {
    Result<raw::Ring> ring = raw::Ring::Create(options);
    if (ring.has_value() || ring.error().value() != ENOMEM ||
        std::chrono::steady_clock::now() > deadline) {
      return ring;
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
}

Result<raw::Ring> CreateRaw(const RingOptions& options) {
  const std::uint32_t disabled = options.disabled ? IORING_SETUP_R_DISABLED : 0;
  raw::RingOptions raw_options = {
      .entries = options.entries,
      .completion_entries = options.completion_entries,
  };
  const std::uint32_t sized =
      disabled | (options.completion_entries != 0 ? IORING_SETUP_CQSIZE : 0);
  if (options.setup_flags.has_value()) {
    if ((*options.setup_flags & kUnsupportedFlags) != 0) {
      return std::unexpected(std::error_code(EINVAL, raw::SetupCategory()));
    }
    raw_options.setup_flags = *options.setup_flags | sized;
    return CreatePatiently(raw_options);
  }
  Result<raw::Ring> ring =
      std::unexpected(std::error_code(EINVAL, raw::SetupCategory()));
  for (const std::uint32_t flags : kBestFlags) {
    raw_options.setup_flags = flags | sized;
    ring = CreatePatiently(raw_options);
    if (ring.has_value() || ring.error().value() != EINVAL) return ring;
  }
  // It is either the options or the kernel's age, which a plain ring tells.
  raw_options.setup_flags = sized;
  if (CreatePatiently(raw_options)) {
    return std::unexpected(std::error_code(ENOSYS, raw::SetupCategory()));
  }
  return ring;
}

// What the operations own.

using NoContent = internal::UsualContent<Result<void>>;

struct OpenContent {
  std::string path;

  Result<Descriptor> Take(const RawResult& result) && {
    return internal::UsualOutcome<Result<Descriptor>>::Take(result);
  }
  void Discard(const RawResult& result) noexcept {
    internal::UsualOutcome<Result<Descriptor>>::Discard(result);
  }
};

// Everything, or what is on a file.
struct CancelMatching {
  std::optional<File> file = std::nullopt;

  using Outcome = Result<std::size_t>;
  void Start(Record& record) {
    record.stays_on_drop = true;
    Engine& engine = Engine::Of(record);
    if (!file.has_value()) {
      engine.Start(record,
                   raw::Cancel{.flags = IORING_ASYNC_CANCEL_ANY |
                                        IORING_ASYNC_CANCEL_ALL},
                   record.sqe_flags);
      return;
    }
    record.Hold(std::move(*file).Take());
    engine.Start(record,
                 raw::CancelFd{.fd = FdOf(record.file),
                               .flags = IORING_ASYNC_CANCEL_ALL},
                 record.sqe_flags);
  }
};

[[gnu::noinline, gnu::cold]] Record& StartNopSlowly(Engine& engine) {
  Record& record = engine.Begin();
  record.Emplace<NoContent>();
  engine.Start(record, raw::Nop{}, 0);
  return record;
}

std::uint8_t LinkFlag(internal::OnError on_error) {
  return on_error == internal::OnError::kStop ? std::uint8_t{IOSQE_IO_LINK}
                                              : std::uint8_t{IOSQE_IO_HARDLINK};
}

}  // namespace

Result<Ring> Ring::Create(const RingOptions& options) {
  Result<raw::Ring> ring = CreateRaw(options);
  if (!ring.has_value()) return std::unexpected(ring.error());
  // Without these the kernel may drop completions, or reads what entries point
  // to after the submit.
  constexpr std::uint32_t kNeeded =
      IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
  if ((ring->features() & kNeeded) != kNeeded) {
    return std::unexpected(std::error_code(ENOSYS, raw::SetupCategory()));
  }
  if (const std::error_code error = ring->DontFork()) {
    return std::unexpected(error);
  }
  return Ring(new Engine(std::move(*ring), options.teardown_limit,
                         options.in_flight_limit == 0
                             ? std::numeric_limits<std::size_t>::max()
                             : options.in_flight_limit));
}

internal::Engine& Ring::engine() const noexcept {
  return static_cast<Engine&>(*engine_);
}

Ring::~Ring() {
  if (engine_ != nullptr) engine().Shutdown();
}

Operation<Result<void>> Ring::Fsync(File file, SyncMode mode) {
  return Start(Sync{.file = std::move(file), .mode = mode});
}

Operation<Result<Descriptor>> Ring::Open(std::string path, int flags,
                                         ::mode_t mode) {
  Record& record = engine().Begin();
  const auto& content = record.Emplace<OpenContent>(std::move(path));
  if (!internal::RefuseNul<raw::OpenAt>(record, content.path)) {
    engine().Start(record,
                   raw::OpenAt{.path = content.path.c_str(),
                               .flags = flags | O_CLOEXEC,
                               .mode = mode},
                   0);
  }
  return Operation<Result<Descriptor>>(record);
}

Operation<Result<void>> Ring::Close(Descriptor file) {
  return Start(safe::Close{.file = std::move(file)});
}

Operation<Result<void>> Ring::Close(FixedFile file) {
  return Start(safe::Close{.file = std::move(file)});
}

Operation<Result<struct ::statx>> Ring::Statx(std::string path,
                                              StatOptions options) {
  return Start(Stat{
      .path = std::move(path), .flags = options.flags, .mask = options.mask});
}

Operation<Result<struct ::statx>> Ring::Statx(const Descriptor& file,
                                              StatOptions options) {
  return Start(
      StatFile{.file = file, .flags = options.flags, .mask = options.mask});
}

Operation<Result<void>> Ring::Timeout(std::chrono::nanoseconds duration) {
  return Start(safe::Timeout{.time = duration});
}

Record& Ring::StartNop() {
  Engine& engine = this->engine();
  const std::uint32_t position = engine.NextPosition();
  Record* const free = engine.Prompt(position);
  if (free == nullptr) [[unlikely]] {
    return StartNopSlowly(engine);
  }
  Record& record = engine.Acquire(*free);
  record.Emplace<NoContent>();
  engine.StartPromptly(record, raw::Nop{}, 0, position);
  return record;
}

Operation<Result<void>> Ring::CancelRecord(const Record& target) {
  ESCROW_CHECK(target.pool == engine_, "Cancel() of another ring's operation");
  Record& record = engine().Begin();
  record.stays_on_drop = true;
  record.Emplace<NoContent>();
  engine().Start(record, raw::Cancel{.user_data = target.user_data()}, 0);
  return Operation<Result<void>>(record);
}

Operation<Result<std::size_t>> Ring::CancelAll() {
  return Start(CancelMatching{});
}

Operation<Result<std::size_t>> Ring::CancelAll(File file) {
  return Start(CancelMatching{.file = std::move(file)});
}

void Ring::WaitFor(Record& record) { engine().Wait(record); }

void Ring::CancelAndWaitFor(Record& record) { engine().CancelAndWait(record); }

std::size_t Ring::WaitForAny(const internal::WaitSet& records,
                             std::optional<std::chrono::nanoseconds> limit) {
  return engine().WaitAny(records, limit);
}

Result<std::size_t> Ring::Dispatch(
    std::optional<std::chrono::nanoseconds> limit) {
  return engine().Dispatch(limit);
}

bool Ring::interrupted() const noexcept { return engine().interrupted(); }

Result<unsigned> Ring::Submit() { return engine().Submit(); }

Result<Descriptor> Ring::Duplicate() const {
  return Descriptor::Permanent(engine().ring().get()->ring_fd).Duplicate();
}

Result<void> Ring::Enable() {
  if (const std::error_code error = engine().Enable()) {
    return std::unexpected(error);
  }
  return {};
}

void Ring::TakeOver() { engine().TakeOver(); }

Result<Remote> Ring::CreateRemote(RemoteOptions options) {
  auto mailbox = engine().GetMailbox(options.eventfd);
  if (!mailbox) return std::unexpected(mailbox.error());
  return Remote(std::move(*mailbox));
}

std::size_t Ring::in_flight() const noexcept {
  engine().CheckOwner();
  return engine().in_flight();
}

std::uint32_t Ring::setup_flags() const noexcept {
  return engine().ring().setup_flags();
}

std::uint64_t Ring::unknown_completions() const noexcept {
  engine().CheckOwner();
  return engine().unknown_completions();
}

std::size_t BuriedOperations() { return internal::BuriedCount(); }

namespace internal {

Engine& EngineOf(Ring& ring) noexcept { return ring.engine(); }

std::uint8_t SqeFlags(const StartOptions& options) {
  return options.async ? std::uint8_t{IOSQE_ASYNC} : std::uint8_t{0};
}

bool BeginDeadline(Record& record) {
  record.sqe_flags |= IOSQE_IO_LINK;
  return Engine::Of(record).Reserve(record, 2);
}

void EndDeadline(Record& record, std::chrono::nanoseconds deadline) {
  if (record.stage == Record::Stage::kQueued) {
    Engine::Of(record).AddDeadline(record, deadline, 0);
  }
}

ChainStart::ChainStart(Engine& engine, OnError on_error,
                       std::span<Record* const> records, unsigned entries)
    : engine_(engine),
      records_(records),
      on_error_(on_error),
      reserved_(engine.ReserveChain(records, entries)) {}

bool ChainStart::Begin(std::size_t index, const StartOptions& options) {
  if (!reserved_) return false;
  Record& record = *records_[index];
  if (broken_) {
    engine_.FinishUnlinked(record);
    return false;
  }
  record.sqe_flags = SqeFlags(options);
  // The last one is told apart at the end.
  record.sqe_flags |= LinkFlag(on_error_);
  return true;
}

void ChainStart::End(std::size_t index, const StartOptions& options) {
  Record& record = *records_[index];
  ESCROW_CHECK(record.stage != Record::Stage::kWaiting,
               "a member of a chain that waits for something else");
  if (record.stage == Record::Stage::kQueued) {
    any_ = true;
    if (options.deadline != std::chrono::nanoseconds(0)) {
      engine_.AddDeadline(record, options.deadline, LinkFlag(on_error_));
    }
  } else if (on_error_ == OnError::kStop) {
    broken_ = true;
  }
}

void ChainStart::Finish() {
  if (any_) engine_.EndLinks();
}

void StartRead(Record& record, std::byte* data, std::size_t size,
               std::uint64_t offset, StartOptions options) {
  StartWith(options, record,
            [&] { StartTransfer<raw::Read>(record, data, size, offset); });
}

void StartWrite(Record& record, const std::byte* data, std::size_t size,
                std::uint64_t offset, StartOptions options) {
  StartWith(options, record,
            [&] { StartTransfer<raw::Write>(record, data, size, offset); });
}

void StartRead(Record& record, ownership::BufferRegistration registration,
               std::byte* data, std::size_t size, std::uint64_t offset,
               StartOptions options) {
  StartWith(options, record, [&] {
    StartTransfer<raw::Read, raw::ReadFixed>(record, registration, data, size,
                                             offset);
  });
}

void StartWrite(Record& record, ownership::BufferRegistration registration,
                const std::byte* data, std::size_t size, std::uint64_t offset,
                StartOptions options) {
  StartWith(options, record, [&] {
    StartTransfer<raw::Write, raw::WriteFixed>(record, registration, data, size,
                                               offset);
  });
}

template <typename RawOp, typename Data>
[[gnu::noinline, gnu::cold]] void StartSlowly(Record& record, Data* data,
                                              std::size_t size,
                                              std::uint64_t offset) {
  StartTransfer<RawOp>(record, data, size, offset);
}

template <typename RawOp, typename Data>
void StartUsually(Record& record, int number, Data* data, std::size_t size,
                  std::uint64_t offset) {
  Engine& engine = Engine::Of(record);
  const std::uint32_t position = engine.NextPosition();
  if (!engine.Ready(position)) [[unlikely]] {
    StartSlowly<RawOp>(record, data, size, offset);
    return;
  }
  engine.StartPromptly(record,
                       RawOp{.fd = number,
                             .buffer = data,
                             .length = TransferLength(size),
                             .offset = offset},
                       0, position);
}

void StartRead(Record& record, int number, std::byte* data, std::size_t size,
               std::uint64_t offset) {
  StartUsually<raw::Read>(record, number, data, size, offset);
}

void StartWrite(Record& record, int number, const std::byte* data,
                std::size_t size, std::uint64_t offset) {
  StartUsually<raw::Write>(record, number, data, size, offset);
}

}  // namespace internal
}  // namespace escrow::safe
