#include <linux/time_types.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <utility>
#include <vector>

#include "escrow/sim/cancel.h"
#include "escrow/sim/file.h"
#include "escrow/sim/kernel_state.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op.h"
#include "escrow/sim/real_call.h"
#include "escrow/sim/registration.h"
#include "escrow/sim/ring.h"

// io_uring_register(2), as far as it is about the ring itself.

namespace escrow::sim {

int LoadRegistration(const void* argument, unsigned size,
                     io_uring_rsrc_register* asked) noexcept {
  if (size != sizeof(*asked)) return -EINVAL;
  if (!Load(asked, argument, sizeof(*asked))) return -EFAULT;
  constexpr std::uint32_t kSparse = IORING_RSRC_REGISTER_SPARSE;
  if (asked->nr == 0 || asked->resv2 != 0 || (asked->flags & ~kSparse) != 0) {
    return -EINVAL;
  }
  return (asked->flags & kSparse) != 0 && asked->data != 0 ? -EINVAL : 0;
}

int LoadUpdate(const void* argument, unsigned size,
               io_uring_rsrc_update2* asked) noexcept {
  if (size != sizeof(*asked)) return -EINVAL;
  if (!Load(asked, argument, sizeof(*asked))) return -EFAULT;
  return asked->nr == 0 || asked->resv != 0 || asked->resv2 != 0 ? -EINVAL : 0;
}

int Ring::RegisterEventfd(const void* argument, unsigned count, bool async) {
  std::int32_t fd = -1;
  if (count != 1) return -EINVAL;
  if (eventfd_.valid()) return -EBUSY;
  if (!Load(&fd, argument, sizeof(fd))) return -EFAULT;
  File file = File::Duplicate(fd);
  if (!file.valid()) return -EBADF;
  eventfd_ = std::move(file);
  eventfd_async_ = async;
  return 0;
}

int Ring::Probe(void* argument, unsigned count) {
  constexpr unsigned kMost = 256;
  if (argument == nullptr || count > kMost) return -EINVAL;
  const unsigned last =
      std::min<unsigned>(count, static_cast<unsigned>(IORING_OP_LAST));
  std::vector<std::byte> bytes(sizeof(io_uring_probe) +
                               last * sizeof(io_uring_probe_op));
  if (!Load(bytes.data(), argument, sizeof(io_uring_probe))) return -EFAULT;
  auto* const probe = reinterpret_cast<io_uring_probe*>(bytes.data());
  const bool clear =
      probe->last_op == 0 && probe->ops_len == 0 && probe->resv == 0;
  if (!clear) return -EINVAL;
  probe->last_op = IORING_OP_LAST - 1;
  probe->ops_len = static_cast<std::uint8_t>(last);
  auto* const ops = reinterpret_cast<io_uring_probe_op*>(probe + 1);
  for (unsigned i = 0; i < last; ++i) {
    const OpType* const type = FindOp(i);
    const bool supported = type != nullptr && type->make != nullptr;
    ops[i] = {.op = static_cast<std::uint8_t>(i),
              .resv = 0,
              .flags = static_cast<std::uint16_t>(
                  supported ? IO_URING_OP_SUPPORTED : 0),
              .resv2 = 0};
  }
  return Store(argument, bytes.data(), bytes.size()) ? 0 : -EFAULT;
}

int Ring::SyncCancel(const void* argument, unsigned count) {
  io_uring_sync_cancel_reg asked;
  if (count != 1) return -EINVAL;
  if (!Load(&asked, argument, sizeof(asked))) return -EFAULT;
  const CancelKey key = {.flags = asked.flags,
                         .user_data = asked.addr,
                         .fd = asked.fd,
                         .opcode = asked.opcode};
  const bool waits = asked.timeout.tv_sec != -1 || asked.timeout.tv_nsec != -1;
  std::optional<std::int64_t> deadline;
  if (waits) {
    constexpr std::int64_t kNanoseconds = 1'000'000'000;
    deadline =
        Now() + asked.timeout.tv_sec * kNanoseconds + asked.timeout.tv_nsec;
  }
  // Until there is nothing left that matches.
  int found = 0;
  for (;;) {
    const int answer = CancelMatching(*this, key, nullptr);
    if (answer < 0 && answer != -EALREADY) return found > 0 ? found : answer;
    if (answer > 0) found += answer;
    if (answer == 0) return found;
    Progress();
    if (deadline.has_value() && Now() > *deadline) return -ETIME;
    // What a worker has ends when that is done.
    if (kernel_.options().threads) {
      std::optional<std::int64_t> limit;
      if (deadline.has_value()) {
        limit = std::max<std::int64_t>(0, *deadline - Now());
      }
      ++waiting_;
      const int error = kernel_.poller().Wait(kernel_.mutex(), limit, nullptr);
      --waiting_;
      if (error != 0) return error;
    }
  }
}

int Ring::SetClock(const void* argument) {
  io_uring_clock_register asked;
  if (!Load(&asked, argument, sizeof(asked))) return -EFAULT;
  for (const std::uint32_t reserved : asked.__resv) {
    if (reserved != 0) return -EINVAL;
  }
  if (asked.clockid != CLOCK_MONOTONIC && asked.clockid != CLOCK_BOOTTIME) {
    return -EINVAL;
  }
  clock_ = static_cast<clockid_t>(asked.clockid);
  return 0;
}

int Ring::Register(unsigned opcode, void* argument, unsigned count) {
  const bool restricted_to_disabled = opcode == IORING_REGISTER_ENABLE_RINGS ||
                                      opcode == IORING_REGISTER_RESTRICTIONS;
  if (!disabled_ && !restricted_to_disabled) {
    if (const int error = CheckIssuer()) return error;
  }
  for (const int result : {files_.Register(opcode, argument, count),
                           buffers_.Register(opcode, argument, count),
                           groups_.Register(opcode, argument, count)}) {
    if (result != -ENOSYS) return result;
  }
  switch (opcode) {
    case IORING_REGISTER_ENABLE_RINGS:
      if (argument != nullptr || count != 0) return -EINVAL;
      if (!disabled_) return -EBADFD;
      disabled_ = false;
      issuer_ = ThreadId();
      return 0;
    case IORING_REGISTER_EVENTFD:
    case IORING_REGISTER_EVENTFD_ASYNC:
      return RegisterEventfd(argument, count,
                             opcode == IORING_REGISTER_EVENTFD_ASYNC);
    case IORING_UNREGISTER_EVENTFD:
      if (argument != nullptr || count != 0) return -EINVAL;
      if (!eventfd_.valid()) return -ENXIO;
      eventfd_ = File();
      return 0;
    case IORING_REGISTER_PROBE:
      return Probe(argument, count);
    case IORING_REGISTER_PERSONALITY:
      if (argument != nullptr || count != 0) return -EINVAL;
      return ++personality_;
    case IORING_UNREGISTER_PERSONALITY:
      if (argument != nullptr) return -EINVAL;
      return count == 0 || count > personality_ ? -EINVAL : 0;
    case IORING_REGISTER_RING_FDS:
      // An index must be the kernel's own, or nobody's.
      if (kernel_.options().threads) return -EINVAL;
      return kernel_.RegisterRingFds(argument, count);
    case IORING_UNREGISTER_RING_FDS:
      return kernel_.UnregisterRingFds(argument, count);
    case IORING_REGISTER_SYNC_CANCEL:
      return SyncCancel(argument, count);
    case IORING_REGISTER_CLOCK:
      return argument == nullptr || count != 0 ? -EINVAL : SetClock(argument);
    case IORING_REGISTER_RESIZE_RINGS:
      return Resize(argument, count);
    case IORING_REGISTER_IOWQ_AFF:
    case IORING_UNREGISTER_IOWQ_AFF:
      return 0;
    case IORING_REGISTER_IOWQ_MAX_WORKERS: {
      std::uint32_t counts[2];
      if (argument == nullptr || count != 2) return -EINVAL;
      if (!Load(counts, argument, sizeof(counts))) return -EFAULT;
      std::swap(counts[0], workers_[0]);
      std::swap(counts[1], workers_[1]);
      if (workers_[0] == 0) workers_[0] = counts[0];
      if (workers_[1] == 0) workers_[1] = counts[1];
      return Store(argument, counts, sizeof(counts)) ? 0 : -EFAULT;
    }
    default:
      return kernel_.Unsupported("register opcode", opcode);
  }
}

}  // namespace escrow::sim
