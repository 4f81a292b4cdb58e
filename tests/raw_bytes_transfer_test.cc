#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>

#include "escrow/raw/ops_transfer.h"
#include "tests/raw_bytes.h"

namespace escrow::raw {
namespace {

void SelectBuffer(io_uring_sqe* sqe, std::uint16_t group) {
  io_uring_sqe_set_flags(sqe, sqe->flags | IOSQE_BUFFER_SELECT);
  io_uring_sqe_set_buf_group(sqe, group);
}

template <typename Op>
void SetAddress(Random& random, Op& op, io_uring_sqe* sqe) {
  if (random.Flip()) return;
  const auto* const address = random.Pointer<sockaddr>();
  op.address = address;
  op.address_length = random.Any<std::uint16_t>();
  io_uring_prep_send_set_addr(sqe, address, op.address_length);
}

TEST_F(RawBytes, Send) {
  Compare<Send>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const buffer = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    Send op{.fd = fd, .buffer = buffer, .length = length};
    const auto flags = random.Optional(op.flags);
    if (random.Flip()) {
      const auto* const address = random.Pointer<sockaddr>();
      op.address = address;
      op.address_length = random.Any<std::uint16_t>();
      io_uring_prep_sendto(sqe, fd.number, buffer, length, flags, address,
                           op.address_length);
    } else {
      io_uring_prep_send(sqe, fd.number, buffer, length, flags);
    }
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SendVectors) {
  Compare<SendVectors>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const vectors = random.Pointer<iovec>();
    const auto count = random.Any<std::uint32_t>();
    SendVectors op{.fd = fd, .vectors = vectors, .count = count};
    io_uring_prep_send(sqe, fd.number, vectors, count,
                       random.Optional(op.flags));
    sqe->ioprio |= IORING_SEND_VECTORIZED;
    sqe->ioprio |= random.Optional(op.io_flags);
    SetAddress(random, op, sqe);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SendSelected) {
  Compare<SendSelected>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto group = random.Any<std::uint16_t>();
    SendSelected op{.fd = fd, .group = group};
    const auto length = random.Optional(op.length);
    io_uring_prep_send(sqe, fd.number, nullptr, length,
                       random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    return op;
  });
}

TEST_F(RawBytes, SendBundle) {
  Compare<SendBundle>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto group = random.Any<std::uint16_t>();
    SendBundle op{.fd = fd, .group = group};
    const auto length = random.Optional(op.length);
    io_uring_prep_send_bundle(sqe, fd.number, length,
                              random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    return op;
  });
}

TEST_F(RawBytes, SendZeroCopy) {
  Compare<SendZeroCopy>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const buffer = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    SendZeroCopy op{.fd = fd, .buffer = buffer, .length = length};
    const auto flags = random.Optional(op.flags);
    io_uring_prep_send_zc(sqe, fd.number, buffer, length, flags,
                          random.Optional(op.io_flags));
    SetAddress(random, op, sqe);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SendZeroCopyFixed) {
  Compare<SendZeroCopyFixed>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const buffer = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    const auto index = random.Any<std::uint16_t>();
    SendZeroCopyFixed op{
        .fd = fd, .buffer = buffer, .length = length, .buffer_index = index};
    const auto flags = random.Optional(op.flags);
    io_uring_prep_send_zc_fixed(sqe, fd.number, buffer, length, flags,
                                random.Optional(op.io_flags), index);
    SetAddress(random, op, sqe);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SendZeroCopyVectors) {
  Compare<SendZeroCopyVectors>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const vectors = random.Pointer<iovec>();
    const auto count = random.Any<std::uint32_t>();
    SendZeroCopyVectors op{.fd = fd, .vectors = vectors, .count = count};
    const auto flags = random.Optional(op.flags);
    io_uring_prep_send_zc(sqe, fd.number, vectors, count, flags,
                          random.Optional(op.io_flags));
    sqe->ioprio |= IORING_SEND_VECTORIZED;
    SetAddress(random, op, sqe);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SendMsg) {
  Compare<SendMsg>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const message = random.Pointer<msghdr>();
    SendMsg op{.fd = fd, .message = message};
    io_uring_prep_sendmsg(sqe, fd.number, message, random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SendMsgZeroCopy) {
  Compare<SendMsgZeroCopy>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const message = random.Pointer<msghdr>();
    SendMsgZeroCopy op{.fd = fd, .message = message};
    io_uring_prep_sendmsg_zc(sqe, fd.number, message,
                             random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SendMsgZeroCopyFixed) {
  Compare<SendMsgZeroCopyFixed>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const message = random.Pointer<msghdr>();
    const auto index = random.Any<std::uint16_t>();
    SendMsgZeroCopyFixed op{
        .fd = fd, .message = message, .buffer_index = index};
    io_uring_prep_sendmsg_zc_fixed(sqe, fd.number, message,
                                   random.Optional(op.flags), index);
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, Recv) {
  Compare<Recv>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    auto* const buffer = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    Recv op{.fd = fd, .buffer = buffer, .length = length};
    io_uring_prep_recv(sqe, fd.number, buffer, length,
                       random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, RecvSelected) {
  Compare<RecvSelected>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto group = random.Any<std::uint16_t>();
    RecvSelected op{.fd = fd, .group = group};
    const auto length = random.Optional(op.length);
    io_uring_prep_recv(sqe, fd.number, nullptr, length,
                       random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    return op;
  });
}

TEST_F(RawBytes, RecvBundle) {
  Compare<RecvBundle>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto group = random.Any<std::uint16_t>();
    RecvBundle op{.fd = fd, .group = group};
    const auto length = random.Optional(op.length);
    io_uring_prep_recv(sqe, fd.number, nullptr, length,
                       random.Optional(op.flags));
    sqe->ioprio |= IORING_RECVSEND_BUNDLE;
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    return op;
  });
}

