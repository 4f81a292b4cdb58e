#include "escrow/raw/probe.h"

#include <liburing.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/error.h"
#include "escrow/raw/names.h"
#include "escrow/raw/query.h"
#include "escrow/raw/ring.h"

namespace escrow::raw {
namespace {

constexpr unsigned kMostOps = 256;  // that an IORING_REGISTER_PROBE takes

// A ring whose memory is not mapped, for one or two calls.
class BareRing {
 public:
  explicit BareRing(io_uring_params params)
      : fd_(io_uring_setup(/*entries=*/2, &params)) {}
  BareRing(const BareRing&) = delete;
  BareRing& operator=(const BareRing&) = delete;
  ~BareRing() {
    if (fd_ >= 0) close(fd_);
  }

  // Or a negated errno.
  int fd() const { return fd_; }

 private:
  int fd_;
};

// What io_uring_setup(2) insists on for `flag` to have a chance. Where that is
// impossible without effort it is made to fail with another error than EINVAL.
io_uring_params SetupWith(std::uint64_t flag) {
  io_uring_params params = {};
  params.flags = static_cast<std::uint32_t>(flag);
  switch (flag) {
    case IORING_SETUP_SQ_AFF:
      params.flags |= IORING_SETUP_SQPOLL;
      break;
    case IORING_SETUP_CQSIZE:
      params.cq_entries = 4;
      break;
    case IORING_SETUP_ATTACH_WQ:
      params.wq_fd = ~std::uint32_t{0};
      break;
    case IORING_SETUP_TASKRUN_FLAG:
      params.flags |= IORING_SETUP_COOP_TASKRUN;
      break;
    case IORING_SETUP_DEFER_TASKRUN:
      params.flags |= IORING_SETUP_SINGLE_ISSUER;
      break;
    case IORING_SETUP_REGISTERED_FD_ONLY:
      params.flags |= IORING_SETUP_NO_MMAP;  // with memory at address 0
      break;
    case IORING_SETUP_HYBRID_IOPOLL:
      params.flags |= IORING_SETUP_IOPOLL;
      break;
    case IORING_SETUP_SQ_REWIND:
      params.flags |= IORING_SETUP_NO_SQARRAY;
      break;
    default:
      break;
  }
  return params;
}

std::uint64_t TrySetupFlags() {
  std::uint64_t known = 0;
  for (const NamedFlag& flag : kSetupFlags) {
    // A flag that is unknown is refused before anything else is looked at.
    if (BareRing(SetupWith(flag.bit)).fd() != -EINVAL) known |= flag.bit;
  }
  return known;
}

// `ring` need not be one: a flag that is unknown is refused before.
std::uint64_t TryEnterFlags(int ring) {
  std::uint64_t known = 0;
  for (const NamedFlag& flag : kEnterFlags) {
    // With nothing to submit or to wait for, all of them do nothing. Index 0 is
    // within the table of registered rings, whatever is there.
    const int fd = flag.bit == IORING_ENTER_REGISTERED_RING ? 0 : ring;
    const int result =
        io_uring_enter(static_cast<unsigned>(fd), /*to_submit=*/0,
                       /*min_complete=*/0, static_cast<unsigned>(flag.bit),
                       /*sig=*/nullptr);
    if (result != -EINVAL) known |= flag.bit;
  }
  return known;
}

// `ring` is disabled. A restriction to an operation is refused if there is no
// such operation, and only one is taken: that is the last one there is.
std::uint32_t TryRegisterOps(int ring) {
  for (unsigned opcode = IORING_REGISTER_LAST; opcode-- > 0;) {
    io_uring_restriction restriction = {};
    restriction.opcode = IORING_RESTRICTION_REGISTER_OP;
    restriction.register_op = static_cast<std::uint8_t>(opcode);
    if (io_uring_register(static_cast<unsigned>(ring),
                          IORING_REGISTER_RESTRICTIONS, &restriction, 1) == 0) {
      return opcode + 1;
    }
  }
  // Restrictions came with 5.10, and no operations between that and 5.6, of
  // which the kernel is at least: it has IORING_REGISTER_PROBE.
  return IORING_UNREGISTER_PERSONALITY + 1;
}

// From what came with the same release.
std::uint64_t DeduceSqeFlags(const Probe& probe) {
  std::uint64_t known = IOSQE_FIXED_FILE | IOSQE_IO_DRAIN | IOSQE_IO_LINK |
                        IOSQE_IO_HARDLINK | IOSQE_ASYNC;
  if (probe.SupportsOp(IORING_OP_PROVIDE_BUFFERS)) known |= IOSQE_BUFFER_SELECT;
  if ((probe.features & IORING_FEAT_CQE_SKIP) != 0) {
    known |= IOSQE_CQE_SKIP_SUCCESS;
  }
  return known;
}

}  // namespace

std::expected<Probe, std::error_code> Probe::Ask() {
  auto ring = Ring::Create({.entries = 1});
  if (!ring) return std::unexpected(ring.error());
  return Of(*ring);
}

std::expected<Probe, std::error_code> Probe::Of(Ring& ring) {
  // The kernel wants all of it to be zero.
  struct alignas(io_uring_probe) {
    std::byte
        bytes[sizeof(io_uring_probe) + kMostOps * sizeof(io_uring_probe_op)];
  } memory = {};
  auto* const answer = reinterpret_cast<io_uring_probe*>(memory.bytes);
  if (const int result = io_uring_register_probe(ring.get(), answer, kMostOps);
      result < 0) {
    return std::unexpected(std::error_code(-result, RegisterCategory()));
  }
  Probe probe;
  for (unsigned opcode = 0; opcode < answer->ops_len; ++opcode) {
    probe.ops[opcode] =
        (answer->ops[opcode].flags & IO_URING_OP_SUPPORTED) != 0;
  }
  probe.op_count = answer->last_op + std::uint32_t{1};

  if (const auto query = QueryOpcodes()) {
    probe.source = Source::kQuery;
    probe.register_op_count = query->nr_register_opcodes;
    probe.features = query->feature_flags;
    probe.setup_flags = query->ring_setup_flags;
    probe.enter_flags = query->enter_flags;
    probe.sqe_flags = query->sqe_flags;
    return probe;
  }

  io_uring_params params = {};
  params.flags = IORING_SETUP_R_DISABLED;
  const BareRing disabled(params);
  // Before 5.10 there is no such flag.
  if (disabled.fd() < 0 && disabled.fd() != -EINVAL) {
    return std::unexpected(std::error_code(-disabled.fd(), SetupCategory()));
  }
  probe.source = Source::kTrial;
  probe.register_op_count = TryRegisterOps(disabled.fd());
  probe.features = ring.features();
  probe.setup_flags = TrySetupFlags();
  probe.enter_flags = TryEnterFlags(disabled.fd());
  probe.sqe_flags = DeduceSqeFlags(probe);
  return probe;
}

LiburingVersion LinkedLiburing() noexcept {
  return {io_uring_major_version(), io_uring_minor_version()};
}

}  // namespace escrow::raw
