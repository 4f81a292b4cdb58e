#include "escrow/safe/message_ops.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <span>
#include <utility>

#include "escrow/ownership/control_data.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"

namespace escrow::safe::internal {
namespace {

using ownership::ControlData;
using ownership::ControlRoom;
using ownership::RawResult;
using ownership::Record;
using ownership::SocketAddress;

void SetParts(msghdr& header, std::span<const iovec> parts) {
  header.msg_iov = const_cast<iovec*>(parts.data());
  header.msg_iovlen = parts.size();
}

}  // namespace

void DescribeMessage(msghdr& header, std::span<const iovec> parts,
                     const SocketAddress& address,
                     const ControlData& control) noexcept {
  SetParts(header, parts);
  if (address.size() != 0) {
    header.msg_name = const_cast<sockaddr*>(address.data());
    header.msg_namelen = address.size();
  }
  header.msg_control = const_cast<std::byte*>(control.data());
  header.msg_controllen = control.size();
}

void StartSendMessage(Record& record, File socket, msghdr& header,
                      std::span<const iovec> parts,
                      const SocketAddress& address, const ControlData& control,
                      int flags) {
  DescribeMessage(header, parts, address, control);
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(
      record,
      raw::SendMsg{.fd = FdOf(record.file),
                   .message = &header,
                   .flags = static_cast<unsigned>(SendFlags(flags))},
      record.sqe_flags);
}

void StartReceiveMessage(Record& record, File socket, msghdr& header,
                         std::span<const iovec> parts, SocketAddress& address,
                         ControlRoom& control, int flags) {
  SetParts(header, parts);
  header.msg_name = address.room();
  header.msg_namelen = SocketAddress::kRoom;
  control.Clear();
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(
      record,
      raw::RecvMsg{.fd = FdOf(record.file),
                   .message = &header,
                   .flags = static_cast<unsigned>(flags | MSG_CMSG_CLOEXEC)},
      record.sqe_flags);
}

int FinishReceiveMessage(const RawResult& result, const msghdr& header,
                         SocketAddress& address) {
  if (!result.ok()) {
    address = {};
    return 0;
  }
  *address.size_room() = std::min(header.msg_namelen, SocketAddress::kRoom);
  return header.msg_flags & ~MSG_CMSG_CLOEXEC;
}

}  // namespace escrow::safe::internal
