// The published table of lifetimes is the one that the types have.

#include "docs/lifetimes_page.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace escrow::docs {
namespace {

TEST(LifetimesPage, IsUpToDate) {
  std::ifstream file("docs/lifetimes.md", std::ios::binary);
  ASSERT_TRUE(file);
  const std::string published(std::istreambuf_iterator<char>(file), {});
  EXPECT_EQ(published, LifetimesPage())
      << "Bring it up to date with: bazel run //docs:lifetimes";
}

}  // namespace
}  // namespace escrow::docs
