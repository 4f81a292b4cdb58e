#ifndef ESCROW_TESTS_RAW_OPS_TEST_H_
#define ESCROW_TESTS_RAW_OPS_TEST_H_

#include <gtest/gtest.h>
#include <liburing.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "tests/raw_op_support.h"

// Whether the operations do on the running kernel what their comments say: for
// each there is a test of its name. It is skipped on a kernel that is older
// than the operation.
//
//   TEST_F(RawOps, Listen) {
//     EXPECT_EQ(ResultOf(Listen{.fd = socket, .backlog = 1}), 0);
//   }

namespace escrow::raw {

// A completion, copied.
struct Completion {
  std::uint64_t user_data;
  std::int32_t result;
  std::uint32_t flags;
  std::uint64_t extra[2] = {};  // of a 32-byte completion

  bool more() const { return (flags & IORING_CQE_F_MORE) != 0; }
  bool has_buffer() const { return (flags & IORING_CQE_F_BUFFER) != 0; }
  unsigned buffer_id() const { return flags >> IORING_CQE_BUFFER_SHIFT; }
  bool is_notification() const { return (flags & IORING_CQE_F_NOTIF) != 0; }
};
void PrintTo(const Completion& completion, std::ostream* out);

// The result of the one that has `user_data`.
int ResultFor(std::uint64_t user_data,
              const std::vector<Completion>& completions);

// A descriptor that is closed at the end. The test fails if it is none.
class Closing {
 public:
  explicit Closing(int number);
  Closing(Closing&& other) noexcept
      : number_(std::exchange(other.number_, -1)) {}
  Closing& operator=(Closing&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Closing() { Close(); }

  int get() const { return number_; }
  void Close() {
    if (number_ >= 0) close(number_);
    number_ = -1;
  }

 private:
  int number_;
};

// The two ends of something.
struct Ends {
  Closing first;
  Closing second;
};

// First the read end.
Ends MakePipe();
// Connected unix sockets; `type` is SOCK_STREAM or SOCK_DGRAM.
Ends MakeSocketPair(int type);
// Connected TCP sockets on the loopback device.
Ends MakeTcpPair();

// Writes all of `bytes`, or fails the test.
void WriteTo(int fd, std::string_view bytes);
// Waits until there is something to read, or fails the test.
void AwaitInput(int fd);
// What one read() gives then.
std::string ReadFrom(int fd);

// A group of provided buffers, in a registered ring: `count` of them, a power
// of two, of `size` bytes each, with the identities 0, 1, ....
class ProvidedBuffers {
 public:
  ProvidedBuffers(Ring& ring, int group, unsigned count, unsigned size);
  ProvidedBuffers(const ProvidedBuffers&) = delete;
  ProvidedBuffers& operator=(const ProvidedBuffers&) = delete;
  ~ProvidedBuffers();

  char* data(unsigned id) { return memory_.data() + std::size_t{id} * size_; }
  // What a completion says that there is.
  std::string Content(const Completion& completion) {
    return std::string(data(completion.buffer_id()),
                       static_cast<std::size_t>(completion.result));
  }
  // Gives a buffer, of which `size` bytes count, to the kernel (again).
  void Provide(unsigned id, unsigned size);

 private:
  Ring& ring_;
  const int group_;
  const unsigned count_;
  const unsigned size_;
  std::vector<char> memory_;
  io_uring_buf_ring* buffers_;
};

// Whether the running kernel is that of a release, "6.18", or a later one.
bool KernelIsAtLeast(const char* release);

class RawOps : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Queues an operation.
  template <typename Op>
  void Push(const Op& op, std::uint64_t user_data, std::uint8_t sqe_flags = 0) {
    PushTo(ring_, op, user_data, sqe_flags);
  }
  template <typename Op>
  void PushTo(Ring& ring, const Op& op, std::uint64_t user_data,
              std::uint8_t sqe_flags = 0) {
    pushed_.insert(Op::kInfo.name);
    ring.Push(op, user_data, sqe_flags);
  }

  // Submits what is queued, and returns `count` completions in their order, or
  // fewer, with a failure, when they do not come.
  std::vector<Completion> Reap(std::size_t count) {
    return ReapFrom(ring_, count);
  }
  static std::vector<Completion> ReapFrom(Ring& ring, std::size_t count);

  // Runs one operation that has one completion.
  template <typename Op>
  Completion Run(const Op& op) {
    return RunOn(ring_, op);
  }
  template <typename Op>
  Completion RunOn(Ring& ring, const Op& op) {
    PushTo(ring, op, kUserData);
    return Only(ReapFrom(ring, 1));
  }
  template <typename Op>
  int ResultOf(const Op& op) {
    return Run(op).result;
  }

  // Runs an operation that the kernel refuses, and says with which error. The
  // ring has to work afterwards.
  template <typename Op>
  int RefusalOf(const Op& op) {
    return RefusalOn(ring_, op);
  }
  template <typename Op>
  int RefusalOn(Ring& ring, const Op& op) {
    const int result = RunOn(ring, op).result;
    EXPECT_LT(result, 0);
    EXPECT_EQ(RunOn(ring, Nop{}).result, 0);
    return -result;
  }

  Ring& ring() { return ring_; }

 private:
  static constexpr std::uint64_t kUserData = 0x0123456789abcdef;

  static Completion Only(const std::vector<Completion>& completions);

  Ring ring_ = MakeRing({.entries = 16});
  std::set<std::string> pushed_;
};

// Operations that a kernel without them refuses: the tests are skipped on a
// kernel that has them.
class RawOpsRefused : public RawOps {
 protected:
  void SetUp() override;
};

}  // namespace escrow::raw

#endif  // ESCROW_TESTS_RAW_OPS_TEST_H_
