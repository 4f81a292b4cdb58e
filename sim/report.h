#ifndef ESCROW_SIM_REPORT_H_
#define ESCROW_SIM_REPORT_H_

#include <cstddef>
#include <cstdint>

// How the simulator says that a program is wrong, and what it knows of where.

namespace escrow::sim {

// Return addresses, innermost first.
struct Stack {
  static constexpr std::size_t kDepth = 24;

  // Of the calling thread, from the program's call into the kernel on. Cheap:
  // it is taken for every request.
  static Stack Here() noexcept;

  void Print() const noexcept;

  const void* frames[kDepth] = {};
  std::size_t depth = 0;
};

// Who in the kernel uses something of the program's: a request, a registration.
// Identified by its address.
struct Owner {
  const char* name = "";  // "RECV"; static
  std::uint64_t user_data = 0;
  Stack submitted = {};
};

// Something that a program must not do.
struct Mistake {
  // In the form of AddressSanitizer's kinds: "io-uring-free-in-flight".
  const char* kind;
  // One sentence, of the program: "memory is freed while the kernel uses it".
  const char* what;
};

// Prints a report in AddressSanitizer's format (the ERROR line, stacks, a
// description of the address where a sanitizer is there to give one, SUMMARY),
// with where `owner` was submitted, and ends the program as AddressSanitizer
// does: with its exit code (ASAN_OPTIONS exitcode= and abort_on_error=), or so
// that libFuzzer keeps the input. Prints how to repeat the run before that, if
// the kernel knows. `data` may be null, as may `owner`.
[[noreturn]] void Report(const Mistake& mistake, const void* data,
                         std::size_t size, const Owner* owner) noexcept;

// Called before a report ends the program, once: to keep the schedule.
void OnReport(void (*hook)() noexcept) noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_REPORT_H_
