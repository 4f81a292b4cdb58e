#include "escrow/raw/diagnosis.h"

#include <liburing.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace escrow::raw {
namespace {

std::optional<std::int64_t> ReadNumber(const char* path) {
  std::FILE* const file = std::fopen(path, "re");
  if (file == nullptr) return std::nullopt;
  long long value;
  const bool read = std::fscanf(file, "%lld", &value) == 1;
  std::fclose(file);
  return read ? std::optional<std::int64_t>(value) : std::nullopt;
}

std::optional<std::uint64_t> SoftLimit(int resource) {
  rlimit limit = {};
  if (getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0 ||
      limit.rlim_cur == RLIM_INFINITY) {
    return std::nullopt;
  }
  return limit.rlim_cur;
}

// Whoever is root in another one holds all capabilities, and none that counts.
bool IsInInitialUserNamespace() {
  std::FILE* const file = std::fopen("/proc/self/uid_map", "re");
  if (file == nullptr) return false;
  unsigned inside, outside, length;
  const bool read =
      std::fscanf(file, "%u %u %u", &inside, &outside, &length) == 3;
  std::fclose(file);
  return read && inside == 0 && outside == 0 && length == UINT32_MAX;
}

// A bit per CAP_*.
std::uint64_t EffectiveCapabilities() {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3,
                                     .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, data) != 0) return 0;
  return data[0].effective | std::uint64_t{data[1].effective} << 32;
}

bool HasSeccompFilter() {
  const int mode = prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
  // A kernel without seccomp says EINVAL; any other error is a filter's.
  return mode < 0 ? errno != EINVAL : mode == SECCOMP_MODE_FILTER;
}

bool IsInGroup(std::int64_t group) {
  if (group < 0) return false;
  if (getegid() == static_cast<gid_t>(group)) return true;
  const int count = getgroups(0, nullptr);
  if (count <= 0) return false;
  std::vector<gid_t> groups(static_cast<std::size_t>(count));
  const int got = getgroups(count, groups.data());
  const auto end = groups.begin() + std::max(got, 0);
  return std::find(groups.begin(), end, static_cast<gid_t>(group)) != end;
}

std::string KiB(std::uint64_t bytes) {
  return std::to_string(bytes / 1024) + " KiB";
}

std::string RingSize(unsigned entries) {
  return KiB(static_cast<std::uint64_t>(io_uring_memory_size(entries, 0)));
}

bool IsOlder(const Evidence& evidence, unsigned major, unsigned minor) {
  unsigned has_major = 0;
  unsigned has_minor = 0;
  if (std::sscanf(evidence.kernel_release.c_str(), "%u.%u", &has_major,
                  &has_minor) != 2) {
    return false;
  }
  return has_major != major ? has_major < major : has_minor < minor;
}

bool SysctlForbids(const Evidence& evidence) {
  const int disabled = evidence.io_uring_disabled.value_or(0);
  if (disabled == 1) {
    return !evidence.has_cap_sys_admin && !evidence.in_io_uring_group;
  }
  return disabled != 0;
}

constexpr const char* kAllowSystemCalls =
    "in a container, use --security-opt seccomp=unconfined or a profile that "
    "allows io_uring_setup, io_uring_enter and io_uring_register; in a systemd "
    "service, add @aio to SystemCallFilter=";

Diagnosis DiagnoseMissingCall(const Evidence& evidence) {
  const std::string kernel = "Linux " + evidence.kernel_release;
  if (IsOlder(evidence, 5, 1)) {
    return {.obstacle = Obstacle::kKernel,
            .reason = kernel + " is older than 5.1, the first with io_uring",
            .remedy = "use a newer kernel"};
  }
  // The sysctl is there if and only if io_uring is.
  if (evidence.io_uring_disabled) {
    if (evidence.has_seccomp_filter) {
      return {.obstacle = Obstacle::kSeccomp,
              .reason = "a seccomp filter hides it; " + kernel + " has it",
              .remedy = kAllowSystemCalls};
    }
    return {.obstacle = Obstacle::kSecurity,
            .reason = kernel + " has it, but something hides it",
            .remedy = "look for a sandbox or a debugger around the process"};
  }
  std::string reason;
  if (evidence.has_seccomp_filter) reason = "a seccomp filter hides it, or ";
  reason += kernel + " was built without CONFIG_IO_URING";
  if (IsOlder(evidence, 5, 19)) {
    reason += ", or is too old: a safe ring needs 5.19";
  }
  if (evidence.has_seccomp_filter) {
    return {.obstacle = Obstacle::kSeccomp,
            .reason = std::move(reason),
            .remedy = kAllowSystemCalls};
  }
  return {.obstacle = Obstacle::kKernel,
          .reason = std::move(reason),
          .remedy = "use another kernel"};
}

