// Runs examples/ringinfo, on the kernel and where there is no io_uring, and has
// Python judge its JSON.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "escrow/examples/json.h"
#include "escrow/examples/ring_report.h"
#include "escrow/raw/all_ops.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/diagnosis.h"
#include "escrow/raw/names.h"
#include "escrow/raw/probe.h"
#include "tests/support.h"

namespace escrow::examples {
namespace {

using testing::TemporaryFile;

struct Outcome {
  int status = -1;  // the exit status, or 128 and the signal
  std::string out;
  std::string err;
};

// `prepare` runs in the process that becomes the program.
Outcome RunProgram(
    std::vector<std::string> arguments,
    const std::function<void()>& prepare = [] {}, const std::string& in = "",
    const char* out_path = nullptr) {
  const TemporaryFile in_file(in);
  const TemporaryFile out_file;
  const TemporaryFile err_file;
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(in_file.Open(O_RDONLY), 0);
    dup2(out_path == nullptr ? out_file.Open(O_WRONLY)
                             : open(out_path, O_WRONLY | O_CLOEXEC),
         1);
    dup2(err_file.Open(O_WRONLY), 2);
    prepare();
    execvp(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return {.status =
              WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          .out = out_file.Content(),
          .err = err_file.Content()};
}

constexpr const char* kRingInfo = "examples/ringinfo";

// JSON by the paths to its values, which are JSON too: "a.0.b" is "true".
using Values = std::map<std::string, std::string>;

std::optional<Values> Parse(const std::string& json) {
  const Outcome outcome = RunProgram(
      {"python3", "-c", R"py(
import json, sys
def unique(pairs):
    keys = [key for key, value in pairs]
    assert len(keys) == len(set(keys)), keys
    return dict(pairs)
def show(path, value):
    if isinstance(value, dict):
        for key in value: show(path + [key], value[key])
    elif isinstance(value, list):
        print('.'.join(path + ['size']), len(value))
        for i, element in enumerate(value): show(path + [str(i)], element)
    else:
        print('.'.join(path), json.dumps(value))
show([], json.load(sys.stdin, object_pairs_hook=unique))
)py"},
      [] {}, json);
  if (outcome.status == 127) return std::nullopt;
  EXPECT_EQ(outcome.status, 0) << outcome.err << json;
  Values values;
  std::istringstream lines(outcome.out);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t space = line.find(' ');
    values[line.substr(0, space)] = line.substr(space + 1);
  }
  return values;
}

std::string Quoted(const std::string& text) { return "\"" + text + "\""; }

const char* Boolean(bool value) { return value ? "true" : "false"; }

class RingInfoJson : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Parse("{}")) GTEST_SKIP() << "there is no python3";
  }

  // Expects it to exit with `status`.
  Values ValuesOf(
      int status, const std::function<void()>& prepare = [] {}) {
    const Outcome outcome = RunProgram({kRingInfo, "--json"}, prepare);
    EXPECT_EQ(outcome.status, status) << outcome.err;
    EXPECT_EQ(outcome.err.empty(), status == 0) << outcome.err;
    return Parse(outcome.out).value_or(Values());
  }
};

raw::Probe TheProbe() {
  const RingReport report = InspectRing();
  EXPECT_TRUE(report.probe) << WhyUnavailable(report);
  return report.probe.value_or(raw::Probe());
}

