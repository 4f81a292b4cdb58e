#include "bench/liburing_loops.h"

#include <errno.h>
#include <liburing.h>
#include <stdint.h>
#include <string.h>

int liburing_create(struct io_uring* ring, unsigned entries, unsigned flags) {
  struct io_uring_params params;
  memset(&params, 0, sizeof params);
  params.flags = flags;
  int result = io_uring_queue_init_params(entries, ring, &params);
  if (result < 0) return result;
  if (flags & IORING_SETUP_SINGLE_ISSUER) {
    result = io_uring_register_ring_fd(ring);
    if (result < 0) {
      io_uring_queue_exit(ring);
      return result;
    }
  }
  return 0;
}

int liburing_nop(struct io_uring* ring, unsigned batch, uint64_t rounds) {
  for (; rounds > 0; rounds--) {
    for (unsigned i = 0; i < batch; i++) {
      struct io_uring_sqe* sqe = io_uring_get_sqe(ring);
      if (!sqe) return -EBUSY;
      io_uring_prep_nop(sqe);
      io_uring_sqe_set_data64(sqe, i);
    }
    int submitted = io_uring_submit_and_wait(ring, batch);
    if (submitted < 0) return submitted;

    struct io_uring_cqe* cqe;
    unsigned head;
    unsigned count = 0;
    io_uring_for_each_cqe(ring, head, cqe) {
      if (cqe->res < 0) return cqe->res;
      count++;
    }
    io_uring_cq_advance(ring, count);
    if (count != batch) return -EIO;
  }
  return 0;
}

int liburing_read(struct io_uring* ring, int file, char* blocks, unsigned batch,
                  uint64_t rounds) {
  for (; rounds > 0; rounds--) {
    for (unsigned i = 0; i < batch; i++) {
      struct io_uring_sqe* sqe = io_uring_get_sqe(ring);
      if (!sqe) return -EBUSY;
      const uint64_t offset = (uint64_t)i * kBlockSize;
      io_uring_prep_read(sqe, file, blocks + offset, kBlockSize, offset);
      io_uring_sqe_set_data64(sqe, i);
    }
    int submitted = io_uring_submit_and_wait(ring, batch);
    if (submitted < 0) return submitted;

    struct io_uring_cqe* cqe;
    unsigned head;
    unsigned count = 0;
    io_uring_for_each_cqe(ring, head, cqe) {
      if (cqe->res != kBlockSize) return cqe->res < 0 ? cqe->res : -EIO;
      count++;
    }
    io_uring_cq_advance(ring, count);
    if (count != batch) return -EIO;
  }
  return 0;
}
