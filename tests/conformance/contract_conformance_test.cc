#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "escrow/raw/contract.h"
#include "tests/conformance/measure.h"
#include "tests/conformance/stage.h"

// Does the kernel use what a request refers to until when the operation types
// say?

namespace escrow::testing {

// As gtest is to print them.
void PrintTo(Mode mode, std::ostream* stream) {
  constexpr const char* kNames[] = {"default", "defer_taskrun", "sqpoll"};
  *stream << kNames[static_cast<int>(mode)];
}
void PrintTo(const Row& row, std::ostream* stream) {
  *stream << row.op << '.' << row.region;
}

namespace {

using raw::Until;

class Contract : public ::testing::TestWithParam<std::tuple<Mode, Row>> {};

TEST_P(Contract, Holds) {
  const auto& [mode, row] = GetParam();
  const Verdict verdict = Check(row, mode);
  if (!verdict.skipped.empty()) GTEST_SKIP() << verdict.skipped;
  EXPECT_TRUE(verdict.problem.empty()) << verdict.problem;
  if (IsFile(row)) {
    const Verdict in_slot = Check(row, mode, /*slot=*/true);
    EXPECT_TRUE(in_slot.problem.empty()) << "in a slot: " << in_slot.problem;
  }
}

// "Statx_result": what a test can be called.
std::string NameFor(const Row& row) {
  std::string name = row.op + "_" + row.region;
  std::replace_if(
      name.begin(), name.end(),
      [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

std::string TestName(
    const ::testing::TestParamInfo<Contract::ParamType>& info) {
  return NameFor(std::get<Row>(info.param));
}

auto EveryRow(Mode mode) {
  return ::testing::Combine(::testing::Values(mode),
                            ::testing::ValuesIn(AllRows()));
}

INSTANTIATE_TEST_SUITE_P(default, Contract, EveryRow(Mode::kDefault), TestName);
INSTANTIATE_TEST_SUITE_P(defer_taskrun, Contract, EveryRow(Mode::kDeferTaskrun),
                         TestName);
INSTANTIATE_TEST_SUITE_P(sqpoll, Contract, EveryRow(Mode::kSqpoll), TestName);

std::string Joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(ContractCoverage, EveryRowIsMeasuredOrListedWithAReason) {
  EXPECT_EQ(Joined(FindGaps(AllRows(), AllScripts(), AllNotMeasured())), "");
}

// What finds faults has to find these.

Row RowOf(const std::string& op, const std::string& region) {
  for (const Row& row : AllRows()) {
    if (row.op == op && row.region == region) return row;
  }
  Must(false, "a row of that name");
  return {};
}

class WrongClass : public ::testing::TestWithParam<Row> {};

TEST_P(WrongClass, IsFound) {
  const Row right = GetParam();
  const Verdict verdict = Check(right, Mode::kDefault);
  if (!verdict.skipped.empty()) GTEST_SKIP() << verdict.skipped;
  ASSERT_EQ(verdict.problem, "");
  for (const Until until :
       {Until::kConsumed, Until::kIssued, Until::kCompletion,
        Until::kLastCompletion, Until::kNotification, Until::kUnregistered,
        Until::kTeardown}) {
    if (until == right.until) continue;
    Row wrong = right;
    wrong.until = until;
    EXPECT_NE(Check(wrong, Mode::kDefault).problem, "") << NameOf(until);
  }
}

INSTANTIATE_TEST_SUITE_P(
    , WrongClass,
    ::testing::Values(RowOf("Statx", "path"),                // consumed
                      RowOf("Statx", "directory"),           // issued
                      RowOf("Statx", "result"),              // completion
                      RowOf("ReadFixed", "buffer"),          // and pinned
                      RowOf("Madvise", "address"),           // and by address
                      RowOf("AcceptMultishot", "address"),   // last completion
                      RowOf("SendZeroCopy", "buffer"),       // notification
                      RowOf("ProvideBuffers", "buffers")));  // unregistered

TEST(WrongEnd, IsFound) {
  Row row = RowOf("AcceptMultishot", "fd");
  row.ends = Until::kCompletion;
  const Verdict verdict = Check(row, Mode::kDefault);
  if (!verdict.skipped.empty()) GTEST_SKIP() << verdict.skipped;
  EXPECT_NE(verdict.problem, "");
}

TEST(ContractCoverage, FindsWhatIsMissingStaleOrDouble) {
  const auto gaps = [](const std::vector<NamedScript>& scripts,
                       const std::vector<NotMeasured>& not_measured) {
    return Joined(
        FindGaps({RowOf("Statx", "path"), RowOf("Statx", "directory")}, scripts,
                 not_measured));
  };
  const Script both = [](Stage& stage) {
    stage.Text("path", "/");
    stage.Handle("directory", [] {});
  };
  const Script path = [](Stage& stage) { stage.Text("path", "/"); };
  const Script other = [](Stage& stage) { stage.Text("way", "/"); };
  EXPECT_EQ(gaps({{"Statx", both}}, {}), "");
  EXPECT_EQ(gaps({{"Statx", path}}, {{"Statx", "directory", "reason"}}), "");
  EXPECT_EQ(gaps({{"Statx", path}}, {}), "Statx.directory: not measured\n");
  EXPECT_EQ(gaps({{"Statx", both}}, {{"*", "path", "reason"}}),
            "Statx.path: measured, and listed as not measured\n");
  EXPECT_EQ(gaps({{"Statx", both}}, {{"Statx", "result", "reason"}}),
            "Statx.result: listed as not measured, but there is no such row\n");
  EXPECT_EQ(gaps({{"Statx", both}, {"Statx", other}}, {}),
            "Statx.way: measured, but there is no such row\n");
}

}  // namespace
}  // namespace escrow::testing
