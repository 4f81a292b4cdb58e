// usage: instructions WORKLOAD [--json] [--check]
//
// Prints how many user-space instructions an operation costs, by the
// implementation that runs it. Each cell is the slope between two runs of
// different length under callgrind, so that start-up and tear-down cancel.
//
//   --json   one object a line instead of the table
//   --check  fail if escrow::raw costs more than liburing does

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

namespace escrow::bench {
namespace {

// Operations in the two runs; multiples of all batches.
constexpr std::uint64_t kShort = 3200;
constexpr std::uint64_t kLong = 16000;

// What --check lets pass: code of the same quality is not the same code.
constexpr double kTolerance = 1;

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

// The instructions of a whole run, from callgrind's profile.
std::optional<std::uint64_t> ReadTotal(const std::string& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string key;
    std::uint64_t count;
    fields >> key;
    if ((key == "summary:" || key == "totals:") && fields >> count) {
      return count;
    }
  }
  return std::nullopt;
}

std::optional<std::uint64_t> CountRun(const std::string& workload,
                                      const std::string& directory,
                                      Implementation implementation,
                                      Operation operation, unsigned batch,
                                      std::uint64_t operations) {
  const std::string profile = directory + "/profile";
  const std::string log = directory + "/log";
  const int status = RunProgram({
      "valgrind",
      "--tool=callgrind",
      "--callgrind-out-file=" + profile,
      "--log-file=" + log,
      workload,
      NameOf(implementation),
      NameOf(operation),
      std::to_string(batch),
      std::to_string(operations / batch),
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
  const auto total =
      status == 0 ? ReadTotal(profile) : std::optional<std::uint64_t>();
  if (!total) {
    std::fprintf(stderr,
                 "instructions: %s of %s in batches of %u failed (wait status "
                 "0x%x); valgrind says:\n",
                 NameOf(operation), NameOf(implementation), batch,
                 static_cast<unsigned>(status));
    if (std::ifstream said(log); said.peek() != EOF) std::cerr << said.rdbuf();
  }
  return total;
}

std::string Names(std::uint32_t flags) {
  static constexpr struct {
    std::uint32_t flag;
    const char* name;
  } kNames[] = {
      {IORING_SETUP_SUBMIT_ALL, "SUBMIT_ALL"},
      {IORING_SETUP_COOP_TASKRUN, "COOP_TASKRUN"},
      {IORING_SETUP_TASKRUN_FLAG, "TASKRUN_FLAG"},
      {IORING_SETUP_SINGLE_ISSUER, "SINGLE_ISSUER"},
      {IORING_SETUP_DEFER_TASKRUN, "DEFER_TASKRUN"},
      {IORING_SETUP_NO_SQARRAY, "NO_SQARRAY"},
  };
  std::string names;
  for (const auto& [flag, name] : kNames) {
    if ((flags & flag) == 0) continue;
    if (!names.empty()) names += ' ';
    names += name;
  }
  return names;
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

  if (!options->json) {
    const bool registered = (*flags & IORING_SETUP_SINGLE_ISSUER) != 0;
    std::printf(
        "ring: %u entries, setup flags 0x%x (%s)%s\n"
        "user-space instructions per operation:\n"
        "%-10s%6s  %-10s%14s%14s\n",
        kEntries, *flags, Names(*flags).c_str(),
        registered ? ", registered descriptor" : "", "operation", "batch", "",
        "instructions", "- liburing");
  }
  const bool progress = ::isatty(STDERR_FILENO) != 0;
  bool exceeded = false;
  for (const Operation operation : kOperations) {
    for (const unsigned batch : kBatches) {
      double liburing = 0;
      for (const Implementation implementation : kImplementations) {
        if (progress) {
          std::fprintf(stderr, "%s, batches of %u, %s ...\033[K\r",
                       NameOf(operation), batch, NameOf(implementation));
        }
        std::uint64_t totals[2];
        for (std::size_t i = 0; i < 2; ++i) {
          const auto total =
              CountRun(options->workload, directory.path(), implementation,
                       operation, batch, i == 0 ? kShort : kLong);
          if (!total) return 1;
          totals[i] = *total;
        }
        const double instructions =
            (static_cast<double>(totals[1]) - static_cast<double>(totals[0])) /
            static_cast<double>(kLong - kShort);
        if (implementation == Implementation::kLiburing) {
          liburing = instructions;
        }
        if (progress) std::fputs("\033[K", stderr);
        if (options->json) {
          std::printf(
              R"({"operation": "%s", "batch": %u, "implementation": "%s", )"
              R"("instructions": %.2f})"
              "\n",
              NameOf(operation), batch, NameOf(implementation), instructions);
        } else if (implementation == Implementation::kLiburing) {
          std::printf("%-10s%6u  %-10s%14.1f\n", NameOf(operation), batch,
                      NameOf(implementation), instructions);
        } else {
          std::printf("%-10s%6s  %-10s%14.1f%+14.1f\n", "", "",
                      NameOf(implementation), instructions,
                      // Not "-0.0".
                      std::round((instructions - liburing) * 10) / 10 + 0.0);
        }
        std::fflush(stdout);
        if (options->check && implementation == Implementation::kRaw &&
            instructions > liburing + kTolerance) {
          exceeded = true;
          std::fprintf(stderr,
                       "instructions: %s in batches of %u costs raw %.2f more "
                       "than liburing\n",
                       NameOf(operation), batch, instructions - liburing);
        }
      }
    }
  }
  return exceeded ? 1 : 0;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
