// What Probe says is what the running kernel does.

#include "escrow/raw/probe.h"

#include <gtest/gtest.h>
#include <liburing.h>

#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "escrow/raw/error.h"
#include "escrow/raw/names.h"
#include "escrow/raw/ring.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

template <typename Create>
auto MustCreate(const Create& create) {
  auto created = testing::CreatePatiently(create);
  if (!created) {
    ADD_FAILURE() << created.error().message();
    std::abort();
  }
  return std::move(*created);
}

Ring MakeRing(const RingOptions& options = {.entries = 8}) {
  return MustCreate([&] { return Ring::Create(options); });
}

Probe ProbeOf(Ring& ring) {
  return MustCreate([&] { return Probe::Of(ring); });
}

Probe TheProbe() {
  Ring ring = MakeRing();
  return ProbeOf(ring);
}

void ExpectSame(const Probe& a, const Probe& b) {
  EXPECT_EQ(a.ops, b.ops);
  EXPECT_EQ(a.op_count, b.op_count);
  EXPECT_EQ(a.register_op_count, b.register_op_count);
  EXPECT_EQ(a.features, b.features);
  EXPECT_EQ(a.setup_flags, b.setup_flags);
  EXPECT_EQ(a.enter_flags, b.enter_flags);
  EXPECT_EQ(a.sqe_flags, b.sqe_flags);
}

// Submits an entry that is zero but for what is given, and with no file.
int ResultOf(Ring& ring, unsigned opcode, unsigned sqe_flags) {
  static std::uint64_t last_user_data = 0;
  io_uring_sqe* const sqe = ring.GetSqe();
  io_uring_prep_nop(sqe);
  sqe->opcode = static_cast<std::uint8_t>(opcode);
  sqe->fd = -1;
  sqe->flags = static_cast<std::uint8_t>(sqe_flags);
  sqe->user_data = ++last_user_data;
  for (;;) {
    (void)ring.SubmitAndWait(1);
    const auto completions = ring.completions();
    std::optional<int> result;
    for (const io_uring_cqe& cqe : completions) {
      if (cqe.user_data == last_user_data) result = cqe.res;
    }
    ring.Advance(completions.entries());
    if (result) return *result;
  }
}

TEST(Probe, AsksThroughARingOfItsOwnOrAnother) {
  const Probe asked = MustCreate(Probe::Ask);
  const Probe probe = TheProbe();
  ExpectSame(asked, probe);
  EXPECT_EQ(asked.source, probe.source);
  EXPECT_TRUE(probe.SupportsOp(IORING_OP_NOP));
  EXPECT_TRUE(probe.SupportsRegisterOp(IORING_REGISTER_PROBE));
}

TEST(Probe, FeaturesAreThoseOfARing) {
  EXPECT_EQ(TheProbe().features, MakeRing().features());
}

TEST(Probe, OpsAreThoseThatTheKernelTakes) {
  Ring ring = MakeRing();
  const Probe probe = ProbeOf(ring);
  for (unsigned opcode = 0; opcode < probe.ops.size(); ++opcode) {
    SCOPED_TRACE("opcode " + std::to_string(opcode));
    // Most do not take this flag, which is seen before their arguments are
    // found wanting; those that do are fine with theirs but for the file.
    const int selecting = ResultOf(ring, opcode, IOSQE_BUFFER_SELECT);
    const int plain = ResultOf(ring, opcode, 0);
    const bool known = selecting != -EINVAL || plain != -EINVAL;
    EXPECT_EQ(known, opcode < probe.op_count) << selecting << " and " << plain;
    EXPECT_LE(probe.SupportsOp(opcode), known);
  }
  EXPECT_FALSE(probe.SupportsOp(256));
  EXPECT_FALSE(probe.SupportsOp(256 + IORING_OP_NOP));
  EXPECT_FALSE(probe.SupportsOp(~0u));
}

TEST(Probe, OpsThatAreConfiguredOutAreNotSupported) {
  Ring ring = MakeRing();
  const Probe probe = ProbeOf(ring);
  for (unsigned opcode = 0; opcode < probe.op_count; ++opcode) {
    SCOPED_TRACE("opcode " + std::to_string(opcode));
    const int result = ResultOf(ring, opcode, 0);
    EXPECT_EQ(result != -EOPNOTSUPP, probe.SupportsOp(opcode)) << result;
  }
}

