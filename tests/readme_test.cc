// What the README shows as C++ is what the examples compile.

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace escrow {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Readme, ShowsCodeThatCompiles) {
  const std::string readme = ReadFile("README.md");
  const std::string example = ReadFile("examples/quickstart.cc") +
                              ReadFile("examples/raw_quickstart.cc") +
                              ReadFile("examples/fuzz_your_own.cc");
  const std::string fence = "```cpp\n";
  int blocks = 0;
  for (std::size_t at = readme.find(fence); at != std::string::npos;
       at = readme.find(fence, at)) {
    at += fence.size();
    const std::string block = readme.substr(at, readme.find("```", at) - at);
    EXPECT_NE(example.find(block), std::string::npos) << block;
    ++blocks;
  }
  EXPECT_GT(blocks, 0);
}

}  // namespace
}  // namespace escrow
