#include "escrow/safe/file_ops.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/error.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using internal::FdOf;
using internal::NumberOf;
using ownership::Descriptor;
using ownership::DescriptorShare;
using ownership::FixedFile;
using ownership::RawResult;
using ownership::Record;

static_assert(kCurrentPosition == raw::kCurrentPosition);

raw::Fd NameOf(const Descriptor& file) { return file.number(); }
raw::Fd NameOf(const FixedFile& file) {
  return raw::FixedFile{static_cast<std::uint32_t>(file.slot())};
}

void CheckClose(const Record&, const Descriptor& file) {
  ESCROW_CHECK(file.valid(), "Close() of an empty Descriptor");
}
void CheckClose(const Record& record, const FixedFile& file) {
  ESCROW_CHECK(file.valid(), "Close() of an empty FixedFile");
  ESCROW_CHECK(file.slots().pool() == record.pool,
               "Close() of another ring's FixedFile");
}

template <typename Handle>
void StartClose(Record& record, const Handle& file) {
  Engine::Of(record).Start(record, raw::Close{.fd = NameOf(file)},
                           record.sqe_flags);
}

template <typename Handle>
void UnparkClose(Record& record, Record::Unpark how) {
  Handle& file = record.content<internal::OpContent<Close<Handle>>>().op.file;
  if (how == Record::Unpark::kStart) {
    StartClose(record, file);
  } else {
    file.WhenAlone(nullptr, nullptr);
    Engine::Of(record).Finish(record, -ECANCELED);
  }
}

// How many shares in what `share` is one in the operations before one in its
// chain hold.
std::uint32_t CountShares(const DescriptorShare& share,
                          std::span<Record* const> before) {
  std::uint32_t count = 0;
  for (const Record* const record : before) {
    if (record->stage != Record::Stage::kQueued) continue;
    if (record->file == share) ++count;
    if (record->other_file == share) ++count;
  }
  return count;
}

}  // namespace

template <typename Handle>
void Close<Handle>::Start(Record& record) {
  CheckClose(record, file);
  record.stays_on_drop = true;
  if (file.alone()) {
    StartClose(record, file);
    return;
  }
  // A deadline is not started with it, and so nothing may be linked.
  record.sqe_flags &= static_cast<std::uint8_t>(~IOSQE_IO_LINK);
  Engine::Of(record).Park(record, &UnparkClose<Handle>);
  file.WhenAlone(
      [](void* parked) {
        Engine::Of(*static_cast<Record*>(parked))
            .Unpark(*static_cast<Record*>(parked));
      },
      &record);
}

template <typename Handle>
void Close<Handle>::StartBehind(Record& record,
                                std::span<Record* const> before) {
  CheckClose(record, file);
  record.stays_on_drop = true;
  const std::uint32_t shares = file.shares();
  if (shares == 0 || shares == CountShares(file.Share(), before)) {
    StartClose(record, file);
    return;
  }
  record.result.category = &raw::CategoryOf<"close in a chain">;
  Engine::Of(record).Finish(record, -EBUSY);
}

template <typename Handle>
Result<void> Close<Handle>::Take(const RawResult& result) && {
  Discard(result);
  return internal::UsualOutcome<Result<void>>::Take(result);
}

template <typename Handle>
void Close<Handle>::Discard(const RawResult& result) noexcept {
  // close(2) frees the number whatever error it reports. Where it was not
  // called, the handle does it: io_uring closes no ring's descriptor, and says
  // EBADF.
  const bool called = result.category == &raw::OperationCategory<raw::Close> &&
                      result.value != -ECANCELED && result.value != -EBADF;
  if (called) std::move(file).Closed();
}

template struct Close<Descriptor>;
template struct Close<FixedFile>;

void Sync::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(
      record,
      raw::Fsync{.fd = FdOf(record.file),
                 .offset = offset,
                 .length = length,
                 .flags = mode == SyncMode::kData ? IORING_FSYNC_DATASYNC : 0u},
      record.sqe_flags);
}

void StatFile::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(record,
                           raw::Statx{.directory = NumberOf(record.file),
                                      .path = "",
                                      .flags = flags | AT_EMPTY_PATH,
                                      .mask = mask,
                                      .result = &status.value},
                           record.sqe_flags);
}

Result<struct ::statx> StatFile::Take(const RawResult& result) && {
  if (!result.ok()) return internal::Failure(result);
  return status.value;
}

