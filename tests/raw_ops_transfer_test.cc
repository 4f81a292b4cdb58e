#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "escrow/raw/ops_ring.h"
#include "escrow/raw/ops_transfer.h"
#include "escrow/raw/ring.h"
#include "tests/raw_op_support.h"
#include "tests/raw_ops_test.h"

namespace escrow::raw {
namespace {

// A UDP socket on the loopback device, and its address.
struct Receiver {
  Closing fd{socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address = {};

  Receiver() {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(fd.get(), generic(), length), 0);
    EXPECT_EQ(getsockname(fd.get(), generic(), &length), 0);
  }
  sockaddr* generic() { return reinterpret_cast<sockaddr*>(&address); }
};

Closing MakeUdpSocket() {
  return Closing(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

TEST_F(RawOps, Send) {
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  EXPECT_EQ(ResultOf(Send{.fd = sockets.first.get(),
                          .buffer = "abcdef",
                          .length = 3,
                          .io_flags = IORING_RECVSEND_POLL_FIRST}),
            3);
  EXPECT_EQ(ReadFrom(sockets.second.get()), "abc");
  Receiver receiver;
  const Closing udp = MakeUdpSocket();
  EXPECT_EQ(ResultOf(Send{.fd = udp.get(),
                          .buffer = "abc",
                          .length = 3,
                          .address = receiver.generic(),
                          .address_length = sizeof(sockaddr_in)}),
            3);
  EXPECT_EQ(ReadFrom(receiver.fd.get()), "abc");
  EXPECT_EQ(RefusalOf(Send{.fd = udp.get(), .buffer = "abc", .length = 3}),
            EDESTADDRREQ);
  const Ends pipe = MakePipe();
  EXPECT_EQ(
      RefusalOf(Send{.fd = pipe.second.get(), .buffer = "abc", .length = 3}),
      ENOTSOCK);
}

TEST_F(RawOps, SendVectors) {
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  char first[] = "ab";
  char second[] = "cde";
  const iovec vectors[] = {{first, 2}, {second, 3}};
  EXPECT_EQ(ResultOf(SendVectors{
                .fd = sockets.first.get(), .vectors = vectors, .count = 2}),
            5);
  EXPECT_EQ(ReadFrom(sockets.second.get()), "abcde");
  Receiver receiver;
  const Closing udp = MakeUdpSocket();
  EXPECT_EQ(ResultOf(SendVectors{.fd = udp.get(),
                                 .vectors = vectors,
                                 .count = 2,
                                 .address = receiver.generic(),
                                 .address_length = sizeof(sockaddr_in)}),
            5);
  EXPECT_EQ(ReadFrom(receiver.fd.get()), "abcde");
}

TEST_F(RawOps, SendSelected) {
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/2, /*size=*/3);
  std::memcpy(buffers.data(0), "abcdef", 6);
  Completion completion =
      Run(SendSelected{.fd = sockets.first.get(), .group = 5});
  EXPECT_EQ(completion.result, 3);
  ASSERT_TRUE(completion.has_buffer());
  EXPECT_EQ(ReadFrom(sockets.second.get()), buffers.Content(completion));
  completion =
      Run(SendSelected{.fd = sockets.first.get(), .group = 5, .length = 2});
  EXPECT_EQ(completion.result, 2);
  EXPECT_EQ(ReadFrom(sockets.second.get()), buffers.Content(completion));
  EXPECT_EQ(RefusalOf(SendSelected{.fd = sockets.first.get(), .group = 5}),
            ENOBUFS);
}

TEST_F(RawOps, SendBundle) {
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/4, /*size=*/3);
  std::memcpy(buffers.data(0), "abcdefghijkl", 12);
  const Completion completion =
      Run(SendBundle{.fd = sockets.first.get(), .group = 5});
  EXPECT_EQ(completion.result, 12);
  ASSERT_TRUE(completion.has_buffer());
  EXPECT_EQ(completion.buffer_id(), 0u);
  EXPECT_EQ(ReadFrom(sockets.second.get()), "abcdefghijkl");
  EXPECT_EQ(RefusalOf(SendBundle{.fd = sockets.first.get(), .group = 5}),
            ENOBUFS);
}

// What a zero-copy send of three bytes has to complete with: the result, then
// the notification.
void ExpectSentWithNotification(const std::vector<Completion>& completions) {
  ASSERT_EQ(completions.size(), 2u);
  EXPECT_EQ(completions[0].result, 3);
  EXPECT_TRUE(completions[0].more());
  EXPECT_FALSE(completions[0].is_notification());
  EXPECT_FALSE(completions[1].more());
  EXPECT_TRUE(completions[1].is_notification());
  EXPECT_EQ(completions[1].user_data, completions[0].user_data);
}

TEST_F(RawOps, SendZeroCopy) {
  const Ends tcp = MakeTcpPair();
  Push(SendZeroCopy{.fd = tcp.first.get(), .buffer = "abc", .length = 3}, 1);
  // The peer has to take it from the loopback device before the notification.
  ASSERT_EQ(*ring().Submit(), 1u);
  EXPECT_EQ(ReadFrom(tcp.second.get()), "abc");
  ExpectSentWithNotification(Reap(2));

  if (KernelIsAtLeast("6.2")) {
    Push(SendZeroCopy{.fd = tcp.first.get(),
                      .buffer = "abc",
                      .length = 3,
                      .io_flags = IORING_SEND_ZC_REPORT_USAGE},
         1);
    ASSERT_EQ(*ring().Submit(), 1u);
    EXPECT_EQ(ReadFrom(tcp.second.get()), "abc");
    const std::vector<Completion> completions = Reap(2);
    ExpectSentWithNotification(completions);
    // The loopback device copies.
    EXPECT_EQ(static_cast<unsigned>(completions[1].result),
              IORING_NOTIF_USAGE_ZC_COPIED);
  }

  Receiver receiver;
  const Closing udp = MakeUdpSocket();
  Push(SendZeroCopy{.fd = udp.get(),
                    .buffer = "abc",
                    .length = 3,
                    .address = receiver.generic(),
                    .address_length = sizeof(sockaddr_in)},
       1);
  ASSERT_EQ(*ring().Submit(), 1u);
  EXPECT_EQ(ReadFrom(receiver.fd.get()), "abc");
  ExpectSentWithNotification(Reap(2));

  // An error has a notification, too.
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  Push(SendZeroCopy{.fd = sockets.first.get(), .buffer = "abc", .length = 3},
       1);
  const std::vector<Completion> refused = Reap(2);
  EXPECT_EQ(refused[0].result, -EOPNOTSUPP);
  EXPECT_TRUE(refused[0].more());
  EXPECT_TRUE(refused[1].is_notification());
  PushTo(ring(),
         SendZeroCopy{.fd = tcp.first.get(), .buffer = "abc", .length = 3}, 1,
         IOSQE_CQE_SKIP_SUCCESS);
  EXPECT_EQ(Reap(1).at(0).result, -EINVAL);
  EXPECT_EQ(ResultOf(Nop{}), 0);
}

TEST_F(RawOps, SendZeroCopyFixed) {
  const Ends tcp = MakeTcpPair();
  alignas(4096) static char memory[4096] = "xxabcxx";
  const iovec vector = {.iov_base = memory, .iov_len = sizeof(memory)};
  ASSERT_EQ(io_uring_register_buffers(ring().get(), &vector, 1), 0);
  Push(SendZeroCopyFixed{.fd = tcp.first.get(),
                         .buffer = memory + 2,
                         .length = 3,
                         .buffer_index = 0},
       1);
  ASSERT_EQ(*ring().Submit(), 1u);
  EXPECT_EQ(ReadFrom(tcp.second.get()), "abc");
  ExpectSentWithNotification(Reap(2));
  Push(SendZeroCopyFixed{.fd = tcp.first.get(),
                         .buffer = memory,
                         .length = 3,
                         .buffer_index = 1},
       1);
  EXPECT_EQ(Reap(2).at(0).result, -EFAULT);
}

TEST_F(RawOps, SendZeroCopyVectors) {
  const Ends tcp = MakeTcpPair();
  char first[] = "a";
  char second[] = "bc";
  const iovec vectors[] = {{first, 1}, {second, 2}};
  Push(
      SendZeroCopyVectors{
          .fd = tcp.first.get(), .vectors = vectors, .count = 2},
      1);
  ASSERT_EQ(*ring().Submit(), 1u);
  EXPECT_EQ(ReadFrom(tcp.second.get()), "abc");
  ExpectSentWithNotification(Reap(2));
}

// A message of one vector.
struct Message {
  iovec vector;
  msghdr header = {};

