// What //sim:fallback is to programs of plain liburing: who has their rings,
// and that those which are emulated go on as the kernel's would.

#include "escrow/sim/fallback.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "escrow/raw/sanitizer.h"
#include "tests/forbid_io_uring.h"

namespace escrow::sim {
namespace {

constexpr int kLong = 30'000;  // ms: what has not come by then does not come

class Rings : public ::testing::Test {
 protected:
  void TearDown() override {
    for (io_uring* const ring : rings_) {
      io_uring_queue_exit(ring);
      delete ring;
    }
    SetFallback(Fallback::kWhereForbidden);
  }

  // A ring, or null where the kernel does not give one.
  io_uring* Make(Fallback policy, unsigned flags = 0) {
    SetFallback(policy);
    auto* const ring = new io_uring;
    const int result = io_uring_queue_init(8, ring, flags);
    if (result != 0) {
      EXPECT_EQ(policy, Fallback::kNever) << result;
      delete ring;
      return nullptr;
    }
    rings_.push_back(ring);
    return ring;
  }
  io_uring* Emulated(unsigned flags = 0) {
    return Make(Fallback::kAlways, flags);
  }

 private:
  std::vector<io_uring*> rings_;
};

using FallbackTest = Rings;

// The next entry. What prepares it anew leaves its user_data.
io_uring_sqe* Entry(io_uring* ring, std::uint64_t user_data) {
  io_uring_sqe* const entry = io_uring_get_sqe(ring);
  io_uring_prep_nop(entry);
  entry->user_data = user_data;
  return entry;
}

struct Completion {
  std::uint64_t user_data = 0;
  std::int32_t res = 0;
};

// In a call.
Completion Next(io_uring* ring) {
  io_uring_cqe* completion = nullptr;
  __kernel_timespec limit = {.tv_sec = kLong / 1000, .tv_nsec = 0};
  EXPECT_EQ(io_uring_wait_cqe_timeout(ring, &completion, &limit), 0);
  if (completion == nullptr) return {};
  const Completion copy = {completion->user_data, completion->res};
  io_uring_cqe_seen(ring, completion);
  return copy;
}

// Without one.
std::optional<Completion> Seen(io_uring* ring) {
  const unsigned head = *ring->cq.khead;
  if (head == io_uring_smp_load_acquire(ring->cq.ktail)) return std::nullopt;
  const io_uring_cqe& completion = ring->cq.cqes[head & ring->cq.ring_mask];
  const Completion copy = {completion.user_data, completion.res};
  io_uring_cq_advance(ring, 1);
  return copy;
}

bool IsReadable(int fd, int milliseconds) {
  pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&polled, 1, milliseconds) == 1;
}

void Forbid(unsigned error) {
  ASSERT_TRUE(escrow::testing::ForbidIoUring(error));
}

// In a process of its own; not where ThreadSanitizer forbids that one threads.
void Apart(const std::function<void()>& run) {
  if (raw::kThreadSanitizer) return;
  const ::pid_t child = ::fork();
  if (child == 0) {
    run();
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

int CountThreads() {
  DIR* const directory = ::opendir("/proc/self/task");
  int count = 0;
  while (const dirent* const entry = ::readdir(directory)) {
    count += entry->d_name[0] != '.';
  }
  ::closedir(directory);
  return count;
}

TEST_F(FallbackTest, ARingOfTheKernelIsLeftAlone) {
  Apart([] {
    const int threads = CountThreads();
    io_uring ring;
    if (const int error = io_uring_queue_init(8, &ring, 0)) {
      EXPECT_EQ(error, 0) << "io_uring is forbidden here";
      return;
    }
    EXPECT_FALSE(IsEmulated(ring.ring_fd));
    EXPECT_FALSE(LastFallbackUse().emulated);
    EXPECT_EQ(LastFallbackUse().error, 0);
    Entry(&ring, 7);
    EXPECT_EQ(io_uring_submit_and_wait(&ring, 1), 1);
    EXPECT_EQ(Next(&ring).user_data, 7);
    EXPECT_EQ(io_uring_register_ring_fd(&ring), 1);
    Entry(&ring, 8);
    EXPECT_EQ(io_uring_submit(&ring), 1);
    EXPECT_EQ(Next(&ring).user_data, 8);
    // Its errors are its own.
    EXPECT_EQ(io_uring_enter(0, 0, 0, 0, nullptr), -EOPNOTSUPP);
    EXPECT_EQ(io_uring_enter(-1, 0, 0, 0, nullptr), -EBADF);
    io_uring_queue_exit(&ring);
    EXPECT_EQ(CountThreads(), threads);
  });
}

TEST_F(FallbackTest, WhereItIsForbiddenARingIsEmulated) {
  for (const int error : {EPERM, EACCES, ENOSYS}) {
    Apart([error] {
      Forbid(static_cast<unsigned>(error));
      io_uring ring;
      ASSERT_EQ(io_uring_queue_init(8, &ring, 0), 0);
      EXPECT_TRUE(IsEmulated(ring.ring_fd));
      EXPECT_TRUE(LastFallbackUse().emulated);
      EXPECT_EQ(LastFallbackUse().error, error);
      Entry(&ring, 7);
      EXPECT_EQ(io_uring_submit_and_wait(&ring, 1), 1);
      EXPECT_EQ(Next(&ring).user_data, 7);
      // What is no ring is told so by the kernel still.
      EXPECT_EQ(io_uring_enter(0, 0, 0, 0, nullptr), -error);
      const int fd = ring.ring_fd;
      io_uring_queue_exit(&ring);
      EXPECT_FALSE(IsEmulated(fd));
    });
  }
}

TEST_F(FallbackTest, OtherErrorsAreAnswered) {
  Apart([] {
    Forbid(EMFILE);
    io_uring ring;
    EXPECT_EQ(io_uring_queue_init(8, &ring, 0), -EMFILE);
    EXPECT_FALSE(LastFallbackUse().emulated);
    EXPECT_EQ(LastFallbackUse().error, EMFILE);
  });
}

TEST_F(FallbackTest, ThePolicyDecides) {
  EXPECT_EQ(GetFallback(), Fallback::kWhereForbidden);
  Apart([] {
    Forbid(EPERM);
    SetFallback(Fallback::kNever);
    io_uring ring;
    EXPECT_EQ(io_uring_queue_init(8, &ring, 0), -EPERM);
    EXPECT_FALSE(LastFallbackUse().emulated);
    EXPECT_EQ(LastFallbackUse().error, EPERM);
  });
  EXPECT_TRUE(IsEmulated(Emulated()->ring_fd));
  EXPECT_TRUE(LastFallbackUse().emulated);
  EXPECT_EQ(LastFallbackUse().error, 0);
}

TEST_F(FallbackTest, BothKindsAreInOneProcess) {
  io_uring* const emulated = Emulated();
  io_uring* const real = Make(Fallback::kNever);
  if (real == nullptr) GTEST_SKIP() << "io_uring is forbidden here";
  EXPECT_TRUE(IsEmulated(emulated->ring_fd));
  EXPECT_FALSE(IsEmulated(real->ring_fd));
  // One is told of the other.
  io_uring_prep_poll_add(Entry(emulated, 1), real->ring_fd, POLLIN);
  EXPECT_EQ(io_uring_submit(emulated), 1);
  Entry(real, 2);
  EXPECT_EQ(io_uring_submit(real), 1);
  EXPECT_EQ(Next(emulated).user_data, 1);
  EXPECT_EQ(Next(real).user_data, 2);
}

TEST_F(FallbackTest, WhatCannotBeHadIsRefused) {
  SetFallback(Fallback::kAlways);
  io_uring ring;
  EXPECT_EQ(io_uring_queue_init(8, &ring, 1U << 31), -EINVAL);
  EXPECT_EQ(io_uring_queue_init(8, &ring, IORING_SETUP_IOPOLL), -EINVAL);
  EXPECT_EQ(io_uring_register_ring_fd(Emulated()), -EINVAL);
}

TEST_F(FallbackTest, TheThreadOfSqpollIsToBeWoken) {
  io_uring* const ring = Emulated(IORING_SETUP_SQPOLL);
  Entry(ring, 1);
  EXPECT_EQ(io_uring_submit(ring), 1);
  EXPECT_EQ(Next(ring).user_data, 1);
}

// Things go on.

class WithEventfd : public Rings,
                    public ::testing::WithParamInterface<unsigned> {
 protected:
  void SetUp() override {
    ring_ = Emulated(GetParam());
    ASSERT_EQ(io_uring_register_eventfd(ring_, eventfd_), 0);
  }
  void TearDown() override {
    ::close(eventfd_);
    Rings::TearDown();
  }

  // The next completion, by the eventfd alone until it is told.
  Completion Told() {
    EXPECT_TRUE(IsReadable(eventfd_, kLong));
    if ((GetParam() & IORING_SETUP_DEFER_TASKRUN) != 0) return Next(ring_);
    return Seen(ring_).value_or(Completion());
  }
  void Clear() {
    std::uint64_t count;
    while (IsReadable(eventfd_, 0)) {
      EXPECT_EQ(::read(eventfd_, &count, sizeof(count)), 8);
    }
  }

  io_uring* ring_ = nullptr;
  int eventfd_ = ::eventfd(0, EFD_CLOEXEC);
};

TEST_P(WithEventfd, TellsOfATime) {
  __kernel_timespec time = {.tv_sec = 0, .tv_nsec = 20'000'000};
  io_uring_prep_timeout(io_uring_get_sqe(ring_), &time, 0, 0);
  EXPECT_EQ(io_uring_submit(ring_), 1);
  EXPECT_EQ(Told().res, -ETIME);
}

TEST_P(WithEventfd, TellsOfAFile) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  char byte = 0;
  io_uring_prep_read(io_uring_get_sqe(ring_), ends[0], &byte, 1, 0);
  EXPECT_EQ(io_uring_submit(ring_), 1);
  EXPECT_FALSE(IsReadable(eventfd_, 20));
  EXPECT_EQ(::write(ends[1], "x", 1), 1);
  EXPECT_EQ(Told().res, 1);
  EXPECT_EQ(byte, 'x');
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_P(WithEventfd, TellsOfAWorker) {
  const int fd = ::memfd_create("file", MFD_CLOEXEC);
  io_uring_sqe* const entry = io_uring_get_sqe(ring_);
  io_uring_prep_fsync(entry, fd, 0);
  entry->flags |= IOSQE_ASYNC;
  EXPECT_EQ(io_uring_submit(ring_), 1);
  EXPECT_EQ(Told().res, 0);
  ::close(fd);
}

TEST_P(WithEventfd, TellsOfAMessage) {
  std::thread([this] {
    io_uring* const other = Emulated();
    io_uring_prep_msg_ring(io_uring_get_sqe(other), ring_->ring_fd, 5, 6, 0);
    EXPECT_EQ(io_uring_submit_and_wait(other, 1), 1);
  }).join();
  const Completion told = Told();
  EXPECT_EQ(told.res, 5);
  EXPECT_EQ(told.user_data, 6);
}

TEST_P(WithEventfd, TellsOfEachOfMany) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  char byte = 0;
  for (int i = 0; i < 20; ++i) {
    io_uring_prep_read(io_uring_get_sqe(ring_), ends[0], &byte, 1, 0);
    EXPECT_EQ(io_uring_submit(ring_), 1);
    Clear();
    EXPECT_EQ(::write(ends[1], "x", 1), 1);
    EXPECT_EQ(Told().res, 1);
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

INSTANTIATE_TEST_SUITE_P(, WithEventfd,
                         ::testing::Values(0, IORING_SETUP_COOP_TASKRUN,
                                           IORING_SETUP_SINGLE_ISSUER |
                                               IORING_SETUP_DEFER_TASKRUN));

TEST_F(FallbackTest, OneRingIsToldOfAnother) {
  io_uring* const polled = Emulated();
  io_uring* const polling = Emulated();
  io_uring_prep_poll_add(io_uring_get_sqe(polling), polled->ring_fd, POLLIN);
  EXPECT_EQ(io_uring_submit(polling), 1);
  EXPECT_FALSE(Seen(polling));
  std::thread thread([polled] {
    __kernel_timespec time = {.tv_sec = 0, .tv_nsec = 20'000'000};
    io_uring_prep_timeout(io_uring_get_sqe(polled), &time, 0, 0);
    EXPECT_EQ(io_uring_submit(polled), 1);
  });
  EXPECT_EQ(Next(polling).res, POLLIN);
  thread.join();
}

// The descriptor of a ring tells of it, whoever is asked.

class PolledTest : public Rings,
                   public ::testing::WithParamInterface<unsigned> {
 protected:
  // Whatever there is, as a program does that is told of a descriptor.
  static int TakeAll(io_uring* ring) {
    int count = 0;
    io_uring_cqe* completion = nullptr;
    while (io_uring_peek_cqe(ring, &completion) == 0) {
      io_uring_cqe_seen(ring, completion);
      ++count;
    }
    return count;
  }
};

TEST_P(PolledTest, IsReadableWhenThereIsSomething) {
  io_uring* const ring = Emulated(GetParam());
  const int fd = ring->ring_fd;
  EXPECT_FALSE(IsReadable(fd, 0));
  for (int i = 0; i < 5; ++i) {
    __kernel_timespec time = {.tv_sec = 0, .tv_nsec = 10'000'000};
    io_uring_prep_timeout(io_uring_get_sqe(ring), &time, 0, 0);
    EXPECT_EQ(io_uring_submit(ring), 1);
    EXPECT_TRUE(IsReadable(fd, kLong));
    EXPECT_EQ(TakeAll(ring), 1);
    EXPECT_FALSE(IsReadable(fd, 20));
    // What is done within the call.
    Entry(ring, 1);
    EXPECT_EQ(io_uring_submit(ring), 1);
    EXPECT_TRUE(IsReadable(fd, kLong));
    EXPECT_EQ(TakeAll(ring), 1);
    EXPECT_FALSE(IsReadable(fd, 20));
  }
}

TEST_P(PolledTest, HasAnEdgeForEach) {
  io_uring* const ring = Emulated(GetParam());
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {}};
  ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, ring->ring_fd, &event), 0);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  char byte = 0;
  for (int i = 0; i < 20; ++i) {
    io_uring_prep_read(io_uring_get_sqe(ring), ends[0], &byte, 1, 0);
    EXPECT_EQ(io_uring_submit(ring), 1);
    EXPECT_EQ(::write(ends[1], "x", 1), 1);
    EXPECT_EQ(::epoll_wait(epoll, &event, 1, kLong), 1);
    EXPECT_EQ(TakeAll(ring), 1);
  }
  ::close(epoll);
  ::close(ends[0]);
  ::close(ends[1]);
}

INSTANTIATE_TEST_SUITE_P(, PolledTest,
                         ::testing::Values(0, IORING_SETUP_COOP_TASKRUN,
                                           IORING_SETUP_SINGLE_ISSUER |
                                               IORING_SETUP_DEFER_TASKRUN));

// Who takes what there is without a call is told of what comes then.
TEST_F(FallbackTest, AnEdgeComesAfterTheQueueWasEmptied) {
  constexpr int kReads = 8;
  io_uring* const ring = Emulated();
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {}};
  ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, ring->ring_fd, &event), 0);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::array<char, kReads> bytes = {};
  for (char& byte : bytes) {
    io_uring_prep_read(io_uring_get_sqe(ring), ends[0], &byte, 1, 0);
  }
  EXPECT_EQ(io_uring_submit(ring), kReads);
  for (int i = 0; i < kReads; ++i) {
    EXPECT_EQ(::write(ends[1], "x", 1), 1);
    EXPECT_EQ(::epoll_wait(epoll, &event, 1, 5'000), 1);
    ::usleep(5'000);
    EXPECT_TRUE(Seen(ring));
  }
  ::close(epoll);
  ::close(ends[0]);
  ::close(ends[1]);
}

// Of an emulated one, by one of the kernel's.
TEST_F(FallbackTest, ARingOfTheKernelsIsToldOfAnEmulatedOne) {
  io_uring* const emulated = Emulated();
  io_uring* const real = Make(Fallback::kNever);
  if (real == nullptr) GTEST_SKIP() << "io_uring is forbidden here";
  io_uring_prep_poll_add(io_uring_get_sqe(real), emulated->ring_fd, POLLIN);
  EXPECT_EQ(io_uring_submit(real), 1);
  EXPECT_FALSE(Seen(real));
  Entry(emulated, 1);
  EXPECT_EQ(io_uring_submit(emulated), 1);
  EXPECT_EQ(Next(real).res, POLLIN);
}

// Nobody waits for it, nor enters, while another thread waits for something
// else.
TEST_F(FallbackTest, ARingGoesOnWhileAnotherIsWaitedFor) {
  io_uring* const waited = Emulated();
  io_uring* const other = Emulated();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::thread thread([waited, &ends] {
    char byte;
    io_uring_prep_read(io_uring_get_sqe(waited), ends[0], &byte, 1, 0);
    EXPECT_EQ(io_uring_submit_and_wait(waited, 1), 1);
    EXPECT_EQ(Next(waited).res, 1);
  });
  ::usleep(50'000);
  __kernel_timespec time = {.tv_sec = 0, .tv_nsec = 20'000'000};
  io_uring_prep_timeout(io_uring_get_sqe(other), &time, 0, 0);
  EXPECT_EQ(io_uring_submit(other), 1);
  std::optional<Completion> seen;
  for (int i = 0; i < kLong / 5 && !seen; ++i) {
    ::usleep(5'000);
    seen = Seen(other);
  }
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->res, -ETIME);
  EXPECT_EQ(::write(ends[1], "x", 1), 1);
  thread.join();
  ::close(ends[0]);
  ::close(ends[1]);
}

// What blocks.

// A file that cannot be opened as long as there is one of these.
class Leased {
 public:
  Leased() {
    ::signal(SIGIO, SIG_IGN);
    const char* const directory = std::getenv("TEST_TMPDIR");
    path_ = std::string(directory != nullptr ? directory : "/tmp") + "/leased";
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    leased_ = ::fcntl(fd_, F_SETLEASE, F_WRLCK) == 0;
  }
  Leased(const Leased&) = delete;
  Leased& operator=(const Leased&) = delete;
  ~Leased() {
    Release();
    ::close(fd_);
    ::unlink(path_.c_str());
  }
  void Release() { ::fcntl(fd_, F_SETLEASE, F_UNLCK); }

  bool leased() const { return leased_; }
  const char* path() const { return path_.c_str(); }

 private:
  std::string path_;
  int fd_ = -1;
  bool leased_ = false;
};

TEST_F(FallbackTest, WhatBlocksStopsNobody) {
  io_uring* const ring = Emulated();
  Leased file;
  if (!file.leased()) GTEST_SKIP() << "there are no leases";
  // More of it than of anything else, but not of what has workers of its own.
  io_uring_prep_openat(Entry(ring, 1), AT_FDCWD, file.path(), O_RDONLY, 0);
  EXPECT_EQ(io_uring_submit(ring), 1);
  const int other = ::memfd_create("file", MFD_CLOEXEC);
  Entry(ring, 2);
  io_uring_sqe* const sync = Entry(ring, 3);
  io_uring_prep_fsync(sync, other, 0);
  EXPECT_EQ(io_uring_submit(ring), 2);
  EXPECT_EQ(Next(ring).user_data, 2);
  EXPECT_EQ(Next(ring).user_data, 3);
  // It is running.
  io_uring_sqe* const cancel = Entry(ring, 4);
  io_uring_prep_cancel64(cancel, 1, 0);
  EXPECT_EQ(io_uring_submit(ring), 1);
  const Completion cancelled = Next(ring);
  EXPECT_EQ(cancelled.user_data, 4);
  EXPECT_EQ(cancelled.res, -EALREADY);
  EXPECT_FALSE(Seen(ring));
  file.Release();
  const Completion opened = Next(ring);
  EXPECT_EQ(opened.user_data, 1);
  EXPECT_GE(opened.res, 0);
  ::close(opened.res);
  ::close(other);
}

TEST_F(FallbackTest, ARingIsClosedWhileAWorkerHasItsRequest) {
  Leased file;
  if (!file.leased()) GTEST_SKIP() << "there are no leases";
  SetFallback(Fallback::kAlways);
  io_uring ring;
  ASSERT_EQ(io_uring_queue_init(8, &ring, 0), 0);
  // What is in flight may use it after this.
  static struct statx status = {};
  io_uring_prep_openat(io_uring_get_sqe(&ring), AT_FDCWD, file.path(), O_RDONLY,
                       0);
  ring.sq.sqes[0].flags |= IOSQE_IO_LINK;
  io_uring_prep_statx(io_uring_get_sqe(&ring), AT_FDCWD, "/", 0, STATX_TYPE,
                      &status);
  EXPECT_EQ(io_uring_submit(&ring), 2);
  io_uring_queue_exit(&ring);
  file.Release();
  // It is still there for another one.
  io_uring* const next = Emulated();
  Entry(next, 1);
  EXPECT_EQ(io_uring_submit_and_wait(next, 1), 1);
  EXPECT_EQ(Next(next).user_data, 1);
}

TEST_F(FallbackTest, SynchronousCancellingWaitsForAWorker) {
  io_uring* const ring = Emulated();
  Leased file;
  if (!file.leased()) GTEST_SKIP() << "there are no leases";
  io_uring_prep_openat(Entry(ring, 1), AT_FDCWD, file.path(), O_RDONLY, 0);
  EXPECT_EQ(io_uring_submit(ring), 1);
  io_uring_sync_cancel_reg cancel = {};
  cancel.addr = 1;
  cancel.timeout = {.tv_sec = 0, .tv_nsec = 10'000'000};
  EXPECT_EQ(io_uring_register_sync_cancel(ring, &cancel), -ETIME);
  std::thread releases([&file] {
    ::usleep(20'000);
    file.Release();
  });
  cancel.timeout = {.tv_sec = kLong, .tv_nsec = 0};
  // It has ended by then.
  EXPECT_EQ(io_uring_register_sync_cancel(ring, &cancel), -ENOENT);
  releases.join();
  const Completion opened = Next(ring);
  EXPECT_GE(opened.res, 0);
  ::close(opened.res);
}

TEST_F(FallbackTest, MoreBlocksThanThereAreWorkers) {
  constexpr int kMany = 40;
  Leased file;
  if (!file.leased()) GTEST_SKIP() << "there are no leases";
  io_uring* const ring = Emulated();
  for (int i = 0; i < kMany; ++i) {
    io_uring_prep_openat(io_uring_get_sqe(ring), AT_FDCWD, file.path(),
                         O_RDONLY, 0);
    EXPECT_EQ(io_uring_submit(ring), 1);
  }
  Entry(ring, 2);
  EXPECT_EQ(io_uring_submit(ring), 1);
  EXPECT_EQ(Next(ring).user_data, 2);
  file.Release();
  for (int i = 0; i < kMany; ++i) {
    const Completion opened = Next(ring);
    EXPECT_GE(opened.res, 0);
    ::close(opened.res);
  }
}

TEST_F(FallbackTest, FilesAreReadToTheirEnd) {
  io_uring* const ring = Emulated();
  const char* const directory = std::getenv("TEST_TMPDIR");
  const int file = ::open(directory != nullptr ? directory : "/tmp",
                          O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0);
  std::string written(100'000, 'x');
  for (std::size_t i = 0; i < written.size(); ++i) {
    written[i] = static_cast<char>('a' + i % 23);
  }
  for (const unsigned flags : {0U, static_cast<unsigned>(IOSQE_ASYNC)}) {
    io_uring_sqe* entry = io_uring_get_sqe(ring);
    io_uring_prep_write(entry, file, written.data(),
                        static_cast<unsigned>(written.size()), 7);
    entry->flags |= flags;
    EXPECT_EQ(io_uring_submit(ring), 1);
    EXPECT_EQ(Next(ring).res, static_cast<int>(written.size()));
    // What was in memory may not be any more.
    EXPECT_EQ(::fsync(file), 0);
    EXPECT_EQ(::posix_fadvise(file, 50'000, 0, POSIX_FADV_DONTNEED), 0);
    std::string read(200'000, '\0');
    entry = io_uring_get_sqe(ring);
    io_uring_prep_read(entry, file, read.data(),
                       static_cast<unsigned>(read.size()), 7);
    entry->flags |= flags;
    EXPECT_EQ(io_uring_submit(ring), 1);
    EXPECT_EQ(Next(ring).res, static_cast<int>(written.size()));
    read.resize(written.size());
    EXPECT_EQ(read, written);
  }
  ::close(file);
}

TEST_F(FallbackTest, AChildHasNoneAndCanMakeSome) {
  io_uring* const ring = Emulated();
  Apart([ring] {
    EXPECT_FALSE(IsEmulated(ring->ring_fd));
    SetFallback(Fallback::kAlways);
    io_uring own;
    ASSERT_EQ(io_uring_queue_init(8, &own, 0), 0);
    const int eventfd = ::eventfd(0, EFD_CLOEXEC);
    ASSERT_EQ(io_uring_register_eventfd(&own, eventfd), 0);
    __kernel_timespec time = {.tv_sec = 0, .tv_nsec = 10'000'000};
    io_uring_prep_timeout(io_uring_get_sqe(&own), &time, 0, 0);
    EXPECT_EQ(io_uring_submit(&own), 1);
    EXPECT_TRUE(IsReadable(eventfd, kLong));
    io_uring_sqe* const entry = io_uring_get_sqe(&own);
    io_uring_prep_fsync(entry, eventfd, 0);
    entry->flags |= IOSQE_ASYNC;
    EXPECT_EQ(io_uring_submit(&own), 1);
    EXPECT_EQ(Next(&own).res, -ETIME);
    EXPECT_EQ(Next(&own).res, -EINVAL);
    io_uring_queue_exit(&own);
  });
  Entry(ring, 1);
  EXPECT_EQ(io_uring_submit_and_wait(ring, 1), 1);
  EXPECT_EQ(Next(ring).user_data, 1);
}

TEST_F(FallbackTest, RingsOfManyThreadsAreTheirOwn) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 200;
  std::vector<std::thread> threads;
  SetFallback(Fallback::kAlways);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([] {
      io_uring ring;
      ASSERT_EQ(io_uring_queue_init(8, &ring, 0), 0);
      int ends[2];
      ASSERT_EQ(::pipe(ends), 0);
      for (int round = 0; round < kRounds; ++round) {
        char in = 0;
        const char out = static_cast<char>(round);
        io_uring_prep_read(io_uring_get_sqe(&ring), ends[0], &in, 1, 0);
        io_uring_sqe* const write = io_uring_get_sqe(&ring);
        io_uring_prep_write(write, ends[1], &out, 1, 0);
        write->flags |= IOSQE_ASYNC;
        EXPECT_EQ(io_uring_submit_and_wait(&ring, 2), 2);
        EXPECT_EQ(Next(&ring).res, 1);
        EXPECT_EQ(Next(&ring).res, 1);
        EXPECT_EQ(in, out);
      }
      io_uring_queue_exit(&ring);
      ::close(ends[0]);
      ::close(ends[1]);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace escrow::sim
