#include "escrow/examples/stop_signals.h"

#include <sys/signalfd.h>

#include <array>
#include <csignal>
#include <cstddef>

#include "escrow/examples/failure.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/ring.h"

namespace escrow::examples {

StopSignals::StopSignals() {
  ::sigemptyset(&signals_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct ::sigaction action = {};
    // One that is ignored, as nohup(1) does it, is to stay so; a signalfd would
    // report it.
    if (::sigaction(signal, nullptr, &action) == 0 &&
        action.sa_handler != SIG_IGN) {
      ::sigaddset(&signals_, signal);
    }
  }
  ::sigprocmask(SIG_BLOCK, &signals_, &mask_before_);
}

StopSignals::~StopSignals() {
  ::sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
}

Expected<void> StopSignals::Watch(safe::Ring& ring) {
  const int number = ::signalfd(-1, &signals_, SFD_CLOEXEC);
  if (number < 0) return FailedCall("signals", "signalfd");
  descriptor_ = ownership::Descriptor::Adopt(number);
  using Info = std::array<signalfd_siginfo, 1>;
  ring.Read(descriptor_, Info{})
      .Then([this](const safe::Result<std::size_t>& size, const Info& info) {
        // Being stopped by what should tell of it is better than not at all.
        arrived_ = size ? static_cast<int>(info[0].ssi_signo) : SIGTERM;
      });
  return {};
}

}  // namespace escrow::examples