  Message(char* data, std::size_t size) : vector{data, size} {
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
  }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
};

// Room for a descriptor that is passed.
struct DescriptorControl {
  alignas(cmsghdr) char bytes[CMSG_SPACE(sizeof(int))] = {};

  void AttachTo(msghdr& header) {
    header.msg_control = bytes;
    header.msg_controllen = sizeof(bytes);
  }
  void Set(msghdr& header, int fd) {
    AttachTo(header);
    cmsghdr* const control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(control), &fd, sizeof(fd));
  }
  static int Get(msghdr& header) {
    const cmsghdr* const control = CMSG_FIRSTHDR(&header);
    int fd = -1;
    if (control != nullptr && control->cmsg_type == SCM_RIGHTS) {
      std::memcpy(&fd, CMSG_DATA(control), sizeof(fd));
    }
    return fd;
  }
};

TEST_F(RawOps, SendMsg) {
  const Ends sockets = MakeSocketPair(SOCK_DGRAM);
  const Ends pipe = MakePipe();
  char text[] = "abc";
  Message sent(text, 3);
  DescriptorControl passed;
  passed.Set(sent.header, pipe.second.get());
  EXPECT_EQ(
      ResultOf(SendMsg{.fd = sockets.first.get(), .message = &sent.header}), 3);

  char buffer[8];
  Message received(buffer, sizeof(buffer));
  DescriptorControl control;
  control.AttachTo(received.header);
  ASSERT_EQ(recvmsg(sockets.second.get(), &received.header,
                    MSG_CMSG_CLOEXEC | MSG_DONTWAIT),
            3);
  const Closing copy(DescriptorControl::Get(received.header));
  WriteTo(copy.get(), "through the copy");
  EXPECT_EQ(ReadFrom(pipe.first.get()), "through the copy");
}

TEST_F(RawOps, SendMsgZeroCopy) {
  const Ends tcp = MakeTcpPair();
  char text[] = "abc";
  const Message message(text, 3);
  Push(SendMsgZeroCopy{.fd = tcp.first.get(), .message = &message.header}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  EXPECT_EQ(ReadFrom(tcp.second.get()), "abc");
  ExpectSentWithNotification(Reap(2));
}

TEST_F(RawOps, SendMsgZeroCopyFixed) {
  const Ends tcp = MakeTcpPair();
  alignas(4096) static char memory[4096] = "xxabcxx";
  const iovec vector = {.iov_base = memory, .iov_len = sizeof(memory)};
  ASSERT_EQ(io_uring_register_buffers(ring().get(), &vector, 1), 0);
  const Message message(memory + 2, 3);
  Push(
      SendMsgZeroCopyFixed{
          .fd = tcp.first.get(), .message = &message.header, .buffer_index = 0},
      1);
  ASSERT_EQ(*ring().Submit(), 1u);
  EXPECT_EQ(ReadFrom(tcp.second.get()), "abc");
  ExpectSentWithNotification(Reap(2));
}

TEST_F(RawOps, Recv) {
  Ends sockets = MakeSocketPair(SOCK_STREAM);
  char buffer[4] = {};
  WriteTo(sockets.first.get(), "abcdef");
  const Completion first =
      Run(Recv{.fd = sockets.second.get(), .buffer = buffer, .length = 4});
  EXPECT_EQ(first.result, 4);
  EXPECT_EQ(std::string(buffer, 4), "abcd");
  EXPECT_NE(first.flags & IORING_CQE_F_SOCK_NONEMPTY, 0u);
  const Completion second = Run(Recv{.fd = sockets.second.get(),
                                     .buffer = buffer,
                                     .length = 4,
                                     .io_flags = IORING_RECVSEND_POLL_FIRST});
  EXPECT_EQ(second.result, 2);
  EXPECT_EQ(second.flags & IORING_CQE_F_SOCK_NONEMPTY, 0u);
  // All of it, although it comes in two.
  Push(Recv{.fd = sockets.second.get(),
            .buffer = buffer,
            .length = 4,
            .flags = MSG_WAITALL},
       1);
  ASSERT_EQ(*ring().Submit(), 1u);
  WriteTo(sockets.first.get(), "01");
  EXPECT_EQ(ResultOf(Nop{}), 0);
  WriteTo(sockets.first.get(), "23");
  EXPECT_EQ(Reap(1).at(0).result, 4);
  EXPECT_EQ(std::string(buffer, 4), "0123");
  sockets.first.Close();
  EXPECT_EQ(
      ResultOf(Recv{.fd = sockets.second.get(), .buffer = buffer, .length = 4}),
      0);
}

TEST_F(RawOps, RecvSelected) {
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/2, /*size=*/4);
  WriteTo(sockets.first.get(), "abcdefg");
  const Completion first =
      Run(RecvSelected{.fd = sockets.second.get(), .group = 5, .length = 2});
  EXPECT_EQ(buffers.Content(first), "ab");
  const Completion second =
      Run(RecvSelected{.fd = sockets.second.get(), .group = 5});
  EXPECT_EQ(buffers.Content(second), "cdef");
  EXPECT_NE(first.buffer_id(), second.buffer_id());
  EXPECT_EQ(RefusalOf(RecvSelected{.fd = sockets.second.get(), .group = 5}),
            ENOBUFS);
}

TEST_F(RawOps, RecvBundle) {
  const Ends sockets = MakeSocketPair(SOCK_STREAM);
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/8, /*size=*/4);
  WriteTo(sockets.first.get(), "abcdefghij");
  Completion completion =
      Run(RecvBundle{.fd = sockets.second.get(), .group = 5, .length = 12});
  EXPECT_EQ(completion.result, 10);
  ASSERT_TRUE(completion.has_buffer());
  EXPECT_EQ(completion.buffer_id(), 0u);
  // They follow each other in memory, as in the group.
  EXPECT_EQ(buffers.Content(completion), "abcdefghij");
  // The kernel may take fewer than the data needs.
  WriteTo(sockets.first.get(), "0123456789");
  completion = Run(RecvBundle{.fd = sockets.second.get(), .group = 5});
  EXPECT_EQ(completion.buffer_id(), 3u);
  ASSERT_GE(completion.result, 4);
  std::string all = buffers.Content(completion);
  if (all.size() < 10) all += ReadFrom(sockets.second.get());
  EXPECT_EQ(all, "0123456789");
}

