#include "escrow/safe/zero_copy_ops.h"

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"

namespace escrow::safe::internal {
namespace {

using ownership::BufferRegistration;
using ownership::Record;
using ownership::SocketAddress;

template <typename RawOp>
void StartUntilNotified(Record& record, const RawOp& op) {
  Engine::Of(record).Start<raw::Until::kNotification>(record, op,
                                                      record.sqe_flags);
}

}  // namespace

void StartSendZeroCopy(Record& record, File socket, const std::byte* data,
                       std::size_t size, int flags,
                       const SocketAddress& address) {
  StartSendZeroCopy(record, std::move(socket), BufferRegistration(), data, size,
                    flags, address);
}

void StartSendZeroCopy(Record& record, File socket,
                       BufferRegistration registration, const std::byte* data,
                       std::size_t size, int flags,
                       const SocketAddress& address) {
  record.Hold(std::move(socket).Take());
  const auto* const name = address.size() == 0 ? nullptr : address.data();
  const auto name_length = static_cast<std::uint16_t>(address.size());
  if (registration.ring == record.pool) {
    StartUntilNotified(
        record, raw::SendZeroCopyFixed{.fd = FdOf(record.file),
                                       .buffer = data,
                                       .length = TransferLength(size),
                                       .buffer_index = registration.index,
                                       .flags = flags | MSG_NOSIGNAL,
                                       .address = name,
                                       .address_length = name_length});
    return;
  }
  StartUntilNotified(record, raw::SendZeroCopy{.fd = FdOf(record.file),
                                               .buffer = data,
                                               .length = TransferLength(size),
                                               .flags = flags | MSG_NOSIGNAL,
                                               .address = name,
                                               .address_length = name_length});
}

void StartSendMessageZeroCopy(Record& record, File socket,
                              BufferRegistration registration,
                              const msghdr& header, int flags) {
  record.Hold(std::move(socket).Take());
  const auto message_flags = static_cast<unsigned>(flags | MSG_NOSIGNAL);
  if (registration.ring == record.pool && HasFixedVectors(record)) {
    StartUntilNotified(
        record, raw::SendMsgZeroCopyFixed{.fd = FdOf(record.file),
                                          .message = &header,
                                          .buffer_index = registration.index,
                                          .flags = message_flags});
    return;
  }
  StartUntilNotified(record, raw::SendMsgZeroCopy{.fd = FdOf(record.file),
                                                  .message = &header,
                                                  .flags = message_flags});
}

}  // namespace escrow::safe::internal
