#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "docs/lifetimes_page.h"

int main() {
  const char* const workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace == nullptr) {
    std::fputs("run it with: bazel run //docs:lifetimes\n", stderr);
    return 2;
  }
  const std::string path = std::string(workspace) + "/docs/lifetimes.md";
  std::ofstream file(path, std::ios::binary);
  file << escrow::docs::LifetimesPage();
  file.close();
  if (!file) {
    std::perror(path.c_str());
    return 1;
  }
  return 0;
}
