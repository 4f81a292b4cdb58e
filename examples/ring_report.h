#ifndef ESCROW_EXAMPLES_RING_REPORT_H_
#define ESCROW_EXAMPLES_RING_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <system_error>

#include "escrow/raw/diagnosis.h"
#include "escrow/raw/names.h"
#include "escrow/raw/op.h"
#include "escrow/raw/probe.h"

// What io_uring is like on this machine, for a person or a program to read.

namespace escrow::examples {

// Whose the rings are of a program here that has //sim:fallback.
struct RingUse {
  bool emulated = false;
  std::string why;
  std::size_t operations = 0;  // how many of IORING_OP_*
};

struct RingReport {
  raw::Evidence evidence;

  // What there is; none if `error` is the reason.
  std::optional<raw::Probe> probe;
  std::error_code error;
  raw::Diagnosis diagnosis = {};  // of the error

  // None if there are no rings of either kind, or if nobody has asked.
  std::optional<RingUse> use;
};

// For the calling thread. When rings that others have just closed hold too much
// memory, waits for it for half a second.
RingReport InspectRing();

// Why there is no io_uring, in one line.
std::string WhyUnavailable(const RingReport& report);

// Tables of at most 100 columns.
std::string ToText(const RingReport& report);

// As `ringinfo --help` says.
std::string ToJson(const RingReport& report);

// What both are made of.

// A mask of the probe and the names of its bits.
struct FlagSection {
  const char* key;
  const char* title;
  std::span<const raw::NamedFlag> flags;
  std::uint64_t raw::Probe::*mask;
};

inline constexpr FlagSection kFlagSections[] = {
    {"features", "Features", raw::kFeatures, &raw::Probe::features},
    {"setup_flags", "Setup flags", raw::kSetupFlags, &raw::Probe::setup_flags},
    {"enter_flags", "Enter flags", raw::kEnterFlags, &raw::Probe::enter_flags},
    {"sqe_flags", "Entry flags", raw::kSqeFlags, &raw::Probe::sqe_flags},
};

// Whether the kernel has it. None if that is unknown, because there is no
// probe, or because a type of operation is a later form of an older one: then
// only the kernel's release tells, and an old release may have got it too.
std::optional<bool> Has(const RingReport& report, const FlagSection& section,
                        const raw::NamedFlag& flag);
std::optional<bool> Has(const RingReport& report,
                        const raw::NamedRegisterOp& op);
std::optional<bool> Has(const RingReport& report, const raw::NamedOp& op);
std::optional<bool> Has(const RingReport& report, const raw::OpInfo& type);

// Bits that the kernel has and liburing's header has no name for.
std::uint64_t Unnamed(const RingReport& report, const FlagSection& section);

std::string ToString(raw::LiburingVersion version);

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_RING_REPORT_H_
