// Copies a file, with many blocks in flight at once. `cp --help` says how.

#include <getopt.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "escrow/examples/byte_size.h"
#include "escrow/examples/copy_file.h"
#include "escrow/examples/failure.h"
#include "escrow/examples/generate.h"
#include "escrow/examples/progress_bar.h"
#include "escrow/examples/session.h"
#include "escrow/examples/stop_signals.h"
#include "escrow/safe/ring.h"

namespace escrow::examples {
namespace {

constexpr std::size_t kMostDepth = 4096;
constexpr std::size_t kMostBlockSize = std::size_t{1} << 30;

constexpr char kHelp[] =
    R"(usage: cp [options] SOURCE DESTINATION

Copies the regular file SOURCE to DESTINATION, or into it if that is a
directory. Nothing has the name DESTINATION, or what had it before still has,
until the copy is complete and on the disk.

  --depth=N        blocks in flight at once, 1 to 4096 (default 32)
  --block=SIZE     size of a block, up to 1GiB (default 128KiB)
  --raw            read and write blocks with raw queue entries
  --verify         compare the copy with SOURCE, byte by byte
  --generate=SIZE  make SOURCE first, of random bytes that are always the same,
                   unless it exists
  --progress       show progress, also if standard error is not a terminal
  --quiet          show nothing but errors
  --help           show this

A SIZE is a number of bytes, or has a unit: 64KiB (or 64K), 64kB, 1GiB...

Ends with 0 if all went well, 1 if not, 2 for a command line that makes no
sense; when stopped by SIGINT, SIGTERM or SIGHUP, by that signal.
)";

struct Arguments {
  std::string source;
  std::string destination;
  std::size_t depth = Settings().depth;
  std::size_t block_size = Settings().block_size;
  std::optional<std::uint64_t> generate;
  CopyOptions copy;
  bool progress = false;
  bool quiet = false;
  bool help = false;
};

// The error is about usage.
std::expected<Arguments, std::string> ParseArguments(int argc, char** argv) {
  enum Option {
    kDepth = 1,
    kBlock,
    kRaw,
    kVerify,
    kGenerate,
    kProgress,
    kQuiet,
    kHelpOption
  };
  static constexpr option kOptions[] = {
      {"depth", required_argument, nullptr, kDepth},
      {"block", required_argument, nullptr, kBlock},
      {"raw", no_argument, nullptr, kRaw},
      {"verify", no_argument, nullptr, kVerify},
      {"generate", required_argument, nullptr, kGenerate},
      {"progress", no_argument, nullptr, kProgress},
      {"quiet", no_argument, nullptr, kQuiet},
      {"help", no_argument, nullptr, kHelpOption},
      {},
  };
  Arguments arguments;
  ::opterr = 0;
  for (;;) {
    const int current = ::optind;
    const int option = ::getopt_long(argc, argv, ":", kOptions, nullptr);
    if (option == -1) break;
    const std::string_view value = ::optarg != nullptr ? ::optarg : "";
    switch (option) {
      case kDepth: {
        const char* const end = value.data() + value.size();
        const auto [rest, error] =
            std::from_chars(value.data(), end, arguments.depth);
        if (error != std::errc() || rest != end || arguments.depth < 1 ||
            arguments.depth > kMostDepth) {
          return std::unexpected("--depth: not a number from 1 to 4096: " +
                                 std::string(value));
        }
        break;
      }
      case kBlock: {
        const auto size = ParseByteSize(value);
        if (!size || *size < 1 || *size > kMostBlockSize) {
          return std::unexpected("--block: not a size from 1 to 1GiB: " +
                                 std::string(value));
        }
        arguments.block_size = static_cast<std::size_t>(*size);
        break;
      }
      case kRaw:
        arguments.copy.raw = true;
        break;
      case kVerify:
        arguments.copy.verify = true;
        break;
      case kGenerate:
        arguments.generate = ParseByteSize(value);
        if (!arguments.generate) {
          return std::unexpected("--generate: not a size: " +
                                 std::string(value));
        }
        break;
      case kProgress:
        arguments.progress = true;
        break;
      case kQuiet:
        arguments.quiet = true;
        break;
      case kHelpOption:
        arguments.help = true;
        return arguments;
      case ':':
        return std::unexpected(std::string(argv[::optind - 1]) +
                               ": needs a value");
      default:
        return std::unexpected(std::string(argv[std::max(current, 1)]) +
                               ": not an option, or not one with a value");
    }
  }
  if (argc - ::optind != 2) {
    return std::unexpected("operands: needs SOURCE and DESTINATION");
  }
  arguments.source = argv[::optind];
  arguments.destination = argv[::optind + 1];
  return arguments;
}

std::string Summary(const CopyReport& report, const CopyOptions& options) {
  char text[200];
  const double seconds = report.time.count();
  std::snprintf(
      text, sizeof(text),
      "%llu bytes in %.3f s (%.3f s of it syncing), %.2f GB/s, at most %zu "
      "operations in flight at once",
      static_cast<unsigned long long>(report.bytes), seconds,
      report.sync_time.count(),
      seconds > 0 ? static_cast<double>(report.bytes) / seconds / 1e9 : 0.0,
      report.most_in_flight);
  std::string line = text;
  if (report.holes > 0) {
    line += ", " + std::to_string(report.holes) + " bytes of it holes";
  }
  if (options.verify) line += ", verified byte for byte";
  return line + "\n";
}

Expected<void> Print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
    return FailedCall("standard output", "write");
  }
  return {};
}

