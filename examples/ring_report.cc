#include "escrow/examples/ring_report.h"

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "escrow/raw/all_ops.h"
#include "escrow/raw/diagnosis.h"
#include "escrow/raw/error.h"
#include "escrow/raw/names.h"
#include "escrow/raw/op.h"
#include "escrow/raw/probe.h"

namespace escrow::examples {
namespace {

std::expected<raw::Probe, std::error_code> AskPatiently() {
  using std::chrono::milliseconds;
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(500);
  for (;;) {
    auto probe = raw::Probe::Ask();
    if (probe || probe.error().value() != ENOMEM ||
        std::chrono::steady_clock::now() > deadline) {
      return probe;
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
}

using Release = std::pair<unsigned, unsigned>;

Release ParseRelease(const char* text) {
  Release release;
  std::sscanf(text, "%u.%u", &release.first, &release.second);
  return release;
}

// The release that brought the opcode: that of the first type that has it.
std::string_view ReleaseOf(io_uring_op opcode) {
  std::string_view since;
  raw::ForEachOp([&]<typename Op>() {
    if (Op::kInfo.opcode == opcode && since.empty()) since = Op::kInfo.since;
  });
  return since;
}

}  // namespace

RingReport InspectRing() {
  RingReport report;
  report.evidence = raw::GatherEvidence();
  const auto probe = AskPatiently();
  if (probe) {
    report.probe = *probe;
    return report;
  }
  report.error = probe.error();
  if (probe.error() == std::error_code(EINVAL, raw::RegisterCategory())) {
    report.diagnosis = {.obstacle = raw::Obstacle::kKernel,
                        .reason = "Linux " + report.evidence.kernel_release +
                                  " has io_uring, but is older than 5.6: it "
                                  "cannot be asked what of it",
                        .remedy = "use a newer kernel"};
  } else {
    report.diagnosis = raw::Diagnose(probe.error().value(), report.evidence);
  }
  return report;
}

std::string WhyUnavailable(const RingReport& report) {
  std::string why = report.error.category().name();
  why += ": " + std::generic_category().message(report.error.value());
  if (!report.diagnosis.reason.empty()) why += ": " + report.diagnosis.reason;
  return why;
}

std::optional<bool> Has(const RingReport& report, const FlagSection& section,
                        const raw::NamedFlag& flag) {
  if (!report.probe) return std::nullopt;
  return ((*report.probe).*section.mask & flag.bit) != 0;
}

std::optional<bool> Has(const RingReport& report,
                        const raw::NamedRegisterOp& op) {
  if (!report.probe) return std::nullopt;
  return report.probe->SupportsRegisterOp(op.opcode);
}

std::optional<bool> Has(const RingReport& report, const raw::NamedOp& op) {
  if (!report.probe) return std::nullopt;
  return report.probe->SupportsOp(op.opcode);
}

std::optional<bool> Has(const RingReport& report, const raw::OpInfo& type) {
  if (!report.probe) return std::nullopt;
  if (!report.probe->SupportsOp(type.opcode)) return false;
  if (type.since == ReleaseOf(type.opcode) ||
      ParseRelease(report.evidence.kernel_release.c_str()) >=
          ParseRelease(type.since)) {
    return true;
  }
  return std::nullopt;
}

std::uint64_t Unnamed(const RingReport& report, const FlagSection& section) {
  if (!report.probe) return 0;
  std::uint64_t unnamed = (*report.probe).*section.mask;
  for (const raw::NamedFlag& flag : section.flags) unnamed &= ~flag.bit;
  return unnamed;
}

std::string ToString(raw::LiburingVersion version) {
  return std::to_string(version.major_number) + "." +
         std::to_string(version.minor_number);
}

}  // namespace escrow::examples
