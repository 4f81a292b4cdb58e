#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "tests/conformance/measure.h"
#include "tests/conformance/scripts.h"
#include "tests/conformance/stage.h"

// Scripts for raw/ops_ring.h.

namespace escrow::testing {
namespace {

void CancelFd(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  stage.Start(raw::PollAdd{.fd = pipe.ours, .events = POLLIN});
  stage.Run(raw::CancelFd{.fd = stage.File("fd", pipe.ours)}, "0");
}

void FilesUpdate(Stage& stage) {
  stage.FileTable();
  stage.Run(raw::FilesUpdate{.fds = stage.Value<int>(
                                 "fds", stage.Own(TextFile("hello"))),
                             .count = 1,
                             .offset = 0},
            "1");
}

raw::ProvideBuffers TwoBuffers(void* memory) {
  return {.buffers = memory, .length = 64, .count = 2, .group = Stage::kGroup};
}

void RemoveTwoBuffers(Stage& stage) {
  stage.Do(raw::RemoveBuffers{.count = 2, .group = Stage::kGroup});
}

// A read takes a buffer. Buffers cannot be added so to a group that is a ring.
void ProvideBuffers(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  WriteTo(pipe.theirs, "hello");
  void* const other = stage.Scratch(64 * (Stage::kGroupBuffers + 1));
  stage.Handle("group", [&stage, other] {
    stage.RegisterGroup(other, 64, Stage::kOtherBuffers);
  });
  stage.Run(TwoBuffers(stage.SharedMemory("buffers", 128)), "0 5#0");
  stage.Then([] {}, raw::ReadSelected{.fd = stage.Own(pipe.ours),
                                      .group = Stage::kGroup});
  stage.AtEnd([&stage] { RemoveTwoBuffers(stage); });
}

void RemoveBuffers(Stage& stage) {
  Must(stage.Do(TwoBuffers(stage.Scratch(128))) >= 0, "provide buffers");
  stage.Handle("group", [&stage] { RemoveTwoBuffers(stage); });
  stage.Run(raw::RemoveBuffers{.count = 2, .group = Stage::kGroup}, "2");
  stage.AtEnd([&stage] { RemoveTwoBuffers(stage); });
}

// What messages are sent to. Forgets them at the end.
raw::Ring& OtherRing(Stage& stage) {
  static auto& other = *new auto(raw::Ring::Create({.entries = 4}));
  Must(other.has_value(), "io_uring_setup");
  stage.AtEnd([] { other->Advance(other->completions().entries()); });
  return *other;
}

void MsgRing(Stage& stage) {
  stage.Run(raw::MsgRing{.ring = stage.Descriptor(
                             "ring", dup(OtherRing(stage).get()->ring_fd)),
                         .data = 1},
            "0");
}

void MsgRingFd(Stage& stage) {
  io_uring* const other = OtherRing(stage).get();
  Must(io_uring_register_files_sparse(other, 1) == 0,
       "io_uring_register_files_sparse");
  stage.AtEnd([other] { io_uring_unregister_files(other); });
  stage.Handle("into", [other] { io_uring_unregister_files(other); });
  stage.Run(
      raw::MsgRingFd{.ring = stage.Descriptor("ring", dup(other->ring_fd)),
                     .source = stage.Slot("source", TextFile("hello")),
                     .into = raw::FixedFile{0},
                     .data = 1},
      "0");
}

// /dev/null takes any command, and does nothing.
int NullDevice() { return open("/dev/null", O_RDWR | O_CLOEXEC); }

template <typename Op>
void Command(Stage& stage) {
  stage.Run(Op{.fd = stage.File("fd", NullDevice()), .command = 0}, "0");
}

// setsockopt(2), whose payload is the address of the value. Its length is in a
// field of the entry that commands in general do not have.
template <typename Op>
void CommandPayload(Stage& stage) {
  Op op = {.fd = stage.Own(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
           .command = SOCKET_URING_OP_SETSOCKOPT};
  const int* const value = stage.Value<int>("payload", 1);
  std::memcpy(op.payload.bytes, &value, sizeof(value));
  stage.Run(op, "0");
  stage.Patch([](io_uring_sqe* sqe) {
    sqe->level = SOL_SOCKET;
    sqe->optname = SO_KEEPALIVE;
    sqe->optlen = sizeof(*value);
  });
}

void BlockDiscard(Stage& stage) {
  stage.Run(
      raw::BlockDiscard{
          .fd = stage.File("fd", NullDevice()), .offset = 0, .length = 4096},
      "0");
}

}  // namespace

std::vector<NamedScript> RingScripts() {
  constexpr std::uint32_t kBig = IORING_SETUP_SQE128;
  return {
      {"CancelFd", CancelFd},
      {"FilesUpdate", FilesUpdate},
      {"ProvideBuffers", ProvideBuffers},
      {"RemoveBuffers", RemoveBuffers},
      {"MsgRing", MsgRing},
      {"MsgRingFd", MsgRingFd},
      {"UringCmd", Command<raw::UringCmd>},
      {"UringCmd", CommandPayload<raw::UringCmd>},
      {"UringCmd128", Command<raw::UringCmd128>, kBig},
      {"UringCmd128", CommandPayload<raw::UringCmd128>, kBig},
      {"UringCmdBig", Command<raw::UringCmdBig>, kBig},
      {"UringCmdBig", CommandPayload<raw::UringCmdBig>, kBig},
      {"BlockDiscard", BlockDiscard},
  };
}

}  // namespace escrow::testing
