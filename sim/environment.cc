#include "escrow/sim/environment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "escrow/sim/choices.h"
#include "escrow/sim/file.h"
#include "escrow/sim/kernel.h"
#include "escrow/sim/report.h"

namespace escrow::sim {
namespace {

[[noreturn]] void Fail(const char* what) noexcept {
  std::fprintf(stderr, "escrow sim: %s: %s\n", what, std::strerror(errno));
  ::_exit(1);
}

// What the run was asked to be, and where it is recorded.
struct Run {
  ::pid_t process = 0;
  const char* seed = nullptr;
  const char* schedule = nullptr;
  std::uint8_t* record = nullptr;
  int record_fd = -1;
};
Run run;

constexpr std::size_t kRecordSize = 1 << 20;

const char* Variable(const char* name) noexcept {
  const char* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

Schedule ReadSchedule(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) Fail(path);
  Schedule schedule;
  std::uint8_t bytes[4096];
  for (;;) {
    const ::ssize_t size = ::read(fd, bytes, sizeof(bytes));
    if (size < 0) Fail(path);
    if (size == 0) break;
    schedule.insert(schedule.end(), bytes, bytes + size);
  }
  ::close(fd);
  return schedule;
}

// Written as it is made, for a program may end in any way.
void OpenRecord(const char* path, Choices& choices) noexcept {
  const int fd = ::open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0 || ::ftruncate(fd, kRecordSize) != 0) Fail(path);
  run.record_fd = File::Adopt(fd).Release();
  void* const memory = ::mmap(nullptr, kRecordSize, PROT_READ | PROT_WRITE,
                              MAP_SHARED, run.record_fd, 0);
  if (memory == MAP_FAILED) Fail(path);
  run.record = static_cast<std::uint8_t*>(memory);
  choices.KeepIn({run.record, kRecordSize});
}

void CloseRecord() noexcept {
  if (run.record_fd < 0 || run.process != ::getpid()) return;
  const Schedule made = MadeChoices();
  const std::size_t beyond = std::min(made.size(), kRecordSize);
  (void)!::pwrite(run.record_fd, made.data() + beyond, made.size() - beyond,
                  static_cast<::off_t>(beyond));
  (void)!::ftruncate(run.record_fd, static_cast<::off_t>(made.size()));
  run.record_fd = -1;
}

void OnTheWayOut() noexcept {
  if (run.schedule != nullptr) {
    std::fprintf(stderr, "escrow sim: to repeat this: ESCROW_SIM_SCHEDULE=%s\n",
                 run.schedule);
  } else if (run.seed != nullptr) {
    std::fprintf(stderr, "escrow sim: to repeat this: ESCROW_SIM_SEED=%s\n",
                 run.seed);
  }
  CloseRecord();
}

Checks ReadChecks(const char* list) noexcept {
  Checks checks;
  while (list != nullptr && *list != '\0') {
    const std::size_t size = std::strcspn(list, ",");
    const auto is = [&](const char* name) {
      return size == std::strlen(name) && std::strncmp(list, name, size) == 0;
    };
    if (is("changed-entries")) {
      checks.changed_entries = true;
    } else if (is("stale-user-data")) {
      checks.stale_user_data = true;
    } else {
      std::fprintf(stderr, "escrow sim: no such check: %.*s\n",
                   static_cast<int>(size), list);
      ::_exit(1);
    }
    list += size;
    if (*list == ',') ++list;
  }
  return checks;
}

}  // namespace

void BeginAsEnvironmentSays() {
  run.process = ::getpid();
  Options options;
  run.seed = Variable("ESCROW_SIM_SEED");
  run.schedule = Variable("ESCROW_SIM_SCHEDULE");
  if (run.schedule != nullptr) {
    options.choices = Choices::Following(ReadSchedule(run.schedule));
  } else if (run.seed != nullptr) {
    char* end = nullptr;
    options.choices =
        Choices::FromSeed(std::strtoull(run.seed, &end, /*base=*/0));
    if (*end != '\0') {
      errno = EINVAL;
      Fail("ESCROW_SIM_SEED");
    }
  }
  if (const char* const clock = Variable("ESCROW_SIM_CLOCK")) {
    if (std::strcmp(clock, "virtual") == 0) {
      options.clock = Clock::kVirtual;
    } else if (std::strcmp(clock, "real") != 0) {
      errno = EINVAL;
      Fail("ESCROW_SIM_CLOCK");
    }
  }
  options.checks = ReadChecks(Variable("ESCROW_SIM_CHECKS"));
  if (const char* const record = Variable("ESCROW_SIM_RECORD")) {
    OpenRecord(record, options.choices);
    // Not for those that this program starts.
    ::unsetenv("ESCROW_SIM_RECORD");
  }
  Reset(std::move(options));
  OnReport(&OnTheWayOut);
}

void EndOfProgram() noexcept {
  // Not of one that it has forked.
  if (run.process != ::getpid()) return;
  CheckEnd();
  PrintUnsupported();
  CloseRecord();
}

}  // namespace escrow::sim
