#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "escrow/fuzz/program.h"
#include "escrow/ownership/shared.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/futex_ops.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/vector_ops.h"
#include "escrow/safe/wait_ops.h"

namespace escrow::fuzz {
namespace {

using ownership::Buffer;
using ownership::Descriptor;

constexpr Expected kEndless = {.ends = false};
constexpr Expected kWaitsItsTurn = {.ends = false, .cancellable = false};
constexpr Expected kEndlessSent = {.bytes = Expected::Bytes::kAsSent,
                                   .ends = false};

// Where nothing writes, with room for any buffer.
Expected At(std::uint8_t where) {
  return {.bytes = Expected::Bytes::kOfFile,
          .offset = where * std::size_t{31} % (kFileBytes - kPieceBytes)};
}

void ReadFile(Program& program, const Action& action) {
  const Expected expected = At(action.b);
  program.WithBuffer(action.a, [&](auto buffer) {
    program.Keep(program.ring().Read(program.file(), std::move(buffer),
                                     expected.offset, program.Options(action)),
                 expected);
  });
}

void ReadPipe(Program& program, const Action& action) {
  program.WithBuffer(action.a, [&](auto buffer) {
    program.Keep(
        program.ring().Read(program.pipe().here, std::move(buffer),
                            safe::kCurrentPosition, program.Options(action)),
        kEndlessSent);
  });
}

void WriteFile(Program& program, const Action& action) {
  program.WithBuffer(action.a, [&](auto buffer) {
    program.Keep(program.ring().Write(program.scratch(), std::move(buffer),
                                      action.b, program.Options(action)));
  });
}

void WriteConstant(Program& program, const Action& action) {
  if ((action.a & 1) != 0) {
    program.Keep(program.ring().Write(program.scratch(),
                                      ownership::StaticBytes("constant"), 0));
    return;
  }
  const ownership::Shared<std::string> text(std::string(40, 'z'));
  for (int i = 0; i < 2; ++i) {
    program.Keep(program.ring().Write(program.scratch(),
                                      ownership::Shared<std::string>(text), 0,
                                      program.Options(action)));
  }
}

void WritePipe(Program& program, const Action& action) {
  program.Keep(
      program.ring().Write(program.pipe().there,
                           program.NewBuffer(1 + action.a % 64u, kSent),
                           safe::kCurrentPosition, program.Options(action)),
      kEndless);
}

void FeedPipe(Program& program, const Action& action) {
  Feed(program.pipe().there, 1 + action.a);
}

void Vectors(Program& program, const Action& action) {
  const Expected expected = At(action.b);
  if ((action.a & 1) != 0) {
    std::vector<Buffer> buffers;
    for (int i = 0; i < action.a % 12; ++i) {
      buffers.push_back(program.NewBuffer(5));
    }
    program.Start(
        safe::ReadVector<std::vector<Buffer>>{.file = program.file(),
                                              .buffers = std::move(buffers),
                                              .offset = expected.offset},
        action);
    return;
  }
  using Parts = std::array<std::string, 2>;
  program.Start(
      safe::WriteVector<Parts>{.file = program.scratch(),
                               .buffers = Parts{"short", std::string(30, 'x')},
                               .offset = action.b},
      action);
}

void Status(Program& program, const Action& action) {
  switch (action.a % 5) {
    case 0:
      program.Keep(program.ring().Statx(program.file()));
      break;
    case 1:
      program.Keep(program.ring().Statx("/nonexistent"));
      break;
    case 2:
      program.Keep(program.ring().Fsync(program.scratch()));
      break;
    case 3:
      program.Start(safe::Truncate{.file = program.scratch(), .length = 4096},
                    action);
      break;
    case 4:
      program.Start(safe::Allocate{.file = program.scratch(), .length = 4096},
                    action);
      break;
  }
}

void Open(Program& program, const Action& action) {
  program.Start(
      safe::Open{.path = (action.a & 1) != 0 ? "/dev/null" : "/nonexistent"},
      action);
}

void OpenPipe(Program& program, const Action& action) {
  program.Start(safe::Pipe{}, action);
}

// Waits for what is in flight on the file.
void Close(Program& program, const Action& action) {
  auto file = Descriptor::Adopt(
      ::fcntl(program.pipe().here.number(), F_DUPFD_CLOEXEC, 0));
  if ((action.a & 1) != 0) {
    program.Keep(program.ring().Read(file, program.NewBuffer()), kEndlessSent);
  }
  program.Keep(program.ring().Close(std::move(file)), kWaitsItsTurn);
}

void Splice(Program& program, const Action& action) {
  if ((action.a & 1) != 0) {
    program.Start(safe::Splice{.in = program.scratch(),
                               .in_offset = 0,
                               .out = program.scratch(),
                               .length = 8},
                  action);
    return;
  }
  program.Start(safe::Splice{.in = program.pipe().here,
                             .out = program.scratch(),
                             .out_offset = 0,
                             .length = action.b},
                action, kEndless);
}

void Poll(Program& program, const Action& action) {
  program.Start(safe::PollOnce{.file = program.pipe().here, .events = 1},
                action, kEndless);
}

void Futex(Program& program, const Action& action) {
  const ownership::FutexWord word(action.b & 1);
  program.Start(safe::FutexWait{.word = word, .expected = 0}, action, kEndless);
  if ((action.a & 1) == 0) return;
  word->store(1);
  program.Keep(program.ring().Start(safe::FutexWake{.word = word}));
}

// Slots.

void MakeSlot(Program& program, const Action& action) {
  safe::FileTable* const table = program.table();
  if (table == nullptr) return;
  switch (action.a % 4) {
    case 0: {
      auto put = table->Put(program.file());
      if (put) program.Keep(std::move(*put));
      break;
    }
    case 1:
      program.Start(safe::Direct<safe::Open>{.table = *table,
                                             .op = {.path = "/dev/null"}},
                    action);
      break;
    case 2:
      program.Start(safe::Direct<safe::Socket>{.table = *table, .op = {}},
                    action);
      break;
    case 3:
      program.Keep(program.ring().Start(
          safe::Direct<safe::Pipe>{.table = *table, .op = {}}));
      break;
  }
}

void UseSlot(Program& program, const Action& action) {
  auto& files = program.fixed_files();
  if (files.empty()) return;
  auto& file = files[action.a % files.size()];
  switch (action.b % 3) {
    case 0:
      program.Keep(program.ring().Read(file, program.NewBuffer(), 0,
                                       program.Options(action)),
                   kEndless);
      break;
    case 1:
      program.Keep(program.ring().Start(safe::InstallDescriptor{.file = file}));
      break;
    case 2:
      program.Keep(program.ring().Write(file, program.NewBuffer(8), 3000,
                                        program.Options(action)),
                   kEndless);
      break;
  }
}

void EndSlot(Program& program, const Action& action) {
  auto& files = program.fixed_files();
  if (files.empty()) return;
  std::swap(files[action.a % files.size()], files.back());
  if ((action.b & 1) != 0) {
    program.Keep(program.ring().Close(std::move(files.back())), kWaitsItsTurn);
  }
  files.pop_back();
}

constexpr Program::StepOf kSteps[] = {
    {kFiles, &ReadFile},      {kFiles, &ReadPipe},
    {kFiles, &WriteFile},     {kFiles, &WritePipe},
    {kFiles, &WriteConstant}, {kFiles, &FeedPipe},
    {kFiles, &Vectors},       {kFiles, &Status},
    {kFiles, &Open},          {kFiles, &OpenPipe},
    {kFiles, &Close},         {kFiles, &Splice},
    {kFiles, &Poll},          {kFiles, &Futex},
    {kTables, &MakeSlot},     {kTables, &UseSlot},
    {kTables, &EndSlot},      {kDeadlines, &ReadPipe},
    {kDeadlines, &Poll},      {kCoroutines, &ReadFile},
    {kCoroutines, &ReadPipe}, {kCoroutines, &FeedPipe},
    {kTeardown, &ReadPipe},   {kTeardown, &ReadFile},
    {kTeardown, &Close},
};

}  // namespace

std::span<const Program::StepOf> FileSteps() { return kSteps; }

}  // namespace escrow::fuzz
