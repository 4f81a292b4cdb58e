#ifndef ESCROW_SAFE_MESSAGE_OPS_H_
#define ESCROW_SAFE_MESSAGE_OPS_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "escrow/ownership/control_data.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"
#include "escrow/safe/several.h"

// Messages on sockets, for Ring::Start(): with addresses and control data, and
// with bytes that are in several places.
//
//   ControlData control;
//   control.Pass(log);
//   auto [size, message] = ring.Wait(ring.Start(SendMessage<std::string>{
//       .socket = peer,
//       .message = {.bytes = "take it", .control = std::move(control)}}));
//
// The whole message comes back with the result, on success and on error.
//
// The bytes of a message are one owned value (ownership/memory.h), or several,
// which the kernel goes through in their order: a std::tuple, a std::array or a
// std::vector of such. A message that is too big for a record (more than two
// std::strings are), or has more than four parts in a std::vector, costs an
// allocation; more than IOV_MAX of them are message_size.

namespace escrow::safe {

namespace internal {

template <ownership::Readable B>
iovec VectorOf(B& part) noexcept {
  // The kernel only reads what is only Readable.
  return {.iov_base = const_cast<std::byte*>(static_cast<const std::byte*>(
              ownership::OwnedMemory<B>::Data(part))),
          .iov_len = ownership::OwnedMemory<B>::Size(part)};
}

// What is told to the kernel about the bytes of a message, in a Room.
template <typename T>
struct MessageParts;

template <ownership::Readable B>
struct MessageParts<B> {
  static constexpr bool kWritable = ownership::Writable<B>;

  using Room = iovec;
  static std::span<const iovec> Describe(B& bytes, Room& room) {
    room = VectorOf(bytes);
    return {&room, 1};
  }
  static void AddTo(CommonRegistration& common, const B& bytes) noexcept {
    common.Add(bytes);
  }
};

template <ownership::Readable... Bs>
struct MessageParts<std::tuple<Bs...>> {
  static constexpr bool kWritable = (ownership::Writable<Bs> && ...);

  using Room = std::array<iovec, sizeof...(Bs)>;
  static std::span<const iovec> Describe(std::tuple<Bs...>& bytes, Room& room) {
    std::apply([&](Bs&... parts) { room = {VectorOf(parts)...}; }, bytes);
    return room;
  }
  static void AddTo(CommonRegistration& common,
                    const std::tuple<Bs...>& bytes) noexcept {
    std::apply([&](const Bs&... parts) { (common.Add(parts), ...); }, bytes);
  }
};

template <ownership::Readable B, std::size_t kCount>
struct MessageParts<std::array<B, kCount>> {
  static constexpr bool kWritable = ownership::Writable<B>;

  using Room = std::array<iovec, kCount>;
  static std::span<const iovec> Describe(std::array<B, kCount>& bytes,
                                         Room& room) {
    std::ranges::transform(bytes, room.begin(), VectorOf<B>);
    return room;
  }
  static void AddTo(CommonRegistration& common,
                    const std::array<B, kCount>& bytes) noexcept {
    for (const B& part : bytes) common.Add(part);
  }
};

template <ownership::Readable B>
struct MessageParts<std::vector<B>> {
  static constexpr bool kWritable = ownership::Writable<B>;

