#ifndef ESCROW_RAW_ERROR_H_
#define ESCROW_RAW_ERROR_H_

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
  // Never destroyed: error codes are looked at until the very end of a program.
  static const auto& category = *new CallCategory(Op::kInfo.call);
  return category;
}

}  // namespace escrow::raw

#endif  // ESCROW_RAW_ERROR_H_
