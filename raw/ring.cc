#include "escrow/raw/ring.h"

#include <expected>
#include <system_error>

#include "escrow/raw/error.h"

namespace escrow::raw {

std::expected<Ring, std::error_code> Ring::Create(const RingOptions& options) {
  io_uring_params params = {};
  params.flags = options.setup_flags;
  params.cq_entries = options.completion_entries;
  params.sq_thread_cpu = options.sq_thread_cpu;
  params.sq_thread_idle = options.sq_thread_idle_ms;
  params.wq_fd = options.workqueue_ring_fd;
  io_uring ring;
  if (const int result =
          io_uring_queue_init_params(options.entries, &ring, &params);
      result < 0) {
    return std::unexpected(std::error_code(-result, SetupCategory()));
  }
  return Ring(ring);
}

std::error_code Ring::RegisterRingFd() noexcept {
  const int result = io_uring_register_ring_fd(&ring_);
  return result < 0 ? std::error_code(-result, RegisterCategory())
                    : std::error_code();
}

}  // namespace escrow::raw