TEST_F(RingInfoJson, SaysWhatTheProbeSays) {
  Values values = ValuesOf(0);
  const raw::Probe probe = TheProbe();
  EXPECT_EQ(values["available"], "true");
  EXPECT_FALSE(values.contains("unavailable.reason"));
  utsname system;
  ASSERT_EQ(uname(&system), 0);
  EXPECT_EQ(values["kernel"], Quoted(system.release));
  EXPECT_EQ(values["liburing.linked"],
            Quoted(ToString(raw::kCompiledLiburing)));
  EXPECT_EQ(
      values["source"],
      Quoted(probe.source == raw::Probe::Source::kQuery ? "query" : "trial"));
  for (const FlagSection& section : kFlagSections) {
    std::uint64_t mask = 0;
    for (int i = 0; i < std::stoi(values[section.key + std::string(".size")]);
         ++i) {
      const std::string at =
          section.key + std::string(".") + std::to_string(i) + ".";
      if (values[at + "supported"] == "true") {
        mask |= std::stoull(values[at + "bit"]);
      } else {
        EXPECT_EQ(values[at + "supported"], "false");
      }
    }
    EXPECT_EQ(mask, probe.*section.mask) << section.key;
  }
  for (unsigned opcode = 0; opcode < IORING_OP_LAST; ++opcode) {
    const std::string at = "ops." + std::to_string(opcode) + ".";
    EXPECT_EQ(values[at + "opcode"], std::to_string(opcode));
    EXPECT_EQ(values[at + "name"], Quoted(raw::kOps[opcode].name));
    EXPECT_EQ(values[at + "supported"], Boolean(probe.SupportsOp(opcode)));
  }
  EXPECT_EQ(values["ops.size"], std::to_string(IORING_OP_LAST));
  for (unsigned opcode = 0; opcode < IORING_REGISTER_LAST; ++opcode) {
    const std::string at = "register_ops." + std::to_string(opcode) + ".";
    EXPECT_EQ(values[at + "opcode"], std::to_string(opcode));
    EXPECT_EQ(values[at + "supported"],
              Boolean(probe.SupportsRegisterOp(opcode)));
  }
}

void ExpectRegions(Values& values, const std::string& at,
                   raw::Regions regions) {
  EXPECT_EQ(values[at + ".size"], std::to_string(regions.size())) << at;
  int i = 0;
  for (const raw::Region& region : regions) {
    const std::string one = at + "." + std::to_string(i++) + ".";
    EXPECT_EQ(values[one + "name"], Quoted(region.name));
    EXPECT_EQ(values[one + "until"], Quoted(NameOf(region.until)));
    EXPECT_EQ(values[one + "access"], Quoted(NameOf(region.access)));
    EXPECT_EQ(values[one + "note"], Quoted(region.note));
    ExpectRegions(values, one + "behind", region.behind);
  }
}

TEST_F(RingInfoJson, HasTheWholeContract) {
  Values values = ValuesOf(0);
  unsigned opcode = IORING_OP_LAST;
  int type = 0;
  raw::ForEachOp([&]<typename Op>() {
    type = Op::kInfo.opcode == opcode ? type + 1 : 0;
    opcode = Op::kInfo.opcode;
    const std::string at =
        "ops." + std::to_string(opcode) + ".types." + std::to_string(type);
    EXPECT_EQ(values[at + ".name"], Quoted(Op::kInfo.name));
    EXPECT_EQ(values[at + ".call"], Quoted(Op::kInfo.call));
    EXPECT_EQ(values[at + ".manual"], Quoted(Op::kInfo.manual));
    EXPECT_EQ(values[at + ".since"], Quoted(Op::kInfo.since));
    EXPECT_EQ(values[at + ".ends"], Quoted(NameOf(Op::kInfo.ends)));
    ExpectRegions(values, at + ".regions", raw::RegionsOf<Op>());
  });
  // One of them spelled out.
  EXPECT_EQ(values["ops.1.types.0.regions.1.name"], "\"vectors\"");
  EXPECT_EQ(values["ops.1.types.0.regions.1.until"], "\"consumed\"");
  EXPECT_EQ(values["ops.1.types.0.regions.1.behind.0.until"], "\"completion\"");
  EXPECT_EQ(values["ops.1.types.0.regions.1.behind.0.access"], "\"writes\"");
}

TEST_F(RingInfoJson, WithoutAQueryTriesEach) {
  Values values = ValuesOf(
      0, [] { testing::MakeRegisterFail(EINVAL, IORING_REGISTER_QUERY); });
  EXPECT_EQ(values["source"], "\"trial\"");
  EXPECT_EQ(values["limits.seccomp_filter"], "true");
  EXPECT_EQ(values["features.0.supported"], "true");
}

