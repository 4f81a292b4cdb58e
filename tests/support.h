#ifndef ESCROW_TESTS_SUPPORT_H_
#define ESCROW_TESTS_SUPPORT_H_

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "escrow/ownership/memory.h"

// What several tests need.

namespace escrow::testing {

// A file that is gone at the end of the test.
class TemporaryFile {
 public:
  // Creates it with `content`.
  explicit TemporaryFile(const std::string& content = "");
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile();

  const std::string& path() const { return path_; }
  // A new descriptor, to be closed by the caller.
  int Open(int flags) const;
  std::string Content() const;

 private:
  std::string path_;
};

// A pipe, as two numbers that the caller closes.
struct Pipe {
  Pipe();
  int read_end = -1;
  int write_end = -1;
};

// How many descriptors the process has open.
int OpenDescriptors();

// Whether a signal for the process that the calling thread blocks is left to it
// by all other threads.
bool SignalsAreLeftToThisThread();

// Makes io_uring_enter(2) fail with `error` from here on: whenever it has
// exactly `to_submit` entries to submit, or, with -1, always. Cannot be undone,
// so only in a child process.
void MakeEnterFail(int error, int to_submit = -1);
// Likewise for every io_uring_setup(2).
void MakeSetupFail(int error);
// Likewise for every eventfd(2).
void MakeEventfdFail(int error);
// Likewise for io_uring_register(2), with operation `opcode`.
void MakeRegisterFail(int error, unsigned opcode);

// What `create` returns, an expected: called again while there is no memory for
// a ring, because the kernel gives that of earlier rings back late.
template <typename Create>
auto CreatePatiently(const Create& create) {
  auto created = create();
  for (int i = 0; i < 500 && !created && created.error().value() == ENOMEM;
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    created = create();
  }
  return created;
}

// Runs `body`, whose expectations count, in a child process: for what cannot be
// undone.
void ExpectChildSucceeds(const std::function<void()>& body);

// Memory that outlives its release, for a test to see what happens to it then.
// Counts how often it was released.
struct Arena {
  std::byte* data;
  std::size_t size;
  int releases = 0;
};

// Owns an Arena, like a buffer owns its bytes.
class Tracked {
 public:
  explicit Tracked(Arena& arena) noexcept : arena_(&arena) {}
  Tracked(Tracked&& other) noexcept
      : arena_(std::exchange(other.arena_, nullptr)) {}
  Tracked& operator=(Tracked&& other) noexcept {
    std::swap(arena_, other.arena_);
    return *this;
  }
  ~Tracked() {
    if (arena_ != nullptr) ++arena_->releases;
  }
  Arena* arena() const noexcept { return arena_; }

 private:
  Arena* arena_;
};

}  // namespace escrow::testing

template <>
struct escrow::ownership::OwnedMemory<escrow::testing::Tracked> {
  static std::byte* Data(testing::Tracked& value) noexcept {
    return value.arena()->data;
  }
  static std::size_t Size(const testing::Tracked& value) noexcept {
    return value.arena()->size;
  }
};

#endif  // ESCROW_TESTS_SUPPORT_H_
