// That every example runs where io_uring is forbidden.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/sim/process.h"

namespace escrow {
namespace {

using testing::Ended;
using testing::Runfile;
using testing::TemporaryFile;

class ExamplesTest : public ::testing::TestWithParam<const char*> {
 protected:
  // Where each call of io_uring is answered with the error of the parameter.
  static Ended Run(const std::string& example,
                   const std::vector<std::string>& arguments = {},
                   const std::vector<std::string>& environment = {}) {
    std::vector<std::string> command = {Runfile("tests/sim/forbid"),
                                        std::string("--error=") + GetParam(),
                                        Runfile("examples/" + example)};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return testing::RunProgram(command, environment);
  }
};

TEST_P(ExamplesTest, Quickstart) {
  const Ended ended = Run("quickstart");
  EXPECT_EQ(ended.status, 0) << ended.output;
  EXPECT_NE(ended.output.find("hello"), std::string::npos) << ended.output;
  // It is not that it would run anyway.
  const Ended without = Run("quickstart", {}, {"ESCROW_FALLBACK=never"});
  EXPECT_NE(without.status, 0) << without.output;
}

TEST_P(ExamplesTest, RawQuickstart) {
  const Ended ended = Run("raw_quickstart");
  EXPECT_EQ(ended.status, 0) << ended.output;
  const Ended without = Run("raw_quickstart", {}, {"ESCROW_FALLBACK=never"});
  EXPECT_NE(without.status, 0) << without.output;
}

TEST_P(ExamplesTest, Cp) {
  const std::string source = TemporaryFile(std::string("source") + GetParam());
  const std::string copy = TemporaryFile(std::string("copy") + GetParam());
  const Ended ended =
      Run("cp", {"--generate=5000001", "--verify", source, copy});
  EXPECT_EQ(ended.status, 0) << ended.output;
  struct stat status = {};
  EXPECT_EQ(::stat(copy.c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 5000001);
  ::unlink(source.c_str());
  ::unlink(copy.c_str());
}

TEST_P(ExamplesTest, RingInfoSaysWhichIsInUseAndWhy) {
  // There is no io_uring, all the same.
  Ended ended = Run("ringinfo");
  EXPECT_EQ(ended.status, 1) << ended.output;
  EXPECT_NE(ended.output.find("io_uring is not available."), std::string::npos);
  EXPECT_NE(ended.output.find("Rings in use with //sim:fallback: emulated, "),
            std::string::npos)
      << ended.output;
  EXPECT_NE(ended.output.find("\n  because io_uring_setup: "),
            std::string::npos)
      << ended.output;
  ended = Run("ringinfo", {"--json"});
  EXPECT_NE(ended.output.find("\"rings\": \"fallback\""), std::string::npos)
      << ended.output;
  EXPECT_NE(ended.output.find("\"why\": \"io_uring_setup: "),
            std::string::npos);
  ended = Run("ringinfo", {"--json"}, {"ESCROW_FALLBACK=never"});
  EXPECT_NE(ended.output.find("\"rings\": null"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(, ExamplesTest, ::testing::Values("EPERM", "ENOSYS"),
                         [](const auto& each) {
                           return std::string(each.param);
                         });

TEST(RingInfoTest, SaysThatTheKernelsAreInUse) {
  const std::string ringinfo = Runfile("examples/ringinfo");
  Ended ended = testing::RunProgram({ringinfo});
  if (ended.status != 0) GTEST_SKIP() << "io_uring is forbidden here";
  EXPECT_NE(ended.output.find("Rings in use with //sim:fallback: the kernel's"),
            std::string::npos)
      << ended.output;
  ended = testing::RunProgram({ringinfo, "--json"}, {"ESCROW_FALLBACK=always"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_NE(ended.output.find("\"rings\": \"fallback\""), std::string::npos);
  EXPECT_NE(ended.output.find("\"why\": \"ESCROW_FALLBACK says so\""),
            std::string::npos);
}

}  // namespace
}  // namespace escrow
