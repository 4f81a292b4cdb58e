// That what is linked with //sim:link makes no system call of io_uring, and
// runs on the simulated kernel.

#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "escrow/sim/kernel.h"
#include "tests/sim/process.h"

namespace escrow::sim {
namespace {

// Of this program's: those of liburing that it has been linked with.
TEST(LinkTest, LiburingHasNoSystemCallLeft) {
  const testing::Ended ended =
      testing::RunProgram({"/bin/sh", "-c",
                           "objdump --disassemble --no-show-raw-insn " +
                               testing::Runfile("tests/sim/link_test") +
                               R"( | awk '/>:$/ {
                        its = $2 ~ /^<(_*io_uring_|do_register)/
                        functions += its
                      }
                      its && $2 ~ /^(syscall|svc|ecall|int)$/ { print }
                      END { print (functions > 20 ? "enough" : "too few") }')"});
  EXPECT_EQ(ended.output, "enough\n");
}

TEST(LinkTest, ARingIsASimulatedOne) {
  io_uring ring;
  ASSERT_EQ(io_uring_queue_init(4, &ring, 0), 0);
  EXPECT_TRUE(IsRing(ring.ring_fd));
  EXPECT_TRUE(IsMapped(ring.sq.ring_ptr));
  struct stat status;
  EXPECT_EQ(::fstat(ring.ring_fd, &status), 0);
  EXPECT_TRUE(S_ISREG(status.st_mode));
  io_uring_prep_nop(io_uring_get_sqe(&ring));
  EXPECT_EQ(io_uring_submit_and_wait(&ring, 1), 1);
  io_uring_cqe* completion = nullptr;
  ASSERT_EQ(io_uring_peek_cqe(&ring, &completion), 0);
  EXPECT_EQ(completion->res, 0);
  io_uring_cqe_seen(&ring, completion);
  void* const mapping = ring.sq.ring_ptr;
  const int fd = ring.ring_fd;
  io_uring_queue_exit(&ring);
  EXPECT_FALSE(IsMapped(mapping));
  EXPECT_FALSE(IsRing(fd));
}

TEST(LinkTest, FailsAsTheSystemCallsDo) {
  io_uring ring;
  EXPECT_EQ(io_uring_queue_init(0, &ring, 0), -EINVAL);
  EXPECT_EQ(io_uring_enter(-1, 0, 0, 0, nullptr), -EBADF);
  EXPECT_EQ(io_uring_enter(0, 0, 0, 0, nullptr), -EOPNOTSUPP);
}

// Which is not one of liburing's.
TEST(LinkTest, ARingIsGoneAfterTheProgramsOwnClose) {
  io_uring_params params = {};
  const int fd = io_uring_setup(2, &params);
  ASSERT_GE(fd, 0);
  EXPECT_TRUE(IsRing(fd));
  ASSERT_EQ(::close(fd), 0);
  Reset({});
  EXPECT_FALSE(IsRing(fd));
}

}  // namespace
}  // namespace escrow::sim
