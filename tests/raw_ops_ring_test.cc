#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "escrow/raw/ops_file.h"
#include "escrow/raw/ops_ring.h"
#include "escrow/raw/ops_rw.h"
#include "escrow/raw/ring.h"
#include "tests/raw_op_support.h"
#include "tests/raw_ops_test.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

using testing::TemporaryFile;

TEST_F(RawOps, Nop) {
  EXPECT_EQ(ResultOf(Nop{}), 0);
  if (KernelIsAtLeast("6.9")) {
    for (const int result : {-42, 42}) {
      EXPECT_EQ(
          ResultOf(Nop{.flags = IORING_NOP_INJECT_RESULT, .result = result}),
          result);
    }
  }
  if (KernelIsAtLeast("6.18")) {
    Ring wide = MakeRing({.entries = 4, .setup_flags = IORING_SETUP_CQE32});
    const Completion completion = RunOn(
        wide, Nop{.flags = IORING_NOP_CQE32, .first = 5, .second = ~0ull});
    EXPECT_EQ(completion.result, 0);
    EXPECT_EQ(completion.extra[0], 5u);
    EXPECT_EQ(completion.extra[1], ~0ull);
    EXPECT_EQ(RefusalOf(Nop{.flags = IORING_NOP_CQE32}), EINVAL);
  }
  EXPECT_EQ(RefusalOf(Nop{.flags = 1u << 31}), EINVAL);
}

Ring MakeBigRing() {
  return MakeRing({.entries = 4, .setup_flags = IORING_SETUP_SQE128});
}

TEST_F(RawOps, Nop128) {
  Ring big = MakeBigRing();
  EXPECT_EQ(RunOn(big, Nop128{}).result, 0);
  EXPECT_EQ(RunOn(big, Nop128{.flags = IORING_NOP_INJECT_RESULT, .result = 42})
                .result,
            42);
}

TEST_F(RawOpsRefused, Nop128) {
  Ring big = MakeBigRing();
  EXPECT_EQ(RefusalOn(big, Nop128{}), EINVAL);
}

// Requests that go on for ever.
class Endless {
 public:
  Read On(const Ends& pipe) {
    return {.fd = pipe.first.get(), .buffer = &byte_, .length = 1};
  }

 private:
  char byte_;
};

TEST_F(RawOps, Cancel) {
  const Ends pipe = MakePipe();
  Endless endless;
  Push(endless.On(pipe), 1);
  Push(Cancel{.user_data = 1}, 2);
  std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
  EXPECT_EQ(ResultFor(2, completions), 0);
  EXPECT_EQ(RefusalOf(Cancel{.user_data = 1}), ENOENT);

  // Several at a time.
  Push(endless.On(pipe), 1);
  Push(endless.On(pipe), 1);
  Push(endless.On(pipe), 3);
  Push(Cancel{.user_data = 1, .flags = IORING_ASYNC_CANCEL_ALL}, 4);
  completions = Reap(3);
  EXPECT_EQ(ResultFor(4, completions), 2);
  Push(Cancel{.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL}, 5);
  completions = Reap(2);
  EXPECT_EQ(ResultFor(3, completions), -ECANCELED);
  EXPECT_EQ(ResultFor(5, completions), 1);
  EXPECT_EQ(ResultOf(Cancel{.flags = IORING_ASYNC_CANCEL_ANY |
                                     IORING_ASYNC_CANCEL_ALL}),
            0);

  if (KernelIsAtLeast("6.6")) {
    Push(endless.On(pipe), 1);
    Push(Cancel{.flags = IORING_ASYNC_CANCEL_OP, .opcode = IORING_OP_WRITE}, 2);
    EXPECT_EQ(ResultFor(2, Reap(1)), -ENOENT);
    Push(Cancel{.flags = IORING_ASYNC_CANCEL_OP, .opcode = IORING_OP_READ}, 2);
    EXPECT_EQ(ResultFor(2, Reap(2)), 0);
  }
}

