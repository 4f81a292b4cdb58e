#ifndef ESCROW_RAW_OPS_PATH_H_
#define ESCROW_RAW_OPS_PATH_H_

#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>

#include <cstdint>

#include "escrow/raw/contract.h"
#include "escrow/raw/op.h"

// Files by name: opening, asking, renaming, removing, linking, and extended
// attributes. See ops.h for what holds of all operations.
//
// Paths are NUL-terminated, relative to a directory's descriptor that is used
// at issue, and copied when the entry is consumed, which with
// IORING_SETUP_SQPOLL is some time after the submit.

namespace escrow::raw {

// A path to be read.
using Path = KernelPtr<const char, Until::kConsumed>;

// openat(2). Result: a descriptor, which leaks if the completion is ignored.
// Linux 5.6; slots 5.15.
struct OpenAt {
  Directory directory = AT_FDCWD;
  Path path;
  Required<int> flags;  // O_*
  mode_t mode = 0;      // with O_CREAT or O_TMPFILE
  FileDestination into = kNewDescriptor;

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_OPENAT,
                                   .name = "OpenAt",
                                   .call = "openat",
                                   .manual = "io_uring_prep_openat(3)",
                                   .since = "5.6",
                                   .result_owns_file = true};
  static constexpr Region kRegions[] = {
      RegionOf("directory", &OpenAt::directory),
      RegionOf("path", &OpenAt::path), RegionOf("into", &OpenAt::into)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_openat(sqe, directory, path.get(), flags, mode);
    sqe->file_index = into.file_index();
  }
};

// openat2(2). Result: as OpenAt. Linux 5.6; slots 5.15.
struct OpenAt2 {
  Directory directory = AT_FDCWD;
  Path path;
  KernelPtr<const open_how, Until::kConsumed> how;
  FileDestination into = kNewDescriptor;

  static constexpr OpInfo kInfo = {.opcode = IORING_OP_OPENAT2,
                                   .name = "OpenAt2",
                                   .call = "openat2",
                                   .manual = "io_uring_prep_openat2(3)",
                                   .since = "5.6",
                                   .result_owns_file = true};
  static constexpr Region kRegions[] = {
      RegionOf("directory", &OpenAt2::directory),
      RegionOf("path", &OpenAt2::path), RegionOf("how", &OpenAt2::how),
      RegionOf("into", &OpenAt2::into)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_openat2(sqe, directory, path.get(), how.get());
    sqe->file_index = into.file_index();
  }
};

// statx(2). Result: 0. Linux 5.6.
//
// io_uring_prep_statx(3) says that `result` need only be valid until the
// submit; measured, it is written at completion.
struct Statx {
  Directory directory = AT_FDCWD;
  Path path;                          // "" with AT_EMPTY_PATH for `directory`
  int flags = 0;                      // AT_*
  unsigned mask = STATX_BASIC_STATS;  // STATX_*
  KernelPtr<struct statx, Until::kCompletion> result;

  static constexpr OpInfo kInfo = {IORING_OP_STATX, "Statx", "statx",
                                   "io_uring_prep_statx(3)", "5.6"};
  static constexpr Region kRegions[] = {
      RegionOf("directory", &Statx::directory), RegionOf("path", &Statx::path),
      RegionOf("result", &Statx::result, "the man page says: the submit")};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_statx(sqe, directory, path.get(), flags, mask, result.get());
  }
};

// renameat2(2). Result: 0. Linux 5.11.
struct RenameAt {
  Directory old_directory = AT_FDCWD;
  Path old_path;
  Directory new_directory = AT_FDCWD;
  Path new_path;
  unsigned flags = 0;  // RENAME_*

  static constexpr OpInfo kInfo = {IORING_OP_RENAMEAT, "RenameAt", "renameat2",
                                   "io_uring_prep_renameat(3)", "5.11"};
  static constexpr Region kRegions[] = {
      RegionOf("old_directory", &RenameAt::old_directory),
      RegionOf("old_path", &RenameAt::old_path),
      RegionOf("new_directory", &RenameAt::new_directory),
      RegionOf("new_path", &RenameAt::new_path)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_renameat(sqe, old_directory, old_path.get(), new_directory,
                           new_path.get(), flags);
  }
};

// unlinkat(2). Result: 0. Linux 5.11.
struct UnlinkAt {
  Directory directory = AT_FDCWD;
  Path path;
  int flags = 0;  // AT_REMOVEDIR for rmdir(2)

  static constexpr OpInfo kInfo = {IORING_OP_UNLINKAT, "UnlinkAt", "unlinkat",
                                   "io_uring_prep_unlinkat(3)", "5.11"};
  static constexpr Region kRegions[] = {
      RegionOf("directory", &UnlinkAt::directory),
      RegionOf("path", &UnlinkAt::path)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_unlinkat(sqe, directory, path.get(), flags);
  }
};

// mkdirat(2). Result: 0. Linux 5.15.
struct MkdirAt {
  Directory directory = AT_FDCWD;
  Path path;
  Required<mode_t> mode;

  static constexpr OpInfo kInfo = {IORING_OP_MKDIRAT, "MkdirAt", "mkdirat",
                                   "io_uring_prep_mkdirat(3)", "5.15"};
  static constexpr Region kRegions[] = {
      RegionOf("directory", &MkdirAt::directory),
      RegionOf("path", &MkdirAt::path)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_mkdirat(sqe, directory, path.get(), mode);
  }
};

