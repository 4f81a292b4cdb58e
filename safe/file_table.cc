#include "escrow/safe/file_table.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/error.h"
#include "escrow/raw/file_table.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/mailbox.h"
#include "escrow/safe/owner.h"
#include "escrow/safe/remote.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream_ops.h"

namespace escrow::safe {

// Slots of a table that came back from wherever they were handed to. Of any
// thread; Collect() and what it calls are the ring's.
class internal::SlotReturns {
 public:
  struct Slot {
    int number;
    bool filled;
  };
  // Who is told of Collect().
  class Table {
   public:
    virtual void TakeBack() noexcept = 0;

   protected:
    ~Table() = default;
  };

  SlotReturns(Table& table, std::size_t most) : table_(&table) {
    slots_.reserve(most);
  }

  // In a child process of fork(2) it is a copy of what is the parent's.
  bool inherited() const noexcept { return generation_ != ForkGeneration(); }

  void Add(Slot slot) noexcept {
    const std::lock_guard lock(mutex_);
    if (!closed_) slots_.push_back(slot);
  }
  std::optional<Slot> Remove() noexcept {
    const std::lock_guard lock(mutex_);
    if (slots_.empty()) return std::nullopt;
    const Slot slot = slots_.back();
    slots_.pop_back();
    return slot;
  }
  void Collect() noexcept {
    if (table_ != nullptr) table_->TakeBack();
  }
  // The table is gone, or its ring.
  void Close() noexcept {
    table_ = nullptr;
    const std::lock_guard lock(mutex_);
    closed_ = true;
    slots_.clear();
  }

 private:
  const std::uint32_t generation_ = ForkGeneration();
  Table* table_;
  std::mutex mutex_;
  std::vector<Slot> slots_;  // of which it has the capacity
  bool closed_ = false;
};

namespace {

using internal::Engine;
using ownership::Descriptor;
using ownership::FileSlots;
using ownership::FixedFile;
using ownership::RawResult;
using ownership::Record;

// Has the table take back what there is.
class Collecting final : public internal::Posted {
 public:
  explicit Collecting(std::shared_ptr<internal::SlotReturns> returns) noexcept
      : returns_(std::move(returns)) {}
  void Run() override { returns_->Collect(); }

