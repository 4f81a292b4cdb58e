// usage: SIMULATOR TEST [PATTERN...]
//
// Runs a test on the simulated kernel, but for what matches a pattern of
// GoogleTest's.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s SIMULATOR TEST [PATTERN...]\n", argv[0]);
    return 2;
  }
  const std::string simulator = std::filesystem::absolute(argv[1]);
  std::string filter = "--gtest_filter=-";
  for (int i = 3; i < argc; ++i) {
    filter += argv[i];
    filter += ':';
  }
  ::setenv("LD_PRELOAD", simulator.c_str(), /*overwrite=*/1);
  ::execl(argv[2], argv[2], filter.c_str(), nullptr);
  std::perror(argv[2]);
  return 2;
}
