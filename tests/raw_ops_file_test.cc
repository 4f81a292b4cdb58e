#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "escrow/raw/ops_file.h"
#include "tests/raw_ops_test.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

using testing::TemporaryFile;

TEST_F(RawOps, Fsync) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDWR));
  EXPECT_EQ(ResultOf(Fsync{.fd = fd.get()}), 0);
  EXPECT_EQ(ResultOf(Fsync{.fd = fd.get(),
                           .offset = 4,
                           .length = 4,
                           .flags = IORING_FSYNC_DATASYNC}),
            0);
  const Ends pipe = MakePipe();
  EXPECT_EQ(RefusalOf(Fsync{.fd = pipe.first.get()}), EINVAL);
  EXPECT_EQ(RefusalOf(Fsync{.fd = fd.get(), .flags = 1u << 31}), EINVAL);
}

TEST_F(RawOps, SyncFileRange) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDWR));
  constexpr int kAll = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                       SYNC_FILE_RANGE_WAIT_AFTER;
  EXPECT_EQ(ResultOf(SyncFileRange{
                .fd = fd.get(), .offset = 0, .length = 0, .flags = kAll}),
            0);
  const Ends pipe = MakePipe();
  EXPECT_EQ(RefusalOf(SyncFileRange{
                .fd = pipe.first.get(), .offset = 0, .length = 0, .flags = 0}),
            ESPIPE);
}

TEST_F(RawOps, Fallocate) {
  const TemporaryFile file("01234");
  const Closing fd(file.Open(O_RDWR));
  EXPECT_EQ(ResultOf(Fallocate{.fd = fd.get(), .offset = 4, .length = 6}), 0);
  EXPECT_EQ(file.Content(), std::string("01234\0\0\0\0\0", 10));
  EXPECT_EQ(
      ResultOf(Fallocate{.fd = fd.get(),
                         .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         .offset = 1,
                         .length = 2}),
      0);
  EXPECT_EQ(file.Content(), std::string("0\0\0"
                                        "34\0\0\0\0\0",
                                        10));
}

TEST_F(RawOps, Ftruncate) {
  const TemporaryFile file("01234");
  const Closing fd(file.Open(O_RDWR));
  EXPECT_EQ(ResultOf(Ftruncate{.fd = fd.get(), .length = 2}), 0);
  EXPECT_EQ(file.Content(), "01");
  EXPECT_EQ(ResultOf(Ftruncate{.fd = fd.get(), .length = 3}), 0);
  EXPECT_EQ(file.Content(), std::string("01\0", 3));
  EXPECT_EQ(RefusalOf(Ftruncate{.fd = fd.get(), .length = -1}), EINVAL);
}

TEST_F(RawOps, Fadvise) {
  const TemporaryFile file("01234");
  const Closing fd(file.Open(O_RDONLY));
  EXPECT_EQ(ResultOf(Fadvise{.fd = fd.get(), .advice = POSIX_FADV_DONTNEED}),
            0);
  EXPECT_EQ(ResultOf(Fadvise{.fd = fd.get(),
                             .offset = 1,
                             .length = 3,
                             .advice = POSIX_FADV_WILLNEED}),
            0);
  EXPECT_EQ(RefusalOf(Fadvise{.fd = fd.get(), .advice = 99}), EINVAL);
}

TEST_F(RawOps, Madvise) {
  constexpr std::size_t kSize = 4096;
  auto* const memory =
      static_cast<char*>(mmap(nullptr, 2 * kSize, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  memory[0] = 'a';
  memory[kSize] = 'b';
  EXPECT_EQ(
      ResultOf(Madvise{
          .address = memory + kSize, .length = kSize, .advice = MADV_DONTNEED}),
      0);
  EXPECT_EQ(memory[0], 'a');
  EXPECT_EQ(memory[kSize], '\0');
  EXPECT_EQ(RefusalOf(Madvise{
                .address = memory + 1, .length = 1, .advice = MADV_DONTNEED}),
            EINVAL);
  munmap(memory, 2 * kSize);
}

TEST_F(RawOps, Splice) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDWR));
  const Ends pipe = MakePipe();
  EXPECT_EQ(ResultOf(Splice{.in = fd.get(),
                            .in_offset = 6,
                            .out = pipe.second.get(),
                            .length = 3}),
            3);
  EXPECT_EQ(ReadFrom(pipe.first.get()), "678");
  // At the file's position, from a slot.
  const std::array<int, 2> files = {fd.get(), pipe.second.get()};
  ASSERT_EQ(io_uring_register_files(ring().get(), files.data(), 2), 0);
  EXPECT_EQ(
      ResultOf(Splice{.in = FixedFile{0}, .out = FixedFile{1}, .length = 2}),
      2);
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 2);
  EXPECT_EQ(ResultOf(Splice{.in = pipe.first.get(),
                            .out = FixedFile{0},
                            .out_offset = 8,
                            .length = 10}),
            2);
  EXPECT_EQ(file.Content(), "0123456701");
  // The end of the file.
  EXPECT_EQ(ResultOf(Splice{.in = fd.get(),
                            .in_offset = 10,
                            .out = pipe.second.get(),
                            .length = 3}),
            0);
  EXPECT_EQ(RefusalOf(Splice{.in = fd.get(), .out = fd.get(), .length = 1}),
            EINVAL);
}

