#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <linux/mman.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "tests/raw_support.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

using testing::KernelHasSetupFlags;
using testing::MakeRing;
using testing::ResultOf;
using testing::Seen;
using testing::TakeSeen;
using testing::TryMakeRing;

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Memory of the caller's.
class Pages {
 public:
  explicit Pages(std::size_t size, int flags = 0)
      : size_(size),
        data_(::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0)) {}
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() {
    if (valid()) ::munmap(data_, size_);
  }
  bool valid() const { return data_ != MAP_FAILED; }
  char* data() const { return static_cast<char*>(data_); }

 private:
  std::size_t size_;
  void* data_;
};

// The numbers of the SQPOLL threads of this process.
std::vector<int> PollingThreads() {
  std::vector<int> threads;
  DIR* const directory = opendir("/proc/self/task");
  while (const dirent* const entry = readdir(directory)) {
    std::ifstream file("/proc/self/task/" + std::string(entry->d_name) +
                       "/comm");
    std::string name;
    if (std::getline(file, name) && name.starts_with("iou-sqp")) {
      threads.push_back(std::atoi(entry->d_name));
    }
  }
  closedir(directory);
  return threads;
}

// Threads of rings that are gone end some time later.
std::size_t PollingThreadsInTheEnd(std::size_t expected) {
  for (int i = 0; i < 2000 && PollingThreads().size() != expected; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return PollingThreads().size();
}

std::size_t Mappings() {
  std::ifstream file("/proc/self/maps");
  return static_cast<std::size_t>(
      std::count(std::istreambuf_iterator<char>(file), {}, '\n'));
}

void ExpectWorks(Ring& ring) {
  // More than the queue, so that it wraps.
  for (std::uint64_t i = 0; i < 20; i += 2) {
    ring.Push(Nop{}, i);
    ring.Push(Nop{}, i + 1);
    ASSERT_TRUE(ring.Submit());
    std::vector<Seen> seen;
    while (seen.size() < 2) {
      ASSERT_TRUE(ring.SubmitAndWait(1));
      for (const Seen& one : TakeSeen(ring)) seen.push_back(one);
    }
    ASSERT_EQ(seen, (std::vector<Seen>{{i, 0}, {i + 1, 0}}));
  }
}

struct Case {
  const char* name;
  std::uint32_t flags;
};

class EachFlag : public ::testing::TestWithParam<Case> {};

// Every flag, with what it needs: a ring that works, or EINVAL from a kernel
// that does not know it.
TEST_P(EachFlag, WorksOrIsRefused) {
  auto ring = TryMakeRing({.entries = 8, .setup_flags = GetParam().flags});
  if (!KernelHasSetupFlags(GetParam().flags)) {
    ASSERT_FALSE(ring);
    EXPECT_EQ(ring.error(), std::errc::invalid_argument);
    GTEST_SKIP() << "this kernel has no " << GetParam().name;
  }
  ASSERT_TRUE(ring) << ring.error().message();
  EXPECT_EQ(ring->setup_flags() & GetParam().flags, GetParam().flags);
  ExpectWorks(*ring);
}

constexpr std::uint32_t kDeferred =
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

INSTANTIATE_TEST_SUITE_P(
    RawSetup, EachFlag,
    ::testing::Values(
        Case{"IOPOLL", IORING_SETUP_IOPOLL},
        Case{"HYBRID_IOPOLL", IORING_SETUP_HYBRID_IOPOLL | IORING_SETUP_IOPOLL},
        Case{"SQPOLL", IORING_SETUP_SQPOLL},
        Case{"SQPOLL_IOPOLL", IORING_SETUP_SQPOLL | IORING_SETUP_IOPOLL},
        Case{"CLAMP", IORING_SETUP_CLAMP},
        Case{"SUBMIT_ALL", IORING_SETUP_SUBMIT_ALL},
        Case{"COOP_TASKRUN", IORING_SETUP_COOP_TASKRUN},
        Case{"TASKRUN_FLAG",
             IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_COOP_TASKRUN},
        Case{"SQE128", IORING_SETUP_SQE128}, Case{"CQE32", IORING_SETUP_CQE32},
        Case{"SINGLE_ISSUER", IORING_SETUP_SINGLE_ISSUER},
        Case{"DEFER_TASKRUN", kDeferred}, Case{"NO_MMAP", IORING_SETUP_NO_MMAP},
        Case{"REGISTERED_FD_ONLY",
             IORING_SETUP_REGISTERED_FD_ONLY | IORING_SETUP_NO_MMAP},
        Case{"NO_SQARRAY", IORING_SETUP_NO_SQARRAY},
        Case{"CQE_MIXED", IORING_SETUP_CQE_MIXED},
        Case{"SQE_MIXED", IORING_SETUP_SQE_MIXED},
        Case{"SQ_REWIND", IORING_SETUP_SQ_REWIND | IORING_SETUP_NO_SQARRAY}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(RawSetup, CombinationsThatTheKernelRefuses) {
  for (const std::uint32_t flags :
       {IORING_SETUP_HYBRID_IOPOLL, IORING_SETUP_SQ_AFF,
        IORING_SETUP_TASKRUN_FLAG, IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_REGISTERED_FD_ONLY, IORING_SETUP_CQSIZE,
        IORING_SETUP_SQPOLL | IORING_SETUP_COOP_TASKRUN,
        IORING_SETUP_SQPOLL | kDeferred,
        IORING_SETUP_CQE_MIXED | IORING_SETUP_CQE32}) {
    const auto ring = TryMakeRing({.entries = 8, .setup_flags = flags});
    EXPECT_FALSE(ring) << flags;
    if (ring) continue;
    EXPECT_EQ(ring.error(), std::errc::invalid_argument) << flags;
  }
}

TEST(RawSetup, Sizes) {
  EXPECT_EQ(TryMakeRing({.entries = 1u << 16}).error(),
            std::errc::invalid_argument);
  {
    Ring largest =
        MakeRing({.entries = 1u << 16, .setup_flags = IORING_SETUP_CLAMP});
    EXPECT_EQ(largest.get()->sq.ring_entries, 32768u);
    EXPECT_EQ(largest.get()->cq.ring_entries, 65536u);
  }
  Ring rounded = MakeRing({.entries = 5});
  EXPECT_EQ(rounded.get()->sq.ring_entries, 8u);
  EXPECT_EQ(rounded.get()->cq.ring_entries, 16u);
  Ring chosen = MakeRing({.entries = 8, .completion_entries = 50});
  EXPECT_EQ(chosen.get()->sq.ring_entries, 8u);
  EXPECT_EQ(chosen.get()->cq.ring_entries, 64u);
  EXPECT_EQ(TryMakeRing({.entries = 8, .completion_entries = 4}).error(),
            std::errc::invalid_argument);
}

TEST(RawSetup, PollingThreadSleepsAndIsWoken) {
  Ring ring = MakeRing({.entries = 8,
                        .setup_flags = IORING_SETUP_SQPOLL,
                        .sq_thread_idle_ms = 1});
  for (std::uint64_t i = 0; i < 3; ++i) {
    while (!ring.sq_needs_wakeup()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ring.Push(Nop{}, i);
    ASSERT_TRUE(ring.SubmitAndWait(1));
    EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{i, 0}}));
  }
}

TEST(RawSetup, PollingThreadStaysOnItsProcessor) {
  ASSERT_EQ(PollingThreadsInTheEnd(0), 0u);
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &allowed)) ++cpu;

  Ring ring = MakeRing(
      {.entries = 8, .setup_flags = IORING_SETUP_SQPOLL, .sq_thread_cpu = cpu});
  EXPECT_NE(ring.setup_flags() & IORING_SETUP_SQ_AFF, 0u);
  ExpectWorks(ring);
  const std::vector<int> threads = PollingThreads();
  ASSERT_EQ(threads.size(), 1u);
  cpu_set_t processors;
  ASSERT_EQ(sched_getaffinity(threads[0], sizeof(processors), &processors), 0);
  EXPECT_EQ(CPU_COUNT(&processors), 1);
  EXPECT_TRUE(CPU_ISSET(cpu, &processors));

  EXPECT_EQ(TryMakeRing({.entries = 8,
                         .setup_flags = IORING_SETUP_SQPOLL,
                         .sq_thread_cpu = 1 << 20})
                .error(),
            std::errc::invalid_argument);
}