TEST_F(RingInfoJson, NamesTheFilterThatForbidsIt) {
  const struct Case {
    int error;
    const char* name;
    const char* obstacle;
  } cases[] = {{EPERM, "\"EPERM\"", "\"seccomp\""},
               {ENOSYS, "\"ENOSYS\"", "\"seccomp\""},
               {EACCES, "\"EACCES\"", "\"security\""},
               {EMFILE, "\"EMFILE\"", "\"descriptors\""},
               {ENFILE, "\"ENFILE\"", "\"descriptors\""},
               {EINVAL, "\"EINVAL\"", "\"request\""}};
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    Values values = ValuesOf(1, [&one] { testing::MakeSetupFail(one.error); });
    EXPECT_EQ(values["available"], "false");
    EXPECT_EQ(values["unavailable.call"], "\"io_uring_setup\"");
    EXPECT_EQ(values["unavailable.error"], one.name);
    EXPECT_EQ(values["unavailable.obstacle"], one.obstacle);
    EXPECT_EQ(values["unavailable.reason"] == "\"\"", one.error == EINVAL);
    EXPECT_EQ(values["source"], "null");
    // What is known without a kernel is there all the same.
    EXPECT_EQ(values["ops.size"], std::to_string(IORING_OP_LAST));
    EXPECT_EQ(values["ops.22.supported"], "null");
    EXPECT_EQ(values["ops.22.types.0.supported"], "null");
    EXPECT_EQ(values["setup_flags.0.supported"], "null");
    EXPECT_EQ(values["register_ops.0.supported"], "null");
  }
}

TEST_F(RingInfoJson, NamesTheKernelThatCannotBeAsked) {
  Values values = ValuesOf(
      1, [] { testing::MakeRegisterFail(EINVAL, IORING_REGISTER_PROBE); });
  EXPECT_EQ(values["unavailable.call"], "\"io_uring_register\"");
  EXPECT_EQ(values["unavailable.obstacle"], "\"kernel\"");
  EXPECT_NE(values["unavailable.reason"].find("older than 5.6"),
            std::string::npos);
}

void LockNothing() {
  // What root gets by becoming another program; who is not root has none.
  (void)prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
  const rlimit none = {0, 0};
  if (setrlimit(RLIMIT_MEMLOCK, &none) != 0) _exit(126);
}

TEST(RingInfo, NamesTheLimitOnLockedMemory) {
  const Outcome outcome = RunProgram({kRingInfo}, LockNothing);
  if (outcome.status == 0) {
    GTEST_SKIP() << "this kernel's rings are no locked memory";
  }
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_EQ(outcome.err.rfind("ringinfo: io_uring_setup: Cannot allocate "
                              "memory: rings count against",
                              0),
            0u)
      << outcome.err;
  EXPECT_NE(outcome.err.find("RLIMIT_MEMLOCK is 0 KiB"), std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.out.find("io_uring is not available.\n"),
            std::string::npos);
  EXPECT_NE(outcome.out.find("  remedy  raise it with 'ulimit -l'"),
            std::string::npos);
}

TEST(RingInfo, PrintsTablesThatFitATerminal) {
  const Outcome outcome = RunProgram({kRingInfo});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(outcome.out.rfind("io_uring is available.\n", 0), 0u);
  std::istringstream lines(outcome.out);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 100u) << line;
    EXPECT_FALSE(line.ends_with(' ')) << line;
  }
  for (const FlagSection& section : kFlagSections) {
    for (const raw::NamedFlag& flag : section.flags) {
      EXPECT_NE(outcome.out.find(std::string("\n  ") + flag.name + " "),
                std::string::npos)
          << flag.name;
    }
  }
  for (const raw::NamedRegisterOp& op : raw::kRegisterOps) {
    EXPECT_NE(outcome.out.find(std::string(" ") + op.name + " "),
              std::string::npos)
        << op.name;
  }
  raw::ForEachOp([&]<typename Op>() {
    const std::size_t at =
        outcome.out.find(std::string(" ") + Op::kInfo.name + " ");
    ASSERT_NE(at, std::string::npos) << Op::kInfo.name;
    const std::string line =
        outcome.out.substr(at, outcome.out.find('\n', at) - at);
    EXPECT_TRUE(line.ends_with(std::string(" ") + Op::kInfo.manual)) << line;
  });
  EXPECT_NE(outcome.out.find("   1 READV            Readv"), std::string::npos);
}

TEST(RingInfo, RefusesWhatItDoesNotKnow) {
  for (const char* argument : {"--jsn", "json", "-j", ""}) {
    const Outcome outcome = RunProgram({kRingInfo, argument});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find("Try --help."), std::string::npos);
  }
  const Outcome help = RunProgram({kRingInfo, "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_EQ(help.out.rfind("usage: ringinfo", 0), 0u);
}

TEST(RingInfo, FailsIfItCannotPrint) {
  const Outcome outcome = RunProgram(
      {kRingInfo}, [] {}, "", "/dev/full");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("standard output: No space left"),
            std::string::npos)
      << outcome.err;
}

