#include "escrow/raw/error.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

namespace escrow::raw {
namespace {

std::string MemlockLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "unknown";
  if (limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return std::to_string(limit.rlim_cur / 1024) + " KiB";
}

// What /proc/sys/kernel/io_uring_disabled says, or -1 where there is none
// (before Linux 6.6).
int DisabledSysctl() {
  int value = -1;
  if (std::FILE* file =
          std::fopen("/proc/sys/kernel/io_uring_disabled", "re")) {
    if (std::fscanf(file, "%d", &value) != 1) value = -1;
    std::fclose(file);
  }
  return value;
}

class SetupErrors final : public CallCategory {
 public:
  SetupErrors() noexcept : CallCategory("io_uring_setup") {}

  std::string message(int error) const override {
    std::string what = CallCategory::message(error);
    switch (error) {
      case ENOSYS:
        return what +
               " (the kernel is older than 5.1, or than 5.19 for a safe ring, "
               "was built without "
               "CONFIG_IO_URING, or a seccomp "
               "filter hides it)";
      case EPERM:
        if (const int disabled = DisabledSysctl(); disabled > 0) {
          return what + " (sysctl kernel.io_uring_disabled is " +
                 std::to_string(disabled) +
                 (disabled == 1 ? ": only CAP_SYS_ADMIN and "
                                  "kernel.io_uring_group may use it)"
                                : ": nobody may use it)");
        }
        return what +
               " (a seccomp filter forbids it, as container runtimes' default "
               "profiles do)";
      case ENOMEM:
        return what +
               " (rings count against the locked memory of the user, in all "
               "processes together; "
               "RLIMIT_MEMLOCK"
               " is " +
               MemlockLimit() +
               ": raise it with 'ulimit -l', ask for fewer entries, or reuse "
               "rings)";
      default:
        return what;
    }
  }
};

}  // namespace

const std::error_category& SetupCategory() noexcept {
  static const auto& category = *new SetupErrors;
  return category;
}

const std::error_category& EnterCategory() noexcept {
  static const auto& category = *new CallCategory("io_uring_enter");
  return category;
}

const std::error_category& RegisterCategory() noexcept {
  static const auto& category = *new CallCategory("io_uring_register");
  return category;
}

std::string CallCategory::message(int error) const {
  return std::string(call_) + ": " + std::generic_category().message(error);
}

std::error_condition CallCategory::default_error_condition(
    int error) const noexcept {
  return std::generic_category().default_error_condition(error);
}

}  // namespace escrow::raw
