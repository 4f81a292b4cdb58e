#ifndef ESCROW_EXAMPLES_LISTENER_H_
#define ESCROW_EXAMPLES_LISTENER_H_

#include <cstdint>

#include "escrow/examples/failure.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/ring.h"

// Where the example servers take their connections.

namespace escrow::examples {

struct Listener {
  ownership::Descriptor socket;
  std::uint16_t port;
};

// A TCP socket that listens on the loopback interface; on any free port if
// `port` is 0.
Expected<Listener> ListenOnLoopback(safe::Ring& ring, std::uint16_t port);

// The port that a command line names.
Expected<std::uint16_t> ParsePort(const char* text);

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_LISTENER_H_
