#include "escrow/safe/socket_ops.h"

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using internal::FdOf;
using ownership::Descriptor;
using ownership::RawResult;
using ownership::Record;
using ownership::SocketAddress;

}  // namespace

void Socket::Start(Record& record) {
  Engine::Of(record).Start(
      record,
      raw::Socket{.domain = domain,
                  .type = type | internal::CloseOnExec(record, SOCK_CLOEXEC),
                  .protocol = protocol,
                  .into = internal::DestinationOf(record)},
      record.sqe_flags);
}

void Bind::Start(Record& record) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(record,
                           raw::Bind{.fd = FdOf(record.file),
                                     .address = address.data(),
                                     .address_length = address.size()},
                           record.sqe_flags);
}

void Listen::Start(Record& record) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(
      record, raw::Listen{.fd = FdOf(record.file), .backlog = backlog},
      record.sqe_flags);
}

void Connect::Start(Record& record) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(record,
                           raw::Connect{.fd = FdOf(record.file),
                                        .address = address.data(),
                                        .address_length = address.size()},
                           record.sqe_flags);
}

void Accept::Start(Record& record) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(
      record,
      raw::Accept{.fd = FdOf(record.file),
                  .address = peer.value.room(),
                  .address_length = peer.value.size_room(),
                  .flags = flags | internal::CloseOnExec(record, SOCK_CLOEXEC),
                  .into = internal::DestinationOf(record)},
      record.sqe_flags);
}

Result<Accept::Connection> Accept::Take(const RawResult& result) && {
  if (!result.ok()) return internal::Failure(result);
  return Connection{Descriptor::Adopt(result.value), peer.value};
}

void Accept::Discard(const RawResult& result) noexcept {
  internal::UsualOutcome<Result<Descriptor>>::Discard(result);
}

void Shutdown::Start(Record& record) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(record,
                           raw::Shutdown{.fd = FdOf(record.file), .how = how},
                           record.sqe_flags);
}

namespace internal {

void StartSend(Record& record, File socket, const std::byte* data,
               std::size_t size, int flags, const SocketAddress& address) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(
      record,
      raw::Send{.fd = FdOf(record.file),
                .buffer = data,
                .length = TransferLength(size),
                .flags = SendFlags(flags),
                .address = address.size() == 0 ? nullptr : address.data(),
                .address_length = static_cast<std::uint16_t>(address.size())},
      record.sqe_flags);
}

void StartReceive(Record& record, File socket, std::byte* data,
                  std::size_t size, int flags) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(record,
                           raw::Recv{.fd = FdOf(record.file),
                                     .buffer = data,
                                     .length = TransferLength(size),
                                     .flags = flags},
                           record.sqe_flags);
}

}  // namespace internal
}  // namespace escrow::safe
