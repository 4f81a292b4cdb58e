#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>

#include "escrow/raw/ops_path.h"
#include "tests/raw_bytes.h"

namespace escrow::raw {
namespace {

TEST_F(RawBytes, OpenAt) {
  Compare<OpenAt>([](Random& random, io_uring_sqe* sqe) {
    const auto* const path = random.Pointer<char>();
    const auto flags = random.Any<int>();
    const auto into = random.Destination();
    OpenAt op{.path = path, .flags = flags};
    const int directory = random.Optional<Directory, int>(
        op.directory, AT_FDCWD, random.Any<int>());
    const auto mode = random.Optional(op.mode);
    if (into.direct) {
      op.into = into;
      io_uring_prep_openat_direct(sqe, directory, path, flags, mode,
                                  into.file_index);
    } else {
      io_uring_prep_openat(sqe, directory, path, flags, mode);
    }
    return op;
  });
}

TEST_F(RawBytes, OpenAt2) {
  Compare<OpenAt2>([](Random& random, io_uring_sqe* sqe) {
    const auto* const path = random.Pointer<char>();
    const auto* const how = random.Pointer<open_how>();
    const auto into = random.Destination();
    OpenAt2 op{.path = path, .how = how};
    const int directory = random.Optional<Directory, int>(
        op.directory, AT_FDCWD, random.Any<int>());
    if (into.direct) {
      op.into = into;
      io_uring_prep_openat2_direct(sqe, directory, path, how, into.file_index);
    } else {
      io_uring_prep_openat2(sqe, directory, path, how);
    }
    return op;
  });
}

TEST_F(RawBytes, Statx) {
  Compare<Statx>([](Random& random, io_uring_sqe* sqe) {
    const auto* const path = random.Pointer<char>();
    auto* const result = random.Pointer<struct statx>();
    Statx op{.path = path, .result = result};
    const int directory = random.Optional<Directory, int>(
        op.directory, AT_FDCWD, random.Any<int>());
    const auto flags = random.Optional(op.flags);
    const auto mask = random.Optional(op.mask, STATX_BASIC_STATS);
    io_uring_prep_statx(sqe, directory, path, flags, mask, result);
    return op;
  });
}

TEST_F(RawBytes, RenameAt) {
  Compare<RenameAt>([](Random& random, io_uring_sqe* sqe) {
    const auto* const old_path = random.Pointer<char>();
    const auto* const new_path = random.Pointer<char>();
    RenameAt op{.old_path = old_path, .new_path = new_path};
    const int old_directory = random.Optional<Directory, int>(
        op.old_directory, AT_FDCWD, random.Any<int>());
    const int new_directory = random.Optional<Directory, int>(
        op.new_directory, AT_FDCWD, random.Any<int>());
    io_uring_prep_renameat(sqe, old_directory, old_path, new_directory,
                           new_path, random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, UnlinkAt) {
  Compare<UnlinkAt>([](Random& random, io_uring_sqe* sqe) {
    const auto* const path = random.Pointer<char>();
    UnlinkAt op{.path = path};
    const int directory = random.Optional<Directory, int>(
        op.directory, AT_FDCWD, random.Any<int>());
    io_uring_prep_unlinkat(sqe, directory, path, random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, MkdirAt) {
  Compare<MkdirAt>([](Random& random, io_uring_sqe* sqe) {
    const auto* const path = random.Pointer<char>();
    const auto mode = random.Any<mode_t>();
    MkdirAt op{.path = path, .mode = mode};
    const int directory = random.Optional<Directory, int>(
        op.directory, AT_FDCWD, random.Any<int>());
    io_uring_prep_mkdirat(sqe, directory, path, mode);
    return op;
  });
}

TEST_F(RawBytes, SymlinkAt) {
  Compare<SymlinkAt>([](Random& random, io_uring_sqe* sqe) {
    const auto* const target = random.Pointer<char>();
    const auto* const path = random.Pointer<char>();
    SymlinkAt op{.target = target, .path = path};
    const int directory = random.Optional<Directory, int>(
        op.directory, AT_FDCWD, random.Any<int>());
    io_uring_prep_symlinkat(sqe, target, directory, path);
    return op;
  });
}

TEST_F(RawBytes, LinkAt) {
  Compare<LinkAt>([](Random& random, io_uring_sqe* sqe) {
    const auto* const old_path = random.Pointer<char>();
    const auto* const new_path = random.Pointer<char>();
    LinkAt op{.old_path = old_path, .new_path = new_path};
    const int old_directory = random.Optional<Directory, int>(
        op.old_directory, AT_FDCWD, random.Any<int>());
    const int new_directory = random.Optional<Directory, int>(
        op.new_directory, AT_FDCWD, random.Any<int>());
    io_uring_prep_linkat(sqe, old_directory, old_path, new_directory, new_path,
                         random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, GetXattr) {
  Compare<GetXattr>([](Random& random, io_uring_sqe* sqe) {
    const auto* const path = random.Pointer<char>();
    const auto* const name = random.Pointer<char>();
    auto* const value = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    io_uring_prep_getxattr(sqe, name, value, path, length);
    return GetXattr{
        .path = path, .name = name, .value = value, .length = length};
  });
}

TEST_F(RawBytes, FgetXattr) {
  Compare<FgetXattr>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const name = random.Pointer<char>();
    auto* const value = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    io_uring_prep_fgetxattr(sqe, fd.number, name, value, length);
    fd.MarkFixed(sqe);
    return FgetXattr{.fd = fd, .name = name, .value = value, .length = length};
  });
}

TEST_F(RawBytes, SetXattr) {
  Compare<SetXattr>([](Random& random, io_uring_sqe* sqe) {
    const auto* const path = random.Pointer<char>();
    const auto* const name = random.Pointer<char>();
    const auto* const value = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    SetXattr op{.path = path, .name = name, .value = value, .length = length};
    io_uring_prep_setxattr(sqe, name, value, path, random.Optional(op.flags),
                           length);
    return op;
  });
}

TEST_F(RawBytes, FsetXattr) {
  Compare<FsetXattr>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto* const name = random.Pointer<char>();
    const auto* const value = random.Pointer<char>();
    const auto length = random.Any<std::uint32_t>();
    FsetXattr op{.fd = fd, .name = name, .value = value, .length = length};
    io_uring_prep_fsetxattr(sqe, fd.number, name, value,
                            random.Optional(op.flags), length);
    fd.MarkFixed(sqe);
    return op;
  });
}

}  // namespace
}  // namespace escrow::raw
