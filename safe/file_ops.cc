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
using ownership::Descriptor;
using ownership::RawResult;
using ownership::Record;

}  // namespace

void SyncRange::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(record,
                           raw::SyncFileRange{.fd = record.file.number(),
                                              .offset = offset,
                                              .length = length,
                                              .flags = flags},
                           record.sqe_flags);
}

void Allocate::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(record,
                           raw::Fallocate{.fd = record.file.number(),
                                          .mode = mode,
                                          .offset = offset,
                                          .length = length},
                           record.sqe_flags);
}

void Truncate::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(
      record, raw::Ftruncate{.fd = record.file.number(), .length = length},
      record.sqe_flags);
}

void Advise::Start(Record& record) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(record,
                           raw::Fadvise{.fd = record.file.number(),
                                        .offset = offset,
                                        .length = length,
                                        .advice = advice},
                           record.sqe_flags);
}

void Splice::Start(Record& record) {
  record.Hold(std::move(in).Take());
  record.HoldAlso(std::move(out).Take());
  Engine::Of(record).Start(record,
                           raw::Splice{.in = record.file.number(),
                                       .in_offset = in_offset,
                                       .out = record.other_file.number(),
                                       .out_offset = out_offset,
                                       .length = length,
                                       .flags = flags},
                           record.sqe_flags);
}

void Tee::Start(Record& record) {
  record.Hold(std::move(in).Take());
  record.HoldAlso(std::move(out).Take());
  Engine::Of(record).Start(record,
                           raw::Tee{.in = record.file.number(),
                                    .out = record.other_file.number(),
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
