// usage: run [--seed=N | --seeds=A..B | --schedule=FILE] [--output=FILE]
//            [--timeout=SECONDS] program args...
//
// Runs a program on the simulated kernel, under libescrow_sim.so, once for each
// seed (0..99 if nothing else is said), until it fails: ends with anything but
// 0, or takes too long. Then makes the schedule of what the kernel did as short
// and as benign as it can be with the same failure, leaves it in a file, and
// says how to repeat that. Exits with 1 if the program has failed.

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

using Schedule = std::vector<std::uint8_t>;
namespace fs = std::filesystem;

struct Arguments {
  std::uint64_t first_seed = 0;
  std::uint64_t last_seed = 99;
  std::string schedule;
  std::string output = "escrow.schedule";
  int timeout = 60;
  std::vector<std::string> program;
};

constexpr char kUsage[] =
    "usage: run [--seed=N | --seeds=A..B | --schedule=FILE] [--output=FILE]\n"
    "           [--timeout=SECONDS] program args...\n";

template <typename Number>
bool Parse(std::string_view text, Number* number) {
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, *number);
  return parsed.ec == std::errc() && parsed.ptr == end;
}

bool Parse(int count, char** words, Arguments* arguments) {
  int i = 1;
  for (; i < count && std::strncmp(words[i], "--", 2) == 0; ++i) {
    const std::string_view word = words[i];
    const auto value_of = [word](std::string_view name) {
      return word.substr(name.size());
    };
    if (word == "--") {
      ++i;
      break;
    }
    bool right = false;
    if (word.starts_with("--seed=")) {
      right = Parse(value_of("--seed="), &arguments->first_seed);
      arguments->last_seed = arguments->first_seed;
    } else if (word.starts_with("--seeds=")) {
      const std::string_view range = value_of("--seeds=");
      const std::size_t dots = range.find("..");
      right = dots != range.npos &&
              Parse(range.substr(0, dots), &arguments->first_seed) &&
              Parse(range.substr(dots + 2), &arguments->last_seed) &&
              arguments->first_seed <= arguments->last_seed;
    } else if (word.starts_with("--schedule=")) {
      arguments->schedule = value_of("--schedule=");
      right = !arguments->schedule.empty();
    } else if (word.starts_with("--output=")) {
      arguments->output = value_of("--output=");
      right = !arguments->output.empty();
    } else if (word.starts_with("--timeout=")) {
      right = Parse(value_of("--timeout="), &arguments->timeout) &&
              arguments->timeout > 0;
    }
    if (!right) {
      std::fprintf(stderr, "run: what is %s?\n", words[i]);
      return false;
    }
  }
  arguments->program.assign(words + i, words + count);
  return !arguments->program.empty();
}

// Beside this program, or among the files that Bazel has put together for it.
std::string FindLibrary() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const char* const name = "libescrow_sim.so";
  for (const fs::path& folder :
       {self.parent_path(), self.parent_path().parent_path()}) {
    if (fs::exists(folder / name, error)) return folder / name;
  }
  return "";
}

// Where the program is, as a shell would find it from where the user is.
std::string FindProgram(const std::string& name) {
  if (name.find('/') != std::string::npos) return fs::absolute(name);
  const char* path = std::getenv("PATH");
  for (std::string_view left = path != nullptr ? path : ""; !left.empty();) {
    const std::size_t end = std::min(left.find(':'), left.size());
    const fs::path candidate = fs::path(left.substr(0, end)) / name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  return name;
}

bool Write(const fs::path& path, const Schedule& schedule) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(schedule.data()),
             static_cast<std::streamsize>(schedule.size()));
  file.close();
  return !file.fail();
}

Schedule Read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  Schedule schedule(std::istreambuf_iterator<char>(file), {});
  // What is benign in the end is what comes without it, too.
  while (!schedule.empty() && schedule.back() == 0) schedule.pop_back();
  return schedule;
}

// What has become of one run.
struct Outcome {
  bool failed = false;
  // What two failures have in common that are the same.
  std::string kind;
  std::string output;
};

