#ifndef ESCROW_SIM_RING_H_
#define ESCROW_SIM_RING_H_

#include <liburing/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "escrow/sim/buffer_groups.h"
#include "escrow/sim/buffer_table.h"
#include "escrow/sim/choices.h"
#include "escrow/sim/file_table.h"
#include "escrow/sim/request.h"

namespace escrow::sim {

class Kernel;

// One simulated ring: its queues, what is in flight on it, and what is
// registered with it. Guarded by the kernel's lock.
class Ring {
 public:
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring();

  // For ops.

  FileTable& files() noexcept { return files_; }
  BufferTable& buffers() noexcept { return buffers_; }
  BufferGroups& groups() noexcept { return groups_; }
  Choices& choices() noexcept;
  // The clock of IORING_REGISTER_CLOCK, in ns; virtual, if that is chosen.
  std::int64_t Now() const noexcept;
  std::uint32_t setup_flags() const noexcept { return setup_flags_; }
  bool wide_entries() const noexcept {
    return (setup_flags_ & IORING_SETUP_SQE128) != 0;
  }
  // Posts a completion that is no request's: of a message, a tag. False if it
  // was kept back because the queue is full. Wakes who waits.
  bool PostForeign(std::uint64_t user_data, std::int32_t result,
                   std::uint32_t flags);

  // For the kernel: ring.cc and its neighbours.

  static int Create(Kernel& kernel, unsigned entries, io_uring_params* params);

 private:
  friend class Kernel;
  friend class Request;

  FileTable files_{*this};
  BufferTable buffers_{*this};
  BufferGroups groups_{*this};
  std::uint32_t setup_flags_ = 0;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_RING_H_
