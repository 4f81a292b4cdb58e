// The ops of file_ops.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/mapping.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/mapping_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/vector_ops.h"
#include "escrow/safe/wait_ops.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

struct ReadCase {
  World world;
  Ends pipe;
  static constexpr const char* kName = "Read";
  static constexpr const char* kCall = "read";

  auto Good() {
    return Read<std::string>{
        .file = world.OpenFile(), .buffer = "....", .offset = 3};
  }
  void Expect(Transfer<std::string> read) {
    EXPECT_EQ(*read.result, 4u);
    EXPECT_EQ(read.buffer, "3456");
  }
  auto Short() {
    return Read<std::string>{
        .file = world.OpenFile(), .buffer = "....", .offset = 8};
  }
  void ExpectShort(Transfer<std::string> read) {
    EXPECT_EQ(*read.result, 2u);
    EXPECT_EQ(read.buffer, "89..");
  }
  auto Waits() {
    return Read<std::string>{.file = pipe.read, .buffer = "...."};
  }
  void EndWait() { EXPECT_EQ(::write(pipe.write.number(), "abc", 3), 3); }
  void ExpectWaited(Transfer<std::string> read) {
    EXPECT_EQ(*read.result, 3u);
    EXPECT_EQ(read.buffer, "abc.");
  }
  auto Bad() {
    return Read<std::string>{
        .file = world.OpenFile(), .buffer = "....", .flags = 1 << 30};
  }
  static constexpr int kError = EOPNOTSUPP;
};

struct WriteCase {
  World world;
  Ends pipe;
  static constexpr const char* kName = "Write";
  static constexpr const char* kCall = "write";

  // The flag has it ignore the offset.
  auto Good() {
    return Write<std::string>{.file = world.OpenFile(),
                              .buffer = "abc",
                              .offset = 0,
                              .flags = RWF_APPEND};
  }
  void Expect(Transfer<std::string> written) {
    EXPECT_EQ(*written.result, 3u);
    EXPECT_EQ(written.buffer, "abc");
    EXPECT_EQ(world.Content("file"), "0123456789abc");
  }
  auto Waits() {
    pipe.Fill();
    return Write<std::string>{.file = pipe.write, .buffer = "abc"};
  }
  void EndWait() { pipe.Drain(); }
  void ExpectWaited(Transfer<std::string> written) {
    EXPECT_EQ(*written.result, 3u);
    EXPECT_EQ(pipe.Content(), "abc");
  }
  auto Bad() {
    return Write<std::string>{.file = world.OpenDirectory(), .buffer = "abc"};
  }
  static constexpr int kError = EBADF;
};

using Strings = std::array<std::string, 3>;

struct ReadVectorCase {
  World world;
  Ends pipe;
  static constexpr const char* kName = "ReadVector";
  static constexpr const char* kCall = "readv";

  auto Good() {
    return ReadVector<Strings>{
        .file = world.OpenFile(), .buffers = {"..", "", "..."}, .offset = 1};
  }
  void Expect(Transfer<Strings> read) {
    EXPECT_EQ(*read.result, 5u);
    EXPECT_EQ(read.buffer, (Strings{"12", "", "345"}));
  }
  auto Short() {
    return ReadVector<Strings>{
        .file = world.OpenFile(), .buffers = {"..", "..", ".."}, .offset = 7};
  }
  void ExpectShort(Transfer<Strings> read) {
    EXPECT_EQ(*read.result, 3u);
    EXPECT_EQ(read.buffer, (Strings{"78", "9.", ".."}));
  }
  auto Waits() {
    return ReadVector<Strings>{.file = pipe.read, .buffers = {".", ".", "."}};
  }
  void EndWait() { EXPECT_EQ(::write(pipe.write.number(), "ab", 2), 2); }
  void ExpectWaited(Transfer<Strings> read) {
    EXPECT_EQ(*read.result, 2u);
    EXPECT_EQ(read.buffer, (Strings{"a", "b", "."}));
  }
  auto Bad() {
    return ReadVector<Strings>{.file = world.OpenDirectory(),
                               .buffers = {".", ".", "."}};
  }
  static constexpr int kError = EISDIR;
};

struct WriteVectorCase {
  World world;
  Ends pipe;
  static constexpr const char* kName = "WriteVector";
  static constexpr const char* kCall = "writev";

