#include "escrow/sim/trap/trap.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "escrow/sim/environment.h"
#include "escrow/sim/kernel.h"
#include "escrow/sim/real_call.h"
#include "escrow/sim/report.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1  // of siginfo_t's si_code
#endif

namespace escrow::sim {
namespace {

[[noreturn]] void Fail(const char* what) noexcept {
  std::fprintf(stderr, "escrow sim: %s: %s\n", what, std::strerror(errno));
  ::_exit(1);
}

// Address space for the mappings of rings, aligned to its size, so that one
// comparison of the upper half of an address tells whether it is in there. In
// every program at the same place, away from where the loader maps: a program
// has the filter of those that have started it, and no handler of signals until
// it is loaded.
class Window {
 public:
  void Reserve() noexcept {
    void* const all =
        ::mmap(PointerTo(kPreferred), 2 * kSize, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) Fail("cannot reserve address space");
    const auto begin = reinterpret_cast<std::uintptr_t>(all);
    begin_ = (begin + kSize - 1) / kSize * kSize;
    Unmap(begin, begin_ - begin);
    Unmap(begin_ + kSize, begin + kSize - begin_);
  }

  std::uint32_t upper_half() const noexcept {
    return static_cast<std::uint32_t>(begin_ >> 32);
  }

  // Null if there is no room.
  void* Take(std::size_t size) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t count = Pieces(size);
    std::size_t run = 0;
    for (std::size_t i = 0; i < kPieces; ++i) {
      run = used_[i] ? 0 : run + 1;
      if (run < count) continue;
      for (std::size_t j = i + 1 - count; j <= i; ++j) used_[j] = true;
      return PointerTo(begin_ + (i + 1 - count) * kPiece);
    }
    return nullptr;
  }

  // Of what has just been unmapped.
  void Return(void* data, std::size_t size) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(data);
    if (at < begin_ || at >= begin_ + kSize) return;
    const long again = RealCall(
        SYS_mmap, static_cast<long>(at), static_cast<long>(size), PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
        0);
    // Somebody else has been given it meanwhile: it is lost.
    if (again != static_cast<long>(at)) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t first = (at - begin_) / kPiece;
    for (std::size_t i = 0; i < Pieces(size); ++i) used_[first + i] = false;
  }

 private:
  static constexpr std::size_t kSize = 1ULL << 32;
#if defined(__x86_64__)
  static constexpr std::uintptr_t kPreferred = 0x7e90'0000'0000;
#else
  static constexpr std::uintptr_t kPreferred = 0xfffc'0000'0000;
#endif
  static constexpr std::size_t kPiece = 1 << 16;
  static constexpr std::size_t kPieces = kSize / kPiece;

  static std::size_t Pieces(std::size_t size) noexcept {
    return (size + kPiece - 1) / kPiece;
  }
  static void* PointerTo(std::uintptr_t address) noexcept {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): it is an address.
    return reinterpret_cast<void*>(address);
  }
  static void Unmap(std::uintptr_t begin, std::size_t size) noexcept {
    if (size > 0) ::munmap(PointerTo(begin), size);
  }

  std::uintptr_t begin_ = 0;
  std::mutex mutex_;
  std::bitset<kPieces> used_;
};

struct State {
  Window window;
  int first_ring = 0;
  ::pid_t process = 0;
};

// Not destroyed: threads may be inside to the very end.
State& Get() noexcept {
  static auto& state = *new State;
  return state;
}

bool trapping = false;

// The program's registers.

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;

long Argument(const ucontext_t& context, int index) noexcept {
  constexpr int kRegisters[] = {REG_RDI, REG_RSI, REG_RDX,
                                REG_R10, REG_R8,  REG_R9};
  return static_cast<long>(context.uc_mcontext.gregs[kRegisters[index]]);
}
void SetResult(ucontext_t& context, long result) noexcept {
  context.uc_mcontext.gregs[REG_RAX] = result;
}
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;

long Argument(const ucontext_t& context, int index) noexcept {
  return static_cast<long>(context.uc_mcontext.regs[index]);
}
void SetResult(ucontext_t& context, long result) noexcept {
  context.uc_mcontext.regs[0] = static_cast<unsigned long long>(result);
}
#else
#error "The trap knows no registers of this processor: use //sim:link."
#endif

template <typename T>
T* Pointer(long value) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): it is a pointer.
  return reinterpret_cast<T*>(value);
}

// The calls.

