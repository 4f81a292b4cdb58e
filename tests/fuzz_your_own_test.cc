#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <string>

#include "escrow/raw/sanitizer.h"

namespace {

// The example with a mistake, for long enough, and what it says.
int RunExample(std::string& output) {
  std::FILE* const run = ::popen(
      "env -u TEST_UNDECLARED_OUTPUTS_DIR "
      "examples/fuzz_your_own_with_a_mistake -runs=2000000 "
      "-max_total_time=50 -seed=1 -artifact_prefix=$TEST_TMPDIR/ 2>&1",
      "r");
  if (run == nullptr) return -1;
  char part[4096];
  while (std::fgets(part, sizeof(part), run) != nullptr) output += part;
  return ::pclose(run);
}

TEST(FuzzYourOwn, FindsTheMistake) {
  if (!escrow::raw::kAddressSanitizer) {
    GTEST_SKIP() << "what is freed shows with AddressSanitizer";
  }
  std::string output;
  const int status = RunExample(output);
  EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_NE(output.find("ERROR: AddressSanitizer: io-uring"), std::string::npos)
      << output;
}

}  // namespace
