#ifndef ESCROW_SAFE_ZERO_COPY_OPS_H_
#define ESCROW_SAFE_ZERO_COPY_OPS_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <utility>

#include "escrow/ownership/control_data.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/message_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/several.h"

// Sends without a copy, for Ring::Start(). On sockets of families that can do
// that (TCP, UDP; not AF_UNIX, which is operation_not_supported).
//
// The pages are pinned meanwhile, and count against RLIMIT_MEMLOCK:
// not_enough_memory where that does not suffice. Memory of a BufferPool of the
// ring's is pinned already, and sent as registered memory: in a message if all
// parts are of the pool and none is empty (Linux 6.15).

namespace escrow::safe {

namespace internal {

void StartSendZeroCopy(ownership::Record& record, File socket,
                       const std::byte* data, std::size_t size, int flags,
                       const ownership::SocketAddress& address);
void StartSendZeroCopy(ownership::Record& record, File socket,
                       ownership::BufferRegistration registration,
                       const std::byte* data, std::size_t size, int flags,
                       const ownership::SocketAddress& address);
// Of the message that `header` describes.
void StartSendMessageZeroCopy(ownership::Record& record, File socket,
                              ownership::BufferRegistration registration,
                              const msghdr& header, int flags);

}  // namespace internal

// What a zero-copy send comes to: first its result, and when the network stack
// has let go of the bytes, which may be as late as the peer has received them,
// the buffer.
template <typename B>
struct ZeroCopySent {
  Result<std::size_t> result;  // bytes sent
  Operation<B> buffer;
};

// send(2), or sendto(2) if there is an address, whose bytes the network stack
// reads from `buffer` itself. With MSG_NOSIGNAL in any case. Linux 6.0.
//
//   auto [sent, pending] = ring.Wait(ring.Start(
//       safe::SendZeroCopy<Buffer>{.socket = peer, .buffer =
//       std::move(page)}));
//   ...
//   page = ring.Wait(std::move(pending));
//
// A buffer whose handle is dropped is destroyed when the stack has let go of
// it, and the ring's destructor waits for that.
template <ownership::Readable B>
struct SendZeroCopy {
  File socket;
  B buffer;
  int flags = 0;                          // MSG_*
  ownership::SocketAddress address = {};  // of a datagram; none: as connected

  using Outcome = ZeroCopySent<B>;
  using Second = B;
  void Start(ownership::Record& record) {
    ownership::WithMemory(buffer, [&](auto... memory) {
      internal::StartSendZeroCopy(record, std::move(socket), memory..., flags,
                                  address);
    });
  }
  Outcome Take(const ownership::RawResult& result, ownership::Record& record) {
    return {internal::UsualOutcome<Result<std::size_t>>::Take(result),
            Operation<B>(record)};
  }
  B TakeSecond() && { return std::move(buffer); }
};

// sendmsg(2), whose bytes, in one place or in several, the network stack reads
// where they are. The whole message comes back as the buffer of a SendZeroCopy
// does, control data and address included until then, but with no control data
// any more. With MSG_NOSIGNAL in any case. Linux 6.1.
template <ReadableMessage T>
struct SendMessageZeroCopy {
  File socket;
  OutgoingMessage<T> message;
  int flags = 0;  // MSG_*

  KernelRoom<internal::MessageHeader<T>> header =
      KernelRoom<internal::MessageHeader<T>>();

  using Outcome = ZeroCopySent<OutgoingMessage<T>>;
  using Second = OutgoingMessage<T>;
  void Start(ownership::Record& record) {
    using Parts = internal::MessageParts<T>;
    internal::DescribeMessage(
        header.value.header, Parts::Describe(message.bytes, header.value.parts),
        message.address, message.control);
    internal::CommonRegistration registration;
    Parts::AddTo(registration, message.bytes);
    internal::StartSendMessageZeroCopy(record, std::move(socket),
                                       registration.value(),
                                       header.value.header, flags);
  }
  Outcome Take(const ownership::RawResult& result, ownership::Record& record) {
    return {internal::UsualOutcome<Result<std::size_t>>::Take(result),
            Operation<Second>(record)};
  }
  Second TakeSecond() && {
    message.control.Clear();
    return std::move(message);
  }
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_ZERO_COPY_OPS_H_
