#include "escrow/examples/session.h"

#include <chrono>
#include <optional>
#include <vector>

#include "escrow/examples/failure.h"
#include "escrow/examples/task.h"

namespace escrow::examples {

Expected<void> Session::Turn() {
  if (auto ran = ring_.Dispatch(std::chrono::milliseconds(100)); !ran) {
    return Failed("ring", ran.error());
  }
  settings_.progress(progress_);
  if (settings_.stopped()) return Failed("stopped", "by a signal");
  return {};
}

Expected<void> Session::Run(const std::vector<Task>& tasks,
                            const std::optional<Failure>& failure) {
  for (const Task& task : tasks) {
    while (!task.done() && !failure) {
      if (auto turned = Turn(); !turned) return turned;
    }
  }
  if (failure) return std::unexpected(*failure);
  return {};
}

}  // namespace escrow::examples