TEST_F(RawOps, RecvMultishot) {
  Ends sockets = MakeSocketPair(SOCK_STREAM);
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/4, /*size=*/4);
  Push(RecvMultishot{.fd = sockets.second.get(), .group = 5}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  for (const char* text : {"one", "two"}) {
    WriteTo(sockets.first.get(), text);
    const Completion completion = Reap(1).at(0);
    EXPECT_TRUE(completion.more());
    EXPECT_EQ(buffers.Content(completion), text);
  }
  // More than the buffers that are left.
  WriteTo(sockets.first.get(), "0123456789");
  std::vector<Completion> completions = Reap(3);
  EXPECT_EQ(buffers.Content(completions.at(0)), "0123");
  EXPECT_EQ(buffers.Content(completions.at(1)), "4567");
  EXPECT_EQ(completions.at(2).result, -ENOBUFS);
  EXPECT_FALSE(completions.at(2).more());

  if (KernelIsAtLeast("6.17")) {
    for (unsigned id = 0; id < 4; ++id) buffers.Provide(id, 4);
    // Three bytes at a time, until there are five, of the twelve that are
    // there.
    WriteTo(sockets.first.get(), "abcdefghij");
    Push(RecvMultishot{.fd = sockets.second.get(),
                       .group = 5,
                       .length = 3,
                       .total_length = 5},
         1);
    const Completion first = Reap(1).at(0);
    EXPECT_EQ(buffers.Content(first), "89a");
    EXPECT_TRUE(first.more());
    const Completion second = Reap(1).at(0);
    EXPECT_EQ(buffers.Content(second), "bcd");
    EXPECT_FALSE(second.more());
    EXPECT_EQ(ReadFrom(sockets.second.get()), "efghij");
  } else {
    EXPECT_EQ(ReadFrom(sockets.second.get()), "89");
  }

  // The peer closes.
  for (unsigned id = 0; id < 2; ++id) buffers.Provide(id, 4);
  Push(RecvMultishot{.fd = sockets.second.get(), .group = 5}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  sockets.first.Close();
  const Completion end = Reap(1).at(0);
  EXPECT_EQ(end.result, 0);
  EXPECT_FALSE(end.more());
  EXPECT_EQ(RefusalOf(RecvMultishot{
                .fd = sockets.second.get(), .group = 5, .flags = MSG_WAITALL}),
            EINVAL);
}

TEST_F(RawOps, RecvBundleMultishot) {
  Ends sockets = MakeSocketPair(SOCK_STREAM);
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/8, /*size=*/4);
  Push(RecvBundleMultishot{.fd = sockets.second.get(), .group = 5}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  unsigned next = 0;
  for (const char* text : {"abcdefg", "hijk"}) {
    WriteTo(sockets.first.get(), text);
    const Completion completion = Reap(1).at(0);
    EXPECT_TRUE(completion.more());
    EXPECT_EQ(completion.buffer_id(), next);
    EXPECT_EQ(buffers.Content(completion), text);
    next += 2;
  }
  sockets.first.Close();
  const Completion end = Reap(1).at(0);
  EXPECT_EQ(end.result, 0);
  EXPECT_FALSE(end.more());
}

TEST_F(RawOps, RecvZeroCopy) {
  // What it needs, a network card's queue, is seldom there. Without one:
  const Ends tcp = MakeTcpPair();
  Ring wide =
      MakeRing({.entries = 4,
                .setup_flags = IORING_SETUP_CQE32 | IORING_SETUP_SINGLE_ISSUER |
                               IORING_SETUP_DEFER_TASKRUN});
  EXPECT_EQ(RefusalOn(wide, RecvZeroCopy{.fd = tcp.first.get(),
                                         .interface_queue = 0}),
            EINVAL);
}

TEST_F(RawOps, RecvMsg) {
  Receiver receiver;
  Receiver sender;
  ASSERT_EQ(sendto(sender.fd.get(), "abcdef", 6, 0, receiver.generic(),
                   sizeof(sockaddr_in)),
            6);
  char buffer[4];
  Message message(buffer, sizeof(buffer));
  sockaddr_in from = {};
  message.header.msg_name = &from;
  message.header.msg_namelen = 128;
  EXPECT_EQ(
      ResultOf(RecvMsg{.fd = receiver.fd.get(), .message = &message.header}),
      4);
  EXPECT_EQ(std::string(buffer, 4), "abcd");
  EXPECT_EQ(from.sin_port, sender.address.sin_port);
  // Written back.
  EXPECT_EQ(message.header.msg_namelen, sizeof(from));
  EXPECT_EQ(message.header.msg_flags & MSG_TRUNC, MSG_TRUNC);

  const Ends sockets = MakeSocketPair(SOCK_DGRAM);
  const Ends pipe = MakePipe();
  char text[] = "x";
  Message sent(text, 1);
  DescriptorControl passed;
  passed.Set(sent.header, pipe.second.get());
  ASSERT_EQ(sendmsg(sockets.first.get(), &sent.header, 0), 1);
  Message received(buffer, sizeof(buffer));
  DescriptorControl control;
  control.AttachTo(received.header);
  EXPECT_EQ(ResultOf(RecvMsg{.fd = sockets.second.get(),
                             .message = &received.header,
                             .flags = MSG_CMSG_CLOEXEC}),
            1);
  const Closing copy(DescriptorControl::Get(received.header));
  WriteTo(copy.get(), "through the copy");
  EXPECT_EQ(ReadFrom(pipe.first.get()), "through the copy");
}

TEST_F(RawOps, RecvMsgSelected) {
  Receiver receiver;
  Receiver sender;
  ASSERT_EQ(sendto(sender.fd.get(), "abcdef", 6, 0, receiver.generic(),
                   sizeof(sockaddr_in)),
            6);
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/1, /*size=*/8);
  Message message(nullptr, 4);
  sockaddr_in from = {};
  message.header.msg_name = &from;
  message.header.msg_namelen = sizeof(from);
  const Completion completion = Run(RecvMsgSelected{
      .fd = receiver.fd.get(), .message = &message.header, .group = 5});
  ASSERT_EQ(completion.result, 4);
  ASSERT_TRUE(completion.has_buffer());
  EXPECT_EQ(buffers.Content(completion), "abcd");
  EXPECT_EQ(from.sin_port, sender.address.sin_port);
  EXPECT_EQ(message.header.msg_flags & MSG_TRUNC, MSG_TRUNC);
}

