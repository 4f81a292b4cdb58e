// Prints what the running kernel's io_uring has, or why there is none.

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "escrow/examples/ring_report.h"
#include "escrow/raw/probe.h"
#include "escrow/sim/fallback.h"

namespace escrow::examples {
namespace {

constexpr const char kHelp[] =
    R"(usage: ringinfo [--json]

Prints what io_uring has on this machine: kernel, liburing, limits, features,
flags, operations. For each operation it says how long the kernel uses what the
operation refers to. When there is no io_uring, it says why, and what to do
about it.

  --json  as an object of JSON
  --help  this text

Exit status: 0 if there is io_uring, 1 if not (the reason is on standard error
too), 2 if the arguments are wrong.

The members of the object:
  available     bool
  unavailable   only if not: {call, error, obstacle, reason, remedy}; error is
                as in errno(3); obstacle is kernel, sysctl, seccomp, security,
                memlock, memory, descriptors or request; the others are text
  in_use        {rings, why, operations}: whose the rings are of a program that
                has //sim:fallback: "kernel" or "fallback", null if nobody's;
                why; and how many of the operations they have
  kernel        the release, as uname -r prints it
  liburing      {compiled, linked}: versions
  limits        {io_uring_disabled, io_uring_group: sysctls, null if there are
                none; in_io_uring_group, cap_sys_admin, cap_ipc_lock,
                seccomp_filter: of this process; locked_memory, open_files: its
                limits, in bytes and descriptors, null if unlimited}
  source        "query" if the kernel listed its flags, "trial" if each was
                tried; null if there is no io_uring
  features, setup_flags, enter_flags, sqe_flags
                [{name, bit, since, meaning, supported}]; name, since and
                meaning are null for what is newer than liburing's header
  register_ops  [{opcode, name, since, supported}]
  ops           [{opcode, name, supported, types}]; types are escrow's, one or
                more for an opcode: [{name, call, manual, since, supported,
                ends, regions}]
  regions       what a type refers to: [{name, access, until, note, behind}];
                behind are the regions that it points to, in turn
  access        what the kernel does with it: reads, writes, reads and writes,
                uses the address, looks up
  ends, until   consumed, issued, completion, last completion, notification,
                unregistered or teardown, as in docs/lifetimes.md
  supported     bool; null if there is no io_uring, and for a type that is a
                form of its opcode which this kernel's release is too old for,
                unless it was ported back
  since         the release of Linux that brought it
)";

bool Print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) {
    return true;
  }
  std::perror("ringinfo: standard output");
  return false;
}

// As the environment says, which the answer to the kernel's probe is not.
std::optional<RingUse> AskForUse(const RingReport& report) {
  const auto probe = raw::Probe::Ask();
  if (!probe) return std::nullopt;
  RingUse use;
  const sim::FallbackUse last = sim::LastFallbackUse();
  use.emulated = last.emulated;
  if (!last.emulated) {
    use.why = "the kernel allows it";
  } else if (last.error == 0) {
    use.why = "ESCROW_FALLBACK says so";
  } else {
    use.why = WhyUnavailable(report);
  }
  use.operations = probe->ops.count();
  return use;
}

int Main(int argc, char** argv) {
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--json") {
      json = true;
    } else if (argument == "--help") {
      return Print(kHelp) ? 0 : 1;
    } else {
      std::fprintf(stderr, "ringinfo: %s: not an option\nTry --help.\n",
                   argv[i]);
      return 2;
    }
  }
  const sim::Fallback policy = sim::GetFallback();
  sim::SetFallback(sim::Fallback::kNever);
  RingReport report = InspectRing();
  sim::SetFallback(policy);
  report.use = AskForUse(report);
  const bool printed = Print(json ? ToJson(report) : ToText(report));
  if (!report.probe) {
    std::fprintf(stderr, "ringinfo: %s\n", WhyUnavailable(report).c_str());
  }
  return printed && report.probe ? 0 : 1;
}

}  // namespace
}  // namespace escrow::examples

int main(int argc, char** argv) { return escrow::examples::Main(argc, argv); }