long Map(long address, long length, long protection, long flags, int fd,
         long offset) noexcept {
  void* where = Pointer<void>(address);
  const bool chosen = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
  const auto size = static_cast<std::size_t>(length);
  if (!chosen) {
    where = Get().window.Take(size);
    if (where == nullptr) return -ENOMEM;
    flags |= MAP_FIXED;
  }
  void* const mapped = SysMap(where, size, static_cast<int>(protection),
                              static_cast<int>(flags), fd, offset);
  if (mapped != MAP_FAILED) return reinterpret_cast<long>(mapped);
  const long error = -errno;
  if (!chosen) Get().window.Return(where, size);
  return error;
}

long Unmap(void* address, std::size_t length) noexcept {
  if (!IsMapped(address)) {
    return RealCall(SYS_munmap, reinterpret_cast<long>(address),
                    static_cast<long>(length));
  }
  const long result = SysUnmap(address, length);
  if (result == 0) Get().window.Return(address, length);
  return result;
}

long Answer(long number, const ucontext_t& context) noexcept {
  const auto argument = [&](int index) { return Argument(context, index); };
  const auto word = [&](int index) {
    return static_cast<unsigned>(Argument(context, index));
  };
  const int fd = static_cast<int>(argument(0));
  // Between vfork(2) and exec(2) this memory is the parent's, and the rings are
  // not this process's.
  const bool ours = ::getpid() == Get().process;
  switch (number) {
    case SYS_io_uring_setup:
      return ours ? SysSetup(word(0), Pointer<io_uring_params>(argument(1)))
                  : -EPERM;
    case SYS_io_uring_enter:
      return ours ? SysEnter(word(0), word(1), word(2), word(3),
                             Pointer<void>(argument(4)),
                             static_cast<std::size_t>(argument(5)))
                  : -EPERM;
    case SYS_io_uring_register:
      return ours ? SysRegister(word(0), word(1), Pointer<void>(argument(2)),
                                word(3))
                  : -EPERM;
    case SYS_close:
      if (ours && IsRing(fd)) return SysClose(fd);
      return RealCall(SYS_close, fd);
    // A duplicate of a ring must be known when it is closed, too.
    case SYS_dup:
      if (!ours || !IsRing(fd)) return RealCall(SYS_dup, fd);
      return RealCall(SYS_fcntl, fd, F_DUPFD, Get().first_ring);
    case SYS_fcntl: {
      const bool duplicates =
          argument(1) == F_DUPFD || argument(1) == F_DUPFD_CLOEXEC;
      long value = argument(2);
      if (ours && duplicates && IsRing(fd)) {
        value = std::max<long>(value, Get().first_ring);
      }
      return RealCall(SYS_fcntl, fd, argument(1), value);
    }
    case SYS_mmap: {
      const int of = static_cast<int>(argument(4));
      if (ours && IsRing(of)) {
        return Map(argument(0), argument(1), argument(2), argument(3), of,
                   argument(5));
      }
      return RealCall(SYS_mmap, argument(0), argument(1), argument(2),
                      argument(3), of, argument(5));
    }
    case SYS_munmap: {
      auto* const address = Pointer<void>(argument(0));
      if (ours) return Unmap(address, static_cast<std::size_t>(argument(1)));
      return RealCall(SYS_munmap, argument(0), argument(1));
    }
    default:
      return -ENOSYS;
  }
}

void OnSystemCall(int, siginfo_t* info, void* context_pointer) noexcept {
  if (info->si_code != SYS_SECCOMP) return;
  const int saved = errno;
  auto& context = *static_cast<ucontext_t*>(context_pointer);
  const CalledFrom called_from(info->si_call_addr, CalledFrom::How::kSignal);
  SetResult(context, Answer(info->si_syscall, context));
  errno = saved;
}

// The filter.

constexpr std::size_t ArgumentOffset(int index) noexcept {
  return offsetof(seccomp_data, args) +
         static_cast<std::size_t>(index) * sizeof(std::uint64_t);
}

