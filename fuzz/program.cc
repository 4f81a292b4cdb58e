#include "escrow/fuzz/program.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/fuzz/run.h"
#include "escrow/safe/ring_ops.h"
#include "escrow/safe/wait_ops.h"

namespace escrow::fuzz {
namespace {

using ownership::Descriptor;
using safe::Ring;

constexpr std::size_t kMostHeld = 32;
constexpr std::size_t kMostLeases = 8;
constexpr std::size_t kMostFixedFiles = 8;

// Of handles and of the ring.

void TakeOne(Program& program, const Action& action) {
  const auto held = program.Extract(action.a);
  if (held != nullptr && held->done()) held->Take(program);
}

void Drop(Program& program, const Action& action) {
  (void)program.Extract(action.a);
}

void WaitForOne(Program& program, const Action& action) {
  const auto held = program.Extract(action.a);
  if (held == nullptr) return;
  if (held->ring() == program.ring_number()) {
    held->Wait(program, (action.b & 1) != 0);
  } else if (held->done()) {
    held->Take(program);
  }
}

void CancelOne(Program& program, const Action& action) {
  auto held = program.Extract(action.a);
  if (held == nullptr || held->ring() != program.ring_number()) return;
  if ((action.b & 1) != 0) {
    held->CancelAndWait(program);
    return;
  }
  held->Cancel(program);
  if ((action.b & 2) == 0) program.Keep(std::move(held));
}

void ContinueOne(Program& program, const Action& action) {
  const auto held = program.Extract(action.a);
  if (held == nullptr || held->ring() != program.ring_number()) return;
  held->Continue(program, action.b);
}

void AwaitOneOf(Program& program, const Action& action) {
  const auto held = program.Extract(action.a);
  if (held == nullptr || held->ring() != program.ring_number()) return;
  held->Await(program);
}

void DetachOne(Program& program, const Action& action) {
  const auto held = program.Extract(action.a);
  if (held != nullptr && held->ring() == program.ring_number()) held->Detach();
}

void UpdateOne(Program& program, const Action& action) {
  auto held = program.Extract(action.a);
  if (held == nullptr) return;
  if (held->ring() == program.ring_number()) held->Update(program, action.b);
  program.Keep(std::move(held));
}

void Submit(Program& program, const Action&) {
  const auto submitted = program.ring().Submit();
  ESCROW_REQUIRE(submitted || IsRefusal(submitted.error()));
}

void Dispatch(Program& program, const Action& action) {
  const auto ran =
      program.ring().Dispatch(std::chrono::microseconds(action.a % 4));
  ESCROW_REQUIRE(ran || IsRefusal(ran.error()));
}

void DispatchNop(Program& program, const Action&) {
  program.Keep(program.ring().Nop());
  const auto ran = program.ring().Dispatch(std::chrono::milliseconds(1));
  ESCROW_REQUIRE(ran || IsRefusal(ran.error()));
}

void Nop(Program& program, const Action&) {
  program.Keep(program.ring().Nop());
}

void CancelAll(Program& program, const Action& action) {
  switch (action.a % 3) {
    case 0:
      program.Keep(program.ring().CancelAll());
      break;
    case 1:
      program.Keep(program.ring().CancelAll(program.pipe().here));
      break;
    case 2: {
      const auto cancelled = program.ring().Wait(program.ring().CancelAll());
      program.Examine(cancelled, Expected());
      break;
    }
  }
}

void WaitForSeveral(Program& program, const Action& action) {
  Ring& ring = program.ring();
  auto nop = ring.Nop();
  auto timeout = ring.Timeout(std::chrono::microseconds(action.a));
  if ((action.b & 1) != 0) {
    const std::size_t first = ring.WaitAny(nop, timeout);
    ESCROW_REQUIRE(first == 0 ? nop.done() : timeout.done());
    program.Keep(std::move(nop));
    program.Keep(std::move(timeout));
  } else {
    (void)ring.WaitAll(std::move(nop), std::move(timeout));
  }
}

void StartTimeout(Program& program, const Action& action) {
  program.Start(safe::Timeout{.time = std::chrono::microseconds(action.a)},
                action);
}

void Post(Program& program, const Action& action) {
  auto remote = program.ring().CreateRemote();
  ESCROW_REQUIRE(remote.has_value());
  Program* const self = &program;
  (void)remote->Post([self] { self->DropOne(); });
  if ((action.a & 1) != 0) Dispatch(program, {});
}

void SendToSelf(Program& program, const Action& action) {
  auto itself = program.ring().Duplicate();
  ESCROW_REQUIRE(itself.has_value());
  program.ExpectUnknown();
  program.Keep(program.ring().Start(
      safe::SendToRing{.ring = *itself, .user_data = action.a}));
}

void MoveRing(Program& program, const Action&) {
  Ring elsewhere(std::move(program.ring()));
  (void)elsewhere.Submit();
  program.ring() = std::move(elsewhere);
}

void Restart(Program& program, const Action& action) {
  program.Restart(action.a);
}

void DrainAll(Program& program, const Action&) { program.Drain(); }

constexpr Program::StepOf kSteps[] = {
    {kCommon, &TakeOne},        {kCommon, &Drop},
    {kCommon, &WaitForOne},     {kCommon, &CancelOne},
    {kCommon, &ContinueOne},    {kCommon, &DetachOne},
    {kCommon, &Submit},         {kCommon, &Dispatch},
    {kCommon, &DispatchNop},    {kCommon, &Nop},
    {kCommon, &CancelAll},      {kCommon, &WaitForSeveral},
    {kCommon, &StartTimeout},   {kCommon, &AwaitOneOf},
    {kCoroutines, &AwaitOneOf}, {kCommon, &UpdateOne},
    {kTeardown, &Restart},      {kTeardown, &MoveRing},
    {kTeardown, &DrainAll},     {kTeardown, &Post},
    {kTeardown, &SendToSelf},
};

// What `families` are, in an order of their own.
const std::vector<Program::Step>& StepsOf(unsigned families) {
  static auto& known =
      *new std::vector<std::pair<unsigned, std::vector<Program::Step>>>;
  for (const auto& [of, steps] : known) {
    if (of == families) return steps;
  }
  std::vector<Program::Step> steps;
  for (const auto all :
       {CommonSteps(), FileSteps(), SocketSteps(), GroupSteps(), ChainSteps(),
        SystemSteps(), ValueSteps()}) {
    for (const auto& [family, step] : all) {
      if ((families & family) != 0) steps.push_back(step);
    }
  }
  return known.emplace_back(families, std::move(steps)).second;
}

}  // namespace

std::span<const Program::StepOf> CommonSteps() { return kSteps; }

template <>
void HeldOperation<safe::Result<void>>::Update(Program& program,
                                               std::uint8_t how) {
  // Whatever it is, it is hit only if it is a timeout in flight.
  program.Keep(program.ring().Start(safe::UpdateTimeout{
      .timeout = operation_, .time = std::chrono::microseconds(how)}));
}

template <>
void HeldOperation<safe::Result<std::uint32_t>>::Update(Program& program,
                                                        std::uint8_t how) {
  program.Keep(program.ring().Start(
      safe::UpdatePoll{.poll = operation_, .events = how}));
}

Program::Program(unsigned ring_kind) { MakeRing(ring_kind); }

void Program::MakeRing(unsigned kind) {
  constexpr std::optional<std::uint32_t> kKinds[] = {std::nullopt, std::nullopt,
                                                     0u, IORING_SETUP_SQPOLL};
  safe::RingOptions options = {.entries = 2u << kind % 4,
                               .setup_flags = kKinds[kind / 4 % 4]};
  if (kind / 16 % 4 == 3) options.in_flight_limit = 3;
  if (kind / 64 % 4 == 3) options.disabled = true;
  auto ring = Ring::Create(options);
  ESCROW_REQUIRE(ring.has_value());
  if (options.disabled) ESCROW_REQUIRE(ring->Enable());
  ring_.emplace(std::move(*ring));
  ++ring_number_;
  unknown_ = 0;
}

void Program::Run(std::span<const Action> actions, unsigned families) {
  families_ = families;
  const std::vector<Step>& steps = StepsOf(families);
  for (const Action& action : actions) {
    steps[action.kind % steps.size()](*this, action);
    Check();
  }
  const std::uint8_t how = actions.empty() ? 0 : actions.back().c;
  if ((how & 64) == 0) Drain();
  EndRing(how);
  held_.clear();
  leases_.clear();
  fixed_files_.clear();
  DropRegistered();
  ESCROW_REQUIRE(!pinned_.pinned());
}

void Program::Check() {
  ESCROW_REQUIRE(ring_->unknown_completions() <= unknown_);
  for (const auto& group : groups_) {
    if (group.has_value()) ESCROW_REQUIRE(group->available() <= kGroupBuffers);
  }
  if (pool_.has_value()) ESCROW_REQUIRE(pool_->available() <= kPoolBuffers);
}

// Lets what can end do so, and sees that all is back where it belongs. What the
// kernel goes on with all the same is left alone.
void Program::Drain() {
  held_.clear();
  // Callbacks that are still to be called own something, too.
  bool ran = true;
  for (int i = 0; i < 8 && (ran || ring_->in_flight() > 0); ++i) {
    if (ring_->in_flight() > 0) (void)ring_->Wait(ring_->CancelAll());
    ran = ring_->Dispatch(std::chrono::nanoseconds(0)).value_or(0) > 0;
    held_.clear();
  }
  if (ring_->in_flight() > 0) return;
  while (!leases_.empty()) (void)TakeLease();
  for (const auto& group : groups_) {
    if (group.has_value()) ESCROW_REQUIRE(group->available() == kGroupBuffers);
  }
  if (pool_.has_value()) ESCROW_REQUIRE(pool_->available() == kPoolBuffers);
  ESCROW_REQUIRE(!pinned_.pinned());
  Check();
}

void Program::DropRegistered() {
  for (auto& group : groups_) group.reset();
  pool_.reset();
  table_.reset();
}

void Program::EndRing(std::uint8_t how) {
  if ((how & 1) != 0) held_.clear();
  if ((how & 2) != 0) DropRegistered();
  if ((how & 4) != 0) fixed_files_.clear();
  if ((how & 8) != 0) {
    while (!leases_.empty()) (void)TakeLease();
  }
  const bool tasks_first = (how & 16) != 0;
  if (tasks_first)
    std::erase_if(held_, [](const auto& held) { return !held->done(); });
  ring_.reset();
  ESCROW_REQUIRE(safe::BuriedOperations() == 0);
  ESCROW_REQUIRE(!pinned_.pinned() || !held_.empty());
  // Outcomes outlive their ring.
  if ((how & 32) != 0) {
    while (const auto held = Extract(how)) {
      if (held->done()) held->Take(*this);
    }
  }
}

void Program::Restart(std::uint8_t how) {
  const auto kind = static_cast<std::uint8_t>(how * 37);
  EndRing(how);
  DropRegistered();
  fixed_files_.clear();
  MakeRing(kind);
}

void Program::Keep(std::unique_ptr<Held> held) {
  if (held_.size() < kMostHeld) held_.push_back(std::move(held));
}
void Program::Keep(examples::Task task) {
  Keep(std::make_unique<HeldTask>(ring_number_, std::move(task)));
}

std::unique_ptr<Held> Program::Extract(std::uint8_t which) {
  if (held_.empty()) return nullptr;
  std::swap(held_[which % held_.size()], held_.back());
  std::unique_ptr<Held> held = std::move(held_.back());
  held_.pop_back();
  return held;
}

// Nobody else's bytes may be in it, so they stay what they are made here.
void Program::Keep(ownership::Lease lease) {
  if (leases_.size() == kMostLeases) return;
  const auto tag = static_cast<std::byte>(++tags_);
  if (!lease.empty()) std::memset(lease.data(), tags_, lease.size());
  leases_.push_back({std::move(lease), tag});
}

void Program::Keep(ownership::FixedFile file) {
  if (fixed_files_.size() < kMostFixedFiles && file.valid()) {
    fixed_files_.push_back(std::move(file));
  }
}

std::optional<ownership::Lease> Program::TakeLease() {
  if (leases_.empty()) return std::nullopt;
  Tagged last = std::move(leases_.back());
  leases_.pop_back();
  for (std::size_t i = 0; i < last.lease.size(); ++i) {
    ESCROW_REQUIRE(last.lease[i] == last.tag);
  }
  return std::move(last.lease);
}

const Ends& Program::pipe() {
  if (!pipe_.here.valid()) pipe_ = MakePipe();
  return pipe_;
}
const Ends& Program::stream() {
  if (!stream_.here.valid()) stream_ = MakeStream();
  return stream_;
}
const Descriptor& Program::datagrams() {
  if (!datagrams_.valid()) {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    ESCROW_REQUIRE(::bind(fd, any, size) == 0);
    ESCROW_REQUIRE(::getsockname(fd, any, &size) == 0);
    ESCROW_REQUIRE(::connect(fd, any, size) == 0);
    datagrams_ = Descriptor::Adopt(fd);
  }
  return datagrams_;
}
const Descriptor& Program::listener() {
  if (!listener_.valid()) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    // Linux chooses an abstract name.
    ESCROW_REQUIRE(::bind(fd, any, sizeof(sa_family_t)) == 0);
    ESCROW_REQUIRE(::listen(fd, 4) == 0);
    socklen_t size = sizeof(address);
    ESCROW_REQUIRE(::getsockname(fd, any, &size) == 0);
    listener_address_ = ownership::SocketAddress(any, size);
    listener_ = Descriptor::Adopt(fd);
  }
  return listener_;
}
const ownership::SocketAddress& Program::listener_address() {
  (void)listener();
  return listener_address_;
}