TEST(RawSetup, RingsShareAPollingThread) {
  ASSERT_EQ(PollingThreadsInTheEnd(0), 0u);
  Ring first = MakeRing({.entries = 8, .setup_flags = IORING_SETUP_SQPOLL});
  Ring second = MakeRing({.entries = 8,
                          .setup_flags = IORING_SETUP_SQPOLL,
                          .workqueue_ring_fd = first.get()->ring_fd});
  ExpectWorks(first);
  ExpectWorks(second);
  EXPECT_EQ(PollingThreads().size(), 1u);
  Ring third = MakeRing({.entries = 8, .setup_flags = IORING_SETUP_SQPOLL});
  ExpectWorks(third);
  EXPECT_EQ(PollingThreads().size(), 2u);

  const testing::Pipe pipe;
  EXPECT_EQ(
      TryMakeRing({.entries = 8, .workqueue_ring_fd = pipe.read_end}).error(),
      std::errc::invalid_argument);
  close(pipe.read_end);
  close(pipe.write_end);
}

TEST(RawSetup, DisabledUntilItIsEnabled) {
  Ring ring = MakeRing(
      {.entries = 8, .setup_flags = kDeferred | IORING_SETUP_R_DISABLED});
  ring.Push(Nop{}, 1);
  EXPECT_EQ(ring.Submit().error_number(), EBADFD);
  EXPECT_EQ(ring.SubmitAndWait(1).error().message(),
            "io_uring_enter: File descriptor in bad state");
  EXPECT_EQ(ring.sq_ready(), 1u);
  // In the thread that is to use it.
  std::thread([&ring] {
    EXPECT_EQ(io_uring_enable_rings(ring.get()), 0);
    EXPECT_EQ(*ring.SubmitAndWait(1), 1u);
    EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}}));
  }).join();
}

