#include "escrow/raw/memory_region.h"

#include <sys/mman.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>

#include "escrow/raw/error.h"
#include "escrow/raw/register_result.h"

namespace escrow::raw {
namespace {

std::error_code RegisterDescribed(Ring& ring, io_uring_region_desc& region,
                                  std::uint64_t flags) {
  io_uring_mem_region_reg registration = {};
  registration.region_uptr = reinterpret_cast<std::uintptr_t>(&region);
  registration.flags = flags;
  return RegisterError(IORING_REGISTER_MEM_REGION,
                       io_uring_register_region(ring.get(), &registration));
}

}  // namespace

std::error_code RegisterRegion(
    Ring& ring, KernelPtr<void, Until::kTeardown, Access::kReadWrite> memory,
    std::size_t size, std::uint64_t flags) noexcept {
  io_uring_region_desc region = {};
  region.user_addr = reinterpret_cast<std::uintptr_t>(memory.get());
  region.size = size;
  region.flags = IORING_MEM_REGION_TYPE_USER;
  return RegisterDescribed(ring, region, flags);
}

std::expected<void*, std::error_code> MapRegion(Ring& ring, std::size_t size,
                                                std::uint64_t flags) noexcept {
  io_uring_region_desc region = {};
  region.size = size;
  if (const std::error_code error = RegisterDescribed(ring, region, flags)) {
    return std::unexpected(error);
  }
  void* memory =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
           ring.get()->ring_fd, static_cast<off_t>(region.mmap_offset));
  if (memory == MAP_FAILED) {
    return std::unexpected(LastError<"mmap">());
  }
  return memory;
}

}  // namespace escrow::raw
