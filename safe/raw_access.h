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
//   auto handler = [&](const io_uring_cqe& cqe) { ... };
//   RawAccess access(ring, handler);
//   access.ring().Push(raw::Read{...}, /*user_data=*/block_number);
//   ring.Dispatch();  // submits, waits, calls the handler and the callbacks
//
// The rules are those of the raw layer, and these:
//
// - user_data has its topmost bit clear, by which completions are told apart.
//   Pointers have, but for tagged ones.
//
// - What other rings send here (SendToRing) comes to the handler as well. Raw
//   requests that must not be mistaken for it have other values of user_data.
//
// - Completions are taken by the safe ring, in Wait() and Dispatch(), and never
//   by raw::Ring::Advance().
//
// - Raw requests in flight are not counted: with a RawAccess, Dispatch()
//   without a limit waits for a completion even if there are none.
//
// - What raw entries point to stays valid until the handler got their last
//   completion. The safe ring's destructor does not wait for raw requests, so
//   drain them first; it may cancel them, together with safe ones.
class RawAccess {
 public:
  // Has `handler`, which must outlive this, called by the ring's Dispatch()
  // with a copy of each raw completion, once. A ring has one RawAccess at a
  // time, and outlives it. Raw completions that come when there is none are
  // ignored and counted as unknown.
  template <typename Handler>
  RawAccess(Ring& ring, Handler& handler) : engine_(&internal::EngineOf(ring)) {
    SetHandler(
        [](void* context, const io_uring_cqe& cqe) {
          (*static_cast<Handler*>(context))(cqe);
        },
        &handler);
  }
  RawAccess(const RawAccess&) = delete;
  RawAccess& operator=(const RawAccess&) = delete;
  ~RawAccess() { SetHandler(nullptr, nullptr); }

  // The ring, as long as the safe one lives.
  raw::Ring& ring() noexcept;

 private:
  void SetHandler(void (*handler)(void* context, const io_uring_cqe& cqe),
                  void* context) noexcept;

  internal::Engine* engine_;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_RAW_ACCESS_H_