  auto Good() {
    return WriteVector<std::vector<std::string>>{
        .file = world.OpenFile(), .buffers = {"ab", "", "cde"}, .offset = 8};
  }
  void Expect(Transfer<std::vector<std::string>> written) {
    EXPECT_EQ(*written.result, 5u);
    EXPECT_EQ(written.buffer, (std::vector<std::string>{"ab", "", "cde"}));
    EXPECT_EQ(world.Content("file"), "01234567abcde");
  }
  auto Waits() {
    pipe.Fill();
    return WriteVector<Strings>{.file = pipe.write, .buffers = {"a", "b", "c"}};
  }
  void EndWait() { pipe.Drain(); }
  void ExpectWaited(Transfer<Strings> written) {
    EXPECT_EQ(*written.result, 3u);
    EXPECT_EQ(pipe.Content(), "abc");
  }
  auto Bad() {
    return WriteVector<std::vector<std::string>>{.file = world.OpenDirectory(),
                                                 .buffers = {"a", "b"}};
  }
  static constexpr int kError = EBADF;
};

struct SyncCase {
  World world;
  Ends pipe;
  static constexpr const char* kName = "Sync";
  static constexpr const char* kCall = "fsync";

  auto Good() {
    return Sync{.file = world.OpenFile(),
                .mode = SyncMode::kData,
                .offset = 2,
                .length = 4};
  }
  void Expect(Result<void>) {}
  auto Bad() { return Sync{.file = pipe.read}; }
  static constexpr int kError = EINVAL;
};

struct StatFileCase {
  World world;
  static constexpr const char* kName = "StatFile";
  static constexpr const char* kCall = "statx";

  auto Good() { return StatFile{.file = world.OpenFile()}; }
  void Expect(Result<struct ::statx> status) {
    EXPECT_EQ(status->stx_size, 10u);
  }
  auto Bad() { return StatFile{.file = world.OpenFile(), .flags = 1 << 30}; }
  static constexpr int kError = EINVAL;
};

struct GetFileXattrCase {
  World world;
  static constexpr const char* kName = "GetFileXattr";
  static constexpr const char* kCall = "fgetxattr";

  auto Good() {
    EXPECT_TRUE(Possible());
    return GetFileXattr<std::string>{.file = world.OpenFile(),
                                     .name = "user.escrow",
                                     .value = std::string(8, '.')};
  }
  void Expect(Transfer<std::string> got) {
    EXPECT_EQ(*got.result, 5u);
    EXPECT_EQ(got.buffer, "value...");
  }
  bool Possible() {
    return ::setxattr(world.Path("file").c_str(), "user.escrow", "value", 5,
                      0) == 0;
  }
  auto Bad() {
    EXPECT_TRUE(Possible());
    return GetFileXattr<std::string>{
        .file = world.OpenFile(), .name = "user.escrow", .value = "...."};
  }
  static constexpr int kError = ERANGE;
};

struct SetFileXattrCase {
  World world;
  static constexpr const char* kName = "SetFileXattr";
  static constexpr const char* kCall = "fsetxattr";

  auto Good() {
    return SetFileXattr{
        .file = world.OpenFile(), .name = "user.escrow", .value = "value"};
  }
  void Expect(Result<void>) {
    char value[8];
    EXPECT_EQ(::getxattr(world.Path("file").c_str(), "user.escrow", value, 8),
              5);
  }
  bool Possible() {
    return ::setxattr(world.Path("file").c_str(), "user.test", "", 0, 0) == 0;
  }
  auto Bad() {
    return SetFileXattr{.file = world.OpenFile(),
                        .name = "user.escrow",
                        .value = "value",
                        .flags = XATTR_REPLACE};
  }
  static constexpr int kError = ENODATA;
};

// Of four pages of a file, of which the program has changed all.
struct AdviseMappingCase {
  static constexpr std::size_t kPage = 4096;
  World world;
  static constexpr const char* kName = "AdviseMapping";
  static constexpr const char* kCall = "madvise";

  auto Good() {
    return AdviseMapping{.mapping = Pages(),
                         .offset = kPage,
                         .length = kPage + 1,
                         .advice = MADV_DONTNEED};
  }
  // Forgotten are the two pages that the advised part touches.
  void Expect(Transfer<ownership::Mapping, void> advised) {
    ASSERT_EQ(advised.buffer.size(), 4 * kPage);
    EXPECT_EQ(advised.buffer.data()[0], std::byte{'x'});
    EXPECT_EQ(advised.buffer.data()[kPage], std::byte{0});
    EXPECT_EQ(advised.buffer.data()[3 * kPage - 1], std::byte{0});
    EXPECT_EQ(advised.buffer.data()[3 * kPage], std::byte{'x'});
  }
  auto Bad() { return AdviseMapping{.mapping = Pages(), .advice = 999}; }
  static constexpr int kError = EINVAL;

