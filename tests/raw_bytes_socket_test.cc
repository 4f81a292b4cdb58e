#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/socket.h>

#include <cstdint>

#include "escrow/raw/ops_socket.h"
#include "tests/raw_bytes.h"

namespace escrow::raw {
namespace {

TEST_F(RawBytes, Socket) {
  Compare<Socket>([](Random& random, io_uring_sqe* sqe) {
    const auto domain = random.Any<int>();
    const auto type = random.Any<int>();
    const auto into = random.Destination();
    Socket op{.domain = domain, .type = type};
    const auto protocol = random.Optional(op.protocol);
    if (!into.direct) {
      io_uring_prep_socket(sqe, domain, type, protocol, /*flags=*/0);
      return op;
    }
    op.into = into;
    if (into.file_index == IORING_FILE_INDEX_ALLOC) {
      io_uring_prep_socket_direct_alloc(sqe, domain, type, protocol,
                                        /*flags=*/0);
    } else {
      io_uring_prep_socket_direct(sqe, domain, type, protocol, into.file_index,
                                  /*flags=*/0);
    }
    return op;
  });
}

TEST_F(RawBytes, Bind) {
  Compare<Bind>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const address = random.Pointer<sockaddr>();
    const auto length = random.Any<socklen_t>();
    io_uring_prep_bind(sqe, fd.number, address, length);
    fd.MarkFixed(sqe);
    return Bind{.fd = fd, .address = address, .address_length = length};
  });
}

TEST_F(RawBytes, Listen) {
  Compare<Listen>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto backlog = random.Any<int>();
    io_uring_prep_listen(sqe, fd.number, backlog);
    fd.MarkFixed(sqe);
    return Listen{.fd = fd, .backlog = backlog};
  });
}

TEST_F(RawBytes, Accept) {
  Compare<Accept>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto into = random.Destination();
    Accept op{.fd = fd};
    sockaddr* address = nullptr;
    socklen_t* length = nullptr;
    if (random.Flip()) {
      op.address = address = random.Pointer<sockaddr>();
      op.address_length = length = random.Pointer<socklen_t>();
    }
    const auto flags = random.Optional(op.flags);
    if (into.direct) {
      op.into = into;
      io_uring_prep_accept_direct(sqe, fd.number, address, length, flags,
                                  into.file_index);
    } else {
      io_uring_prep_accept(sqe, fd.number, address, length, flags);
    }
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, AcceptMultishot) {
  Compare<AcceptMultishot>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    AcceptMultishot op{.fd = fd};
    sockaddr* address = nullptr;
    socklen_t* length = nullptr;
    if (random.Flip()) {
      op.address = address = random.Pointer<sockaddr>();
      op.address_length = length = random.Pointer<socklen_t>();
    }
    const auto flags = random.Optional(op.flags);
    if (random.Flip()) {
      op.into = kAnyFixedFile;
      io_uring_prep_multishot_accept_direct(sqe, fd.number, address, length,
                                            flags);
    } else {
      io_uring_prep_multishot_accept(sqe, fd.number, address, length, flags);
    }
    sqe->ioprio |= random.Optional(op.io_flags);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, Connect) {
  Compare<Connect>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const address = random.Pointer<sockaddr>();
    const auto length = random.Any<socklen_t>();
    io_uring_prep_connect(sqe, fd.number, address, length);
    fd.MarkFixed(sqe);
    return Connect{.fd = fd, .address = address, .address_length = length};
  });
}

TEST_F(RawBytes, Shutdown) {
  Compare<Shutdown>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto how = random.Any<int>();
    io_uring_prep_shutdown(sqe, fd.number, how);
    fd.MarkFixed(sqe);
    return Shutdown{.fd = fd, .how = how};
  });
}

TEST_F(RawBytes, GetSocketOption) {
  Compare<GetSocketOption>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto option = random.Any<int>();
    auto* const value = random.Pointer<char>();
    const auto length = random.Any<int>();
    GetSocketOption op{
        .fd = fd, .option = option, .value = value, .length = length};
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_GETSOCKOPT, fd.number,
                           random.Optional(op.level, SOL_SOCKET), option, value,
                           length);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SetSocketOption) {
  Compare<SetSocketOption>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto option = random.Any<int>();
    auto* const value = random.Pointer<char>();
    const auto length = random.Any<int>();
    SetSocketOption op{
        .fd = fd, .option = option, .value = value, .length = length};
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_SETSOCKOPT, fd.number,
                           random.Optional(op.level, SOL_SOCKET), option, value,
                           length);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, GetSocketName) {
  Compare<GetSocketName>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    auto* const address = random.Pointer<sockaddr>();
    auto* const length = random.Pointer<socklen_t>();
    GetSocketName op{.fd = fd, .address = address, .address_length = length};
    io_uring_prep_cmd_getsockname(sqe, fd.number, address, length,
                                  random.Optional(op.peer, false, true));
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SocketInputQueue) {
  Compare<SocketInputQueue>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_SIOCINQ, fd.number, 0, 0,
                           nullptr, 0);
    fd.MarkFixed(sqe);
    return SocketInputQueue{.fd = fd};
  });
}

TEST_F(RawBytes, SocketOutputQueue) {
  Compare<SocketOutputQueue>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_SIOCOUTQ, fd.number, 0, 0,
                           nullptr, 0);
    fd.MarkFixed(sqe);
    return SocketOutputQueue{.fd = fd};
  });
}

TEST_F(RawBytes, SocketTxTimestamp) {
  Compare<SocketTxTimestamp>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    io_uring_prep_cmd_sock(sqe, SOCKET_URING_OP_TX_TIMESTAMP, fd.number, 0, 0,
                           nullptr, 0);
    fd.MarkFixed(sqe);
    return SocketTxTimestamp{.fd = fd};
  });
}

}  // namespace
}  // namespace escrow::raw
