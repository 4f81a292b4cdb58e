#include "escrow/sim/memory.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "escrow/sim/real_call.h"
#include "escrow/sim/shadow.h"

// What there is of these depends on the program.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
__attribute__((weak)) void __asan_report_load_n(void* data, std::size_t size);
__attribute__((weak)) void __asan_report_store_n(void* data, std::size_t size);
__attribute__((weak)) void __msan_unpoison(const volatile void* data,
                                           std::size_t size);
__attribute__((weak)) void __tsan_read_range(void* data, std::size_t size);
__attribute__((weak)) void __tsan_write_range(void* data, std::size_t size);
// NOLINTEND(bugprone-reserved-identifier)
}

namespace escrow::sim {
namespace {

enum class Direction : bool { kLoad, kStore };

// Between this process's memory and itself, so that what cannot be accessed is
// found out. Not seen by any sanitizer.
bool Copy(void* to, const void* from, std::size_t size,
          Direction direction) noexcept {
  if (size == 0) return true;
  const bool load = direction == Direction::kLoad;
  iovec own = {load ? to : const_cast<void*>(from), size};
  iovec its = {load ? const_cast<void*>(from) : to, size};
  const long number = load ? SYS_process_vm_readv : SYS_process_vm_writev;
  const long copied = RealCall(number, ::getpid(), reinterpret_cast<long>(&own),
                               1, reinterpret_cast<long>(&its), 1, 0);
  if (copied == static_cast<long>(size)) return true;
  if (copied != -EPERM && copied != -ENOSYS) return false;
  // Where that is forbidden, a bad address ends the program.
  std::memcpy(to, from, size);
  return true;
}

void Check(const void* data, std::size_t size, Direction direction) noexcept {
  const void* const bad = FirstInvalid(data, size);
  if (bad == nullptr) return;
  const auto left =
      size - static_cast<std::size_t>(static_cast<const char*>(bad) -
                                      static_cast<const char*>(data));
  if (direction == Direction::kLoad) {
    __asan_report_load_n(const_cast<void*>(bad), left);
  } else {
    __asan_report_store_n(const_cast<void*>(bad), left);
  }
}

}  // namespace

bool Load(void* to, const void* from, std::size_t size) noexcept {
  BeforeLoad(from, size);
  if (!Copy(to, from, size, Direction::kLoad)) return false;
  if (__msan_unpoison != nullptr) __msan_unpoison(to, size);
  return true;
}

bool Store(void* to, const void* from, std::size_t size) noexcept {
  BeforeStore(to, size);
  if (!Copy(to, from, size, Direction::kStore)) return false;
  AfterStore(to, size);
  return true;
}

void BeforeLoad(const void* data, std::size_t size) noexcept {
  Check(data, size, Direction::kLoad);
  if (__tsan_read_range != nullptr && IsReadable(data, size)) {
    __tsan_read_range(const_cast<void*>(data), size);
  }
}

void BeforeStore(void* data, std::size_t size) noexcept {
  Check(data, size, Direction::kStore);
}

void AfterStore(void* data, std::size_t size) noexcept {
  if (__msan_unpoison != nullptr) __msan_unpoison(data, size);
  if (__tsan_write_range != nullptr) __tsan_write_range(data, size);
}

bool IsValid(const void* data, std::size_t size) noexcept {
  return FirstInvalid(data, size) == nullptr;
}

}  // namespace escrow::sim