 private:
  static ownership::Mapping Pages() {
    auto pages = ownership::Mapping::Anonymous(4 * kPage);
    if (!pages) {
      ADD_FAILURE() << pages.error().message();
      std::abort();
    }
    std::memset(pages->data(), 'x', pages->size());
    return std::move(*pages);
  }
};

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

struct CloseCase {
  World world;
  Descriptor file = world.OpenFile();
  int number = file.number();
  static constexpr const char* kName = "Close";
  static constexpr const char* kCall = "close";

  auto Good() { return Close{.file = std::move(file)}; }
  void Expect(Result<void>) { EXPECT_EQ(::fcntl(number, F_GETFD), -1); }
  // Which is then closed all the same.
  auto Bad() {
    auto ring = Ring::Create({.entries = 2});
    return Close{.file = std::move(*ring->Duplicate())};
  }
  static constexpr int kError = EBADF;
};

using Cases =
    ::testing::Types<ReadCase, WriteCase, ReadVectorCase, WriteVectorCase,
                     SyncCase, StatFileCase, GetFileXattrCase, SetFileXattrCase,
                     AdviseMappingCase, SyncRangeCase, AllocateCase,
                     TruncateCase, AdviseCase, SpliceCase, TeeCase, PipeCase,
                     CloseCase>;
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

// More buffers than there is room for in the op.
TEST(SafeFileOps, ManyBuffersInOne) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const World world;
  const Descriptor file = world.OpenFile();
  using Buffers = std::vector<std::vector<char>>;
  Buffers bytes;
  for (int i = 0; i < 1000; ++i) {
    bytes.emplace_back(3, static_cast<char>('a' + i % 26));
  }
  const Buffers original = bytes;
  const auto written = ring->Wait(ring->Start(WriteVector<Buffers>{
      .file = file, .buffers = std::move(bytes), .offset = 0}));
  EXPECT_EQ(written.result.value(), 3000u);
  EXPECT_EQ(written.buffer, original);
  auto read = ring->Wait(ring->Start(ReadVector<Buffers>{
      .file = file, .buffers = Buffers(1000, {0, 0, 0}), .offset = 0}));
  EXPECT_EQ(read.result.value(), 3000u);
  EXPECT_EQ(read.buffer, original);
  // None, and more than the kernel takes.
  const auto none =
      ring->Wait(ring->Start(ReadVector<Buffers>{.file = file, .buffers = {}}));
  EXPECT_EQ(none.result.value(), 0u);
  const auto many = ring->Wait(ring->Start(
      ReadVector<Buffers>{.file = file, .buffers = Buffers(1025, {0})}));
  EXPECT_EQ(many.result.error(), std::errc::invalid_argument);
  EXPECT_EQ(many.buffer.size(), 1025u);
}

class SafeClose : public ::testing::Test {
 protected:
  static Ring MakeRing() {
    auto ring = Ring::Create({.entries = 8});
    if (!ring) {
      ADD_FAILURE() << ring.error().message();
      std::abort();
    }
    return std::move(*ring);
  }
  static bool IsOpen(int number) { return ::fcntl(number, F_GETFD) != -1; }

  World world_;
  Ring ring_ = MakeRing();
};

TEST_F(SafeClose, EndsTheChainOfItsFile) {
  Descriptor file = world_.OpenFile();
  const int number = file.number();
  auto [write, sync, close] = ring_.Start(
      Chain{Write<std::string>{.file = file, .buffer = "abc", .offset = 2},
            Sync{.file = file}, Close{.file = std::move(file)}});
  EXPECT_TRUE(ring_.Wait(std::move(close)));
  EXPECT_FALSE(IsOpen(number));
  EXPECT_EQ(ring_.Wait(std::move(write)).result.value(), 3u);
  EXPECT_TRUE(ring_.Wait(std::move(sync)));
  EXPECT_EQ(world_.Content("file"), "01abc56789");
}

