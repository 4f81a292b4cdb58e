#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/raw/buffer_ring.h"
#include "escrow/raw/buffer_table.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/error.h"
#include "escrow/raw/file_table.h"
#include "escrow/raw/memory_region.h"
#include "escrow/raw/probe.h"
#include "escrow/raw/query.h"
#include "escrow/raw/registration.h"
#include "escrow/raw/restrictions.h"
#include "escrow/raw/ring.h"
#include "escrow/raw/synchronous.h"
#include "escrow/raw/zero_copy_receive.h"
#include "tests/raw_support.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

using testing::Completion;
using testing::ExpectChildSucceeds;
using testing::ExpectUsable;
using testing::MakeRing;
using testing::OpenDescriptors;
using testing::Pipe;
using testing::Poll;
using testing::Queue;
using testing::Reap;
using testing::ResultOfPrepared;
using testing::TemporaryFile;

using Completions = std::vector<Completion>;

constexpr std::size_t kPage = 4096;

// Whole pages, apart from everything else that might be pinned.
char* Pages(std::size_t count) {
  void* memory = mmap(nullptr, count * kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_NE(memory, MAP_FAILED);
  return static_cast<char*>(memory);
}

void Write(int fd, std::string_view text) {
  ASSERT_EQ(write(fd, text.data(), text.size()),
            static_cast<ssize_t>(text.size()));
}

// The first byte of the file in `slot`, or an errno below 0.
int FirstByteOf(Ring& ring, int slot) {
  char byte = 0;
  const int result = ResultOfPrepared(ring, [&](io_uring_sqe* sqe) {
    io_uring_prep_read(sqe, slot, &byte, 1, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
  });
  return result == 1 ? byte : result;
}

int ReadFixed(Ring& ring, int fd, void* buffer, unsigned length, int index) {
  return ResultOfPrepared(ring, [&](io_uring_sqe* sqe) {
    io_uring_prep_read_fixed(sqe, fd, buffer, length, 0, index);
  });
}

// Errors and the way to all registrations.

#define ESCROW_TEST_OPCODE(opcode) opcode, #opcode

struct Call {
  unsigned opcode;
  const char* category;
  std::function<std::error_code(Ring&)> call;
};

template <typename T>
std::error_code ErrorOf(const std::expected<T, std::error_code>& result) {
  return result ? std::error_code() : result.error();
}

std::vector<Call> AllCalls() {
  static char* const memory = Pages(1);
  static const int number[] = {0};
  static const std::uint64_t tag[] = {1};
  static const TableBuffer buffer[] = {{memory, kPage}};
  static const BufferRingOptions group = {.group = 1, .entries = 1};
  return {
      {ESCROW_TEST_OPCODE(IORING_REGISTER_BUFFERS),
       [](Ring& ring) { return RegisterBuffers(ring, buffer); }},
      {ESCROW_TEST_OPCODE(IORING_UNREGISTER_BUFFERS),
       [](Ring& ring) { return UnregisterBuffers(ring); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_FILES),
       [](Ring& ring) { return RegisterFiles(ring, number); }},
      {ESCROW_TEST_OPCODE(IORING_UNREGISTER_FILES),
       [](Ring& ring) { return UnregisterFiles(ring); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_EVENTFD),
       [](Ring& ring) { return RegisterEventfd(ring, 0); }},
      {ESCROW_TEST_OPCODE(IORING_UNREGISTER_EVENTFD),
       [](Ring& ring) { return UnregisterEventfd(ring); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_FILES_UPDATE),
       [](Ring& ring) {
         return ErrorOf(RegisterFilesUpdate(ring, 0, number));
       }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_EVENTFD_ASYNC),
       [](Ring& ring) { return RegisterEventfdAsync(ring, 0); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_PROBE),
       [](Ring& ring) { return ErrorOf(Probe::Of(ring)); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_PERSONALITY),
       [](Ring& ring) { return ErrorOf(RegisterPersonality(ring)); }},
      {ESCROW_TEST_OPCODE(IORING_UNREGISTER_PERSONALITY),
       [](Ring& ring) { return UnregisterPersonality(ring, 1); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_RESTRICTIONS),
       [](Ring& ring) { return RegisterRestrictions(ring, {}); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_RESTRICTIONS),
       [](Ring&) { return RegisterTaskRestrictions({}); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_ENABLE_RINGS),
       [](Ring& ring) { return EnableRings(ring); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_FILES2),
       [](Ring& ring) { return RegisterFiles(ring, number, tag); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_FILES2),
       [](Ring& ring) { return RegisterFilesSparse(ring, 1); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_FILES_UPDATE2),
       [](Ring& ring) {
         return ErrorOf(RegisterFilesUpdate(ring, 0, number, tag));
       }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_BUFFERS2),
       [](Ring& ring) { return RegisterBuffers(ring, buffer, tag); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_BUFFERS2),
       [](Ring& ring) { return RegisterBuffersSparse(ring, 1); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_BUFFERS_UPDATE),
       [](Ring& ring) {
         return ErrorOf(RegisterBuffersUpdate(ring, 0, buffer));
       }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_IOWQ_AFF),
       [](Ring& ring) {
         const cpu_set_t cpus = {};
         return RegisterIowqAff(ring, &cpus);
       }},
      {ESCROW_TEST_OPCODE(IORING_UNREGISTER_IOWQ_AFF),
       [](Ring& ring) { return UnregisterIowqAff(ring); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_IOWQ_MAX_WORKERS),
       [](Ring& ring) { return ErrorOf(RegisterIowqMaxWorkers(ring, {})); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_PBUF_RING),
       [](Ring& ring) {
         return ErrorOf(BufferRing::Register(ring, group, memory));
       }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_PBUF_RING),
       [](Ring& ring) { return ErrorOf(BufferRing::Map(ring, group)); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_SYNC_CANCEL),
       [](Ring& ring) { return ErrorOf(RegisterSyncCancel(ring, {})); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_FILE_ALLOC_RANGE),
       [](Ring& ring) { return RegisterFileAllocRange(ring, 0, 1); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_NAPI),
       [](Ring& ring) { return ErrorOf(RegisterNapi(ring, {})); }},
      {ESCROW_TEST_OPCODE(IORING_UNREGISTER_NAPI),
       [](Ring& ring) { return ErrorOf(UnregisterNapi(ring)); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_CLOCK),
       [](Ring& ring) { return RegisterClock(ring, CLOCK_MONOTONIC); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_CLONE_BUFFERS),
       [](Ring& ring) { return CloneBuffers(ring, ring); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_SEND_MSG_RING),
       [](Ring&) { return RegisterSyncMsg({}); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_ZCRX_IFQ),
       [](Ring& ring) { return ErrorOf(RegisterIfq(ring, {})); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_ZCRX_IFQ),
       [](Ring& ring) { return ErrorOf(ImportIfq(ring, 0)); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_RESIZE_RINGS),
       [](Ring& ring) {
         return ErrorOf(
             Register(ring, IORING_REGISTER_RESIZE_RINGS, memory, 1));
       }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_MEM_REGION),
       [](Ring& ring) { return RegisterRegion(ring, memory, kPage); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_MEM_REGION),
       [](Ring& ring) { return ErrorOf(MapRegion(ring, kPage)); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_QUERY),
       [](Ring&) { return ErrorOf(QueryOpcodes()); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_QUERY),
       [](Ring&) { return ErrorOf(QueryZcrx()); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_QUERY),
       [](Ring&) { return ErrorOf(QueryScq()); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_ZCRX_CTRL),
       [](Ring& ring) { return FlushIfq(ring, 0); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_ZCRX_CTRL),
       [](Ring& ring) { return ErrorOf(ExportIfq(ring, 0)); }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_BPF_FILTER),
       [](Ring& ring) {
         BpfFilter filter;
         return RegisterBpfFilter(ring, filter);
       }},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_BPF_FILTER),
       [](Ring&) {
         BpfFilter filter;
         return RegisterBpfFilterTask(filter);
       }},
      // What needs something registered before; see AnswerWithTheOpcode().
      {ESCROW_TEST_OPCODE(IORING_REGISTER_RING_FDS), nullptr},
      {ESCROW_TEST_OPCODE(IORING_UNREGISTER_RING_FDS), nullptr},
      {ESCROW_TEST_OPCODE(IORING_UNREGISTER_PBUF_RING), nullptr},
      {ESCROW_TEST_OPCODE(IORING_REGISTER_PBUF_STATUS), nullptr},
  };
}

