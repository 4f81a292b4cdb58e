#include "escrow/safe/message_stream_ops.h"

#include <liburing.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "escrow/ownership/control_data.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"
#include "escrow/safe/stream.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using internal::FdOf;
using ownership::Arrival;
using ownership::ControlRoom;
using ownership::Lease;
using ownership::RawResult;
using ownership::Record;
using ownership::Slice;
using ownership::SocketAddress;

static_assert(ReceiveMessageMany::kOverhead ==
              sizeof(io_uring_recvmsg_out) + SocketAddress::kRoom);

// What is in the buffer, of which no size is believed that does not fit.
LeasedMessage Parse(Lease lease, std::size_t control_size) {
  constexpr std::size_t kName = sizeof(io_uring_recvmsg_out);
  constexpr std::size_t kControl = kName + SocketAddress::kRoom;
  const std::size_t begin = kControl + control_size;
  if (lease.size() < begin) {
    return {Slice(std::move(lease), 0, 0), ControlRoom(), SocketAddress(), 0};
  }
  io_uring_recvmsg_out out;
  std::memcpy(&out, lease.data(), sizeof(out));
  LeasedMessage message = {
      Slice(Lease(), 0, 0), ControlRoom(),
      SocketAddress(reinterpret_cast<const sockaddr*>(lease.data() + kName),
                    std::min<std::size_t>(out.namelen, SocketAddress::kRoom)),
      static_cast<int>(out.flags & ~unsigned{MSG_CMSG_CLOEXEC})};
  if (const std::size_t size =
          std::min<std::size_t>(out.controllen, control_size);
      size > 0) {
    message.control = ControlRoom(size);
    std::memcpy(message.control.data(), lease.data() + kControl, size);
  }
  const std::size_t length = lease.size() - begin;
  message.bytes = Slice(std::move(lease), begin, length);
  return message;
}

}  // namespace

void ReceiveMessageMany::Start(Record& record) {
  const std::uint16_t number = group.NumberFor(record);
  if (group.ledger().incremental() || (flags & MSG_WAITALL) != 0) {
    record.result.category = &raw::OperationCategory<raw::RecvMsgMultishot>;
    Engine::Of(record).Finish(record, -EINVAL);
    return;
  }
  header.value = {};
  header.value.msg_namelen = SocketAddress::kRoom;
  header.value.msg_controllen = control_size;
  record.Hold(socket.Share());
  Engine::Of(record).Start<raw::Until::kUnregistered>(
      record,
      raw::RecvMsgMultishot{
          .fd = FdOf(record.file),
          .message = &header.value,
          .group = number,
          .flags = static_cast<unsigned>(flags | MSG_CMSG_CLOEXEC)},
      record.sqe_flags);
}

Arrival ReceiveMessageMany::Arrive(const RawResult& result) noexcept {
  const Arrival arrival = group.ledger().Arrive(result, /*bundle=*/false);
  if (IsItem(result)) return arrival;
  // The end of a connection has a buffer as well.
  Discard(result, arrival);
  return {};
}

Result<LeasedMessage> ReceiveMessageMany::Take(const RawResult& result,
                                               const Arrival& arrived) {
  if (!result.ok()) return internal::Failure(result);
  return Parse(group.ledger().MakeLease(arrived), control_size);
}

void ReceiveMessageMany::Discard(const RawResult&,
                                 const Arrival& arrived) noexcept {
  (void)Parse(group.ledger().MakeLease(arrived), control_size);
}

bool ReceiveMessageMany::IsItem(const RawResult& result) const noexcept {
  return After(result) != AfterLast::kEnd || !result.ok();
}

AfterLast ReceiveMessageMany::After(const RawResult& result) const noexcept {
  const bool empty = result.ok() && static_cast<std::size_t>(result.value) <=
                                        kOverhead + control_size;
  return connection && empty ? AfterLast::kEnd : internal::UsualAfter(result);
}

}  // namespace escrow::safe
