#include "escrow/safe/file_ops.h"

#include <fcntl.h>

#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using internal::FdOf;
using ownership::Descriptor;
using ownership::RawResult;
using ownership::Record;

}  // namespace

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
      record, raw::Pipe{.fds = numbers.value.ends, .flags = flags | O_CLOEXEC},
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

}  // namespace escrow::safe
