#ifndef ESCROW_TESTS_CONFORMANCE_SCRIPTS_H_
#define ESCROW_TESTS_CONFORMANCE_SCRIPTS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <string_view>
#include <vector>

#include "tests/conformance/measure.h"
#include "tests/conformance/stage.h"

// The scripts, by the headers of the operations, and what they share.

namespace escrow::testing {

std::vector<NamedScript> FileScripts();
std::vector<NamedScript> PathScripts();
std::vector<NamedScript> RingScripts();
std::vector<NamedScript> RwScripts();
std::vector<NamedScript> SocketScripts();
std::vector<NamedScript> TransferScripts();
std::vector<NamedScript> WaitScripts();

// Descriptors below are the caller's unless a stage is given, which then closes
// them.

// A file without a name, with `content` and at its start.
int TextFile(std::string_view content);
// What a file has from its start on, of at most 64 bytes.
std::string ContentOf(int descriptor);

// What is ready to be read from a pipe or socket, of at most 64 bytes.
std::string ReadFrom(int descriptor);
void WriteTo(int descriptor, std::string_view text);

struct Ends {
  int ours;    // the read end, of a pipe
  int theirs;  // the write end, of a pipe; closed by the stage
};
Ends MakePipe(Stage& stage);
// AF_UNIX.
Ends MakeSocketPair(Stage& stage, int type);
// AF_INET, over the loopback device; both are bound.
Ends MakeUdpPair(Stage& stage);

// An address of the loopback device.
sockaddr_in Loopback();
sockaddr_in AddressOf(int socket);
inline sockaddr* Generic(sockaddr_in* address) {
  return reinterpret_cast<sockaddr*>(address);
}

// A TCP socket that listens on the loopback device.
int MakeListener();
// A TCP socket that is connected to it, or being connected.
int ConnectTo(int listener);

}  // namespace escrow::testing

#endif  // ESCROW_TESTS_CONFORMANCE_SCRIPTS_H_