TEST(Probe, SetupFlagsAreThoseThatTheKernelTakes) {
  const Probe probe = TheProbe();
  for (int bit = 0; bit < 32; ++bit) {
    const std::uint32_t flag = std::uint32_t{1} << bit;
    if ((probe.setup_flags & flag) != 0) continue;
    EXPECT_EQ(Ring::Create({.entries = 2, .setup_flags = flag}).error(),
              std::errc::invalid_argument)
        << "bit " << bit;
  }
  for (const std::uint32_t flags : {
           IORING_SETUP_IOPOLL,
           IORING_SETUP_CLAMP,
           IORING_SETUP_R_DISABLED,
           IORING_SETUP_SUBMIT_ALL,
           IORING_SETUP_COOP_TASKRUN,
           IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
           IORING_SETUP_SQE128,
           IORING_SETUP_CQE32,
           IORING_SETUP_SINGLE_ISSUER,
           IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
           IORING_SETUP_NO_SQARRAY,
           IORING_SETUP_IOPOLL | IORING_SETUP_HYBRID_IOPOLL,
           IORING_SETUP_CQE_MIXED,
           IORING_SETUP_SQE_MIXED,
           IORING_SETUP_NO_SQARRAY | IORING_SETUP_SQ_REWIND,
       }) {
    if ((probe.setup_flags & flags) != flags) continue;
    (void)MakeRing({.entries = 2, .setup_flags = flags});
  }
}

TEST(Probe, EnterFlagsAreThoseThatTheKernelTakes) {
  Ring ring = MakeRing();
  const Probe probe = ProbeOf(ring);
  const auto fd = static_cast<unsigned>(ring.get()->ring_fd);
  for (int bit = 0; bit < 32; ++bit) {
    const unsigned flag = 1u << bit;
    SCOPED_TRACE("bit " + std::to_string(bit));
    const int result =
        io_uring_enter(flag == IORING_ENTER_REGISTERED_RING ? 0 : fd, 0, 0,
                       flag, /*sig=*/nullptr);
    EXPECT_EQ(result != -EINVAL, (probe.enter_flags & flag) != 0) << result;
  }
}

TEST(Probe, SqeFlagsAreThoseThatTheKernelTakes) {
  Ring ring = MakeRing();
  const Probe probe = ProbeOf(ring);
  for (int bit = 0; bit < 8; ++bit) {
    const unsigned flag = 1u << bit;
    SCOPED_TRACE("bit " + std::to_string(bit));
    // Fails for want of a file, and so has a completion with any flag.
    const int result = ResultOf(ring, IORING_OP_READ, flag);
    EXPECT_EQ(result != -EINVAL, (probe.sqe_flags & flag) != 0) << result;
  }
}

TEST(Probe, RegisterOpsAreThoseThatTheKernelTakes) {
  const Probe probe = TheProbe();
  Ring ring = MakeRing({.entries = 2, .setup_flags = IORING_SETUP_R_DISABLED});
  // A restriction to an operation that does not exist is refused, and one that
  // is taken is the last.
  for (unsigned opcode = 256; opcode-- > 0;) {
    io_uring_restriction restriction = {};
    restriction.opcode = IORING_RESTRICTION_REGISTER_OP;
    restriction.register_op = static_cast<std::uint8_t>(opcode);
    const bool taken =
        io_uring_register_restrictions(ring.get(), &restriction, 1) == 0;
    ASSERT_EQ(taken, probe.SupportsRegisterOp(opcode)) << opcode;
    if (taken) return;
  }
}

TEST(Probe, TrialsFindWhatTheKernelLists) {
  const Probe listed = TheProbe();
  if (listed.source != Probe::Source::kQuery) {
    GTEST_SKIP() << "the kernel has no IORING_REGISTER_QUERY, of Linux 6.18";
  }
  // What neither this header nor a trial knows.
  std::uint64_t newer = listed.setup_flags;
  for (const NamedFlag& flag : kSetupFlags) newer &= ~flag.bit;
  if (newer != 0 || listed.register_op_count > IORING_REGISTER_LAST) {
    GTEST_SKIP() << "the kernel is newer than liburing's header";
  }
  // Before 6.18 it is EINVAL, or EBADF before 6.13.
  for (const int error : {EINVAL, EBADF}) {
    testing::ExpectChildSucceeds([&listed, error] {
      testing::MakeRegisterFail(error, IORING_REGISTER_QUERY);
      const Probe tried = TheProbe();
      EXPECT_EQ(tried.source, Probe::Source::kTrial);
      ExpectSame(tried, listed);
    });
  }
}

