#ifndef ESCROW_RAW_PROBE_H_
#define ESCROW_RAW_PROBE_H_

#include <liburing.h>

#include <bitset>
#include <cstdint>
#include <expected>
#include <system_error>

// What the running kernel's io_uring has.
//
//   auto probe = raw::Probe::Ask();
//   if (!probe) return probe.error();
//   if (probe->SupportsOp(IORING_OP_SEND_ZC) &&
//       (probe->setup_flags & IORING_SETUP_DEFER_TASKRUN) != 0) {
//     ...
//   }
//
// names.h has the names of all of it. What a bit or a number says is that the
// kernel knows it; for whom, on which files and in which combinations it works
// is another question, which only trying answers.

namespace escrow::raw {

class Ring;

struct Probe {
  // Where the masks, and the number of register operations, come from.
  enum class Source : std::uint8_t {
    // The kernel has listed them: IORING_REGISTER_QUERY, Linux 6.18.
    kQuery,
    // Each of those in names.h was tried, on rings of two entries.
    kTrial,
  };

  // One bit for each IORING_OP_*, also for those that liburing's header does
  // not know yet: whether the kernel can do it. One that was left out of the
  // kernel's configuration is not supported. See SupportsOp().
  std::bitset<256> ops;

  // The kernel knows IORING_OP_* and IORING_REGISTER_* below these numbers.
  std::uint32_t op_count = 0;
  std::uint32_t register_op_count = 0;

  // Masks of all that the kernel knows.
  std::uint64_t features = 0;     // IORING_FEAT_*
  std::uint64_t setup_flags = 0;  // IORING_SETUP_*
  std::uint64_t enter_flags = 0;  // IORING_ENTER_*
  std::uint64_t sqe_flags = 0;    // IOSQE_*

  Source source = Source::kTrial;

  // Whether operation `opcode`, an IORING_OP_* or any other number, works here.
  bool SupportsOp(unsigned opcode) const noexcept {
    return opcode < ops.size() && ops[opcode];
  }

  // Whether io_uring_register(2) knows `opcode`, an IORING_REGISTER_*.
  bool SupportsRegisterOp(unsigned opcode) const noexcept {
    return opcode < register_op_count;
  }

  // Creates a ring of one entry for it, and some twenty more before Linux 6.18,
  // which are gone when this returns. Any thread.
  //
  // Errors: those of Ring::Create(), and of io_uring_register(2): EINVAL before
  // Linux 5.6, which cannot be asked, and EPERM where that call is filtered.
  static std::expected<Probe, std::error_code> Ask();

  // Asks through `ring`, to which nothing is submitted, and creates no other
  // from Linux 6.18 on. Only in a thread that may use `ring`. Errors as above;
  // EACCES is also a restriction of `ring`.
  static std::expected<Probe, std::error_code> Of(Ring& ring);
};

// A version of liburing, as "2.15" is {2, 15}.
struct LiburingVersion {
  int major_number;
  int minor_number;
  bool operator==(const LiburingVersion&) const = default;
};

// The headers that this file was compiled with.
inline constexpr LiburingVersion kCompiledLiburing = {IO_URING_VERSION_MAJOR,
                                                      IO_URING_VERSION_MINOR};

// The library that the program is linked with.
LiburingVersion LinkedLiburing() noexcept;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_PROBE_H_
