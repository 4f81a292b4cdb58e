#ifndef ESCROW_SAFE_FILE_OPS_H_
#define ESCROW_SAFE_FILE_OPS_H_

#include <cstddef>
#include <cstdint>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

// Operations on open files, for Ring::Start().

namespace escrow::safe {

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
