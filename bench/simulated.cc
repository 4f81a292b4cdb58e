// usage: simulated PROGRAM LINKED SIMULATOR WITH_FALLBACK
//
// Runs what prints nanoseconds several times: on the kernel, with the simulated
// one linked, and with it in LD_PRELOAD, where each call is a signal; and with
// the fallback linked, on the kernel and emulated.

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

// What `command` prints; zero if it does not.
double Measure(const std::string& command) {
  std::FILE* const output = ::popen(command.c_str(), "r");
  if (output == nullptr) return 0;
  double nanoseconds = 0;
  if (std::fscanf(output, "%lf", &nanoseconds) != 1) nanoseconds = 0;
  return ::pclose(output) == 0 ? nanoseconds : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: %s PROGRAM LINKED SIMULATOR WITH_FALLBACK\n",
                 argv[0]);
    return 2;
  }
  const std::string program = argv[1];
  const std::string linked = argv[2];
  const std::string simulator = argv[3];
  const std::string with_fallback = argv[4];
  struct Row {
    const char* name;
    std::string command;
  };
  const std::array rows = {
      Row{"the kernel", program},
      Row{"simulated, linked", linked},
      Row{"simulated, LD_PRELOAD",
          "LD_PRELOAD=$PWD/" + simulator + ' ' + program},
      Row{"the kernel, fallback", "ESCROW_FALLBACK=never " + with_fallback},
      Row{"emulated, fallback", "ESCROW_FALLBACK=always " + with_fallback},
  };
  std::printf("nanoseconds per round trip of a nop:\n");
  for (const auto& [name, command] : rows) {
    const double nanoseconds = Measure(command);
    if (nanoseconds <= 0) {
      std::fprintf(stderr, "%s: no measurement\n", command.c_str());
      return 1;
    }
    std::printf("%-22s %8.0f\n", name, nanoseconds);
  }
  return 0;
}