  struct Room {
    std::array<iovec, 4> few;
    std::unique_ptr<iovec[]> many;
  };
  static std::span<const iovec> Describe(std::vector<B>& bytes, Room& room) {
    iovec* place = room.few.data();
    if (bytes.size() > room.few.size()) {
      room.many = std::make_unique<iovec[]>(bytes.size());
      place = room.many.get();
    }
    std::ranges::transform(bytes, place, VectorOf<B>);
    return {place, bytes.size()};
  }
  static void AddTo(CommonRegistration& common,
                    const std::vector<B>& bytes) noexcept {
    for (const B& part : bytes) common.Add(part);
  }
};

// The msghdr of a message, and what it points to besides the user's values.
template <typename T>
struct MessageHeader {
  msghdr header;
  typename MessageParts<T>::Room parts;
};

// Has `header` say what is to be sent.
void DescribeMessage(msghdr& header, std::span<const iovec> parts,
                     const ownership::SocketAddress& address,
                     const ownership::ControlData& control) noexcept;

void StartSendMessage(ownership::Record& record, File socket, msghdr& header,
                      std::span<const iovec> parts,
                      const ownership::SocketAddress& address,
                      const ownership::ControlData& control, int flags);
void StartReceiveMessage(ownership::Record& record, File socket, msghdr& header,
                         std::span<const iovec> parts,
                         ownership::SocketAddress& address,
                         ownership::ControlRoom& control, int flags);
// Takes over what the kernel wrote into `header`: the MSG_* of the message.
int FinishReceiveMessage(const ownership::RawResult& result,
                         const msghdr& header,
                         ownership::SocketAddress& address);

}  // namespace internal

// One owned value, or several in a std::tuple, a std::array or a std::vector.
template <typename T>
concept ReadableMessage = requires {
  typename internal::MessageParts<T>::Room;
};
template <typename T>
concept WritableMessage =
    ReadableMessage<T> && internal::MessageParts<T>::kWritable;

template <ReadableMessage T>
struct OutgoingMessage {
  T bytes;
  ownership::ControlData control = {};
  ownership::SocketAddress address = {};  // of a datagram; none: as connected
};

// sendmsg(2): bytes sent. May send less; with MSG_WAITALL and without control
// data the kernel goes on until all is sent. With MSG_NOSIGNAL in any case: a
// closed connection is broken_pipe. Not MSG_ZEROCOPY.
//
// Control data goes with the first byte. The message has none any more when it
// comes back: what it passed is let go as soon as the send is done.
template <ReadableMessage T>
struct SendMessage {
  File socket;
  OutgoingMessage<T> message;
  int flags = 0;  // MSG_*

  KernelRoom<internal::MessageHeader<T>> header =
      KernelRoom<internal::MessageHeader<T>>();

  using Outcome = Transfer<OutgoingMessage<T>>;
  void Start(ownership::Record& record) {
    internal::StartSendMessage(
        record, std::move(socket), header.value.header,
        internal::MessageParts<T>::Describe(message.bytes, header.value.parts),
        message.address, message.control, flags);
  }
  bool Arrive(const ownership::RawResult&, bool) noexcept {
    message.control.Clear();
    return false;
  }
  Outcome Take(const ownership::RawResult& result) && {
    return {internal::UsualOutcome<Result<std::size_t>>::Take(result),
            std::move(message)};
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

template <WritableMessage T>
struct IncomingMessage {
  T bytes;
  ownership::ControlRoom control = {};

  // Set by a receive that succeeds, and cleared by one that fails. The address
  // is that of a datagram's sender; connections may not tell.
  ownership::SocketAddress address = {};
  // MSG_TRUNC: a datagram was longer than `bytes`, and the rest is lost.
  // MSG_CTRUNC: there was more control data than `control` has room for; cut
  // off descriptors were closed. MSG_EOR, MSG_OOB, MSG_ERRQUEUE.
  int flags = 0;
};

// recvmsg(2), with MSG_CMSG_CLOEXEC in any case: bytes received, 0 when the
// peer has closed. With MSG_WAITALL and without room for control data the
// kernel goes on until the bytes are full; with MSG_TRUNC the result is a
// datagram's length, even if that is more.
//
// What `control` holds from before is cleared. Received descriptors that nobody
// takes are closed, also if nobody asks for the outcome.
template <WritableMessage T>
struct ReceiveMessage {
  File socket;
  IncomingMessage<T> message;
  int flags = 0;  // MSG_*

  KernelRoom<internal::MessageHeader<T>> header =
      KernelRoom<internal::MessageHeader<T>>();

  using Outcome = Transfer<IncomingMessage<T>>;
  void Start(ownership::Record& record) {
    internal::StartReceiveMessage(
        record, std::move(socket), header.value.header,
        internal::MessageParts<T>::Describe(message.bytes, header.value.parts),
        message.address, message.control, flags);
  }
  Outcome Take(const ownership::RawResult& result) && {
    message.flags = internal::FinishReceiveMessage(result, header.value.header,
                                                   message.address);
    return {internal::UsualOutcome<Result<std::size_t>>::Take(result),
            std::move(message)};
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_MESSAGE_OPS_H_
