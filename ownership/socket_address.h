#ifndef ESCROW_OWNERSHIP_SOCKET_ADDRESS_H_
#define ESCROW_OWNERSHIP_SOCKET_ADDRESS_H_

#include <sys/socket.h>

#include <cstddef>
#include <cstring>

#include "escrow/ownership/check.h"

namespace escrow::ownership {

// The address of a socket of any family, by value.
//
//   sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
//   ring.Start(safe::Bind{.socket = listener, .address = SocketAddress(any)});
class SocketAddress {
 public:
  // No address: size() is 0.
  SocketAddress() noexcept = default;

  // Copies `size` bytes of an address; at most those of a sockaddr_storage.
  SocketAddress(const sockaddr* address, std::size_t size) noexcept
      : size_(static_cast<socklen_t>(size)) {
    ESCROW_CHECK(size <= sizeof(storage_), "an address of no known family");
    std::memcpy(&storage_, address, size);
  }
  // One of sockaddr_in, sockaddr_in6, sockaddr_un, ...
  template <typename Address>
  requires requires(sockaddr_storage storage) {
    reinterpret_cast<Address&>(storage);
  } &&(sizeof(Address) <= sizeof(sockaddr_storage)) explicit SocketAddress(
      const Address& address) noexcept
      : SocketAddress(reinterpret_cast<const sockaddr*>(&address),
                      sizeof(address)) {
  }

  const sockaddr* data() const noexcept {
    return reinterpret_cast<const sockaddr*>(&storage_);
  }
  socklen_t size() const noexcept { return size_; }
  sa_family_t family() const noexcept {
    return size_ == 0 ? sa_family_t{AF_UNSPEC} : storage_.ss_family;
  }

  // Where a system call writes an address, and its size: in, the room; out, the
  // size of the whole, which may be more.
  sockaddr* room() noexcept { return reinterpret_cast<sockaddr*>(&storage_); }
  static constexpr socklen_t kRoom = sizeof(sockaddr_storage);
  socklen_t* size_room() noexcept {
    size_ = kRoom;
    return &size_;
  }

 private:
  sockaddr_storage storage_ = {};
  socklen_t size_ = 0;
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_SOCKET_ADDRESS_H_
