#include <gtest/gtest.h>
#include <liburing.h>

#include <cstdint>
#include <cstring>

#include "escrow/raw/ops_ring.h"
#include "tests/raw_bytes.h"

namespace escrow::raw {
namespace {

TEST_F(RawBytes, Nop) {
  Compare<Nop>([](Random& random, io_uring_sqe* sqe) {
    Nop op{};
    io_uring_prep_nop(sqe);
    sqe->nop_flags = random.Optional(op.flags);
    sqe->len = random.Optional(op.result);
    sqe->off = random.Optional(op.first);
    sqe->addr = random.Optional(op.second);
    return op;
  });
}

TEST_F(RawBytes, Nop128) {
  Compare<Nop128>([](Random& random, io_uring_sqe* sqe) {
    Nop128 op{};
    io_uring_prep_nop128(sqe);
    sqe->nop_flags = random.Optional(op.flags);
    sqe->len = random.Optional(op.result);
    sqe->off = random.Optional(op.first);
    sqe->addr = random.Optional(op.second);
    return op;
  });
}

TEST_F(RawBytes, Cancel) {
  Compare<Cancel>([](Random& random, io_uring_sqe* sqe) {
    Cancel op{};
    const auto user_data = random.Optional(op.user_data);
    const auto flags = random.Optional(op.flags);
    io_uring_prep_cancel64(sqe, user_data, static_cast<int>(flags));
    sqe->len = random.Optional(op.opcode, IORING_OP_NOP, IORING_OP_RECV);
    return op;
  });
}

TEST_F(RawBytes, CancelFd) {
  Compare<CancelFd>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    CancelFd op{.fd = fd};
    unsigned flags = random.Optional(
        op.flags, 0u, random.Any<unsigned>() & ~IORING_ASYNC_CANCEL_FD_FIXED);
    if (fd.fixed) flags |= IORING_ASYNC_CANCEL_FD_FIXED;
    io_uring_prep_cancel_fd(sqe, fd.number, flags);
    sqe->addr = random.Optional(op.user_data);
    sqe->len = random.Optional(op.opcode, IORING_OP_NOP, IORING_OP_RECV);
    return op;
  });
}

TEST_F(RawBytes, FilesUpdate) {
  Compare<FilesUpdate>([](Random& random, io_uring_sqe* sqe) {
    auto* const fds = random.Pointer<int>();
    const auto count = random.Any<std::uint32_t>();
    const auto offset = random.Any<std::uint32_t>();
    io_uring_prep_files_update(sqe, fds, count, static_cast<int>(offset));
    return FilesUpdate{.fds = fds, .count = count, .offset = offset};
  });
}

TEST_F(RawBytes, ProvideBuffers) {
  Compare<ProvideBuffers>([](Random& random, io_uring_sqe* sqe) {
    auto* const buffers = random.Pointer<char>();
    const auto length = random.Any<std::int32_t>();
    const auto count = random.Any<std::int32_t>();
    const auto group = random.Any<std::uint16_t>();
    ProvideBuffers op{
        .buffers = buffers, .length = length, .count = count, .group = group};
    io_uring_prep_provide_buffers(sqe, buffers, length, count, group,
                                  random.Optional(op.first_id));
    return op;
  });
}

TEST_F(RawBytes, RemoveBuffers) {
  Compare<RemoveBuffers>([](Random& random, io_uring_sqe* sqe) {
    const auto count = random.Any<std::int32_t>();
    const auto group = random.Any<std::uint16_t>();
    io_uring_prep_remove_buffers(sqe, count, group);
    return RemoveBuffers{.count = count, .group = group};
  });
}

TEST_F(RawBytes, MsgRing) {
  Compare<MsgRing>([](Random& random, io_uring_sqe* sqe) {
    const auto ring = random.Any<int>();
    const auto data = random.Any<std::uint64_t>();
    MsgRing op{.ring = ring, .data = data};
    const auto result = static_cast<unsigned>(random.Optional(op.result));
    const unsigned flags = random.Optional(
        op.flags, 0u, random.Any<unsigned>() & ~IORING_MSG_RING_FLAGS_PASS);
    if (random.Flip()) {
      op.flags |= IORING_MSG_RING_FLAGS_PASS;
      op.cqe_flags = random.Any<unsigned>();
      io_uring_prep_msg_ring_cqe_flags(sqe, ring, result, data, flags,
                                       op.cqe_flags);
    } else {
      io_uring_prep_msg_ring(sqe, ring, result, data, flags);
    }
    return op;
  });
}