 private:
  std::shared_ptr<internal::SlotReturns> returns_;
};

// The kernel's slots, and behind them those of Put().
class Slots final : public FileSlots,
                    public internal::Attachment,
                    public internal::SlotReturns::Table {
 public:
  Slots(Engine& engine, const FileTableOptions& options)
      : FileSlots(&engine),
        engine_(&engine),
        first_put_(options.made),
        returns_(std::make_shared<internal::SlotReturns>(*this, options.put)) {
    free_.reserve(options.put);
    for (std::uint32_t i = options.put; i > 0; --i) {
      free_.push_back(static_cast<int>(options.made + i - 1));
    }
    engine.Attach(*this);
  }

  Result<FixedFile> Put(const Descriptor& file) {
    if (engine_ == nullptr) return Error(EBADF);
    engine_->CheckOwner();
    if (free_.empty()) return Error(ENFILE);
    const int number = file.number();
    const auto done = raw::RegisterFilesUpdate(
        engine_->ring(), static_cast<unsigned>(free_.back()),
        std::span(&number, 1));
    if (!done) return std::unexpected(done.error());
    const int slot = free_.back();
    free_.pop_back();
    return FixedFile::Adopt(*this, slot);
  }

  Result<ReservedSlot> Reserve() {
    if (engine_ == nullptr) return Error(EBADF);
    engine_->CheckOwner();
    TakeBack();
    if (free_.empty()) return Error(ENFILE);
    auto ring =
        Descriptor::Permanent(engine_->ring().get()->ring_fd).Duplicate();
    if (!ring) return std::unexpected(ring.error());
    auto mailbox = engine_->GetMailbox(/*prefer_eventfd=*/false);
    if (!mailbox) return std::unexpected(mailbox.error());
    const int slot = free_.back();
    free_.pop_back();
    ++reserved_;
    Use();
    return ReservedSlot(returns_, std::make_unique<Collecting>(returns_),
                        Remote(std::move(*mailbox)), std::move(*ring), slot);
  }

  Result<FixedFile> Take(ReservedSlot slot) {
    ESCROW_CHECK(slot.returns() == returns_.get(),
                 "Take() of a ReservedSlot of another table");
    if (engine_ == nullptr) return Error(EBADF);
    engine_->CheckOwner();
    TakeBack();
    if (!slot.filled()) return Error(EBADF);
    FixedFile file = FixedFile::Adopt(*this, slot.slot());
    std::move(slot).Forget();
    --reserved_;
    EndUse();
    return file;
  }

  void TakeBack() noexcept override {
    // What else holds this may be the last slot that comes back.
    const ownership::FileSlotsShare alive(*this);
    while (const auto slot = returns_->Remove()) {
      Leave(slot->number, !slot->filled);
      --reserved_;
      EndUse();
    }
  }

  void Leave(int slot, bool is_empty) noexcept override {
    if (engine_ == nullptr || engine_->LeaveHandle()) return;
    if (!is_empty) {
      // A slot that the kernel does not empty stays taken.
      if (!raw::RegisterFilesUpdate(engine_->ring(),
                                    static_cast<unsigned>(slot),
                                    std::span(&raw::kNoFile, 1))) {
        return;
      }
    }
    if (static_cast<std::uint32_t>(slot) >= first_put_) free_.push_back(slot);
  }

  void RingEnds() noexcept override {
    engine_ = nullptr;
    RingGone();
    returns_->Close();
    // They are waited for no more, and may be all that is left.
    const std::size_t reserved = std::exchange(reserved_, 0);
    if (reserved > 0) EndUses(reserved);
  }

 private:
  static std::unexpected<std::error_code> Error(int error) {
    return std::unexpected(std::error_code(
        error, raw::RegisterCategory(IORING_REGISTER_FILES_UPDATE)));
  }

  void Unused() noexcept override {
    if (engine_ != nullptr && !engine_->LeaveHandle()) {
      (void)raw::UnregisterFiles(engine_->ring());
    }
    returns_->Close();
    delete this;
  }

  Engine* engine_;  // null when the ring is gone
  std::uint32_t first_put_;
  std::vector<int> free_;  // of those for Put(), of which it has the capacity
  std::shared_ptr<internal::SlotReturns> returns_;
  std::size_t reserved_ = 0;  // of which each has a use of this
};

}  // namespace

Result<FileTable> FileTable::Create(Ring& ring,
                                    const FileTableOptions& options) {
  Engine& engine = internal::EngineOf(ring);
  engine.CheckOwner();
  if (const std::error_code error =
          raw::RegisterFilesSparse(engine.ring(), options.made + options.put)) {
    return std::unexpected(error);
  }
  if (options.put != 0) {
    if (const std::error_code error =
            raw::RegisterFileAllocRange(engine.ring(), 0, options.made)) {
      (void)raw::UnregisterFiles(engine.ring());
      return std::unexpected(error);
    }
  }
  return FileTable(*new Slots(engine, options));
}

Result<FixedFile> FileTable::Put(const Descriptor& file) {
  ESCROW_CHECK(share_.valid(), "use of a FileTable that was moved from");
  return static_cast<Slots&>(*share_).Put(file);
}

Result<ReservedSlot> FileTable::Reserve() {
  ESCROW_CHECK(share_.valid(), "use of a FileTable that was moved from");
  return static_cast<Slots&>(*share_).Reserve();
}

Result<FixedFile> FileTable::Take(ReservedSlot slot) {
  ESCROW_CHECK(share_.valid(), "use of a FileTable that was moved from");
  ESCROW_CHECK(slot.valid(), "use of a ReservedSlot that was moved from");
  return static_cast<Slots&>(*share_).Take(std::move(slot));
}

void ReservedSlot::Return() noexcept {
  const auto returns = std::move(returns_);
  if (returns->inherited()) return;
  returns->Add({.number = slot_, .filled = filled_});
  // Where the ring is gone there is nothing to be done.
  (void)remote_.Post(std::move(return_work_));
}

Result<FixedFile> Direct<AcceptMany>::Take(const RawResult& result) {
  if (!result.ok()) return internal::Failure(result);
  return FixedFile::Adopt(table.slots(), result.value);
}

void InstallDescriptor::Start(Record& record) {
  record.Hold(std::move(file).Take());
  const auto slot = static_cast<std::uint32_t>(record.file.number());
  Engine::Of(record).Start(record, raw::FixedFdInstall{.file = {slot}},
                           record.sqe_flags);
}

namespace internal {

void MakeSlot(Record& record, const FileSlots& slots) {
  ESCROW_CHECK(slots.pool() == record.pool,
               "a Direct op on a ring other than its table's");
  record.makes_slot = true;
}

DirectOutcome<Accept>::Outcome DirectOutcome<Accept>::Take(
    Accept& op, FileSlots& slots, const RawResult& result) {
  if (!result.ok()) return Failure(result);
  return Connection{FixedFile::Adopt(slots, result.value), op.peer.value};
}

DirectOutcome<Pipe>::Outcome DirectOutcome<Pipe>::Take(
    Pipe& op, FileSlots& slots, const RawResult& result) {
  if (!result.ok()) return Failure(result);
  return Ends{FixedFile::Adopt(slots, op.numbers.value.ends[0]),
              FixedFile::Adopt(slots, op.numbers.value.ends[1])};
}

}  // namespace internal
}  // namespace escrow::safe
