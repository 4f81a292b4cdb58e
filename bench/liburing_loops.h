#ifndef ESCROW_BENCH_LIBURING_LOOPS_H_
#define ESCROW_BENCH_LIBURING_LOOPS_H_

#include <liburing.h>
#include <stdint.h>

// What the other implementations are measured against: loops as one writes them
// by hand, in C. They return 0 or a negated errno.

#ifdef __cplusplus
extern "C" {
#endif

enum { kBlockSize = 4096 };

int liburing_create(struct io_uring* ring, unsigned entries, unsigned flags);

int liburing_nop(struct io_uring* ring, unsigned batch, uint64_t rounds);

// Block i of the file into block i of `blocks`.
int liburing_read(struct io_uring* ring, int file, char* blocks, unsigned batch,
                  uint64_t rounds);

#ifdef __cplusplus
}
#endif

#endif  // ESCROW_BENCH_LIBURING_LOOPS_H_
