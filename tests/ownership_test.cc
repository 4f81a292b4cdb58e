#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/mapping.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/record_pool.h"
#include "tests/support.h"

namespace {
struct MayThrow {};
}  // namespace

template <>
struct escrow::ownership::OwnedMemory<MayThrow> {
  static std::byte* Data(MayThrow&) { return nullptr; }
  static std::size_t Size(const MayThrow&) noexcept { return 0; }
};

namespace escrow::ownership {
namespace {

using testing::Pipe;

// Buffers.

TEST(Buffer, HasTheSizeAndAlignmentAskedFor) {
  for (const std::size_t alignment : {1, 8, 64, 512, 4096, 1 << 21}) {
    auto buffer = Buffer::Allocate(1000, alignment);
    ASSERT_TRUE(buffer) << alignment;
    EXPECT_EQ(buffer->size(), 1000u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % alignment, 0u);
    (*buffer)[999] = std::byte{1};
  }
}

TEST(Buffer, RefusesWhatCannotBe) {
  for (const std::size_t alignment : {0, 3, 4095}) {
    const auto buffer = Buffer::Allocate(1000, alignment);
    EXPECT_EQ(buffer.error(), std::errc::invalid_argument);
    EXPECT_EQ(buffer.error().message(), "posix_memalign: Invalid argument");
  }
  EXPECT_EQ(Buffer::Allocate(std::size_t{1} << 60).error(),
            std::errc::not_enough_memory);
}

TEST(Buffer, MovesWithoutMovingItsBytes) {
  Buffer first = std::move(Buffer::Allocate(10).value());
  const std::byte* const data = first.data();
  Buffer second = std::move(first);
  EXPECT_EQ(second.data(), data);
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move)
  Buffer third;
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
  EXPECT_EQ(Buffer::Allocate(0).value().size(), 0u);
}

TEST(Buffer, ShrinksAndGrowsBack) {
  Buffer buffer = std::move(Buffer::Allocate(10).value());
  buffer[9] = std::byte{7};
  buffer.resize(4);
  EXPECT_EQ(OwnedMemory<Buffer>::Size(buffer), 4u);
  buffer.resize(10);
  EXPECT_EQ(buffer[9], std::byte{7});
  EXPECT_DEATH(buffer.resize(11), "does not grow");
}

TEST(Slice, StaysInside) {
  Slice slice(std::string("0123456789"), 2, 5);
  EXPECT_EQ(OwnedMemory<Slice<std::string>>::Size(slice), 5u);
  EXPECT_EQ(*OwnedMemory<Slice<std::string>>::Data(slice), std::byte{'2'});
  Slice<std::string> empty(std::string("x"), 1, 0);
  EXPECT_EQ(empty.size(), 0u);
  EXPECT_DEATH(Slice(std::string("x"), 1, 1), "beyond the end");
  EXPECT_DEATH(Slice(std::string("x"), 2, 0), "beyond the end");
  EXPECT_DEATH(Slice(std::string("x"), 1, ~std::size_t{0}), "beyond the end");
}

TEST(Array, KnowsItsSize) {
  Array<int> array(std::make_unique<int[]>(3), 3);
  array[2] = 5;
  EXPECT_EQ(OwnedMemory<Array<int>>::Size(array), 12u);
  Array<int> moved = std::move(array);
  EXPECT_EQ(array.size(), 0u);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(moved[2], 5);
  EXPECT_DEATH(Array<int>(nullptr, 3), "null pointer");
}

// Mappings.

constexpr std::size_t kPage = 4096;

bool IsMapped(void* page) {
  unsigned char resident;
  return ::mincore(page, 1, &resident) == 0;
}

TEST(Mapping, UnmapsOnceAtItsEnd) {
  void* place = nullptr;
  {
    auto pages = Mapping::Anonymous(3 * kPage);
    ASSERT_TRUE(pages) << pages.error().message();
    place = pages->data();
    EXPECT_EQ(pages->size(), 3 * kPage);
    EXPECT_EQ((*pages).data()[3 * kPage - 1], std::byte{0});
    pages->data()[0] = std::byte{7};
    Mapping moved = std::move(*pages);
    EXPECT_TRUE(pages->empty());
    EXPECT_EQ(moved.data(), place);
    EXPECT_EQ(moved.data()[0], std::byte{7});
    EXPECT_EQ(OwnedMemory<Mapping>::Data(moved), place);
    EXPECT_EQ(OwnedMemory<Mapping>::Size(moved), 3 * kPage);
    *pages = std::move(moved);
    EXPECT_EQ(pages->data(), place);
    EXPECT_TRUE(IsMapped(place));
    *pages = Mapping();
    EXPECT_FALSE(IsMapped(place));
    auto again = Mapping::Anonymous(3 * kPage);
    ASSERT_TRUE(again);
    place = again->data();
  }
  EXPECT_FALSE(IsMapped(place));
}

TEST(Mapping, SharesAFileThatMayBeClosed) {
  const testing::TemporaryFile file(std::string(2 * kPage, 'f'));
  std::expected<Mapping, std::error_code> shared, own;
  {
    const Descriptor opened = Descriptor::Adopt(file.Open(O_RDWR));
    shared =
        Mapping::OfFile(opened, kPage, {.offset = kPage, .flags = MAP_SHARED});
    own = Mapping::OfFile(opened, 2 * kPage, {});
  }
  ASSERT_TRUE(shared && own);
  shared->data()[1] = std::byte{'s'};
  own->data()[2] = std::byte{'o'};
  EXPECT_EQ(own->data()[0], std::byte{'f'});
  std::string expected(2 * kPage, 'f');
  expected[kPage + 1] = 's';
  EXPECT_EQ(file.Content(), expected);
}

TEST(Mapping, RefusesWhatCannotBe) {
  const auto none = Mapping::Anonymous(0);
  EXPECT_EQ(none.error(), std::errc::invalid_argument);
  EXPECT_EQ(none.error().message(), "mmap: Invalid argument");
  const testing::TemporaryFile file("f");
  const Descriptor reading = Descriptor::Adopt(file.Open(O_RDONLY));
  EXPECT_EQ(Mapping::OfFile(reading, kPage, {.flags = MAP_SHARED}).error(),
            std::errc::permission_denied);
  EXPECT_EQ(Mapping::OfFile(reading, kPage, {.offset = 1}).error(),
            std::errc::invalid_argument);
  EXPECT_DEATH((void)Mapping::Anonymous(kPage, MAP_PRIVATE | MAP_FIXED),
               "in the place of what somebody else owns");
}

// What counts as owned. These do not compile as buffers:

static_assert(!Readable<MayThrow>, "an operation would be lost half-way");
static_assert(!Readable<std::span<std::byte>>);
static_assert(!Readable<std::span<const char>>);
static_assert(!Readable<std::string_view>);
static_assert(!Readable<char*>);
static_assert(!Readable<const char*>);
static_assert(!Readable<void*>);
static_assert(!Readable<char[8]>);
static_assert(!Readable<std::unique_ptr<char[]>>, "it has no size: Array");
static_assert(!Readable<std::vector<bool>>);
static_assert(!Readable<std::vector<std::string>>, "bytes are not the content");
static_assert(!Readable<std::array<std::string, 1>>);
static_assert(!Readable<std::vector<std::string_view>>);
static_assert(!Readable<std::array<std::span<char>, 2>>);
static_assert(!Readable<std::vector<char*>>);
static_assert(!Readable<std::vector<StaticBytes>>);
static_assert(!Readable<std::string&>);
static_assert(!Readable<std::vector<char>&>);
static_assert(!Readable<Slice<std::string>&>);
static_assert(!Readable<int>);

static_assert(Writable<Buffer>);
static_assert(Writable<std::string>);
static_assert(Writable<std::vector<int>>);
static_assert(Writable<std::array<char, 4>>);
static_assert(Writable<std::vector<std::array<char, 4>>>);
static_assert(Writable<Array<std::uint64_t>>);
static_assert(Writable<Slice<Buffer>>);
static_assert(Writable<Slice<Slice<std::string>>>);

// Read-only memory cannot be written by the kernel.
static_assert(Readable<StaticBytes> && !Writable<StaticBytes>);
static_assert(Readable<Slice<StaticBytes>> && !Writable<Slice<StaticBytes>>);

// Only static memory can become StaticBytes. (A pointer that is not a constant
// expression is refused outright, which no test in the language can show.)
constexpr StaticBytes kGreeting("hello");
static_assert(kGreeting.size() == 5);

// Descriptors.

bool IsOpen(int number) { return fcntl(number, F_GETFD) != -1; }

TEST(Descriptor, ClosesAtItsEnd) {
  const Pipe pipe;
  {
    auto first = Descriptor::Adopt(pipe.read_end);
    EXPECT_TRUE(first);
    EXPECT_EQ(first.number(), pipe.read_end);
    Descriptor second = std::move(first);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move)
    second = Descriptor::Adopt(pipe.write_end);
    EXPECT_FALSE(IsOpen(pipe.read_end));
    EXPECT_TRUE(IsOpen(pipe.write_end));
  }
  EXPECT_FALSE(IsOpen(pipe.write_end));
}