TEST_F(RawOps, RecvMsgMultishot) {
  Receiver receiver;
  Receiver sender;
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/2, /*size=*/256);
  msghdr room = {};
  room.msg_namelen = sizeof(sockaddr_in);
  room.msg_controllen = 32;
  Push(RecvMsgMultishot{.fd = receiver.fd.get(), .message = &room, .group = 5},
       1);
  ASSERT_EQ(*ring().Submit(), 1u);
  for (const std::string text : {"one", "second"}) {
    ASSERT_EQ(sendto(sender.fd.get(), text.data(), text.size(), 0,
                     receiver.generic(), sizeof(sockaddr_in)),
              static_cast<ssize_t>(text.size()));
    const Completion completion = Reap(1).at(0);
    EXPECT_TRUE(completion.more());
    ASSERT_TRUE(completion.has_buffer());
    io_uring_recvmsg_out* const out = io_uring_recvmsg_validate(
        buffers.data(completion.buffer_id()), completion.result, &room);
    ASSERT_NE(out, nullptr);
    sockaddr_in from;
    std::memcpy(&from, io_uring_recvmsg_name(out), sizeof(from));
    EXPECT_EQ(from.sin_port, sender.address.sin_port);
    EXPECT_EQ(
        std::string(
            static_cast<char*>(io_uring_recvmsg_payload(out, &room)),
            io_uring_recvmsg_payload_length(out, completion.result, &room)),
        text);
  }
  ASSERT_EQ(sendto(sender.fd.get(), "x", 1, 0, receiver.generic(),
                   sizeof(sockaddr_in)),
            1);
  const Completion empty = Reap(1).at(0);
  EXPECT_EQ(empty.result, -ENOBUFS);
  EXPECT_FALSE(empty.more());
}

}  // namespace
}  // namespace escrow::raw
