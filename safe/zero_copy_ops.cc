#include "escrow/safe/zero_copy_ops.h"

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"

namespace escrow::safe::internal {

void StartSendZeroCopy(ownership::Record& record, File socket,
                       const std::byte* data, std::size_t size, int flags,
                       const ownership::SocketAddress& address) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start<raw::Until::kNotification>(
      record,
      raw::SendZeroCopy{
          .fd = FdOf(record.file),
          .buffer = data,
          .length = TransferLength(size),
          .flags = flags | MSG_NOSIGNAL,
          .address = address.size() == 0 ? nullptr : address.data(),
          .address_length = static_cast<std::uint16_t>(address.size())},
      record.sqe_flags);
}

}  // namespace escrow::safe::internal
