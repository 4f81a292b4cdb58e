// Steps of what has a system call of its own: paths, options, waits.

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "escrow/fuzz/check.h"
#include "escrow/fuzz/program.h"
#include "escrow/ownership/control_data.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/futex_word.h"
#include "escrow/ownership/mapping.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/command_ops.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/futex_ops.h"
#include "escrow/safe/mapping_ops.h"
#include "escrow/safe/message_ops.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/ring_ops.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/socket_option_ops.h"
#include "escrow/safe/wait_ops.h"

namespace escrow::fuzz {
namespace {

using ownership::Descriptor;
using ownership::SocketAddress;

constexpr Expected kEndless = {.ends = false};
constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD, which old headers lack

// Paths. All in a directory of the process's own, which has the same in it
// before each step, whatever has happened.

constexpr const char* kFile = "file";
constexpr const char* kOther = "other";
constexpr const char* kDirectory = "directory";

struct Folder {
  Folder() {
    const char* const scratch = std::getenv("TEST_TMPDIR");
    path = std::string(scratch == nullptr ? "/tmp" : scratch) +
           "/escrow_fuzz_XXXXXX";
    ESCROW_REQUIRE(::mkdtemp(path.data()) != nullptr);
    descriptor = Descriptor::Adopt(
        ::open(path.c_str(), O_DIRECTORY | O_PATH | O_CLOEXEC));
    std::atexit([] {
      Get().Empty();
      ::rmdir(Get().path.c_str());
    });
  }
  static Folder& Get() {
    static auto& folder = *new Folder;
    return folder;
  }
  void Empty() const {
    const int number = descriptor.number();
    for (const char* const name : {kFile, kOther, kDirectory}) {
      if (::unlinkat(number, name, 0) != 0) {
        (void)::unlinkat(number, name, AT_REMOVEDIR);
      }
    }
  }
  void Prepare() const {
    Empty();
    const int file = ::openat(descriptor.number(), kFile,
                              O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (file >= 0) ::close(file);
  }

  std::string path;
  Descriptor descriptor;
};

// Not there, or not a path.
std::string Missing(std::uint8_t how) {
  return (how & 1) != 0 ? "/nonexistent" : std::string("with\0in it", 10);
}

void Path(Program& program, const Action& action) {
  const Folder& folder = Folder::Get();
  folder.Prepare();
  const Descriptor& in = folder.descriptor;
  const bool missing = (action.b & 3) == 3;
  const std::string file = missing ? Missing(action.b / 4) : kFile;
  const std::string other = kOther;
  switch (action.a % 10) {
    case 0:
      program.Start(safe::Open{.directory = in,
                               .path = file,
                               .flags = O_RDWR | O_CREAT,
                               .mode = 0600,
                               .resolve = action.b % 2u},
                    action);
      break;
    case 1:
      program.Start(safe::Rename{.from_directory = in,
                                 .from = file,
                                 .to_directory = in,
                                 .to = other},
                    action);
      break;
    case 2:
      program.Start(safe::Unlink{.directory = in, .path = file}, action);
      break;
    case 3:
      program.Start(safe::MakeDirectory{.directory = in,
                                        .path = missing ? file : kDirectory},
                    action);
      break;
    case 4:
      program.Start(
          safe::Symlink{.target = file, .directory = in, .path = other},
          action);
      break;
    case 5:
      program.Start(safe::Link{.from_directory = in,
                               .from = file,
                               .to_directory = in,
                               .to = other},
                    action);
      break;
    case 6:
      program.Start(safe::Stat{.directory = in, .path = file}, action);
      break;
    case 7:
      program.Start(
          safe::GetXattr<std::string>{.path = folder.path + "/" + kFile,
                                      .name = missing ? file : "user.escrow",
                                      .value = std::string(20, '-')},
          action);
      break;
    case 8:
      program.Start(safe::SetXattr{.path = folder.path + "/" + kFile,
                                   .name = missing ? file : "user.escrow",
                                   .value = "value"},
                    action);
      break;
    case 9:
      program.Keep(program.ring().Statx(file));
      break;
  }
}

// Files.

void OfFile(Program& program, const Action& action) {
  const Descriptor& file = program.scratch();
  switch (action.a % 10) {
    case 0:
      program.Start(
          safe::Sync{.file = file,
                     .mode = (action.b & 1) != 0 ? safe::SyncMode::kData
                                                 : safe::SyncMode::kAll},
          action);
      break;
    case 1:
      program.Start(
          safe::SyncRange{
              .file = file, .length = 100, .flags = SYNC_FILE_RANGE_WRITE},
          action);
      break;
    case 2:
      program.Start(safe::Advise{.file = file, .advice = POSIX_FADV_WILLNEED},
                    action);
      break;
    case 3:
      program.Start(safe::StatFile{.file = file}, action);
      break;
    case 4:
      program.Start(
          safe::GetFileXattr<std::string>{.file = file,
                                          .name = "user.escrow",
                                          .value = std::string(8, '-')},
          action);
      break;
    case 5:
      program.Start(safe::SetFileXattr{.file = file,
                                       .name = (action.b & 1) != 0
                                                   ? Missing(0)
                                                   : std::string("user.escrow"),
                                       .value = "value"},
                    action);
      break;
    case 6:
      program.Start(safe::Tee{.in = program.pipe().here,
                              .out = program.pipe().there,
                              .length = action.b},
                    action, kEndless);
      break;
    case 7:
      program.Start(safe::Read<std::string>{.file = file,
                                            .buffer = std::string(10, '-'),
                                            .offset = 0,
                                            .flags = RWF_NOWAIT},
                    action);
      break;
    case 8:
      program.Start(safe::Write<std::string>{.file = file,
                                             .buffer = std::string(10, '-'),
                                             .offset = 0,
                                             .flags = RWF_DSYNC},
                    action);
      break;
    case 9:
      program.Start(
          safe::UringCommand{
              .file = file,
              .command = 1,
              .buffer = std::string(16, '-'),
              .make = [](const std::byte*, std::size_t size) { return size; },
              .buffer_in_entry = (action.b & 1) != 0},
          action);
      break;
  }
}

void OfMapping(Program& program, const Action& action) {
  auto mapping = (action.b & 1) != 0
                     ? ownership::Mapping::Anonymous(8192)
                     : ownership::Mapping::OfFile(program.file(), 4096,
                                                  {.protection = PROT_READ});
  ESCROW_REQUIRE(mapping.has_value());
  MoveAbout(*mapping);
  auto operation = program.ring().Start(
      safe::AdviseMapping{.mapping = std::move(*mapping),
                          .offset = (action.b & 2) != 0 ? 4096u : 0u,
                          .advice = MADV_WILLNEED},
      program.Options(action));
  // It is not looked into: it may be read only.
  auto [result, back] = program.ring().Wait(std::move(operation));
  if (result) ESCROW_REQUIRE(back.size() >= 4096);
}

// Sockets.

void SendWith(Program& program, const Action& action,
              ownership::ControlData control) {
  program.Start(
      safe::SendMessage<std::string>{
          .socket = program.stream().there,
          .message = {.bytes = std::string(3, static_cast<char>(kSent)),
                      .control = std::move(control)}},
      action, kEndless);
}

void OfSocket(Program& program, const Action& action) {
  const Descriptor& socket =
      (action.b & 1) != 0 ? program.stream().here : program.datagrams();
  switch (action.a % 10) {
    case 0:
      program.Start(
          safe::SetSocketOption<int>{
              .socket = socket, .option = SO_RCVBUF, .value = 8192},
          action);
      break;
    case 1:
      program.Start(
          safe::GetSocketOption<int>{.socket = socket, .option = SO_RCVBUF},
          action);
      break;
    case 2:
      program.Start(
          safe::GetSocketOption<Descriptor>{.socket = program.stream().here,
                                            .option = kPeerPidfd},
          action);
      break;
    case 3:
      program.Start(
          safe::GetSocketName{.socket = socket, .peer = (action.b & 2) != 0},
          action);
      break;
    case 4:
      program.Start(safe::ReceivableBytes{.socket = socket}, action);
      break;
    case 5:
      program.Start(safe::UnsentBytes{.socket = socket}, action);
      break;
    case 6: {
      sockaddr_in address = {};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      const auto made = Descriptor::Adopt(
          ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      program.Start(
          safe::Bind{.socket = made, .address = SocketAddress(address)},
          action);
      program.Start(safe::Listen{.socket = made}, action);
      program.Start(safe::Accept{.socket = made}, action, kEndless);
      break;
    }
    case 7:
      program.Start(
          safe::SetSocketOption<std::string>{.socket = program.datagrams(),
                                             .option = SO_BINDTODEVICE,
                                             .value = "lo"},
          action);
      break;
    case 8: {
      // Control data that unix sockets do not know.
      ownership::ControlData control;
      const int mark = action.b;
      control.Add(SOL_SOCKET, SO_MARK, std::as_bytes(std::span(&mark, 1)));
      if ((action.b & 2) != 0) control.Clear();
      SendWith(program, action, std::move(control));
      break;
    }
    case 9: {
      // What comes with descriptors, and who looks at them.
      ownership::ControlData control;
      control.Pass(program.file());
      control.Pass(program.scratch());
      SendWith(program, action, std::move(control));
      safe::IncomingMessage<std::string> room = {
          .bytes = std::string(8, '-'),
          .control = ownership::ControlRoom(
              ownership::ControlRoom::For(2 * sizeof(int)))};
      program.ring()
          .Start(safe::ReceiveMessage<std::string>{
              .socket = program.stream().here, .message = std::move(room)})
          .Then([](auto, auto message) {
            for (const ownership::ControlMessage& each : message.control) {
              (void)each.As<int>();
            }
            (void)message.control.TakePidfd();
            const Descriptor first = message.control.TakeDescriptor();
            ownership::ControlRoom moved;
            moved = std::move(message.control);
            moved.Clear();
          });
      break;
    }
  }
}

// Waits.

void Timers(Program& program, const Action& action) {
  // From now on, or of a clock that is past it.
  const std::chrono::nanoseconds second = std::chrono::seconds(1);
  constexpr ::clockid_t kClocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME,
                                     CLOCK_BOOTTIME};
  auto timer =
      program.ring().Start(safe::Timeout{.time = second,
                                         .absolute = (action.a & 1) != 0,
                                         .clock = kClocks[action.b % 3]},
                           program.Options(action));
  if ((action.a & 2) != 0) {
    program.Keep(program.ring().Start(
        safe::UpdateTimeout{.timeout = timer,
                            .time = std::chrono::microseconds(action.b),
                            .absolute = (action.a & 4) != 0}));
  }
  program.Keep(std::move(timer));
}

void Waits(Program& program, const Action& action) {
  switch (action.a % 4) {
    case 0:
      program.Start(safe::WaitId{}, action, kEndless);
      break;
    case 1: {
      const auto epoll = Descriptor::Adopt(::epoll_create1(EPOLL_CLOEXEC));
      program.Start(
          safe::EpollControl{.epoll = epoll,
                             .file = program.pipe().here,
                             .event = {.events = EPOLLIN, .data = {}}},
          action, kEndless);
      program.Start(
          safe::EpollWait<std::array<::epoll_event, 2>>{.epoll = epoll,
                                                        .events = {}},
          action, kEndless);
      break;
    }
    case 2: {
      const ownership::FutexWord first(0);
      const ownership::FutexWord second(action.b & 1);
      using Words = std::array<safe::WatchedWord, 2>;
      program.Start(
          safe::FutexWaitAny<Words>{
              .words = Words{safe::WatchedWord{.word = first},
                             safe::WatchedWord{.word = second}}},
          action, kEndless);
      if ((action.b & 2) != 0) {
        first->store(1);
        program.Start(safe::FutexWake{.word = first}, action, kEndless);
      }
      break;
    }
    case 3: {
      using Words = std::vector<safe::WatchedWord>;
      Words words;
      for (int i = 0; i < action.b % 12; ++i) {
        words.push_back({.word = ownership::FutexWord(0)});
      }
      if (words.empty()) words.push_back({.word = ownership::FutexWord(1)});
      program.Start(safe::FutexWaitAny<Words>{.words = std::move(words)},
                    action, kEndless);
      break;
    }
  }
}

// Any of what is held here, all of them, in any way there is.
void WaitForSeveral(Program& program, const Action& action) {
  safe::Ring& ring = program.ring();
  auto nop = ring.Nop();
  auto read = ring.Read(program.pipe().here, std::string(4, '-'));
  switch (action.a % 4) {
    case 0:
      ESCROW_REQUIRE(ring.WaitAny(nop, read) < 2);
      break;
    case 1: {
      std::vector<safe::Operation<safe::Result<void>>> nops;
      for (int i = 0; i < 3; ++i) nops.push_back(ring.Nop());
      ESCROW_REQUIRE(ring.WaitAny(std::span(std::as_const(nops))) < 3);
      break;
    }
    case 2:
      (void)ring.WaitAtMost(std::chrono::microseconds(1), read);
      break;
    case 3:
      program.Keep(ring.CancelAll());
      break;
  }
  // Handles may be moved about, also onto each other.
  auto elsewhere = std::move(nop);
  nop = ring.Nop();
  nop = std::move(elsewhere);
  std::move(nop).Detach();
  program.Keep(std::move(read), kEndless);
}

// Slots that another ring fills.
void Reserved(Program& program, const Action& action) {
  safe::FileTable* const table = program.table();
  if (table == nullptr) return;
  auto slot = table->Reserve();
  if (!slot) return;
  auto made = safe::Ring::Create({.entries = 4});
  ESCROW_REQUIRE(made.has_value());
  auto other_table = safe::FileTable::Create(*made);
  if (!other_table) return;
  auto file = other_table->Put(program.file());
  if (!file) return;
  auto sending =
      made->Start(safe::SendFileToRing{.file = *file, .to = std::move(*slot)});
  if ((action.a & 1) != 0) return;  // with the ring
  auto [sent, back] = made->Wait(std::move(sending));
  if (!sent || (action.a & 2) != 0) return;
  auto taken = table->Take(std::move(back));
  if (taken) program.Keep(std::move(*taken));
}

constexpr Program::StepOf kSteps[] = {
    {kSystem, &Path},           {kSystem, &OfFile},   {kSystem, &OfMapping},
    {kSystem, &OfSocket},       {kSystem, &Timers},   {kSystem, &Waits},
    {kSystem, &WaitForSeveral}, {kSystem, &Reserved},
};

}  // namespace

std::span<const Program::StepOf> SystemSteps() { return kSteps; }

}  // namespace escrow::fuzz
