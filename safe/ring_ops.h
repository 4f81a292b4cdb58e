#ifndef ESCROW_SAFE_RING_OPS_H_
#define ESCROW_SAFE_RING_OPS_H_

#include <cstdint>

#include "escrow/ownership/record.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

// Operations between rings, for Ring::Start().

namespace escrow::safe {

// Posts a completion to another ring, of this thread or of another one. Its
// RawAccess handler gets it; without one it counts as unknown. It cannot be
// mistaken for that of a safe operation, but for that of a raw one, so the two
// have to share the values of user_data between them. Linux 5.18.
//
//   auto target = their_ring.Duplicate();  // for this thread
//   ring.Start(SendToRing{.ring = *target, .user_data = kWakeUp});
//
// Succeeds when the completion is posted, or kept until the other queue has
// room. bad_file_descriptor_state (EBADFD) for what is no ring.
struct SendToRing {
  File ring;                // a Descriptor, not a registered file
  std::uint64_t user_data;  // io_uring_cqe.user_data; the topmost bit is clear
  std::int32_t result = 0;  // io_uring_cqe.res

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// Puts the file in a slot of this ring into a slot of another ring's table, be
// it of this thread or of another one. The file is in both then. `to` comes
// back with the result, on success and on error, and owns what it holds.
//
//   // In the thread of the other ring:
//   auto slot = table.Reserve();
//   // Here, when that has been handed over:
//   auto [sent, back] = ring.Wait(ring.Start(
//       SendFileToRing{.file = accepted, .to = std::move(*slot)}));
//   (void)remote.Post([&table, back = std::move(back)]() mutable {
//     auto connection = table.Take(std::move(back));  // there again
//   });
//
// The other ring sees nothing of it. owner_dead when that one's thread is gone,
// invalid_argument for a slot of this ring. Linux 6.0.
struct SendFileToRing {
  SlotOf file;
  ReservedSlot to;

  using Outcome = Transfer<ReservedSlot, void>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult& result) noexcept;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_RING_OPS_H_
