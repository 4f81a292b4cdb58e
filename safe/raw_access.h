#ifndef ESCROW_SAFE_RAW_ACCESS_H_
#define ESCROW_SAFE_RAW_ACCESS_H_

#include <liburing.h>

#include <utility>

#include "escrow/raw/ring.h"
#include "escrow/safe/ring.h"

namespace escrow::safe {

// The raw ring of a safe one, for hot paths that opt in: raw and safe
// operations share the ring, its system calls and its completion queue.
//
//   RawAccess access(ring, [](const io_uring_cqe& cqe) { ... });
//   access.ring().Push(raw::Read{...}, /*user_data=*/block_number);
//   ring.Dispatch();  // submits, waits, calls the handler and the callbacks
//
// The rules are those of the raw layer, and these:
//  - user_data has its topmost bit clear, which is how completions are told
//  apart. Pointers have.
//  - Completions are taken by the safe ring only: Wait() and Dispatch(), never
//  raw::Ring::Advance().
//  - What raw entries point to stays valid until the handler got their last
//  completion. The safe ring's destructor does
//    not wait for raw requests (it cancels them when it cancels safe ones), so
//    drain them first.
class RawAccess {
 public:
  // Has `handler` called by the ring's Dispatch() with a copy of each raw
  // completion, once. One RawAccess a ring at a time, which must not outlive
  // the ring; completions that come when there is none end the program.
  template <typename Handler>
  RawAccess(Ring& ring, Handler& handler) : ring_(ring) {
    SetHandler(
        [](void* context, const io_uring_cqe& cqe) {
          (*static_cast<Handler*>(context))(cqe);
        },
        &handler);
  }
  RawAccess(const RawAccess&) = delete;
  RawAccess& operator=(const RawAccess&) = delete;
  ~RawAccess() { SetHandler(nullptr, nullptr); }

  raw::Ring& ring() noexcept;

 private:
  void SetHandler(void (*handler)(void* context, const io_uring_cqe& cqe),
                  void* context) noexcept;

  Ring& ring_;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_RAW_ACCESS_H_
