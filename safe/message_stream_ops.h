#ifndef ESCROW_SAFE_MESSAGE_STREAM_OPS_H_
#define ESCROW_SAFE_MESSAGE_STREAM_OPS_H_

#include <sys/socket.h>

#include <cstddef>

#include "escrow/ownership/control_data.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"
#include "escrow/safe/stream.h"

// Receiving many messages, for Ring::Start().

namespace escrow::safe {

// A message in a buffer of a group.
struct LeasedMessage {
  // The part of the buffer that has the bytes: to be given to operations, too.
  ownership::Slice<ownership::Lease> bytes;
  // Owns the descriptors that were passed.
  ownership::ControlRoom control;
  // The sender's, of a datagram; connections may not tell.
  ownership::SocketAddress address;
  // MSG_TRUNC: the message was longer than the buffer had room for, and the
  // rest is lost. MSG_CTRUNC: there was more control data than room for it; cut
  // off descriptors were closed. MSG_EOR, MSG_OOB, MSG_ERRQUEUE.
  int flags;

  const std::byte* data() const noexcept {
    return bytes.whole().data() + bytes.offset();
  }
  std::size_t size() const noexcept { return bytes.size(); }
};

// recvmsg(2) again and again, with MSG_CMSG_CLOEXEC in any case, each message
// into a buffer of `group`. A stream, which ends with the first error but
// no_buffer_space. Descriptors that nobody takes are closed. A message with
// control data costs an allocation. Linux 6.0.
//
// Of a buffer, kOverhead and `control_size` bytes are not for the message. One
// without that much room is bad_address. Not with an incremental group, nor
// with MSG_WAITALL, which are refused with invalid_argument.
struct ReceiveMessageMany {
  static constexpr std::size_t kOverhead =
      16 + ownership::SocketAddress::kRoom;  // bytes

  File socket;
  internal::GroupOf group;
  // Bytes of room for control data, a sum of ControlRoom::For().
  std::size_t control_size = 0;
  int flags = 0;  // MSG_*
  // Whether an empty message ends the stream, as on a connection, where it says
  // that the peer has closed. Else it is a message like others.
  bool connection = false;

  KernelRoom<msghdr> header = KernelRoom<msghdr>();

  using Item = LeasedMessage;
  using Arrived = ownership::Arrival;
  void Start(ownership::Record& record);
  Arrived Arrive(const ownership::RawResult& result) noexcept;
  Result<Item> Take(const ownership::RawResult& result, const Arrived& arrived);
  void Discard(const ownership::RawResult& result,
               const Arrived& arrived) noexcept;
  bool IsItem(const ownership::RawResult& result) const noexcept;
  AfterLast After(const ownership::RawResult& result) const noexcept;
  ownership::BufferLedger& Buffers() const noexcept { return group.ledger(); }
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_MESSAGE_STREAM_OPS_H_
