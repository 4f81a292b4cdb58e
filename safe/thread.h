#ifndef ESCROW_SAFE_THREAD_H_
#define ESCROW_SAFE_THREAD_H_

#include <pthread.h>

// Threads of this layer's own.

namespace escrow::safe::internal {

// Has one call `run` with `argument`. The signals that somebody sends are
// blocked in it, and so left to the program's threads, whichever of these are
// to handle or to wait for them. Returns 0, or the error of pthread_create(3).
int StartThread(pthread_t& thread, void* (*run)(void*),
                void* argument) noexcept;

}  // namespace escrow::safe::internal

#endif  // ESCROW_SAFE_THREAD_H_
