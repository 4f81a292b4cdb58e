#include "tests/conformance/measure.h"

#include <liburing.h>
#include <sys/utsname.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/raw/all_ops.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "tests/conformance/stage.h"

namespace escrow::testing {
namespace {

using raw::Until;

void AddRows(const Row& op, const std::string& prefix, raw::Regions regions,
             std::vector<Row>& rows) {
  for (const raw::Region& region : regions) {
    Row row = op;
    row.region = prefix + region.name;
    row.access = region.access;
    row.until = region.until;
    rows.push_back(row);
    AddRows(op, row.region + '/', region.behind, rows);
  }
}

// "6.18" of "6.18.3-generic".
std::pair<int, int> Release(const char* text) {
  std::pair<int, int> release;
  Must(std::sscanf(text, "%d.%d", &release.first, &release.second) == 2,
       "a release of Linux");
  return release;
}

bool RunningKernelIs(const char* release) {
  utsname system;
  Must(uname(&system) == 0, "uname");
  return Release(release) <= Release(system.release);
}

struct ModeInfo {
  std::uint32_t setup_flags;
  const char* since;  // the first Linux release with them
};

ModeInfo InfoOf(Mode mode) {
  switch (mode) {
    case Mode::kDefault:
      return {0, "5.1"};
    case Mode::kDeferTaskrun:
      return {IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER, "6.1"};
    case Mode::kSqpoll:
      return {IORING_SETUP_SQPOLL, "5.11"};
  }
  return {};
}

// For stages: sparse tables, rings of buffers, cancelling everything.
constexpr const char* kStagesSince = "5.19";

// Before these releases, rows had another class than the one that they have now
// and the types state.
struct HeldSince {
  const char* ops;  // the start of their names
  const char* region;
  const char* since;
};
constexpr HeldSince kHeldSince[] = {
    {"", "buffer_index", "6.15"},
    {"Send", "address", "6.10"},
};

// What is newer than the running kernel, or empty.
std::string TooNew(const Row& row, Mode mode) {
  std::vector<const char*> needed = {row.since, InfoOf(mode).since,
                                     kStagesSince};
  for (const HeldSince& held : kHeldSince) {
    if (row.op.starts_with(held.ops) && row.region == held.region) {
      needed.push_back(held.since);
    }
  }
  for (const char* since : needed) {
    if (!RunningKernelIs(since)) return std::string("needs Linux ") + since;
  }
  return "";
}

// The ring for all runs of a kind: the kernel gives the memory of rings back
// late.
raw::Ring& RingFor(Mode mode, std::uint32_t setup_flags) {
  static auto& rings = *new std::map<std::uint32_t, std::unique_ptr<raw::Ring>>;
  const std::uint32_t flags = InfoOf(mode).setup_flags | setup_flags;
  std::unique_ptr<raw::Ring>& ring = rings[flags];
  for (int i = 0; ring == nullptr; ++i) {
    auto created = raw::Ring::Create(
        {.entries = 16, .setup_flags = flags, .sq_thread_idle_ms = 1});
    if (created) {
      ring = std::make_unique<raw::Ring>(*std::move(created));
    } else {
      errno = created.error().value();
      Must(errno == ENOMEM && i < 500, "io_uring_setup");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return *ring;
}

bool Matches(const NotMeasured& entry, const Row& row) {
  const std::string_view region = entry.region;
  return (std::string_view(entry.op) == "*" || entry.op == row.op) &&
         (row.region == region ||
          row.region.starts_with(std::string(region) + '/'));
}

// What a script names, found by running it without performing anything.
struct Names {
  std::set<std::string> regions;
  std::set<std::string> files;
  std::set<std::string> shared;
};

const Names& NamesOf(const NamedScript& script) {
  static auto& known = *new std::map<Script, Names>;
  const auto [found, is_new] = known.try_emplace(script.script);
  if (is_new) {
    Stage stage(RingFor(Mode::kDefault, script.setup_flags), {});
    script.script(stage);
    found->second = {stage.regions(), stage.files(), stage.shared()};
  }
  return found->second;
}

// The script that sets up the region; null if there is none.
const NamedScript* ScriptFor(const Row& row) {
  for (const NamedScript& script : AllScripts()) {
    if (script.op == row.op && NamesOf(script).regions.contains(row.region)) {
      return &script;
    }
  }
  return nullptr;
}

Report RunOnce(raw::Ring& ring, Script script, const Target& target) {
  Stage stage(ring, target);
  script(stage);
  return stage.Perform();
}

// Whether the kernel missed what was revoked. `*problem` if that cannot be
// said.
bool Missed(const Row& row, const Report& report, std::string* problem) {
  if (!report.trouble.empty()) *problem = report.trouble;
  if (report.written) return true;
  if (report.outcome == report.untouched) return false;
  // Any other file or slot than before explains another outcome; memory that is
  // gone explains only these.
  if (row.access != raw::Access::kHandle && !report.observed_otherwise &&
      report.outcome.find("-EFAULT") == std::string::npos) {
    *problem = "unexpected outcome: " + report.outcome +
               "; untouched: " + report.untouched;
  }
  return true;
}

}  // namespace

std::vector<Row> AllRows() {
  std::vector<Row> rows;
  raw::ForEachOp([&]<typename Op>() {
    Row row = {};
    row.op = Op::kInfo.name;
    row.since = Op::kInfo.since;
    row.ends = Op::kInfo.ends;
    AddRows(row, "", raw::RegionsOf<Op>(), rows);
  });
  return rows;
}

std::vector<std::string> FindGaps(
    const std::vector<Row>& rows, const std::vector<NamedScript>& scripts,
    const std::vector<NotMeasured>& not_measured) {
  std::vector<std::string> gaps;
  std::set<std::pair<std::string, std::string>> existing;
  for (const Row& row : rows) {
    const std::string name = row.op + "." + row.region;
    if (!existing.emplace(row.op, row.region).second) {
      gaps.push_back(name + ": there are two of that name");
    }
    bool measured = false;
    for (const NamedScript& script : scripts) {
      measured |=
          script.op == row.op && NamesOf(script).regions.contains(row.region);
    }
    bool excused = false;
    for (const NotMeasured& entry : not_measured) {
      excused |= Matches(entry, row);
    }
    if (!measured && !excused) gaps.push_back(name + ": not measured");
    if (measured && excused) {
      gaps.push_back(name + ": measured, and listed as not measured");
    }
  }
  for (const NotMeasured& entry : not_measured) {
    bool used = false;
    for (const Row& row : rows) used |= Matches(entry, row);
    if (!used) {
      gaps.push_back(std::string(entry.op) + "." + entry.region +
                     ": listed as not measured, but there is no such row");
    }
  }
  for (const NamedScript& script : scripts) {
    for (const std::string& region : NamesOf(script).regions) {
      if (!existing.contains({script.op, region})) {
        gaps.push_back(std::string(script.op) + "." + region +
                       ": measured, but there is no such row");
      }
    }
  }
  return gaps;
}

bool IsFile(const Row& row) {
  const NamedScript* const script = ScriptFor(row);
  return script != nullptr && NamesOf(*script).files.contains(row.region);
}

Verdict Check(const Row& row, Mode mode, bool slot) {
  for (const NotMeasured& entry : AllNotMeasured()) {
    if (Matches(entry, row)) return {.skipped = entry.reason};
  }
  if (const std::string too_new = TooNew(row, mode); !too_new.empty()) {
    return {.skipped = too_new};
  }
  const NamedScript* const script = ScriptFor(row);
  if (script == nullptr) return {.problem = "not measured"};
  raw::Ring& ring = RingFor(mode, script->setup_flags);

  const auto run = [&](Moment moment) {
    return RunOnce(ring, script->script, {row.region, moment, slot});
  };
  const Report control = run(Moment::kNever);
  if (!control.unavailable.empty()) {
    return {.skipped = control.unavailable};
  }
  if (!control.trouble.empty() || control.outcome != control.untouched) {
    return {.problem = "with nothing revoked: " + control.outcome + " " +
                       control.trouble + "; expected: " + control.untouched};
  }
  const Until ends = control.notified ? Until::kNotification
                     : control.more   ? Until::kLastCompletion
                                      : Until::kCompletion;
  if (ends != row.ends) {
    return {.problem = "ends with the " + std::string(NameOf(ends)) + ": " +
                       control.outcome};
  }

  const bool handle = row.access == raw::Access::kHandle;
  std::string log = "with nothing revoked: " + control.outcome;
  Until measured = Until::kConsumed;
  std::string problem;
  const auto revoke_at = [&](Moment moment, const char* when, Until if_missed) {
    const Report report = run(moment);
    log += "\nrevoked " + std::string(when) + ": " + report.outcome;
    if (report.written) log += " (and written)";
    if (Missed(row, report, &problem)) measured = if_missed;
  };
  revoke_at(Moment::kSubmitted, "after the submit",
            handle ? Until::kIssued : Until::kCompletion);
  // Nothing tells when a handle is looked up for the last time, so that all
  // have one class. (A multishot request looks its group up for each
  // completion.)
  if (!handle && control.more) {
    revoke_at(Moment::kFirstCompletion, "after the first completion",
              control.notified ? Until::kNotification : Until::kLastCompletion);
  }
  if (!handle && NamesOf(*script).shared.contains(row.region)) {
    revoke_at(Moment::kEnd, "after the end", Until::kUnregistered);
  }
  if (problem.empty() && measured != row.until) {
    problem = "measured: " + std::string(NameOf(measured));
  }
  if (!problem.empty()) {
    problem +=
        "\nthe contract says: " + std::string(NameOf(row.until)) + "\n" + log;
  }
  return {.problem = problem};
}

}  // namespace escrow::testing