constexpr int kFirstAnswer = 1000;

// Makes every io_uring_register(2) fail with kFirstAnswer + its opcode.
void AnswerWithTheOpcode() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K,
               ~unsigned{IORING_REGISTER_USE_REGISTERED_RING}),
      BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, kFirstAnswer),
      BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
      BPF_STMT(BPF_RET | BPF_A, 0),
  };
  const sock_fprog filter = {.len = std::size(program), .filter = program};
  ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

TEST(RawRegistration, EveryOpcodeHasItsFunction) {
  ExpectChildSucceeds([] {
    std::map<unsigned, std::string> missing;
    for (unsigned opcode = 0; opcode < IORING_REGISTER_LAST; ++opcode) {
      missing[opcode] = RegisterCategory(opcode).name();
    }
    std::vector<Call> calls = AllCalls();
    Ring ring = MakeRing();
    Ring registered = MakeRing();
    Ring without_registration = MakeRing();
    auto group = BufferRing::Map(ring, {.group = 7, .entries = 1});
    ASSERT_TRUE(group);
    ASSERT_FALSE(registered.RegisterRingFd());
    for (Call& call : calls) {
      switch (call.opcode) {
        case IORING_REGISTER_RING_FDS:
          call.call = [](Ring& self) { return self.RegisterRingFd(); };
          break;
        case IORING_UNREGISTER_RING_FDS:
          call.call = [&](Ring&) { return UnregisterRingFd(registered); };
          break;
        case IORING_UNREGISTER_PBUF_RING:
          call.call = [&](Ring& self) { return group->Unregister(self); };
          break;
        case IORING_REGISTER_PBUF_STATUS:
          call.call = [&](Ring& self) {
            EXPECT_EQ(ErrorOf(group->Head(self)),
                      ErrorOf(group->Available(self)));
            return ErrorOf(group->Head(self));
          };
          break;
        default:
          break;
      }
    }
    AnswerWithTheOpcode();
    for (const Call& call : calls) {
      const std::error_code error = call.call(without_registration);
      EXPECT_EQ(error.value() - kFirstAnswer, static_cast<int>(call.opcode))
          << call.category;
      // Ring and Probe do not say which.
      if (call.opcode != IORING_REGISTER_RING_FDS &&
          call.opcode != IORING_REGISTER_PROBE) {
        EXPECT_STREQ(error.category().name(), call.category);
      }
      EXPECT_STREQ(RegisterCategory(call.opcode).name(), call.category);
      missing.erase(call.opcode);
    }
    EXPECT_EQ(missing, (std::map<unsigned, std::string>{}));
  });
}

TEST(RawRegistration, ErrorsNameTheRegistration) {
  Ring ring = MakeRing();
  const std::error_code error = UnregisterFiles(ring);
  EXPECT_EQ(error, std::errc::no_such_device_or_address);
  EXPECT_EQ(error.message(),
            "io_uring_register(IORING_UNREGISTER_FILES): No such device or "
            "address");
  ExpectUsable(ring);
}

TEST(RawRegistration, AnyOpcode) {
  Ring ring = MakeRing();
  const auto id = Register(ring, IORING_REGISTER_PERSONALITY, nullptr, 0);
  ASSERT_TRUE(id) << id.error().message();
  EXPECT_FALSE(UnregisterPersonality(ring, static_cast<std::uint16_t>(*id)));
  const std::error_code error = ErrorOf(Register(ring, 1 << 20, nullptr, 0));
  EXPECT_EQ(error, std::errc::invalid_argument);
  EXPECT_EQ(error.message(), "io_uring_register: Invalid argument");
  ExpectUsable(ring);
}

// The ring itself.

TEST(RawRegistration, EnableRings) {
  Ring ring = MakeRing(IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER);
  Queue(ring, 1, io_uring_prep_nop);
  EXPECT_EQ(io_uring_submit(ring.get()), -EBADFD);
  std::thread([&] {
    // Anybody may, as yet.
    EXPECT_FALSE(RegisterFilesSparse(ring, 1));
  }).join();
  EXPECT_FALSE(EnableRings(ring));
  EXPECT_EQ(Reap(ring), (Completions{{1, 0, 0}}));
  std::thread([&] {
    EXPECT_EQ(UnregisterFiles(ring), std::errc::file_exists);
  }).join();
  EXPECT_EQ(EnableRings(ring).value(), EBADFD);
  ExpectUsable(ring);
}

TEST(RawRegistration, RingDescriptor) {
  Ring ring = MakeRing();
  EXPECT_EQ(UnregisterRingFd(ring), std::errc::invalid_argument);
  EXPECT_EQ(CloseRingFd(ring).message(),
            "io_uring_close_ring_fd: Invalid argument");
  ASSERT_FALSE(ring.RegisterRingFd());
  ExpectUsable(ring);
  EXPECT_FALSE(UnregisterRingFd(ring));
  ExpectUsable(ring);

  ASSERT_FALSE(ring.RegisterRingFd());
  const int open_before = OpenDescriptors();
  EXPECT_FALSE(CloseRingFd(ring));
  EXPECT_EQ(OpenDescriptors(), open_before - 1);
  EXPECT_EQ(CloseRingFd(ring), std::errc::bad_file_descriptor);
  ExpectUsable(ring);
  EXPECT_FALSE(RegisterFilesSparse(ring, 1));
  const auto id = Register(ring, IORING_REGISTER_PERSONALITY, nullptr, 0);
  EXPECT_TRUE(id) << id.error().message();
  const auto group = BufferRing::Map(ring, {.group = 1, .entries = 1});
  EXPECT_EQ(ErrorOf(group).message(), "mmap: Bad file descriptor");
  EXPECT_EQ(ErrorOf(MapRegion(ring, kPage)).message(),
            "mmap: Bad file descriptor");
  ExpectUsable(ring);
}

TEST(RawRegistration, Eventfd) {
  Ring ring = MakeRing();
  const int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  const auto count = [&] {
    std::uint64_t value = 0;
    return read(event, &value, sizeof(value)) == sizeof(value) ? value : 0;
  };
  EXPECT_EQ(UnregisterEventfd(ring), std::errc::no_such_device_or_address);
  EXPECT_EQ(RegisterEventfd(ring, /*event_fd=*/-1),
            std::errc::bad_file_descriptor);
  ASSERT_FALSE(RegisterEventfd(ring, event));
  EXPECT_EQ(RegisterEventfd(ring, event), std::errc::device_or_resource_busy);
  ExpectUsable(ring);
  EXPECT_GT(count(), 0u);
  EXPECT_FALSE(ring.SetCqEventfdEnabled(false));
  ExpectUsable(ring);
  EXPECT_EQ(count(), 0u);
  EXPECT_FALSE(ring.SetCqEventfdEnabled(true));
  ExpectUsable(ring);
  EXPECT_GT(count(), 0u);
  EXPECT_FALSE(UnregisterEventfd(ring));
  ExpectUsable(ring);
  EXPECT_EQ(count(), 0u);

  ASSERT_FALSE(RegisterEventfdAsync(ring, event));
  ExpectUsable(ring);
  EXPECT_EQ(count(), 0u);
  // Nor what was only waited for.
  const Pipe pipe;
  char byte;
  Queue(ring, 1, [&](io_uring_sqe* sqe) {
    io_uring_prep_read(sqe, pipe.read_end, &byte, 1, 0);
  });
  EXPECT_EQ(Poll(ring), Completions{});
  Write(pipe.write_end, "x");
  EXPECT_EQ(Reap(ring), (Completions{{1, 1, 0}}));
  EXPECT_EQ(count(), 0u);
  EXPECT_EQ(ResultOfPrepared(ring,
                             [](io_uring_sqe* sqe) {
                               io_uring_prep_nop(sqe);
                               sqe->flags |= IOSQE_ASYNC;
                             }),
            0);
  // The completion is there before the signal.
  while (count() == 0) std::this_thread::yield();
  close(pipe.read_end);
  close(pipe.write_end);
  close(event);
}

int WithPersonality(Ring& ring, std::uint16_t id) {
  return ResultOfPrepared(ring, [&](io_uring_sqe* sqe) {
    io_uring_prep_nop(sqe);
    sqe->personality = id;
  });
}

