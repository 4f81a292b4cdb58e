#ifndef ESCROW_RAW_ZERO_COPY_RECEIVE_H_
#define ESCROW_RAW_ZERO_COPY_RECEIVE_H_

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/contract.h"
#include "escrow/raw/ring.h"

// Receive queues of a network device that put what arrives into the
// application's memory (IORING_OP_RECV_ZC). A queue has an *area*, where data
// lands in chunks, and a *refill ring*, through which the application gives
// chunks back: io_uring_zcrx_rqe, one for each completion's io_uring_zcrx_cqe.
// A chunk is the application's from its completion until it is given back.
//
// The ring needs IORING_SETUP_DEFER_TASKRUN and 32-byte completions
// (IORING_SETUP_CQE32 or IORING_SETUP_CQE_MIXED), the process CAP_NET_ADMIN,
// and the device header splitting and a driver that can (EOPNOTSUPP).
//
// What holds for all registrations: registration.h.

namespace escrow::raw {

struct IfqOptions {
  // The device, as if_nametoindex(3) says, and its receive queue.
  std::uint32_t interface_index = 0;
  std::uint32_t queue = 0;

  // Of the refill ring; rounded up to a power of two.
  std::uint32_t entries = 0;

  // ZCRX_REG_*.
  std::uint32_t flags = 0;

  // Size of the chunks in bytes (Linux 7.0); 0 is a page.
  std::uint32_t chunk_size = 0;

  // The area: whole pages, which the kernel pins and the device writes until
  // the ring is completely gone. Or, with `area_flags`
  // IORING_ZCRX_AREA_DMABUF, that many bytes of `dmabuf_fd`, from `area` as an
  // offset on.
  KernelPtr<void, Until::kTeardown> area = nullptr;
  std::size_t area_size = 0;
  std::uint32_t area_flags = 0;
  int dmabuf_fd = 0;

  // The refill ring's memory: whole pages with room for a header
  // (io_uring_query_zcrx; a page suffices) and `entries` io_uring_zcrx_rqe, the
  // kernel's until the ring is completely gone. Null is memory of the kernel's,
  // to be mapped.
  KernelPtr<void, Until::kTeardown, Access::kReadWrite> refill_ring = nullptr;
  std::size_t refill_ring_size = 0;
};

// A registered queue.
struct Ifq {
  // For io_uring_sqe.zcrx_ifq_idx and the calls below.
  std::uint32_t id;

  // How many entries the refill ring really has.
  std::uint32_t entries;

  // Where its head, tail and entries are in its memory.
  io_uring_zcrx_offsets offsets;

  // Where mmap(2) of the ring's descriptor finds it, if it is the kernel's.
  std::uint64_t mmap_offset;

  // To be or-ed into io_uring_zcrx_rqe.off.
  std::uint64_t area_token;
};

// Registers a queue. There is no way to unregister it: it lives as long as the
// ring. ENODEV for an interface that does not exist, EOPNOTSUPP for one that
// cannot, EPERM without CAP_NET_ADMIN, EINVAL for a ring of another kind.
// IORING_REGISTER_ZCRX_IFQ, Linux 6.15.
[[nodiscard]] std::expected<Ifq, std::error_code> RegisterIfq(
    Ring& ring, const IfqOptions& options) noexcept;

// Registers with this ring too what another ring's ExportIfq() returned, which
// may be closed afterwards. EBADF for another descriptor.
// IORING_REGISTER_ZCRX_IFQ and ZCRX_REG_IMPORT, Linux 6.19.
[[nodiscard]] std::expected<Ifq, std::error_code> ImportIfq(
    Ring& ring, int exported_fd) noexcept;

// Has the kernel take what is in the refill ring of queue `id`. EINVAL before
// Linux 6.19, ENXIO without such a queue. IORING_REGISTER_ZCRX_CTRL.
[[nodiscard]] std::error_code FlushIfq(Ring& ring, std::uint32_t id) noexcept;

// A descriptor that stands for queue `id`, the caller's to close, for
// ImportIfq() on another ring. Errors as FlushIfq().
// IORING_REGISTER_ZCRX_CTRL.
[[nodiscard]] std::expected<int, std::error_code> ExportIfq(
    Ring& ring, std::uint32_t id) noexcept;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_ZERO_COPY_RECEIVE_H_
