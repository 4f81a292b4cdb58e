#include "escrow/sim/shadow.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "escrow/sim/real_call.h"

// What there is of these depends on the program.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
__attribute__((weak)) void __asan_get_shadow_mapping(std::size_t* scale,
                                                     std::size_t* offset);
__attribute__((weak)) void* __asan_region_is_poisoned(void* data,
                                                      std::size_t size);
__attribute__((weak)) void __asan_poison_memory_region(
    const volatile void* data, std::size_t size);
__attribute__((weak)) void __asan_unpoison_memory_region(
    const volatile void* data, std::size_t size);
// NOLINTEND(bugprone-reserved-identifier)
}

#if defined(__clang__)
#define ESCROW_SIM_UNINSTRUMENTED \
  __attribute__((no_sanitize("address", "memory", "thread")))
#else
#define ESCROW_SIM_UNINSTRUMENTED \
  __attribute__((no_sanitize("address", "thread")))
#endif

namespace escrow::sim {
namespace {

using Address = std::uintptr_t;

constexpr unsigned char kByHand = 0xf7;

bool HasShadow() noexcept {
  return __asan_region_is_poisoned != nullptr &&
         __asan_get_shadow_mapping != nullptr;
}

void* PointerTo(Address address) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): what it was before.
  return reinterpret_cast<void*>(address);
}

// Of a granule that there is.
ESCROW_SIM_UNINSTRUMENTED unsigned char ShadowOf(Address at) noexcept {
  static std::size_t scale = 0;
  static std::size_t offset = 0;
  if (offset == 0) __asan_get_shadow_mapping(&scale, &offset);
  return *static_cast<const volatile unsigned char*>(
      PointerTo((at >> scale) + offset));
}

Address FirstWhole(const void* data) noexcept {
  return (reinterpret_cast<Address>(data) + kGranule - 1) / kGranule * kGranule;
}
Address EndOfWhole(const void* data, std::size_t size) noexcept {
  const Address end =
      (reinterpret_cast<Address>(data) + size) / kGranule * kGranule;
  return std::max(FirstWhole(data), end);
}

}  // namespace

const void* FirstInvalid(const void* data, std::size_t size) noexcept {
  if (!HasShadow()) return nullptr;
  auto at = reinterpret_cast<Address>(data);
  const Address end = at + size;
  while (at < end) {
    const auto bad = reinterpret_cast<Address>(
        __asan_region_is_poisoned(PointerTo(at), end - at));
    if (bad == 0) return nullptr;
    // Some addresses have no shadow: those of no memory.
    if (!IsReadable(PointerTo(bad), 1)) return nullptr;
    Address granule = bad / kGranule * kGranule;
    if (ShadowOf(granule) != kByHand) return PointerTo(bad);
    while (granule < end && ShadowOf(granule) == kByHand) granule += kGranule;
    at = granule;
  }
  return nullptr;
}

Poison PoisonOf(const void* data, std::size_t size) noexcept {
  if (!HasShadow()) return Poison::kNone;
  bool any = false;
  bool all = true;
  const Address end = EndOfWhole(data, size);
  for (Address at = FirstWhole(data); at < end; at += kGranule) {
    const bool poisoned = ShadowOf(at) == kByHand;
    any |= poisoned;
    all &= poisoned;
  }
  if (!any) return Poison::kNone;
  return all ? Poison::kAll : Poison::kMixed;
}

bool SetPoison(void* data, std::size_t size) noexcept {
  if (!HasShadow()) return false;
  const Address begin = FirstWhole(data);
  const Address end = EndOfWhole(data, size);
  __asan_poison_memory_region(PointerTo(begin), end - begin);
  return begin < end;
}

void ClearPoison(void* data, std::size_t size) noexcept {
  if (!HasShadow()) return;
  const Address end = EndOfWhole(data, size);
  for (Address at = FirstWhole(data); at < end;) {
    Address next = at;
    while (next < end && ShadowOf(next) == kByHand) next += kGranule;
    if (next > at) __asan_unpoison_memory_region(PointerTo(at), next - at);
    at = std::max(next, at + kGranule);
  }
}

bool IsReadable(const void* data, std::size_t size) noexcept {
  if (size == 0) return true;
  // The first byte of each page, and the last one.
  constexpr Address kPage = 4096;
  constexpr std::size_t kPieces = 64;
  auto at = reinterpret_cast<Address>(data);
  const Address last = at + size - 1;
  if (last < at) return false;
  for (bool done = false; !done;) {
    iovec pieces[kPieces];
    unsigned char bytes[kPieces];
    std::size_t count = 0;
    while (count < kPieces && !done) {
      pieces[count++] = {PointerTo(at), 1};
      done = at == last;
      at = std::min(last, (at / kPage + 1) * kPage);
    }
    iovec own = {bytes, count};
    const long copied = RealCall(
        SYS_process_vm_readv, ::getpid(), reinterpret_cast<long>(&own), 1,
        reinterpret_cast<long>(pieces), static_cast<long>(count), 0);
    if (copied == static_cast<long>(count)) continue;
    // Where that is forbidden, it has to be believed.
    return copied == -EPERM || copied == -ENOSYS;
  }
  return true;
}

}  // namespace escrow::sim