TEST_F(RawBytes, MsgRingFd) {
  Compare<MsgRingFd>([](Random& random, io_uring_sqe* sqe) {
    const auto ring = random.Any<int>();
    const auto source = random.Any<std::uint32_t>() % (1u << 20);
    RandomDestination into = random.Destination();
    if (!into.direct) into = {.direct = true, .file_index = 0};
    const auto data = random.Any<std::uint64_t>();
    MsgRingFd op{.ring = ring, .source = {source}, .into = into, .data = data};
    const auto flags = random.Optional(op.flags);
    if (into.file_index == IORING_FILE_INDEX_ALLOC) {
      io_uring_prep_msg_ring_fd_alloc(sqe, ring, static_cast<int>(source), data,
                                      flags);
    } else {
      io_uring_prep_msg_ring_fd(sqe, ring, static_cast<int>(source),
                                static_cast<int>(into.file_index), data, flags);
    }
    return op;
  });
}

// The fields of commands that may have all of them, and the command's bytes.
template <typename Op>
Op SetCommandFields(Random& random, Op op, io_uring_sqe* sqe) {
  if (random.Flip()) {
    auto* const address = random.Pointer<char>();
    op.address = address;
    sqe->addr = reinterpret_cast<std::uintptr_t>(address);
  }
  sqe->len = random.Optional(op.length);
  sqe->uring_cmd_flags = random.Optional(op.flags);
  sqe->buf_index = random.Optional<BufferIndex, std::uint16_t>(
      op.buffer_index, 0, random.Any<std::uint16_t>());
  // liburing leaves what the ring's memory has where a command is not written.
  std::memset(sqe->cmd, 0, sizeof(op.payload.bytes));
  if (random.Flip()) {
    for (unsigned char& byte : op.payload.bytes) {
      byte = random.Any<unsigned char>();
    }
    std::memcpy(sqe->cmd, op.payload.bytes, sizeof(op.payload.bytes));
  }
  return op;
}

TEST_F(RawBytes, UringCmd) {
  Compare<UringCmd>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto command = random.Any<std::uint32_t>();
    io_uring_prep_uring_cmd(sqe, static_cast<int>(command), fd.number);
    fd.MarkFixed(sqe);
    return SetCommandFields(random, UringCmd{.fd = fd, .command = command},
                            sqe);
  });
}

TEST_F(RawBytes, UringCmd128) {
  static_assert(sizeof(UringCmd128::payload) == 80);
  Compare<UringCmd128>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto command = random.Any<std::uint32_t>();
    io_uring_prep_uring_cmd128(sqe, static_cast<int>(command), fd.number);
    fd.MarkFixed(sqe);
    return SetCommandFields(random, UringCmd128{.fd = fd, .command = command},
                            sqe);
  });
}

TEST_F(RawBytes, UringCmdBig) {
  static_assert(sizeof(UringCmdBig::payload) == 80);
  Compare<UringCmdBig>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto command = random.Any<std::uint32_t>();
    io_uring_prep_uring_cmd(sqe, static_cast<int>(command), fd.number);
    fd.MarkFixed(sqe);
    return SetCommandFields(random, UringCmdBig{.fd = fd, .command = command},
                            sqe);
  });
}

TEST_F(RawBytes, BlockDiscard) {
  Compare<BlockDiscard>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto offset = random.Any<std::uint64_t>();
    const auto length = random.Any<std::uint64_t>();
    io_uring_prep_cmd_discard(sqe, fd.number, offset, length);
    fd.MarkFixed(sqe);
    return BlockDiscard{.fd = fd, .offset = offset, .length = length};
  });
}

}  // namespace
}  // namespace escrow::raw
