#include "escrow/safe/vector_ops.h"

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"

namespace escrow::safe::internal {
namespace {

using ownership::Record;

template <typename RawOp>
void StartVector(Record& record, File file, const iovec* vectors,
                 std::size_t count, std::uint64_t offset, int flags) {
  record.Hold(std::move(file).Take());
  Engine::Of(record).Start(record,
                           RawOp{.fd = FdOf(record.file),
                                 .vectors = vectors,
                                 .count = TransferLength(count),
                                 .offset = offset,
                                 .rw_flags = flags},
                           record.sqe_flags);
}

}  // namespace

void StartReadVector(Record& record, File file, const iovec* vectors,
                     std::size_t count, std::uint64_t offset, int flags) {
  StartVector<raw::Readv>(record, std::move(file), vectors, count, offset,
                          flags);
}

void StartWriteVector(Record& record, File file, const iovec* vectors,
                      std::size_t count, std::uint64_t offset, int flags) {
  StartVector<raw::Writev>(record, std::move(file), vectors, count, offset,
                           flags);
}

}  // namespace escrow::safe::internal
