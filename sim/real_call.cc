#include "escrow/sim/real_call.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

// In assembly, so that the registers of the last two arguments are left without
// a trace of kOurs: the program's next call might have it for its own.
#if defined(__x86_64__)
asm(R"(
    .text
    .p2align 4
    .hidden escrow_sim_real_call
    .globl escrow_sim_real_call
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
    xor %r8d, %r8d
    xor %r9d, %r9d
    ret
    .cfi_endproc
    .size escrow_sim_real_call, . - escrow_sim_real_call
)");
#elif defined(__aarch64__)
asm(R"(
    .text
    .p2align 4
    .hidden escrow_sim_real_call
    .globl escrow_sim_real_call
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
    mov x4, #0
    mov x5, #0
    ret
    .cfi_endproc
    .size escrow_sim_real_call, . - escrow_sim_real_call
)");
#endif

#if defined(__x86_64__) || defined(__aarch64__)
extern "C" long escrow_sim_real_call(long number, long first, long second,
                                     long third, long fourth, long fifth,
                                     long sixth);
#endif

namespace escrow::sim {
namespace {

constexpr int kFifth = 4;
constexpr int kSixth = 5;

long WithOurs(long value) noexcept {
  constexpr long kLower = 0xffff'ffff;
  return (value & kLower) | static_cast<long>(std::uint64_t{kOurs} << 32);
}

}  // namespace

int OursIsIn(long number) noexcept {
  return number == SYS_mmap ? kFifth : kSixth;
}

#if defined(__x86_64__) || defined(__aarch64__)

long RealCall(long number, long first, long second, long third, long fourth,
              long fifth, long sixth) noexcept {
  switch (number) {
    case SYS_mmap:
      fifth = WithOurs(fifth);
      break;
    case SYS_close:
    case SYS_dup:
    case SYS_fcntl:
    case SYS_munmap:
      sixth = WithOurs(sixth);
      break;
    default:
      break;
  }
  return escrow_sim_real_call(number, first, second, third, fourth, fifth,
                              sixth);
}

#else

long RealCall(long number, long first, long second, long third, long fourth,
              long fifth, long sixth) noexcept {
  const long result =
      ::syscall(number, first, second, third, fourth, fifth, sixth);
  return result < 0 ? -errno : result;
}

#endif

}  // namespace escrow::sim
