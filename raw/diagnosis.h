#ifndef ESCROW_RAW_DIAGNOSIS_H_
#define ESCROW_RAW_DIAGNOSIS_H_

#include <cstdint>
#include <optional>
#include <string>

// Why a process cannot have a ring.
//
//   auto ring = raw::Ring::Create({});
//   if (!ring) {
//     const raw::Diagnosis why =
//         raw::Diagnose(ring.error().value(), raw::GatherEvidence());
//     std::cerr << why.reason << "\n" << why.remedy << "\n";
//   }
//
// The messages of raw::SetupCategory() are made of this too.

namespace escrow::raw {

enum class Obstacle : std::uint8_t {
  kKernel,       // has no io_uring, or none that is new enough
  kSysctl,       // kernel.io_uring_disabled
  kSeccomp,      // a filter of system calls, as containers have it
  kSecurity,     // SELinux or another security module
  kMemlock,      // the user's limit on locked memory
  kMemory,       // there is no more
  kDescriptors,  // the limit on open files, of the process or of the machine
  kRequest,      // the machine is fine; what was asked for is not
};

// "kernel", "sysctl", "seccomp", "security", "memlock", "memory",
// "descriptors", "request".
const char* NameOf(Obstacle obstacle) noexcept;

// What the calling thread sees of what decides whether it may have a ring.
struct Evidence {
  std::string kernel_release;  // as uname -r prints it

  // The sysctls kernel.io_uring_disabled: 0 for everybody, 1 with
  // CAP_SYS_ADMIN or in group kernel.io_uring_group (-1 is none), 2 for nobody.
  // Linux 6.6; none where there is no such sysctl or no /proc.
  std::optional<int> io_uring_disabled;
  std::optional<std::int64_t> io_uring_group;
  bool in_io_uring_group = false;

  // These count in the initial user namespace only, and are false in others.
  bool has_cap_sys_admin = false;
  bool has_cap_ipc_lock = false;  // no limit on locked memory

  bool has_seccomp_filter = false;

  // RLIMIT_MEMLOCK, in bytes, and RLIMIT_NOFILE; none is unlimited.
  std::optional<std::uint64_t> locked_memory_limit;
  std::optional<std::uint64_t> open_files_limit;
};

struct Diagnosis {
  Obstacle obstacle;
  std::string reason;  // what forbids it, and by which evidence
  std::string remedy;  // what to do about it; empty if nothing is known
};

// Reads /proc and asks for limits; makes no system call of io_uring.
Evidence GatherEvidence();

// What made io_uring_setup(2) fail with errno `error` for a thread of which
// `evidence` is true. Of the machine that it runs on, only the page size
// counts.
Diagnosis Diagnose(int error, const Evidence& evidence);

}  // namespace escrow::raw

#endif  // ESCROW_RAW_DIAGNOSIS_H_
