#include "tests/raw_op_support.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/raw/all_ops.h"
#include "escrow/raw/ring.h"

namespace escrow::raw {

Ring MakeRing(const RingOptions& options) {
  auto ring = Ring::Create(options);
  for (int i = 0; i < 500 && !ring && ring.error().value() == ENOMEM; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ring = Ring::Create(options);
  }
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

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
