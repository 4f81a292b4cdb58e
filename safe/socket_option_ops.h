#ifndef ESCROW_SAFE_SOCKET_OPTION_OPS_H_
#define ESCROW_SAFE_SOCKET_OPTION_OPS_H_

#include <sys/socket.h>

#include <concepts>
#include <cstddef>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

// Asking sockets, and telling them, for Ring::Start(). Linux 6.7.
//
//   ring.Start(SetSocketOption<int>{
//       .socket = socket, .level = SOL_SOCKET, .option = SO_KEEPALIVE,
//       .value = 1});

// Not declared by all that includes <sys/socket.h>.
struct sock_fprog;

namespace escrow::safe {

// The value of a socket option that is a number or a struct: an int, a linger,
// a timeval. Without pointers inside, which the kernel would follow to where
// nobody keeps anything alive; those that are seen are refused.
template <typename T>
concept PlainOption =
    ownership::PlainBytes<T> && !std::same_as<T, ::sock_fprog>;

namespace internal {

void StartSetSocketOption(ownership::Record& record, File socket, int level,
                          int option, const void* value, std::size_t size);
void StartGetSocketOption(ownership::Record& record, File socket, int option,
                          void* value, std::size_t size);
// The same with an option that is a descriptor.
void StartGetSocketOption(ownership::Record& record, File socket, int option,
                          int& value);

}  // namespace internal

// setsockopt(2). `T` is a PlainOption or an owned value: a std::string for
// SO_BINDTODEVICE or TCP_CONGESTION, a std::vector.
template <typename T>
requires PlainOption<T> || ownership::Readable<T>
struct SetSocketOption {
  File socket;
  int level = SOL_SOCKET;  // SOL_*, IPPROTO_*
  int option;              // of that level
  T value;

  using Outcome = Result<void>;
  void Start(ownership::Record& record) {
    if constexpr (ownership::Readable<T>) {
      internal::StartSetSocketOption(record, std::move(socket), level, option,
                                     ownership::OwnedMemory<T>::Data(value),
                                     ownership::OwnedMemory<T>::Size(value));
    } else {
      internal::StartSetSocketOption(record, std::move(socket), level, option,
                                     &value, sizeof(value));
    }
  }
};

// getsockopt(2), of level SOL_SOCKET. What the kernel does not fill of the
// value is zero. An option that is a descriptor (SO_PEERPIDFD, the only one) is
// asked for as GetSocketOption<Descriptor>; it is closed if nobody takes it.
template <typename T>
requires PlainOption<T> || std::same_as<T, ownership::Descriptor>
struct GetSocketOption {
  File socket;
  int option;  // SO_*

  KernelRoom<T> value = KernelRoom<T>();

  using Outcome = Result<T>;
  void Start(ownership::Record& record) {
    internal::StartGetSocketOption(record, std::move(socket), option,
                                   &value.value, sizeof(value.value));
  }
  Outcome Take(const ownership::RawResult& result) && {
    if (!result.ok()) return internal::Failure(result);
    return value.value;
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

template <>
struct GetSocketOption<ownership::Descriptor> {
  File socket;
  int option;  // SO_*

  KernelRoom<int> number = KernelRoom<int>();

  using Outcome = Result<ownership::Descriptor>;
  void Start(ownership::Record& record) {
    internal::StartGetSocketOption(record, std::move(socket), option,
                                   number.value);
  }
  Outcome Take(const ownership::RawResult& result) && {
    if (!result.ok()) return internal::Failure(result);
    return ownership::Descriptor::Adopt(number.value);
  }
  void Discard(const ownership::RawResult& result) noexcept {
    if (result.ok()) (void)ownership::Descriptor::Adopt(number.value);
  }
};

// getsockname(2), or getpeername(2). Linux 6.19; operation_not_supported
// before.
struct GetSocketName {
  File socket;
  bool peer = false;  // that of the other end

  KernelRoom<ownership::SocketAddress> address =
      KernelRoom<ownership::SocketAddress>();

  using Outcome = Result<ownership::SocketAddress>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult&) noexcept {}
};

// ioctl(2) SIOCINQ: bytes that wait to be received; of datagrams, those of the
// next one. operation_not_supported for unix sockets.
struct ReceivableBytes {
  File socket;

  using Outcome = Result<std::size_t>;
  void Start(ownership::Record& record);
};

// ioctl(2) SIOCOUTQ: bytes that were sent, and are still on this side or not
// acknowledged by the other. operation_not_supported for unix sockets.
struct UnsentBytes {
  File socket;

  using Outcome = Result<std::size_t>;
  void Start(ownership::Record& record);
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_SOCKET_OPTION_OPS_H_
