// Steps that use what programs have as values: handles and buffers moved onto
// each other and asked for what they are, and what is refused.

#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "escrow/fuzz/check.h"
#include "escrow/fuzz/program.h"
#include "escrow/ownership/control_data.h"
#include "escrow/ownership/mapping.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/command_ops.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/message_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/vector_ops.h"
#include "escrow/safe/wait_ops.h"
#include "escrow/safe/zero_copy_ops.h"

namespace escrow::fuzz {
namespace {

using ownership::Descriptor;
using ownership::RegisteredBuffer;

constexpr Expected kEndless = {.ends = false};

// Handles and buffers as values: moved onto each other, asked for what they
// are.
void Values(Program& program, const Action& action) {
  ownership::Buffer buffer = program.NewBuffer(8);
  MoveAbout(buffer);
  buffer.resize(4);
  buffer[1] = kSent;
  ESCROW_REQUIRE(!buffer.empty() && buffer.capacity() >= 4);
  ESCROW_REQUIRE(std::as_const(buffer)[1] == kSent);
  ESCROW_REQUIRE(!ownership::Buffer::Allocate(8, 3).has_value());
  ESCROW_REQUIRE(!ownership::Mapping::Anonymous(0).has_value());

  Descriptor file =
      Descriptor::Adopt(::fcntl(program.file().number(), F_DUPFD_CLOEXEC, 0));
  MoveAbout(file);
  ESCROW_REQUIRE(file && file.shares() == 0);
  if ((action.a & 1) != 0) ::close(std::move(file).Release());

  for (ownership::FixedFile& fixed : program.fixed_files()) {
    MoveAbout(fixed);
    ESCROW_REQUIRE(static_cast<bool>(fixed));
    ESCROW_REQUIRE(fixed.alone() == (fixed.shares() == 0));
  }
  if (auto lease = program.TakeLease()) {
    MoveAbout(*lease);
    const ownership::Lease& looked_at = *lease;
    if (looked_at.size() > 0) {
      ESCROW_REQUIRE(&looked_at[0] == looked_at.data());
    }
    program.Keep(std::move(*lease));
  }
  if (safe::BufferPool* const pool = program.pool()) {
    if (auto first = pool->Take()) {
      auto second = pool->Take();
      MoveAbout(*first);
      if (second) *first = std::move(*second);
    }
  }

  // The name of the call is in every error.
  const auto gone = program.ring().Wait(
      program.ring().Start(safe::Open{.path = "/nonexistent"}));
  if (!gone) ESCROW_REQUIRE(gone.error().category().name() != nullptr);
}

// Two ends that nothing else reads from, so that what is fed to them is there.
Ends OwnEnds() {
  int ends[2];
  ESCROW_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ==
                 0);
  return {Descriptor::Adopt(ends[0]), Descriptor::Adopt(ends[1])};
}

void PoolValues(Program& program, const Action& action) {
  using ownership::BufferStore;
  constexpr std::size_t kHuge = std::size_t{1} << 40;
  ESCROW_REQUIRE(!BufferStore::Make(1, 1, 3).has_value());
  ESCROW_REQUIRE(!BufferStore::Make(kHuge, kHuge, 1).has_value());
  safe::BufferPool* const pool = program.pool();
  if (pool == nullptr) return;
  MoveAbout(*pool);
  // One at a time.
  ESCROW_REQUIRE(!safe::BufferPool::Create(program.ring(), {.count = 1}));
  std::vector<RegisteredBuffer> pieces;
  while (auto piece = pool->Take()) pieces.push_back(std::move(*piece));
  if (pieces.empty()) return;
  RegisteredBuffer& piece = pieces.front();
  piece.resize(8);
  piece[7] = kSent;
  MoveAbout(piece);
  const RegisteredBuffer& looked_at = piece;
  ESCROW_REQUIRE(!looked_at.empty() && looked_at.capacity() == kPieceBytes);
  ESCROW_REQUIRE(looked_at.data()[7] == kSent && looked_at[7] == kSent);
  piece.resize(piece.capacity());
  ESCROW_REQUIRE(RegisteredBuffer().capacity() == 0);
  using Pieces = std::vector<RegisteredBuffer>;
  switch (action.a % 4) {
    case 0:
      program.Start(safe::ReadVector<Pieces>{.file = program.file(),
                                             .buffers = std::move(pieces),
                                             .offset = 0},
                    action);
      break;
    case 1:
      program.Start(safe::Write<RegisteredBuffer>{.file = program.scratch(),
                                                  .buffer = std::move(piece),
                                                  .offset = 0},
                    action);
      break;
    case 2:
      for (std::byte& each : std::span(piece.data(), piece.size())) {
        each = kSent;
      }
      program.ExpectUnknown();
      program.Start(
          safe::SendMessageZeroCopy<RegisteredBuffer>{
              .socket = program.datagrams(),
              .message = {.bytes = std::move(piece)}},
          action, kEndless);
      break;
    case 3:
      // Of no ring that is known there.
      if (auto other = safe::Ring::Create({.entries = 4})) {
        (void)other->Wait(other->Start(safe::Read<RegisteredBuffer>{
            .file = program.file(), .buffer = std::move(piece), .offset = 0}));
      }
      break;
  }
}

void LeaseValues(Program& program, const Action& action) {
  const bool incremental = (action.a & 1) != 0;
  safe::BufferGroup& group = program.group(incremental);
  ESCROW_REQUIRE(!safe::BufferGroup::Create(program.ring(), {.count = 0}));
  MoveAbout(group);
  const Ends ends = OwnEnds();
  std::array<std::byte, 1500> bytes;
  bytes.fill(kSent);
  ESCROW_REQUIRE(::send(ends.there.number(), bytes.data(), bytes.size(),
                        MSG_DONTWAIT) == std::ssize(bytes));
  auto bundle = program.ring().Wait(program.ring().Start(
      safe::ReceiveBundle{.socket = ends.here, .group = group},
      program.Options(action)));
  if (bundle) {
    MoveAbout(*bundle);
    ESCROW_REQUIRE(bundle->empty() || bundle->size() > 0);
    if ((action.b & 1) != 0) program.Keep(std::move(*bundle));
  }
  // A buffer that nothing was put into.
  const Ends ended = OwnEnds();
  ESCROW_REQUIRE(::shutdown(ended.there.number(), SHUT_WR) == 0);
  (void)program.ring().Wait(program.ring().Start(
      safe::ReceiveInto{.socket = ended.here, .group = group}));
}

// More than a ring has records for at first, with continuations that do not fit
// into one.
void Many(Program& program, const Action& action) {
  safe::Ring& ring = program.ring();
  const std::array<char, 512> large = {};
  for (int i = 0; i < 2; ++i) {
    ring.Nop().Then([large](const safe::Result<void>&) { (void)large; });
  }
  std::vector<safe::Operation<safe::Transfer<std::string, std::size_t>>> reads;
  for (unsigned i = 0; i < 70u + action.a % 64u; ++i) {
    reads.push_back(ring.Read(program.pipe().here, std::string(1, '-')));
  }
  (void)ring.Dispatch(std::chrono::nanoseconds(0));
  if ((action.b & 1) != 0) program.Keep(std::move(reads.back()), kEndless);
}

// How messages end would not be known.
void RefusedFlags(Program& program, const Action& action) {
  safe::Ring& ring = program.ring();
  safe::BufferGroup& group = program.group(true);
  const Descriptor& socket = program.stream().here;
  const auto refused = [&](auto operation) {
    ESCROW_REQUIRE(!ring.Wait(std::move(operation)).has_value());
  };
  const auto nothing = [&](auto stream) {
    const auto item = ring.Next(stream);
    ESCROW_REQUIRE(item.has_value() && !item->has_value());
  };
  switch (action.a % 5) {
    case 0:
      refused(ring.Start(safe::ReceiveInto{
          .socket = socket, .group = group, .flags = MSG_WAITALL}));
      break;
    case 1:
      refused(ring.Start(safe::ReceiveBundle{
          .socket = socket, .group = group, .flags = MSG_TRUNC}));
      break;
    case 2:
      nothing(ring.Start(safe::ReceiveMany{
          .socket = socket, .group = group, .flags = MSG_TRUNC}));
      break;
    case 3:
      nothing(ring.Start(safe::ReceiveBundles{
          .socket = socket, .group = group, .flags = MSG_WAITALL}));
      break;
    case 4:
      nothing(ring.Start(
          safe::ReceiveMessageMany{.socket = socket, .group = group}));
      break;
  }
}

// What comes with a message, and who looks at it.
void ControlValues(Program& program, const Action& action) {
  const Ends ends = OwnEnds();
  const int on = 1;
  ESCROW_REQUIRE(::setsockopt(ends.here.number(), SOL_SOCKET, SO_PASSCRED, &on,
                              sizeof(on)) == 0);
  ESCROW_REQUIRE(::send(ends.there.number(), "x", 1, MSG_DONTWAIT) == 1);
  ownership::ControlData control;
  ESCROW_REQUIRE(control.empty());
  control.Pass(program.file());
  control.Pass(program.scratch());
  MoveAbout(control);
  const auto [sent, message] = program.ring().Wait(program.ring().Start(
      safe::SendMessage<std::string>{
          .socket = ends.there,
          .message = {.bytes = "y", .control = std::move(control)}},
      program.Options(action)));
  for (int i = 0; i < (sent ? 2 : 1); ++i) {
    auto [size, received] = program.ring().Wait(
        program.ring().Start(safe::ReceiveMessage<std::string>{
            .socket = ends.here,
            .message = {.bytes = "-",
                        .control = ownership::ControlRoom(
                            ownership::ControlRoom::For(sizeof(ucred)) +
                            ownership::ControlRoom::For(2 * sizeof(int)))}}));
    if (!size) return;
    ownership::ControlRoom& room = received.control;
    for (auto each = room.begin(); each != room.end(); each++) {
      ESCROW_REQUIRE((*each).As<ucred>()->pid == ::getpid());
      ESCROW_REQUIRE(!((*each).As<std::array<char, 64>>().has_value()));
    }
    if ((action.a & 1) != 0) (void)room.TakeDescriptor();
    (void)room.TakePidfd();
    MoveAbout(room);
    if ((action.a & 2) != 0) room.Clear();
  }
}

// What is mostly refused, and what nothing else here starts.
void OddOnes(Program& program, const Action& action) {
  safe::Ring& ring = program.ring();
  switch (action.a % 8) {
    case 0: {
      auto file = Descriptor::Adopt(
          ::fcntl(program.scratch().number(), F_DUPFD_CLOEXEC, 0));
      const Descriptor& same = file;
      auto write = safe::Write<std::string>{
          .file = same, .buffer = "the end", .offset = 0};
      // It is used outside of the chain, too, or only in it.
      if ((action.b & 1) != 0) {
        program.Keep(ring.Read(same, std::string(4, '-'), 0));
      }
      program.Keep(ring.Start(safe::Chain(
          std::move(write), safe::Close<Descriptor>{.file = std::move(file)})));
      break;
    }
    case 1:
      program.Start(
          safe::DiscardBlocks{
              .device = program.scratch(), .offset = 0, .length = 512},
          action);
      break;
    case 2: {
      const auto self = Descriptor::Adopt(
          static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
      if (self)
        program.Start(safe::WaitPidfd{.process = self}, action, kEndless);
      break;
    }
    case 3:
      program.Start(safe::Timeout{.time = {}, .clock = CLOCK_TAI}, action);
      break;
    case 4:
      // Broken in front of what would have had a notification.
      program.ExpectUnknown();
      program.Keep(ring.Start(safe::Chain(
          safe::Read<std::string>{.file = program.pipe().there,
                                  .buffer = "not readable"},
          safe::SendZeroCopy<std::string>{
              .socket = program.datagrams(),
              .buffer = std::string(4, static_cast<char>(kSent))})));
      break;
    case 5: {
      // A ring of large entries and completions, and what needs them.
      auto large = safe::Ring::Create(
          {.entries = 4,
           .setup_flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32});
      if (!large) break;
      (void)large->Wait(large->Nop());
      (void)large->Wait(large->Start(
          safe::UringCommand{.file = program.scratch(),
                             .command = 1,
                             .buffer = std::string(16, '-'),
                             .make = [](const std::byte*, std::size_t) {
                               return std::array<char, 80>();
                             }}));
      break;
    }
    case 6: {
      auto nop = ring.Nop();
      nop = ring.Nop();
      if (!nop.done()) (void)ring.Dispatch();
      if ((ring.setup_flags() & IORING_SETUP_SINGLE_ISSUER) == 0) {
        ring.TakeOver();
      }
      program.Keep(std::move(nop));
      ESCROW_REQUIRE(!safe::Ring::Create({.entries = 0}).has_value());
      ESCROW_REQUIRE(!safe::Ring::Create(
                          {.entries = 2, .setup_flags = IORING_SETUP_IOPOLL})
                          .has_value());
      break;
    }
    case 7: {
      auto remote = ring.CreateRemote();
      if (!remote) break;
      safe::Remote second(*remote);
      second = *remote;
      MoveAbout(second);
      (void)second.Post([] {});
      (void)ring.Dispatch(std::chrono::nanoseconds(0));
      ownership::Mapping mapping;
      const ownership::SocketAddress address;
      ESCROW_REQUIRE(std::as_const(mapping).data() == nullptr);
      ESCROW_REQUIRE(mapping.empty() && address.family() == AF_UNSPEC);
      ESCROW_REQUIRE(program.listener_address().family() == AF_UNIX);
      if (safe::FileTable* const table = program.table()) {
        if (auto slot = table->Reserve()) MoveAbout(*slot);
      }
      if (auto memory = ownership::Mapping::Anonymous(4096)) {
        program.Keep(ring.Write(program.scratch(), std::move(*memory), 0));
      }
      break;
    }
  }
}

constexpr Program::StepOf kSteps[] = {
    {kSystem, &Values},        {kSystem, &PoolValues},
    {kSystem, &LeaseValues},   {kSystem, &RefusedFlags},
    {kSystem, &ControlValues}, {kSystem, &OddOnes},
    {kSystem, &Many},
};

}  // namespace

std::span<const Program::StepOf> ValueSteps() { return kSteps; }

}  // namespace escrow::fuzz
