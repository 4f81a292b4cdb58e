// usage: instructions WORKLOAD [--json] [--check]
//
// Prints how many user-space instructions an operation costs, by the
// implementation that runs it: what callgrind counts while its loop runs.
//
//   --json   one object a line instead of the table
//   --check  fail if escrow::raw costs over an instruction more than liburing

#include <fcntl.h>
#include <liburing.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "bench/loops.h"
#include "escrow/raw/names.h"

namespace escrow::bench {
namespace {

// Of each cell; a multiple of what is started in any round, and so many that
// the way into the loop and out of it does not show.
constexpr std::uint64_t kOperations = 25600;

// What --check lets pass, in instructions: code of the same quality is not the
// same code. The hundredth is for what precedes and follows the loop.
constexpr double kTolerance = 1 + 0.01;

struct Options {
  std::string workload;
  bool json = false;
  bool check = false;
};

std::optional<Options> Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--check") {
      options.check = true;
    } else if (!argument.starts_with("-") && options.workload.empty()) {
      options.workload = argument;
    } else {
      return std::nullopt;
    }
  }
  if (options.workload.empty()) return std::nullopt;
  return options;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* const parent = std::getenv("TMPDIR");
    path_ = parent != nullptr ? parent : "/tmp";
    path_ += "/escrow_instructions_XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }

  // Empty if it could not be made.
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The exit status as of waitpid(2), or a negated errno.
int RunProgram(std::vector<std::string> arguments) {
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  pid_t child;
  if (const int error =
          ::posix_spawnp(&child, argv[0], /*file_actions=*/nullptr,
                         /*attrp=*/nullptr, argv.data(), environ)) {
    return -error;
  }
  int status;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -errno;
  }
  return status;
}

// The instructions of each profile in a file of callgrind's.
std::vector<std::uint64_t> ReadTotals(const std::string& path) {
  std::vector<std::uint64_t> totals;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string key;
    std::uint64_t count;
    fields >> key;
    if (key == "totals:" && fields >> count) totals.push_back(count);
  }
  return totals;
}

struct CellCount {
  Cell cell;
  double instructions;  // per operation
};

// What each cell costs, in the order of Cells().
std::optional<std::vector<CellCount>> Count(const std::string& workload,
                                            const std::string& directory) {
  const std::string profile = directory + "/profile";
  const std::string log = directory + "/log";
  const int status = RunProgram({
      "valgrind",
      "--tool=callgrind",
      "--toggle-collect=escrow_bench_counted",
      "--dump-after=escrow_bench_counted",
      "--combine-dumps=yes",
      "--callgrind-out-file=" + profile,
      "--log-file=" + log,
      workload,
      std::to_string(kOperations),
  });
  if (status == -ENOENT) {
    std::fputs("instructions: there is no valgrind: apt-get install valgrind\n",
               stderr);
    return std::nullopt;
  }
  if (status < 0) {
    const std::error_code error(-status, std::generic_category());
    std::fprintf(stderr, "instructions: cannot run valgrind: %s\n",
                 error.message().c_str());
    return std::nullopt;
  }
  const std::vector<Cell> cells = Cells();
  const std::vector<std::uint64_t> totals = ReadTotals(profile);
  // Callgrind writes another one at the end of the program.
  if (status != 0 || totals.size() != cells.size() + 1) {
    std::fprintf(stderr,
                 "instructions: the workload failed (wait status 0x%x, %zu "
                 "profiles for %zu loops); valgrind says:\n",
                 static_cast<unsigned>(status), totals.size(), cells.size());
    if (std::ifstream said(log); said.peek() != EOF) std::cerr << said.rdbuf();
    return std::nullopt;
  }
  std::vector<CellCount> counts;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    counts.push_back({cells[i], static_cast<double>(totals[i]) /
                                    static_cast<double>(kOperations)});
  }
  return counts;
}

std::string Names(std::uint32_t flags) {
  constexpr std::string_view kPrefix = "IORING_SETUP_";
  std::string names;
  for (const raw::NamedFlag& flag : raw::kSetupFlags) {
    if ((flags & flag.bit) == 0) continue;
    names += names.empty() ? "" : " ";
    names += std::string_view(flag.name).substr(kPrefix.size());
  }
  return names;
}

void PrintTable(const std::vector<CellCount>& counts, std::uint32_t flags) {
  const bool registered = (flags & IORING_SETUP_SINGLE_ISSUER) != 0;
  std::printf(
      "ring: %u entries, setup flags 0x%x (%s)%s\n"
      "user-space instructions per operation:\n"
      "%-10s %6s %10s %10s %10s %10s",
      kEntries, flags, Names(flags).c_str(),
      registered ? ", registered descriptor" : "", "operation", "batch",
      "liburing", "raw", "- liburing", "safe");
  double liburing = 0;
  for (const auto& [cell, instructions] : counts) {
    switch (cell.implementation) {
      case Implementation::kLiburing:
        liburing = instructions;
        std::printf("\n%-10s %6u %10.1f", NameOf(cell.operation), cell.batch,
                    instructions);
        break;
      case Implementation::kRaw:
        std::printf(" %10.1f %+10.1f", instructions,
                    // Not "-0.0".
                    std::round((instructions - liburing) * 10) / 10 + 0.0);
        break;
      case Implementation::kSafe:
        std::printf(" %10.1f", instructions);
        break;
    }
  }
  std::putchar('\n');
}

void PrintJson(const std::vector<CellCount>& counts) {
  for (const auto& [cell, instructions] : counts) {
    std::printf(R"({"operation": "%s", "batch": %u, "implementation": "%s", )"
                R"("instructions": %.2f})"
                "\n",
                NameOf(cell.operation), cell.batch, NameOf(cell.implementation),
                instructions);
  }
}

bool Check(const std::vector<CellCount>& counts) {
  bool good = true;
  double liburing = 0;
  for (const auto& [cell, instructions] : counts) {
    if (cell.implementation == Implementation::kLiburing) {
      liburing = instructions;
    } else if (cell.implementation == Implementation::kRaw &&
               instructions > liburing + kTolerance) {
      good = false;
      std::fprintf(stderr,
                   "instructions: %s costs %.2f more than with liburing\n",
                   NameOf(cell).c_str(), instructions - liburing);
    }
  }
  return good;
}

int Main(int argc, char** argv) {
  const std::optional<Options> options = Parse(argc, argv);
  if (!options) {
    std::fputs("usage: instructions WORKLOAD [--json] [--check]\n", stderr);
    return 2;
  }
  const auto flags = SetupFlags();
  if (!flags) {
    std::fprintf(stderr, "instructions: %s\n", flags.error().message().c_str());
    return 1;
  }
  const TemporaryDirectory directory;
  if (directory.path().empty()) {
    std::perror("instructions: no temporary directory");
    return 1;
  }

  const auto counts = Count(options->workload, directory.path());
  if (!counts) return 1;
  if (options->json) {
    PrintJson(*counts);
  } else {
    PrintTable(*counts, *flags);
  }
  std::fflush(stdout);
  return options->check && !Check(*counts) ? 1 : 0;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
