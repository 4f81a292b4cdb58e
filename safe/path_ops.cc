#include "escrow/safe/path_ops.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

namespace escrow::safe {
namespace {

using internal::Engine;
using ownership::DescriptorShare;
using ownership::RawResult;
using ownership::Record;

// Has `record` hold the directories, so that record.file is the first.
int Hold(Record& record, Directory directory) {
  DescriptorShare share = std::move(directory).Take();
  if (!share.valid()) return AT_FDCWD;
  record.Hold(std::move(share));
  return record.file.number();
}
int HoldAlso(Record& record, Directory directory) {
  DescriptorShare share = std::move(directory).Take();
  if (!share.valid()) return AT_FDCWD;
  record.HoldAlso(std::move(share));
  return record.other_file.number();
}

static_assert(sizeof(Open::How) == sizeof(open_how));

}  // namespace

void Open::Start(Record& record) {
  if (internal::RefuseNul<raw::OpenAt2>(record, path)) return;
  const int all_flags = flags | internal::CloseOnExec(record, O_CLOEXEC);
  how.value = {.flags = static_cast<std::uint64_t>(all_flags),
               .mode = mode,
               .resolve = resolve};
  const int from = Hold(record, std::move(directory));
  Engine::Of(record).Start(
      record,
      raw::OpenAt2{.directory = from,
                   .path = path.c_str(),
                   .how = reinterpret_cast<const open_how*>(&how.value),
                   .into = internal::DestinationOf(record)},
      record.sqe_flags);
}

void Rename::Start(Record& record) {
  if (internal::RefuseNul<raw::RenameAt>(record, from, to)) return;
  const int old_directory = Hold(record, std::move(from_directory));
  const int new_directory = HoldAlso(record, std::move(to_directory));
  Engine::Of(record).Start(record,
                           raw::RenameAt{.old_directory = old_directory,
                                         .old_path = from.c_str(),
                                         .new_directory = new_directory,
                                         .new_path = to.c_str(),
                                         .flags = flags},
                           record.sqe_flags);
}

void Unlink::Start(Record& record) {
  if (internal::RefuseNul<raw::UnlinkAt>(record, path)) return;
  const int from = Hold(record, std::move(directory));
  Engine::Of(record).Start(
      record,
      raw::UnlinkAt{.directory = from, .path = path.c_str(), .flags = flags},
      record.sqe_flags);
}

void MakeDirectory::Start(Record& record) {
  if (internal::RefuseNul<raw::MkdirAt>(record, path)) return;
  const int from = Hold(record, std::move(directory));
  Engine::Of(record).Start(
      record,
      raw::MkdirAt{.directory = from, .path = path.c_str(), .mode = mode},
      record.sqe_flags);
}

void Symlink::Start(Record& record) {
  if (internal::RefuseNul<raw::SymlinkAt>(record, target, path)) return;
  const int from = Hold(record, std::move(directory));
  Engine::Of(record).Start(
      record,
      raw::SymlinkAt{
          .target = target.c_str(), .directory = from, .path = path.c_str()},
      record.sqe_flags);
}

void Link::Start(Record& record) {
  if (internal::RefuseNul<raw::LinkAt>(record, from, to)) return;
  const int old_directory = Hold(record, std::move(from_directory));
  const int new_directory = HoldAlso(record, std::move(to_directory));
  Engine::Of(record).Start(record,
                           raw::LinkAt{.old_directory = old_directory,
                                       .old_path = from.c_str(),
                                       .new_directory = new_directory,
                                       .new_path = to.c_str(),
                                       .flags = flags},
                           record.sqe_flags);
}

void Stat::Start(Record& record) {
  if (internal::RefuseNul<raw::Statx>(record, path)) return;
  const int from = Hold(record, std::move(directory));
  Engine::Of(record).Start(record,
                           raw::Statx{.directory = from,
                                      .path = path.c_str(),
                                      .flags = flags,
                                      .mask = mask,
                                      .result = &status.value},
                           record.sqe_flags);
}

Result<struct ::statx> Stat::Take(const RawResult& result) && {
  if (!result.ok()) return internal::Failure(result);
  return status.value;
}

void SetXattr::Start(Record& record) {
  if (internal::RefuseNul<raw::SetXattr>(record, path, name)) return;
  Engine::Of(record).Start(
      record,
      raw::SetXattr{.path = path.c_str(),
                    .name = name.c_str(),
                    .value = value.data(),
                    .length = internal::TransferLength(value.size()),
                    .flags = flags},
      record.sqe_flags);
}

namespace internal {

void StartGetXattr(Record& record, const std::string& path,
                   const std::string& name, std::byte* value,
                   std::size_t size) {
  if (RefuseNul<raw::GetXattr>(record, path, name)) return;
  Engine::Of(record).Start(record,
                           raw::GetXattr{.path = path.c_str(),
                                         .name = name.c_str(),
                                         .value = value,
                                         .length = TransferLength(size)},
                           record.sqe_flags);
}

}  // namespace internal
}  // namespace escrow::safe