// symlinkat(2): `path` in `directory` becomes a link to `target`. Result: 0.
// Linux 5.15.
struct SymlinkAt {
  Path target;
  Directory directory = AT_FDCWD;
  Path path;

  static constexpr OpInfo kInfo = {IORING_OP_SYMLINKAT, "SymlinkAt",
                                   "symlinkat", "io_uring_prep_symlinkat(3)",
                                   "5.15"};
  static constexpr Region kRegions[] = {
      RegionOf("target", &SymlinkAt::target),
      RegionOf("directory", &SymlinkAt::directory),
      RegionOf("path", &SymlinkAt::path)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_symlinkat(sqe, target.get(), directory, path.get());
  }
};

// linkat(2). Result: 0. Linux 5.15.
struct LinkAt {
  Directory old_directory = AT_FDCWD;
  Path old_path;
  Directory new_directory = AT_FDCWD;
  Path new_path;
  int flags = 0;  // AT_EMPTY_PATH, AT_SYMLINK_FOLLOW

  static constexpr OpInfo kInfo = {IORING_OP_LINKAT, "LinkAt", "linkat",
                                   "io_uring_prep_linkat(3)", "5.15"};
  static constexpr Region kRegions[] = {
      RegionOf("old_directory", &LinkAt::old_directory),
      RegionOf("old_path", &LinkAt::old_path),
      RegionOf("new_directory", &LinkAt::new_directory),
      RegionOf("new_path", &LinkAt::new_path)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_linkat(sqe, old_directory, old_path.get(), new_directory,
                         new_path.get(), flags);
  }
};

// getxattr(2). Result: the value's length in bytes, which it also is for a
// `length` of 0. Linux 5.19.
struct GetXattr {
  Path path;
  KernelPtr<const char, Until::kConsumed> name;  // NUL-terminated
  KernelPtr<void, Until::kCompletion> value;
  Required<std::uint32_t> length;  // bytes that `value` has room for

  static constexpr OpInfo kInfo = {IORING_OP_GETXATTR, "GetXattr", "getxattr",
                                   "io_uring_prep_getxattr(3)", "5.19"};
  static constexpr Region kRegions[] = {RegionOf("path", &GetXattr::path),
                                        RegionOf("name", &GetXattr::name),
                                        RegionOf("value", &GetXattr::value)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_getxattr(sqe, name.get(), static_cast<char*>(value.get()),
                           path.get(), length);
  }
};

// fgetxattr(2). Result: as GetXattr. Linux 5.19.
struct FgetXattr {
  Fd fd;
  KernelPtr<const char, Until::kConsumed> name;  // NUL-terminated
  KernelPtr<void, Until::kCompletion> value;
  Required<std::uint32_t> length;  // bytes that `value` has room for

  static constexpr OpInfo kInfo = {IORING_OP_FGETXATTR, "FgetXattr",
                                   "fgetxattr", "io_uring_prep_fgetxattr(3)",
                                   "5.19"};
  static constexpr Region kRegions[] = {RegionOf("fd", &FgetXattr::fd),
                                        RegionOf("name", &FgetXattr::name),
                                        RegionOf("value", &FgetXattr::value)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_fgetxattr(sqe, fd.number(), name.get(),
                            static_cast<char*>(value.get()), length);
    sqe->flags |= fd.sqe_flags();
  }
};

// setxattr(2). Result: 0. The value is copied when the entry is consumed. Linux
// 5.19.
struct SetXattr {
  Path path;
  KernelPtr<const char, Until::kConsumed> name;  // NUL-terminated
  KernelPtr<const void, Until::kConsumed> value;
  Required<std::uint32_t> length;  // of the value, bytes
  int flags = 0;                   // XATTR_CREATE, XATTR_REPLACE

  static constexpr OpInfo kInfo = {IORING_OP_SETXATTR, "SetXattr", "setxattr",
                                   "io_uring_prep_setxattr(3)", "5.19"};
  static constexpr Region kRegions[] = {RegionOf("path", &SetXattr::path),
                                        RegionOf("name", &SetXattr::name),
                                        RegionOf("value", &SetXattr::value)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_setxattr(sqe, name.get(),
                           static_cast<const char*>(value.get()), path.get(),
                           flags, length);
  }
};

// fsetxattr(2). Result: 0. The value is copied when the entry is consumed.
// Linux 5.19.
struct FsetXattr {
  Fd fd;
  KernelPtr<const char, Until::kConsumed> name;  // NUL-terminated
  KernelPtr<const void, Until::kConsumed> value;
  Required<std::uint32_t> length;  // of the value, bytes
  int flags = 0;                   // XATTR_CREATE, XATTR_REPLACE

  static constexpr OpInfo kInfo = {IORING_OP_FSETXATTR, "FsetXattr",
                                   "fsetxattr", "io_uring_prep_fsetxattr(3)",
                                   "5.19"};
  static constexpr Region kRegions[] = {RegionOf("fd", &FsetXattr::fd),
                                        RegionOf("name", &FsetXattr::name),
                                        RegionOf("value", &FsetXattr::value)};

  void Prepare(io_uring_sqe* sqe) const noexcept {
    io_uring_prep_fsetxattr(sqe, fd.number(), name.get(),
                            static_cast<const char*>(value.get()), flags,
                            length);
    sqe->flags |= fd.sqe_flags();
  }
};

}  // namespace escrow::raw

#endif  // ESCROW_RAW_OPS_PATH_H_
