#include "escrow/safe/file_table.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
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
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream_ops.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using ownership::Descriptor;
using ownership::FileSlots;
using ownership::FixedFile;
using ownership::RawResult;
using ownership::Record;

// The kernel's slots, and behind them those of Put().
class Slots final : public FileSlots, public internal::Attachment {
 public:
  Slots(Engine& engine, const FileTableOptions& options)
      : FileSlots(&engine), engine_(&engine), first_put_(options.made) {
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
    delete this;
  }

  Engine* engine_;  // null when the ring is gone
  std::uint32_t first_put_;
  std::vector<int> free_;  // of those for Put(), of which it has the capacity
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
