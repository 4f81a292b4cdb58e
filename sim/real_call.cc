#include "escrow/sim/real_call.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#if defined(__x86_64__)
// A function of its own in assembly, so that there is one such instruction
// whatever the compiler inlines.
asm(R"(
    .text
    .p2align 4
    .hidden escrow_sim_real_call
    .hidden escrow_sim_real_call_site
    .globl escrow_sim_real_call
    .globl escrow_sim_real_call_site
    .type escrow_sim_real_call, @function
escrow_sim_real_call:
    .cfi_startproc
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    mov 8(%rsp), %r9
    syscall
escrow_sim_real_call_site:
    ret
    .cfi_endproc
    .size escrow_sim_real_call, . - escrow_sim_real_call
)");
#elif defined(__aarch64__)
asm(R"(
    .text
    .p2align 4
    .hidden escrow_sim_real_call
    .hidden escrow_sim_real_call_site
    .globl escrow_sim_real_call
    .globl escrow_sim_real_call_site
    .type escrow_sim_real_call, @function
escrow_sim_real_call:
    .cfi_startproc
    mov x8, x0
    mov x0, x1
    mov x1, x2
    mov x2, x3
    mov x3, x4
    mov x4, x5
    mov x5, x6
    svc #0
escrow_sim_real_call_site:
    ret
    .cfi_endproc
    .size escrow_sim_real_call, . - escrow_sim_real_call
)");
#endif

extern "C" {
long escrow_sim_real_call(long number, long first, long second, long third,
                          long fourth, long fifth, long sixth);
extern const char escrow_sim_real_call_site[];
}

namespace escrow::sim {

#if defined(__x86_64__) || defined(__aarch64__)

long RealCall(long number, long first, long second, long third, long fourth,
              long fifth, long sixth) noexcept {
  return escrow_sim_real_call(number, first, second, third, fourth, fifth,
                              sixth);
}

const void* RealCallSite() noexcept { return escrow_sim_real_call_site; }

#else

long RealCall(long number, long first, long second, long third, long fourth,
              long fifth, long sixth) noexcept {
  const long result =
      ::syscall(number, first, second, third, fourth, fifth, sixth);
  return result < 0 ? -errno : result;
}

const void* RealCallSite() noexcept { return nullptr; }

#endif

}  // namespace escrow::sim