TEST_F(RawOps, CancelFd) {
  const Ends pipe = MakePipe();
  const Ends other = MakePipe();
  Endless endless;
  Push(endless.On(pipe), 1);
  Push(endless.On(other), 2);
  Push(CancelFd{.fd = pipe.first.get()}, 3);
  std::vector<Completion> completions = Reap(2);
  EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
  EXPECT_EQ(ResultFor(3, completions), 0);

  // By its slot.
  const int number = other.first.get();
  ASSERT_EQ(io_uring_register_files(ring().get(), &number, 1), 0);
  Push(CancelFd{.fd = FixedFile{0}}, 3);
  completions = Reap(2);
  EXPECT_EQ(ResultFor(2, completions), -ECANCELED);
  EXPECT_EQ(ResultFor(3, completions), 0);

  if (KernelIsAtLeast("6.6")) {
    Push(endless.On(pipe), 1);
    Push(endless.On(pipe), 2);
    Push(CancelFd{.fd = pipe.first.get(),
                  .flags = IORING_ASYNC_CANCEL_USERDATA,
                  .user_data = 2},
         3);
    completions = Reap(2);
    EXPECT_EQ(ResultFor(2, completions), -ECANCELED);
    EXPECT_EQ(ResultFor(3, completions), 0);
    Push(CancelFd{.fd = pipe.first.get(),
                  .flags = IORING_ASYNC_CANCEL_OP,
                  .opcode = IORING_OP_READ},
         3);
    completions = Reap(2);
    EXPECT_EQ(ResultFor(1, completions), -ECANCELED);
    EXPECT_EQ(ResultFor(3, completions), 0);
  }
}

TEST_F(RawOps, FilesUpdate) {
  const TemporaryFile file("abc");
  const Closing fd(file.Open(O_RDONLY));
  ASSERT_EQ(io_uring_register_files_sparse(ring().get(), 4), 0);
  std::array<int, 2> fds = {fd.get(), fd.get()};
  EXPECT_EQ(ResultOf(FilesUpdate{.fds = fds.data(), .count = 2, .offset = 1}),
            2);
  char buffer[3];
  const auto read_slot = [&](unsigned slot) {
    return ResultOf(Read{
        .fd = FixedFile{slot}, .buffer = buffer, .length = 3, .offset = 0});
  };
  EXPECT_EQ(read_slot(0), -EBADF);
  EXPECT_EQ(read_slot(1), 3);
  EXPECT_EQ(read_slot(2), 3);
  fds = {IORING_REGISTER_FILES_SKIP, -1};
  EXPECT_EQ(ResultOf(FilesUpdate{.fds = fds.data(), .count = 2, .offset = 1}),
            2);
  EXPECT_EQ(read_slot(1), 3);
  EXPECT_EQ(read_slot(2), -EBADF);
  EXPECT_EQ(RefusalOf(FilesUpdate{.fds = fds.data(), .count = 2, .offset = 3}),
            EINVAL);

  if (KernelIsAtLeast("6.0")) {
    // The kernel's choice: of three free slots, for two files.
    fds = {fd.get(), fd.get()};
    EXPECT_EQ(
        ResultOf(FilesUpdate{
            .fds = fds.data(), .count = 2, .offset = IORING_FILE_INDEX_ALLOC}),
        2);
    for (const int slot : fds) {
      EXPECT_EQ(read_slot(static_cast<unsigned>(slot)), 3) << slot;
    }
    EXPECT_NE(fds[0], fds[1]);
    // One is left: fewer are updated.
    fds = {fd.get(), fd.get()};
    EXPECT_EQ(
        ResultOf(FilesUpdate{
            .fds = fds.data(), .count = 2, .offset = IORING_FILE_INDEX_ALLOC}),
        1);
    EXPECT_EQ(read_slot(static_cast<unsigned>(fds[0])), 3);
    fds = {fd.get(), fd.get()};
    EXPECT_EQ(
        RefusalOf(FilesUpdate{
            .fds = fds.data(), .count = 2, .offset = IORING_FILE_INDEX_ALLOC}),
        ENFILE);
  }
}

TEST_F(RawOps, ProvideBuffers) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDONLY));
  char memory[2][4];
  EXPECT_GE(ResultOf(ProvideBuffers{.buffers = memory,
                                    .length = 4,
                                    .count = 2,
                                    .group = 3,
                                    .first_id = 70}),
            0);
  std::array<bool, 2> used = {};
  for (int i = 0; i < 2; ++i) {
    const Completion completion =
        Run(ReadSelected{.fd = fd.get(), .group = 3, .offset = 2});
    ASSERT_EQ(completion.result, 4);
    ASSERT_TRUE(completion.has_buffer());
    const unsigned index = completion.buffer_id() - 70;
    ASSERT_LT(index, 2u);
    EXPECT_EQ(std::string(memory[index], 4), "2345");
    used[index] = true;
  }
  EXPECT_TRUE(used[0] && used[1]);
  EXPECT_EQ(RefusalOf(ReadSelected{.fd = fd.get(), .group = 3}), ENOBUFS);
}

