// That docs/bug_classes.md names tests that exist, and some in every row.

#include <gtest/gtest.h>

#include <cstddef>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace escrow {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

// As `file:Suite.Name`, all tests that are defined in a file of tests/.
const std::set<std::string>& TestsOf(const std::string& file) {
  static std::map<std::string, std::set<std::string>> files;
  const auto [found, is_new] = files.try_emplace(file);
  std::set<std::string>& tests = found->second;
  if (!is_new) return tests;
  static const std::regex kDefinition(
      R"((?:^|\n)(?:TEST|TEST_F|TEST_P|TYPED_TEST|TYPED_TEST_P)\()"
      R"((\w+),\s*(\w+)\))");
  const std::string text = ReadFile("tests/" + file);
  for (std::sregex_iterator match(text.begin(), text.end(), kDefinition), end;
       match != end; ++match) {
    tests.insert(file + ":" + match->str(1) + "." + match->str(2));
  }
  return tests;
}

TEST(BugClasses, NameTestsThatExist) {
  static const std::regex kTest(R"(`(\w+\.(?:cc|h)):\w+\.\w+`)");
  std::ifstream page("docs/bug_classes.md");
  ASSERT_TRUE(page);
  std::size_t rows = 0;
  std::string line;
  while (std::getline(page, line)) {
    if (!line.starts_with("| ") || line.starts_with("| class |") ||
        line.starts_with("| --- |")) {
      continue;
    }
    ++rows;
    const std::string tests = line.substr(line.rfind('|', line.size() - 2) + 1);
    std::string rest;
    std::regex_replace(std::back_inserter(rest), tests.begin(), tests.end(),
                       kTest, "");
    EXPECT_EQ(rest.find_first_not_of(" ,|"), std::string::npos)
        << "not a test: " << rest << " in: " << line;
    std::size_t named = 0;
    for (std::sregex_iterator match(tests.begin(), tests.end(), kTest), end;
         match != end; ++match, ++named) {
      const std::string quoted = match->str();
      const std::string name = quoted.substr(1, quoted.size() - 2);
      EXPECT_TRUE(TestsOf(match->str(1)).contains(name)) << name;
    }
    EXPECT_GT(named, 0u) << line;
  }
  EXPECT_GT(rows, 0u);
}

}  // namespace
}  // namespace escrow
