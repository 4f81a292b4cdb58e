#include "escrow/sim/report.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// What there is of these depends on the program.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
__attribute__((weak)) void __asan_describe_address(void* address);
__attribute__((weak)) void __sanitizer_symbolize_pc(void* pc,
                                                    const char* format,
                                                    char* out,
                                                    std::size_t size);
__attribute__((weak)) const char* __asan_default_options();
__attribute__((weak)) int LLVMFuzzerRunDriver(
    int* count, char*** arguments,
    int (*callback)(const std::uint8_t*, std::size_t));
// NOLINTEND(bugprone-reserved-identifier)
}

#if defined(__clang__)
#define ESCROW_SIM_UNINSTRUMENTED \
  __attribute__((no_sanitize("address", "memory", "thread")))
#else
#define ESCROW_SIM_UNINSTRUMENTED \
  __attribute__((no_sanitize("address", "thread")))
#endif

namespace escrow::sim {
namespace {

using Address = std::uintptr_t;

thread_local const void* called_from = nullptr;
thread_local auto called_how = CalledFrom::How::kCall;

// The bounds of the calling thread's own stack.
struct Bounds {
  Address begin = 0;
  Address end = 0;
};
thread_local Bounds bounds;
thread_local bool bounds_known = false;

Bounds StackBounds() noexcept {
  if (!bounds_known) {
    bounds_known = true;
    pthread_attr_t attributes;
    if (::pthread_getattr_np(::pthread_self(), &attributes) == 0) {
      void* begin = nullptr;
      std::size_t size = 0;
      if (::pthread_attr_getstack(&attributes, &begin, &size) == 0) {
        bounds.begin = reinterpret_cast<Address>(begin);
        bounds.end = bounds.begin + size;
      }
      ::pthread_attr_destroy(&attributes);
    }
  }
  return bounds;
}

// Collects the frames from `from` on.
class Collector {
 public:
  Collector(Stack& stack, const void* from) noexcept
      : stack_(stack), from_(from) {}

  // False when there is no more room.
  ESCROW_SIM_UNINSTRUMENTED bool Add(const void* pc) noexcept {
    begun_ |= pc == from_;
    if (begun_) stack_.frames[stack_.depth++] = pc;
    return stack_.depth < Stack::kDepth;
  }
  bool begun() const noexcept { return begun_; }

 private:
  Stack& stack_;
  const void* from_;
  bool begun_ = false;
};

ESCROW_SIM_UNINSTRUMENTED _Unwind_Reason_Code
OnFrame(_Unwind_Context* context, void* collector) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): it is a number there.
  const auto* const pc = reinterpret_cast<const void*>(_Unwind_GetIP(context));
  if (pc == nullptr) return _URC_END_OF_STACK;
  return static_cast<Collector*>(collector)->Add(pc) ? _URC_NO_REASON
                                                     : _URC_END_OF_STACK;
}

// By the tables that say how to unwind: slow, and always right.
bool ByTables(Stack& stack, const void* from) noexcept {
  Collector collector(stack, from);
  _Unwind_Backtrace(&OnFrame, &collector);
  return collector.begun();
}

// By frame pointers: fast, and right if everything is built to have them.
ESCROW_SIM_UNINSTRUMENTED bool ByFrames(Stack& stack,
                                        const void* from) noexcept {
  const Bounds its = StackBounds();
  Collector collector(stack, from);
  const auto* frame = static_cast<const Address*>(__builtin_frame_address(0));
  for (;;) {
    const auto at = reinterpret_cast<Address>(frame);
    if (at < its.begin || at + 2 * sizeof(Address) > its.end) break;
    const Address pc = frame[1];
    constexpr Address kNoCode = 4096;
    if (pc < kNoCode) break;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): it is an address.
    if (!collector.Add(reinterpret_cast<const void*>(pc))) break;
    const Address next = frame[0];
    if (next <= at || next % sizeof(Address) != 0) break;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): it is an address.
    frame = reinterpret_cast<const Address*>(next);
  }
  return collector.begun();
}

