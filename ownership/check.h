#ifndef ESCROW_OWNERSHIP_CHECK_H_
#define ESCROW_OWNERSHIP_CHECK_H_

// Ends the program with a message when a precondition does not hold. In every
// build: going on would let the kernel write into memory that is somebody
// else's. `what` says which rule the caller broke.
#define ESCROW_CHECK(condition, what)                                         \
  ((condition) ? void()                                                       \
               : ::escrow::ownership::CheckFailed(#condition, what, __FILE__, \
                                                  __LINE__))

namespace escrow::ownership {

[[noreturn]] void CheckFailed(const char* condition, const char* what,
                              const char* file, int line) noexcept;

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_CHECK_H_
