/*
 * liburing's system calls, made to the simulated kernel. Included before each
 * of liburing's own sources, and instead of its header for the architecture,
 * whose include guard the build defines.
 */
#ifndef ESCROW_SIM_LINK_SYSCALL_H_
#define ESCROW_SIM_LINK_SYSCALL_H_

#include <liburing.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Errors are returned: -EINVAL. Of what is no ring's, the real calls. */
int escrow_sim_setup(unsigned entries, struct io_uring_params *params);
int escrow_sim_enter(unsigned fd, unsigned to_submit, unsigned min_complete,
                     unsigned flags, const void *arg, size_t size);
int escrow_sim_register(unsigned fd, unsigned opcode, const void *arg,
                        unsigned count);
int escrow_sim_close(int fd);
void *escrow_sim_mmap(void *address, size_t length, int protection, int flags,
                      int fd, off_t offset);
int escrow_sim_munmap(void *address, size_t length);
int escrow_sim_madvise(void *address, size_t length, int advice);
int escrow_sim_getrlimit(int resource, struct rlimit *limit);
int escrow_sim_setrlimit(int resource, const struct rlimit *limit);

#ifdef __cplusplus
}
#endif

static inline int __sys_io_uring_register(unsigned int fd, unsigned int opcode,
                                          const void *arg,
                                          unsigned int nr_args) {
  return escrow_sim_register(fd, opcode, arg, nr_args);
}

static inline int __sys_io_uring_setup(unsigned int entries,
                                       struct io_uring_params *p) {
  return escrow_sim_setup(entries, p);
}

static inline int __sys_io_uring_enter2(unsigned int fd, unsigned int to_submit,
                                        unsigned int min_complete,
                                        unsigned int flags, void *arg,
                                        size_t sz) {
  return escrow_sim_enter(fd, to_submit, min_complete, flags, arg, sz);
}

static inline int __sys_io_uring_enter(unsigned int fd, unsigned int to_submit,
                                       unsigned int min_complete,
                                       unsigned int flags, sigset_t *sig) {
  return __sys_io_uring_enter2(fd, to_submit, min_complete, flags, sig,
                               _NSIG / 8);
}

static inline void *__sys_mmap(void *addr, size_t length, int prot, int flags,
                               int fd, off_t offset) {
  return escrow_sim_mmap(addr, length, prot, flags, fd, offset);
}

static inline int __sys_munmap(void *addr, size_t length) {
  return escrow_sim_munmap(addr, length);
}

static inline int __sys_madvise(void *addr, size_t length, int advice) {
  return escrow_sim_madvise(addr, length, advice);
}

static inline int __sys_getrlimit(int resource, struct rlimit *rlim) {
  return escrow_sim_getrlimit(resource, rlim);
}

static inline int __sys_setrlimit(int resource, const struct rlimit *rlim) {
  return escrow_sim_setrlimit(resource, rlim);
}

static inline int __sys_close(int fd) { return escrow_sim_close(fd); }

#endif /* ESCROW_SIM_LINK_SYSCALL_H_ */