TEST(Descriptor, LivesAsLongAsItsLastShare) {
  const Pipe pipe;
  auto descriptor = Descriptor::Adopt(pipe.read_end);
  EXPECT_TRUE(descriptor.alone());
  {
    DescriptorShare one = descriptor.Share();
    DescriptorShare two = one;
    DescriptorShare moved = std::move(two);
    EXPECT_FALSE(descriptor.alone());
    descriptor = Descriptor();
    one = DescriptorShare();
    EXPECT_TRUE(IsOpen(pipe.read_end));
    EXPECT_EQ(moved.number(), pipe.read_end);
  }
  EXPECT_FALSE(IsOpen(pipe.read_end));
  close(pipe.write_end);
}

TEST(Descriptor, TellsOnceWhenItIsAlone) {
  const Pipe pipe;
  auto descriptor = Descriptor::Adopt(pipe.read_end);
  int calls = 0;
  const auto count = [](void* context) { ++*static_cast<int*>(context); };
  {
    DescriptorShare one = descriptor.Share();
    DescriptorShare two = descriptor.Share();
    descriptor.WhenAlone(count, &calls);
    one = DescriptorShare();
    EXPECT_EQ(calls, 0);
  }
  EXPECT_EQ(calls, 1);
  { const DescriptorShare again = descriptor.Share(); }
  EXPECT_EQ(calls, 1);
  {
    const DescriptorShare share = descriptor.Share();
    descriptor.WhenAlone(count, &calls);
    descriptor.WhenAlone(nullptr, nullptr);
  }
  EXPECT_EQ(calls, 1);
  close(pipe.write_end);
}

