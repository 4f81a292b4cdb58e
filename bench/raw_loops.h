#ifndef ESCROW_BENCH_RAW_LOOPS_H_
#define ESCROW_BENCH_RAW_LOOPS_H_

#include <cstdint>

#include "escrow/raw/ring.h"

// The loops of liburing_loops.h, as one writes them with escrow::raw.

namespace escrow::bench {

int RawNop(raw::Ring& ring, unsigned batch, std::uint64_t rounds);

int RawRead(raw::Ring& ring, int file, char* blocks, unsigned batch,
            std::uint64_t rounds);

int RawReadFixed(raw::Ring& ring, int file, char* blocks, unsigned batch,
                 std::uint64_t rounds);

int RawSend(raw::Ring& ring, int socket, const char* messages, unsigned batch,
            std::uint64_t rounds);

int RawRecv(raw::Ring& ring, int socket, char* messages, int flags,
            unsigned batch, std::uint64_t rounds);

int RawLinked(raw::Ring& ring, unsigned batch, std::uint64_t rounds);

}  // namespace escrow::bench

#endif  // ESCROW_BENCH_RAW_LOOPS_H_
