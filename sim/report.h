#ifndef ESCROW_SIM_REPORT_H_
#define ESCROW_SIM_REPORT_H_

#include <cstddef>
#include <cstdint>

// How the simulator says that a program is wrong, and what it knows of where.

namespace escrow::sim {

// Return addresses, innermost first.
struct Stack {
  static constexpr std::size_t kDepth = 24;

  // Of the calling thread, from the program's call into the kernel on
  // (CalledFrom), if it is in one. Cheap: it is taken for every request.
  static Stack Here() noexcept;

  // From now on they are empty.
  static void TakeNone() noexcept;

  void Print() const noexcept;

  const void* frames[kDepth] = {};
  std::size_t depth = 0;
};

// While there is one, the calling thread is in a system call that the program
// has made at `pc`, which is the address behind it.
class CalledFrom {
 public:
  enum class How : std::uint8_t {
    kCall,    // a function
    kSignal,  // the frames of which are behind that of a signal handler
  };

  CalledFrom(const void* pc, How how) noexcept;
  CalledFrom(const CalledFrom&) = delete;
  CalledFrom& operator=(const CalledFrom&) = delete;
  ~CalledFrom();

 private:
  const void* outer_pc_;
  How outer_how_;
};

// The same in a function of a front end that the program has called.
#define ESCROW_SIM_CALLED_HERE                                    \
  const ::escrow::sim::CalledFrom called_from(                    \
      __builtin_extract_return_addr(__builtin_return_address(0)), \
      ::escrow::sim::CalledFrom::How::kCall)

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
// the kernel knows. `data` may be null, as may `owner`, and `other`: whom the
// owner is at odds with.
[[noreturn]] void Report(const Mistake& mistake, const void* data,
                         std::size_t size, const Owner* owner,
                         const Owner* other = nullptr) noexcept;

// One line about `owner`, and where it was submitted.
void Describe(const Owner& owner, const void* data, std::size_t size) noexcept;

// Called once, before a report ends the program, be it of this kind or of
// AddressSanitizer: to keep the schedule, and to say how to repeat the run.
void OnReport(void (*hook)() noexcept) noexcept;
void CallOnReport() noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_REPORT_H_