TEST(RawSetup, OneThreadSubmits) {
  for (const std::uint32_t flags :
       {std::uint32_t{IORING_SETUP_SINGLE_ISSUER}, kDeferred}) {
    Ring ring = MakeRing({.entries = 8, .setup_flags = flags});
    ring.Push(Nop{}, 1);
    std::thread([&ring] {
      EXPECT_EQ(ring.Submit().error(), std::errc::file_exists);
      EXPECT_EQ(ring.SubmitAndWait(1).error().message(),
                "io_uring_enter: File exists");
    }).join();
    EXPECT_EQ(ring.sq_ready(), 1u);
    EXPECT_EQ(*ring.SubmitAndWait(1), 1u);
    EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 0}}));
  }
}

TEST(RawSetup, AnInvalidEntryEndsASubmitOrNot) {
  for (const bool all : {false, true}) {
    Ring ring = MakeRing(
        {.entries = 8, .setup_flags = all ? IORING_SETUP_SUBMIT_ALL : 0u});
    io_uring_sqe* const sqe = ring.GetSqe();
    Ring::Fill(sqe, Nop{}, 1);
    sqe->opcode = 255;
    ring.Push(Nop{}, 2);
    EXPECT_EQ(*ring.Submit(), all ? 2u : 1u);
    EXPECT_EQ(ring.sq_ready(), all ? 0u : 1u);
    if (!all) {
      EXPECT_EQ(*ring.Submit(), 1u);
    }
    EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, -EINVAL}, {2, 0}}));
  }
}

TEST(RawSetup, DeferredWorkIsFlagged) {
  Ring ring = MakeRing(
      {.entries = 8, .setup_flags = kDeferred | IORING_SETUP_TASKRUN_FLAG});
  const testing::Pipe pipe;
  char byte;
  ring.Push(Read{.fd = pipe.read_end, .buffer = &byte, .length = 1}, 1);
  ASSERT_EQ(*ring.Submit(), 1u);
  EXPECT_FALSE(ring.taskrun_pending());
  ASSERT_EQ(write(pipe.write_end, "x", 1), 1);
  EXPECT_TRUE(ring.taskrun_pending());
  EXPECT_EQ(ring.completions().entries(), 0u);
  EXPECT_TRUE(ring.GetEvents());
  EXPECT_FALSE(ring.taskrun_pending());
  EXPECT_EQ(TakeSeen(ring), (std::vector<Seen>{{1, 1}}));
  close(pipe.read_end);
  close(pipe.write_end);
}

// No device with poll queues is needed to see who polls for what.
TEST(RawSetup, PolledRingsRefuseWhatCannotBePolled) {
  Ring ring = MakeRing({.entries = 8, .setup_flags = IORING_SETUP_IOPOLL});
  const testing::TemporaryFile file("content");
  const int fd = file.Open(O_RDONLY);
  char byte;
  EXPECT_EQ(ResultOf(ring, Read{.fd = fd, .buffer = &byte, .length = 1}),
            -EOPNOTSUPP);
  EXPECT_EQ(ResultOf(ring, Fsync{.fd = fd}), -EINVAL);
  EXPECT_EQ(ResultOf(ring, Nop{}), 0);
  close(fd);
}

class CallersMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!KernelHasSetupFlags(IORING_SETUP_NO_MMAP)) {
      GTEST_SKIP() << "this kernel has no IORING_SETUP_NO_MMAP";
    }
  }
};

TEST_F(CallersMemory, HoldsSeveralRings) {
  const int descriptors = testing::OpenDescriptors();
  const RingOptions options = {.entries = 8, .completion_entries = 64};
  const std::size_t size = Ring::MemorySize(options).value();
  const Pages pages(3 * size);
  {
    std::vector<Ring> rings;
    for (int i = 0; i < 3; ++i) {
      RingOptions mine = options;
      mine.memory = pages.data() + i * size;
      mine.memory_size = size;
      rings.push_back(MakeRing(mine));
      const io_uring& ring = *rings.back().get();
      EXPECT_EQ(static_cast<void*>(ring.sq.sqes), mine.memory.get());
      EXPECT_LT(static_cast<char*>(ring.cq.ring_ptr),
                pages.data() + (i + 1) * size);
    }
    for (Ring& ring : rings) ExpectWorks(ring);
  }
  EXPECT_EQ(testing::OpenDescriptors(), descriptors);
  // Not unmapped with the ring.
  unsigned char resident;
  EXPECT_EQ(mincore(pages.data(), 1, &resident), 0);
}

TEST_F(CallersMemory, MustSuffice) {
  const std::size_t size = Ring::MemorySize({.entries = 8}).value();
  const Pages pages(2 * size);
  EXPECT_EQ(Ring::Create(
                {.entries = 8, .memory = pages.data(), .memory_size = size - 1})
                .error(),
            std::errc::not_enough_memory);
  EXPECT_EQ(
      Ring::Create(
          {.entries = 8, .memory = pages.data() + 64, .memory_size = size})
          .error(),
      std::errc::invalid_argument);
  Ring ring =
      MakeRing({.entries = 8, .memory = pages.data(), .memory_size = size});
  ExpectWorks(ring);
  EXPECT_EQ(ring.Resize(16), std::errc::invalid_argument);
  ExpectWorks(ring);
}

TEST_F(CallersMemory, WithoutADescriptor) {
  const int descriptors = testing::OpenDescriptors();
  const RingOptions options = {.entries = 8,
                               .setup_flags = IORING_SETUP_REGISTERED_FD_ONLY};
  const std::size_t size = Ring::MemorySize(options).value();
  // A thread has room for 16 of them, and the memory is never used again.
  for (int i = 0; i < 40; ++i) {
    const Pages pages(size);
    RingOptions mine = options;
    mine.memory = pages.data();
    mine.memory_size = size;
    Ring first = MakeRing(mine);
    EXPECT_EQ(testing::OpenDescriptors(), descriptors);
    Ring ring = std::move(first);
    ExpectWorks(ring);
    EXPECT_EQ(ring.Resize(16), std::errc::bad_file_descriptor);
  }
  // Nor does liburing's own memory remain.
  const std::size_t mappings = Mappings();
  for (int i = 0; i < 40; ++i) {
    Ring ring = MakeRing({.entries = 8,
                          .setup_flags = IORING_SETUP_REGISTERED_FD_ONLY |
                                         IORING_SETUP_NO_MMAP});
    EXPECT_EQ(ResultOf(ring, Nop{}), 0);
  }
  EXPECT_EQ(Mappings(), mappings);
}

TEST_F(CallersMemory, InAHugePage) {
  const Pages page(kHugePage, MAP_HUGETLB | MAP_HUGE_2MB);
  if (!page.valid()) GTEST_SKIP() << "there are no huge pages";
  Ring ring = MakeRing(
      {.entries = 4096, .memory = page.data(), .memory_size = kHugePage});
  ExpectWorks(ring);
}

TEST_F(CallersMemory, InAHugePageOfLiburings) {
  const auto ring =
      Ring::Create({.entries = 4096, .setup_flags = IORING_SETUP_NO_MMAP});
  const Pages page(kHugePage, MAP_HUGETLB | MAP_HUGE_2MB);
  if (!page.valid() && !ring) {
    EXPECT_EQ(ring.error(), std::errc::not_enough_memory);
    GTEST_SKIP() << "there are no huge pages";
  }
  EXPECT_TRUE(ring);
}

