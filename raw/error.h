#ifndef ESCROW_RAW_ERROR_H_
#define ESCROW_RAW_ERROR_H_

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>
#include <system_error>

// Errors that name the call they come from. The value of such a std::error_code
// is the errno and compares equal to std::errc; its message reads "openat: No
// such file or directory".

namespace escrow::raw {

// The category of one call. Instances are static: an error_code refers to one
// for ever.
class CallCategory : public std::error_category {
 public:
  // `call` is a string literal.
  explicit constexpr CallCategory(const char* call) noexcept : call_(call) {}

  const char* name() const noexcept override { return call_; }
  std::string message(int error) const override;
  std::error_condition default_error_condition(
      int error) const noexcept override;

 private:
  const char* call_;
};

// A string literal, as an argument of a template.
template <std::size_t kSize>
struct CallName {
  // NOLINTNEXTLINE(google-explicit-constructor): stands for the literal.
  consteval CallName(const char (&literal)[kSize]) noexcept {
    std::copy_n(literal, kSize, text);
  }

  char text[kSize];
};

// The category of the call of that name: CategoryOf<"mmap">().
template <CallName kCall>
const std::error_category& CategoryOf() noexcept {
  // Never destroyed: error codes are looked at until the very end of a program.
  static const auto& category = *new CallCategory(kCall.text);
  return category;
}

// What errno says of that call, which was the last one.
template <CallName kCall>
std::error_code LastError() noexcept {
  return {errno, CategoryOf<kCall>()};
}

// io_uring_setup(2). Its messages say what to do about the errors that the
// machine's configuration causes: no such system call, io_uring disabled by a
// sysctl or by seccomp, the limit on locked memory.
const std::error_category& SetupCategory() noexcept;

// io_uring_enter(2).
const std::error_category& EnterCategory() noexcept;

// io_uring_register(2).
const std::error_category& RegisterCategory() noexcept;

// The same of one opcode, IORING_REGISTER_* or IORING_UNREGISTER_*, which is
// the name of the category and in its messages:
// "io_uring_register(IORING_REGISTER_FILES): Too many open files". For an
// opcode that names.h does not know, RegisterCategory().
const std::error_category& RegisterCategory(unsigned opcode) noexcept;

// The results of operation `Op` of ops.h.
template <typename Op>
const std::error_category& OperationCategory() noexcept {
  static const auto& category = *new CallCategory(Op::kInfo.call);
  return category;
}

}  // namespace escrow::raw

#endif  // ESCROW_RAW_ERROR_H_
