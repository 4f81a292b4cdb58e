/*
 * liburing's system calls, made to the simulated kernel. Included before each
 * of liburing's own sources, and instead of its header for the architecture,
 * whose include guard the build defines.
 */
#ifndef ESCROW_SIM_LINK_SYSCALL_H_
#define ESCROW_SIM_LINK_SYSCALL_H_

#include <liburing.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Errors are returned: -EINVAL. Of what is no ring's, the real calls. */
int escrow_sim_enter(unsigned fd, unsigned to_submit, unsigned min_complete,
                     unsigned flags, const void *arg, size_t size);
int escrow_sim_register(unsigned fd, unsigned opcode, const void *arg,
                        unsigned count);

#ifdef __cplusplus
}
#endif

static inline int __sys_io_uring_register(unsigned int fd, unsigned int opcode,
                                          const void *arg,
                                          unsigned int nr_args) {
  return escrow_sim_register(fd, opcode, arg, nr_args);
}

static inline int __sys_io_uring_enter2(unsigned int fd, unsigned int to_submit,
                                        unsigned int min_complete,
                                        unsigned int flags, void *arg,
                                        size_t sz) {
  return escrow_sim_enter(fd, to_submit, min_complete, flags, arg, sz);
}

#define ESCROW_CALL(name) escrow_sim_##name
#include "escrow/sim/liburing_calls.h"

#endif /* ESCROW_SIM_LINK_SYSCALL_H_ */