// A kernel from 5.6 to 5.9: one that knows neither query nor restrictions.
TEST(Probe, TrialsKnowTheKernelsWithoutRestrictions) {
  testing::ExpectChildSucceeds([] {
    testing::MakeRegisterFail(EINVAL, IORING_REGISTER_QUERY);
    testing::MakeRegisterFail(EINVAL, IORING_REGISTER_RESTRICTIONS);
    EXPECT_EQ(TheProbe().register_op_count,
              unsigned{IORING_REGISTER_RESTRICTIONS});
  });
}

TEST(Probe, LeavesNothingBehind) {
  Ring ring = MakeRing();
  const int before = testing::OpenDescriptors();
  (void)ProbeOf(ring);
  EXPECT_EQ(testing::OpenDescriptors(), before);
  EXPECT_EQ(ring.sq_ready(), 0u);
  EXPECT_EQ(ring.completions().entries(), 0u);
  testing::ExpectChildSucceeds([] {
    testing::MakeRegisterFail(EINVAL, IORING_REGISTER_QUERY);
    const int before_trials = testing::OpenDescriptors();
    (void)TheProbe();
    EXPECT_EQ(testing::OpenDescriptors(), before_trials);
  });
}

TEST(Probe, SaysWhatItCannotAsk) {
  testing::ExpectChildSucceeds([] {
    testing::MakeSetupFail(EPERM);
    const auto probe = Probe::Ask();
    EXPECT_EQ(probe.error(), std::errc::operation_not_permitted);
    EXPECT_EQ(probe.error().category(), SetupCategory());
  });
  testing::ExpectChildSucceeds([] {
    testing::MakeRegisterFail(EINVAL, IORING_REGISTER_PROBE);
    Ring ring = MakeRing();
    const auto probe = Probe::Of(ring);
    EXPECT_EQ(probe.error(), std::errc::invalid_argument);
    EXPECT_EQ(probe.error().category(), RegisterCategory());
  });
  testing::ExpectChildSucceeds([] {
    Ring ring = MakeRing();
    testing::MakeRegisterFail(EINVAL, IORING_REGISTER_QUERY);
    testing::MakeSetupFail(EMFILE);
    const auto probe = Probe::Of(ring);
    EXPECT_EQ(probe.error(), std::errc::too_many_files_open);
    EXPECT_EQ(probe.error().category(), SetupCategory());
  });
}

TEST(Probe, KnowsWhichLiburingThereIs) {
  EXPECT_EQ(kCompiledLiburing.major_number, IO_URING_VERSION_MAJOR);
  EXPECT_EQ(kCompiledLiburing.minor_number, IO_URING_VERSION_MINOR);
  // Linked statically, from the source whose headers are used.
  EXPECT_EQ(LinkedLiburing(), kCompiledLiburing);
}

// The tables of names.

void ExpectTableOf(std::span<const NamedFlag> table, const std::string& prefix,
                   std::uint64_t mask_of_kernel, const char* what) {
  SCOPED_TRACE(what);
  std::uint64_t named = 0;
  unsigned last_release = 0;
  std::set<std::string> names;
  for (const NamedFlag& flag : table) {
    SCOPED_TRACE(flag.name);
    EXPECT_TRUE(std::has_single_bit(flag.bit));
    EXPECT_GT(flag.bit, named) << "not in order";
    EXPECT_TRUE(std::string(flag.name).starts_with(prefix));
    EXPECT_TRUE(names.insert(flag.name).second);
    unsigned major_number = 0;
    unsigned minor_number = 0;
    EXPECT_EQ(std::sscanf(flag.since, "%u.%u", &major_number, &minor_number),
              2);
    const unsigned release = major_number * 1000 + minor_number;
    EXPECT_GE(release, last_release) << "a later bit of an earlier release";
    last_release = release;
    named |= flag.bit;
  }
  // Bits come one after the other, and so the kernel's either are all named or
  // end with some that the header does not know either.
  EXPECT_TRUE(std::has_single_bit(named + 1)) << "a gap: " << named;
  EXPECT_TRUE(std::has_single_bit(mask_of_kernel + 1)) << mask_of_kernel;
}

TEST(Names, AreThoseOfTheKernelsBits) {
  const Probe probe = TheProbe();
  ExpectTableOf(kFeatures, "IORING_FEAT_", probe.features, "features");
  ExpectTableOf(kSetupFlags, "IORING_SETUP_", probe.setup_flags, "setup");
  ExpectTableOf(kEnterFlags, "IORING_ENTER_", probe.enter_flags, "enter");
  ExpectTableOf(kSqeFlags, "IOSQE_", probe.sqe_flags, "sqe");
}

}  // namespace
}  // namespace escrow::raw