TEST(RawRegistration, Personality) {
  Ring ring = MakeRing();
  const auto id = RegisterPersonality(ring);
  ASSERT_TRUE(id) << id.error().message();
  EXPECT_NE(*id, 0);
  EXPECT_EQ(WithPersonality(ring, *id), 0);
  EXPECT_FALSE(UnregisterPersonality(ring, *id));
  EXPECT_EQ(WithPersonality(ring, *id), -EINVAL);
  EXPECT_EQ(UnregisterPersonality(ring, *id), std::errc::invalid_argument);
  ExpectUsable(ring);
}

// Credentials that were given up live on as a personality.
TEST(RawRegistration, PersonalityWithCapabilities) {
  const TemporaryFile file("secret");
  ASSERT_EQ(chmod(file.path().c_str(), 0), 0);
  if (access(file.path().c_str(), R_OK) != 0) {
    GTEST_SKIP() << "needs CAP_DAC_OVERRIDE, to give it up";
  }
  ExpectChildSucceeds([&] {
    Ring ring = MakeRing();
    const auto id = RegisterPersonality(ring);
    ASSERT_TRUE(id) << id.error().message();
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    const __user_cap_data_struct none[2] = {};
    ASSERT_EQ(syscall(SYS_capset, &header, none), 0);
    const auto open_as = [&](std::uint16_t personality) {
      return ResultOfPrepared(ring, [&](io_uring_sqe* sqe) {
        io_uring_prep_openat(sqe, AT_FDCWD, file.path().c_str(), O_RDONLY, 0);
        sqe->personality = personality;
      });
    };
    EXPECT_EQ(open_as(0), -EACCES);
    EXPECT_GE(open_as(*id), 0);
  });
}

// A thread of this process's io-wq: in what state it is, and on which
// processors it may run.
struct Worker {
  char state;
  std::string processors;
};

std::vector<Worker> Workers() {
  std::vector<Worker> workers;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    std::map<std::string, std::string> fields;
    for (std::string line; std::getline(status, line);) {
      const std::size_t colon = line.find(":\t");
      if (colon == std::string::npos) continue;
      fields[line.substr(0, colon)] = line.substr(colon + 2);
    }
    if (fields["Name"].starts_with("iou-wrk-")) {
      workers.push_back({fields["State"][0], fields["Cpus_allowed_list"]});
    }
  }
  return workers;
}

// Waits until there are workers and all have got as far as they can.
void AwaitSleepingWorkers() {
  for (;;) {
    const std::vector<Worker> workers = Workers();
    if (!workers.empty() &&
        std::ranges::all_of(
            workers, [](char state) { return state == 'S'; }, &Worker::state)) {
      return;
    }
    std::this_thread::yield();
  }
}

// A name at which an open waits, in a worker, until Release().
class Fifo {
 public:
  Fifo() {
    unlink(file_.path().c_str());
    EXPECT_EQ(mkfifo(file_.path().c_str(), 0600), 0);
  }
  ~Fifo() {
    if (fd_ >= 0) close(fd_);
  }
  void Open(Ring& ring, std::uint64_t user_data) {
    Queue(ring, user_data, [&](io_uring_sqe* sqe) {
      io_uring_prep_openat(sqe, AT_FDCWD, file_.path().c_str(), O_RDONLY, 0);
      sqe->flags |= IOSQE_ASYNC;
    });
    ASSERT_EQ(io_uring_submit(ring.get()), 1);
  }
  void Release() {
    fd_ = open(file_.path().c_str(), O_RDWR);
    ASSERT_GE(fd_, 0);
  }

 private:
  TemporaryFile file_;
  int fd_ = -1;
};

TEST(RawRegistration, WorkerAffinity) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  if (CPU_COUNT(&allowed) < 2) GTEST_SKIP() << "needs two processors";
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &allowed)) --last;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  ExpectChildSucceeds([&] {
    Ring ring = MakeRing();
    Fifo fifo;
    ASSERT_FALSE(RegisterIowqAff(ring, &one));
    fifo.Open(ring, 1);
    while (Workers().empty()) std::this_thread::yield();
    EXPECT_EQ(Workers()[0].processors, std::to_string(last));
    EXPECT_FALSE(UnregisterIowqAff(ring));
    fifo.Open(ring, 2);
    while (Workers().size() == 1) std::this_thread::yield();
    const std::vector<Worker> both = Workers();
    ASSERT_EQ(both.size(), 2u);
    EXPECT_NE(both[0].processors, both[1].processors);
    fifo.Release();
    EXPECT_EQ(Reap(ring, 2).size(), 2u);
    ExpectUsable(ring);
  });
}

TEST(RawRegistration, WorkerLimits) {
  ExpectChildSucceeds([] {
    Ring ring = MakeRing();
    const auto initial = RegisterIowqMaxWorkers(ring, {});
    ASSERT_TRUE(initial) << initial.error().message();
    EXPECT_GT(initial->bounded, 0u);
    EXPECT_GT(initial->unbounded, 0u);
    const auto set = [&](IowqMaxWorkers limits) {
      const auto before = RegisterIowqMaxWorkers(ring, limits);
      EXPECT_TRUE(before);
      return std::pair(before->bounded, before->unbounded);
    };
    EXPECT_EQ(set({.bounded = 1}),
              std::pair(initial->bounded, initial->unbounded));
    EXPECT_EQ(set({.unbounded = 5}), std::pair(1u, initial->unbounded));
    EXPECT_EQ(set({}), std::pair(1u, 5u));
    EXPECT_EQ(set({}), std::pair(1u, 5u));
    // The only worker is at the first one.
    Fifo first, second;
    first.Open(ring, 1);
    second.Open(ring, 2);
    second.Release();
    EXPECT_EQ(Poll(ring), Completions{});
    first.Release();
    const Completions both = Reap(ring, 2);
    ASSERT_EQ(both.size(), 2u);
    EXPECT_EQ(both[0].user_data, 1u);
    EXPECT_EQ(both[1].user_data, 2u);
    ExpectUsable(ring);
  });
}

TEST(RawRegistration, Napi) {
  Ring ring = MakeRing();
  const auto initial =
      RegisterNapi(ring, {.busy_poll_us = 50, .prefer_busy_poll = true});
  if (!initial && initial.error() == std::errc::invalid_argument) {
    ExpectUsable(ring);
    GTEST_SKIP() << "NAPI needs Linux 6.9 with CONFIG_NET_RX_BUSY_POLL";
  }
  ASSERT_TRUE(initial) << initial.error().message();
  EXPECT_EQ(initial->busy_poll_us, 0u);
  EXPECT_FALSE(initial->prefer_busy_poll);
  const auto first = RegisterNapi(ring, {.busy_poll_us = 60});
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(first->busy_poll_us, 50u);
  EXPECT_TRUE(first->prefer_busy_poll);
  const auto second = UnregisterNapi(ring);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(second->busy_poll_us, 60u);
  EXPECT_FALSE(second->prefer_busy_poll);
  const auto last = RegisterNapi(ring, {});
  ASSERT_TRUE(last) << last.error().message();
  EXPECT_EQ(last->busy_poll_us, 0u);
  ExpectUsable(ring);
}

TEST(RawRegistration, Clock) {
  Ring ring = MakeRing();
  if (const std::error_code error = RegisterClock(ring, CLOCK_BOOTTIME)) {
    ASSERT_EQ(error, std::errc::invalid_argument);
    GTEST_SKIP() << "clocks need Linux 6.12";
  }
  EXPECT_EQ(RegisterClock(ring, CLOCK_REALTIME), std::errc::invalid_argument);
  __kernel_timespec moment = {.tv_sec = 0, .tv_nsec = 1000};
  io_uring_cqe* none;
  EXPECT_EQ(io_uring_wait_cqe_timeout(ring.get(), &none, &moment), -ETIME);
  EXPECT_FALSE(RegisterClock(ring, CLOCK_MONOTONIC));
  ExpectUsable(ring);
}

// Files.

// Files whose first byte says which.
struct SomeFiles {
  TemporaryFile a{"a"}, b{"b"}, c{"c"};
  const int fd[3] = {a.Open(O_RDONLY), b.Open(O_RDONLY), c.Open(O_RDONLY)};
  ~SomeFiles() {
    for (const int number : fd) close(number);
  }
};

