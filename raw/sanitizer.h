#ifndef ESCROW_RAW_SANITIZER_H_
#define ESCROW_RAW_SANITIZER_H_

#include <mutex>

// Which sanitizer this is compiled for, if any.

namespace escrow::raw {

#if defined(__has_feature)
#define ESCROW_SANITIZER_IS(name) __has_feature(name)
#else
#define ESCROW_SANITIZER_IS(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || ESCROW_SANITIZER_IS(address_sanitizer)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

#if defined(__SANITIZE_THREAD__) || ESCROW_SANITIZER_IS(thread_sanitizer)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

inline constexpr bool kMemorySanitizer = ESCROW_SANITIZER_IS(memory_sanitizer);

// For what cannot even be linked without one of them.
#if defined(__SANITIZE_ADDRESS__) || ESCROW_SANITIZER_IS(address_sanitizer) || \
    ESCROW_SANITIZER_IS(memory_sanitizer)
#define ESCROW_SHADOWS_MEMORY 1
#else
#define ESCROW_SHADOWS_MEMORY 0
#endif

#undef ESCROW_SANITIZER_IS

// Held while liburing maps or unmaps a ring. It does so without libc, so
// ThreadSanitizer takes a ring whose memory was another's, of another thread,
// for the same one. Nothing in other builds.
class MappingLock {
 public:
  MappingLock() noexcept {
    if constexpr (kThreadSanitizer) Mutex().lock();
  }
  MappingLock(const MappingLock&) = delete;
  MappingLock& operator=(const MappingLock&) = delete;
  ~MappingLock() {
    if constexpr (kThreadSanitizer) Mutex().unlock();
  }

 private:
  static std::mutex& Mutex() noexcept {
    static auto& mutex = *new std::mutex;
    return mutex;
  }
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_SANITIZER_H_
