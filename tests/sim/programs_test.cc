// The programs of programs.cc: right on the kernel's own io_uring, and nothing
// to report on the simulated kernel, by either front end, whatever the seed.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/sim/process.h"

namespace escrow::sim {
namespace {

using testing::Ended;
using testing::Runfile;
using testing::RunProgram;

constexpr const char* kPrograms[] = {
    "file-copy",    "echo-server",       "multishot",
    "chains",       "buffer-ring-echo",  "zero-copy",
    "two-threads",  "timeouts",          "fixed-files-and-buffers",
    "cancel-storm", "submission-thread", "overflow",
    "messages",     "open-files",
};

class ProgramsTest : public ::testing::TestWithParam<const char*> {
 protected:
  static void ExpectSilence(const std::vector<std::string>& command,
                            std::vector<std::string> environment) {
    environment.emplace_back();
    for (int seed = 0; seed < testing::Seeds(24); ++seed) {
      environment.back() = "ESCROW_SIM_SEED=" + std::to_string(seed);
      const Ended ended = RunProgram(command, environment, /*seconds=*/30);
      ASSERT_EQ(ended.status, 0) << environment.back() << "\n" << ended.output;
      ASSERT_EQ(ended.output, "") << environment.back();
    }
  }
};

TEST_P(ProgramsTest, IsRightOnTheRealRing) {
  const Ended ended = RunProgram({Runfile("tests/sim/programs"), GetParam()});
  EXPECT_EQ(ended.status, 0) << ended.output;
}

TEST_P(ProgramsTest, IsSilentUnderTheTrap) {
  ExpectSilence({Runfile("tests/sim/programs"), GetParam()},
                {"LD_PRELOAD=" + Runfile("sim/libescrow_sim.so")});
}

TEST_P(ProgramsTest, IsSilentWhenLinked) {
  ExpectSilence({Runfile("tests/sim/programs_linked"), GetParam()}, {});
}

INSTANTIATE_TEST_SUITE_P(All, ProgramsTest, ::testing::ValuesIn(kPrograms));

TEST(ProgramsTableTest, HasAll) {
  std::string names;
  for (const char* const name : kPrograms) names += std::string(name) + "\n";
  EXPECT_EQ(RunProgram({Runfile("tests/sim/programs")}).output, names);
}

}  // namespace
}  // namespace escrow::sim
