#ifndef ESCROW_FUZZ_CHECK_H_
#define ESCROW_FUZZ_CHECK_H_

#include <cstdio>
#include <cstdlib>

// Ends the program, so that the fuzzer keeps the input, unless `condition`
// holds.
#define ESCROW_REQUIRE(condition)                                       \
  do {                                                                  \
    if (!(condition)) [[unlikely]] {                                    \
      std::fprintf(stderr, "%s:%d: violated: %s\n", __FILE__, __LINE__, \
                   #condition);                                         \
      std::abort();                                                     \
    }                                                                   \
  } while (false)

#endif  // ESCROW_FUZZ_CHECK_H_
