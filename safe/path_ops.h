#ifndef ESCROW_SAFE_PATH_OPS_H_
#define ESCROW_SAFE_PATH_OPS_H_

#include <fcntl.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

// Operations on files by name, for Ring::Start(). A path with a NUL inside is
// refused with invalid_argument.

namespace escrow::safe {

// openat2(2), with O_CLOEXEC in any case. If nobody takes the outcome, what was
// opened is closed, but a file may have been created.
struct Open {
  Directory directory = {};
  std::string path;
  int flags = O_RDONLY;       // O_*
  ::mode_t mode = 0;          // with O_CREAT or O_TMPFILE
  std::uint64_t resolve = 0;  // RESOLVE_*

  struct How {
    std::uint64_t flags;
    std::uint64_t mode;
    std::uint64_t resolve;
  };
  KernelRoom<How> how = KernelRoom<How>();

  using Outcome = Result<ownership::Descriptor>;
  void Start(ownership::Record& record);
};

// renameat2(2).
struct Rename {
  Directory from_directory = {};
  std::string from;
  Directory to_directory = {};
  std::string to;
  unsigned flags = 0;  // RENAME_*

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// unlinkat(2).
struct Unlink {
  Directory directory = {};
  std::string path;
  int flags = 0;  // AT_REMOVEDIR for rmdir(2)

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// mkdirat(2).
struct MakeDirectory {
  Directory directory = {};
  std::string path;
  ::mode_t mode = 0777;  // less the process's umask

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// symlinkat(2): `path` becomes a link to `target`.
struct Symlink {
  std::string target;
  Directory directory = {};
  std::string path;

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// linkat(2): `to` becomes another name of `from`.
struct Link {
  Directory from_directory = {};
  std::string from;
  Directory to_directory = {};
  std::string to;
  int flags = 0;  // AT_SYMLINK_FOLLOW

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// statx(2). StatFile in file_ops.h is that of an open file.
struct Stat {
  Directory directory = {};
  std::string path;
  int flags = 0;                      // AT_*
  unsigned mask = STATX_BASIC_STATS;  // STATX_*, what is asked for

  KernelRoom<struct ::statx> status = KernelRoom<struct ::statx>();

  static constexpr bool kStopsChain = false;
  using Outcome = Result<struct ::statx>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult&) noexcept {}
};

namespace internal {

void StartGetXattr(ownership::Record& record, const std::string& path,
                   const std::string& name, std::byte* value, std::size_t size);

}  // namespace internal

// getxattr(2). Bytes of the attribute, in the front of `value`;
// result_out_of_range if they are more than that has. If that is empty: how
// many they are.
template <ownership::Writable B>
struct GetXattr {
  std::string path;
  std::string name;
  B value;

  static constexpr bool kStopsChain = false;
  using Outcome = Transfer<B>;
  void Start(ownership::Record& record) {
    internal::StartGetXattr(record, path, name,
                            ownership::OwnedMemory<B>::Data(value),
                            ownership::OwnedMemory<B>::Size(value));
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::TakeTransfer(result, value);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

// setxattr(2).
struct SetXattr {
  std::string path;
  std::string name;
  std::string value;
  int flags = 0;  // XATTR_CREATE, XATTR_REPLACE

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_PATH_OPS_H_