TEST(Descriptor, ReleasedAndPermanentOnesStayOpen) {
  const Pipe pipe;
  EXPECT_EQ(Descriptor::Adopt(pipe.read_end).Release(), pipe.read_end);
  { const auto permanent = Descriptor::Permanent(pipe.write_end); }
  EXPECT_TRUE(IsOpen(pipe.read_end));
  EXPECT_TRUE(IsOpen(pipe.write_end));
  close(pipe.read_end);
  close(pipe.write_end);
}

TEST(Descriptor, DuplicatesHaveALifeOfTheirOwn) {
  const Pipe pipe;
  std::optional<Descriptor> original(Descriptor::Adopt(pipe.read_end));
  auto copy = original->Duplicate();
  ASSERT_TRUE(copy) << copy.error().message();
  EXPECT_NE(copy->number(), pipe.read_end);
  EXPECT_NE(fcntl(copy->number(), F_GETFD) & FD_CLOEXEC, 0);
  original.reset();
  EXPECT_TRUE(IsOpen(copy->number()));
  close(copy->number());
  EXPECT_EQ(copy->Duplicate().error().message(), "fcntl: Bad file descriptor");
  (void)std::move(*copy).Release();
  close(pipe.write_end);
}

TEST(Descriptor, MisuseIsNamed) {
  EXPECT_DEATH((void)Descriptor().number(), "empty Descriptor");
  EXPECT_DEATH((void)Descriptor().Share(), "empty Descriptor");
  EXPECT_DEATH((void)Descriptor::Adopt(-1), "below zero");
  EXPECT_DEATH(
      {
        auto descriptor = Descriptor::Adopt(dup(0));
        const DescriptorShare share = descriptor.Share();
        (void)std::move(descriptor).Release();
      },
      "still use");
}

// Records.

// Counts what becomes of it.
struct Content {
  int* taken;
  int* discarded;
  std::shared_ptr<int> held;

  std::string Take(const RawResult& result) && {
    ++*taken;
    return "took " + std::to_string(result.value);
  }
  void Discard(const RawResult&) noexcept { ++*discarded; }
};

struct BigContent : Content {
  std::array<char, 4 * Record::kInlineBytes> ballast = {};
};

template <typename T>
class RecordTest : public ::testing::Test {};
using Contents = ::testing::Types<Content, BigContent>;
TYPED_TEST_SUITE(RecordTest, Contents);