TEST_F(RawOps, Tee) {
  const Ends from = MakePipe();
  const Ends to = MakePipe();
  WriteTo(from.second.get(), "abc");
  EXPECT_EQ(ResultOf(Tee{
                .in = from.first.get(), .out = to.second.get(), .length = 2}),
            2);
  EXPECT_EQ(ReadFrom(to.first.get()), "ab");
  const int number = from.first.get();
  ASSERT_EQ(io_uring_register_files(ring().get(), &number, 1), 0);
  EXPECT_EQ(
      ResultOf(Tee{.in = FixedFile{0}, .out = to.second.get(), .length = 9}),
      3);
  EXPECT_EQ(ReadFrom(to.first.get()), "abc");
  EXPECT_EQ(ReadFrom(from.first.get()), "abc");
}

TEST_F(RawOps, Pipe) {
  std::array<int, 2> fds = {-1, -1};
  EXPECT_EQ(ResultOf(Pipe{.fds = fds.data(), .flags = O_CLOEXEC}), 0);
  {
    const Closing read_end(fds[0]);
    const Closing write_end(fds[1]);
    EXPECT_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    WriteTo(write_end.get(), "abc");
    EXPECT_EQ(ReadFrom(read_end.get()), "abc");
  }

  ASSERT_EQ(io_uring_register_files_sparse(ring().get(), 6), 0);
  // Into a slot and the next.
  fds = {-1, -1};
  EXPECT_EQ(ResultOf(Pipe{.fds = fds.data(), .into = FixedFile{2}}), 0);
  WriteTo(Closing(ResultOf(FixedFdInstall{.file = {3}})).get(), "de");
  EXPECT_EQ(ReadFrom(Closing(ResultOf(FixedFdInstall{.file = {2}})).get()),
            "de");
  // Into slots of the kernel's choice, which it says in `fds`.
  fds = {-1, -1};
  EXPECT_EQ(ResultOf(Pipe{.fds = fds.data(), .into = kAnyFixedFile}), 0);
  for (const int slot : fds) {
    ASSERT_GE(slot, 0);
    EXPECT_EQ(ResultOf(Close{.fd = FixedFile{static_cast<unsigned>(slot)}}), 0);
  }
  EXPECT_EQ(RefusalOf(Pipe{.fds = fds.data(), .flags = -1}), EINVAL);
}

TEST_F(RawOps, Close) {
  const int fd = dup(STDERR_FILENO);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(ResultOf(Close{.fd = fd}), 0);
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
  EXPECT_EQ(RefusalOf(Close{.fd = fd}), EBADF);
  // A slot: the descriptor stays.
  const int kept = STDERR_FILENO;
  ASSERT_EQ(io_uring_register_files(ring().get(), &kept, 1), 0);
  EXPECT_EQ(ResultOf(Close{.fd = FixedFile{0}}), 0);
  EXPECT_EQ(RefusalOf(Close{.fd = FixedFile{0}}), EBADF);
  EXPECT_GE(fcntl(kept, F_GETFD), 0);
  // No ring.
  EXPECT_EQ(RefusalOf(Close{.fd = ring().get()->ring_fd}), EBADF);
}

TEST_F(RawOps, FixedFdInstall) {
  const TemporaryFile file("01234");
  {
    const Closing fd(file.Open(O_RDONLY));
    const int number = fd.get();
    ASSERT_EQ(io_uring_register_files(ring().get(), &number, 1), 0);
  }
  const Closing fd(ResultOf(FixedFdInstall{.file = {0}}));
  EXPECT_EQ(ReadFrom(fd.get()), "01234");
  EXPECT_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  const Closing inherited(ResultOf(
      FixedFdInstall{.file = {0}, .flags = IORING_FIXED_FD_NO_CLOEXEC}));
  EXPECT_EQ(fcntl(inherited.get(), F_GETFD), 0);
  EXPECT_EQ(RefusalOf(FixedFdInstall{.file = {1}}), EBADF);
}

}  // namespace
}  // namespace escrow::raw
