// safe/driven_file.h, and what files and sockets have in common.

#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/driven_file.h"
#include "escrow/safe/driven_object.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "tests/safe_driver_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using cases::Counted;
using cases::DescriptorsAtRest;
using cases::DriverTest;
using cases::Ends;
using cases::Local;
using cases::RunAndWait;
using cases::Sources;
using cases::Task;
using escrow::testing::OpenDescriptors;
using escrow::testing::TemporaryFile;
using ownership::Descriptor;

TYPED_TEST_SUITE(DriverTest, Sources);

// R16, R20: what is transferred moves the position, and seeking does, backwards
// too.
TYPED_TEST(DriverTest, FilesHaveAPosition) {
  const TemporaryFile temporary("0123456789");
  TypeParam source;
  auto opened =
      DrivenFile::Open(source.driver(), temporary.path(), O_RDWR).Wait();
  ASSERT_TRUE(opened) << opened.error().message();
  DrivenFile file = std::move(*opened);
  const auto read = [&] {
    return file.Read(std::string("....")).Wait().buffer;
  };
  const auto seek = [&](SeekFrom from, std::int64_t offset) {
    return file.Seek(from, offset).Wait();
  };
  EXPECT_EQ(read(), "0123");
  EXPECT_EQ(read(), "4567");
  EXPECT_EQ(read(), "89..");
  EXPECT_EQ(file.Read(std::string("....")).Wait().result, 0u);
  EXPECT_EQ(seek(SeekFrom::kCurrent, -4), 6u);
  EXPECT_EQ(read(), "6789");
  EXPECT_EQ(seek(SeekFrom::kEnd, -3), 7u);
  EXPECT_EQ(file.Write(std::string("AB")).Wait().result, 2u);
  EXPECT_EQ(seek(SeekFrom::kCurrent, 0), 9u);
  EXPECT_EQ(seek(SeekFrom::kStart, 2), 2u);
  EXPECT_EQ(seek(SeekFrom::kCurrent, -3).error(), std::errc::invalid_argument);
  EXPECT_EQ(seek(SeekFrom::kStart, -1).error(), std::errc::invalid_argument);
  const auto kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(seek(SeekFrom::kEnd, kMost).error(), std::errc::value_too_large);
  EXPECT_EQ(seek(SeekFrom::kCurrent, kMost).error(),
            std::errc::value_too_large);
  EXPECT_EQ(
      seek(SeekFrom::kStart, std::numeric_limits<std::int64_t>::min()).error(),
      std::errc::invalid_argument);
  EXPECT_EQ(read(), "2345");
  EXPECT_TRUE(file.Sync().Wait());
  auto descriptor = file.IntoDescriptor().Wait();
  ASSERT_TRUE(descriptor);
  EXPECT_TRUE(descriptor->alone());
  EXPECT_EQ(temporary.Content(), "0123456AB9");

  // A dropped seek is no seek, and an error is none.
  EXPECT_EQ(DrivenFile::Open(source.driver(), "/nowhere/at/all").Wait().error(),
            std::errc::no_such_file_or_directory);
  auto created = DrivenFile::Create(source.driver(), temporary.path()).Wait();
  ASSERT_TRUE(created);
  EXPECT_EQ(temporary.Content(), "");
  EXPECT_TRUE(created->Close().Wait());
}

// R9, R16: one after the other, in the order of their starts.
TYPED_TEST(DriverTest, OperationsOfAnObjectAreSerialised) {
  const TemporaryFile temporary;
  TypeParam source;
  auto file = DrivenFile::Create(source.driver(), temporary.path()).Wait();
  std::vector<Submission<Transfer<std::string>>> writes;
  std::string expected;
  for (char c = 'a'; c <= 'z'; ++c) {
    writes.push_back(file->Write(std::string(100, c)));
    writes.back().Start();
    expected += std::string(100, c);
  }
  for (auto& write : writes) EXPECT_EQ(std::move(write).Wait().result, 100u);
  EXPECT_EQ(temporary.Content(), expected);
}