TEST_F(RawOps, RemoveBuffers) {
  char memory[3][4];
  ASSERT_GE(ResultOf(ProvideBuffers{
                .buffers = memory, .length = 4, .count = 3, .group = 3}),
            0);
  EXPECT_EQ(ResultOf(RemoveBuffers{.count = 2, .group = 3}), 2);
  EXPECT_EQ(ResultOf(RemoveBuffers{.count = 2, .group = 3}), 1);
  EXPECT_EQ(ResultOf(RemoveBuffers{.count = 1, .group = 3}), 0);
  EXPECT_EQ(RefusalOf(RemoveBuffers{.count = 1, .group = 4}), ENOENT);
}

TEST_F(RawOps, MsgRing) {
  Ring other = MakeRing({.entries = 4});
  EXPECT_EQ(
      ResultOf(MsgRing{.ring = other.get()->ring_fd, .result = -5, .data = 77}),
      0);
  Completion message = ReapFrom(other, 1).at(0);
  EXPECT_EQ(message.user_data, 77u);
  EXPECT_EQ(message.result, -5);
  EXPECT_EQ(message.flags, 0u);

  if (KernelIsAtLeast("6.3")) {
    EXPECT_EQ(ResultOf(MsgRing{.ring = other.get()->ring_fd,
                               .data = 78,
                               .flags = IORING_MSG_RING_FLAGS_PASS,
                               .cqe_flags = 0x40}),
              0);
    message = ReapFrom(other, 1).at(0);
    EXPECT_EQ(message.user_data, 78u);
    EXPECT_EQ(message.flags, 0x40u);
  }

  // A queue that is full keeps the message for later.
  const unsigned room = *other.get()->cq.kring_entries;
  for (unsigned i = 0; i < room + 2; ++i) {
    EXPECT_EQ(ResultOf(MsgRing{.ring = other.get()->ring_fd, .data = i}), 0);
  }
  EXPECT_TRUE(other.cq_has_overflow());

  const Ring disabled =
      MakeRing({.entries = 4, .setup_flags = IORING_SETUP_R_DISABLED});
  EXPECT_EQ(RefusalOf(MsgRing{.ring = disabled.get()->ring_fd, .data = 1}),
            EBADFD);
  EXPECT_EQ(RefusalOf(MsgRing{.ring = STDERR_FILENO, .data = 1}), EBADFD);
}

TEST_F(RawOps, MsgRingFd) {
  const TemporaryFile file("abc");
  const Closing fd(file.Open(O_RDONLY));
  const int number = fd.get();
  ASSERT_EQ(io_uring_register_files(ring().get(), &number, 1), 0);
  Ring other = MakeRing({.entries = 4});
  ASSERT_EQ(io_uring_register_files_sparse(other.get(), 4), 0);
  const int target = other.get()->ring_fd;
  char buffer[3];
  const auto read_slot = [&](unsigned slot) {
    return RunOn(other, Read{.fd = FixedFile{slot},
                             .buffer = buffer,
                             .length = 3,
                             .offset = 0})
        .result;
  };

  EXPECT_EQ(
      ResultOf(MsgRingFd{
          .ring = target, .source = {0}, .into = FixedFile{2}, .data = 5}),
      0);
  Completion message = ReapFrom(other, 1).at(0);
  EXPECT_EQ(message.user_data, 5u);
  EXPECT_EQ(message.result, 0);
  EXPECT_EQ(read_slot(2), 3);

  const int slot = ResultOf(MsgRingFd{
      .ring = target, .source = {0}, .into = kAnyFixedFile, .data = 6});
  ASSERT_GE(slot, 0);
  message = ReapFrom(other, 1).at(0);
  EXPECT_EQ(message.user_data, 6u);
  EXPECT_EQ(message.result, slot);
  EXPECT_EQ(read_slot(static_cast<unsigned>(slot)), 3);

  // No completion there: only the one of the read comes.
  EXPECT_EQ(ResultOf(MsgRingFd{.ring = target,
                               .source = {0},
                               .into = FixedFile{3},
                               .data = 7,
                               .flags = IORING_MSG_RING_CQE_SKIP}),
            0);
  EXPECT_EQ(read_slot(3), 3);
  EXPECT_EQ(
      RefusalOf(MsgRingFd{
          .ring = target, .source = {1}, .into = FixedFile{0}, .data = 8}),
      EBADF);
}

