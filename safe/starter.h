#ifndef ESCROW_SAFE_STARTER_H_
#define ESCROW_SAFE_STARTER_H_

#include "escrow/ownership/record.h"
#include "escrow/ownership/record_pool.h"
#include "escrow/safe/owner.h"

namespace escrow::safe::internal {

// The part of an Engine by which operations begin, which is inline in what
// users include; the rest of it is not theirs to see.
class Starter : public ownership::RecordPool {
 public:
  using RecordPool::RecordPool;

  // A record for a new operation, attached to the handle about to be made.
  ownership::Record& Begin() {
    if (starter_ != t_owner_thread) [[unlikely]] {
      NotStarter();
    }
    return Acquire();
  }

 protected:
  ~Starter() = default;

  // The identity of the ring's owner; null when nothing may be started.
  const void* starter_ = nullptr;

 private:
  // Says what the matter is.
  void NotStarter() const noexcept;
};

}  // namespace escrow::safe::internal

#endif  // ESCROW_SAFE_STARTER_H_
