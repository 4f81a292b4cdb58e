#ifndef ESCROW_TESTS_SAFE_CASES_H_
#define ESCROW_TESTS_SAFE_CASES_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "escrow/safe/ring.h"
#include "tests/support.h"

#ifdef ESCROW_SOAK
#include "tests/soak.h"
#endif

// What the tables of rows have in common: safe_op_cases.h, safe_stream_cases.h.

namespace escrow::safe::cases {

// How many times as much of something that rows share a soak needs.
#ifdef ESCROW_SOAK
inline constexpr unsigned kManifold = 32;
#else
inline constexpr unsigned kManifold = 1;
#endif

struct CaseNames {
  template <typename Case>
  static std::string GetName(int) {
    return Case::kName;
  }
};

// A test of a row, in which descriptors are counted.
template <typename Case>
class CaseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if constexpr (requires(Case its) { its.Possible(); }) {
      if (!Case().Possible()) GTEST_SKIP() << "not on this machine";
    }
    descriptors_ = escrow::testing::OpenDescriptors();
  }

  // What happened to descriptors shows in their number: lazily, for workers of
  // the kernel close some.
  void TearDown() override {
    if (IsSkipped()) return;
    for (int i = 0;
         i < 500 && escrow::testing::OpenDescriptors() != descriptors_; ++i) {
      ::usleep(1000);
    }
    EXPECT_EQ(escrow::testing::OpenDescriptors(), descriptors_);
    if constexpr (requires { Case::End(); }) Case::End();
  }

  static Ring MakeRing(const RingOptions& options = {.entries = 8}) {
    auto ring = Ring::Create(options);
    if (!ring) {
      ADD_FAILURE() << ring.error().message();
      std::abort();
    }
    if constexpr (requires { Case::Prepare(*ring); }) Case::Prepare(*ring);
    return std::move(*ring);
  }

  // A completion of something else shows that what was to complete has.
  static void LetPass(Ring& ring) { EXPECT_TRUE(ring.Wait(ring.Nop())); }

  static void Drain(Ring& ring) {
    while (ring.in_flight() > 0) EXPECT_TRUE(ring.Dispatch());
    EXPECT_EQ(ring.unknown_completions(), 0u);
    if constexpr (requires { Case::Check(ring); }) Case::Check(ring);
  }

 private:
  int descriptors_ = 0;
};

// Makes the tests of `suite` of each row; or, where ESCROW_SOAK is defined,
// adds the rows to the soak (soak.h).
#ifdef ESCROW_SOAK
#define ESCROW_CASES(family, suite, types) \
  const bool family##_##suite##_soaked = AddToSoak(types())
#else
#define ESCROW_CASES(family, suite, types) \
  INSTANTIATE_TYPED_TEST_SUITE_P(family, suite, types, CaseNames)
#endif

}  // namespace escrow::safe::cases

#endif  // ESCROW_TESTS_SAFE_CASES_H_
