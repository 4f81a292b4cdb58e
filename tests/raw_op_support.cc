#include "tests/raw_op_support.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "escrow/raw/all_ops.h"

namespace escrow::raw {

std::vector<std::string> OpsWithoutTest(const std::string& suite) {
  std::set<std::string> tests;
  const auto& program = *::testing::UnitTest::GetInstance();
  for (int i = 0; i < program.total_test_suite_count(); ++i) {
    const ::testing::TestSuite& tested = *program.GetTestSuite(i);
    if (tested.name() != suite) continue;
    for (int j = 0; j < tested.total_test_count(); ++j) {
      tests.insert(tested.GetTestInfo(j)->name());
    }
  }
  std::vector<std::string> missing;
  ForEachOp([&]<typename Op>() {
    if (!tests.contains(Op::kInfo.name)) missing.push_back(Op::kInfo.name);
  });
  return missing;
}

}  // namespace escrow::raw
