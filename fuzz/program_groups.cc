#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "escrow/fuzz/program.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/message_stream_ops.h"

namespace escrow::fuzz {
namespace {

constexpr Expected kEndless = {.ends = false};

safe::BufferGroup& GroupFor(Program& program, const Action& action) {
  return program.group((action.b & 1) != 0);
}

void ReceiveInto(Program& program, const Action& action) {
  program.Start(safe::ReceiveInto{.socket = program.stream().here,
                                  .group = GroupFor(program, action),
                                  .limit = action.a % 64u},
                action, kEndless);
}

void ReceiveBundle(Program& program, const Action& action) {
  program.Start(safe::ReceiveBundle{.socket = program.stream().here,
                                    .group = GroupFor(program, action)},
                action, kEndless);
}

void ReadInto(Program& program, const Action& action) {
  program.Start(safe::ReadInto{.file = program.file(),
                               .group = program.group(false),
                               .offset = action.b},
                action);
}

void ReadPipeInto(Program& program, const Action& action) {
  program.Start(safe::ReadInto{.file = program.pipe().here,
                               .group = program.group(false),
                               .limit = action.b % 64u},
                action, kEndless);
}

safe::StreamOptions Limit(const Action& action) {
  return {.unread_limit = 1 + action.c % 4u};
}

void ReceiveMany(Program& program, const Action& action) {
  program.Keep(program.ring().Start(
      safe::ReceiveMany{.socket = program.stream().here,
                        .group = GroupFor(program, action)},
      Limit(action)));
}

void ReceiveBundles(Program& program, const Action& action) {
  program.Keep(program.ring().Start(
      safe::ReceiveBundles{.socket = program.stream().here,
                           .group = GroupFor(program, action)},
      Limit(action)));
}

void ReadMany(Program& program, const Action& action) {
  program.Keep(
      program.ring().Start(safe::ReadMany{.file = program.pipe().here,
                                          .group = GroupFor(program, action)},
                           Limit(action)));
}

void ReceiveMessageMany(Program& program, const Action& action) {
  program.Keep(program.ring().Start(
      safe::ReceiveMessageMany{.socket = program.datagrams(),
                               .group = program.group(false)},
      Limit(action)));
}

void FeedPipe(Program& program, const Action& action) {
  Feed(program.pipe().there, 1 + action.a);
}

void EndLease(Program& program, const Action&) { (void)program.TakeLease(); }

void WriteLease(Program& program, const Action& action) {
  if (auto lease = program.TakeLease()) {
    program.Keep(program.ring().Write(program.scratch(), std::move(*lease), 0,
                                      program.Options(action)));
  }
}

constexpr Program::StepOf kSteps[] = {
    {kGroups, &ReceiveInto},
    {kGroups, &ReceiveBundle},
    {kGroups, &ReadInto},
    {kGroups, &ReadPipeInto},
    {kGroups, &EndLease},
    {kGroups, &WriteLease},
    {kGroups, &FeedPipe},
    {kStreams, &ReceiveMany},
    {kStreams, &ReceiveBundles},
    {kStreams, &ReadMany},
    {kStreams, &ReceiveMessageMany},
    {kStreams, &FeedPipe},
    {kStreams, &EndLease},
    {kGroups, &ReceiveMany},
    {kGroups, &ReceiveBundles},
    {kGroups, &ReadMany},
    {kTeardown, &ReceiveMany},
    {kTeardown, &ReceiveInto},
    {kTeardown, &EndLease},
    {kTeardown, &FeedPipe},
};

}  // namespace

std::span<const Program::StepOf> GroupSteps() { return kSteps; }

}  // namespace escrow::fuzz
