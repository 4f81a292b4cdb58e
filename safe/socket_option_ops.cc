#include "escrow/safe/socket_option_ops.h"

#include <cstddef>
#include <limits>
#include <utility>

#include "escrow/ownership/check.h"
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
using ownership::RawResult;
using ownership::Record;
using ownership::SocketAddress;

constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD, which older headers lack

int OptionLength(std::size_t size) {
  ESCROW_CHECK(
      size <= static_cast<std::size_t>(std::numeric_limits<int>::max()),
      "a socket option of 2 GiB");
  return static_cast<int>(size);
}

void StartGet(Record& record, File socket, int option, void* value,
              std::size_t size) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(record,
                           raw::GetSocketOption{.fd = FdOf(record.file),
                                                .option = option,
                                                .value = value,
                                                .length = OptionLength(size)},
                           record.sqe_flags);
}

}  // namespace

namespace internal {

void StartSetSocketOption(Record& record, File socket, int level, int option,
                          const void* value, std::size_t size) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(record,
                           raw::SetSocketOption{.fd = FdOf(record.file),
                                                .level = level,
                                                .option = option,
                                                .value = value,
                                                .length = OptionLength(size)},
                           record.sqe_flags);
}

void StartGetSocketOption(Record& record, File socket, int option, void* value,
                          std::size_t size) {
  ESCROW_CHECK(option != kPeerPidfd,
               "SO_PEERPIDFD as a number, which nobody would close");
  StartGet(record, std::move(socket), option, value, size);
}

void StartGetSocketOption(Record& record, File socket, int option, int& value) {
  ESCROW_CHECK(option == kPeerPidfd,
               "a socket option as a Descriptor, which it is not");
  StartGet(record, std::move(socket), option, &value, sizeof(value));
}

}  // namespace internal

void GetSocketName::Start(Record& record) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(
      record,
      raw::GetSocketName{.fd = FdOf(record.file),
                         .address = address.value.room(),
                         .address_length = address.value.size_room(),
                         .peer = peer},
      record.sqe_flags);
}

Result<SocketAddress> GetSocketName::Take(const RawResult& result) && {
  if (!result.ok()) return internal::Failure(result);
  return address.value;
}

void ReceivableBytes::Start(Record& record) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(
      record, raw::SocketInputQueue{.fd = FdOf(record.file)}, record.sqe_flags);
}

void UnsentBytes::Start(Record& record) {
  record.Hold(std::move(socket).Take());
  Engine::Of(record).Start(record,
                           raw::SocketOutputQueue{.fd = FdOf(record.file)},
                           record.sqe_flags);
}

}  // namespace escrow::safe