void SetFileXattr::Start(Record& record) {
  if (internal::RefuseNul<raw::FsetXattr>(record, name)) return;
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(
      record,
      raw::FsetXattr{.fd = FdOf(record.file),
                     .name = name.c_str(),
                     .value = value.data(),
                     .length = internal::TransferLength(value.size()),
                     .flags = flags},
      record.sqe_flags);
}

void SyncRange::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(record,
                           raw::SyncFileRange{.fd = FdOf(record.file),
                                              .offset = offset,
                                              .length = length,
                                              .flags = flags},
                           record.sqe_flags);
}

void Allocate::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(record,
                           raw::Fallocate{.fd = FdOf(record.file),
                                          .mode = mode,
                                          .offset = offset,
                                          .length = length},
                           record.sqe_flags);
}

void Truncate::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(
      record, raw::Ftruncate{.fd = FdOf(record.file), .length = length},
      record.sqe_flags);
}

void Advise::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(record,
                           raw::Fadvise{.fd = FdOf(record.file),
                                        .offset = offset,
                                        .length = length,
                                        .advice = advice},
                           record.sqe_flags);
}

void Splice::Start(Record& record) {
  record.Hold(std::move(in).Take());
  record.HoldAlso(std::move(out).Take());
  Engine::Of(record).Start(record,
                           raw::Splice{.in = FdOf(record.file),
                                       .in_offset = in_offset,
                                       .out = FdOf(record.other_file),
                                       .out_offset = out_offset,
                                       .length = length,
                                       .flags = flags},
                           record.sqe_flags);
}

void Tee::Start(Record& record) {
  record.Hold(std::move(in).Take());
  record.HoldAlso(std::move(out).Take());
  Engine::Of(record).Start(record,
                           raw::Tee{.in = FdOf(record.file),
                                    .out = FdOf(record.other_file),
                                    .length = length,
                                    .flags = flags},
                           record.sqe_flags);
}

void Pipe::Start(Record& record) {
  Engine::Of(record).Start(
      record,
      raw::Pipe{.fds = numbers.value.ends,
                .flags = flags | internal::CloseOnExec(record, O_CLOEXEC),
                .into = internal::DestinationOf(record)},
      record.sqe_flags);
}

Result<Pipe::Ends> Pipe::Take(const RawResult& result) && {
  if (!result.ok()) return internal::Failure(result);
  return Ends{Descriptor::Adopt(numbers.value.ends[0]),
              Descriptor::Adopt(numbers.value.ends[1])};
}

void Pipe::Discard(const RawResult& result) noexcept {
  if (!result.ok()) return;
  (void)Descriptor::Adopt(numbers.value.ends[0]);
  (void)Descriptor::Adopt(numbers.value.ends[1]);
}

namespace internal {

void StartRead(Record& record, File file, std::byte* data, std::size_t size,
               std::uint64_t offset, int flags) {
  record.Hold(std::move(file).Take());
  StartTransfer<raw::Read>(record, data, size, offset, flags);
}

void StartWrite(Record& record, File file, const std::byte* data,
                std::size_t size, std::uint64_t offset, int flags) {
  record.Hold(std::move(file).Take());
  StartTransfer<raw::Write>(record, data, size, offset, flags);
}

void StartRead(Record& record, File file,
               ownership::BufferRegistration registration, std::byte* data,
               std::size_t size, std::uint64_t offset, int flags) {
  record.Hold(std::move(file).Take());
  StartTransfer<raw::Read, raw::ReadFixed>(record, registration, data, size,
                                           offset, flags);
}

void StartWrite(Record& record, File file,
                ownership::BufferRegistration registration,
                const std::byte* data, std::size_t size, std::uint64_t offset,
                int flags) {
  record.Hold(std::move(file).Take());
  StartTransfer<raw::Write, raw::WriteFixed>(record, registration, data, size,
                                             offset, flags);
}

void StartGetFileXattr(Record& record, File file, const std::string& name,
                       std::byte* value, std::size_t size) {
  if (RefuseNul<raw::FgetXattr>(record, name)) return;
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(record,
                           raw::FgetXattr{.fd = FdOf(record.file),
                                          .name = name.c_str(),
                                          .value = value,
                                          .length = TransferLength(size)},
                           record.sqe_flags);
}

}  // namespace internal
}  // namespace escrow::safe