TEST(RawFileTable, FilesInSlots) {
  Ring ring = MakeRing();
  const SomeFiles files;
  ASSERT_FALSE(
      RegisterFiles(ring, std::array{files.fd[0], kNoFile, files.fd[1]}));
  EXPECT_EQ(FirstByteOf(ring, 0), 'a');
  EXPECT_EQ(FirstByteOf(ring, 1), -EBADF);
  EXPECT_EQ(FirstByteOf(ring, 2), 'b');
  EXPECT_EQ(FirstByteOf(ring, 3), -EBADF);
  EXPECT_EQ(RegisterFiles(ring, std::array{files.fd[0]}),
            std::errc::device_or_resource_busy);
  EXPECT_EQ(
      RegisterFilesUpdate(ring, 0, std::array{kSkipFile, files.fd[2], kNoFile}),
      3u);
  EXPECT_EQ(FirstByteOf(ring, 0), 'a');
  EXPECT_EQ(FirstByteOf(ring, 1), 'c');
  EXPECT_EQ(FirstByteOf(ring, 2), -EBADF);
  EXPECT_FALSE(UnregisterFiles(ring));
  EXPECT_EQ(FirstByteOf(ring, 0), -EBADF);
  ExpectUsable(ring);
}

TEST(RawFileTable, UpdatesCanBeShort) {
  Ring ring = MakeRing();
  const SomeFiles files;
  const int bad = 1 << 20;
  EXPECT_EQ(ErrorOf(RegisterFilesUpdate(ring, 0, files.fd)),
            std::errc::no_such_device_or_address);
  ASSERT_FALSE(RegisterFilesSparse(ring, 4));
  EXPECT_EQ(FirstByteOf(ring, 0), -EBADF);
  EXPECT_EQ(
      RegisterFilesUpdate(ring, 1, std::array{files.fd[0], files.fd[1], bad}),
      2u);
  EXPECT_EQ(FirstByteOf(ring, 1), 'a');
  EXPECT_EQ(FirstByteOf(ring, 2), 'b');
  EXPECT_EQ(FirstByteOf(ring, 3), -EBADF);
  EXPECT_EQ(ErrorOf(RegisterFilesUpdate(ring, 1, std::array{bad})),
            std::errc::bad_file_descriptor);
  EXPECT_EQ(ErrorOf(RegisterFilesUpdate(ring, 2, files.fd)),
            std::errc::invalid_argument);
  EXPECT_EQ(ErrorOf(RegisterFilesUpdate(ring, 0, std::array{kNoFile},
                                        std::array<std::uint64_t, 1>{1})),
            std::errc::invalid_argument);
  EXPECT_EQ(
      ErrorOf(RegisterFilesUpdate(ring, 0, std::array{ring.get()->ring_fd})),
      std::errc::bad_file_descriptor);
  ExpectUsable(ring);
}

