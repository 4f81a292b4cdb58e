#ifndef ESCROW_EXAMPLES_SERVER_H_
#define ESCROW_EXAMPLES_SERVER_H_

#include <cstdint>
#include <functional>

#include "escrow/examples/failure.h"
#include "escrow/examples/stop_signals.h"
#include "escrow/examples/task.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/ring.h"

// What servers on the loopback interface have in common, whose connections are
// coroutines.

namespace escrow::examples {

// The port that a command line names.
Expected<std::uint16_t> ParsePort(const char* text);

// Listens on `port`, or on any free one if that is 0, and says so on standard
// output, as "listening on http://127.0.0.1:8080/" with `before` and `behind`
// around the numbers. Has `serve` begin each connection, until a signal has
// arrived; what is not over by then is destroyed.
Expected<void> Serve(
    safe::Ring& ring, const StopSignals& signals, std::uint16_t port,
    const char* before, const char* behind,
    const std::function<Task(ownership::Descriptor peer)>& serve);

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_SERVER_H_