class Filter {
 public:
  void LoadWord(std::size_t offset) {
    Add(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset));
  }
  void LoadLower(std::size_t offset) { LoadWord(offset); }
  void LoadUpper(std::size_t offset) { LoadWord(offset + 4); }
  // The next `skipped` instructions come only if it is so.
  void IfEqual(std::uint32_t value, unsigned skipped) {
    Add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skipped);
  }
  void UnlessEqual(std::uint32_t value, unsigned skipped) {
    Add(BPF_JMP | BPF_JEQ | BPF_K, value, skipped, 0);
  }
  void IfNotBelow(std::uint32_t value, unsigned skipped) {
    Add(BPF_JMP | BPF_JGE | BPF_K, value, 0, skipped);
  }
  void IfNone(std::uint32_t bits, unsigned skipped) {
    Add(BPF_JMP | BPF_JSET | BPF_K, bits, skipped, 0);
  }
  void Return(std::uint32_t action) { Add(BPF_RET | BPF_K, action); }

  // Unless it is one of the simulator's own calls, of this program's or of one
  // that it starts.
  void Trap(long number) {
    LoadUpper(ArgumentOffset(OursIsIn(number)));
    IfEqual(kOurs, 1);
    Return(SECCOMP_RET_ALLOW);
    Return(SECCOMP_RET_TRAP);
  }
  static constexpr unsigned kTrap = 4;  // instructions

  void Install() {
    sock_fprog program = {static_cast<unsigned short>(code_.size()),
                          code_.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
      Fail("cannot set no_new_privs");
    }
    if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                  SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
      Fail("cannot install a seccomp filter");
    }
  }

 private:
  void Add(std::uint32_t code, std::uint32_t value, unsigned if_true = 0,
           unsigned if_false = 0) {
    code_.push_back({static_cast<std::uint16_t>(code),
                     static_cast<std::uint8_t>(if_true),
                     static_cast<std::uint8_t>(if_false), value});
  }

  std::vector<sock_filter> code_;
};

void InstallFilter(std::uint32_t first_ring, std::uint32_t window) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  Filter filter;
  filter.LoadWord(offsetof(seccomp_data, arch));
  filter.UnlessEqual(kArchitecture, 1);
  filter.Return(SECCOMP_RET_ALLOW);
  filter.LoadWord(offsetof(seccomp_data, nr));
  for (const unsigned number :
       {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register}) {
    filter.IfEqual(number, 1);
    filter.Return(SECCOMP_RET_TRAP);
  }
  for (const unsigned number : {SYS_close, SYS_dup, SYS_fcntl}) {
    filter.IfEqual(number, 3 + Filter::kTrap);
    filter.LoadLower(ArgumentOffset(0));
    filter.IfNotBelow(first_ring, Filter::kTrap);
    filter.Trap(number);
    filter.Return(SECCOMP_RET_ALLOW);
  }
  filter.IfEqual(SYS_munmap, 3 + Filter::kTrap);
  filter.LoadUpper(ArgumentOffset(0));
  filter.IfEqual(window, Filter::kTrap);
  filter.Trap(SYS_munmap);
  filter.Return(SECCOMP_RET_ALLOW);
  filter.IfEqual(SYS_mmap, 4 + Filter::kTrap);
  filter.LoadLower(ArgumentOffset(3));
  filter.IfNone(MAP_ANONYMOUS, 2 + Filter::kTrap);
  filter.LoadLower(ArgumentOffset(4));
  filter.IfNotBelow(first_ring, Filter::kTrap);
  filter.Trap(SYS_mmap);
  filter.Return(SECCOMP_RET_ALLOW);
  filter.Install();
}

__attribute__((constructor)) void Begin() {
  State& state = Get();
  state.process = ::getpid();
  // A forked child has rings of its own, if any.
  ::pthread_atfork(nullptr, nullptr, [] { Get().process = ::getpid(); });
  rlimit limit = {};
  (void)::getrlimit(RLIMIT_NOFILE, &limit);
  constexpr rlim_t kEnough = 1 << 17;
  state.first_ring =
      static_cast<int>(std::min(limit.rlim_cur, kEnough) / 4 * 3);
  NumberRingsFrom(state.first_ring);
  state.window.Reserve();
  BeginAsEnvironmentSays();
  struct sigaction action = {};
  action.sa_sigaction = &OnSystemCall;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigemptyset(&action.sa_mask);
  if (::sigaction(SIGSYS, &action, nullptr) != 0) Fail("cannot handle SIGSYS");
  // Whoever has started this may have blocked it.
  sigset_t mask;
  ::sigemptyset(&mask);
  ::sigaddset(&mask, SIGSYS);
  ::pthread_sigmask(SIG_UNBLOCK, &mask, nullptr);
  InstallFilter(static_cast<std::uint32_t>(state.first_ring),
                state.window.upper_half());
  trapping = true;
}

__attribute__((destructor)) void End() {
  if (::getpid() != Get().process) return;
  EndOfProgram();
}

}  // namespace

bool IsTrapping() noexcept { return trapping; }

}  // namespace escrow::sim