TEST(RawFileTable, TagsComeWhenTheFileIsReallyUnused) {
  Ring ring = MakeRing();
  const SomeFiles files;
  const Pipe pipe;
  ASSERT_FALSE(
      RegisterFiles(ring, std::array{pipe.read_end, files.fd[0], files.fd[1]},
                    std::array<std::uint64_t, 3>{100, 101, 0}));
  char byte = 0;
  Queue(ring, 1, [&](io_uring_sqe* sqe) {
    io_uring_prep_read(sqe, /*slot=*/0, &byte, 1, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
  });
  EXPECT_EQ(Poll(ring), Completions{});
  // In use; then two that are not, of which one has no tag.
  EXPECT_EQ(RegisterFilesUpdate(ring, 0, std::array{files.fd[2]},
                                std::array<std::uint64_t, 1>{200}),
            1u);
  EXPECT_EQ(Poll(ring), Completions{});
  EXPECT_EQ(RegisterFilesUpdate(ring, 1, std::array{kNoFile, kNoFile}), 2u);
  EXPECT_EQ(Poll(ring), (Completions{{101, 0, 0}}));
  EXPECT_EQ(FirstByteOf(ring, 0), 'c');
  close(pipe.read_end);
  Write(pipe.write_end, "x");
  Completions both = Reap(ring, 2);
  EXPECT_EQ(both, (Completions{{1, 1, 0}, {100, 0, 0}}));
  EXPECT_EQ(byte, 'x');
  EXPECT_FALSE(UnregisterFiles(ring));
  EXPECT_EQ(Poll(ring), (Completions{{200, 0, 0}}));
  close(pipe.write_end);
}

// The slot, not the file, is what a linked request has.
TEST(RawFileTable, SlotsAreLookedUpAtIssue) {
  Ring ring = MakeRing();
  const SomeFiles files;
  const Pipe gate;
  ASSERT_FALSE(RegisterFiles(ring, std::array{files.fd[0]}));
  char ignored, byte = 0;
  Queue(ring, 1, [&](io_uring_sqe* sqe) {
    io_uring_prep_read(sqe, gate.read_end, &ignored, 1, 0);
    sqe->flags |= IOSQE_IO_LINK;
  });
  Queue(ring, 2, [&](io_uring_sqe* sqe) {
    io_uring_prep_read(sqe, /*slot=*/0, &byte, 1, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
  });
  EXPECT_EQ(Poll(ring), Completions{});
  EXPECT_EQ(RegisterFilesUpdate(ring, 0, std::array{files.fd[1]}), 1u);
  Write(gate.write_end, "x");
  EXPECT_EQ(Reap(ring, 2), (Completions{{1, 1, 0}, {2, 1, 0}}));
  EXPECT_EQ(byte, 'b');
  close(gate.read_end);
  close(gate.write_end);
}

TEST(RawFileTable, AllocationRange) {
  Ring ring = MakeRing();
  const SomeFiles files;
  EXPECT_EQ(RegisterFileAllocRange(ring, 0, 1), std::errc::invalid_argument);
  ASSERT_FALSE(RegisterFilesSparse(ring, 8));
  const auto open_any = [&] {
    return ResultOfPrepared(ring, [&](io_uring_sqe* sqe) {
      io_uring_prep_openat_direct(sqe, AT_FDCWD, files.b.path().c_str(),
                                  O_RDONLY, 0, IORING_FILE_INDEX_ALLOC);
    });
  };
  ASSERT_FALSE(RegisterFileAllocRange(ring, 4, 2));
  std::array<int, 2> slots = {open_any(), open_any()};
  std::ranges::sort(slots);
  EXPECT_EQ(slots, (std::array{4, 5}));
  EXPECT_EQ(open_any(), -ENFILE);
  EXPECT_EQ(FirstByteOf(ring, 4), 'b');
  EXPECT_EQ(RegisterFileAllocRange(ring, 7, 2), std::errc::invalid_argument);
  ASSERT_FALSE(RegisterFileAllocRange(ring, 7, 1));
  EXPECT_EQ(open_any(), 7);
  ExpectUsable(ring);
}

// Buffers.

static_assert(decltype(TableBuffer::data)::kUntil == Until::kUnregistered);

TEST(RawBufferTable, BuffersInSlots) {
  Ring ring = MakeRing();
  const TemporaryFile file("0123456789");
  const int fd = file.Open(O_RDONLY);
  char* const memory = Pages(2);
  ASSERT_FALSE(RegisterBuffers(
      ring,
      std::array{TableBuffer{memory, kPage}, TableBuffer{memory + kPage, 16}}));
  EXPECT_EQ(ReadFixed(ring, fd, memory + 10, 3, 0), 3);
  EXPECT_EQ(std::string_view(memory + 10, 3), "012");
  EXPECT_EQ(ReadFixed(ring, fd, memory + kPage + 6, 10, 1), 10);
  EXPECT_EQ(std::string_view(memory + kPage + 6, 10), "0123456789");
  // Beyond the buffer, and of another one.
  EXPECT_EQ(ReadFixed(ring, fd, memory + kPage + 7, 10, 1), -EFAULT);
  EXPECT_EQ(ReadFixed(ring, fd, memory, 1, 1), -EFAULT);
  EXPECT_EQ(ReadFixed(ring, fd, memory, 1, 2), -EFAULT);
  EXPECT_EQ(RegisterBuffers(ring, std::array{TableBuffer{memory, 1}}),
            std::errc::device_or_resource_busy);
  EXPECT_FALSE(UnregisterBuffers(ring));
  EXPECT_EQ(UnregisterBuffers(ring), std::errc::no_such_device_or_address);
  EXPECT_EQ(ReadFixed(ring, fd, memory, 1, 0), -EFAULT);
  EXPECT_EQ(RegisterBuffers(ring, std::array{TableBuffer{nullptr, 1}}),
            std::errc::bad_address);
  ExpectUsable(ring);
  close(fd);
  munmap(memory, 2 * kPage);
}

TEST(RawBufferTable, SparseAndUpdates) {
  Ring ring = MakeRing();
  const TemporaryFile file("0123456789");
  const int fd = file.Open(O_RDONLY);
  char* const memory = Pages(1);
  const TableBuffer good = {memory, kPage};
  const TableBuffer bad = {reinterpret_cast<void*>(16), kPage};
  EXPECT_EQ(ErrorOf(RegisterBuffersUpdate(ring, 0, std::array{good})),
            std::errc::no_such_device_or_address);
  ASSERT_FALSE(RegisterBuffersSparse(ring, 3));
  EXPECT_EQ(ReadFixed(ring, fd, memory, 1, 1), -EFAULT);
  EXPECT_EQ(RegisterBuffersUpdate(ring, 1, std::array{good}), 1u);
  EXPECT_EQ(ReadFixed(ring, fd, memory, 1, 1), 1);
  EXPECT_EQ(memory[0], '0');
  EXPECT_EQ(RegisterBuffersUpdate(ring, 1, std::array{TableBuffer{}}), 1u);
  EXPECT_EQ(ReadFixed(ring, fd, memory, 1, 1), -EFAULT);
  EXPECT_EQ(RegisterBuffersUpdate(ring, 0, std::array{good, bad, good}), 1u);
  EXPECT_EQ(ErrorOf(RegisterBuffersUpdate(ring, 0, std::array{bad})),
            std::errc::bad_address);
  EXPECT_EQ(ErrorOf(RegisterBuffersUpdate(ring, 2, std::array{good, good})),
            std::errc::invalid_argument);
  EXPECT_EQ(ErrorOf(RegisterBuffersUpdate(ring, 2, std::array{TableBuffer{}},
                                          std::array<std::uint64_t, 1>{1})),
            std::errc::invalid_argument);
  ExpectUsable(ring);
  close(fd);
  munmap(memory, kPage);
}

TEST(RawBufferTable, UnregisteringIsNoBarrierButATagIs) {
  Ring ring = MakeRing();
  const Pipe pipe;
  char* const memory = Pages(2);
  ASSERT_FALSE(RegisterBuffers(ring,
                               std::array{TableBuffer{memory, kPage},
                                          TableBuffer{memory + kPage, kPage}},
                               std::array<std::uint64_t, 2>{100, 101}));
  Queue(ring, 1, [&](io_uring_sqe* sqe) {
    io_uring_prep_read_fixed(sqe, pipe.read_end, memory, 5, 0, 0);
  });
  EXPECT_EQ(Poll(ring), Completions{});
  EXPECT_FALSE(UnregisterBuffers(ring));
  EXPECT_EQ(Poll(ring), (Completions{{101, 0, 0}}));
  EXPECT_EQ(memory[0], 0);
  Write(pipe.write_end, "after");
  EXPECT_EQ(Reap(ring, 2), (Completions{{1, 5, 0}, {100, 0, 0}}));
  EXPECT_EQ(std::string_view(memory, 5), "after");
  close(pipe.read_end);
  close(pipe.write_end);
  munmap(memory, 2 * kPage);
}

TEST(RawBufferTable, TagsOfUpdates) {
  Ring ring = MakeRing();
  char* const memory = Pages(1);
  const TableBuffer buffer = {memory, kPage};
  ASSERT_FALSE(RegisterBuffersSparse(ring, 1));
  EXPECT_EQ(RegisterBuffersUpdate(ring, 0, std::array{buffer},
                                  std::array<std::uint64_t, 1>{300}),
            1u);
  EXPECT_EQ(Poll(ring), Completions{});
  EXPECT_EQ(RegisterBuffersUpdate(ring, 0, std::array{buffer}), 1u);
  EXPECT_EQ(Poll(ring), (Completions{{300, 0, 0}}));
  munmap(memory, kPage);
}

TEST(RawBufferTable, Clones) {
  Ring source = MakeRing();
  Ring ring = MakeRing();
  const TemporaryFile file("0123456789");
  const int fd = file.Open(O_RDONLY);
  char* const memory = Pages(2);
  if (const std::error_code error = CloneBuffers(ring, source);
      error == std::errc::invalid_argument) {
    GTEST_SKIP() << "clones need Linux 6.12";
  } else {
    EXPECT_EQ(error, std::errc::no_such_device_or_address);
  }
  ASSERT_FALSE(RegisterBuffers(source,
                               std::array{TableBuffer{memory, kPage},
                                          TableBuffer{memory + kPage, kPage}},
                               std::array<std::uint64_t, 2>{100, 101}));
  ASSERT_FALSE(CloneBuffers(ring, source));
  EXPECT_EQ(ReadFixed(ring, fd, memory, 10, 0), 10);
  EXPECT_EQ(ReadFixed(ring, fd, memory + kPage, 10, 1), 10);
  EXPECT_EQ(std::string_view(memory + kPage, 10), "0123456789");
  EXPECT_EQ(CloneBuffers(ring, source), std::errc::device_or_resource_busy);

  // A part of it, behind what there is.
  EXPECT_FALSE(CloneBuffers(
      ring, source,
      {.to = 4, .from = 1, .count = 1, .flags = IORING_REGISTER_DST_REPLACE}));
  EXPECT_EQ(ReadFixed(ring, fd, memory + kPage, 10, 4), 10);
  EXPECT_EQ(ReadFixed(ring, fd, memory + kPage, 10, 1), 10);
  EXPECT_EQ(ReadFixed(ring, fd, memory, 10, 4), -EFAULT);
  EXPECT_EQ(ReadFixed(ring, fd, memory, 10, 3), -EFAULT);
  EXPECT_EQ(CloneBuffers(
                ring, source,
                {.from = 2, .count = 1, .flags = IORING_REGISTER_DST_REPLACE}),
            std::errc::value_too_large);

  // The clones outlive the source's table, whose tags do not wait for them.
  EXPECT_FALSE(UnregisterBuffers(source));
  Completions tags = Poll(source);
  std::ranges::sort(tags, {}, &Completion::user_data);
  EXPECT_EQ(tags, (Completions{{100, 0, 0}, {101, 0, 0}}));
  EXPECT_EQ(ReadFixed(ring, fd, memory, 10, 0), 10);
  EXPECT_FALSE(UnregisterBuffers(ring));
  EXPECT_EQ(Poll(ring), Completions{});
  ExpectUsable(ring);
  ExpectUsable(source);
  close(fd);
  munmap(memory, 2 * kPage);
}

TEST(RawBufferTable, ClonesOfARegisteredRing) {
  Ring source = MakeRing();
  Ring ring = MakeRing();
  char* const memory = Pages(1);
  ASSERT_FALSE(RegisterBuffers(source, std::array{TableBuffer{memory, kPage}}));
  ASSERT_FALSE(source.RegisterRingFd());
  ASSERT_FALSE(CloseRingFd(source));
  EXPECT_EQ(CloneBuffers(ring, source), std::errc::bad_file_descriptor);
  EXPECT_FALSE(
      CloneBuffers(ring, source, {.flags = IORING_REGISTER_SRC_REGISTERED}));
  EXPECT_FALSE(UnregisterBuffers(ring));
  munmap(memory, kPage);
}

// Restrictions.

TEST(RawRestrictions, OfARing) {
  Ring ring = MakeRing(IORING_SETUP_R_DISABLED);
  EXPECT_EQ(RegisterRestrictions(ring, std::array{AllowOperation(255)}),
            std::errc::invalid_argument);
  ASSERT_FALSE(RegisterRestrictions(
      ring,
      std::array{AllowOperation(IORING_OP_NOP), AllowOperation(IORING_OP_WRITE),
                 AllowRegister(IORING_REGISTER_PERSONALITY),
                 AllowSqeFlags(IOSQE_ASYNC | IOSQE_CQE_SKIP_SUCCESS),
                 RequireSqeFlags(IOSQE_ASYNC)}));
  EXPECT_EQ(
      RegisterRestrictions(ring, std::array{AllowOperation(IORING_OP_NOP)}),
      std::errc::device_or_resource_busy);
  // Not yet.
  EXPECT_FALSE(RegisterFilesSparse(ring, 1));
  ASSERT_FALSE(EnableRings(ring));
  const auto result = [&](std::uint8_t opcode, unsigned flags) {
    return ResultOfPrepared(ring, [&](io_uring_sqe* sqe) {
      io_uring_prep_rw(opcode, sqe, -1, nullptr, 0, 0);
      sqe->flags = static_cast<std::uint8_t>(flags);
    });
  };
  EXPECT_EQ(result(IORING_OP_NOP, IOSQE_ASYNC), 0);
  EXPECT_EQ(result(IORING_OP_WRITE, IOSQE_ASYNC), -EBADF);
  EXPECT_EQ(result(IORING_OP_WRITE, IOSQE_ASYNC | IOSQE_CQE_SKIP_SUCCESS),
            -EBADF);
  EXPECT_EQ(result(IORING_OP_READ, IOSQE_ASYNC), -EACCES);
  EXPECT_EQ(result(IORING_OP_NOP, 0), -EACCES);
  EXPECT_EQ(result(IORING_OP_NOP, IOSQE_ASYNC | IOSQE_IO_LINK), -EACCES);
  EXPECT_TRUE(RegisterPersonality(ring));
  EXPECT_EQ(UnregisterFiles(ring), std::errc::permission_denied);
  EXPECT_EQ(result(IORING_OP_NOP, IOSQE_ASYNC), 0);
}

TEST(RawRestrictions, NothingAllowed) {
  Ring ring = MakeRing(IORING_SETUP_R_DISABLED);
  ASSERT_FALSE(RegisterRestrictions(ring, {}));
  ASSERT_FALSE(EnableRings(ring));
  EXPECT_EQ(ResultOfPrepared(ring, io_uring_prep_nop), -EACCES);
  EXPECT_EQ(ErrorOf(RegisterPersonality(ring)), std::errc::permission_denied);
}

TEST(RawRestrictions, NotWhenEnabled) {
  Ring ring = MakeRing();
  EXPECT_EQ(
      RegisterRestrictions(ring, std::array{AllowOperation(IORING_OP_NOP)})
          .value(),
      EBADFD);
  ExpectUsable(ring);
}

TEST(RawRestrictions, OfAThread) {
  const std::vector<io_uring_restriction> too_many(kMaxTaskRestrictions + 1);
  EXPECT_EQ(RegisterTaskRestrictions(too_many), std::errc::invalid_argument);
  ExpectChildSucceeds([] {
    Ring before = MakeRing();
    ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    const std::error_code error =
        RegisterTaskRestrictions(std::array{AllowOperation(IORING_OP_NOP)});
    ExpectUsable(before);
    Ring after = MakeRing();
    ExpectUsable(after);
    if (error) {
      // Linux 7.0 has it.
      EXPECT_EQ(error, std::errc::invalid_argument);
    } else {
      EXPECT_EQ(ResultOfPrepared(after,
                                 [](io_uring_sqe* sqe) {
                                   io_uring_prep_read(sqe, 0, nullptr, 0, 0);
                                 }),
                -EACCES);
    }
  });
}

TEST(RawRestrictions, BpfFilters) {
  ExpectChildSucceeds([] {
    Ring ring = MakeRing();
    ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    const sock_filter deny[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    BpfFilter filter = {.opcode = IORING_OP_READ, .program = deny};
    const std::error_code error = RegisterBpfFilter(ring, filter);
    EXPECT_EQ(RegisterBpfFilterTask(filter), error);
    ExpectUsable(ring);
    if (error) {
      // Linux 7.0 has them.
      EXPECT_EQ(error, std::errc::invalid_argument);
      return;
    }
    Ring after = MakeRing();
    for (Ring* filtered : {&ring, &after}) {
      EXPECT_EQ(ResultOfPrepared(*filtered,
                                 [](io_uring_sqe* sqe) {
                                   io_uring_prep_read(sqe, 0, nullptr, 0, 0);
                                 }),
                -EACCES);
    }
    // The kernel says how much payload it has.
    BpfFilter payload = {.opcode = IORING_OP_SOCKET,
                         .program = deny,
                         .flags = IO_URING_BPF_FILTER_SZ_STRICT};
    EXPECT_EQ(RegisterBpfFilter(ring, payload), std::errc::message_size);
    EXPECT_GE(payload.payload_size, 12);
  });
}

// Synchronous operations.

class RawSyncCancel : public ::testing::TestWithParam<unsigned> {
 protected:
  // Puts a read of `pipe` into flight. The worker has started on an IOSQE_ASYNC
  // one or not: either can be cancelled.
  void Read(Ring& ring, const Pipe& pipe, std::uint64_t user_data,
            unsigned flags = 0) {
    Queue(ring, user_data, [&](io_uring_sqe* sqe) {
      io_uring_prep_read(sqe,
                         (flags & IOSQE_FIXED_FILE) != 0 ? 0 : pipe.read_end,
                         &byte_, 1, 0);
      sqe->flags |= static_cast<std::uint8_t>(flags);
    });
    ASSERT_EQ(Poll(ring), Completions{});
  }

  // The completions that cancelling made, in order of user_data.
  Completions Cancelled(Ring& ring, unsigned count) {
    Completions completions = Reap(ring, count);
    std::ranges::sort(completions, {}, &Completion::user_data);
    return completions;
  }

  char byte_ = 0;
};

TEST_P(RawSyncCancel, ByWhatIsAsked) {
  Ring ring = MakeRing(GetParam());
  const Pipe pipe, other;
  EXPECT_EQ(ErrorOf(RegisterSyncCancel(ring, {.user_data = 7})),
            std::errc::no_such_file_or_directory);
  EXPECT_EQ(ErrorOf(RegisterSyncCancel(
                ring, {.fd = -1, .flags = IORING_ASYNC_CANCEL_FD})),
            std::errc::bad_file_descriptor);
  EXPECT_EQ(ErrorOf(RegisterSyncCancel(ring, {.flags = 1u << 31})),
            std::errc::invalid_argument);
  EXPECT_EQ(RegisterSyncCancel(ring, {.flags = IORING_ASYNC_CANCEL_ANY |
                                               IORING_ASYNC_CANCEL_ALL}),
            0u);

  // One of two with the same user_data, then both of two.
  Read(ring, pipe, 7);
  Read(ring, pipe, 7);
  Read(ring, pipe, 8);
  EXPECT_EQ(RegisterSyncCancel(ring, {.user_data = 7}), 0u);
  EXPECT_EQ(Cancelled(ring, 1), (Completions{{7, -ECANCELED, 0}}));
  Read(ring, pipe, 7);
  EXPECT_EQ(RegisterSyncCancel(
                ring, {.user_data = 7, .flags = IORING_ASYNC_CANCEL_ALL}),
            2u);
  EXPECT_EQ(Cancelled(ring, 2),
            (Completions{{7, -ECANCELED, 0}, {7, -ECANCELED, 0}}));

  // By descriptor, by slot, and by operation.
  Read(ring, other, 9);
  EXPECT_EQ(RegisterSyncCancel(
                ring, {.fd = other.read_end, .flags = IORING_ASYNC_CANCEL_FD}),
            0u);
  EXPECT_EQ(Cancelled(ring, 1), (Completions{{9, -ECANCELED, 0}}));
  ASSERT_FALSE(RegisterFiles(ring, std::array{other.read_end}));
  Read(ring, other, 10, IOSQE_FIXED_FILE);
  EXPECT_EQ(RegisterSyncCancel(ring, {.fd = 0,
                                      .flags = IORING_ASYNC_CANCEL_FD |
                                               IORING_ASYNC_CANCEL_FD_FIXED}),
            0u);
  EXPECT_EQ(Cancelled(ring, 1), (Completions{{10, -ECANCELED, 0}}));
  EXPECT_EQ(
      ErrorOf(RegisterSyncCancel(
          ring, {.opcode = IORING_OP_WRITE, .flags = IORING_ASYNC_CANCEL_OP})),
      std::errc::no_such_file_or_directory);
  EXPECT_EQ(RegisterSyncCancel(ring, {.opcode = IORING_OP_READ,
                                      .flags = IORING_ASYNC_CANCEL_OP}),
            0u);
  EXPECT_EQ(Cancelled(ring, 1), (Completions{{8, -ECANCELED, 0}}));
  ExpectUsable(ring);
  for (const int fd :
       {pipe.read_end, pipe.write_end, other.read_end, other.write_end}) {
    close(fd);
  }
}

// A request that a worker is running, and one that it has not started yet.
TEST_P(RawSyncCancel, InterruptsWorkers) {
  const bool deferred = (GetParam() & IORING_SETUP_DEFER_TASKRUN) != 0;
  Ring ring = MakeRing(GetParam());
  for (const bool running : {false, true}) {
    Fifo fifo;
    fifo.Open(ring, 7);
    if (running) AwaitSleepingWorkers();
    const __kernel_timespec moment = {.tv_sec = 0, .tv_nsec = 1000};
    const auto cancelled = RegisterSyncCancel(
        ring, {.user_data = 7, .timeout = deferred ? &moment : nullptr});
    // The end of what a worker runs does not wake the call.
    if (cancelled || !deferred) {
      EXPECT_EQ(cancelled, 0u);
    } else {
      EXPECT_EQ(cancelled.error(), std::errc::stream_timeout);
    }
    const Completions ended = Cancelled(ring, 1);
    ASSERT_EQ(ended.size(), 1u);
    constexpr int kRestart = 512;  // ERESTARTSYS, of the kernel's own
    EXPECT_TRUE(ended[0].result == -ECANCELED || ended[0].result == -EINTR ||
                ended[0].result == -kRestart)
        << ended[0].result;
  }
  ExpectUsable(ring);
}

INSTANTIATE_TEST_SUITE_P(Rings, RawSyncCancel,
                         ::testing::Values(0u, IORING_SETUP_SINGLE_ISSUER |
                                                   IORING_SETUP_DEFER_TASKRUN));

TEST(RawSyncCancelThreads, CompletionsComeAtOnceOrWithTheNextGetEvents) {
  for (const bool deferred : {false, true}) {
    Ring ring = MakeRing(
        deferred ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN : 0);
    const Pipe pipe;
    char byte;
    Queue(ring, 1, [&](io_uring_sqe* sqe) {
      io_uring_prep_read(sqe, pipe.read_end, &byte, 1, 0);
    });
    EXPECT_EQ(Poll(ring), Completions{});
    if (deferred) {
      std::thread([&] {
        EXPECT_EQ(ErrorOf(RegisterSyncCancel(ring, {.user_data = 1})),
                  std::errc::file_exists);
      }).join();
    }
    EXPECT_EQ(RegisterSyncCancel(ring, {.user_data = 1}), 0u);
    EXPECT_EQ(io_uring_cq_ready(ring.get()), deferred ? 0u : 1u);
    EXPECT_EQ(Poll(ring), (Completions{{1, -ECANCELED, 0}}));
    close(pipe.read_end);
    close(pipe.write_end);
  }
}

TEST(RawSyncCancelThreads, ThePollingThreadHasWorkersOfItsOwn) {
  Ring ring = MakeRing(IORING_SETUP_SQPOLL);
  const Pipe pipe;
  char byte;
  Queue(ring, 1, [&](io_uring_sqe* sqe) {
    io_uring_prep_read(sqe, pipe.read_end, &byte, 1, 0);
  });
  ASSERT_GE(io_uring_submit(ring.get()), 0);
  while (io_uring_sq_ready(ring.get()) != 0) std::this_thread::yield();
  // Consumed, but perhaps not in flight yet.
  std::error_code error = std::make_error_code(std::errc::invalid_argument);
  do {
    error = ErrorOf(RegisterSyncCancel(ring, {.user_data = 1}));
  } while (error == std::errc::no_such_file_or_directory);
  EXPECT_FALSE(error) << error.message();
  EXPECT_EQ(Reap(ring), (Completions{{1, -ECANCELED, 0}}));

  Fifo fifo;
  fifo.Open(ring, 2);
  AwaitSleepingWorkers();
  error = ErrorOf(RegisterSyncCancel(ring, {.user_data = 2}));
  EXPECT_TRUE(!error || error == std::errc::no_such_file_or_directory)
      << error.message();
  Queue(ring, 3, [](io_uring_sqe* sqe) { io_uring_prep_cancel64(sqe, 2, 0); });
  Completions ended = Reap(ring, 2);
  std::ranges::sort(ended, {}, &Completion::user_data);
  ASSERT_EQ(ended.size(), 2u);
  EXPECT_EQ(ended[0].user_data, 2u);
  EXPECT_LT(ended[0].result, 0);
  close(pipe.read_end);
  close(pipe.write_end);
}

TEST(RawSyncMsg, ArrivesInAnotherRing) {
  for (const unsigned flags :
       {0u, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN}) {
    Ring ring = MakeRing(flags);
    const int fd = ring.get()->ring_fd;
    std::error_code error;
    std::thread([&] {
      error = RegisterSyncMsg({.ring_fd = fd, .user_data = 5, .result = -6});
    }).join();
    if (error == std::errc::invalid_argument) {
      GTEST_SKIP() << "messages without a ring need Linux 6.13";
    }
    ASSERT_FALSE(error) << error.message();
    EXPECT_EQ(Reap(ring), (Completions{{5, -6, 0}}));
    EXPECT_FALSE(RegisterSyncMsg(
        {.ring_fd = fd, .user_data = 7, .result = 8, .flags = 0x4000}));
    EXPECT_EQ(Reap(ring), (Completions{{7, 8, 0x4000}}));
    ExpectUsable(ring);
  }
}

TEST(RawSyncMsg, NeedsAnEnabledRing) {
  Ring ring = MakeRing(IORING_SETUP_R_DISABLED);
  const std::error_code error =
      RegisterSyncMsg({.ring_fd = ring.get()->ring_fd});
  if (error == std::errc::invalid_argument) {
    GTEST_SKIP() << "messages without a ring need Linux 6.13";
  }
  EXPECT_EQ(error.value(), EBADFD);
  const Pipe pipe;
  EXPECT_EQ(RegisterSyncMsg({.ring_fd = pipe.read_end}).value(), EBADFD);
  EXPECT_EQ(RegisterSyncMsg({.ring_fd = -1}), std::errc::bad_file_descriptor);
  ASSERT_FALSE(EnableRings(ring));
  EXPECT_FALSE(RegisterSyncMsg({.ring_fd = ring.get()->ring_fd}));
  EXPECT_EQ(Reap(ring), (Completions{{0, 0, 0}}));
  close(pipe.read_end);
  close(pipe.write_end);
}

// Memory regions.

// Waits that are described in `waits`, a page of them.
void ExpectRegisteredWaits(Ring& ring, void* region) {
  auto* waits = static_cast<io_uring_reg_wait*>(region);
  constexpr int kEnd = kPage / sizeof(io_uring_reg_wait);
  constexpr int kIndex = kEnd - 2;  // memory_region.h says why not the last
  waits[kIndex].flags = IORING_REG_WAIT_TS;
  waits[kIndex].ts.tv_nsec = 1000;
  io_uring_cqe* cqe = nullptr;
  EXPECT_EQ(io_uring_submit_and_wait_reg(ring.get(), &cqe, 1, kIndex), -ETIME);
  EXPECT_EQ(io_uring_submit_and_wait_reg(ring.get(), &cqe, 1, kEnd), -EFAULT);
  Queue(ring, 1, io_uring_prep_nop);
  EXPECT_EQ(io_uring_submit_and_wait_reg(ring.get(), &cqe, 1, kIndex), 1);
  ASSERT_NE(cqe, nullptr);
  EXPECT_EQ(cqe->user_data, 1u);
  io_uring_cqe_seen(ring.get(), cqe);
}

TEST(RawMemoryRegion, OfTheCaller) {
  Ring ring = MakeRing(IORING_SETUP_R_DISABLED);
  // Not unmapped: the ring is gone some time after its destruction.
  char* const memory = Pages(1);
  const std::error_code error =
      RegisterRegion(ring, memory, kPage, IORING_MEM_REGION_REG_WAIT_ARG);
  if (error == std::errc::invalid_argument) {
    GTEST_SKIP() << "regions need Linux 6.13";
  }
  ASSERT_FALSE(error) << error.message();
  EXPECT_EQ(RegisterRegion(ring, memory, kPage),
            std::errc::device_or_resource_busy);
  ASSERT_FALSE(EnableRings(ring));
  ExpectRegisteredWaits(ring, memory);
}

TEST(RawMemoryRegion, OfTheKernel) {
  Ring ring = MakeRing(IORING_SETUP_R_DISABLED);
  const auto memory = MapRegion(ring, kPage, IORING_MEM_REGION_REG_WAIT_ARG);
  if (ErrorOf(memory) == std::errc::invalid_argument) {
    GTEST_SKIP() << "regions need Linux 6.13";
  }
  ASSERT_TRUE(memory) << memory.error().message();
  ASSERT_FALSE(EnableRings(ring));
  ExpectRegisteredWaits(ring, *memory);
  munmap(*memory, kPage);
  ExpectUsable(ring);
}

TEST(RawMemoryRegion, WhatIsRefused) {
  Ring ring = MakeRing();
  char* const memory = Pages(2);
  // For waits, only before the ring is enabled.
  EXPECT_EQ(RegisterRegion(ring, memory, kPage, IORING_MEM_REGION_REG_WAIT_ARG),
            std::errc::invalid_argument);
  EXPECT_EQ(RegisterRegion(ring, memory + 8, kPage),
            std::errc::invalid_argument);
  EXPECT_EQ(ErrorOf(MapRegion(ring, 100)), std::errc::invalid_argument);
  const std::error_code null = RegisterRegion(ring, nullptr, kPage);
  if (null == std::errc::invalid_argument) {
    GTEST_SKIP() << "regions need Linux 6.13";
  }
  EXPECT_EQ(null, std::errc::bad_address);
  EXPECT_FALSE(RegisterRegion(ring, memory, 2 * kPage));
  ExpectUsable(ring);
}

// Questions.

TEST(RawQuery, Opcodes) {
  const auto opcodes = QueryOpcodes();
  if (ErrorOf(opcodes) == std::errc::invalid_argument) {
    GTEST_SKIP() << "queries need Linux 6.18";
  }
  ASSERT_TRUE(opcodes) << opcodes.error().message();
  EXPECT_GT(opcodes->nr_request_opcodes, unsigned{IORING_OP_PIPE});
  EXPECT_GT(opcodes->nr_register_opcodes, unsigned{IORING_REGISTER_QUERY});
  EXPECT_TRUE(opcodes->ring_setup_flags & IORING_SETUP_DEFER_TASKRUN);
  EXPECT_TRUE(opcodes->sqe_flags & IOSQE_FIXED_FILE);
  Ring ring = MakeRing();
  EXPECT_EQ(opcodes->feature_flags, ring.features());
}

// A newer question is answered, or refused by its number, not by its size.
TEST(RawQuery, NewerQuestions) {
  const auto opcodes = QueryOpcodes();
  if (ErrorOf(opcodes) == std::errc::invalid_argument) {
    EXPECT_EQ(ErrorOf(QueryZcrx()), std::errc::invalid_argument);
    GTEST_SKIP() << "queries need Linux 6.18";
  }
  ASSERT_TRUE(opcodes) << opcodes.error().message();
  const auto zcrx = QueryZcrx();
  if (opcodes->nr_query_opcodes > IO_URING_QUERY_ZCRX) {
    ASSERT_TRUE(zcrx) << zcrx.error().message();
    EXPECT_GT(zcrx->rq_hdr_size, 0u);
  } else {
    EXPECT_EQ(zcrx.error(), std::errc::operation_not_supported);
  }
  const auto scq = QueryScq();
  if (opcodes->nr_query_opcodes > IO_URING_QUERY_SCQ) {
    ASSERT_TRUE(scq) << scq.error().message();
    EXPECT_GT(scq->hdr_size, 0u);
  } else {
    EXPECT_EQ(scq.error(), std::errc::operation_not_supported);
  }
}

TEST(RawQuery, Chains) {
  io_uring_query_opcode answers[2] = {};
  io_uring_query_hdr queries[3] = {};
  for (int i = 0; i < 2; ++i) {
    queries[i].next_entry = reinterpret_cast<std::uintptr_t>(&queries[i + 1]);
    queries[i].query_op = IO_URING_QUERY_OPCODES;
    queries[i].query_data = reinterpret_cast<std::uintptr_t>(&answers[i]);
    queries[i].size = sizeof(answers[i]);
  }
  queries[2].query_op = 1 << 20;
  if (const std::error_code error = RegisterQuery(queries[0])) {
    ASSERT_EQ(error, std::errc::invalid_argument);
    GTEST_SKIP() << "queries need Linux 6.18";
  }
  EXPECT_EQ(queries[0].result, 0);
  EXPECT_EQ(queries[1].result, 0);
  EXPECT_LT(queries[2].result, 0);
  EXPECT_NE(answers[1].nr_request_opcodes, 0u);
}

// Zero-copy receive, as far as it goes without such a device.

static_assert(decltype(IfqOptions::area)::kUntil == Until::kTeardown);
static_assert(decltype(IfqOptions::refill_ring)::kUntil == Until::kTeardown);

TEST(RawZeroCopyReceive, WithoutADevice) {
  Ring plain = MakeRing();
  // Not unmapped: were it accepted, the ring would be gone later.
  char* const memory = Pages(6);
  const auto options = [&](std::uint32_t index) {
    return IfqOptions{.interface_index = index,
                      .entries = 64,
                      .area = memory,
                      .area_size = 4 * kPage,
                      .refill_ring = memory + 4 * kPage,
                      .refill_ring_size = 2 * kPage};
  };
  const unsigned loopback = if_nametoindex("lo");
  const std::error_code wrong_ring =
      ErrorOf(RegisterIfq(plain, options(loopback)));
  EXPECT_TRUE(wrong_ring == std::errc::invalid_argument ||
              wrong_ring == std::errc::operation_not_permitted)
      << wrong_ring.message();
  ExpectUsable(plain);

  Ring ring = MakeRing(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_CQE32);
  const std::error_code no_device =
      ErrorOf(RegisterIfq(ring, options(0x7fffffff)));
  const std::error_code cannot = ErrorOf(RegisterIfq(ring, options(loopback)));
  const std::error_code not_exported = ErrorOf(ImportIfq(ring, 0));
  const std::error_code flush = FlushIfq(ring, 0);
  EXPECT_TRUE(not_exported) << "descriptor 0 is no queue";
  EXPECT_TRUE(flush == std::errc::invalid_argument ||
              flush == std::errc::no_such_device_or_address)
      << flush.message();
  EXPECT_EQ(ErrorOf(ExportIfq(ring, 0)), flush);
  ExpectUsable(ring);
  if (no_device == std::errc::no_such_device) {
    EXPECT_EQ(cannot, std::errc::operation_not_supported);
  } else {
    // Without CAP_NET_ADMIN, without CONFIG_IO_URING_ZCRX, before Linux 6.15.
    EXPECT_TRUE(no_device == std::errc::operation_not_permitted ||
                no_device == std::errc::operation_not_supported ||
                no_device == std::errc::invalid_argument)
        << no_device.message();
  }
}

// With no device at all: newer kernels copy into the area then.
TEST(RawZeroCopyReceive, OfNoDevice) {
  Ring ring = MakeRing(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_CQE32);
  char* const memory = Pages(6);
  const auto queue = RegisterIfq(ring, {.entries = 64,
                                        .flags = ZCRX_REG_NODEV,
                                        .area = memory,
                                        .area_size = 4 * kPage,
                                        .refill_ring = memory + 4 * kPage,
                                        .refill_ring_size = 2 * kPage});
  ExpectUsable(ring);
  if (!queue) {
    GTEST_SKIP() << "ZCRX_REG_NODEV is refused: " << queue.error().message();
  }
  EXPECT_EQ(queue->entries, 64u);
  EXPECT_GT(queue->offsets.rqes, 0u);
  EXPECT_FALSE(FlushIfq(ring, queue->id));
  const auto exported = ExportIfq(ring, queue->id);
  ASSERT_TRUE(exported) << exported.error().message();
  Ring other = MakeRing(IORING_SETUP_SINGLE_ISSUER |
                        IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQE32);
  const auto imported = ImportIfq(other, *exported);
  EXPECT_TRUE(imported) << imported.error().message();
  close(*exported);
}

}  // namespace
}  // namespace escrow::raw
