#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>

#include "escrow/examples/task.h"
#include "escrow/fuzz/program.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream_ops.h"
#include "escrow/safe/wait_ops.h"

namespace escrow::fuzz {
namespace {

using examples::Task;
using ownership::Buffer;

constexpr Expected kEndless = {.ends = false};

safe::Read<Buffer> ReadFile(Program& program) {
  return {.file = program.file(), .buffer = program.NewBuffer(), .offset = 0};
}
safe::Read<Buffer> ReadPipe(Program& program) {
  return {.file = program.pipe().here, .buffer = program.NewBuffer()};
}
safe::Write<Buffer> WriteFile(Program& program) {
  return {
      .file = program.scratch(), .buffer = program.NewBuffer(16), .offset = 0};
}
safe::Timeout Soon() { return {.time = std::chrono::microseconds(1)}; }

void ChainOfFiles(Program& program, const Action& action) {
  program.Keep(program.ring().Start(
      safe::Chain(safe::With{WriteFile(program), program.Options(action)},
                  ReadFile(program), safe::Sync{.file = program.scratch()})));
}

void ChainBehindPipe(Program& program, const Action& action) {
  program.Keep(
      program.ring().Start(safe::Chain(
          safe::With{ReadPipe(program), program.Options(action)},
          safe::With{ReadFile(program), {.async = (action.a & 1) != 0}})),
      kEndless);
}

// A timeout fails as it ends: the kernel's way of saying so breaks no chain of
// this kind.
void HardChain(Program& program, const Action& action) {
  program.Keep(program.ring().Start(safe::HardChain(
                   safe::Open{.path = "/nonexistent"}, Soon(),
                   safe::With{ReadPipe(program), program.Options(action)},
                   WriteFile(program))),
               kEndless);
}

void ChainOfSockets(Program& program, const Action& action) {
  const auto& ends = program.stream();
  program.Keep(
      program.ring().Start(safe::Chain(
          safe::With{safe::Send<Buffer>{.socket = ends.there,
                                        .buffer = program.NewBuffer(9, kSent)},
                     program.Options(action)},
          safe::Receive<Buffer>{.socket = ends.here,
                                .buffer = program.NewBuffer(9)})),
      kEndless);
}

// Longer than small rings.
void LongChain(Program& program, const Action& action) {
  const safe::StartOptions options = program.Options(action);
  auto operations = program.ring().Start(
      safe::Chain(ReadFile(program), safe::With{ReadFile(program), options},
                  ReadFile(program), ReadFile(program), WriteFile(program),
                  safe::With{WriteFile(program), options}));
  // Dropping one cancels those behind it.
  if ((action.a & 1) != 0) {
    const auto dropped = std::move(std::get<1>(operations));
  }
  program.Keep(std::move(std::get<0>(operations)));
  program.Keep(std::move(std::get<5>(operations)), {.cancellable = false});
}

void PairWithDeadline(Program& program, const Action& action) {
  program.Keep(
      program.ring().Read(
          program.pipe().here, program.NewBuffer(), safe::kCurrentPosition,
          {.deadline = std::chrono::microseconds(1 + action.a)}),
      kEndless);
}

void FeedPipe(Program& program, const Action& action) {
  Feed(program.pipe().there, 1 + action.a);
}

// Coroutines.

Task ReadTwice(Program& program, bool async) {
  auto [first, buffer] = co_await program.ring().Read(
      program.file(), program.NewBuffer(), 0, {.async = async});
  auto [second, same] =
      co_await program.ring().Read(program.pipe().here, std::move(buffer));
  if (second) RequireSent(same.data(), *second);
}

// What it awaits for, and what it does not.
Task KeepOneInFlight(Program& program) {
  auto other = program.ring().Read(program.pipe().here, program.NewBuffer());
  (void)co_await program.ring().Nop();
  (void)co_await program.ring().Timeout(std::chrono::microseconds(3));
  if (other.done()) co_return;
  (void)co_await program.ring().Cancel(other);
  (void)co_await std::move(other);
}

Task Nested(Program& program, int depth) {
  std::optional<Task> inner;
  if (depth > 0) inner.emplace(Nested(program, depth - 1));
  (void)co_await program.ring().Nop();
  if (depth % 2 == 1) inner.reset();
  (void)co_await program.ring().Read(program.pipe().here,
                                     std::string(16, '\0'));
}

Task Ticks(Program& program) {
  auto ticks = program.ring().Start(
      safe::Tick{.period = std::chrono::microseconds(2), .count = 3});
  while (auto tick = co_await ticks.Next()) {
    if (!*tick) break;
    (void)co_await program.ring().Nop();
  }
}

void StartTask(Program& program, const Action& action) {
  switch (action.a % 4) {
    case 0:
      program.Keep(ReadTwice(program, (action.b & 1) != 0));
      break;
    case 1:
      program.Keep(KeepOneInFlight(program));
      break;
    case 2:
      program.Keep(Nested(program, action.b % 4));
      break;
    case 3:
      program.Keep(Ticks(program));
      break;
  }
}

constexpr Program::StepOf kSteps[] = {
    {kChains, &ChainOfFiles},        {kChains, &ChainBehindPipe},
    {kChains, &HardChain},           {kChains, &ChainOfSockets},
    {kChains, &LongChain},           {kChains, &FeedPipe},
    {kDeadlines, &PairWithDeadline}, {kDeadlines, &FeedPipe},
    {kCoroutines, &StartTask},       {kCoroutines, &FeedPipe},
    {kTeardown, &ChainBehindPipe},   {kTeardown, &StartTask},
};

}  // namespace

std::span<const Program::StepOf> ChainSteps() { return kSteps; }

}  // namespace escrow::fuzz
