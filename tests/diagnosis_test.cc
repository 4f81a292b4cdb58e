// Why a process cannot have a ring, on machines that do not exist and in
// processes that really cannot.

#include "escrow/raw/diagnosis.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ostream>
#include <string>
#include <system_error>

#include "escrow/raw/error.h"
#include "escrow/raw/ring.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support.h"

namespace escrow::raw {

// For gtest's messages.
void PrintTo(Obstacle obstacle, std::ostream* out) { *out << NameOf(obstacle); }

namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A machine on which everybody may have rings.
Evidence Machine() {
  return {.kernel_release = "6.12.9-amd64",
          .io_uring_disabled = 0,
          .io_uring_group = -1,
          .in_io_uring_group = false,
          .has_cap_sys_admin = false,
          .has_cap_ipc_lock = false,
          .has_seccomp_filter = false,
          .locked_memory_limit = 8 << 20,
          .open_files_limit = 1024};
}

Evidence OldMachine(const char* release) {
  Evidence evidence = Machine();
  evidence.kernel_release = release;
  evidence.io_uring_disabled.reset();
  evidence.io_uring_group.reset();
  return evidence;
}

TEST(Diagnose, TheSysctl) {
  Evidence evidence = Machine();
  evidence.io_uring_disabled = 2;
  // For everybody.
  evidence.has_cap_sys_admin = true;
  evidence.in_io_uring_group = true;
  const Diagnosis nobody = Diagnose(EPERM, evidence);
  EXPECT_EQ(nobody.obstacle, Obstacle::kSysctl);
  EXPECT_THAT(nobody.reason,
              AllOf(HasSubstr("io_uring_disabled is 2"), HasSubstr("nobody"),
                    Not(HasSubstr("seccomp"))));
  EXPECT_THAT(nobody.remedy, HasSubstr("sysctl -w kernel.io_uring_disabled=0"));

  evidence = Machine();
  evidence.io_uring_disabled = 1;
  evidence.io_uring_group = 117;
  const Diagnosis some = Diagnose(EPERM, evidence);
  EXPECT_EQ(some.obstacle, Obstacle::kSysctl);
  EXPECT_THAT(some.reason,
              AllOf(HasSubstr("io_uring_disabled is 1"),
                    HasSubstr("CAP_SYS_ADMIN"), HasSubstr("now 117")));
  EXPECT_THAT(some.remedy, HasSubstr("kernel.io_uring_group="));

  // A filter comes first, but the sysctl forbids it for certain.
  evidence.has_seccomp_filter = true;
  const Diagnosis both = Diagnose(EPERM, evidence);
  EXPECT_EQ(both.obstacle, Obstacle::kSysctl);
  EXPECT_THAT(both.reason, HasSubstr("seccomp filter too"));
}

TEST(Diagnose, WhomTheSysctlLetsPass) {
  Evidence evidence = Machine();
  evidence.io_uring_disabled = 1;
  evidence.has_seccomp_filter = true;
  for (bool Evidence::*exempt :
       {&Evidence::has_cap_sys_admin, &Evidence::in_io_uring_group}) {
    Evidence exempted = evidence;
    exempted.*exempt = true;
    EXPECT_EQ(Diagnose(EPERM, exempted).obstacle, Obstacle::kSeccomp);
  }
}

TEST(Diagnose, SeccompThatForbids) {
  Evidence evidence = Machine();
  evidence.has_seccomp_filter = true;
  const Diagnosis why = Diagnose(EPERM, evidence);
  EXPECT_EQ(why.obstacle, Obstacle::kSeccomp);
  EXPECT_THAT(why.reason, HasSubstr("seccomp filter forbids"));
  EXPECT_THAT(why.remedy, AllOf(HasSubstr("seccomp=unconfined"),
                                HasSubstr("io_uring_setup"),
                                HasSubstr("SystemCallFilter=")));
  evidence = OldMachine("6.1.0-13-amd64");
  evidence.has_seccomp_filter = true;
  EXPECT_EQ(Diagnose(EPERM, evidence).obstacle, Obstacle::kSeccomp);
}

TEST(Diagnose, SeccompThatHides) {
  Evidence evidence = Machine();
  evidence.has_seccomp_filter = true;
  const Diagnosis certain = Diagnose(ENOSYS, evidence);
  EXPECT_EQ(certain.obstacle, Obstacle::kSeccomp);
  EXPECT_THAT(certain.reason, AllOf(HasSubstr("seccomp filter hides"),
                                    HasSubstr("6.12.9-amd64 has it"),
                                    Not(HasSubstr("CONFIG_IO_URING"))));

  // There was no sysctl yet to prove that there is io_uring.
  evidence = OldMachine("6.1.0-13-amd64");
  evidence.has_seccomp_filter = true;
  const Diagnosis likely = Diagnose(ENOSYS, evidence);
  EXPECT_EQ(likely.obstacle, Obstacle::kSeccomp);
  EXPECT_THAT(likely.reason, HasSubstr("CONFIG_IO_URING"));
}

TEST(Diagnose, TheKernel) {
  for (const char* release : {"5.0.21", "4.19.0-rc1", "4.4.0"}) {
    Evidence evidence = OldMachine(release);
    evidence.has_seccomp_filter = true;  // has nothing to do with it
    const Diagnosis old = Diagnose(ENOSYS, evidence);
    EXPECT_EQ(old.obstacle, Obstacle::kKernel);
    EXPECT_THAT(old.reason,
                AllOf(HasSubstr(std::string("Linux ") + release + " is older"),
                      HasSubstr("5.1"), Not(HasSubstr("CONFIG_IO_URING"))));
  }
  for (const char* release : {"5.1", "5.10.0-28-amd64", "5.18.1"}) {
    const Diagnosis why = Diagnose(ENOSYS, OldMachine(release));
    EXPECT_EQ(why.obstacle, Obstacle::kKernel);
    EXPECT_THAT(why.reason,
                AllOf(HasSubstr(release), HasSubstr("CONFIG_IO_URING"),
                      HasSubstr("a safe ring needs 5.19")));
  }
  for (const char* release : {"5.19.0", "6.1", "7.0.1-cloud", "10.1"}) {
    const Diagnosis why = Diagnose(ENOSYS, OldMachine(release));
    EXPECT_EQ(why.obstacle, Obstacle::kKernel);
    EXPECT_THAT(why.reason,
                AllOf(HasSubstr(release), HasSubstr("without CONFIG_IO_URING"),
                      Not(HasSubstr("5.19, "))));
    EXPECT_THAT(why.reason, Not(HasSubstr("a safe ring needs")));
  }
}

TEST(Diagnose, SomethingElseThatHidesOrForbids) {
  EXPECT_EQ(Diagnose(ENOSYS, Machine()).obstacle, Obstacle::kSecurity);
  EXPECT_EQ(Diagnose(EACCES, Machine()).obstacle, Obstacle::kSecurity);
  const Diagnosis why = Diagnose(EPERM, Machine());
  EXPECT_EQ(why.obstacle, Obstacle::kSecurity);
  EXPECT_THAT(why.reason, HasSubstr("neither a sysctl nor a seccomp filter"));
}

TEST(Diagnose, PollingThreadsThatNeededPrivileges) {
  const Diagnosis why = Diagnose(EPERM, OldMachine("5.10.0"));
  EXPECT_EQ(why.obstacle, Obstacle::kRequest);
  EXPECT_THAT(why.reason, HasSubstr("IORING_SETUP_SQPOLL"));
  EXPECT_EQ(Diagnose(EPERM, OldMachine("5.13.0")).obstacle,
            Obstacle::kSecurity);
}

TEST(Diagnose, TheLimitOnLockedMemory) {
  Evidence evidence = Machine();
  evidence.locked_memory_limit = 64 << 10;
  const Diagnosis why = Diagnose(ENOMEM, evidence);
  EXPECT_EQ(why.obstacle, Obstacle::kMemlock);
  EXPECT_THAT(why.reason, HasSubstr("RLIMIT_MEMLOCK is 64 KiB"));
  if (sysconf(_SC_PAGESIZE) == 4096) {
    // One page of entries and one of completions; 256 entries are 16 KiB, and
    // the 512 completions 8 KiB and a header.
    EXPECT_THAT(why.reason, AllOf(HasSubstr("1 entry needs 8 KiB"),
                                  HasSubstr("256 entries 28 KiB")));
  }
  EXPECT_THAT(why.remedy, HasSubstr("ulimit -l"));

  // To whom the limit does not apply.
  evidence.has_cap_ipc_lock = true;
  EXPECT_EQ(Diagnose(ENOMEM, evidence).obstacle, Obstacle::kMemory);
  evidence = Machine();
  evidence.locked_memory_limit.reset();
  EXPECT_EQ(Diagnose(ENOMEM, evidence).obstacle, Obstacle::kMemory);
}

TEST(Diagnose, TheLimitsOnOpenFiles) {
  const Diagnosis own = Diagnose(EMFILE, Machine());
  EXPECT_EQ(own.obstacle, Obstacle::kDescriptors);
  EXPECT_THAT(own.reason, HasSubstr("RLIMIT_NOFILE allows: 1024"));
  const Diagnosis all = Diagnose(ENFILE, Machine());
  EXPECT_EQ(all.obstacle, Obstacle::kDescriptors);
  EXPECT_THAT(all.reason, HasSubstr("fs.file-max"));
}

TEST(Diagnose, WhatIsTheCallersFault) {
  const Diagnosis why = Diagnose(EINVAL, Machine());
  EXPECT_EQ(why.obstacle, Obstacle::kRequest);
  EXPECT_THAT(why.reason, IsEmpty());
  EXPECT_EQ(std::error_code(EINVAL, SetupCategory()).message(),
            "io_uring_setup: Invalid argument");
}

TEST(Diagnose, ObstaclesHaveNames) {
  EXPECT_STREQ(NameOf(Obstacle::kKernel), "kernel");
  EXPECT_STREQ(NameOf(Obstacle::kSysctl), "sysctl");
  EXPECT_STREQ(NameOf(Obstacle::kSeccomp), "seccomp");
  EXPECT_STREQ(NameOf(Obstacle::kSecurity), "security");
  EXPECT_STREQ(NameOf(Obstacle::kMemlock), "memlock");
  EXPECT_STREQ(NameOf(Obstacle::kMemory), "memory");
  EXPECT_STREQ(NameOf(Obstacle::kDescriptors), "descriptors");
  EXPECT_STREQ(NameOf(Obstacle::kRequest), "request");
}

// In real processes.

void DropCapability(unsigned capability) {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3,
                                     .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  ASSERT_EQ(syscall(SYS_capget, &header, data), 0);
  data[capability / 32].effective &= ~(1u << capability % 32);
  ASSERT_EQ(syscall(SYS_capset, &header, data), 0);
}

TEST(GatherEvidence, SeesAFilterOfSystemCalls) {
  testing::ExpectChildSucceeds([] {
    const bool before = GatherEvidence().has_seccomp_filter;
    testing::MakeSetupFail(EPERM);
    EXPECT_TRUE(GatherEvidence().has_seccomp_filter);
    if (!before) {
      const auto ring = Ring::Create({.entries = 1});
      EXPECT_EQ(ring.error(), std::errc::operation_not_permitted);
      EXPECT_EQ(Diagnose(ring.error().value(), GatherEvidence()).obstacle,
                Obstacle::kSeccomp);
      EXPECT_THAT(ring.error().message(),
                  AllOf(HasSubstr("io_uring_setup: Operation not permitted ("),
                        HasSubstr("seccomp filter forbids"),
                        HasSubstr("seccomp=unconfined")));
    }
  });
  testing::ExpectChildSucceeds([] {
    testing::MakeSetupFail(ENOSYS);
    const auto ring = Ring::Create({.entries = 1});
    EXPECT_EQ(Diagnose(ring.error().value(), GatherEvidence()).obstacle,
              Obstacle::kSeccomp);
  });
}

TEST(GatherEvidence, SeesTheLimitOnLockedMemory) {
  testing::ExpectChildSucceeds([] {
    DropCapability(CAP_IPC_LOCK);
    const rlimit none = {0, 0};
    ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    const Evidence evidence = GatherEvidence();
    EXPECT_FALSE(evidence.has_cap_ipc_lock);
    EXPECT_EQ(evidence.locked_memory_limit, 0u);
    const auto ring = Ring::Create({.entries = 1});
    // From 5.12 on, and until 6.14, rings were no locked memory.
    if (ring) return;
    EXPECT_EQ(ring.error(), std::errc::not_enough_memory);
    EXPECT_EQ(Diagnose(ENOMEM, evidence).obstacle, Obstacle::kMemlock);
    EXPECT_THAT(ring.error().message(), HasSubstr("RLIMIT_MEMLOCK is 0 KiB"));
  });
}

TEST(GatherEvidence, SeesWhoIsExempt) {
  testing::ExpectChildSucceeds([] {
    const Evidence before = GatherEvidence();
    DropCapability(CAP_SYS_ADMIN);
    EXPECT_FALSE(GatherEvidence().has_cap_sys_admin);
    EXPECT_EQ(GatherEvidence().has_cap_ipc_lock, before.has_cap_ipc_lock);
    DropCapability(CAP_IPC_LOCK);
    EXPECT_FALSE(GatherEvidence().has_cap_ipc_lock);
  });
}

TEST(GatherEvidence, SeesTheLimitOnOpenFiles) {
  testing::ExpectChildSucceeds([] {
    const rlimit few = {3, 3};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    // In case that one of the three is closed.
    while (dup(0) >= 0) continue;
    const auto ring =
        testing::CreatePatiently([] { return Ring::Create({.entries = 1}); });
    EXPECT_EQ(ring.error(), std::errc::too_many_files_open);
    const Evidence evidence = GatherEvidence();
    EXPECT_EQ(evidence.open_files_limit, 3u);
    EXPECT_THAT(ring.error().message(), HasSubstr("RLIMIT_NOFILE allows: 3"));
  });
}

}  // namespace
}  // namespace escrow::raw
