// The programs of bugs.cc: nothing is to be seen on the kernel's own io_uring,
// and each is reported on the simulated kernel, by both front ends, for what it
// does wrong.

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "tests/sim/process.h"
#include "tests/sim/sanitized.h"

namespace escrow::sim {
namespace {

using testing::Ended;
using testing::kAddressSanitizer;
using testing::Runfile;
using testing::RunProgram;

struct Planted {
  const char* name;
  // What it is reported as.
  const char* kind;
  // Whether it takes AddressSanitizer to see it.
  bool sanitized = true;
  // To be asked for.
  const char* check = "";
};
void PrintTo(const Planted& planted, std::ostream* out) {
  *out << planted.name;
}

constexpr char kClosed[] = "io-uring-closed-in-flight";
constexpr char kFreed[] = "io-uring-free-in-flight";
constexpr char kReturned[] = "stack-use-after-return";
constexpr char kTouched[] = "use-after-poison";

constexpr Planted kPlanted[] = {
    {"free-in-flight", kFreed},
    {"touch-in-flight", kTouched},
    {"stack-buffer", kReturned},
    {"stack-timespec", kReturned},
    {"stack-message", kReturned},
    {"completion-after-seen", kTouched},
    {"exit-in-flight", kClosed, false},
    {"zero-copy-before-notification", "io-uring-change-in-flight", false},
    {"provided-twice", "io-uring-buffer-provided-twice", false},
    {"provided-and-read", kTouched},
    {"free-when-cancelled", kFreed},
    {"free-when-wait-times-out", kFreed},
    {"shared-buffer", "io-uring-shared-in-flight", false},
    {"change-of-what-is-written", "io-uring-change-in-flight", false},
    {"free-when-submit-fails", "heap-use-after-free"},
    {"stack-vectors", kReturned},
    {"changed-entry", "io-uring-changed-entry", false, "changed-entries"},
    {"stale-user-data", "io-uring-stale-user-data", false, "stale-user-data"},
    {"lost-descriptor", "io-uring-lost-descriptor", false},
};

// No seed may take longer, or have more of them.
constexpr int kSeeds = 200;

// The kinds are looked at, not the stacks, which take long to find names for.
constexpr char kOptions[] =
    "ASAN_OPTIONS=symbolize=0:detect_stack_use_after_return=1";

class BugsTest : public ::testing::TestWithParam<Planted> {
 protected:
  // The name of the first report within the first seeds, or "".
  static std::string Report(std::vector<std::string> command,
                            std::vector<std::string> environment, int* seed) {
    environment.emplace_back(kOptions);
    environment.emplace_back();
    for (*seed = 0; *seed < kSeeds; ++*seed) {
      environment.back() = "ESCROW_SIM_SEED=" + std::to_string(*seed);
      const Ended ended = RunProgram(command, environment);
      if (ended.status == 0) continue;
      const std::string begin = "ERROR: AddressSanitizer: ";
      const std::size_t at = ended.output.find(begin);
      if (ended.status != 1 || at == std::string::npos) {
        return "status " + std::to_string(ended.status) + ":\n" + ended.output;
      }
      const std::size_t name = at + begin.size();
      return ended.output.substr(
          name, ended.output.find_first_of(" \n", name) - name);
    }
    return "";
  }

  void ExpectReport(const std::vector<std::string>& command,
                    const std::vector<std::string>& environment) {
    const Planted& planted = GetParam();
    int seed = 0;
    if (planted.sanitized && !kAddressSanitizer) {
      GTEST_SKIP() << "there is no AddressSanitizer in this build";
    }
    if (*planted.check != '\0') {
      EXPECT_EQ(RunProgram(command, environment).status, 0);
    }
    std::vector<std::string> its = environment;
    its.push_back(std::string("ESCROW_SIM_CHECKS=") + planted.check);
    EXPECT_EQ(Report(command, its, &seed), planted.kind)
        << "with ESCROW_SIM_SEED=" << seed;
    RecordProperty("seed", seed);
  }
};

TEST_P(BugsTest, IsSilentOnTheRealRing) {
  const Ended ended =
      RunProgram({Runfile("tests/sim/bugs"), GetParam().name}, {kOptions});
  EXPECT_EQ(ended.status, 0) << ended.output;
  EXPECT_EQ(ended.output, "");
}

TEST_P(BugsTest, IsReportedUnderTheTrap) {
  ExpectReport({Runfile("tests/sim/bugs"), GetParam().name},
               {"LD_PRELOAD=" + Runfile("sim/libescrow_sim.so")});
}

TEST_P(BugsTest, IsReportedWhenLinked) {
  ExpectReport({Runfile("tests/sim/bugs_linked"), GetParam().name}, {});
}

INSTANTIATE_TEST_SUITE_P(All, BugsTest, ::testing::ValuesIn(kPlanted));

// Where the request goes on for some time: at the free, before the end.
TEST(BugsAfterExitTest, AreReportedWhenMemoryIsFreed) {
  if (!kAddressSanitizer) {
    GTEST_SKIP() << "there is no AddressSanitizer in this build";
  }
  std::string report;
  for (int seed = 0; seed < kSeeds && report.find(kFreed) == report.npos;
       ++seed) {
    report = RunProgram({Runfile("tests/sim/bugs_linked"), "exit-in-flight"},
                        {kOptions, "ESCROW_SIM_SEED=" + std::to_string(seed)})
                 .output;
  }
  EXPECT_NE(report.find(kFreed), report.npos) << report;
}

TEST(BugsTableTest, HasAllPrograms) {
  std::string names;
  for (const Planted& planted : kPlanted) {
    names += std::string(planted.name) + "\n";
  }
  EXPECT_EQ(RunProgram({Runfile("tests/sim/bugs")}).output, names);
}

}  // namespace
}  // namespace escrow::sim