Diagnosis DiagnosePermission(const Evidence& evidence) {
  if (SysctlForbids(evidence)) {
    const bool some = evidence.io_uring_disabled == 1;
    std::string reason = "the sysctl kernel.io_uring_disabled is " +
                         std::to_string(*evidence.io_uring_disabled);
    reason += some ? ": only CAP_SYS_ADMIN and the members of group "
                     "kernel.io_uring_group, now " +
                         std::to_string(evidence.io_uring_group.value_or(-1)) +
                         ", may use io_uring"
                   : ": nobody may use io_uring";
    if (evidence.has_seccomp_filter) {
      reason += "; there is a seccomp filter too, which may forbid it as well";
    }
    std::string remedy = "as root: sysctl -w kernel.io_uring_disabled=0";
    if (some) {
      remedy += ", or sysctl -w kernel.io_uring_group=<number of a group>";
    }
    return {.obstacle = Obstacle::kSysctl,
            .reason = std::move(reason),
            .remedy = std::move(remedy)};
  }
  if (evidence.has_seccomp_filter) {
    return {.obstacle = Obstacle::kSeccomp,
            .reason =
                "a seccomp filter forbids it, as container runtimes' "
                "default profiles do; no sysctl does",
            .remedy = kAllowSystemCalls};
  }
  if (IsOlder(evidence, 5, 13)) {
    return {.obstacle = Obstacle::kRequest,
            .reason =
                "before Linux 5.13, IORING_SETUP_SQPOLL needs "
                "CAP_SYS_NICE or CAP_SYS_ADMIN",
            .remedy = "do without IORING_SETUP_SQPOLL"};
  }
  return {.obstacle = Obstacle::kSecurity,
          .reason =
              "neither a sysctl nor a seccomp filter forbids it: a "
              "security module or a sandbox does",
          .remedy = "look for what it logged"};
}

Diagnosis DiagnoseMemory(const Evidence& evidence) {
  if (evidence.has_cap_ipc_lock || !evidence.locked_memory_limit) {
    return {.obstacle = Obstacle::kMemory,
            .reason =
                "the machine or the memory control group has no memory "
                "left; no limit on locked memory applies",
            .remedy = "free some, or ask for fewer entries"};
  }
  return {.obstacle = Obstacle::kMemlock,
          .reason =
              "rings count against the locked memory of the user, in all "
              "processes together: RLIMIT_MEMLOCK is " +
              KiB(*evidence.locked_memory_limit) +
              ", a ring of 1 entry needs " + RingSize(1) +
              ", one of 256 entries " + RingSize(256),
          .remedy =
              "raise it with 'ulimit -l', ask for fewer entries, or reuse "
              "rings: the memory of a ring is given back some time after "
              "its end"};
}

}  // namespace

const char* NameOf(Obstacle obstacle) noexcept {
  switch (obstacle) {
    case Obstacle::kKernel:
      return "kernel";
    case Obstacle::kSysctl:
      return "sysctl";
    case Obstacle::kSeccomp:
      return "seccomp";
    case Obstacle::kSecurity:
      return "security";
    case Obstacle::kMemlock:
      return "memlock";
    case Obstacle::kMemory:
      return "memory";
    case Obstacle::kDescriptors:
      return "descriptors";
    case Obstacle::kRequest:
      break;
  }
  return "request";
}

Evidence GatherEvidence() {
  Evidence evidence;
  if (utsname system; uname(&system) == 0) {
    evidence.kernel_release = system.release;
  }
  if (const auto disabled = ReadNumber("/proc/sys/kernel/io_uring_disabled")) {
    evidence.io_uring_disabled = static_cast<int>(*disabled);
  }
  evidence.io_uring_group = ReadNumber("/proc/sys/kernel/io_uring_group");
  evidence.in_io_uring_group = IsInGroup(evidence.io_uring_group.value_or(-1));
  if (IsInInitialUserNamespace()) {
    const std::uint64_t capabilities = EffectiveCapabilities();
    evidence.has_cap_sys_admin = (capabilities >> CAP_SYS_ADMIN & 1) != 0;
    evidence.has_cap_ipc_lock = (capabilities >> CAP_IPC_LOCK & 1) != 0;
  }
  evidence.has_seccomp_filter = HasSeccompFilter();
  evidence.locked_memory_limit = SoftLimit(RLIMIT_MEMLOCK);
  evidence.open_files_limit = SoftLimit(RLIMIT_NOFILE);
  return evidence;
}

Diagnosis Diagnose(int error, const Evidence& evidence) {
  switch (error) {
    case ENOSYS:
      return DiagnoseMissingCall(evidence);
    case EPERM:
      return DiagnosePermission(evidence);
    case EACCES:
      return {.obstacle = Obstacle::kSecurity,
              .reason = evidence.has_seccomp_filter
                            ? "a security module such as SELinux, or the "
                              "seccomp filter, forbids it"
                            : "a security module such as SELinux forbids it",
              .remedy = "look for what it logged"};
    case ENOMEM:
      return DiagnoseMemory(evidence);
    case EMFILE:
      return {.obstacle = Obstacle::kDescriptors,
              .reason =
                  "the process has as many files open as RLIMIT_NOFILE allows" +
                  (evidence.open_files_limit
                       ? ": " + std::to_string(*evidence.open_files_limit)
                       : std::string()),
              .remedy = "close some, or raise it with 'ulimit -n'"};
    case ENFILE:
      return {.obstacle = Obstacle::kDescriptors,
              .reason =
                  "the machine has as many files open as the sysctl "
                  "fs.file-max allows",
              .remedy = "as root: sysctl -w fs.file-max=<more>"};
    default:
      return {.obstacle = Obstacle::kRequest, .reason = {}, .remedy = {}};
  }
}

}  // namespace escrow::raw
