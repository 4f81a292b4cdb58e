#include "escrow/raw/zero_copy_receive.h"

#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/register_result.h"

namespace escrow::raw {

std::expected<Ifq, std::error_code> RegisterIfq(
    Ring& ring, const IfqOptions& options) noexcept {
  io_uring_zcrx_area_reg area = {};
  area.addr = reinterpret_cast<std::uintptr_t>(options.area.get());
  area.len = options.area_size;
  area.flags = options.area_flags;
  area.dmabuf_fd = static_cast<__u32>(options.dmabuf_fd);
  io_uring_region_desc region = {};
  region.user_addr =
      reinterpret_cast<std::uintptr_t>(options.refill_ring.get());
  region.size = options.refill_ring_size;
  region.flags =
      options.refill_ring.get() != nullptr ? IORING_MEM_REGION_TYPE_USER : 0;
  io_uring_zcrx_ifq_reg registration = {};
  registration.if_idx = options.interface_index;
  registration.if_rxq = options.queue;
  registration.rq_entries = options.entries;
  registration.flags = options.flags;
  registration.area_ptr = reinterpret_cast<std::uintptr_t>(&area);
  registration.region_ptr = reinterpret_cast<std::uintptr_t>(&region);
  registration.rx_buf_len = options.chunk_size;
  if (const int result = io_uring_register_ifq(ring.get(), &registration);
      result < 0) {
    return std::unexpected(RegisterError(IORING_REGISTER_ZCRX_IFQ, result));
  }
  return Ifq{.id = registration.zcrx_id,
             .entries = registration.rq_entries,
             .offsets = registration.offsets,
             .mmap_offset = region.mmap_offset,
             .area_token = area.rq_area_token};
}

std::expected<Ifq, std::error_code> ImportIfq(Ring& ring,
                                              int exported_fd) noexcept {
  io_uring_zcrx_ifq_reg registration = {};
  registration.if_idx = static_cast<__u32>(exported_fd);
  registration.flags = ZCRX_REG_IMPORT;
  if (const int result = io_uring_register_ifq(ring.get(), &registration);
      result < 0) {
    return std::unexpected(RegisterError(IORING_REGISTER_ZCRX_IFQ, result));
  }
  return Ifq{.id = registration.zcrx_id,
             .entries = registration.rq_entries,
             .offsets = registration.offsets,
             .mmap_offset = 0,
             .area_token = 0};
}

std::error_code FlushIfq(Ring& ring, std::uint32_t id) noexcept {
  zcrx_ctrl control = {};
  control.zcrx_id = id;
  control.op = ZCRX_CTRL_FLUSH_RQ;
  return RegisterError(IORING_REGISTER_ZCRX_CTRL,
                       io_uring_register_zcrx_ctrl(ring.get(), &control));
}

std::expected<int, std::error_code> ExportIfq(Ring& ring,
                                              std::uint32_t id) noexcept {
  zcrx_ctrl control = {};
  control.zcrx_id = id;
  control.op = ZCRX_CTRL_EXPORT;
  if (const int result = io_uring_register_zcrx_ctrl(ring.get(), &control);
      result < 0) {
    return std::unexpected(RegisterError(IORING_REGISTER_ZCRX_CTRL, result));
  }
  return static_cast<int>(control.zc_export.zcrx_fd);
}

}  // namespace escrow::raw
