// //sim:run: finds the seed, makes the schedule small, and says how to repeat.

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

Ended Start(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), Runfile("sim/run"));
  return RunProgram(arguments);
}
bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(RunTest, FindsNothingInARightProgram) {
  const Ended ended =
      Start({"--seeds=0..5", Runfile("tests/sim/programs"), "overflow"});
  EXPECT_EQ(ended.status, 0) << ended.output;
  EXPECT_EQ(ended.output, "run: nothing found in 6 runs\n");
}

TEST(RunTest, FindsShrinksAndRepeats) {
  const std::string schedule = TemporaryFile("found.schedule");
  const std::string bugs = Runfile("tests/sim/bugs");
  // Seen in every build, and not with the benign schedule.
  const Ended found = Start({"--seeds=0..200", "--output=" + schedule, "--",
                             bugs, "zero-copy-before-notification"});
  EXPECT_EQ(found.status, 1) << found.output;
  EXPECT_TRUE(Contains(found.output, "io-uring-change-in-flight"));
  EXPECT_TRUE(Contains(found.output, "run: seed "));
  EXPECT_TRUE(Contains(found.output, "of which 1 are not benign"))
      << found.output;
  EXPECT_TRUE(Contains(found.output, "to repeat it: ESCROW_SIM_SCHEDULE=" +
                                         schedule + " LD_PRELOAD="));
  std::ifstream file(schedule, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  EXPECT_FALSE(bytes.empty());
  EXPECT_NE(bytes.back(), '\0');

  const Ended again =
      Start({"--schedule=" + schedule, bugs, "zero-copy-before-notification"});
  EXPECT_EQ(again.status, 1);
  EXPECT_TRUE(Contains(again.output, "io-uring-change-in-flight"));
}

TEST(RunTest, ReportsWhatEndsOtherwise) {
  const std::string output = "--output=" + TemporaryFile("other.schedule");
  const Ended status = Start({"--seed=1", output, "/bin/sh", "-c", "exit 9"});
  EXPECT_EQ(status.status, 1);
  EXPECT_TRUE(Contains(status.output, "run: seed 1: status 9"));
  const Ended signal =
      Start({"--seed=1", output, "/bin/sh", "-c", "kill -SEGV $$"});
  EXPECT_EQ(signal.status, 1);
  EXPECT_TRUE(Contains(signal.output, "run: seed 1: signal 11"));
  const Ended timeout =
      Start({"--seed=1", "--timeout=1", output, "/bin/sh", "-c", "sleep 100"});
  EXPECT_EQ(timeout.status, 1);
  EXPECT_TRUE(Contains(timeout.output, "run: seed 1: timeout"));
}

TEST(RunTest, TakesProgramsFromThePath) {
  EXPECT_EQ(Start({"--seed=0", "true"}).status, 0);
  EXPECT_EQ(Start({"--seed=0", "false"}).status, 1);
}

TEST(RunTest, ExplainsItself) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{},
                                                    {"--seed=x", "true"},
                                                    {"--seeds=3..1", "true"},
                                                    {"--seeds=3", "true"},
                                                    {"--what", "true"},
                                                    {"--timeout=0", "true"},
                                                    {"--seed=1"}}) {
    const Ended ended = Start(arguments);
    EXPECT_EQ(ended.status, 2);
    EXPECT_TRUE(Contains(ended.output, "usage: run ["));
  }
  EXPECT_EQ(Start({"--schedule=/nowhere", "true"}).status, 2);
}

}  // namespace
}  // namespace escrow::sim
