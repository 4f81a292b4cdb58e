#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/uio.h>

#include <cstdint>

#include "escrow/raw/ops_rw.h"
#include "tests/raw_bytes.h"

namespace escrow::raw {
namespace {

// What the reads and writes of files have in common.
template <typename Op>
void SetRwFields(Random& random, Op& op, io_uring_sqe* sqe) {
  sqe->rw_flags = random.Optional(op.rw_flags);
  sqe->ioprio = random.Optional(op.priority);
}

template <typename Op>
void SetProtection(Random& random, Op& op, io_uring_sqe* sqe) {
  if (random.Flip()) return;
  const auto* const protection = random.Pointer<io_uring_attr_pi>();
  if (protection == nullptr) return;  // which says that there is none
  op.protection = protection;
  sqe->attr_ptr = reinterpret_cast<std::uintptr_t>(protection);
  sqe->attr_type_mask = IORING_RW_ATTR_FLAG_PI;
}

void SelectBuffer(io_uring_sqe* sqe, std::uint16_t group) {
  io_uring_sqe_set_flags(sqe, sqe->flags | IOSQE_BUFFER_SELECT);
  io_uring_sqe_set_buf_group(sqe, group);
}

// The offset that stands for the current position.
constexpr std::uint64_t kNone = -1;

TEST_F(RawBytes, Read) {
  Compare<Read>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    auto* const buffer = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    Read op{.fd = fd, .buffer = buffer, .length = length};
    io_uring_prep_read(sqe, fd.number, buffer, length,
                       random.Optional(op.offset, kNone));
    fd.MarkFixed(sqe);
    SetRwFields(random, op, sqe);
    SetProtection(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, Write) {
  Compare<Write>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const buffer = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    Write op{.fd = fd, .buffer = buffer, .length = length};
    io_uring_prep_write(sqe, fd.number, buffer, length,
                        random.Optional(op.offset, kNone));
    fd.MarkFixed(sqe);
    SetRwFields(random, op, sqe);
    SetProtection(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, Readv) {
  Compare<Readv>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const vectors = random.Pointer<iovec>();
    const auto count = random.Any<std::uint32_t>();
    Readv op{.fd = fd, .vectors = vectors, .count = count};
    const auto offset = random.Optional(op.offset, kNone);
    io_uring_prep_readv2(sqe, fd.number, vectors, count, offset,
                         random.Optional(op.rw_flags));
    fd.MarkFixed(sqe);
    sqe->ioprio = random.Optional(op.priority);
    SetProtection(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, Writev) {
  Compare<Writev>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const vectors = random.Pointer<iovec>();
    const auto count = random.Any<std::uint32_t>();
    Writev op{.fd = fd, .vectors = vectors, .count = count};
    const auto offset = random.Optional(op.offset, kNone);
    io_uring_prep_writev2(sqe, fd.number, vectors, count, offset,
                          random.Optional(op.rw_flags));
    fd.MarkFixed(sqe);
    sqe->ioprio = random.Optional(op.priority);
    SetProtection(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, ReadFixed) {
  Compare<ReadFixed>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    auto* const buffer = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    const auto index = random.Any<std::uint16_t>();
    ReadFixed op{
        .fd = fd, .buffer = buffer, .length = length, .buffer_index = index};
    io_uring_prep_read_fixed(sqe, fd.number, buffer, length,
                             random.Optional(op.offset, kNone), index);
    fd.MarkFixed(sqe);
    SetRwFields(random, op, sqe);
    SetProtection(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, WriteFixed) {
  Compare<WriteFixed>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const buffer = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    const auto index = random.Any<std::uint16_t>();
    WriteFixed op{
        .fd = fd, .buffer = buffer, .length = length, .buffer_index = index};
    io_uring_prep_write_fixed(sqe, fd.number, buffer, length,
                              random.Optional(op.offset, kNone), index);
    fd.MarkFixed(sqe);
    SetRwFields(random, op, sqe);
    SetProtection(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, ReadvFixed) {
  Compare<ReadvFixed>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const vectors = random.Pointer<iovec>();
    const auto count = random.Any<std::uint32_t>();
    const auto index = random.Any<std::uint16_t>();
    ReadvFixed op{
        .fd = fd, .vectors = vectors, .count = count, .buffer_index = index};
    const auto offset = random.Optional(op.offset, kNone);
    io_uring_prep_readv_fixed(sqe, fd.number, vectors, count, offset,
                              random.Optional(op.rw_flags), index);
    fd.MarkFixed(sqe);
    sqe->ioprio = random.Optional(op.priority);
    SetProtection(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, WritevFixed) {
  Compare<WritevFixed>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const vectors = random.Pointer<iovec>();
    const auto count = random.Any<std::uint32_t>();
    const auto index = random.Any<std::uint16_t>();
    WritevFixed op{
        .fd = fd, .vectors = vectors, .count = count, .buffer_index = index};
    const auto offset = random.Optional(op.offset, kNone);
    io_uring_prep_writev_fixed(sqe, fd.number, vectors, count, offset,
                               random.Optional(op.rw_flags), index);
    fd.MarkFixed(sqe);
    sqe->ioprio = random.Optional(op.priority);
    SetProtection(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, ReadSelected) {
  Compare<ReadSelected>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto group = random.Any<std::uint16_t>();
    ReadSelected op{.fd = fd, .group = group};
    const auto length = random.Optional(op.length);
    io_uring_prep_read(sqe, fd.number, nullptr, length,
                       random.Optional(op.offset, kNone));
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    SetRwFields(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, ReadvSelected) {
  Compare<ReadvSelected>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const vector = random.Pointer<iovec>();
    const auto group = random.Any<std::uint16_t>();
    ReadvSelected op{.fd = fd, .vector = vector, .group = group};
    io_uring_prep_readv(sqe, fd.number, vector, /*nr_vecs=*/1,
                        random.Optional(op.offset, kNone));
    fd.MarkFixed(sqe);
    SelectBuffer(sqe, group);
    SetRwFields(random, op, sqe);
    return op;
  });
}

TEST_F(RawBytes, ReadMultishot) {
  Compare<ReadMultishot>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto group = random.Any<std::uint16_t>();
    ReadMultishot op{.fd = fd, .group = group};
    const auto length = random.Optional(op.length);
    io_uring_prep_read_multishot(sqe, fd.number, length,
                                 random.Optional(op.offset, kNone), group);
    fd.MarkFixed(sqe);
    return op;
  });
}

}  // namespace
}  // namespace escrow::raw
