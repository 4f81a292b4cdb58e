// Whatever a program does with operations and their handles, the kernel writes
// into no memory that has been given back, and everything is given back once.
//
// The input is a program: each action starts an operation on the real kernel or
// does something to one that was started. Every buffer is a piece of an arena
// that outlives it. Whoever gives a buffer back fills it with a pattern; if the
// kernel writes there later, the pattern is broken at the end.

#include <dirent.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "escrow/examples/task.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"

namespace {

#define REQUIRE(condition)                                                    \
  do {                                                                        \
    if (!(condition)) {                                                       \
      std::fprintf(stderr, "violated: %s (line %d)\n", #condition, __LINE__); \
      std::abort();                                                           \
    }                                                                         \
  } while (false)

using escrow::examples::Task;
using escrow::ownership::Descriptor;
using escrow::safe::Operation;
using escrow::safe::Result;
using escrow::safe::Ring;
using escrow::safe::Transfer;

constexpr std::byte kGivenBack{0xee};
constexpr std::size_t kBufferBytes = 512;
constexpr std::size_t kFileBytes = 16 * 1024;
constexpr std::size_t kMostActions = 200;

std::byte FileByte(std::size_t offset) {
  return static_cast<std::byte>(offset * 7 % 251);
}

// Where buffers come from and stay.
struct Piece {
  std::array<std::byte, kBufferBytes> bytes = {};
  bool held = false;  // by a Guarded
};

class Guarded {
 public:
  explicit Guarded(Piece& piece) noexcept : piece_(&piece) {
    piece.held = true;
  }
  Guarded(Guarded&& other) noexcept
      : piece_(std::exchange(other.piece_, nullptr)) {}
  Guarded& operator=(Guarded&& other) noexcept {
    std::swap(piece_, other.piece_);
    return *this;
  }
  ~Guarded() {
    if (piece_ == nullptr) return;
    REQUIRE(piece_->held);
    piece_->held = false;
    piece_->bytes.fill(kGivenBack);
  }
  Piece* piece() const noexcept { return piece_; }

 private:
  Piece* piece_;
};

}  // namespace

template <>
struct escrow::ownership::OwnedMemory<Guarded> {
  static std::byte* Data(Guarded& value) noexcept {
    return value.piece()->bytes.data();
  }
  static std::size_t Size(const Guarded&) noexcept { return kBufferBytes; }
};

namespace {

// What a handle in the program can be.
using Handle =
    std::variant<Operation<Transfer<Guarded>>, Operation<Result<void>>,
                 Operation<Result<Descriptor>>, Operation<Result<struct statx>>,
                 Task>;
struct Started {
  Handle handle;
  bool ends_by_itself;  // so that it may be waited for
};

int OpenDescriptors() {
  DIR* const directory = opendir("/proc/self/fd");
  REQUIRE(directory != nullptr);
  int count = 0;
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

int MakeFile() {
  const int fd = memfd_create("fuzz", MFD_CLOEXEC);
  REQUIRE(fd >= 0);
  std::vector<std::byte> bytes(kFileBytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = FileByte(i);
  REQUIRE(write(fd, bytes.data(), bytes.size()) ==
          static_cast<ssize_t>(bytes.size()));
  return fd;
}

class Program {
 public:
  Program(const std::uint8_t* data, std::size_t size)
      : data_(data), end_(data + size) {}

  void Run() {
    const int descriptors = OpenDescriptors();
    {
      SetUp();
      for (std::size_t i = 0; i < kMostActions && data_ != end_; ++i) Step();
      if (Next() % 2 == 0) Drain();
      // Handles before the ring, or the ring before its handles.
      if (Next() % 2 == 0) started_.clear();
      ring_.reset();
      for (Started& started : started_) Settle(started);
      started_.clear();
      file_ = Descriptor();
      in_ = Descriptor();
      out_ = Descriptor();
    }
    for (const auto& piece : arena_) {
      REQUIRE(!piece->held);
      for (const std::byte byte : piece->bytes) REQUIRE(byte == kGivenBack);
    }
    REQUIRE(OpenDescriptors() == descriptors);
    REQUIRE(escrow::safe::BuriedOperations() == 0);
  }

 private:
  std::uint8_t Next() { return data_ != end_ ? *data_++ : std::uint8_t{0}; }

  Guarded NewBuffer() {
    arena_.push_back(std::make_unique<Piece>());
    return Guarded(*arena_.back());
  }

  void SetUp() {
    constexpr std::optional<std::uint32_t> kKinds[] = {std::nullopt, 0u,
                                                       IORING_SETUP_SQPOLL};
    // SQPOLL rings are slow to make.
    const std::uint8_t kind = Next();
    auto ring = Ring::Create(
        {.entries = 8u, .setup_flags = kKinds[kind % 64 == 63 ? 2 : kind % 2]});
    REQUIRE(ring.has_value());
    ring_.emplace(std::move(*ring));
    file_ = Descriptor::Adopt(MakeFile());
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    // Reads of the pipe wait in the kernel; the program's writes do not.
    REQUIRE(fcntl(ends[0], F_SETFL, 0) == 0);
    in_ = Descriptor::Adopt(ends[0]);
    out_ = Descriptor::Adopt(ends[1]);
  }

  template <typename Outcome>
  void Keep(Operation<Outcome> operation, bool ends_by_itself) {
    started_.push_back({Handle(std::move(operation)), ends_by_itself});
  }

  void CheckRead(const Result<std::size_t>& result, const Guarded& buffer,
                 std::size_t offset) {
    if (!result) return;
    REQUIRE(*result <= kBufferBytes);
    for (std::size_t i = 0; i < *result; ++i) {
      REQUIRE(buffer.piece()->bytes[i] == FileByte(offset + i));
    }
  }

  Task AwaitRead(std::size_t offset, bool async) {
    auto [result, buffer] =
        co_await ring_->Read(file_, NewBuffer(), offset, {.async = async});
    CheckRead(result, buffer, offset);
    (void)co_await ring_->Read(in_, std::move(buffer));
  }

  void Step() {
    const std::uint8_t action = Next();
    const std::uint8_t argument = Next();
    const bool async = argument % 2 == 1;
    // Nothing writes to the first half of the file.
    const std::size_t offset = argument * std::size_t{31} % (kFileBytes / 4);
    switch (action % 20) {
      case 0:
        Keep(ring_->Read(file_, NewBuffer(), offset, {.async = async}), true);
        break;
      case 1:
        Keep(ring_->Read(in_, NewBuffer(), escrow::safe::kCurrentPosition,
                         {.async = async}),
             false);
        break;
      case 2:
        Keep(ring_->Write(file_, NewBuffer(), kFileBytes / 2 + offset,
                          {.async = async}),
             true);
        break;
      case 3: {
        const char bytes[64] = {};
        (void)!write(out_.number(), bytes, argument % 64 + 1u);
        break;
      }
      case 4:
        Keep(ring_->Timeout(async ? std::chrono::microseconds(argument)
                                  : std::chrono::hours(1)),
             async);
        break;
      case 5:
        Keep(ring_->Open(async ? "/dev/null" : "/nonexistent", O_RDONLY), true);
        break;
      case 6:
        Keep(ring_->Close(Descriptor::Adopt(dup(file_.number()))), true);
        break;
      case 7: {
        // Waits for a read that may not end.
        auto in = Descriptor::Adopt(dup(in_.number()));
        Keep(ring_->Read(in, NewBuffer()), false);
        Keep(ring_->Close(std::move(in)), false);
        break;
      }
      case 8:
        Keep(ring_->Statx(file_), true);
        break;
      case 9:
        Keep(ring_->Nop(), true);
        break;
      case 10:
        if (!started_.empty()) Cancel(started_[argument % started_.size()]);
        break;
      case 11:
        (void)Extract(argument);  // dropped
        break;
      case 12:
        if (auto started = Extract(argument)) {
          if (started->ends_by_itself) WaitFor(*started);
        }
        break;
      case 13:
        if (auto started = Extract(argument)) Detach(*started);
        break;
      case 14:
        ring_->Read(file_, NewBuffer(), offset, {.async = async})
            .Then([this, offset](Result<std::size_t> result, Guarded buffer) {
              CheckRead(result, buffer, offset);
              if (started_.size() < 8) Keep(ring_->Nop(), true);
              if (offset % 3 == 0 && !started_.empty()) started_.pop_back();
            });
        break;
      case 15:
        ring_->Read(in_, NewBuffer())
            .Then([](Result<std::size_t> result, Guarded) {
              REQUIRE(!result || *result <= kBufferBytes);
            });
        break;
      case 16:
        started_.push_back({Handle(AwaitRead(offset, async)), false});
        break;
      case 17:
        REQUIRE(ring_->Submit());
        break;
      case 18:
        REQUIRE(ring_->Dispatch(std::chrono::nanoseconds(0)));
        break;
      case 19:
        REQUIRE(ring_->Dispatch(std::chrono::microseconds(argument)));
        break;
    }
  }

  std::optional<Started> Extract(std::uint8_t which) {
    if (started_.empty()) return std::nullopt;
    std::swap(started_[which % started_.size()], started_.back());
    std::optional<Started> last(std::move(started_.back()));
    started_.pop_back();
    return last;
  }

  void Cancel(const Started& started) {
    std::visit(
        [this]<typename T>(const T& handle) {
          if constexpr (!std::is_same_v<T, Task>) {
            // Started before it is kept, which may move `handle`.
            auto cancel = ring_->Cancel(handle);
            Keep(std::move(cancel), true);
          }
        },
        started.handle);
  }

  void WaitFor(Started& started) {
    std::visit(
        [this]<typename T>(T& handle) {
          if constexpr (!std::is_same_v<T, Task>) {
            (void)ring_->Wait(std::move(handle));
          }
        },
        started.handle);
  }

  static void Detach(Started& started) {
    std::visit(
        []<typename T>(T& handle) {
          if constexpr (!std::is_same_v<T, Task>) std::move(handle).Detach();
        },
        started.handle);
  }

  // After the ring: everything has an outcome.
  static void Settle(Started& started) {
    std::visit(
        []<typename T>(T& handle) {
          if constexpr (!std::is_same_v<T, Task>) {
            REQUIRE(handle.done());
            (void)std::move(handle).Take();
          }
        },
        started.handle);
  }

  // Lets what can end do so; a detached hour stays.
  void Drain() {
    started_.clear();
    const char bytes[64] = {};
    for (int i = 0; i < 20 && ring_->in_flight() > 0; ++i) {
      (void)!write(out_.number(), bytes, sizeof(bytes));
      REQUIRE(ring_->Dispatch(std::chrono::milliseconds(1)));
      started_.clear();
    }
    REQUIRE(ring_->unknown_completions() == 0);
  }

  const std::uint8_t* data_;
  const std::uint8_t* const end_;
  std::vector<std::unique_ptr<Piece>> arena_;
  std::optional<Ring> ring_;
  Descriptor file_;
  Descriptor in_;
  Descriptor out_;
  std::vector<Started> started_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  Program(data, size).Run();
  return 0;
}
