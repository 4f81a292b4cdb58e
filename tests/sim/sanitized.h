#ifndef ESCROW_TESTS_SIM_SANITIZED_H_
#define ESCROW_TESTS_SIM_SANITIZED_H_

#include <cstddef>

// Whether, and what, AddressSanitizer sees in this build.

#if defined(__SANITIZE_ADDRESS__)
#define ESCROW_TESTS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ESCROW_TESTS_ASAN 1
#endif
#endif
#ifndef ESCROW_TESTS_ASAN
#define ESCROW_TESTS_ASAN 0
#endif

extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
void __asan_poison_memory_region(const volatile void* data, std::size_t size);
void __asan_unpoison_memory_region(const volatile void* data, std::size_t size);
int __asan_address_is_poisoned(const volatile void* data);
// NOLINTEND(bugprone-reserved-identifier)
}

namespace escrow::testing {

inline constexpr bool kAddressSanitizer = ESCROW_TESTS_ASAN != 0;

inline void Poison([[maybe_unused]] void* data,
                   [[maybe_unused]] std::size_t size) {
  if constexpr (kAddressSanitizer) __asan_poison_memory_region(data, size);
}
inline void Unpoison([[maybe_unused]] void* data,
                     [[maybe_unused]] std::size_t size) {
  if constexpr (kAddressSanitizer) __asan_unpoison_memory_region(data, size);
}
inline bool IsPoisoned([[maybe_unused]] const void* data) {
  if constexpr (kAddressSanitizer) {
    return __asan_address_is_poisoned(data) != 0;
  }
  return false;
}

}  // namespace escrow::testing

#endif  // ESCROW_TESTS_SIM_SANITIZED_H_