enum class Way : std::uint8_t { kNone, kUnknown, kFrames, kTables };
std::atomic<Way> way = Way::kUnknown;

// Stacks in reports.

// What stands behind the frame's number, without a sanitizer's help: the name
// of the function if it is exported, and where the code is in its file.
void PrintByLinker(const void* pc, char* out, std::size_t size) noexcept {
  Dl_info info = {};
  // Of the call, which is before where it returns to.
  const auto* const call = static_cast<const char*>(pc) - 1;
  if (::dladdr(call, &info) == 0 || info.dli_fname == nullptr) {
    std::snprintf(out, size, "%p", pc);
    return;
  }
  const auto offset =
      static_cast<std::size_t>(call - static_cast<const char*>(info.dli_fbase));
  if (info.dli_sname == nullptr) {
    std::snprintf(out, size, "%p (%s+0x%zx)", pc, info.dli_fname, offset);
    return;
  }
  int status = 0;
  char* const plain =
      abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  std::snprintf(out, size, "%p in %s (%s+0x%zx)", pc,
                plain != nullptr ? plain : info.dli_sname, info.dli_fname,
                offset);
  std::free(plain);
}

constexpr std::size_t kLine = 4096;
char line[kLine];  // one report is printed at a time

void PrintFrames(const Stack& stack) noexcept {
  unsigned number = 0;
  for (std::size_t i = 0; i < stack.depth; ++i) {
    line[0] = '\0';
    if (__sanitizer_symbolize_pc == nullptr) {
      PrintByLinker(stack.frames[i], line, kLine);
      std::fprintf(stderr, "    #%u %s\n", number++, line);
      continue;
    }
    // One string for each function that was inlined there, and an empty one.
    std::memset(line, 0, kLine);
    __sanitizer_symbolize_pc(const_cast<void*>(stack.frames[i]), "%p %F %L",
                             line, kLine - 1);
    for (const char* each = line; *each != '\0';
         each += std::strlen(each) + 1) {
      std::fprintf(stderr, "    #%u %s\n", number++, each);
    }
  }
  if (stack.depth == 0) std::fputs("    <unknown>\n", stderr);
  std::fputc('\n', stderr);
}

// Whether a frame is the simulator's, the sanitizer's, or the allocator's.
bool IsOurs(const char* frame) noexcept {
  for (const char* const name : {"escrow::sim::", "__sanitizer", "__asan",
                                 " free", " realloc", " operator delete"}) {
    if (std::strstr(frame, name) != nullptr) return true;
  }
  return false;
}

// Where it happened: in the program, if that can be told.
void PrintSummary(const char* kind, const Stack& stack) noexcept {
  for (std::size_t i = 0; i < stack.depth; ++i) {
    void* const pc = const_cast<void*>(stack.frames[i]);
    line[0] = '\0';
    if (__sanitizer_symbolize_pc != nullptr) {
      __sanitizer_symbolize_pc(pc, "%S %F", line, kLine - 1);
    } else {
      PrintByLinker(pc, line, kLine);
    }
    if (!IsOurs(line)) break;
  }
  std::fprintf(stderr, "SUMMARY: AddressSanitizer: %s %s\n", kind, line);
}

// The end.

// An option of ASAN_OPTIONS, or of the program's defaults: "name=value", and
// colons, commas or blanks in between.
bool FindOption(const char* options, const char* name, int* value) noexcept {
  const std::size_t length = std::strlen(name);
  bool found = false;
  for (const char* at = options; at != nullptr && *at != '\0';) {
    const std::size_t word = std::strcspn(at, ":, \t\n");
    if (word > length && std::strncmp(at, name, length) == 0 &&
        at[length] == '=') {
      const char* const text = at + length + 1;
      *value = std::strncmp(text, "true", 4) == 0 ? 1 : std::atoi(text);
      found = true;
    }
    at += word;
    if (*at != '\0') ++at;
  }
  return found;
}

