#include "escrow/safe/vector_ops.h"

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"

namespace escrow::safe::internal {
namespace {

using ownership::BufferRegistration;
using ownership::Record;

// A RawOp, or, with memory that is registered with the record's ring, a
// FixedOp.
template <typename RawOp, typename FixedOp>
void StartVector(Record& record, File file, BufferRegistration registration,
                 const iovec* vectors, std::size_t count, std::uint64_t offset,
                 int flags) {
  record.Hold(std::move(file).Take());
  if (registration.ring == record.pool && HasFixedVectors(record)) {
    Engine::Of(record).Start(record,
                             FixedOp{.fd = FdOf(record.file),
                                     .vectors = vectors,
                                     .count = TransferLength(count),
                                     .offset = offset,
                                     .buffer_index = registration.index,
                                     .rw_flags = flags},
                             record.sqe_flags);
    return;
  }
  Engine::Of(record).Start(record,
                           RawOp{.fd = FdOf(record.file),
                                 .vectors = vectors,
                                 .count = TransferLength(count),
                                 .offset = offset,
                                 .rw_flags = flags},
                           record.sqe_flags);
}

}  // namespace

void StartReadVector(Record& record, File file, BufferRegistration registration,
                     const iovec* vectors, std::size_t count,
                     std::uint64_t offset, int flags) {
  StartVector<raw::Readv, raw::ReadvFixed>(
      record, std::move(file), registration, vectors, count, offset, flags);
}

void StartWriteVector(Record& record, File file,
                      BufferRegistration registration, const iovec* vectors,
                      std::size_t count, std::uint64_t offset, int flags) {
  StartVector<raw::Writev, raw::WritevFixed>(
      record, std::move(file), registration, vectors, count, offset, flags);
}

}  // namespace escrow::safe::internal
