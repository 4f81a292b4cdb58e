#ifndef ESCROW_SAFE_ZERO_COPY_OPS_H_
#define ESCROW_SAFE_ZERO_COPY_OPS_H_

#include <cstddef>
#include <utility>

#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"

// Sends without a copy, for Ring::Start().

namespace escrow::safe {

namespace internal {

void StartSendZeroCopy(ownership::Record& record, File socket,
                       const std::byte* data, std::size_t size, int flags,
                       const ownership::SocketAddress& address);

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
    internal::StartSendZeroCopy(
        record, std::move(socket), ownership::OwnedMemory<B>::Data(buffer),
        ownership::OwnedMemory<B>::Size(buffer), flags, address);
  }
  Outcome Take(const ownership::RawResult& result, ownership::Record& record) {
    return {internal::UsualOutcome<Result<std::size_t>>::Take(result),
            Operation<B>(record)};
  }
  B TakeSecond() && { return std::move(buffer); }
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_ZERO_COPY_OPS_H_