// Kernels other than this one.

RingReport Report(const char* release) {
  RingReport report;
  report.evidence.kernel_release = release;
  report.probe.emplace();
  report.probe->ops[IORING_OP_READ] = true;
  report.probe->ops[IORING_OP_TIMEOUT] = true;
  return report;
}

TEST(RingReport, AFormOfAnOpcodeIsAsOldAsItsRelease) {
  const raw::OpInfo& plain = raw::Timeout::kInfo;               // 5.4
  const raw::OpInfo& multishot = raw::TimeoutMultishot::kInfo;  // 6.4
  EXPECT_EQ(Has(Report("6.4.0-cloud"), plain), true);
  EXPECT_EQ(Has(Report("6.4.0-cloud"), multishot), true);
  EXPECT_EQ(Has(Report("6.10.1"), multishot), true);
  EXPECT_EQ(Has(Report("10.1"), multishot), true);
  EXPECT_EQ(Has(Report("6.3.9"), multishot), std::nullopt);
  EXPECT_EQ(Has(Report("5.14.0-503.el9"), multishot), std::nullopt);
  // The opcode itself can be asked for, whatever the release.
  EXPECT_EQ(Has(Report("5.3.0"), plain), true);
  EXPECT_EQ(Has(Report("6.18.0"), raw::Write::kInfo), false);
  EXPECT_EQ(Has(RingReport(), plain), std::nullopt);
}

TEST(RingReport, ShowsWhatHasNoNameYet) {
  RingReport report = Report("9.1.0");
  report.probe->setup_flags = IORING_SETUP_SQPOLL | 1ull << 41;
  report.probe->op_count = IORING_OP_LAST + 3;
  const FlagSection& section = kFlagSections[1];
  EXPECT_EQ(Unnamed(report, section), 1ull << 41);
  EXPECT_EQ(Unnamed(RingReport(), section), 0u);
  const std::string text = ToText(report);
  EXPECT_NE(text.find("0x20000000000 "), std::string::npos);
  EXPECT_NE(text.find("and 3 more, newer than liburing"), std::string::npos);
  auto values = Parse(ToJson(report));
  if (!values) GTEST_SKIP() << "there is no python3";
  EXPECT_EQ((*values)["setup_flags.size"],
            std::to_string(section.flags.size() + 1));
  const std::string at =
      "setup_flags." + std::to_string(section.flags.size()) + ".";
  EXPECT_EQ((*values)[at + "name"], "null");
  EXPECT_EQ((*values)[at + "bit"], "2199023255552");
  EXPECT_EQ((*values)[at + "supported"], "true");
}

TEST(JsonWriter, WritesWhatPythonReads) {
  JsonWriter json;
  json.BeginObject();
  json.Member("quotes \" and \\", "a \"b\" \\ c");
  json.Member("control", std::string("\n\t\x01\x1f", 4));
  json.Member("utf8", "\u00e9");
  json.Member("true", true);
  json.Member("large", ~std::uint64_t{0});
  json.Member("negative", -1);
  json.Member("some", std::optional<int>(3));
  json.Member("none", std::optional<int>());
  json.BeginArray("empty");
  json.EndArray();
  json.BeginArray("array");
  json.Element(1);
  json.Element("two");
  json.BeginObject();
  json.EndObject();
  json.EndArray();
  json.BeginObject("object");
  json.Member("last", false);
  json.EndObject();
  json.EndObject();
  const auto values = Parse(json.text());
  if (!values) GTEST_SKIP() << "there is no python3";
  EXPECT_EQ(*values, (Values{{"quotes", "\" and \\ \"a \\\"b\\\" \\\\ c\""},
                             {"control", "\"\\n\\t\\u0001\\u001f\""},
                             {"utf8", "\"\\u00e9\""},
                             {"true", "true"},
                             {"large", "18446744073709551615"},
                             {"negative", "-1"},
                             {"some", "3"},
                             {"none", "null"},
                             {"empty.size", "0"},
                             {"array.size", "3"},
                             {"array.0", "1"},
                             {"array.1", "\"two\""},
                             {"object.last", "false"}}));
}

}  // namespace
}  // namespace escrow::examples
