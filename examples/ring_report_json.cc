#include <liburing.h>
#include <string.h>

#include <cstdint>
#include <optional>
#include <string>

#include "escrow/examples/json.h"
#include "escrow/examples/ring_report.h"
#include "escrow/raw/all_ops.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/diagnosis.h"
#include "escrow/raw/names.h"
#include "escrow/raw/probe.h"

namespace escrow::examples {
namespace {

void WriteLimits(JsonWriter& json, const raw::Evidence& evidence) {
  json.BeginObject("limits");
  json.Member("io_uring_disabled", evidence.io_uring_disabled);
  json.Member("io_uring_group", evidence.io_uring_group);
  json.Member("in_io_uring_group", evidence.in_io_uring_group);
  json.Member("cap_sys_admin", evidence.has_cap_sys_admin);
  json.Member("cap_ipc_lock", evidence.has_cap_ipc_lock);
  json.Member("seccomp_filter", evidence.has_seccomp_filter);
  json.Member("locked_memory", evidence.locked_memory_limit);
  json.Member("open_files", evidence.open_files_limit);
  json.EndObject();
}

void WriteFlags(JsonWriter& json, const RingReport& report,
                const FlagSection& section) {
  json.BeginArray(section.key);
  for (const raw::NamedFlag& flag : section.flags) {
    json.BeginObject();
    json.Member("name", flag.name);
    json.Member("bit", flag.bit);
    json.Member("since", flag.since);
    json.Member("meaning", flag.meaning);
    json.Member("supported", Has(report, section, flag));
    json.EndObject();
  }
  const std::uint64_t unnamed = Unnamed(report, section);
  for (std::uint64_t bit = 1; bit != 0; bit <<= 1) {
    if ((unnamed & bit) == 0) continue;
    json.BeginObject();
    json.Member("name", std::optional<std::string>());
    json.Member("bit", bit);
    json.Member("since", std::optional<std::string>());
    json.Member("meaning", std::optional<std::string>());
    json.Member("supported", true);
    json.EndObject();
  }
  json.EndArray();
}

void WriteRegisterOps(JsonWriter& json, const RingReport& report) {
  json.BeginArray("register_ops");
  for (const raw::NamedRegisterOp& op : raw::kRegisterOps) {
    json.BeginObject();
    json.Member("opcode", op.opcode);
    json.Member("name", op.name);
    json.Member("since", op.since);
    json.Member("supported", Has(report, op));
    json.EndObject();
  }
  json.EndArray();
}

void WriteRegions(JsonWriter& json, const char* key, raw::Regions regions) {
  json.BeginArray(key);
  for (const raw::Region& region : regions) {
    json.BeginObject();
    json.Member("name", region.name);
    json.Member("access", raw::NameOf(region.access));
    json.Member("until", raw::NameOf(region.until));
    json.Member("note", region.note);
    WriteRegions(json, "behind", region.behind);
    json.EndObject();
  }
  json.EndArray();
}

void WriteOps(JsonWriter& json, const RingReport& report) {
  json.BeginArray("ops");
  for (const raw::NamedOp& op : raw::kOps) {
    json.BeginObject();
    json.Member("opcode", op.opcode);
    json.Member("name", op.name);
    json.Member("supported", Has(report, op));
    json.BeginArray("types");
    raw::ForEachOp([&]<typename Op>() {
      if (Op::kInfo.opcode != op.opcode) return;
      json.BeginObject();
      json.Member("name", Op::kInfo.name);
      json.Member("call", Op::kInfo.call);
      json.Member("manual", Op::kInfo.manual);
      json.Member("since", Op::kInfo.since);
      json.Member("supported", Has(report, Op::kInfo));
      json.Member("ends", raw::NameOf(Op::kInfo.ends));
      WriteRegions(json, "regions", raw::RegionsOf<Op>());
      json.EndObject();
    });
    json.EndArray();
    json.EndObject();
  }
  json.EndArray();
}

}  // namespace

std::string ToJson(const RingReport& report) {
  JsonWriter json;
  json.BeginObject();
  json.Member("available", report.probe.has_value());
  if (!report.probe) {
    const char* const name = strerrorname_np(report.error.value());
    json.BeginObject("unavailable");
    json.Member("call", report.error.category().name());
    json.Member("error", name != nullptr ? name : "unknown");
    json.Member("obstacle", raw::NameOf(report.diagnosis.obstacle));
    json.Member("reason", report.diagnosis.reason);
    json.Member("remedy", report.diagnosis.remedy);
    json.EndObject();
  }
  json.BeginObject("in_use");
  std::optional<std::string> rings;
  std::optional<std::string> why;
  std::optional<std::uint64_t> operations;
  if (report.use) {
    rings = report.use->emulated ? "fallback" : "kernel";
    why = report.use->why;
    operations = report.use->operations;
  }
  json.Member("rings", rings);
  json.Member("why", why);
  json.Member("operations", operations);
  json.EndObject();
  json.Member("kernel", report.evidence.kernel_release);
  json.BeginObject("liburing");
  json.Member("compiled", ToString(raw::kCompiledLiburing));
  json.Member("linked", ToString(raw::LinkedLiburing()));
  json.EndObject();
  WriteLimits(json, report.evidence);
  std::optional<std::string> source;
  if (report.probe) {
    source =
        report.probe->source == raw::Probe::Source::kQuery ? "query" : "trial";
  }
  json.Member("source", source);
  for (const FlagSection& section : kFlagSections) {
    WriteFlags(json, report, section);
  }
  WriteRegisterOps(json, report);
  WriteOps(json, report);
  json.EndObject();
  return json.text() + "\n";
}

}  // namespace escrow::examples
