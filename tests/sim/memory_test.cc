// What the simulated kernel loads and stores: errors, and what sanitizers see.

#include "escrow/sim/memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/sim/sanitized.h"

namespace escrow::sim {
namespace {

namespace testing = escrow::testing;
using testing::kAddressSanitizer;

#define EXPECT_SEEN(statement, kind)                            \
  if (kAddressSanitizer) {                                      \
    EXPECT_EXIT(statement, ::testing::ExitedWithCode(1), kind); \
  }                                                             \
  static_assert(true)

void Free(void* memory) {
  static void (*volatile free)(void*) = &std::free;
  free(memory);
}

struct Pages {
  explicit Pages(int protection)
      : data(static_cast<char*>(::mmap(nullptr, 2 * kPage, protection,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {}
  ~Pages() { ::munmap(data, 2 * kPage); }
  static constexpr std::size_t kPage = 4096;
  char* data;
};

TEST(MemoryTest, CopiesBothWays) {
  char from[300];
  for (std::size_t i = 0; i < sizeof(from); ++i) from[i] = static_cast<char>(i);
  char to[300] = {};
  EXPECT_TRUE(Load(to, from, sizeof(to)));
  EXPECT_EQ(std::memcmp(to, from, sizeof(to)), 0);
  std::memset(to, 0, sizeof(to));
  EXPECT_TRUE(Store(to, from, 299));
  EXPECT_EQ(std::memcmp(to, from, 299), 0);
  EXPECT_EQ(to[299], '\0');
  EXPECT_TRUE(Load(to, nullptr, 0));
  EXPECT_TRUE(Store(nullptr, from, 0));
}

TEST(MemoryTest, FindsOutWhatCannotBeAccessed) {
  const Pages none(PROT_NONE);
  const Pages read_only(PROT_READ);
  const Pages half(PROT_READ | PROT_WRITE);
  ASSERT_EQ(::mprotect(half.data + Pages::kPage, Pages::kPage, PROT_NONE), 0);
  char bytes[16] = {};
  EXPECT_FALSE(Load(bytes, nullptr, 1));
  EXPECT_FALSE(Store(nullptr, bytes, 1));
  EXPECT_FALSE(Load(bytes, reinterpret_cast<void*>(0x1234'5678'9abc'def0), 8));
  EXPECT_FALSE(Store(reinterpret_cast<void*>(~0ULL), bytes, 8));
  EXPECT_FALSE(Load(bytes, none.data, 8));
  EXPECT_FALSE(Store(none.data, bytes, 8));
  EXPECT_TRUE(Load(bytes, read_only.data, 8));
  EXPECT_FALSE(Store(read_only.data, bytes, 8));
  char* const edge = half.data + Pages::kPage - 8;
  EXPECT_TRUE(Store(edge, bytes, 8));
  EXPECT_FALSE(Store(edge, bytes, 9));
  EXPECT_FALSE(Load(bytes, edge, 9));
  EXPECT_TRUE(IsValid(none.data, 8));
  EXPECT_TRUE(IsValid(nullptr, 8));
}

TEST(MemoryTest, IsReportedAsTheProgramsOwnAccessesAre) {
  char bytes[64] = {};
  EXPECT_SEEN(
      {
        char* const memory = new char[32];
        delete[] memory;
        Store(memory + 8, bytes, 8);
      },
      "heap-use-after-free on address(.|\n)*WRITE of size 8");
  EXPECT_SEEN(
      {
        void* const memory = std::malloc(32);
        Free(memory);
        Load(bytes, memory, 16);
      },
      "heap-use-after-free on address(.|\n)*READ of size 16");
  const std::vector<char> memory(30);
  EXPECT_SEEN(Load(bytes, memory.data(), 31),
              "heap-buffer-overflow on address(.|\n)*READ of size 1");
  EXPECT_SEEN(BeforeStore(const_cast<char*>(memory.data()) + 16, 16),
              "heap-buffer-overflow on address(.|\n)*WRITE of size 2");
  EXPECT_SEEN(BeforeLoad(memory.data(), 40), "heap-buffer-overflow");
  EXPECT_EQ(IsValid(memory.data(), 31), !kAddressSanitizer);
  EXPECT_TRUE(IsValid(memory.data(), 30));
}

TEST(MemoryTest, AcceptsWhatIsPoisonedByHand) {
  char* const memory = static_cast<char*>(std::malloc(64));
  std::memset(memory, 0, 64);
  testing::Poison(memory + 8, 16);
  char bytes[64] = {};
  EXPECT_TRUE(Load(bytes, memory, 64));
  EXPECT_TRUE(Store(memory, bytes, 64));
  EXPECT_TRUE(IsValid(memory, 64));
  EXPECT_SEEN((void)Load(bytes, memory, 65), "heap-buffer-overflow");
  testing::Unpoison(memory, 64);
  Free(memory);
}

}  // namespace
}  // namespace escrow::sim
