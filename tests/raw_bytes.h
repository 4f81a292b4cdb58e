#ifndef ESCROW_TESTS_RAW_BYTES_H_
#define ESCROW_TESTS_RAW_BYTES_H_

#include <gtest/gtest.h>
#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <type_traits>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"

// Whether Ring::Push() writes an entry as liburing's own functions do: for each
// operation there is a test of its name, which says how a C programmer prepares
// it.
//
//   TEST_F(RawBytes, Listen) {
//     Compare<Listen>([](Random& random, io_uring_sqe* sqe) {
//       const auto fd = random.File();
//       const auto backlog = random.Any<int>();
//       io_uring_prep_listen(sqe, fd.number, backlog);
//       fd.MarkFixed(sqe);
//       return Listen{.fd = fd, .backlog = backlog};
//     });
//   }

namespace escrow::raw {

// A descriptor or a slot: converts to what operations take.
struct RandomFile {
  int number;
  bool fixed;

  // NOLINTNEXTLINE(google-explicit-constructor): stands for an Fd.
  operator Fd() const {
    if (!fixed) return number;
    return FixedFile{static_cast<std::uint32_t>(number)};
  }
  void MarkFixed(io_uring_sqe* sqe) const {
    if (fixed) io_uring_sqe_set_flags(sqe, sqe->flags | IOSQE_FIXED_FILE);
  }
};

// Where a new file goes.
struct RandomDestination {
  bool direct;          // not a new descriptor
  unsigned file_index;  // as liburing's *_direct functions take it

  // NOLINTNEXTLINE(google-explicit-constructor): stands for a FileDestination.
  operator FileDestination() const {
    if (!direct) return kNewDescriptor;
    if (file_index == IORING_FILE_INDEX_ALLOC) return kAnyFixedFile;
    return FixedFile{file_index};
  }
};

// Arguments, reproducible from a seed.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  // From these bytes as long as there are some, which have to stay there.
  explicit Random(std::span<const std::uint8_t> bytes)
      : engine_(0), bytes_(bytes) {}

  bool Flip() { return Next() % 2 == 0; }

  // A number, often zero or one with all bits set.
  template <typename T>
  T Any() {
    switch (Next() % 8) {
      case 0:
        return T{};
      case 1:
        return static_cast<T>(~std::uint64_t{0});
      default:
        return static_cast<T>(Next());
    }
  }

  // An address that nobody follows.
  template <typename T>
  T* Pointer() {
    return reinterpret_cast<T*>(static_cast<std::uintptr_t>(Next()));
  }

  RandomFile File() { return {Any<int>(), Flip()}; }

  // A new descriptor, a slot, or any slot.
  RandomDestination Destination() {
    switch (Next() % 3) {
      case 0:
        return {.direct = false, .file_index = 0};
      case 1:
        return {.direct = true,
                .file_index = static_cast<unsigned>(Next() % (1u << 20))};
      default:
        return {.direct = true, .file_index = IORING_FILE_INDEX_ALLOC};
    }
  }

  // Either leaves the field with the default that the operation gives it, which
  // `otherwise` says independently, or puts something else there. Returns what
  // it must be.
  template <typename Field, typename Value>
  Value Optional(Field& field, Value otherwise, Value something) {
    if (Flip()) return otherwise;
    field = something;
    return something;
  }
  template <typename Field>
  Field Optional(Field& field, std::type_identity_t<Field> otherwise = {}) {
    return Optional<Field, Field>(field, otherwise, Any<Field>());
  }

 private:
  std::uint64_t Next() {
    if (bytes_.empty()) return engine_();
    std::uint64_t next = 0;
    for (int i = 0; i < 8 && !bytes_.empty(); ++i) {
      next = next << 8 | bytes_.front();
      bytes_ = bytes_.subspan(1);
    }
    return next;
  }

  std::mt19937_64 engine_;
  std::span<const std::uint8_t> bytes_;
};

}  // namespace escrow::raw

#ifdef ESCROW_FUZZ
#include "fuzz/raw_bytes.h"
#else

namespace escrow::raw {

class RawBytes : public ::testing::Test {
 protected:
  // Has `prepare` fill an entry with liburing's functions, from random
  // arguments, and return the operation with the same ones: again and again,
  // over memory with other garbage each time.
  template <typename Op, typename Prepare>
  void Compare(Prepare prepare) {
    EXPECT_STREQ(
        ::testing::UnitTest::GetInstance()->current_test_info()->name(),
        Op::kInfo.name);
    compared_ = true;
    if (!Op::kInfo.sqe128) CompareOn<Op>(SmallRing(), prepare);
    CompareOn<Op>(BigRing(), prepare);
  }

  void TearDown() override { EXPECT_TRUE(compared_) << "nothing compared"; }

 private:
  static constexpr int kIterations = 300;

  // With entries of 64 and of 128 bytes. Nothing is ever submitted.
  static Ring& SmallRing();
  static Ring& BigRing();

  template <typename Op, typename Prepare>
  static void CompareOn(Ring& ring, Prepare prepare) {
    for (std::uint64_t seed = 1; seed <= kIterations; ++seed) {
      Random random(seed);
      Rewind(ring, seed);
      const auto user_data = random.Any<std::uint64_t>();
      const auto sqe_flags = static_cast<std::uint8_t>(
          random.Any<unsigned>() &
          (IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_ASYNC |
           IOSQE_CQE_SKIP_SUCCESS));

      const std::uint16_t personality =
          random.Flip() ? std::uint16_t{0} : random.Any<std::uint16_t>();

      io_uring_sqe* const theirs = io_uring_get_sqe(ring.get());
      const Op op = prepare(random, theirs);
      io_uring_sqe_set_flags(theirs, theirs->flags | sqe_flags);
      io_uring_sqe_set_data64(theirs, user_data);
      theirs->personality = personality;

      ring.Push(op, user_data, sqe_flags, personality);

      const std::string difference = Difference(ring);
      ASSERT_EQ(difference, "")
          << "seed " << seed << ", entries of " << EntrySize(ring) << " bytes";
      ASSERT_EQ(theirs->opcode, Op::kInfo.opcode);
    }
  }

  static std::size_t EntrySize(const Ring& ring);

  // Takes back both entries and fills their memory with the same garbage.
  static void Rewind(Ring& ring, std::uint64_t seed);

  // The fields in which the second entry is not as the first; empty if none.
  static std::string Difference(const Ring& ring);

  bool compared_ = false;
};

}  // namespace escrow::raw

#endif  // ESCROW_FUZZ

#endif  // ESCROW_TESTS_RAW_BYTES_H_