// However many are dropped before their turn, the end of all is no deeper than
// of one.
TYPED_TEST(DriverTest, DroppedBeforeTheirTurnOfAFile) {
  const Ends pipe;
  std::atomic<int> alive = 0;
  TypeParam source;
  auto file =
      DrivenFile::Adopt(source.driver(), std::move(*pipe.read.Duplicate()));
  auto blocked = file.Read(std::string("..."));
  blocked.Start();
  for (int i = 0; i < 50'000; ++i) file.Read(Counted(alive)).Start();
  RunAndWait(source, [](Ring&) {});
  EXPECT_EQ(alive, 0);
  auto last = file.Read(std::string("..."));
  last.Start();
  pipe.Put("abc");
  EXPECT_EQ(std::move(blocked).Wait().buffer, "abc");
  pipe.Put("def");
  EXPECT_EQ(std::move(last).Wait().buffer, "def");
}

// R21: closing works in the middle of an operation, and so does dropping.
TYPED_TEST(DriverTest, ClosingMidOperationLeaksNothing) {
  const Ends pipe;
  TypeParam source;
  RunAndWait(source, [](Ring&) {});
  const int before = DescriptorsAtRest();
  enum How { kClose, kDropClose, kNeverStartClose, kDrop, kDropAll, kEnd };
  for (int how = kClose; how < kEnd; ++how) {
    std::optional file =
        DrivenFile::Adopt(source.driver(), std::move(*pipe.read.Duplicate()));
    std::optional read = file->Read(std::string("kept"));
    read->Start();
    if (how == kClose) {
      EXPECT_TRUE(file->Close().Wait());
    } else if (how == kDropClose) {
      file->Close().Start();
    } else if (how == kNeverStartClose) {
      (void)file->Close();
      file.reset();
    } else if (how == kDrop) {
      file.reset();
    } else {
      read.reset();
      file.reset();
    }
    if (read.has_value()) {
      auto [size, buffer] = std::move(*read).Wait();
      EXPECT_EQ(size.error(), std::errc::operation_canceled) << how;
      EXPECT_EQ(buffer, "kept");
    }
    source.Until([&] { return OpenDescriptors() <= before; });
  }
  // The error of close(2) is reported.
  auto bad = DrivenFile::Adopt(source.driver(), Descriptor::Permanent(1 << 30));
  EXPECT_EQ(bad.Close().Wait().error(), std::errc::bad_file_descriptor);
}

TYPED_TEST(DriverTest, FileMistakesEndTheProgram) {
  const TemporaryFile file("x");
  const auto adopt = [&](const TypeParam& source) {
    return DrivenFile::Adopt(source.driver(),
                             Descriptor::Adopt(file.Open(O_RDONLY)));
  };
  EXPECT_DEATH(
      {
        TypeParam source;
        DrivenFile used = adopt(source);
        (void)used.Close();
        (void)used.Read(std::string("x"));
      },
      "after its Close");
  EXPECT_DEATH(
      {
        TypeParam source;
        DrivenFile used = adopt(source);
        auto read = used.Read(std::string("x"));
        (void)used.Close().Wait();
        (void)std::move(read).Wait();
      },
      "after its Close");
  EXPECT_DEATH(
      {
        TypeParam source;
        std::optional used = adopt(source);
        auto close = used->Close();
        used.reset();
        (void)std::move(close).Wait();
      },
      "after its Close.. or end");
  EXPECT_DEATH(
      {
        TypeParam source;
        DrivenFile used = adopt(source);
        (void)used.Sync().Wait();
        const DrivenFile target = std::move(used);
        (void)used.Sync();
      },
      "after its Close");
  EXPECT_DEATH(
      {
        TypeParam source;
        const TemporaryFile longer("xy");
        auto used = DrivenFile::Open(source.driver(), longer.path()).Wait();
        BufferedReader reader(*used, 1);
        auto first = reader.Fill();
        auto second = reader.Fill();
        (void)std::move(first).Wait();
        (void)std::move(second).Wait();
      },
      "a BufferedReader is filled twice at once");
  EXPECT_DEATH(
      {
        TypeParam source;
        DrivenFile used = adopt(source);
        BufferedReader reader(used);
        auto filling = reader.Fill();
        (void)std::move(filling).Wait();
        (void)std::move(filling).Wait();
      },
      "a submission that was awaited or moved from");
  EXPECT_DEATH(
      {
        TypeParam source;
        DrivenFile used = adopt(source);
        BufferedReader(used).Consume(1);
      },
      "more consumed than there is");
}

// What waits for a permit and the file that it is for have each other; both go
// when there will be no permit.
TEST(LocalDriverTest, FilesOutliveTheRing) {
  const TemporaryFile temporary("0123456789");
  const int before = OpenDescriptors();
  {
    const Ends pipe;
    auto source = std::make_unique<Local>(/*permits=*/1);
    auto idle = DrivenFile::Open(source->driver(), temporary.path()).Wait();
    auto used = DrivenFile::Open(source->driver(), temporary.path()).Wait();
    auto first = DriverTest<Local>::ReadOf(*source, pipe.read, "first");
    first.Start();
    auto second = used->Read(std::string(4, ' '));
    second.Start();
    source.reset();
    EXPECT_TRUE(first.done());
    EXPECT_FALSE(second.done());
    EXPECT_DEATH((void)std::move(second).Wait(), "driver whose ring has ended");
    EXPECT_DEATH((void)idle->Sync().Wait(), "driver whose ring has ended");
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

// R16
TYPED_TEST(DriverTest, BufferedReaderHandsOutWhatIsThere) {
  const TemporaryFile temporary("0123456789");
  TypeParam source;
  auto file = DrivenFile::Open(source.driver(), temporary.path()).Wait();
  BufferedReader reader(*file, 4);
  std::string all;
  EXPECT_TRUE(reader.bytes().empty());
  while (reader.Fill().Wait().value_or(0) > 0) {
    all += static_cast<char>(reader.bytes()[0]);
    reader.Consume(1);
    // What is there is not read again.
    EXPECT_EQ(reader.Fill().Wait(),
              reader.bytes().empty() ? 0u : reader.bytes().size());
    if (!reader.bytes().empty()) {
      all += static_cast<char>(reader.bytes()[0]);
      reader.Consume(1);
    }
  }
  EXPECT_EQ(all, "0123456789");
  // In a coroutine; and one that was dropped in flight does no harm.
  EXPECT_EQ(file->Seek(SeekFrom::kStart, 0).Wait(), 0u);
  std::atomic<bool> done = false;
  [](auto& its, auto& flag) -> Task {
    EXPECT_EQ(co_await its.Fill(), 4u);
    EXPECT_EQ(co_await its.Fill(), 4u);
    flag = true;
  }(reader, done);
  source.Until([&] { return done.load(); });
  reader.Consume(4);
  (void)reader.Fill();
  EXPECT_EQ(reader.Fill().Wait(), 4u);
}

}  // namespace
}  // namespace escrow::safe
