#ifndef ESCROW_BENCH_SAFE_LOOPS_H_
#define ESCROW_BENCH_SAFE_LOOPS_H_

#include <cstdint>
#include <span>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"

// Those loops of liburing_loops.h whose operations escrow::safe has. A batch is
// as long as `operations`, which are overwritten: they have been moved from.

namespace escrow::bench {

using SafeNopOperation = safe::Operation<safe::Result<void>>;
using SafeReadOperation = safe::Operation<safe::Transfer<ownership::Buffer>>;

int SafeNop(safe::Ring& ring, std::span<SafeNopOperation> operations,
            std::uint64_t rounds);

// Block i of the file into `buffers[i]`, which every operation takes over and
// gives back.
int SafeRead(safe::Ring& ring, const ownership::Descriptor& file,
             ownership::Buffer* buffers,
             std::span<SafeReadOperation> operations, std::uint64_t rounds);

}  // namespace escrow::bench

#endif  // ESCROW_BENCH_SAFE_LOOPS_H_