// It is another one's before anybody has taken an outcome, or the completion of
// the deadline has come, with which the read lets go of the file.
TEST_F(SafeClose, TheNumberIsFreeAtOnce) {
  for (int i = 0; i < 100; ++i) {
    Descriptor file = world_.OpenFile();
    const int number = file.number();
    auto [read, close] = ring_.Start(
        HardChain{With{Read<std::string>{.file = file, .buffer = "."},
                       {.deadline = std::chrono::hours(1)}},
                  With{Close{.file = std::move(file)},
                       {.deadline = std::chrono::hours(1)}}});
    while (!close.done()) EXPECT_TRUE(ring_.Wait(ring_.Nop()));
    const Descriptor next = world_.OpenFile();
    EXPECT_EQ(next.number(), number);
    EXPECT_TRUE(ring_.Wait(std::move(close)));
    EXPECT_EQ(ring_.Wait(std::move(read)).result.value(), 1u);
    while (ring_.in_flight() > 0) EXPECT_TRUE(ring_.Dispatch());
    ASSERT_TRUE(IsOpen(number));
  }
}

TEST_F(SafeClose, BothFilesOfASplice) {
  Ends from("through"), to;
  const int numbers[] = {from.read.number(), to.write.number()};
  auto [splice, one, other] = ring_.Start(Chain{
      Splice{.in = from.read, .out = to.write, .length = 7},
      Close{.file = std::move(from.read)}, Close{.file = std::move(to.write)}});
  EXPECT_TRUE(ring_.Wait(std::move(other)));
  EXPECT_TRUE(ring_.Wait(std::move(one)));
  EXPECT_EQ(ring_.Wait(std::move(splice)).value(), 7u);
  for (const int number : numbers) EXPECT_FALSE(IsOpen(number));
  EXPECT_EQ(to.Content(), "through");
}

TEST_F(SafeClose, InABrokenChainClosesAllTheSame) {
  Ends ends;
  const int number = ends.write.number();
  auto [read, close] =
      ring_.Start(Chain{Read<std::string>{.file = ends.write, .buffer = "."},
                        Close{.file = std::move(ends.write)}});
  EXPECT_EQ(ring_.Wait(std::move(close)).error(),
            std::errc::operation_canceled);
  EXPECT_FALSE(IsOpen(number));
  EXPECT_EQ(ring_.Wait(std::move(read)).result.error(),
            std::errc::bad_file_descriptor);
}

// Somebody else would be cut off, or make everybody wait.
TEST_F(SafeClose, InAChainIsRefusedWhileOthersUseTheFile) {
  for (const bool hard : {false, true}) {
    Ends ends;
    const int number = ends.read.number();
    auto waiting =
        ring_.Start(Read<std::string>{.file = ends.read, .buffer = "."});
    const auto chain = [&] {
      const Descriptor& other = ends.write;
      if (hard) {
        return ring_.Start(
            HardChain{Write<std::string>{.file = other, .buffer = "x"},
                      Close{.file = std::move(ends.read)},
                      Write<std::string>{.file = other, .buffer = "y"}});
      }
      return ring_.Start(
          Chain{Write<std::string>{.file = other, .buffer = "x"},
                Close{.file = std::move(ends.read)},
                Write<std::string>{.file = other, .buffer = "y"}});
    };
    auto [write, close, last] = chain();
    const auto closed = ring_.Wait(std::move(close));
    EXPECT_EQ(closed.error(), std::errc::device_or_resource_busy);
    EXPECT_TRUE(closed.error().message().starts_with("close in a chain: "));
    EXPECT_TRUE(IsOpen(number));
    EXPECT_EQ(ring_.Wait(std::move(write)).result.value(), 1u);
    const auto [size, text] = ring_.Wait(std::move(last));
    EXPECT_EQ(size.has_value(), hard);
    EXPECT_EQ(text, "y");
    EXPECT_EQ(ring_.Wait(std::move(waiting)).buffer, "x");
    EXPECT_FALSE(IsOpen(number));
  }
}

// What is behind it in the chain is not before it.
TEST_F(SafeClose, InAChainIsRefusedBeforeOthersOnTheFile) {
  Descriptor file = world_.OpenFile();
  Sync sync{.file = file};
  auto [close, synced] =
      ring_.Start(HardChain{Close{.file = std::move(file)}, std::move(sync)});
  EXPECT_EQ(ring_.Wait(std::move(close)).error(),
            std::errc::device_or_resource_busy);
  EXPECT_TRUE(ring_.Wait(std::move(synced)));
}

