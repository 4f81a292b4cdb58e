// What the ledger reports, and what not. What needs AddressSanitizer is seen in
// a build with it; the rest in every build.

#include "escrow/sim/ledger.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "escrow/sim/report.h"
#include "tests/sim/sanitized.h"

namespace escrow::sim {
namespace {

namespace testing = escrow::testing;
using testing::kAddressSanitizer;

// In AddressSanitizer's form, and with its exit code.
#define EXPECT_MISTAKE(statement, kind) \
  EXPECT_EXIT(statement, ::testing::ExitedWithCode(1), kind)
// Where that takes AddressSanitizer.
#define EXPECT_SEEN(statement, kind) \
  if (kAddressSanitizer) {           \
    EXPECT_MISTAKE(statement, kind); \
  }                                  \
  static_assert(true)

Owner Named(const char* name) {
  return {.name = name, .user_data = 0x77, .submitted = Stack::Here()};
}

void* Allocate(std::size_t size) {
  static void* (*volatile malloc)(std::size_t) = &std::malloc;
  return malloc(size);
}
// Kept from the optimizer, which knows what malloc() and free() do.
void Free(void* memory) {
  static void (*volatile free)(void*) = &std::free;
  free(memory);
}
char* At(void* memory) { return static_cast<char*>(memory); }
void Touch(volatile char* memory) { memory[0] = static_cast<char>(1); }

class LedgerTest : public ::testing::Test {
 protected:
  ~LedgerTest() override {
    if (data_ != nullptr) Free(data_);
  }

