#ifndef ESCROW_SAFE_DRIVEN_FILE_H_
#define ESCROW_SAFE_DRIVEN_FILE_H_

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/driven_object.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"

// Files on a driver, of any kind.
//
//   auto file = safe::DrivenFile::Open(driver, "data").Wait();
//   auto [size, buffer] = co_await file->Read(std::move(buffer));

namespace escrow::safe {

enum class SeekFrom : std::uint8_t { kStart, kCurrent, kEnd };

namespace internal {

// Transfers at the position, which moves by what is transferred.
template <typename Op, typename B>
struct PositionedTransfer {
  DrivenState* state;
  B buffer;

  Op Make() {
    return {.file = state->file,
            .buffer = std::move(buffer),
            .offset = state->position};
  }
  bool Done(const Transfer<B>& outcome) {
    state->position += outcome.result.value_or(0);
    return false;
  }
};

// What the position becomes.
struct SeekOp {
  StatFile status;
  std::uint64_t position;
  SeekFrom from;
  std::int64_t offset;

  using Outcome = Result<std::uint64_t>;
  void Start(ownership::Record& record) { status.Start(record); }
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult&) noexcept {}
};

struct SeekWork {
  DrivenState* state;
  SeekFrom from;
  std::int64_t offset;

  SeekOp Make() const;
  bool Done(const Result<std::uint64_t>& outcome) {
    if (outcome.has_value()) state->position = *outcome;
    return false;
  }
};

}  // namespace internal

// An open file, and a position of its own, which starts at 0 and matters for
// what can seek only; the one that the kernel keeps with the file is not used.
// As driven_object.h says in all else. Movable.
class DrivenFile {
 public:
  // open(2).
  template <Driver D>
  static Submission<Result<DrivenFile>> Open(const D& driver, std::string path,
                                             int flags = O_RDONLY,
                                             ::mode_t mode = 0666) {
    return Open(std::make_shared<internal::DriverOf<D>>(driver),
                std::move(path), flags, mode);
  }
  // An empty file to write, whether there was one or not.
  template <Driver D>
  static Submission<Result<DrivenFile>> Create(const D& driver,
                                               std::string path,
                                               ::mode_t mode = 0666) {
    return Open(driver, std::move(path), O_WRONLY | O_CREAT | O_TRUNC, mode);
  }

  // Takes over what is open, and no operation is on. Requires file.alone().
  template <Driver D>
  static DrivenFile Adopt(const D& driver, ownership::Descriptor file) {
    ESCROW_CHECK(file.valid() && file.alone(),
                 "a DrivenFile of what is not open, or used by somebody else");
    return DrivenFile(std::make_shared<internal::DriverOf<D>>(driver),
                      std::move(file));
  }

  // Into the whole of `buffer`, from the position on. Fewer bytes are no error;
  // 0 is the end.
  template <ownership::Writable B>
  Submission<Transfer<B>> Read(B buffer) {
    return object_.Submit(Kind::kRead, [&](internal::DrivenState& state) {
      return internal::PositionedTransfer<safe::Read<B>, B>{&state,
                                                            std::move(buffer)};
    });
  }
  // The whole of `buffer`, or less.
  template <ownership::Readable B>
  Submission<Transfer<B>> Write(B buffer) {
    return object_.Submit(Kind::kWrite, [&](internal::DrivenState& state) {
      return internal::PositionedTransfer<safe::Write<B>, B>{&state,
                                                             std::move(buffer)};
    });
  }

  // The new position. Errors: invalid_argument if it were below 0,
  // value_too_large if above what an off_t holds, those of statx(2). It is
  // where it was then.
  Submission<Result<std::uint64_t>> Seek(SeekFrom from, std::int64_t offset);

  Submission<Result<void>> Sync(SyncMode mode = SyncMode::kAll);

  Submission<Result<void>> Close() { return object_.Close(); }

  // As Close(), but for that the descriptor comes out, which the calling
  // thread's rings may use then.
  Submission<Result<ownership::Descriptor>> IntoDescriptor() {
    return object_.IntoDescriptor();
  }

 private:
  using Kind = internal::SubmissionState::Kind;

  DrivenFile(std::shared_ptr<internal::DriverBase> driver,
             ownership::Descriptor file)
      : object_(std::move(driver), std::move(file)) {}

  static Submission<Result<DrivenFile>> Open(
      const std::shared_ptr<internal::DriverBase>& driver, std::string path,
      int flags, ::mode_t mode);

  internal::DrivenObject object_;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_DRIVEN_FILE_H_