void Program::ConnectToListener() {
  const auto& address = listener_address();
  const int fd =
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  (void)::connect(fd, address.data(), address.size());
  ::close(fd);
}

safe::BufferGroup& Program::group(bool incremental) {
  auto& group = groups_[incremental ? 1 : 0];
  if (!group.has_value()) {
    auto made = safe::BufferGroup::Create(
        *ring_,
        {.count = kGroupBuffers, .size = 512, .incremental = incremental});
    ESCROW_REQUIRE(made.has_value());
    group.emplace(std::move(*made));
  }
  return *group;
}

safe::BufferPool* Program::pool() {
  if (!pool_.has_value()) {
    auto made = safe::BufferPool::Create(
        *ring_, {.count = kPoolBuffers, .size = kPieceBytes, .alignment = 64});
    if (!made) return nullptr;
    pool_.emplace(std::move(*made));
  }
  return &*pool_;
}

safe::FileTable* Program::table() {
  if (!table_.has_value()) {
    auto made = safe::FileTable::Create(*ring_, {.made = 3, .put = 2});
    if (!made) return nullptr;
    table_.emplace(std::move(*made));
  }
  return &*table_;
}

void RunProgram(const std::uint8_t* data, std::size_t size, unsigned families) {
  static const bool warm = [] {
    // What is made once per process is there before descriptors are counted.
    Program(0).Run({}, kCommon);
    return true;
  }();
  ESCROW_REQUIRE(warm);
  const DescriptorsStay descriptors_stay;
  const Run run(data, size);
  std::span<const Action> actions = run.actions();
  std::uint8_t kind = 0;
  if (!actions.empty()) {
    kind = actions.front().a;
    if (actions.front().kind == 0) actions = actions.subspan(1);
  }
  Program(kind).Run(actions, families | kCommon);
}

}  // namespace escrow::fuzz
