/*
 * liburing's system calls, made to the kernel, and where that does not have
 * them, to the emulation (escrow/sim/fallback.h). Included before each of
 * liburing's own sources, and instead of its header for the architecture, whose
 * include guard the build defines.
 */
#ifndef ESCROW_SIM_FALLBACK_SYSCALL_H_
#define ESCROW_SIM_FALLBACK_SYSCALL_H_

#include <errno.h>
#include <liburing.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Errors are returned: -EINVAL. */
/*
 * With what the kernel has answered, an error; for enter, in the upper half of
 * what has the flags in the lower one, so that all is in registers, most of it
 * where the kernel had it: nothing has to be saved for the case that there is
 * one.
 */
__attribute__((cold)) int escrow_fallback_enter(unsigned fd, unsigned to_submit,
                                                unsigned min_complete,
                                                uint64_t error_and_flags,
                                                const void *arg, size_t size);
__attribute__((cold)) int escrow_fallback_register(unsigned fd, unsigned opcode,
                                                   const void *arg,
                                                   unsigned count, int error);

#ifdef __cplusplus
}
#endif

/*
 * In line, as liburing has it. That the kernel keeps these registers is of use
 * if it fails.
 */
static inline int escrow_enter(unsigned fd, unsigned to_submit,
                               unsigned min_complete, unsigned flags,
                               const void *arg, size_t size) {
#if defined(__x86_64__)
  long result;
  register long fourth __asm__("r10") = flags;
  register const void *fifth __asm__("r8") = arg;
  register size_t sixth __asm__("r9") = size;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(SYS_io_uring_enter), "D"(fd), "S"(to_submit),
                     "d"(min_complete), "r"(fourth), "r"(fifth), "r"(sixth)
                   : "rcx", "r11", "memory");
  flags = (unsigned)fourth;
  arg = fifth;
  size = sixth;
#elif defined(__aarch64__)
  register long number __asm__("x8") = SYS_io_uring_enter;
  register long result __asm__("x0") = fd;
  register long second __asm__("x1") = to_submit;
  register long third __asm__("x2") = min_complete;
  register long fourth __asm__("x3") = flags;
  register const void *fifth __asm__("x4") = arg;
  register size_t sixth __asm__("x5") = size;
  __asm__ volatile("svc #0"
                   : "+r"(result)
                   : "r"(number), "r"(second), "r"(third), "r"(fourth),
                     "r"(fifth), "r"(sixth)
                   : "memory", "cc");
#else
  long result = syscall(SYS_io_uring_enter, fd, to_submit, min_complete, flags,
                        arg, size);
  if (result < 0) result = -errno;
#endif
  if (__builtin_expect((int)result >= 0, 1)) return (int)result;
  return escrow_fallback_enter(fd, to_submit, min_complete,
                               (uint64_t)result << 32 | flags, arg, size);
}

static inline int escrow_kernel_register(unsigned fd, unsigned opcode,
                                         const void *arg, unsigned count) {
  const long result = syscall(SYS_io_uring_register, fd, opcode, arg, count);
  return result < 0 ? -errno : (int)result;
}

static inline int __sys_io_uring_register(unsigned int fd, unsigned int opcode,
                                          const void *arg,
                                          unsigned int nr_args) {
  const int result = escrow_kernel_register(fd, opcode, arg, nr_args);
  if (__builtin_expect(result >= 0, 1)) return result;
  return escrow_fallback_register(fd, opcode, arg, nr_args, result);
}

static inline int __sys_io_uring_enter2(unsigned int fd, unsigned int to_submit,
                                        unsigned int min_complete,
                                        unsigned int flags, void *arg,
                                        size_t sz) {
  return escrow_enter(fd, to_submit, min_complete, flags, arg, sz);
}

#define ESCROW_CALL(name) escrow_fallback_##name
#include "escrow/sim/liburing_calls.h"

#endif /* ESCROW_SIM_FALLBACK_SYSCALL_H_ */