TEST(RawSetup, MemorySizes) {
  // Entries in whole pages, then the completions and what goes with them.
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  EXPECT_EQ(Ring::MemorySize({.entries = 8}), 2 * page);
  const std::size_t plain = Ring::MemorySize({.entries = 4096}).value();
  EXPECT_EQ(
      Ring::MemorySize({.entries = 4096, .setup_flags = IORING_SETUP_SQE128})
          .value(),
      plain + 4096 * 64);
  EXPECT_EQ(
      Ring::MemorySize({.entries = 4096, .setup_flags = IORING_SETUP_CQE32})
          .value(),
      plain + 8192 * 16);
  EXPECT_EQ(
      Ring::MemorySize({.entries = 4096, .completion_entries = 16384}).value(),
      plain + 8192 * 16);
  EXPECT_EQ(Ring::MemorySize({.entries = 0}).error(),
            std::errc::invalid_argument);
  EXPECT_EQ(Ring::MemorySize({.entries = 1u << 16}).error(),
            std::errc::invalid_argument);
}

// Each submit takes its entries from the start.
TEST(RawSetup, Rewinds) {
  auto ring =
      TryMakeRing({.entries = 4, .setup_flags = IORING_SETUP_SQ_REWIND});
  if (!ring) {
    EXPECT_EQ(ring.error(), std::errc::invalid_argument);
    GTEST_SKIP() << "this kernel has no IORING_SETUP_SQ_REWIND";
  }
  for (std::uint64_t i = 0; i < 9; i += 3) {
    for (std::uint64_t j = 0; j < 3; ++j) ring->Push(Nop{}, i + j);
    EXPECT_EQ(ring->get()->sq.sqes[2].user_data, i + 2);
    EXPECT_EQ(*ring->SubmitAndWait(3), 3u);
    EXPECT_EQ(ring->sq_space_left(), 4u);
    EXPECT_EQ(TakeSeen(*ring),
              (std::vector<Seen>{{i, 0}, {i + 1, 0}, {i + 2, 0}}));
  }
}

TEST(RawSetup, EntriesOfBothSizes) {
  auto ring =
      TryMakeRing({.entries = 4, .setup_flags = IORING_SETUP_SQE_MIXED});
  if (!ring) {
    EXPECT_EQ(ring.error(), std::errc::invalid_argument);
    GTEST_SKIP() << "this kernel has no IORING_SETUP_SQE_MIXED";
  }
  for (std::uint64_t i = 0; i < 20; i += 2) {
    auto pair = ring->Reserve(3);
    if (!pair) {
      // No room for the filler that this wrap takes.
      ring->Push(Nop{}, 99);
      ASSERT_EQ(*ring->SubmitAndWait(1), 1u);
      TakeSeen(*ring);
      i -= 2;
      continue;
    }
    pair.Push(Nop{}, i, IOSQE_IO_LINK);
    pair.Push(Nop128{}, i + 1);
    pair.Commit();
    ASSERT_TRUE(ring->SubmitAndWait(2));
    EXPECT_EQ(TakeSeen(*ring), (std::vector<Seen>{{i, 0}, {i + 1, 0}}));
  }
  EXPECT_EQ(ResultOf(*ring, Nop128{}), 0);
}

// In a child, a page that was left out is not mapped.
TEST(RawSetup, StaysOutOfChildren) {
  Ring shared = MakeRing();
  Ring kept = MakeRing();
  EXPECT_FALSE(kept.DontFork());
  testing::ExpectChildSucceeds([&] {
    unsigned char resident;
    const auto page = [](void* address) {
      return reinterpret_cast<void*>(
          reinterpret_cast<std::uintptr_t>(address) &
          ~static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE) - 1));
    };
    EXPECT_EQ(mincore(page(shared.get()->cq.khead), 1, &resident), 0);
    EXPECT_EQ(mincore(page(shared.get()->sq.sqes), 1, &resident), 0);
    for (void* const part : {static_cast<void*>(kept.get()->cq.khead),
                             static_cast<void*>(kept.get()->sq.sqes)}) {
      EXPECT_EQ(mincore(page(part), 1, &resident), -1);
      EXPECT_EQ(errno, ENOMEM);
    }
  });
}

}  // namespace
}  // namespace escrow::raw
