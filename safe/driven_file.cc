#include "escrow/safe/driven_file.h"

#include <sys/stat.h>

#include <cstdint>
#include <expected>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"

namespace escrow::safe {

using ownership::Descriptor;

namespace internal {

SeekOp::Outcome SeekOp::Take(const ownership::RawResult& result) && {
  if (!result.ok()) return Failure(result);
  std::int64_t base = 0;
  if (from == SeekFrom::kCurrent) {
    base = static_cast<std::int64_t>(position);
  } else if (from == SeekFrom::kEnd) {
    const auto found = std::move(status).Take(result);
    if (!found) return std::unexpected(found.error());
    base = static_cast<std::int64_t>(found->stx_size);
  }
  // No position is negative, so that this cannot underflow.
  if (offset > std::numeric_limits<std::int64_t>::max() - base) {
    return std::unexpected(std::make_error_code(std::errc::value_too_large));
  }
  if (base + offset < 0) {
    return std::unexpected(std::make_error_code(std::errc::invalid_argument));
  }
  return static_cast<std::uint64_t>(base + offset);
}

SeekOp SeekWork::Make() const {
  return {.status = {.file = state->file, .mask = STATX_SIZE},
          .position = state->position,
          .from = from,
          .offset = offset};
}

}  // namespace internal

Submission<Result<DrivenFile>> DrivenFile::Open(
    const std::shared_ptr<internal::DriverBase>& driver, std::string path,
    int flags, ::mode_t mode) {
  auto make = [driver = driver, path = std::move(path), flags, mode]() mutable {
    return internal::MapOutcome(
        safe::Open{.path = std::move(path),
                   .flags = flags,
                   .mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0},
        [driver](Result<Descriptor> opened) -> Result<DrivenFile> {
          if (!opened) return std::unexpected(opened.error());
          return DrivenFile(driver, std::move(*opened));
        });
  };
  return internal::SubmitOp(driver, std::move(make));
}

Submission<Result<std::uint64_t>> DrivenFile::Seek(SeekFrom from,
                                                   std::int64_t offset) {
  return object_.Submit(Kind::kSeek, [&](internal::DrivenState& state) {
    return internal::SeekWork{&state, from, offset};
  });
}

Submission<Result<void>> DrivenFile::Sync(SyncMode mode) {
  return object_.SubmitOp(Kind::kSync, [mode](Descriptor& file) {
    return safe::Sync{.file = file, .mode = mode};
  });
}

}  // namespace escrow::safe
