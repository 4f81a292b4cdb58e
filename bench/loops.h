#ifndef ESCROW_BENCH_LOOPS_H_
#define ESCROW_BENCH_LOOPS_H_

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

// What is measured: one loop for each implementation and operation. A round
// starts a batch of operations, submits and waits for all of them at once, and
// takes all their results. The kernel can do each of them at once, so a round
// is one system call.

namespace escrow::bench {

enum class Implementation : std::uint8_t { kLiburing, kRaw, kSafe };
enum class Operation : std::uint8_t {
  kNop,
  kRead,       // 4 KiB of a file in the page cache
  kReadFixed,  // the same into a registered buffer
  kSend,       // a small datagram, to a socket that discards it
  kRecv,       // a small datagram that stays where it is
  kLinked,     // a batch is of pairs of linked nops
};

struct Cell {
  Operation operation;
  unsigned batch;
  Implementation implementation;
};

// All that there are; those of one operation and batch follow each other,
// liburing first.
std::vector<Cell> Cells();

const char* NameOf(Implementation implementation);
const char* NameOf(Operation operation);
std::string NameOf(const Cell& cell);  // "read/32/raw"

// As safe::RingOptions has it by default.
inline constexpr unsigned kEntries = 256;

// What safe::Ring chooses on this machine; all implementations use the same.
std::expected<std::uint32_t, std::error_code> SetupFlags();

class Loop {
 public:
  Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  virtual ~Loop() = default;

  // 0 or a negated errno.
  virtual int Run(std::uint64_t rounds) = 0;
};

// With a ring of its own, and with what its operations work on. The file is in
// $TMPDIR and has no name.
std::expected<std::unique_ptr<Loop>, std::error_code> MakeLoop(
    const Cell& cell);

// How many operations a round of that cell's loop starts.
unsigned OperationsPerRound(const Cell& cell);

}  // namespace escrow::bench

#endif  // ESCROW_BENCH_LOOPS_H_
