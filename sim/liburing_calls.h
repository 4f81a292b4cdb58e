/*
 * Those of liburing's system calls that front ends make alike. Included by the
 * header of a front end that takes the place of liburing's own, which brings
 * __sys_io_uring_enter2() and __sys_io_uring_register(), with ESCROW_CALL(name)
 * for its function of that name.
 */
#ifndef ESCROW_SIM_LIBURING_CALLS_H_
#define ESCROW_SIM_LIBURING_CALLS_H_

#include <errno.h>
#include <liburing.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Errors are returned: -EINVAL. Of what is no ring's, the real calls. */
int ESCROW_CALL(setup)(unsigned entries, struct io_uring_params *params);
int ESCROW_CALL(close)(int fd);
void *ESCROW_CALL(mmap)(void *address, size_t length, int protection, int flags,
                        int fd, off_t offset);
int ESCROW_CALL(munmap)(void *address, size_t length);

#ifdef __cplusplus
}
#endif

static inline int __sys_io_uring_setup(unsigned int entries,
                                       struct io_uring_params *p) {
  return ESCROW_CALL(setup)(entries, p);
}

static inline int __sys_io_uring_enter(unsigned int fd, unsigned int to_submit,
                                       unsigned int min_complete,
                                       unsigned int flags, sigset_t *sig) {
  return __sys_io_uring_enter2(fd, to_submit, min_complete, flags, sig,
                               _NSIG / 8);
}

static inline void *__sys_mmap(void *addr, size_t length, int prot, int flags,
                               int fd, off_t offset) {
  return ESCROW_CALL(mmap)(addr, length, prot, flags, fd, offset);
}

static inline int __sys_munmap(void *addr, size_t length) {
  return ESCROW_CALL(munmap)(addr, length);
}

static inline int __sys_close(int fd) { return ESCROW_CALL(close)(fd); }

/* Of no ring's concern. */

static inline int escrow_or_error(int result) {
  return result < 0 ? -errno : result;
}

static inline int __sys_madvise(void *addr, size_t length, int advice) {
  return escrow_or_error(madvise(addr, length, advice));
}

static inline int __sys_getrlimit(int resource, struct rlimit *rlim) {
  return escrow_or_error(getrlimit((__rlimit_resource_t)resource, rlim));
}

static inline int __sys_setrlimit(int resource, const struct rlimit *rlim) {
  return escrow_or_error(setrlimit((__rlimit_resource_t)resource, rlim));
}

#endif /* ESCROW_SIM_LIBURING_CALLS_H_ */