TYPED_TEST(RecordTest, ContentIsTakenOrDiscardedOnce) {
  RecordPool pool;
  int taken = 0;
  int discarded = 0;
  const auto held = std::make_shared<int>();
  Record& record = pool.Acquire();
  record.Emplace<TypeParam>(Content{&taken, &discarded, held});
  EXPECT_EQ(held.use_count(), 2);
  record.result.value = 42;
  EXPECT_EQ(record.Take<std::string>(), "took 42");
  EXPECT_EQ(held.use_count(), 1);

  record.Emplace<TypeParam>(Content{&taken, &discarded, held});
  record.content_type->discard(record);
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(taken, 1);
  EXPECT_EQ(discarded, 1);
  pool.Release(record);
}

TEST(Record, ContinuationIsKeptBesideTheContent) {
  RecordPool pool;
  int taken = 0;
  int discarded = 0;
  Record& record = pool.Acquire();
  const auto held = std::make_shared<int>(5);
  Content& content = record.Emplace<Content>(&taken, &discarded, held);

  auto* const inside = record.EmplaceBeside([held] { return *held; });
  EXPECT_GE(reinterpret_cast<std::byte*>(inside),
            reinterpret_cast<std::byte*>(&content + 1));
  EXPECT_LT(reinterpret_cast<std::byte*>(inside),
            record.inline_bytes + Record::kInlineBytes);
  EXPECT_EQ((*inside)(), 5);
  record.DestroyBeside(inside);
  EXPECT_EQ(held.use_count(), 2);

  struct AlmostFits {
    std::shared_ptr<int> held;
    std::array<char, Record::kInlineBytes - 32> ballast;
  };
  auto* const outside = record.EmplaceBeside(AlmostFits{held, {}});
  EXPECT_TRUE(reinterpret_cast<std::byte*>(outside) < record.inline_bytes ||
              reinterpret_cast<std::byte*>(outside) >=
                  record.inline_bytes + Record::kInlineBytes);
  record.DestroyBeside(outside);
  EXPECT_EQ(held.use_count(), 2);
  record.content_type->discard(record);
  pool.Release(record);
}

TEST(RecordPool, FindsTheUseThatIsMeantOnly) {
  RecordPool pool;
  Record& record = pool.Acquire();
  const std::uint64_t first = record.user_data();
  EXPECT_EQ(pool.Find(first), &record);
  pool.Release(record);
  EXPECT_EQ(pool.Find(first), nullptr);
  EXPECT_EQ(&pool.Acquire(), &record) << "the most recently used is hot";
  const std::uint64_t second = record.user_data();
  EXPECT_NE(second, first);
  EXPECT_EQ(pool.Find(second), &record);
  EXPECT_EQ(pool.Find(0), nullptr) << "not a record's";
  EXPECT_EQ(pool.Find(Record::kUserDataBit | Record::kNoIndex), nullptr);
  EXPECT_EQ(pool.Find(Record::kUserDataBit | 1'000'000), nullptr);
  EXPECT_NE(second & Record::kUserDataBit, 0u);
  pool.Release(record);
}

TEST(RecordPool, WhatIsRenewedIsNotFoundByWhatItWas) {
  RecordPool pool;
  Record& record = pool.Acquire();
  const std::uint64_t first = record.user_data();
  pool.Renew(record);
  EXPECT_EQ(pool.Find(first), nullptr);
  EXPECT_EQ(pool.Find(record.user_data()), &record);
  pool.Release(record);
}

TEST(RecordPool, GenerationWrapsWithoutTouchingTheOtherBits) {
  RecordPool pool;
  Record& record = pool.Acquire();
  const std::uint64_t first = record.user_data();
  record.use = ~std::uint32_t{0};  // its last one
  EXPECT_EQ(pool.Find(record.user_data()), &record);
  pool.Release(record);
  EXPECT_EQ(record.user_data(), first);
}

TEST(RecordPool, GrowsWithoutMovingRecords) {
  RecordPool pool;
  std::vector<Record*> records;
  std::set<std::uint64_t> identities;
  for (int i = 0; i < 1000; ++i) {
    records.push_back(&pool.Acquire());
    identities.insert(records.back()->user_data());
  }
  EXPECT_EQ(identities.size(), 1000u);
  for (Record* record : records) {
    EXPECT_EQ(pool.Find(record->user_data()), record);
  }
  const std::size_t size = pool.size();
  for (Record* record : records) pool.Release(*record);
  for (int i = 0; i < 1000; ++i)
    records[static_cast<std::size_t>(i)] = &pool.Acquire();
  EXPECT_EQ(pool.size(), size) << "a steady state allocates nothing";
  for (Record* record : records) pool.Release(*record);
}

}  // namespace
}  // namespace escrow::ownership
