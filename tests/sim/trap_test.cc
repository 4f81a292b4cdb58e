// libescrow_sim.so around programs that know nothing of it.

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/sim/process.h"

namespace escrow::sim {
namespace {

using testing::Ended;
using testing::Runfile;
using testing::RunProgram;
using testing::TemporaryFile;

std::string Preload() {
  return "LD_PRELOAD=" + Runfile("sim/libescrow_sim.so");
}
std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
Ended RunTrapped(const std::string& program,
                 std::vector<std::string> environment = {}) {
  environment.push_back(Preload());
  return RunProgram({Runfile("tests/sim/programs"), program}, environment);
}

TEST(TrapTest, WhereThereIsNoRing) {
  const std::string forbid = Runfile("tests/sim/forbid");
  const std::string programs = Runfile("tests/sim/programs");
  const Ended without = RunProgram({forbid, programs, "chains"});
  EXPECT_EQ(without.status, 2);
  EXPECT_NE(without.output.find("Operation not permitted"), std::string::npos);
  // The stricter filter is below, and that of the trap counts for more.
  const Ended with =
      RunProgram({forbid, "/usr/bin/env", Preload(), programs, "chains"});
  EXPECT_EQ(with.status, 0) << with.output;
}

TEST(TrapTest, LeavesOtherProgramsAlone) {
  const Ended ended = RunProgram(
      {"/bin/sh", "-c", "exec 3</dev/null; exec 3<&-; echo $(echo x | cat)"},
      {Preload()});
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.output, "x\n");
}

// Each has the filters of all before it.
TEST(TrapTest, ProgramsStartOthers) {
  std::string started = Runfile("tests/sim/programs");
  for (int depth = 0; depth < 4; ++depth) {
    const Ended ended = RunProgram(
        {"/bin/sh", "-c", "$1 chains && $1 file-copy", "sh", started},
        {Preload()});
    EXPECT_EQ(ended.status, 0) << depth;
    EXPECT_EQ(ended.output, "");
    started = "/usr/bin/env " + started;
  }
}

TEST(TrapTest, RecordsWhatItRepeats) {
  const std::string first = TemporaryFile("first");
  const std::string second = TemporaryFile("second");
  const Ended recorded = RunTrapped(
      "cancel-storm", {"ESCROW_SIM_SEED=5", "ESCROW_SIM_RECORD=" + first,
                       "ESCROW_SIM_CLOCK=virtual"});
  EXPECT_EQ(recorded.status, 0) << recorded.output;
  const Ended repeated =
      RunTrapped("cancel-storm",
                 {"ESCROW_SIM_SCHEDULE=" + first, "ESCROW_SIM_RECORD=" + second,
                  "ESCROW_SIM_CLOCK=virtual"});
  EXPECT_EQ(repeated.status, 0) << repeated.output;
  const std::string made = Contents(first);
  EXPECT_GT(made.size(), 10U);
  EXPECT_LT(made.size(), 100'000U);
  EXPECT_EQ(Contents(second), made);
}

TEST(TrapTest, RefusesWhatMakesNoSense) {
  for (const char* const variable :
       {"ESCROW_SIM_SEED=x", "ESCROW_SIM_CLOCK=fast", "ESCROW_SIM_CHECKS=all",
        "ESCROW_SIM_SCHEDULE=/nowhere", "ESCROW_SIM_RECORD=/nowhere/file"}) {
    const Ended ended = RunTrapped("overflow", {variable});
    EXPECT_EQ(ended.status, 1) << variable;
    EXPECT_NE(ended.output.find("escrow sim: "), std::string::npos);
  }
}

TEST(TrapTest, SaysHowToRepeat) {
  const Ended ended = RunProgram({Runfile("tests/sim/bugs"), "shared-buffer"},
                                 {Preload(), "ESCROW_SIM_SEED=3"});
  EXPECT_EQ(ended.status, 1);
  EXPECT_NE(ended.output.find("to repeat this: ESCROW_SIM_SEED=3"),
            std::string::npos)
      << ended.output;
}

TEST(TrapTest, EndsAsAddressSanitizerDoes) {
  const std::vector<std::string> command = {Runfile("tests/sim/bugs"),
                                            "shared-buffer"};
  EXPECT_EQ(RunProgram(command, {Preload(), "ASAN_OPTIONS=exitcode=42"}).status,
            42);
  EXPECT_EQ(
      RunProgram(command, {Preload(), "ASAN_OPTIONS=abort_on_error=1"}).status,
      -6);
}

}  // namespace
}  // namespace escrow::sim
