#include "tests/conformance/scripts.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <vector>

#include "tests/conformance/measure.h"
#include "tests/conformance/stage.h"

namespace escrow::testing {

const std::vector<NamedScript>& AllScripts() {
  static const auto& scripts = *[] {
    auto* all = new std::vector<NamedScript>;
    for (const auto& some :
         {FileScripts(), PathScripts(), RingScripts(), RwScripts(),
          SocketScripts(), TransferScripts(), WaitScripts()}) {
      all->insert(all->end(), some.begin(), some.end());
    }
    return all;
  }();
  return scripts;
}

const std::vector<NotMeasured>& AllNotMeasured() {
  constexpr const char* kProtection =
      "needs a block device with protection information";
  constexpr const char* kCard =
      "needs a network card with a zero-copy receive queue";
  constexpr const char* kDriver =
      "needs a driver whose commands use it: NVMe, ublk";
  static const auto& rows = *new std::vector<NotMeasured>{
      {"*", "protection", kProtection},
      {"RecvZeroCopy", "fd", kCard},
      {"RecvZeroCopy", "interface_queue", kCard},
      {"UringCmd", "address", kDriver},
      {"UringCmd", "buffer_index", kDriver},
      {"UringCmd128", "address", kDriver},
      {"UringCmd128", "buffer_index", kDriver},
      {"UringCmdBig", "address", kDriver},
      {"UringCmdBig", "buffer_index", kDriver},
  };
  return rows;
}

int TextFile(std::string_view content) {
  const int file = memfd_create("file", MFD_CLOEXEC);
  Must(file >= 0, "memfd_create");
  WriteTo(file, content);
  Must(lseek(file, 0, SEEK_SET) == 0, "lseek");
  return file;
}

std::string ContentOf(int descriptor) {
  char content[64];
  const ssize_t size = pread(descriptor, content, sizeof(content), 0);
  Must(size >= 0, "pread");
  return std::string(content, static_cast<std::size_t>(size));
}

std::string ReadFrom(int descriptor) {
  Must(fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0, "fcntl");
  char content[64];
  const ssize_t size = read(descriptor, content, sizeof(content));
  return size < 0 ? "" : std::string(content, static_cast<std::size_t>(size));
}

void WriteTo(int descriptor, std::string_view text) {
  Must(write(descriptor, text.data(), text.size()) ==
           static_cast<ssize_t>(text.size()),
       "write");
}

namespace {

// Keeps our end open when its descriptor is revoked, so that writing to theirs
// goes on.
Ends Both(Stage& stage, const int (&ends)[2]) {
  stage.Own(dup(ends[0]));
  return {ends[0], stage.Own(ends[1])};
}

}  // namespace

Ends MakePipe(Stage& stage) {
  int ends[2];
  Must(pipe2(ends, O_CLOEXEC) == 0, "pipe2");
  return Both(stage, ends);
}

Ends MakeSocketPair(Stage& stage, int type) {
  int ends[2];
  Must(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
  return Both(stage, ends);
}

sockaddr_in Loopback() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

sockaddr_in AddressOf(int socket) {
  sockaddr_in address = {};
  socklen_t size = sizeof(address);
  Must(getsockname(socket, Generic(&address), &size) == 0, "getsockname");
  return address;
}

Ends MakeUdpPair(Stage& stage) {
  const auto make = [] {
    const int made = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = Loopback();
    Must(made >= 0 && bind(made, Generic(&address), sizeof(address)) == 0,
         "bind");
    return made;
  };
  const int ends[2] = {make(), make()};
  return Both(stage, ends);
}

int MakeListener() {
  const int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback();
  Must(made >= 0 && bind(made, Generic(&address), sizeof(address)) == 0 &&
           listen(made, 16) == 0,
       "listen");
  return made;
}

int ConnectTo(int listener) {
  const int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = AddressOf(listener);
  Must(made >= 0 && connect(made, Generic(&address), sizeof(address)) == 0,
       "connect");
  return made;
}

}  // namespace escrow::testing
