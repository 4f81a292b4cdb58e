// safe/driver.h and the objects on it: one suite for all drivers.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/buffer_pool.h"
#include "escrow/safe/driven_file.h"
#include "escrow/safe/driven_object.h"
#include "escrow/safe/driven_sockets.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/vector_ops.h"
#include "escrow/safe/wait_ops.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using escrow::testing::Arena;
using escrow::testing::OpenDescriptors;
using escrow::testing::TemporaryFile;
using escrow::testing::Tracked;
using ownership::Buffer;
using ownership::Descriptor;
using ownership::SocketAddress;

struct Ends {
  Descriptor read;
  Descriptor write;

  Ends() {
    const escrow::testing::Pipe pipe;
    read = Descriptor::Adopt(pipe.read_end);
    write = Descriptor::Adopt(pipe.write_end);
  }
  void Put(const std::string& text) const {
    EXPECT_EQ(::write(write.number(), text.data(), text.size()),
              std::ssize(text));
  }
};

// A coroutine that runs to its end by itself, and says so.
struct Task {
  struct promise_type {
    Task get_return_object() {
      return {std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::abort(); }
  };
  std::coroutine_handle<> frame;
};

// Where a driver comes from, and what goes on behind it.
class Local {
 public:
  using D = LocalDriver;
  explicit Local(std::size_t permits = 64)
      : ring_(*Ring::Create({.entries = 32})), driver_(ring_, permits) {}
  const D& driver() const { return driver_; }
  Ring& ring() { return ring_; }
  template <typename Done>
  void Until(const Done& done) {
    while (!done()) {
      (void)ring_.Dispatch(std::chrono::milliseconds(1));
    }
  }

 private:
  Ring ring_;
  D driver_;
};

class Shared {
 public:
  using D = SharedDriver;
  explicit Shared(std::size_t permits = 64)
      : driver_(*SharedDriver::Create(
            {.ring = {.entries = 32}, .permits = permits})) {}
  const D& driver() const { return driver_; }
  template <typename Done>
  void Until(const Done& done) {
    while (!done()) std::this_thread::yield();
  }

 private:
  D driver_;
};

static_assert(Driver<LocalDriver> && Driver<SharedDriver>);

template <typename Source>
class DriverTest : public ::testing::Test {
 protected:
  static Submission<Transfer<std::string>> ReadOf(const Source& source,
                                                  const Descriptor& file,
                                                  std::string buffer) {
    return Perform(source.driver(),
                   [&file, buffer = std::move(buffer)]() mutable {
                     return Read<std::string>{.file = file,
                                              .buffer = std::move(buffer)};
                   });
  }
};

using Sources = ::testing::Types<Local, Shared>;
TYPED_TEST_SUITE(DriverTest, Sources);

// R13
TYPED_TEST(DriverTest, TheBufferComesBackOnSuccessAndOnError) {
  TypeParam source;
  const Ends pipe;
  pipe.Put("abc");
  auto [size, buffer] = this->ReadOf(source, pipe.read, "....").Wait();
  EXPECT_EQ(size, 3u);
  EXPECT_EQ(buffer, "abc.");
  std::tie(size, buffer) = [&] {
    auto outcome = this->ReadOf(source, pipe.write, "kept").Wait();
    return std::pair(outcome.result, outcome.buffer);
  }();
  EXPECT_EQ(size.error(), std::errc::bad_file_descriptor);
  EXPECT_EQ(buffer, "kept");
}

}  // namespace
}  // namespace escrow::safe
