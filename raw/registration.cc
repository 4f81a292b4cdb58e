#include "escrow/raw/registration.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/error.h"
#include "escrow/raw/register_result.h"

namespace escrow::raw {

std::expected<unsigned, std::error_code> Register(Ring& ring, unsigned opcode,
                                                  const void* argument,
                                                  unsigned count) noexcept {
  const io_uring* self = ring.get();
  return RegisterCount(
      opcode,
      self->ring_fd >= 0
          ? io_uring_register(static_cast<unsigned>(self->ring_fd), opcode,
                              argument, count)
          : io_uring_register(static_cast<unsigned>(self->enter_ring_fd),
                              opcode | IORING_REGISTER_USE_REGISTERED_RING,
                              argument, count));
}

std::error_code EnableRings(Ring& ring) noexcept {
  return RegisterError(IORING_REGISTER_ENABLE_RINGS,
                       io_uring_enable_rings(ring.get()));
}

std::error_code UnregisterRingFd(Ring& ring) noexcept {
  return RegisterError(IORING_UNREGISTER_RING_FDS,
                       io_uring_unregister_ring_fd(ring.get()));
}

std::error_code CloseRingFd(Ring& ring) noexcept {
  const int result = io_uring_close_ring_fd(ring.get());
  if (result >= 0) return {};
  return {-result, CategoryOf<"io_uring_close_ring_fd">()};
}

std::error_code RegisterEventfd(Ring& ring, int event_fd) noexcept {
  return RegisterError(IORING_REGISTER_EVENTFD,
                       io_uring_register_eventfd(ring.get(), event_fd));
}

std::error_code RegisterEventfdAsync(Ring& ring, int event_fd) noexcept {
  return RegisterError(IORING_REGISTER_EVENTFD_ASYNC,
                       io_uring_register_eventfd_async(ring.get(), event_fd));
}

std::error_code UnregisterEventfd(Ring& ring) noexcept {
  return RegisterError(IORING_UNREGISTER_EVENTFD,
                       io_uring_unregister_eventfd(ring.get()));
}

std::expected<std::uint16_t, std::error_code> RegisterPersonality(
    Ring& ring) noexcept {
  const int result = io_uring_register_personality(ring.get());
  if (result < 0) {
    return std::unexpected(RegisterError(IORING_REGISTER_PERSONALITY, result));
  }
  return static_cast<std::uint16_t>(result);
}

std::error_code UnregisterPersonality(Ring& ring, std::uint16_t id) noexcept {
  return RegisterError(IORING_UNREGISTER_PERSONALITY,
                       io_uring_unregister_personality(ring.get(), id));
}

std::error_code RegisterIowqAff(Ring& ring, const cpu_set_t* cpus,
                                std::size_t bytes) noexcept {
  return RegisterError(IORING_REGISTER_IOWQ_AFF,
                       io_uring_register_iowq_aff(ring.get(), bytes, cpus));
}

std::error_code UnregisterIowqAff(Ring& ring) noexcept {
  return RegisterError(IORING_UNREGISTER_IOWQ_AFF,
                       io_uring_unregister_iowq_aff(ring.get()));
}

std::expected<IowqMaxWorkers, std::error_code> RegisterIowqMaxWorkers(
    Ring& ring, IowqMaxWorkers limits) noexcept {
  unsigned values[] = {limits.bounded, limits.unbounded};
  if (const int result = io_uring_register_iowq_max_workers(ring.get(), values);
      result < 0) {
    return std::unexpected(
        RegisterError(IORING_REGISTER_IOWQ_MAX_WORKERS, result));
  }
  return IowqMaxWorkers{.bounded = values[0], .unbounded = values[1]};
}

std::expected<NapiSettings, std::error_code> RegisterNapi(
    Ring& ring, NapiSettings settings) noexcept {
  io_uring_napi napi = {};
  napi.busy_poll_to = settings.busy_poll_us;
  napi.prefer_busy_poll = settings.prefer_busy_poll;
  if (const int result = io_uring_register_napi(ring.get(), &napi);
      result < 0) {
    return std::unexpected(RegisterError(IORING_REGISTER_NAPI, result));
  }
  return NapiSettings{.busy_poll_us = napi.busy_poll_to,
                      .prefer_busy_poll = napi.prefer_busy_poll != 0};
}

std::expected<NapiSettings, std::error_code> UnregisterNapi(
    Ring& ring) noexcept {
  io_uring_napi napi = {};
  if (const int result = io_uring_unregister_napi(ring.get(), &napi);
      result < 0) {
    return std::unexpected(RegisterError(IORING_UNREGISTER_NAPI, result));
  }
  return NapiSettings{.busy_poll_us = napi.busy_poll_to,
                      .prefer_busy_poll = napi.prefer_busy_poll != 0};
}

std::error_code RegisterClock(Ring& ring, clockid_t clock) noexcept {
  io_uring_clock_register clock_register = {};
  clock_register.clockid = static_cast<__u32>(clock);
  return RegisterError(IORING_REGISTER_CLOCK,
                       io_uring_register_clock(ring.get(), &clock_register));
}

}  // namespace escrow::raw
