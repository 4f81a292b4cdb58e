// That the tables in docs/ name tests that exist, and some in every row.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

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

std::string Trimmed(const std::string& cell) {
  const std::size_t first = cell.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return cell.substr(first, cell.find_last_not_of(' ') + 1 - first);
}

// The first cells of all rows of the tables in `path`, each of which has to
// name tests, that exist, in its last one.
std::vector<std::string> CheckRows(const std::string& path) {
  static const std::regex kTest(R"(`([\w/]+\.(?:cc|h)):\w+\.\w+`)");
  std::ifstream page(path);
  EXPECT_TRUE(page) << path;
  std::vector<std::string> first_cells;
  std::string before;
  std::string line;
  for (; std::getline(page, line); before = line) {
    if (!line.starts_with("| ")) continue;
    if (line.starts_with("| --- |")) {
      // What is in front of it was the table's head.
      first_cells.pop_back();
      continue;
    }
    first_cells.push_back(Trimmed(line.substr(2, line.find('|', 2) - 2)));
    if (!before.starts_with("|")) continue;
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
  return first_cells;
}

TEST(BugClasses, NameTestsThatExist) {
  EXPECT_GT(CheckRows("docs/bug_classes.md").size(), 0u);
}

TEST(EarlierSystems, NameTestsThatExist) {
  const std::vector<std::string> rows = CheckRows("docs/earlier_systems.md");
  struct System {
    const char* letter;
    int rows;
  };
  for (const System& system :
       {System{"B", 27}, System{"R", 21}, System{"E", 10}, System{"A", 13},
        System{"G", 14}, System{"P", 14}}) {
    for (int i = 1; i <= system.rows; ++i) {
      const std::string row = system.letter + std::to_string(i);
      EXPECT_EQ(std::count(rows.begin(), rows.end(), row), 1) << row;
    }
  }
}

}  // namespace
}  // namespace escrow
