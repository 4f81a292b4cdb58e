#include "escrow/ownership/check.h"

#include <cstdio>
#include <cstdlib>

namespace escrow::ownership {

void CheckFailed(const char* condition, const char* what, const char* file,
                 int line) noexcept {
  std::fprintf(stderr, "escrow: %s (%s is false, %s:%d)\n", what, condition,
               file, line);
  std::abort();
}

}  // namespace escrow::ownership
