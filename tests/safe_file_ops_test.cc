// The ops of file_ops.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

struct SyncRangeCase {
  World world;
  static constexpr const char* kName = "SyncRange";
  static constexpr const char* kCall = "sync_file_range";

  auto Good() {
    return SyncRange{.file = world.OpenFile(), .flags = SYNC_FILE_RANGE_WRITE};
  }
  void Expect(Result<void>) {}
  auto Bad() { return SyncRange{.file = world.OpenFile(), .flags = ~0}; }
  static constexpr int kError = EINVAL;
};

struct AllocateCase {
  World world;
  static constexpr const char* kName = "Allocate";
  static constexpr const char* kCall = "fallocate";

  auto Good() { return Allocate{.file = world.OpenFile(), .length = 100}; }
  void Expect(Result<void>) {
    EXPECT_EQ(fs::file_size(world.Path("file")), 100u);
  }
  auto Bad() { return Allocate{.file = world.OpenFile(), .length = 0}; }
  static constexpr int kError = EINVAL;
};

struct TruncateCase {
  World world;
  static constexpr const char* kName = "Truncate";
  static constexpr const char* kCall = "ftruncate";

  auto Good() { return Truncate{.file = world.OpenFile(), .length = 3}; }
  void Expect(Result<void>) {
    EXPECT_EQ(fs::file_size(world.Path("file")), 3u);
  }
  auto Bad() { return Truncate{.file = world.OpenFile(), .length = -1}; }
  static constexpr int kError = EINVAL;
};

struct AdviseCase {
  World world;
  static constexpr const char* kName = "Advise";
  static constexpr const char* kCall = "fadvise";

  auto Good() {
    return Advise{.file = world.OpenFile(), .advice = POSIX_FADV_WILLNEED};
  }
  void Expect(Result<void>) {}
  auto Bad() { return Advise{.file = world.OpenFile(), .advice = 999}; }
  static constexpr int kError = EINVAL;
};

struct SpliceCase {
  World world;
  Ends pipe;
  static constexpr const char* kName = "Splice";
  static constexpr const char* kCall = "splice";

  auto Good() {
    return Splice{
        .in = world.OpenFile(), .in_offset = 2, .out = pipe.write, .length = 5};
  }
  void Expect(Result<std::size_t> moved) {
    EXPECT_EQ(*moved, 5u);
    EXPECT_EQ(pipe.Content(), "23456");
  }
  auto Bad() {
    return Splice{.in = world.OpenFile(), .out = world.OpenFile(), .length = 5};
  }
  static constexpr int kError = EINVAL;
};

struct TeeCase {
  Ends from{"tee"};
  Ends to;
  static constexpr const char* kName = "Tee";
  static constexpr const char* kCall = "tee";

  auto Good() { return Tee{.in = from.read, .out = to.write, .length = 10}; }
  void Expect(Result<std::size_t> copied) {
    EXPECT_EQ(*copied, 3u);
    EXPECT_EQ(from.Content(), "tee");
    EXPECT_EQ(to.Content(), "tee");
  }
  auto Bad() { return Tee{.in = from.read, .out = from.write, .length = 10}; }
  static constexpr int kError = EINVAL;
};

struct PipeCase {
  static constexpr const char* kName = "Pipe";
  static constexpr const char* kCall = "pipe2";

  auto Good() { return Pipe{.flags = O_NONBLOCK}; }
  void Expect(Result<Pipe::Ends> ends) {
    EXPECT_EQ(::write(ends->write.number(), "x", 1), 1);
    char byte;
    EXPECT_EQ(::read(ends->read.number(), &byte, 1), 1);
    EXPECT_EQ(::fcntl(ends->read.number(), F_GETFD), FD_CLOEXEC);
  }
  auto Bad() { return Pipe{.flags = O_CREAT}; }
  static constexpr bool kRefusedAtOnce = true;
  static constexpr int kError = EINVAL;
};

using Cases = ::testing::Types<SyncRangeCase, AllocateCase, TruncateCase,
                               AdviseCase, SpliceCase, TeeCase, PipeCase>;
ESCROW_OP_CASES(File, Cases);

// What a row cannot say.

// A close has to wait for both files of an operation.
TEST(SafeFileOps, BothFilesOfASpliceStayOpen) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const int descriptors = escrow::testing::OpenDescriptors();
  Ends from, to;
  auto splice =
      ring->Start(Splice{.in = from.read, .out = to.write, .length = 4});
  EXPECT_TRUE(ring->Submit());
  auto close_in = ring->Close(std::move(from.read));
  auto close_out = ring->Close(std::move(to.write));
  EXPECT_TRUE(ring->Wait(ring->Nop()));
  EXPECT_FALSE(close_in.done());
  EXPECT_FALSE(close_out.done());
  EXPECT_EQ(escrow::testing::OpenDescriptors(), descriptors + 4);
  EXPECT_EQ(::write(from.write.number(), "abcd", 4), 4);
  EXPECT_EQ(ring->Wait(std::move(splice)).value(), 4u);
  EXPECT_TRUE(ring->Wait(std::move(close_in)));
  EXPECT_TRUE(ring->Wait(std::move(close_out)));
  EXPECT_EQ(to.Content(), "abcd");
  EXPECT_EQ(escrow::testing::OpenDescriptors(), descriptors + 2);
}

// An op of one's own, and what Start() does not take.
struct Nothing {
  using Outcome = Result<void>;
  void Start(ownership::Record&) {}
};
static_assert(Op<Nothing> && Op<Rename> && Op<Pipe>);
static_assert(!Op<int> && !Op<Rename&>);
template <typename T>
concept WithoutFile = requires {
  T{.length = 1};
};
static_assert(!WithoutFile<Truncate> && !WithoutFile<Allocate>);
template <typename F>
concept IsFile = requires(F file) {
  Truncate{.file = file};
};
static_assert(IsFile<Descriptor&> && !IsFile<int>);

}  // namespace
}  // namespace escrow::safe::cases
