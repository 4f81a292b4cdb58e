#ifndef ESCROW_BENCH_LIBURING_LOOPS_H_
#define ESCROW_BENCH_LIBURING_LOOPS_H_

#include <liburing.h>
#include <stdint.h>

// What the other implementations are measured against: loops as one writes them
// by hand, in C. They return 0 or a negated errno.

#ifdef __cplusplus
extern "C" {
#endif

enum { kBlockSize = 4096, kMessageSize = 64 };

int liburing_create(struct io_uring* ring, unsigned entries, unsigned flags);

int liburing_nop(struct io_uring* ring, unsigned batch, uint64_t rounds);

// Block i of the file into block i of `blocks`.
int liburing_read(struct io_uring* ring, int file, char* blocks, unsigned batch,
                  uint64_t rounds);

// The same, where block i of `blocks` is the ring's registered buffer i.
int liburing_read_fixed(struct io_uring* ring, int file, char* blocks,
                        unsigned batch, uint64_t rounds);

// From message i of `messages`.
int liburing_send(struct io_uring* ring, int socket, const char* messages,
                  unsigned batch, uint64_t rounds);

// Into message i of `messages`.
int liburing_recv(struct io_uring* ring, int socket, char* messages, int flags,
                  unsigned batch, uint64_t rounds);

// `batch` pairs, of which the second starts when the first is done.
int liburing_linked(struct io_uring* ring, unsigned batch, uint64_t rounds);

#ifdef __cplusplus
}
#endif

#endif  // ESCROW_BENCH_LIBURING_LOOPS_H_