TEST_F(SafeClose, AtTheFrontOfAChain) {
  Descriptor file = world_.OpenFile();
  const int number = file.number();
  auto [close, nop] =
      ring_.Start(Chain{Close{.file = std::move(file)}, Timeout{.time = {}}});
  EXPECT_TRUE(ring_.Wait(std::move(nop)));
  EXPECT_TRUE(ring_.Wait(std::move(close)));
  EXPECT_FALSE(IsOpen(number));
}

// Each handle at each point.
TEST_F(SafeClose, DroppedAnywhereClosesOnce) {
  for (int way = 0; way < 8; ++way) {
    Descriptor file = world_.OpenFile();
    const int number = file.number();
    {
      auto [write, close] =
          ring_.Start(Chain{Write<std::string>{.file = file, .buffer = "abc"},
                            Close{.file = std::move(file)}});
      if ((way & 1) != 0) {
        EXPECT_TRUE(ring_.Submit());
      }
      if ((way & 2) != 0) std::move(write).Detach();
      if ((way & 4) != 0) std::move(close).Detach();
    }
    while (ring_.in_flight() > 0) EXPECT_TRUE(ring_.Dispatch());
    EXPECT_FALSE(IsOpen(number));
    EXPECT_EQ(ring_.unknown_completions(), 0u);
  }
}

TEST_F(SafeClose, InAChainEndsWithTheRing) {
  for (const bool submit : {false, true}) {
    Ends ends;
    const int number = ends.read.number();
    std::optional<Operation<Result<void>>> closing;
    {
      Ring ring = MakeRing();
      auto [read, close] =
          ring.Start(Chain{Read<std::string>{.file = ends.read, .buffer = "."},
                           Close{.file = std::move(ends.read)}});
      closing.emplace(std::move(close));
      if (submit) {
        EXPECT_TRUE(ring.Submit());
      }
    }
    EXPECT_EQ(std::move(*closing).Take().error(),
              std::errc::operation_canceled);
    EXPECT_FALSE(IsOpen(number));
  }
}

TEST_F(SafeClose, DeadlineIsNotForTheWait) {
  Ends ends;
  const int number = ends.read.number();
  auto waiting =
      ring_.Start(Read<std::string>{.file = ends.read, .buffer = "."});
  auto close = ring_.Start(Close{.file = std::move(ends.read)},
                           {.deadline = std::chrono::milliseconds(1)});
  EXPECT_FALSE(ring_.WaitAtMost(std::chrono::milliseconds(20), close));
  EXPECT_EQ(::write(ends.write.number(), "x", 1), 1);
  EXPECT_TRUE(ring_.Wait(std::move(waiting)).result);
  EXPECT_TRUE(ring_.Wait(std::move(close)));
  EXPECT_FALSE(IsOpen(number));
}

// The close that comes later is not linked to what is started then, which its
// failure would cancel.
TEST_F(SafeClose, DeadlineLeavesNoLinkBehind) {
  const Ring other = MakeRing();
  Descriptor descriptor = std::move(*other.Duplicate());
  auto waiting = ring_.Start(PollOnce{.file = descriptor, .events = POLLIN});
  auto close = ring_.Start(Close{.file = std::move(descriptor)},
                           {.deadline = std::chrono::hours(1)});
  EXPECT_FALSE(ring_.CancelAndWait(std::move(waiting)));
  auto nop = ring_.Nop();
  EXPECT_EQ(ring_.Wait(std::move(close)).error(),
            std::errc::bad_file_descriptor);
  EXPECT_TRUE(ring_.Wait(std::move(nop)));
}

// Each buffer of an abandoned operation is freed once, and not before the
// kernel is done.
TEST(SafeFileOps, BuffersOfAVectorAreGivenUpTogether) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const Ends pipe;
  std::byte bytes[16];
  escrow::testing::Arena arenas[2] = {{bytes, 8}, {bytes + 8, 8}};
  using Buffers = std::array<escrow::testing::Tracked, 2>;
  {
    auto read = ring->Start(
        ReadVector<Buffers>{.file = pipe.read,
                            .buffers = {escrow::testing::Tracked(arenas[0]),
                                        escrow::testing::Tracked(arenas[1])}});
    EXPECT_TRUE(ring->Submit());
  }
  EXPECT_EQ(arenas[0].releases + arenas[1].releases, 0);
  while (ring->in_flight() > 0) EXPECT_TRUE(ring->Dispatch());
  EXPECT_EQ(arenas[0].releases, 1);
  EXPECT_EQ(arenas[1].releases, 1);
}

