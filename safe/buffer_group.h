#ifndef ESCROW_SAFE_BUFFER_GROUP_H_
#define ESCROW_SAFE_BUFFER_GROUP_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/lease.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"

// Receiving into buffers of a group, of which the kernel takes one only when
// there is something to receive: many connections wait with few buffers.
//
//   auto group = safe::BufferGroup::Create(ring, {.count = 64, .size = 4096});
//   auto lease = ring.Wait(ring.Start(
//       safe::ReceiveInto{.socket = peer, .group = *group}));
//   if (!lease) return lease.error();
//   Use(lease->data(), lease->size());
//   // The buffer goes back to the group with `lease`.
//
// When all buffers are in use, receiving fails with no_buffer_space (ENOBUFS),
// which is no more than that: it may be tried again when a lease is gone.

namespace escrow::safe {

struct BufferGroupOptions {
  std::size_t count = 64;   // of buffers; 2^15 at most
  std::size_t size = 4096;  // of each, in bytes; below 2^31

  // Use a buffer up bit by bit: what comes next is put behind what is there,
  // instead of into another buffer. It goes back when it is full and no bytes
  // in it are leased. Linux 6.12.
  bool incremental = false;
};

// Buffers that the kernel chooses from, registered with a ring, which may have
// many such groups. The registration, and the memory, stay until this, the
// operations on the group and their leases are gone; the ring may go before.
// Belongs to the thread of its ring. Movable; a moved-from group may only be
// destroyed or assigned to.
class BufferGroup {
 public:
  // Errors: invalid_argument, not_enough_memory.
  // IORING_REGISTER_PBUF_RING.
  static Result<BufferGroup> Create(Ring& ring,
                                    const BufferGroupOptions& options = {});

  // How many buffers the kernel can choose from, including one that it has
  // filled in part.
  std::size_t available() const noexcept { return share_->available(); }

  // For an operation to hold.
  const ownership::LedgerShare& share() const noexcept { return share_; }

 private:
  explicit BufferGroup(ownership::BufferLedger& ledger) noexcept
      : share_(ledger) {}

  ownership::LedgerShare share_;
};

namespace internal {

// The group that an op takes a buffer of, which cannot be left out.
class GroupOf {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): reads `.group = buffers`.
  GroupOf(const BufferGroup& group) noexcept : share_(group.share()) {}

  ownership::BufferLedger& ledger() const noexcept { return *share_; }

  // The number of the group, for an operation of `record`; checks that this is
  // the group's ring.
  std::uint16_t NumberFor(const ownership::Record& record) const noexcept;

 private:
  ownership::LedgerShare share_;
};

}  // namespace internal

// recv(2) into a buffer of `group`: the bytes, none when the peer has closed.
// With an incremental group, MSG_WAITALL and MSG_TRUNC are refused with
// invalid_argument, and StartOptions::async has no effect.
struct ReceiveInto {
  File socket;
  internal::GroupOf group;
  std::size_t limit = 0;  // bytes at most; 0: what the buffer has room for
  int flags = 0;          // MSG_*

  ownership::Arrival arrival = {};  // nothing to be given

  using Outcome = Result<ownership::Lease>;
  void Start(ownership::Record& record);
  bool Arrive(const ownership::RawResult& result, bool last) noexcept;
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult& result) noexcept;
};

// recv(2) into as many buffers of `group` as there are bytes for; maybe fewer,
// with the rest for the next one. MSG_WAITALL and MSG_TRUNC are refused with
// invalid_argument. Linux 6.10.
struct ReceiveBundle {
  File socket;
  internal::GroupOf group;
  int flags = 0;  // MSG_*

  ownership::Arrival arrival = {};  // nothing to be given

  using Outcome = Result<ownership::LeaseBundle>;
  void Start(ownership::Record& record);
  bool Arrive(const ownership::RawResult& result, bool last) noexcept;
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult& result) noexcept;
};

// pread(2), or read(2) at the current position, into a buffer of `group`: the
// bytes, none at the end of the file. Not with an incremental group, which is
// refused with invalid_argument.
struct ReadInto {
  File file;
  internal::GroupOf group;
  std::uint64_t offset = kCurrentPosition;  // bytes
  std::size_t limit = 0;  // bytes at most; 0: what the buffer has room for

  ownership::Arrival arrival = {};  // nothing to be given

  using Outcome = Result<ownership::Lease>;
  void Start(ownership::Record& record);
  bool Arrive(const ownership::RawResult& result, bool last) noexcept;
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult& result) noexcept;
};

// ReceiveInto again and again: a stream of leases, which ends when the peer has
// closed, or with the first error. no_buffer_space is an item, too, but not the
// last one: the stream goes on when a lease was given back. Flags are refused
// as by ReceiveInto, and MSG_WAITALL in any case. Linux 6.0.
struct ReceiveMany {
  File socket;
  internal::GroupOf group;
  int flags = 0;  // MSG_*

  using Item = ownership::Lease;
  using Arrived = ownership::Arrival;
  void Start(ownership::Record& record);
  Arrived Arrive(const ownership::RawResult& result) noexcept;
  Result<Item> Take(const ownership::RawResult& result, const Arrived& arrived);
  void Discard(const ownership::RawResult& result,
               const Arrived& arrived) noexcept;
  static bool IsItem(const ownership::RawResult& result) noexcept;
  static AfterLast After(const ownership::RawResult& result) noexcept;
  ownership::BufferLedger& Buffers() const noexcept { return group.ledger(); }
};

// The same of ReceiveBundle: a stream of bundles. Linux 6.10.
struct ReceiveBundles {
  File socket;
  internal::GroupOf group;
  int flags = 0;  // MSG_*

  using Item = ownership::LeaseBundle;
  using Arrived = ownership::Arrival;
  void Start(ownership::Record& record);
  Arrived Arrive(const ownership::RawResult& result) noexcept;
  Result<Item> Take(const ownership::RawResult& result, const Arrived& arrived);
  void Discard(const ownership::RawResult& result,
               const Arrived& arrived) noexcept;
  static bool IsItem(const ownership::RawResult& result) noexcept;
  static AfterLast After(const ownership::RawResult& result) noexcept;
  ownership::BufferLedger& Buffers() const noexcept { return group.ledger(); }
};

// read(2) again and again, each time that there is something, of a file that
// can be polled: pipes, terminals, sockets. A stream of leases, which ends at
// the end of the file, or with the first error but no_buffer_space. Linux 6.7.
struct ReadMany {
  File file;
  internal::GroupOf group;

  using Item = ownership::Lease;
  using Arrived = ownership::Arrival;
  void Start(ownership::Record& record);
  Arrived Arrive(const ownership::RawResult& result) noexcept;
  Result<Item> Take(const ownership::RawResult& result, const Arrived& arrived);
  void Discard(const ownership::RawResult& result,
               const Arrived& arrived) noexcept;
  static bool IsItem(const ownership::RawResult& result) noexcept;
  static AfterLast After(const ownership::RawResult& result) noexcept;
  ownership::BufferLedger& Buffers() const noexcept { return group.ledger(); }
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_BUFFER_GROUP_H_