int Option(const char* name, int otherwise) noexcept {
  int value = otherwise;
  if (__asan_default_options != nullptr) {
    FindOption(__asan_default_options(), name, &value);
  }
  FindOption(std::getenv("ASAN_OPTIONS"), name, &value);
  return value;
}

[[noreturn]] void Die() noexcept {
  // libFuzzer keeps the input of what ends so.
  if (LLVMFuzzerRunDriver != nullptr || Option("abort_on_error", 0) != 0) {
    std::abort();
  }
  ::_exit(Option("exitcode", 1));
}

std::atomic<long> reporter = 0;
std::atomic<void (*)() noexcept> on_report = nullptr;

// One thread reports, once. Others wait for the end.
void BeginReport() noexcept {
  const long self = ::syscall(SYS_gettid);
  long none = 0;
  if (reporter.compare_exchange_strong(none, self)) return;
  if (none == self) ::_exit(Option("exitcode", 1));
  for (;;) ::pause();
}

}  // namespace

CalledFrom::CalledFrom(const void* pc, How how) noexcept
    : outer_pc_(called_from), outer_how_(called_how) {
  called_from = pc;
  called_how = how;
}

CalledFrom::~CalledFrom() {
  called_from = outer_pc_;
  called_how = outer_how_;
}

void Stack::TakeNone() noexcept {
  way.store(Way::kNone, std::memory_order_relaxed);
}

__attribute__((noinline)) Stack Stack::Here() noexcept {
  if (way.load(std::memory_order_relaxed) == Way::kNone) return Stack();
  const void* const caller = __builtin_return_address(0);
  const void* const from = called_from != nullptr ? called_from : caller;
  Stack stack;
  Way chosen = way.load(std::memory_order_relaxed);
  if (called_how == CalledFrom::How::kSignal) chosen = Way::kTables;
  if (chosen != Way::kTables) {
    const bool complete = ByFrames(stack, from);
    if (chosen == Way::kUnknown) {
      Stack other;
      ByTables(other, from);
      // main() and what is behind it may be missing.
      constexpr std::size_t kNear = 3;
      chosen = complete && stack.depth + kNear >= other.depth ? Way::kFrames
                                                              : Way::kTables;
      way.store(chosen, std::memory_order_relaxed);
      if (chosen == Way::kTables) return other;
    }
    if (complete) return stack;
    stack = Stack();
  }
  // All frames are better than none.
  if (!ByTables(stack, from)) ByTables(stack, caller);
  return stack;
}

void Stack::Print() const noexcept { PrintFrames(*this); }

void Describe(const Owner& owner, const void* data, std::size_t size) noexcept {
  std::fprintf(stderr, "%s (user_data 0x%llx)", owner.name,
               static_cast<unsigned long long>(owner.user_data));
  if (data != nullptr) {
    std::fprintf(stderr, ", which uses %zu bytes at %p,", size, data);
  }
  std::fputs(" was submitted here:\n", stderr);
  owner.submitted.Print();
}

void Report(const Mistake& mistake, const void* data, std::size_t size,
            const Owner* owner, const Owner* other) noexcept {
  BeginReport();
  const Stack here = Stack::Here();
  line[0] = '\0';
  std::fputs(
      "=================================================================\n",
      stderr);
  std::fprintf(stderr, "==%d==ERROR: AddressSanitizer: %s", ::getpid(),
               mistake.kind);
  if (data != nullptr) std::fprintf(stderr, " on address %p", data);
  std::fprintf(stderr, "\nescrow sim: %s\n", mistake.what);
  here.Print();
  if (owner != nullptr) Describe(*owner, data, size);
  if (other != nullptr) Describe(*other, nullptr, 0);
  if (data != nullptr && __asan_describe_address != nullptr) {
    __asan_describe_address(const_cast<void*>(data));
  }
  CallOnReport();
  PrintSummary(mistake.kind, here);
  Die();
}

void OnReport(void (*hook)() noexcept) noexcept { on_report.store(hook); }

void CallOnReport() noexcept {
  if (auto* const hook = on_report.exchange(nullptr)) hook();
}

}  // namespace escrow::sim