TEST(SafeFileOps, FlagsOfAReadCount) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const Ends empty;
  const auto read = ring->Wait(ring->Start(Read<std::string>{
      .file = empty.read, .buffer = "....", .flags = RWF_NOWAIT}));
  EXPECT_EQ(read.result.error(), std::errc::resource_unavailable_try_again);
  EXPECT_EQ(read.buffer, "....");
}

TEST(SafeFileOps, SizesAndNamesOfXattrs) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const World world;
  const Descriptor file = world.OpenFile();
  const std::string nul("a\0b", 3);
  EXPECT_EQ(ring->Wait(ring->Start(GetFileXattr<std::string>{
                           .file = file, .name = nul, .value = ""}))
                .result.error(),
            std::errc::invalid_argument);
  EXPECT_EQ(ring->Wait(ring->Start(SetFileXattr{
                           .file = file, .name = nul, .value = ""}))
                .error(),
            std::errc::invalid_argument);
  const auto set = ring->Wait(ring->Start(
      SetFileXattr{.file = file, .name = "user.escrow", .value = "value"}));
  if (!set && set.error() == std::errc::operation_not_supported) {
    GTEST_SKIP() << "the file system has no user attributes";
  }
  ASSERT_TRUE(set) << set.error().message();
  EXPECT_EQ(ring->Wait(ring->Start(GetFileXattr<std::string>{
                           .file = file, .name = "user.escrow", .value = ""}))
                .result.value(),
            5u);
}

TEST(SafeFileOps, MappingsAreBuffers) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  const World world;
  const Descriptor file = world.OpenFile();
  auto mapping = ownership::Mapping::Anonymous(4096);
  ASSERT_TRUE(mapping);
  auto [size, read] = ring->Wait(ring->Read(file, std::move(*mapping), 0));
  ASSERT_EQ(size.value(), 10u);
  EXPECT_EQ(std::memcmp(read.data(), "0123456789", 10), 0);
  // What is not to be written is not.
  auto other = ownership::Mapping::OfFile(file, 10, {.protection = PROT_READ});
  ASSERT_TRUE(other);
  EXPECT_EQ(ring->Wait(ring->Read(file, std::move(*other), 0)).result.error(),
            std::errc::bad_address);
}

// A callback gets the parts of such an outcome, too.
TEST(SafeFileOps, MappingComesBackToACallback) {
  auto ring = Ring::Create({.entries = 8});
  ASSERT_TRUE(ring);
  auto mapping = ownership::Mapping::Anonymous(4096);
  ASSERT_TRUE(mapping);
  const std::byte* const bytes = mapping->data();
  bool called = false;
  ring->Start(AdviseMapping{.mapping = std::move(*mapping),
                            .advice = MADV_WILLNEED})
      .Then([&](Result<void> result, ownership::Mapping returned) {
        called = true;
        EXPECT_TRUE(result);
        EXPECT_EQ(returned.data(), bytes);
      });
  EXPECT_TRUE(ring->Dispatch());
  EXPECT_TRUE(called);
}

TEST(SafeFileOpsDeathTest, AdviceBeyondTheMapping) {
  const auto advise = [](std::size_t offset, std::size_t length) {
    auto mapping = ownership::Mapping::Anonymous(8192);
    WithOwnRing([&](Ring& ring) {
      (void)ring.Start(AdviseMapping{.mapping = std::move(*mapping),
                                     .offset = offset,
                                     .length = length,
                                     .advice = MADV_NORMAL});
    });
  };
  EXPECT_DEATH(advise(4096, 4097), "beyond the end of the mapping");
  EXPECT_DEATH(advise(8193, 0), "beyond the end of the mapping");
}

// What is not several buffers.
static_assert(WritableBuffers<std::vector<std::string>> &&
              WritableBuffers<std::array<ownership::Buffer, 2>>);
static_assert(ReadableBuffers<std::vector<ownership::StaticBytes>> &&
              !WritableBuffers<std::vector<ownership::StaticBytes>>);
static_assert(!ReadableBuffers<std::vector<std::string_view>> &&
              !ReadableBuffers<std::string> &&
              !ReadableBuffers<std::array<std::span<char>, 2>>);

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
