#ifndef ESCROW_TESTS_SAFE_DRIVER_CASES_H_
#define ESCROW_TESTS_SAFE_DRIVER_CASES_H_

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/support.h"

// What tests of drivers, and of the files and sockets on them, are made of: one
// suite for all drivers.

namespace escrow::safe::cases {

// Bytes that count how many of them there are.
class Counted {
 public:
  explicit Counted(std::atomic<int>& alive) noexcept : alive_(&alive) {
    ++*alive_;
  }
  Counted(Counted&& other) noexcept
      : bytes_(std::move(other.bytes_)),
        alive_(std::exchange(other.alive_, nullptr)) {}
  Counted& operator=(Counted&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(alive_, other.alive_);
    return *this;
  }
  ~Counted() {
    if (alive_ != nullptr) --*alive_;
  }

  std::vector<char> bytes_ = std::vector<char>(64);

 private:
  std::atomic<int>* alive_;
};

}  // namespace escrow::safe::cases

template <>
struct escrow::ownership::OwnedMemory<escrow::safe::cases::Counted> {
  static std::byte* Data(safe::cases::Counted& value) noexcept {
    return reinterpret_cast<std::byte*>(value.bytes_.data());
  }
  static std::size_t Size(const safe::cases::Counted& value) noexcept {
    return value.bytes_.size();
  }
};

namespace escrow::safe::cases {

// How many descriptors are open when the thread of the last test's driver,
// which ends by itself, has ended.
inline int DescriptorsAtRest() {
  int count = escrow::testing::OpenDescriptors();
  for (int same = 0; same < 10;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const int now = escrow::testing::OpenDescriptors();
    same = now == count ? same + 1 : 0;
    count = now;
  }
  return count;
}

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

template <typename Source>
class DriverTest : public ::testing::Test {
 public:
  static Submission<Transfer<std::string>> ReadOf(
      const Source& source, const ownership::Descriptor& file,
      std::string buffer) {
    return Perform(
        source.driver(), [&file, buffer = std::move(buffer)]() mutable {
          return Read<std::string>{.file = file, .buffer = std::move(buffer)};
        });
  }
};

using Sources = ::testing::Types<Local, Shared>;

// Runs a function in the ring's thread.
template <typename Function>
class FunctionJob final : public DriverJob {
 public:
  explicit FunctionJob(Function function) : function_(std::move(function)) {}
  void RunOn(Ring& ring) override { function_(ring); }

 private:
  Function function_;
};
template <typename Source, typename Function>
void RunAndWait(Source& source, Function function) {
  std::atomic<bool> ran = false;
  auto job = [&](Ring& ring) {
    function(ring);
    ran = true;
  };
  source.driver().Run(std::make_unique<FunctionJob<decltype(job)>>(job),
                      /*eager=*/false);
  source.Until([&] { return ran.load(); });
}

}  // namespace escrow::safe::cases

#endif  // ESCROW_TESTS_SAFE_DRIVER_CASES_H_
