#ifndef ESCROW_FUZZ_RAW_BYTES_H_
#define ESCROW_FUZZ_RAW_BYTES_H_

#include <liburing.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <vector>

#include "escrow/fuzz/check.h"
#include "escrow/raw/ring.h"

// The other half of tests/raw_bytes.h: compares entries that are made of a
// fuzzer's bytes, on plain memory, instead of random ones on a ring.

namespace escrow::raw {

class RawBytes {
 public:
  // One for each operation.
  using Comparison = void (*)(std::span<const std::uint8_t> bytes);
  static std::vector<Comparison>& Comparisons() {
    static auto& all = *new std::vector<Comparison>;
    return all;
  }
  static bool Add(Comparison comparison) {
    Comparisons().push_back(comparison);
    return true;
  }

  explicit RawBytes(std::span<const std::uint8_t> bytes) noexcept
      : bytes_(bytes) {}

  template <typename Op, typename Prepare>
  void Compare(Prepare prepare) {
    Random random(bytes_);
    const auto garbage = random.Any<std::uint8_t>();
    const auto user_data = random.Any<std::uint64_t>();
    const auto sqe_flags = static_cast<std::uint8_t>(
        random.Any<unsigned>() &
        (IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_ASYNC |
         IOSQE_CQE_SKIP_SUCCESS));
    const auto personality = random.Any<std::uint16_t>();
    Entry theirs(garbage);
    Entry ours(garbage);
    const Op op = prepare(random, theirs.sqe());
    io_uring_sqe_set_flags(theirs.sqe(), theirs.sqe()->flags | sqe_flags);
    io_uring_sqe_set_data64(theirs.sqe(), user_data);
    theirs.sqe()->personality = personality;
    Ring::Fill(ours.sqe(), op, user_data, sqe_flags, personality);
    for (unsigned i = 0; i < sizeof(ours); ++i) {
      if (theirs.bytes[i] == ours.bytes[i]) continue;
      std::fprintf(stderr, "%s: byte %u is %#x, liburing's %#x\n",
                   Op::kInfo.name, i, ours.bytes[i], theirs.bytes[i]);
    }
    ESCROW_REQUIRE(std::memcmp(theirs.bytes, ours.bytes, sizeof(ours)) == 0);
    ESCROW_REQUIRE(ours.sqe()->opcode == Op::kInfo.opcode);
  }

 private:
  // As io_uring_get_sqe() gives one of 128 bytes.
  struct Entry {
    explicit Entry(std::uint8_t garbage) noexcept {
      std::memset(bytes, garbage, sizeof(bytes));
      io_uring_initialize_sqe(sqe());
    }
    io_uring_sqe* sqe() noexcept {
      return reinterpret_cast<io_uring_sqe*>(bytes);
    }

    alignas(io_uring_sqe) unsigned char bytes[128];
  };

  std::span<const std::uint8_t> bytes_;
};

}  // namespace escrow::raw

#undef TEST_F
#define TEST_F(suite, name)                                                  \
  struct Fuzz##name : suite {                                                \
    using suite::suite;                                                      \
    void Run();                                                              \
  };                                                                         \
  const bool added_##name = suite::Add(                                      \
      [](std::span<const std::uint8_t> bytes) { Fuzz##name(bytes).Run(); }); \
  void Fuzz##name::Run()

#endif  // ESCROW_FUZZ_RAW_BYTES_H_
