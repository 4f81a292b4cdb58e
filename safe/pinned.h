#ifndef ESCROW_SAFE_PINNED_H_
#define ESCROW_SAFE_PINNED_H_

#include "escrow/ownership/pinned.h"
#include "escrow/safe/ring.h"

namespace escrow::safe {

// Has a Pinnable that is destroyed while it is pinned dispatch a ring until it
// is not, callbacks and all. The operations are not cancelled; those whose
// handles are dropped before are.
//
//   ownership::Pinnable<Header, safe::DispatchIfPinned> header(
//       Header(), safe::DispatchIfPinned{ring});
//
// Of no use where Dispatch() is not allowed, and for a pin in an outcome that
// nobody takes: a check fails when nothing is in flight any more.
struct DispatchIfPinned {
  Ring& ring;

  bool operator()() const {
    if (ring.in_flight() == 0) return false;
    (void)ring.Dispatch();
    return true;
  }
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_PINNED_H_
