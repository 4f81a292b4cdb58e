#include "bench/liburing_loops.h"

#include <errno.h>
#include <liburing.h>
#include <stddef.h>
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

// Inlined on both sides: whether a compiler does so by itself is chance.
__attribute__((always_inline)) static inline int submit_and_reap(
    struct io_uring* ring, unsigned entries, int expected) {
  int submitted = io_uring_submit_and_wait(ring, entries);
  if (submitted < 0) return submitted;

  struct io_uring_cqe* cqe;
  unsigned head;
  unsigned count = 0;
  io_uring_for_each_cqe(ring, head, cqe) {
    if (cqe->res != expected) return cqe->res < 0 ? cqe->res : -EIO;
    count++;
  }
  io_uring_cq_advance(ring, count);
  return count == entries ? 0 : -EIO;
}

int liburing_nop(struct io_uring* ring, unsigned batch, uint64_t rounds) {
  for (; rounds > 0; rounds--) {
    for (unsigned i = 0; i < batch; i++) {
      struct io_uring_sqe* sqe = io_uring_get_sqe(ring);
      if (!sqe) return -EBUSY;
      io_uring_prep_nop(sqe);
      io_uring_sqe_set_data64(sqe, i);
    }
    int result = submit_and_reap(ring, batch, 0);
    if (result < 0) return result;
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
    int result = submit_and_reap(ring, batch, kBlockSize);
    if (result < 0) return result;
  }
  return 0;
}

int liburing_read_fixed(struct io_uring* ring, int file, char* blocks,
                        unsigned batch, uint64_t rounds) {
  for (; rounds > 0; rounds--) {
    for (unsigned i = 0; i < batch; i++) {
      struct io_uring_sqe* sqe = io_uring_get_sqe(ring);
      if (!sqe) return -EBUSY;
      const uint64_t offset = (uint64_t)i * kBlockSize;
      io_uring_prep_read_fixed(sqe, file, blocks + offset, kBlockSize, offset,
                               (int)i);
      io_uring_sqe_set_data64(sqe, i);
    }
    int result = submit_and_reap(ring, batch, kBlockSize);
    if (result < 0) return result;
  }
  return 0;
}

int liburing_send(struct io_uring* ring, int socket, const char* messages,
                  unsigned batch, uint64_t rounds) {
  for (; rounds > 0; rounds--) {
    for (unsigned i = 0; i < batch; i++) {
      struct io_uring_sqe* sqe = io_uring_get_sqe(ring);
      if (!sqe) return -EBUSY;
      io_uring_prep_send(sqe, socket, messages + (size_t)i * kMessageSize,
                         kMessageSize, 0);
      io_uring_sqe_set_data64(sqe, i);
    }
    int result = submit_and_reap(ring, batch, kMessageSize);
    if (result < 0) return result;
  }
  return 0;
}

int liburing_recv(struct io_uring* ring, int socket, char* messages, int flags,
                  unsigned batch, uint64_t rounds) {
  for (; rounds > 0; rounds--) {
    for (unsigned i = 0; i < batch; i++) {
      struct io_uring_sqe* sqe = io_uring_get_sqe(ring);
      if (!sqe) return -EBUSY;
      io_uring_prep_recv(sqe, socket, messages + (size_t)i * kMessageSize,
                         kMessageSize, flags);
      io_uring_sqe_set_data64(sqe, i);
    }
    int result = submit_and_reap(ring, batch, kMessageSize);
    if (result < 0) return result;
  }
  return 0;
}

int liburing_linked(struct io_uring* ring, unsigned batch, uint64_t rounds) {
  for (; rounds > 0; rounds--) {
    for (unsigned i = 0; i < batch; i++) {
      struct io_uring_sqe* first = io_uring_get_sqe(ring);
      if (!first) return -EBUSY;
      io_uring_prep_nop(first);
      io_uring_sqe_set_flags(first, IOSQE_IO_LINK);
      io_uring_sqe_set_data64(first, i);

      struct io_uring_sqe* second = io_uring_get_sqe(ring);
      if (!second) return -EBUSY;
      io_uring_prep_nop(second);
      io_uring_sqe_set_data64(second, i);
    }
    int result = submit_and_reap(ring, 2 * batch, 0);
    if (result < 0) return result;
  }
  return 0;
}
