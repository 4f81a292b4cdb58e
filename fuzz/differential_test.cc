#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

namespace {

constexpr int kPrograms = 3000;

std::vector<std::string> Lines(const std::string& command) {
  std::vector<std::string> lines(1);
  std::FILE* const run = ::popen((command + " 2>&1").c_str(), "r");
  if (run == nullptr) return {};
  for (int character; (character = std::fgetc(run)) != EOF;) {
    if (character == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += static_cast<char>(character);
    }
  }
  EXPECT_EQ(::pclose(run), 0) << command << ": " << lines.back();
  lines.pop_back();
  return lines;
}

// A simulated kernel that always chooses the benign way does what the real one
// does: the same completions, and the same bytes in all buffers. Neither has to
// do the same way twice which of two requests on the same bytes comes first, at
// which of two submits an event is told, and whether two events are told in
// one: that is why some programs may differ.
TEST(Differential, BothKernelsDoTheSame) {
  const std::string seeds = " 1 " + std::to_string(kPrograms);
  const auto real = Lines("fuzz/differential_real" + seeds);
  const auto simulated = Lines("fuzz/differential_simulated" + seeds);
  EXPECT_EQ(real.size(), std::size_t{kPrograms});
  ASSERT_EQ(simulated.size(), real.size());
  std::size_t differ = 0;
  std::size_t last = 0;
  for (std::size_t i = 0; i < real.size(); ++i) {
    if (simulated[i] == real[i]) continue;
    ++differ;
    last = i;
  }
  EXPECT_LE(differ, kPrograms / 20) << "such as\nreal:      " << real[last]
                                    << "\nsimulated: " << simulated[last];
}

}  // namespace
