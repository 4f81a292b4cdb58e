#ifndef ESCROW_BENCH_LOOPS_H_
#define ESCROW_BENCH_LOOPS_H_

#include <cstdint>
#include <expected>
#include <memory>
#include <system_error>

// What is measured: one loop for each implementation and operation. A round
// starts `batch` operations, submits and waits for all of them at once, and
// takes all their results.

namespace escrow::bench {

enum class Implementation : std::uint8_t { kLiburing, kRaw, kSafe };
enum class Operation : std::uint8_t { kNop, kRead };

inline constexpr Implementation kImplementations[] = {
    Implementation::kLiburing, Implementation::kRaw, Implementation::kSafe};
inline constexpr Operation kOperations[] = {Operation::kNop, Operation::kRead};
inline constexpr unsigned kBatches[] = {1, 32};

constexpr const char* NameOf(Implementation implementation) {
  switch (implementation) {
    case Implementation::kLiburing:
      return "liburing";
    case Implementation::kRaw:
      return "raw";
    case Implementation::kSafe:
      return "safe";
  }
  return "";
}
constexpr const char* NameOf(Operation operation) {
  switch (operation) {
    case Operation::kNop:
      return "nop";
    case Operation::kRead:
      return "read";
  }
  return "";
}

class Loop {
 public:
  Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  virtual ~Loop() = default;

  // 0 or a negated errno.
  virtual int Run(std::uint64_t rounds) = 0;
};

// As safe::RingOptions has it by default.
inline constexpr unsigned kEntries = 256;

// What safe::Ring chooses on this machine; all implementations use the same.
std::expected<std::uint32_t, std::error_code> SetupFlags();

// The reads are of a file in $TMPDIR that is in the page cache and has no name.
std::expected<std::unique_ptr<Loop>, std::error_code> MakeLoop(
    Implementation implementation, Operation operation, unsigned batch);

}  // namespace escrow::bench

#endif  // ESCROW_BENCH_LOOPS_H_
