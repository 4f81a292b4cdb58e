#include <liburing.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "escrow/examples/ring_report.h"
#include "escrow/raw/all_ops.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/diagnosis.h"
#include "escrow/raw/names.h"
#include "escrow/raw/probe.h"

namespace escrow::examples {
namespace {

[[gnu::format(printf, 2, 3)]] void Print(std::string& text, const char* format,
                                         ...) {
  char line[300];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof(line), format, arguments);
  va_end(arguments);
  text += line;
}

const char* Answer(std::optional<bool> has) {
  if (!has) return "?";
  return *has ? "yes" : "no";
}

std::string KiB(std::uint64_t bytes) {
  return std::to_string(bytes / 1024) + " KiB";
}

std::string DisabledSysctl(const raw::Evidence& evidence) {
  if (!evidence.io_uring_disabled) return "none: Linux 6.6 brought it";
  const std::string value = std::to_string(*evidence.io_uring_disabled);
  switch (*evidence.io_uring_disabled) {
    case 0:
      return value + ": everybody may use io_uring";
    case 1: {
      std::string who = value +
                        ": only CAP_SYS_ADMIN and the members of group " +
                        std::to_string(evidence.io_uring_group.value_or(-1));
      if (evidence.has_cap_sys_admin) return who + "; this process has it";
      if (evidence.in_io_uring_group) return who + "; this process is in it";
      return who + "; not this process";
    }
    default:
      return value + ": nobody may use io_uring";
  }
}

std::string LockedMemory(const raw::Evidence& evidence) {
  const std::string limit = evidence.locked_memory_limit
                                ? KiB(*evidence.locked_memory_limit)
                                : "unlimited";
  return evidence.has_cap_ipc_lock
             ? limit + ", but not for this process: it has CAP_IPC_LOCK"
             : limit + ", of the user, in all processes together";
}

void PrintHead(std::string& text, const RingReport& report) {
  if (report.probe) {
    text += "io_uring is available.\n";
  } else {
    text += "io_uring is not available.\n";
    Print(text, "  error   %s: %s\n", report.error.category().name(),
          std::generic_category().message(report.error.value()).c_str());
    if (!report.diagnosis.reason.empty()) {
      text += "  reason  " + report.diagnosis.reason + "\n";
    }
    if (!report.diagnosis.remedy.empty()) {
      text += "  remedy  " + report.diagnosis.remedy + "\n";
    }
  }
  if (report.use) {
    Print(text, "%s with //sim:fallback: %s, %zu operations\n  because %s\n",
          "Rings in use", report.use->emulated ? "emulated" : "the kernel's",
          report.use->operations, report.use->why.c_str());
  }
  const raw::Evidence& evidence = report.evidence;
  Print(text, "\n%-28sLinux %s\n", "Kernel", evidence.kernel_release.c_str());
  Print(text, "%-28s%s, compiled against %s\n", "liburing",
        ToString(raw::LinkedLiburing()).c_str(),
        ToString(raw::kCompiledLiburing).c_str());
  text += "Limits\n";
  Print(text, "  %-26s%s\n", "kernel.io_uring_disabled",
        DisabledSysctl(evidence).c_str());
  Print(text, "  %-26s%s\n", "seccomp filter",
        evidence.has_seccomp_filter ? "yes: may forbid some of it" : "no");
  Print(text, "  %-26s%s\n", "locked memory", LockedMemory(evidence).c_str());
  Print(text, "  %-26s1 entry: %s, 256 entries: %s\n", "  taken by a ring of",
        KiB(static_cast<std::uint64_t>(io_uring_memory_size(1, 0))).c_str(),
        KiB(static_cast<std::uint64_t>(io_uring_memory_size(256, 0))).c_str());
  Print(text, "  %-26s%s\n", "open files",
        evidence.open_files_limit
            ? std::to_string(*evidence.open_files_limit).c_str()
            : "unlimited");
  if (report.probe && report.probe->source == raw::Probe::Source::kTrial) {
    text +=
        "\nThis kernel does not list its flags (Linux 6.18 does): those below "
        "were found by trying each.\n";
  }
}

void PrintFlags(std::string& text, const RingReport& report,
                const FlagSection& section) {
  Print(text, "\n%-34s %-5s%-7s%s\n", section.title, "here", "since",
        "meaning");
  for (const raw::NamedFlag& flag : section.flags) {
    Print(text, "  %-32s %-5s%-7s%s\n", flag.name,
          Answer(Has(report, section, flag)), flag.since, flag.meaning);
  }
  if (const std::uint64_t unnamed = Unnamed(report, section); unnamed != 0) {
    Print(text, "  %#-32llx yes  newer than liburing %s\n",
          static_cast<unsigned long long>(unnamed),
          ToString(raw::kCompiledLiburing).c_str());
  }
}

void PrintRegisterOps(std::string& text, const RingReport& report) {
  Print(text, "\n%-38s %-5s%s\n", "Register operations", "here", "since");
  for (const raw::NamedRegisterOp& op : raw::kRegisterOps) {
    Print(text, "  %2u %-33s %-5s%s\n", op.opcode, op.name,
          Answer(Has(report, op)), op.since);
  }
}

void PrintRegions(std::string& text, raw::Regions regions, int depth) {
  for (const raw::Region& region : regions) {
    Print(text, "%*s%-*s%-17s %s\n", 22 + 2 * depth, "", 33 - 2 * depth,
          region.name, raw::NameOf(region.access), raw::NameOf(region.until));
    PrintRegions(text, region.behind, depth + 1);
  }
}

void PrintOps(std::string& text, const RingReport& report) {
  Print(text, "\n%-48s%-5s%-7s%s\n", "Operations", "here", "since", "manual");
  Print(text, "%22s%-33s%-17s %s\n", "", "  what it refers to", "the kernel",
        "until");
  for (const raw::NamedOp& op : raw::kOps) {
    std::string_view name = op.name;
    name.remove_prefix(std::string_view("IORING_OP_").size());
    bool first = true;
    raw::ForEachOp([&]<typename Op>() {
      if (Op::kInfo.opcode != op.opcode) return;
      if (first) {
        Print(text, "  %2u %-16s ", op.opcode, name.data());
      } else {
        Print(text, "%22s", "");
      }
      first = false;
      Print(text, "%-26s%-5s%-7s%s\n", Op::kInfo.name,
            Answer(Has(report, Op::kInfo)), Op::kInfo.since, Op::kInfo.manual);
      PrintRegions(text, raw::RegionsOf<Op>(), 1);
    });
  }
  if (report.probe && report.probe->op_count > IORING_OP_LAST) {
    Print(text, "  and %u more, newer than liburing %s\n",
          report.probe->op_count - IORING_OP_LAST,
          ToString(raw::kCompiledLiburing).c_str());
  }
  text +=
      "\n"
      "\"?\" is unknown: the kernel has the opcode, but is older than this "
      "form "
      "of it, which cannot be\n"
      "asked for. What \"until\" means is in docs/lifetimes.md.\n";
}

}  // namespace

std::string ToText(const RingReport& report) {
  std::string text;
  PrintHead(text, report);
  for (const FlagSection& section : kFlagSections) {
    PrintFlags(text, report, section);
  }
  PrintRegisterOps(text, report);
  PrintOps(text, report);
  return text;
}

}  // namespace escrow::examples