class Runner {
 public:
  Runner(const Arguments& arguments, std::string library)
      : arguments_(arguments), library_(std::move(library)) {
    path_ = FindProgram(arguments.program[0]);
    char folder[] = "/tmp/escrow-run-XXXXXX";
    if (::mkdtemp(folder) != nullptr) folder_ = folder;
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  ~Runner() {
    std::error_code ignored;
    if (!folder_.empty()) fs::remove_all(folder_, ignored);
  }

  bool ready() const { return !folder_.empty(); }
  int runs() const { return runs_; }

  Outcome WithSeed(std::uint64_t seed) {
    return Run({"ESCROW_SIM_SEED=" + std::to_string(seed)}, Show::kNothing);
  }
  Outcome WithSchedule(const Schedule& schedule, bool quickly) {
    Write(folder_ / "schedule", schedule);
    return Run({"ESCROW_SIM_SCHEDULE=" + (folder_ / "schedule").string()},
               quickly ? Show::kNoNames : Show::kNothing);
  }
  Schedule Made() const { return Read(folder_ / "record"); }

 private:
  enum class Show { kNothing, kNoNames };

  Outcome Run(std::vector<std::string> variables, Show show) {
    ++runs_;
    variables.push_back("LD_PRELOAD=" + Preloaded());
    variables.push_back("ESCROW_SIM_RECORD=" + (folder_ / "record").string());
    if (show == Show::kNoNames) {
      // Names of functions take longer to find than all the rest.
      const char* const given = std::getenv("ASAN_OPTIONS");
      variables.push_back(std::string("ASAN_OPTIONS=") +
                          (given != nullptr ? given : "") + ":symbolize=0");
    }
    std::fflush(nullptr);
    int output[2];
    if (::pipe2(output, O_CLOEXEC) != 0) return {};
    const ::pid_t child = ::fork();
    if (child == 0) {
      ::setpgid(0, 0);
      for (const std::string& variable : variables) {
        const std::size_t equals = variable.find('=');
        ::setenv(variable.substr(0, equals).c_str(),
                 variable.c_str() + equals + 1, 1);
      }
      ::dup2(output[1], STDOUT_FILENO);
      ::dup2(output[1], STDERR_FILENO);
      std::vector<char*> words;
      for (const std::string& word : arguments_.program) {
        words.push_back(const_cast<char*>(word.c_str()));
      }
      words.push_back(nullptr);
      ::execv(path_.c_str(), words.data());
      std::perror(path_.c_str());
      ::_exit(127);
    }
    ::close(output[1]);
    Outcome outcome;
    const bool in_time = ReadAll(output[0], &outcome.output);
    ::close(output[0]);
    // Whatever it has started ends with it.
    if (!in_time) ::kill(-child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    outcome.failed = status != 0;
    outcome.kind = in_time ? KindOf(outcome.output, status) : "timeout";
    return outcome;
  }

  std::string Preloaded() const {
    const char* const given = std::getenv("LD_PRELOAD");
    if (given == nullptr || *given == '\0') return library_;
    // A sanitizer's own library has to be the first.
    return std::string(given) + " " + library_;
  }

  bool ReadAll(int fd, std::string* all) const {
    using std::chrono::steady_clock;
    const auto end =
        steady_clock::now() + std::chrono::seconds(arguments_.timeout);
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          end - steady_clock::now());
      pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
      if (left.count() <= 0 ||
          ::poll(&polled, 1, static_cast<int>(left.count())) == 0) {
        return false;
      }
      char bytes[4096];
      const ::ssize_t size = ::read(fd, bytes, sizeof(bytes));
      if (size <= 0) return true;
      all->append(bytes, static_cast<std::size_t>(size));
    }
  }

  static std::string KindOf(const std::string& output, int status) {
    for (const std::string_view mark :
         {"ERROR: AddressSanitizer: ", "WARNING: ThreadSanitizer: ",
          "WARNING: MemorySanitizer: "}) {
      const std::size_t at = output.find(mark);
      if (at == output.npos) continue;
      const std::size_t begin = at + mark.size();
      return output.substr(begin, output.find_first_of(" \n", begin) - begin);
    }
    return WIFSIGNALED(status)
               ? "signal " + std::to_string(WTERMSIG(status))
               : "status " + std::to_string(WEXITSTATUS(status));
  }

  const Arguments& arguments_;
  std::string library_;
  std::string path_;
  fs::path folder_;
  int runs_ = 0;
};

// One line that is written over, on a terminal.
void Progress(const std::string& text) {
  static const bool terminal = ::isatty(STDERR_FILENO) == 1;
  if (terminal) std::fprintf(stderr, "\r\033[K%s", text.c_str());
}