TEST_F(RawOps, UringCmd) {
  const Ends pipe = MakePipe();
  // A file without commands.
  EXPECT_EQ(RefusalOf(UringCmd{.fd = pipe.first.get(), .command = 0}),
            EOPNOTSUPP);
  if (!KernelIsAtLeast("6.7")) GTEST_SKIP() << "sockets need Linux 6.7";
  const Ends sockets = MakeTcpPair();
  WriteTo(sockets.first.get(), "abc");
  AwaitInput(sockets.second.get());
  EXPECT_EQ(ResultOf(UringCmd{.fd = sockets.second.get(),
                              .command = SOCKET_URING_OP_SIOCINQ}),
            3);
  EXPECT_EQ(RefusalOf(UringCmd{.fd = sockets.second.get(), .command = 9999}),
            EOPNOTSUPP);
  EXPECT_EQ(RefusalOf(UringCmd{.fd = sockets.second.get(),
                               .command = SOCKET_URING_OP_SIOCINQ,
                               .flags = 1u << 31}),
            EINVAL);
}

TEST_F(RawOps, UringCmdBig) {
  if (!KernelIsAtLeast("6.7")) GTEST_SKIP() << "sockets need Linux 6.7";
  Ring big = MakeBigRing();
  const Ends sockets = MakeTcpPair();
  WriteTo(sockets.first.get(), "abc");
  AwaitInput(sockets.second.get());
  EXPECT_EQ(RunOn(big, UringCmdBig{.fd = sockets.second.get(),
                                   .command = SOCKET_URING_OP_SIOCINQ})
                .result,
            3);
}

TEST_F(RawOps, UringCmd128) {
  Ring big = MakeBigRing();
  const Ends sockets = MakeTcpPair();
  WriteTo(sockets.first.get(), "abc");
  AwaitInput(sockets.second.get());
  EXPECT_EQ(RunOn(big, UringCmd128{.fd = sockets.second.get(),
                                   .command = SOCKET_URING_OP_SIOCINQ})
                .result,
            3);
}

TEST_F(RawOpsRefused, UringCmd128) {
  Ring big = MakeBigRing();
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  EXPECT_EQ(RefusalOn(big, UringCmd128{.fd = sockets.second.get(),
                                       .command = SOCKET_URING_OP_SIOCINQ}),
            EINVAL);
}

// A block device on a file; less than 0 where the user may not have one.
int MakeLoopDevice(int file) {
  const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) return -1;
  int device = -1;
  // Another process may take the free one first.
  for (int attempt = 0; attempt < 10 && device < 0; ++attempt) {
    const int number = ioctl(control, LOOP_CTL_GET_FREE);
    if (number < 0) break;
    device = open(("/dev/loop" + std::to_string(number)).c_str(),
                  O_RDWR | O_CLOEXEC);
    if (device < 0) break;
    loop_config config = {};
    config.fd = static_cast<unsigned>(file);
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (ioctl(device, LOOP_CONFIGURE, &config) != 0) {
      close(device);
      device = -1;
    }
  }
  close(control);
  return device;
}

TEST_F(RawOps, BlockDiscard) {
  constexpr std::uint64_t kBlock = 4096;
  const TemporaryFile file(std::string(16 * kBlock, 'x'));
  const Closing fd(file.Open(O_RDWR));
  EXPECT_EQ(
      RefusalOf(BlockDiscard{.fd = fd.get(), .offset = 0, .length = kBlock}),
      EOPNOTSUPP);
  const int number = MakeLoopDevice(fd.get());
  if (number < 0) GTEST_SKIP() << "no loop device: " << std::strerror(errno);
  const Closing device(number);
  const int result = ResultOf(
      BlockDiscard{.fd = device.get(), .offset = kBlock, .length = kBlock});
  if (result == -EOPNOTSUPP) GTEST_SKIP() << "the file system has no holes";
  EXPECT_EQ(result, 0);
  EXPECT_EQ(file.Content(), std::string(kBlock, 'x') +
                                std::string(kBlock, '\0') +
                                std::string(14 * kBlock, 'x'));
  // Not a whole block.
  EXPECT_EQ(RefusalOf(BlockDiscard{
                .fd = device.get(), .offset = 1, .length = kBlock}),
            EINVAL);
}

}  // namespace
}  // namespace escrow::raw