  Owner owner_ = Named("RECV");
  Owner other_ = Named("SEND");
  char* data_ = At(Allocate(64));
};

TEST_F(LedgerTest, KnowsWhoHasAnything) {
  EXPECT_FALSE(Uses(owner_));
  Hold(owner_, Use::kWrite, data_, 32, "buffer");
  Hold(owner_, Use::kRead, data_ + 32, 32, "name");
  EXPECT_TRUE(Uses(owner_));
  EXPECT_FALSE(Uses(other_));
  Release(owner_, data_ + 32);
  EXPECT_TRUE(Uses(owner_));
  Release(other_, data_);
  EXPECT_TRUE(Uses(owner_));
  Release(owner_, data_);
  EXPECT_FALSE(Uses(owner_));
  Hold(owner_, Use::kWrite, data_, 16, "buffer");
  Hold(owner_, Use::kWrite, data_ + 16, 16, "buffer");
  ReleaseAll(owner_);
  EXPECT_FALSE(Uses(owner_));
  Touch(data_);
}

TEST_F(LedgerTest, ManyPiecesOfManyOwners) {
  constexpr std::size_t kOwners = 64;
  constexpr std::size_t kPieces = 64;
  std::vector<char> memory(kOwners * kPieces * 8);
  std::vector<Owner> owners(kOwners, Named("READV"));
  for (std::size_t i = kOwners; i-- > 0;) {
    for (std::size_t j = 0; j < kPieces; ++j) {
      Hold(owners[i], Use::kWrite, &memory[(j * kOwners + i) * 8], 8, "buffer");
    }
  }
  for (std::size_t j = 0; j < kPieces; ++j) {
    Release(owners[3], &memory[(j * kOwners + 3) * 8]);
  }
  for (std::size_t i = 0; i < kOwners; ++i) {
    EXPECT_EQ(Uses(owners[i]), i != 3);
    ReleaseAll(owners[i]);
    EXPECT_FALSE(Uses(owners[i]));
  }
  for (char& byte : memory) Touch(&byte);
}

TEST_F(LedgerTest, FreeOfWhatIsStoredInto) {
  EXPECT_SEEN(
      {
        Hold(owner_, Use::kWrite, data_, 64, "buffer");
        Free(std::exchange(data_, nullptr));
      },
      "ERROR: AddressSanitizer: io-uring-free-in-flight on address 0x"
      "(.|\n)*memory is freed while the kernel is using it"
      "(.|\n)* in .*Free"
      "(.|\n)*RECV .user_data 0x77., which uses 64 bytes at 0x.*, was submitted"
      "(.|\n)* in .*Named"
      "(.|\n)*SUMMARY: AddressSanitizer: io-uring-free-in-flight");
}

TEST_F(LedgerTest, FreeOfWhatIsLoaded) {
  EXPECT_SEEN(
      {
        Hold(owner_, Use::kRead, data_ + 60, 4, "buffer");
        Free(std::exchange(data_, nullptr));
      },
      "io-uring-free-in-flight");
}

TEST_F(LedgerTest, FreeOfWhatIsRegisteredOrProvidedOrAnAddress) {
  for (const Use use : {Use::kRegistered, Use::kProvided, Use::kAddress}) {
    EXPECT_SEEN(
        {
          Hold(owner_, use, data_, 64, "buffer");
          Free(std::exchange(data_, nullptr));
        },
        "io-uring-free-in-flight");
  }
}

TEST_F(LedgerTest, FreeOfWhatMoves) {
  EXPECT_SEEN(
      {
        Hold(owner_, Use::kWrite, data_, 64, "buffer");
        data_ = At(std::realloc(data_, 1 << 20));
      },
      "io-uring-free-in-flight");
}

TEST_F(LedgerTest, FreeOfOtherMemoryAndAfterwards) {
  Hold(owner_, Use::kWrite, data_, 64, "buffer");
  Free(Allocate(64));
  ReleaseAll(owner_);
  Free(std::exchange(data_, nullptr));
}

TEST_F(LedgerTest, TheSimulatorItselfMayFree) {
  EXPECT_EXIT(
      {
        Hold(owner_, Use::kRead, data_, 64, "buffer");
        const Inside inside;
        { const Inside nested; }
        Free(std::exchange(data_, nullptr));
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST_F(LedgerTest, TouchOfWhatIsStoredInto) {
  for (const Use use : {Use::kWrite, Use::kReadWrite, Use::kProvided}) {
    EXPECT_SEEN(
        {
          Hold(owner_, use, data_, 64, "buffer");
          Touch(data_ + 8);
        },
        "AddressSanitizer: use-after-poison"
        "(.|\n)*RECV .user_data 0x77., which uses 64 bytes");
  }
}

TEST_F(LedgerTest, TouchOfWhatMayBeTouched) {
  for (const Use use : {Use::kRead, Use::kRegistered, Use::kAddress}) {
    Hold(owner_, use, data_, 64, "buffer");
    EXPECT_EQ(const_cast<volatile char*>(data_)[8], data_[8]);
    if (use != Use::kRead) Touch(data_);
    ReleaseAll(owner_);
  }
}

TEST_F(LedgerTest, TheEdgesOfGranulesAreShared) {
  Hold(owner_, Use::kWrite, data_ + 4, 24, "buffer");
  Touch(data_);
  Touch(data_ + 31);
  ReleaseAll(owner_);
  Hold(owner_, Use::kWrite, data_ + 1, 6, "buffer");
  ReleaseAll(owner_);
}

TEST_F(LedgerTest, ChangeOfWhatIsLoaded) {
  EXPECT_MISTAKE(
      {
        Hold(owner_, Use::kRead, data_, 64, "buffer");
        data_[63] ^= 1;
        ReleaseAll(owner_);
      },
      "AddressSanitizer: io-uring-change-in-flight");
  EXPECT_MISTAKE(
      {
        Hold(owner_, Use::kRead, data_ + 3, 2, "buffer");
        data_[4] ^= 1;
        Release(owner_, data_ + 3);
      },
      "AddressSanitizer: io-uring-change-in-flight");
}

TEST_F(LedgerTest, ChangeBesideWhatIsLoaded) {
  Hold(owner_, Use::kRead, data_ + 3, 2, "buffer");
  data_[2] ^= 1;
  data_[5] ^= 1;
  ReleaseAll(owner_);
}

TEST_F(LedgerTest, MemoryOfTwo) {
  EXPECT_MISTAKE(
      {
        Hold(owner_, Use::kWrite, data_, 33, "buffer");
        Hold(other_, Use::kRead, data_ + 32, 8, "buffer");
      },
      "AddressSanitizer: io-uring-shared-in-flight"
      "(.|\n)*SEND .user_data(.|\n)*RECV .user_data");
  EXPECT_MISTAKE(
      {
        Hold(owner_, Use::kRead, data_, 33, "buffer");
        Hold(other_, Use::kReadWrite, data_ + 32, 8, "buffer");
      },
      "io-uring-shared-in-flight");
  EXPECT_MISTAKE(
      {
        Hold(owner_, Use::kProvided, data_, 33, "buffer");
        Hold(owner_, Use::kProvided, data_ + 32, 8, "buffer");
      },
      "io-uring-shared-in-flight");
}

TEST_F(LedgerTest, MemoryOfTwoThatMayBe) {
  Hold(owner_, Use::kRead, data_, 64, "buffer");
  Hold(other_, Use::kRead, data_, 64, "buffer");
  ReleaseAll(owner_);
  ReleaseAll(other_);
  for (const Use use : {Use::kRegistered, Use::kAddress}) {
    Hold(owner_, use, data_, 64, "buffer");
    Hold(other_, Use::kWrite, data_, 64, "buffer");
    ReleaseAll(owner_);
    ReleaseAll(other_);
  }
  Hold(owner_, Use::kWrite, data_, 32, "buffer");
  Hold(other_, Use::kWrite, data_ + 32, 32, "buffer");
  Hold(owner_, Use::kRead, data_, 32, "buffer");  // one's own
  ReleaseAll(owner_);
  ReleaseAll(other_);
}

// Instead of free(): from a pool of the program's own, or a frame.
TEST_F(LedgerTest, MemoryThatIsUsedAnew) {
  EXPECT_SEEN(
      {
        Hold(owner_, Use::kWrite, data_, 64, "buffer");
        testing::Unpoison(data_, 64);
        ReleaseAll(owner_);
      },
      "AddressSanitizer: io-uring-reuse-in-flight");
}

TEST_F(LedgerTest, MemoryOfAFrameThatWasLeft) {
  EXPECT_SEEN(
      {
        const auto frame = [this] {
          char bytes[64];
          Hold(owner_, Use::kWrite, bytes, sizeof(bytes), "buffer");
        };
        frame();
        ReleaseAll(owner_);
      },
      "AddressSanitizer: stack-use-(after|out-of)-"
      "(.|\n)*RECV .user_data 0x77.");
}

TEST_F(LedgerTest, MemoryThatIsInvalidFromTheStart) {
  EXPECT_SEEN(
      {
        void* const freed = data_;
        Free(std::exchange(data_, nullptr));
        Hold(owner_, Use::kWrite, freed, 64, "buffer");
      },
      "AddressSanitizer: heap-use-after-free(.|\n)*WRITE of size 64"
      "(.|\n)*RECV .user_data 0x77.");
  EXPECT_SEEN(Hold(owner_, Use::kRead, data_, 65, "buffer"),
              "AddressSanitizer: heap-buffer-overflow(.|\n)*READ of size 1");
}

TEST_F(LedgerTest, AddressesOfNothing) {
  void* const nothing =
      ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  void* const far = reinterpret_cast<void*>(0x1234'5678'9abc'def0);
  for (void* const address : {nothing, far, static_cast<void*>(nullptr)}) {
    for (const Use use : {Use::kRead, Use::kWrite, Use::kProvided}) {
      Hold(owner_, use, address, 100, "buffer");
      EXPECT_TRUE(Uses(owner_));
      ReleaseAll(owner_);
    }
  }
  Hold(owner_, Use::kWrite, reinterpret_cast<void*>(~0ULL), 100, "buffer");
  EXPECT_FALSE(Uses(owner_));
  Hold(owner_, Use::kWrite, data_, 0, "buffer");
  EXPECT_FALSE(Uses(owner_));
  ::munmap(nothing, 4096);
}

// Another watcher has poisoned it before, and unpoisons it afterwards.
TEST_F(LedgerTest, PoisonOfOthersIsLeftToThem) {
  if (!kAddressSanitizer) return;
  testing::Poison(data_, 64);
  Hold(owner_, Use::kWrite, data_, 64, "buffer");
  ReleaseAll(owner_);
  EXPECT_TRUE(testing::IsPoisoned(data_));
  Hold(owner_, Use::kWrite, data_, 64, "buffer");
  testing::Unpoison(data_, 64);
  ReleaseAll(owner_);
  EXPECT_FALSE(testing::IsPoisoned(data_));
}

TEST_F(LedgerTest, SlotsThatAreClosed) {
  Close(data_, 32);
  Open(data_ + 8, 8);
  Touch(data_ + 8);
  Touch(data_ + 32);
  EXPECT_SEEN(Touch(data_ + 16), "AddressSanitizer: use-after-poison");
  Open(data_, 64);
  Touch(data_);
}

TEST_F(LedgerTest, AChildProcessHasMemoryOfItsOwn) {
  Hold(owner_, Use::kWrite, data_, 64, "buffer");
  const ::pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Touch(data_);
    Free(data_);
    ReleaseAll(owner_);
    ::_exit(0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(Uses(owner_));
  EXPECT_SEEN(
      {
        // In a child of this one.
        Hold(owner_, Use::kWrite, data_, 64, "buffer");
        Touch(data_);
      },
      "use-after-poison");
  ReleaseAll(owner_);
}

}  // namespace
}  // namespace escrow::sim
