#ifndef ESCROW_EXAMPLES_STOP_SIGNALS_H_
#define ESCROW_EXAMPLES_STOP_SIGNALS_H_

#include <csignal>

#include "escrow/examples/failure.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/ring.h"

// SIGINT, SIGTERM and SIGHUP as completions of a ring, so that a program can
// tidy up before it ends.

namespace escrow::examples {

// Holds the signals back from their default effect, for as long as it lives.
// Must outlive `ring`.
class StopSignals {
 public:
  StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals();

  // Has `ring` watch for them.
  Expected<void> Watch(safe::Ring& ring);

  // The signal that arrived, or 0.
  int arrived() const noexcept { return arrived_; }

 private:
  ::sigset_t signals_;
  ::sigset_t mask_before_;
  ownership::Descriptor descriptor_;
  int arrived_ = 0;
};

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_STOP_SIGNALS_H_