Expected<void> Run(const Arguments& arguments, StopSignals& signals,
                   std::optional<ProgressBar>& bar) {
  // Room for all blocks in the queue, and some more.
  auto ring = safe::Ring::Create(
      {.entries = static_cast<std::uint32_t>(arguments.depth + 8)});
  if (!ring) return Failed("ring", ring.error());
  if (auto watched = signals.Watch(*ring); !watched) return watched;

  Settings settings;
  settings.depth = arguments.depth;
  settings.block_size = arguments.block_size;
  settings.stopped = [&signals] { return signals.arrived() != 0; };
  if (bar) {
    settings.progress = [&bar](const Progress& progress) {
      bar->Show(progress.doing, progress.done, progress.total);
    };
  }
  Session session(*ring, std::move(settings));

  if (arguments.generate) {
    if (auto generated =
            GenerateFile(session, arguments.source, *arguments.generate);
        !generated) {
      return generated;
    }
  }
  auto report = CopyFile(session, arguments.source, arguments.destination,
                         arguments.copy);
  if (!report) return std::unexpected(report.error());
  if (bar) bar->Complete();
  if (arguments.quiet) return {};
  return Print(Summary(*report, arguments.copy));
}

int Main(int argc, char** argv) {
  const auto arguments = ParseArguments(argc, argv);
  if (!arguments) {
    std::fprintf(stderr, "cp: %s\nTry --help.\n", arguments.error().c_str());
    return 2;
  }
  if (arguments->help) {
    if (Print(kHelp)) return 0;
    return 1;
  }

  // Bazel runs programs in a directory of its own.
  if (const char* directory = std::getenv("BUILD_WORKING_DIRECTORY");
      directory != nullptr && ::chdir(directory) != 0) {
    std::fprintf(stderr, "cp: %s: chdir: %s\n", directory,
                 std::strerror(errno));
    return 1;
  }
  // Being killed for writing too much, or where nobody reads, would leave a
  // temporary file behind; the calls fail as well.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);

  int stopped_by = 0;
  Expected<void> result;
  {
    StopSignals signals;
    std::optional<ProgressBar> bar;
    if (!arguments->quiet &&
        (arguments->progress || ::isatty(STDERR_FILENO) == 1)) {
      bar.emplace(STDERR_FILENO);
    }
    result = Run(*arguments, signals, bar);
    if (!result) stopped_by = signals.arrived();
  }
  if (result) return 0;
  std::fprintf(stderr, "cp: %s: %s\n", result.error().what.c_str(),
               result.error().why.c_str());
  // So that a shell stops too.
  if (stopped_by != 0) std::raise(stopped_by);
  return 1;
}

}  // namespace
}  // namespace escrow::examples

int main(int argc, char** argv) { return escrow::examples::Main(argc, argv); }
