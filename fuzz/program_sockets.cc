#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <utility>

#include "escrow/fuzz/program.h"
#include "escrow/ownership/control_data.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/message_ops.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/socket_option_ops.h"
#include "escrow/safe/stream_ops.h"
#include "escrow/safe/zero_copy_ops.h"

namespace escrow::fuzz {
namespace {

using ownership::Buffer;
using ownership::Descriptor;

constexpr Expected kEndless = {.ends = false};
constexpr Expected kEndlessSent = {.bytes = Expected::Bytes::kAsSent,
                                   .ends = false};

const Descriptor& AnySocket(Program& program, const Action& action) {
  return (action.b & 1) != 0 ? program.datagrams() : program.stream().here;
}

void Receive(Program& program, const Action& action) {
  program.WithBuffer(action.a, [&]<typename B>(B buffer) {
    program.Start(
        safe::Receive<B>{.socket = AnySocket(program, action),
                         .buffer = std::move(buffer),
                         .flags = (action.b & 2) != 0 ? MSG_WAITALL : 0},
        action, kEndlessSent);
  });
}

void Send(Program& program, const Action& action) {
  const bool datagram = (action.b & 1) != 0;
  program.Start(
      safe::Send<Buffer>{
          .socket = datagram ? program.datagrams() : program.stream().there,
          .buffer = program.NewBuffer(1 + action.a % 64u, kSent)},
      action, kEndless);
}

void SendLease(Program& program, const Action& action) {
  if (auto lease = program.TakeLease()) {
    for (std::size_t i = 0; i < lease->size(); ++i) (*lease)[i] = kSent;
    program.Start(safe::Send<ownership::Lease>{.socket = program.stream().there,
                                               .buffer = std::move(*lease)},
                  action, kEndless);
  }
}

void FeedStream(Program& program, const Action& action) {
  Feed(program.stream().there, 1 + action.a);
}

void FeedDatagrams(Program& program, const Action& action) {
  Feed(program.datagrams(), 1 + action.a % 64u);
}

// With a descriptor, maybe.
void SendMessage(Program& program, const Action& action) {
  using Parts = std::tuple<std::string, Buffer>;
  safe::OutgoingMessage<Parts> message = {
      .bytes = {std::string(5, static_cast<char>(kSent)),
                program.NewBuffer(7, kSent)}};
  if ((action.a & 1) != 0) message.control.Pass(program.file());
  program.Start(safe::SendMessage<Parts>{.socket = program.stream().there,
                                         .message = std::move(message)},
                action, kEndless);
}

void ReceiveMessage(Program& program, const Action& action) {
  safe::IncomingMessage<Buffer> message = {.bytes = program.NewBuffer()};
  if ((action.a & 1) != 0) {
    message.control =
        ownership::ControlRoom(ownership::ControlRoom::For(2 * sizeof(int)));
  }
  program.Start(
      safe::ReceiveMessage<Buffer>{.socket = AnySocket(program, action),
                                   .message = std::move(message)},
      action, kEndless);
}

void Accept(Program& program, const Action& action) {
  program.Start(safe::Accept{.socket = program.listener()}, action, kEndless);
}

void Connect(Program& program, const Action& action) {
  if ((action.a & 1) != 0) {
    program.ConnectToListener();
    return;
  }
  auto socket = Descriptor::Adopt(
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  program.Start(
      safe::Connect{.socket = socket, .address = program.listener_address()},
      action, kEndless);
}

void MakeSocket(Program& program, const Action& action) {
  if ((action.a & 1) != 0) {
    program.Keep(program.ring().Start(
        safe::SetSocketOption<int>{.socket = program.stream().here,
                                   .level = SOL_SOCKET,
                                   .option = SO_RCVBUF,
                                   .value = 4096}));
    return;
  }
  program.Start(safe::Socket{}, action);
}

void Shutdown(Program& program, const Action& action) {
  program.Keep(program.ring().Start(
      safe::Shutdown{.socket = program.stream().there, .how = action.a % 3}));
}

void SendZeroCopy(Program& program, const Action& action) {
  program.ExpectUnknown();
  program.WithBuffer(action.a, [&]<typename B>(B buffer) {
    using Memory = ownership::OwnedMemory<B>;
    std::byte* const data = Memory::Data(buffer);
    for (std::size_t i = 0; i < Memory::Size(buffer); ++i) data[i] = kSent;
    // Of registered memory it is refused, at compile time.
    if constexpr (requires { sizeof(safe::SendZeroCopy<B>); }) {
      program.Start(safe::SendZeroCopy<B>{.socket = program.datagrams(),
                                          .buffer = std::move(buffer)},
                    action, kEndless);
    }
  });
}

// Streams.

void AcceptMany(Program& program, const Action& action) {
  safe::FileTable* const table =
      (action.a & 1) != 0 ? program.table() : nullptr;
  if (table != nullptr) {
    program.Keep(program.ring().Start(safe::Direct<safe::AcceptMany>{
        .table = *table, .op = {.socket = program.listener()}}));
    return;
  }
  program.Keep(
      program.ring().Start(safe::AcceptMany{.socket = program.listener()},
                           {.unread_limit = 1 + action.b % 4u}));
}

void PollMany(Program& program, const Action& action) {
  program.Keep(program.ring().Start(
      safe::PollMany{.file = program.pipe().here, .events = POLLIN},
      {.unread_limit = 1 + action.b % 4u}));
}

void Tick(Program& program, const Action& action) {
  program.Keep(program.ring().Start(
      safe::Tick{.period = std::chrono::microseconds(1 + action.a),
                 .count = 1 + action.b % 4u},
      {.unread_limit = 1 + action.c % 4u}));
}

constexpr Program::StepOf kSteps[] = {
    {kSockets, &Receive},        {kSockets, &Send},
    {kSockets, &SendLease},      {kSockets, &FeedStream},
    {kSockets, &FeedDatagrams},  {kSockets, &SendMessage},
    {kSockets, &ReceiveMessage}, {kSockets, &Accept},
    {kSockets, &Connect},        {kSockets, &MakeSocket},
    {kSockets, &Shutdown},       {kZeroCopy, &SendZeroCopy},
    {kZeroCopy, &FeedDatagrams}, {kStreams, &AcceptMany},
    {kStreams, &PollMany},       {kStreams, &Tick},
    {kStreams, &Connect},        {kGroups, &FeedStream},
    {kGroups, &SendLease},       {kTeardown, &SendZeroCopy},
    {kTeardown, &Tick},          {kCoroutines, &Tick},
};

}  // namespace

std::span<const Program::StepOf> SocketSteps() { return kSteps; }

}  // namespace escrow::fuzz
