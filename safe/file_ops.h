#ifndef ESCROW_SAFE_FILE_OPS_H_
#define ESCROW_SAFE_FILE_OPS_H_

#include <sys/stat.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

// Operations on open files, for Ring::Start().

namespace escrow::safe {

// As an offset: use and advance the file's own position. For pipes and
// terminals.
inline constexpr std::uint64_t kCurrentPosition = ~std::uint64_t{0};

namespace internal {

void StartRead(ownership::Record& record, File file, std::byte* data,
               std::size_t size, std::uint64_t offset, int flags);
void StartWrite(ownership::Record& record, File file, const std::byte* data,
                std::size_t size, std::uint64_t offset, int flags);
// The same with memory that may be registered with the record's ring.
void StartRead(ownership::Record& record, File file,
               ownership::BufferRegistration registration, std::byte* data,
               std::size_t size, std::uint64_t offset, int flags);
void StartWrite(ownership::Record& record, File file,
                ownership::BufferRegistration registration,
                const std::byte* data, std::size_t size, std::uint64_t offset,
                int flags);
void StartGetFileXattr(ownership::Record& record, File file,
                       const std::string& name, std::byte* value,
                       std::size_t size);

}  // namespace internal

// Ring::Read() with the flags of preadv2(2).
template <ownership::Writable B>
struct Read {
  File file;
  B buffer;
  std::uint64_t offset = kCurrentPosition;  // bytes
  int flags = 0;                            // RWF_*

  using Outcome = Transfer<B>;
  void Start(ownership::Record& record) {
    ownership::WithMemory(buffer, [&](auto... memory) {
      internal::StartRead(record, std::move(file), memory..., offset, flags);
    });
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::TakeTransfer(result, buffer);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

// Ring::Write() with the flags of pwritev2(2).
template <ownership::Readable B>
struct Write {
  File file;
  B buffer;
  std::uint64_t offset = kCurrentPosition;  // bytes
  int flags = 0;                            // RWF_*

  using Outcome = Transfer<B>;
  void Start(ownership::Record& record) {
    ownership::WithMemory(buffer, [&](auto... memory) {
      internal::StartWrite(record, std::move(file), memory..., offset, flags);
    });
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::TakeTransfer(result, buffer);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

enum class SyncMode : std::uint8_t {
  kAll,   // fsync(2)
  kData,  // fdatasync(2)
};

// fsync(2) or fdatasync(2), of a range if the file system can do that. Covers
// the writes that are done when it is started, not those in flight.
struct Sync {
  File file;
  SyncMode mode = SyncMode::kAll;
  std::uint64_t offset = 0;  // bytes
  std::uint32_t length = 0;  // bytes; 0: to the end of the file

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// close(2) of a Descriptor, once the operations in flight on it are done,
// whichever ring they are on; or the emptying of the slot of a FixedFile of
// this ring's. Ring::Close() is the same, and says what comes of it.
//
// In a chain it waits for nobody but the members before it, which may be on the
// file. When there is another user of the file by the time of the start, it
// fails with device_or_resource_busy, the chain ends before it, and the file is
// closed when that user is done. Braces make the members of a chain one after
// the other, so that the last one may take what the others are on:
//
//   ring.Start(Chain{Write<std::string>{.file = log, .buffer = "the end"},
//                    Sync{.file = log}, Close{.file = std::move(log)}});
//
// A deadline is for the call only, not for what it waits for. Dropping the
// handle cancels nothing.
template <typename Handle>
struct Close {
  static_assert(std::same_as<Handle, ownership::Descriptor> ||
                std::same_as<Handle, ownership::FixedFile>);

  Handle file;

  static constexpr bool kEndsInAnyCase = true;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
  void StartBehind(ownership::Record& record,
                   std::span<ownership::Record* const> before);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult& result) noexcept;
};

// statx(2) of an open file. Stat in path_ops.h is that of a path.
struct StatFile {
  File file;
  int flags = 0;                      // AT_STATX_*
  unsigned mask = STATX_BASIC_STATS;  // STATX_*, what is asked for

  KernelRoom<struct ::statx> status = KernelRoom<struct ::statx>();

  static constexpr bool kStopsChain = false;
  using Outcome = Result<struct ::statx>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult&) noexcept {}
};

// fgetxattr(2). Bytes of the attribute, in the front of `value`;
// result_out_of_range if they are more than that has. If that is empty: how
// many they are. A name with a NUL inside is refused with invalid_argument.
template <ownership::Writable B>
struct GetFileXattr {
  File file;
  std::string name;
  B value;

  static constexpr bool kStopsChain = false;
  using Outcome = Transfer<B>;
  void Start(ownership::Record& record) {
    internal::StartGetFileXattr(record, std::move(file), name,
                                ownership::OwnedMemory<B>::Data(value),
                                ownership::OwnedMemory<B>::Size(value));
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::TakeTransfer(result, value);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

// fsetxattr(2). A name with a NUL inside is refused with invalid_argument.
struct SetFileXattr {
  File file;
  std::string name;
  std::string value;
  int flags = 0;  // XATTR_CREATE, XATTR_REPLACE

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// sync_file_range(2).
struct SyncRange {
  File file;
  std::uint64_t offset = 0;  // bytes
  std::uint32_t length = 0;  // bytes; 0: to the end of the file
  int flags = 0;             // SYNC_FILE_RANGE_*

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// fallocate(2).
struct Allocate {
  File file;
  int mode = 0;              // FALLOC_FL_*
  std::uint64_t offset = 0;  // bytes
  std::uint64_t length = 0;  // bytes

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// ftruncate(2). Linux 6.9.
struct Truncate {
  File file;
  std::int64_t length = 0;  // bytes that the file has then

  static constexpr bool kStopsChain = false;
  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// posix_fadvise(2).
struct Advise {
  File file;
  std::uint64_t offset = 0;  // bytes
  std::int64_t length = 0;   // bytes; 0: to the end of the file
  int advice = 0;            // POSIX_FADV_*

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

// splice(2); one of the two is a pipe. Bytes moved, 0 at the end of the input.
struct Splice {
  static constexpr std::int64_t kPosition = -1;

  File in;
  std::int64_t in_offset = kPosition;  // bytes; kPosition: the file's own
  File out;
  std::int64_t out_offset = kPosition;
  std::uint32_t length = 0;  // bytes at most
  unsigned flags = 0;        // SPLICE_F_*

  using Outcome = Result<std::size_t>;
  void Start(ownership::Record& record);
};

// tee(2), between two pipes. Bytes duplicated.
struct Tee {
  File in;
  File out;
  std::uint32_t length = 0;  // bytes at most
  unsigned flags = 0;        // SPLICE_F_*

  using Outcome = Result<std::size_t>;
  void Start(ownership::Record& record);
};

// pipe2(2), with O_CLOEXEC in any case. Linux 6.16.
struct Pipe {
  struct Ends {
    ownership::Descriptor read;
    ownership::Descriptor write;
  };

  int flags = 0;  // O_NONBLOCK, O_DIRECT

  struct Numbers {
    int ends[2];
  };
  KernelRoom<Numbers> numbers = KernelRoom<Numbers>();

  using Outcome = Result<Ends>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult& result) noexcept;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_FILE_OPS_H_