// A schedule with the same failure, as short and benign as can be found.
Schedule Shrink(Runner& runner, Schedule schedule, const std::string& kind) {
  constexpr int kMost = 400;
  const int first = runner.runs();
  const auto fails = [&](const Schedule& candidate) {
    if (runner.runs() - first >= kMost) return false;
    Progress("shrinking: " + std::to_string(schedule.size()) + " choices, " +
             std::to_string(runner.runs() - first) + " runs");
    return runner.WithSchedule(candidate, /*quickly=*/true).kind == kind;
  };
  // The shortest beginning: each is as good as what is benign beyond it.
  std::size_t least = 0;
  std::size_t most = schedule.size();
  while (least < most) {
    const std::size_t middle = least + (most - least) / 2;
    if (fails(Schedule(schedule.begin(),
                       schedule.begin() + static_cast<long>(middle)))) {
      most = middle;
    } else {
      least = middle + 1;
    }
  }
  schedule.resize(most);
  // Pieces of it, ever smaller ones: benign, or left out.
  for (std::size_t size = std::max<std::size_t>(schedule.size() / 2, 1);
       size > 0; size /= 2) {
    for (std::size_t at = 0; at < schedule.size(); at += size) {
      const auto begin = schedule.begin() + static_cast<long>(at);
      const auto end =
          begin + static_cast<long>(std::min(size, schedule.size() - at));
      if (std::all_of(begin, end, [](std::uint8_t way) { return way == 0; })) {
        continue;
      }
      Schedule candidate = schedule;
      std::fill_n(candidate.begin() + static_cast<long>(at), end - begin, 0);
      if (fails(candidate)) schedule = std::move(candidate);
    }
  }
  for (std::size_t at = schedule.size(); at-- > 0;) {
    Schedule candidate = schedule;
    candidate.erase(candidate.begin() + static_cast<long>(at));
    if (fails(candidate)) schedule = std::move(candidate);
  }
  while (!schedule.empty() && schedule.back() == 0) schedule.pop_back();
  Progress("");
  return schedule;
}

std::string CommandLine(const Arguments& arguments) {
  std::string line;
  for (const std::string& word : arguments.program) line += " " + word;
  return line;
}

int Main(const Arguments& arguments) {
  const std::string library = FindLibrary();
  if (library.empty()) {
    std::fputs("run: libescrow_sim.so is not where it should be\n", stderr);
    return 2;
  }
  Runner runner(arguments, library);
  if (!runner.ready()) {
    std::perror("run: /tmp");
    return 2;
  }
  Outcome outcome;
  if (!arguments.schedule.empty()) {
    if (!fs::exists(arguments.schedule)) {
      std::fprintf(stderr, "run: there is no %s\n", arguments.schedule.c_str());
      return 2;
    }
    outcome = runner.WithSchedule(Read(arguments.schedule), /*quickly=*/false);
    std::fputs(outcome.output.c_str(), stdout);
    std::fprintf(stderr, "run: %s\n",
                 outcome.failed ? outcome.kind.c_str() : "nothing found");
    return outcome.failed ? 1 : 0;
  }
  for (std::uint64_t seed = arguments.first_seed;; ++seed) {
    Progress("seed " + std::to_string(seed) + " of " +
             std::to_string(arguments.first_seed) + ".." +
             std::to_string(arguments.last_seed));
    outcome = runner.WithSeed(seed);
    if (outcome.failed) {
      Progress("");
      std::fputs(outcome.output.c_str(), stdout);
      std::fprintf(stderr, "run: seed %llu: %s\n",
                   static_cast<unsigned long long>(seed), outcome.kind.c_str());
      break;
    }
    if (seed == arguments.last_seed) {
      Progress("");
      std::fprintf(stderr, "run: nothing found in %d runs\n", runner.runs());
      return 0;
    }
  }
  const Schedule made = runner.Made();
  if (runner.WithSchedule(made, /*quickly=*/true).kind != outcome.kind) {
    std::fputs(
        "run: its schedule alone does not repeat it: it depends on what else "
        "happens\n",
        stderr);
    return 1;
  }
  const Schedule least = Shrink(runner, made, outcome.kind);
  if (!Write(arguments.output, least)) {
    std::perror(arguments.output.c_str());
    return 2;
  }
  const auto adverse = std::count_if(least.begin(), least.end(),
                                     [](std::uint8_t way) { return way != 0; });
  std::fprintf(stderr,
               "run: %zu choices made smaller to %zu, of which %ld are not "
               "benign, in %d runs\n"
               "run: to repeat it: ESCROW_SIM_SCHEDULE=%s LD_PRELOAD=%s%s\n",
               made.size(), least.size(), static_cast<long>(adverse),
               runner.runs(), fs::absolute(arguments.output).c_str(),
               library.c_str(), CommandLine(arguments).c_str());
  return 1;
}

}  // namespace

int main(int count, char** words) {
  Arguments arguments;
  // Bazel runs it elsewhere.
  if (const char* const folder = std::getenv("BUILD_WORKING_DIRECTORY")) {
    if (::chdir(folder) != 0) std::perror(folder);
  }
  if (!Parse(count, words, &arguments)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  return Main(arguments);
}
