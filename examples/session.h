#ifndef ESCROW_EXAMPLES_SESSION_H_
#define ESCROW_EXAMPLES_SESSION_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/examples/failure.h"
#include "escrow/examples/task.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/ring.h"

// What generating, copying and verifying a file have in common: a ring, how
// hard to drive it, and turns of it in which progress is shown and a request to
// stop is noticed.

namespace escrow::examples {

struct Progress {
  const char* doing = "";
  std::uint64_t done = 0;  // bytes
  std::uint64_t total = 0;
};

// When Settings::at is called.
enum class Moment : std::uint8_t {
  kBlock,   // before a block is copied
  kEnd,     // all of the source is copied, unless it has grown meanwhile
  kSync,    // before the copy is forced to the disk
  kVerify,  // before the copy is compared
  kClose,   // before the copy is closed
  kRename,  // before the copy gets its name
};

struct Settings {
  std::size_t depth = 32;  // blocks in flight
  std::size_t block_size = 128 * 1024;

  // Called several times per second while there is something to wait for.
  std::function<void(const Progress&)> progress = [](const Progress&) {};

  // Whether to give up. Asked as often.
  std::function<bool()> stopped = [] { return false; };

  // Other programs may change files at any moment; this is for those who want
  // that to happen at a certain one.
  std::function<void(Moment)> at = [](Moment) {};
};

class Session {
 public:
  Session(safe::Ring& ring, Settings settings)
      : ring_(ring), settings_(std::move(settings)) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  safe::Ring& ring() noexcept { return ring_; }
  std::size_t depth() const noexcept { return settings_.depth; }
  std::size_t block_size() const noexcept { return settings_.block_size; }
  Progress& progress() noexcept { return progress_; }
  void At(Moment moment) { settings_.at(moment); }

  // How many blocks of `bytes` bytes can be in flight: no more than there are.
  std::size_t DepthFor(std::uint64_t bytes) const noexcept {
    const std::uint64_t blocks =
        bytes / block_size() + (bytes % block_size() != 0 ? 1 : 0);
    return blocks < depth() ? static_cast<std::size_t>(blocks) : depth();
  }

  // Runs what the ring has ready, after waiting for it for a moment at most.
  // Fails when the work is to be given up.
  Expected<void> Turn();

  // Waits for one operation.
  template <typename T>
  Expected<T> Wait(const std::string& what,
                   safe::Operation<safe::Result<T>> operation) {
    while (!operation.done()) {
      if (auto turned = Turn(); !turned) return std::unexpected(turned.error());
    }
    safe::Result<T> result = std::move(operation).Take();
    if (!result) return Failed(what, result.error());
    if constexpr (std::is_void_v<T>) {
      return {};
    } else {
      return *std::move(result);
    }
  }

  // Waits for all of `tasks`, or for the first failure among them, which the
  // tasks keep in `failure`.
  Expected<void> Run(const std::vector<Task>& tasks,
                     const std::optional<Failure>& failure);

 private:
  safe::Ring& ring_;
  Settings settings_;
  Progress progress_;
};

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_SESSION_H_
