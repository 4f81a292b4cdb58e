#include "tests/raw_ops_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/raw/all_ops.h"
#include "escrow/raw/ring.h"
#include "tests/raw_op_support.h"

namespace escrow::raw {
namespace {

// Far more than anything here takes.
constexpr int kLimitSeconds = 20;

void Check(bool success, const char* call) {
  if (success) return;
  std::perror(call);
  std::abort();
}

// Since when there is the operation that the running test is named after.
const char* SinceOfTestedOp() {
  const std::string name =
      ::testing::UnitTest::GetInstance()->current_test_info()->name();
  const char* since = nullptr;
  ForEachOp([&]<typename Op>() {
    if (name == Op::kInfo.name) since = Op::kInfo.since;
  });
  return since;
}

TEST(RawAllOps, HaveATestOfWhatTheyDo) {
  EXPECT_EQ(OpsWithoutTest("RawOps"), std::vector<std::string>());
}

}  // namespace

void PrintTo(const Completion& completion, std::ostream* out) {
  *out << "{user_data " << completion.user_data << ", result "
       << completion.result << ", flags " << completion.flags << "}";
}

int ResultFor(std::uint64_t user_data,
              const std::vector<Completion>& completions) {
  for (const Completion& completion : completions) {
    if (completion.user_data == user_data) return completion.result;
  }
  ADD_FAILURE() << "no completion for " << user_data << ": "
                << ::testing::PrintToString(completions);
  return -EPROTO;
}

Closing::Closing(int number) : number_(number) {
  EXPECT_GE(number, 0) << "no descriptor";
}

Ends MakePipe() {
  int ends[2];
  Check(pipe2(ends, O_CLOEXEC) == 0, "pipe2");
  return {Closing(ends[0]), Closing(ends[1])};
}

Ends MakeSocketPair(int type) {
  int ends[2];
  Check(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
  return {Closing(ends[0]), Closing(ends[1])};
}

Ends MakeTcpPair() {
  const Closing listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof(address);
  Check(bind(listener.get(), generic, length) == 0, "bind");
  Check(listen(listener.get(), 1) == 0, "listen");
  Check(getsockname(listener.get(), generic, &length) == 0, "getsockname");
  Closing client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Check(connect(client.get(), generic, length) == 0, "connect");
  Closing server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return {std::move(client), std::move(server)};
}

void WriteTo(int fd, std::string_view bytes) {
  ASSERT_EQ(write(fd, bytes.data(), bytes.size()),
            static_cast<ssize_t>(bytes.size()));
}

void AwaitInput(int fd) {
  pollfd ready = {.fd = fd, .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&ready, 1, kLimitSeconds * 1000), 1);
}

std::string ReadFrom(int fd) {
  AwaitInput(fd);
  if (::testing::Test::HasFatalFailure()) return "";
  std::string bytes(1 << 16, '\0');
  const ssize_t size = read(fd, bytes.data(), bytes.size());
  EXPECT_GE(size, 0) << std::strerror(errno);
  bytes.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  return bytes;
}

ProvidedBuffers::ProvidedBuffers(Ring& ring, int group, unsigned count,
                                 unsigned size)
    : ring_(ring),
      group_(group),
      count_(count),
      size_(size),
      memory_(std::size_t{count} * size) {
  int error = 0;
  buffers_ = io_uring_setup_buf_ring(ring.get(), count, group, 0, &error);
  errno = -error;
  Check(buffers_ != nullptr, "io_uring_setup_buf_ring");
  for (unsigned id = 0; id < count; ++id) Provide(id, size);
}

ProvidedBuffers::~ProvidedBuffers() {
  io_uring_free_buf_ring(ring_.get(), buffers_, count_, group_);
}

void ProvidedBuffers::Provide(unsigned id, unsigned size) {
  io_uring_buf_ring_add(buffers_, data(id), size,
                        static_cast<unsigned short>(id),
                        io_uring_buf_ring_mask(count_), 0);
  io_uring_buf_ring_advance(buffers_, 1);
}

bool KernelIsAtLeast(const char* release) {
  utsname name;
  Check(uname(&name) == 0, "uname");
  unsigned major = 0;
  unsigned minor = 0;
  unsigned wanted_major = 0;
  unsigned wanted_minor = 0;
  Check(std::sscanf(name.release, "%u.%u", &major, &minor) == 2, name.release);
  Check(std::sscanf(release, "%u.%u", &wanted_major, &wanted_minor) == 2,
        release);
  return std::pair(major, minor) >= std::pair(wanted_major, wanted_minor);
}

void RawOps::SetUp() {
  const char* const since = SinceOfTestedOp();
  ASSERT_NE(since, nullptr) << "not named after an operation";
  if (!KernelIsAtLeast(since)) GTEST_SKIP() << "needs Linux " << since;
}

void RawOps::TearDown() {
  EXPECT_TRUE(ring_.SubmitAndGetEvents());
  for (const io_uring_cqe& cqe : ring_.completions()) {
    ADD_FAILURE() << "nobody has waited for the completion of " << cqe.user_data
                  << " with " << cqe.res;
  }
  if (IsSkipped()) return;
  EXPECT_TRUE(pushed_.contains(
      ::testing::UnitTest::GetInstance()->current_test_info()->name()))
      << "did not try the operation that it is named after";
}

void RawOpsRefused::SetUp() {
  const char* const since = SinceOfTestedOp();
  ASSERT_NE(since, nullptr) << "not named after an operation";
  if (KernelIsAtLeast(since)) GTEST_SKIP() << "Linux has it since " << since;
}

std::vector<Completion> RawOps::ReapFrom(Ring& ring, std::size_t count) {
  constexpr __kernel_timespec kLimit = {.tv_sec = kLimitSeconds, .tv_nsec = 0};
  std::vector<Completion> all;
  while (all.size() < count) {
    if (const auto entered = ring.SubmitAndWaitTimeout(1, &kLimit); !entered) {
      ADD_FAILURE() << entered.error().message() << " with " << all.size()
                    << " of " << count << " completions";
      break;
    }
    unsigned taken = 0;
    for (const io_uring_cqe& cqe : ring.completions()) {
      if (all.size() == count) break;
      Completion completion = {cqe.user_data, cqe.res, cqe.flags};
      if ((ring.setup_flags() & IORING_SETUP_CQE32) != 0) {
        std::memcpy(completion.extra, cqe.big_cqe, sizeof(completion.extra));
      }
      all.push_back(completion);
      ++taken;
    }
    ring.Advance(taken);
  }
  return all;
}

Completion RawOps::Only(const std::vector<Completion>& completions) {
  if (completions.size() != 1 || completions[0].user_data != kUserData ||
      completions[0].more()) {
    ADD_FAILURE() << "not one completion: "
                  << ::testing::PrintToString(completions);
    return {.user_data = 0, .result = -EPROTO, .flags = 0};
  }
  return completions[0];
}

}  // namespace escrow::raw
