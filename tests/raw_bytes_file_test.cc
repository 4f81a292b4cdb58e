#include <gtest/gtest.h>
#include <liburing.h>

#include <cstdint>

#include "escrow/raw/ops_file.h"
#include "tests/raw_bytes.h"

namespace escrow::raw {
namespace {

TEST_F(RawBytes, Fsync) {
  Compare<Fsync>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    Fsync op{.fd = fd};
    io_uring_prep_fsync(sqe, fd.number, random.Optional(op.flags));
    sqe->off = random.Optional(op.offset);
    sqe->len = random.Optional(op.length);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, SyncFileRange) {
  Compare<SyncFileRange>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto offset = random.Any<std::uint64_t>();
    const auto length = random.Any<std::uint32_t>();
    const auto flags = random.Any<int>();
    io_uring_prep_sync_file_range(sqe, fd.number, length, offset, flags);
    fd.MarkFixed(sqe);
    return SyncFileRange{
        .fd = fd, .offset = offset, .length = length, .flags = flags};
  });
}

TEST_F(RawBytes, Fallocate) {
  Compare<Fallocate>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto offset = random.Any<std::uint64_t>();
    const auto length = random.Any<std::uint64_t>();
    Fallocate op{.fd = fd, .offset = offset, .length = length};
    io_uring_prep_fallocate(sqe, fd.number, random.Optional(op.mode), offset,
                            length);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, Ftruncate) {
  Compare<Ftruncate>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto length = random.Any<std::int64_t>();
    io_uring_prep_ftruncate(sqe, fd.number, length);
    fd.MarkFixed(sqe);
    return Ftruncate{.fd = fd, .length = length};
  });
}

TEST_F(RawBytes, Fadvise) {
  Compare<Fadvise>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto advice = random.Any<int>();
    Fadvise op{.fd = fd, .advice = advice};
    const auto offset = random.Optional(op.offset);
    io_uring_prep_fadvise64(sqe, fd.number, offset, random.Optional(op.length),
                            advice);
    fd.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, Madvise) {
  Compare<Madvise>([](Random& random, io_uring_sqe* sqe) {
    auto* const address = random.Pointer<char>();
    const auto length = random.Any<std::int64_t>();
    const auto advice = random.Any<int>();
    io_uring_prep_madvise64(sqe, address, length, advice);
    return Madvise{.address = address, .length = length, .advice = advice};
  });
}

TEST_F(RawBytes, Splice) {
  Compare<Splice>([](Random& random, io_uring_sqe* sqe) {
    const auto in = random.File();
    const auto out = random.File();
    const auto length = random.Any<std::uint32_t>();
    Splice op{.in = in, .out = out, .length = length};
    const auto in_offset = random.Optional(op.in_offset, -1);
    const auto out_offset = random.Optional(op.out_offset, -1);
    unsigned flags = random.Optional(
        op.flags, 0u,
        random.Any<unsigned>() & ~static_cast<unsigned>(SPLICE_F_FD_IN_FIXED));
    if (in.fixed) flags |= SPLICE_F_FD_IN_FIXED;
    io_uring_prep_splice(sqe, in.number, in_offset, out.number, out_offset,
                         length, flags);
    out.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, Tee) {
  Compare<Tee>([](Random& random, io_uring_sqe* sqe) {
    const auto in = random.File();
    const auto out = random.File();
    const auto length = random.Any<std::uint32_t>();
    Tee op{.in = in, .out = out, .length = length};
    unsigned flags = random.Optional(
        op.flags, 0u,
        random.Any<unsigned>() & ~static_cast<unsigned>(SPLICE_F_FD_IN_FIXED));
    if (in.fixed) flags |= SPLICE_F_FD_IN_FIXED;
    io_uring_prep_tee(sqe, in.number, out.number, length, flags);
    out.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, Pipe) {
  Compare<Pipe>([](Random& random, io_uring_sqe* sqe) {
    auto* const fds = random.Pointer<int>();
    const auto into = random.Destination();
    Pipe op{.fds = fds};
    const auto flags = random.Optional(op.flags);
    if (into.direct) {
      op.into = into;
      io_uring_prep_pipe_direct(sqe, fds, flags, into.file_index);
    } else {
      io_uring_prep_pipe(sqe, fds, flags);
    }
    return op;
  });
}

TEST_F(RawBytes, Close) {
  Compare<Close>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    if (fd.fixed) {
      io_uring_prep_close_direct(sqe, static_cast<unsigned>(fd.number));
    } else {
      io_uring_prep_close(sqe, fd.number);
    }
    return Close{.fd = fd};
  });
}

TEST_F(RawBytes, FixedFdInstall) {
  Compare<FixedFdInstall>([](Random& random, io_uring_sqe* sqe) {
    const auto slot = random.Any<std::uint32_t>();
    FixedFdInstall op{.file = {slot}};
    io_uring_prep_fixed_fd_install(sqe, static_cast<int>(slot),
                                   random.Optional(op.flags));
    return op;
  });
}

}  // namespace
}  // namespace escrow::raw