TEST_F(RawBytes, RecvMultishot) {
  Compare<RecvMultishot>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto group = random.Any<std::uint16_t>();
    RecvMultishot op{.fd = fd, .group = group};
    const auto length = random.Optional(op.length);
    io_uring_prep_recv_multishot(sqe, fd.number, nullptr, length,
                                 random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    sqe->optlen = random.Optional(op.total_length);
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    return op;
  });
}

TEST_F(RawBytes, RecvBundleMultishot) {
  Compare<RecvBundleMultishot>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto group = random.Any<std::uint16_t>();
    RecvBundleMultishot op{.fd = fd, .group = group};
    const auto length = random.Optional(op.length);
    io_uring_prep_recv_multishot(sqe, fd.number, nullptr, length,
                                 random.Optional(op.flags));
    sqe->ioprio |= IORING_RECVSEND_BUNDLE;
    sqe->ioprio |= random.Optional(op.io_flags);
    sqe->optlen = random.Optional(op.total_length);
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    return op;
  });
}

TEST_F(RawBytes, RecvZeroCopy) {
  Compare<RecvZeroCopy>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto queue = random.Any<std::uint32_t>();
    RecvZeroCopy op{.fd = fd, .interface_queue = queue};
    io_uring_prep_rw(IORING_OP_RECV_ZC, sqe, fd.number, nullptr,
                     random.Optional(op.length), 0);
    sqe->ioprio |= IORING_RECV_MULTISHOT;
    sqe->ioprio |= random.Optional(op.io_flags);
    sqe->zcrx_ifq_idx = queue;
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, RecvMsg) {
  Compare<RecvMsg>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    auto* const message = random.Pointer<msghdr>();
    RecvMsg op{.fd = fd, .message = message};
    io_uring_prep_recvmsg(sqe, fd.number, message, random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, RecvMsgSelected) {
  Compare<RecvMsgSelected>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    auto* const message = random.Pointer<msghdr>();
    const auto group = random.Any<std::uint16_t>();
    RecvMsgSelected op{.fd = fd, .message = message, .group = group};
    io_uring_prep_recvmsg(sqe, fd.number, message, random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    return op;
  });
}

TEST_F(RawBytes, RecvMsgMultishot) {
  Compare<RecvMsgMultishot>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    auto* const message = random.Pointer<msghdr>();
    const auto group = random.Any<std::uint16_t>();
    RecvMsgMultishot op{.fd = fd, .message = message, .group = group};
    io_uring_prep_recvmsg_multishot(sqe, fd.number, message,
                                    random.Optional(op.flags));
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    return op;
  });
}

}  // namespace
}  // namespace escrow::raw
