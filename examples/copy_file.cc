#include "escrow/examples/copy_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/examples/block_copy.h"
#include "escrow/examples/compare.h"
#include "escrow/examples/failure.h"
#include "escrow/examples/session.h"
#include "escrow/examples/task.h"
#include "escrow/examples/temporary_file.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/ring.h"

namespace escrow::examples {
namespace {

using Clock = std::chrono::steady_clock;
using Status = struct ::statx;

bool SameFile(const Status& a, const Status& b) {
  return a.stx_dev_major == b.stx_dev_major &&
         a.stx_dev_minor == b.stx_dev_minor && a.stx_ino == b.stx_ino;
}

Expected<void> RequireRegular(const std::string& path, const Status& status) {
  const char* kind = "something else";
  switch (status.stx_mode & S_IFMT) {
    case S_IFREG:
      return {};
    case S_IFDIR:
      kind = "a directory";
      break;
    case S_IFIFO:
      kind = "a pipe";
      break;
    case S_IFSOCK:
      kind = "a socket";
      break;
    case S_IFCHR:
    case S_IFBLK:
      kind = "a device";
      break;
  }
  return Failed(path, std::string("is not a regular file but ") + kind);
}

// Nothing if there is no such file.
Expected<std::optional<Status>> Look(Session& session, const std::string& path,
                                     int flags = 0) {
  auto status =
      session.ring().Wait(session.ring().Statx(path, {.flags = flags}));
  if (status) return *status;
  if (status.error() == std::errc::no_such_file_or_directory) {
    return std::nullopt;
  }
  return Failed(path, status.error());
}

// The source.

struct Source {
  ownership::Descriptor file;
  Status status;
};

Expected<Source> OpenSource(Session& session, const std::string& path) {
  // Before opening, which has effects on some devices.
  auto status = session.Wait(path, session.ring().Statx(path));
  if (!status) return std::unexpected(status.error());
  if (auto regular = RequireRegular(path, *status); !regular) {
    return std::unexpected(regular.error());
  }
  // Does not wait for the writer of what has become a pipe since.
  auto file = session.Wait(
      path, session.ring().Open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  if (!file) return std::unexpected(file.error());
  status = session.Wait(path, session.ring().Statx(*file));
  if (!status) return std::unexpected(status.error());
  if (auto regular = RequireRegular(path, *status); !regular) {
    return std::unexpected(regular.error());
  }
  // With that flag, reads may fail instead of being waited for.
  const int flags = ::fcntl(file->number(), F_GETFL);
  if (::fcntl(file->number(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return FailedCall(path, "fcntl");
  }
  return Source{*std::move(file), *status};
}

// The destination.

struct Destination {
  std::string path;  // not a symbolic link
  std::optional<Status> existing;
};

// Follows `path` while it is a symbolic link, which may lead nowhere in the end
// as long as its directory exists.
Expected<std::string> FollowLinks(Session& session, std::string path) {
  for (int i = 0; i < 40; ++i) {
    auto status = Look(session, path, AT_SYMLINK_NOFOLLOW);
    if (!status) return std::unexpected(status.error());
    if (!*status || !S_ISLNK((*status)->stx_mode)) return path;
    std::error_code error;
    const auto link = std::filesystem::read_symlink(path, error);
    if (error) return Failed(path, "readlink: " + error.message());
    // An absolute link replaces the rest.
    path = std::filesystem::path(path).parent_path() / link;
  }
  return Failed(std::move(path), "too many symbolic links");
}

Expected<Destination> FindDestination(Session& session,
                                      const std::string& source,
                                      const std::string& destination) {
  std::string path = destination;
  auto status = Look(session, path);
  if (!status) return std::unexpected(status.error());
  if (*status && S_ISDIR((*status)->stx_mode)) {
    path =
        std::filesystem::path(path) / std::filesystem::path(source).filename();
    status = Look(session, path);
    if (!status) return std::unexpected(status.error());
  }
  auto followed = FollowLinks(session, path);
  if (!followed) return std::unexpected(followed.error());
  if (!*status) return Destination{*std::move(followed), std::nullopt};

  if (auto regular = RequireRegular(path, **status); !regular) {
    return std::unexpected(regular.error());
  }
  // Links in /proc lead to files that need not have a path.
  auto followed_status = Look(session, *followed, AT_SYMLINK_NOFOLLOW);
  if (!followed_status || !*followed_status ||
      !SameFile(**followed_status, **status)) {
    return Failed(path, "cannot be found as " + *followed);
  }
  // Replacing a file needs no permission to write it, but copying over one
  // does.
  if (::faccessat(AT_FDCWD, followed->c_str(), W_OK, AT_EACCESS) != 0) {
    return FailedCall(path, "access");
  }
  return Destination{*std::move(followed), *status};
}

// The content.

struct Copied {
  std::uint64_t bytes = 0;
  std::uint64_t holes = 0;
  std::size_t most_in_flight = 0;
};

// Files in /proc have no size but a content, and so have files that are empty
// until they grow: read to the end, one block after the other.
Task CopyToTheEnd(Session& session, const NamedFile& source,
                  const NamedFile& target, ownership::Buffer block,
                  Copied& copied, std::optional<Failure>& failure) {
  safe::Ring& ring = session.ring();
  copied.most_in_flight = 1;
  for (;;) {
    session.At(Moment::kEnd);
    auto [read, read_block] =
        co_await ring.Read(source.file, std::move(block), copied.bytes);
    block = std::move(read_block);
    if (!read) {
      failure = Failed(source.name, read.error()).error();
      co_return;
    }
    if (*read == 0) co_return;
    for (std::size_t written = 0; written < *read;) {
      auto [write, slice] = co_await ring.Write(
          target.file,
          ownership::Slice(std::move(block), written, *read - written),
          copied.bytes + written);
      block = std::move(slice).whole();
      if (!write) {
        failure = Failed(target.name, write.error()).error();
        co_return;
      }
      written += *write;
    }
    copied.bytes += *read;
    session.progress().done = session.progress().total = copied.bytes;
  }
}

Expected<Copied> CopyWithoutSize(Session& session, const NamedFile& source,
                                 const NamedFile& target) {
  auto block = ownership::Buffer::Allocate(session.block_size(), 4096);
  if (!block) return Failed("memory for blocks", block.error());
  Copied copied;
  std::optional<Failure> failure;
  std::vector<Task> tasks;
  tasks.push_back(CopyToTheEnd(session, source, target, *std::move(block),
                               copied, failure));
  if (auto run = session.Run(tasks, failure); !run) {
    return std::unexpected(run.error());
  }
  return copied;
}

Expected<Copied> CopyContent(Session& session, const NamedFile& source,
                             std::uint64_t size, const NamedFile& target,
                             bool raw) {
  if (size == 0) return CopyWithoutSize(session, source, target);
  Copied copied;
  while (copied.bytes < size) {
    session.progress().total = size;
    BlockCopy copy(session, source, target, copied.bytes, size);
    if (auto done = raw ? CopyBlocksRaw(copy) : CopyBlocks(copy); !done) {
      return std::unexpected(done.error());
    }
    copied.bytes = size;
    copied.holes += copy.holes();
    copied.most_in_flight =
        std::max(copied.most_in_flight, copy.most_in_flight());

    session.At(Moment::kEnd);
    auto status = session.Wait(source.name, session.ring().Statx(source.file));
    if (!status) return std::unexpected(status.error());
    size = status->stx_size;
    // In a hole, nobody has noticed yet.
    if (size < copied.bytes) copy.SourceEnded(size);
    if (copy.failure()) return std::unexpected(*copy.failure());
  }
  // Makes the hole at the end, if there is one.
  if (::ftruncate(target.file.number(), static_cast<::off_t>(copied.bytes)) !=
      0) {
    return FailedCall(target.name, "ftruncate");
  }
  return copied;
}

}  // namespace

Expected<CopyReport> CopyFile(Session& session, const std::string& source_path,
                              const std::string& destination_path,
                              const CopyOptions& options) {
  auto source = OpenSource(session, source_path);
  if (!source) return std::unexpected(source.error());
  auto destination = FindDestination(session, source_path, destination_path);
  if (!destination) return std::unexpected(destination.error());
  if (destination->existing &&
      SameFile(source->status, *destination->existing)) {
    return Failed(destination_path, "is the same file as " + source_path);
  }
  const ::mode_t mode =
      0777 & (destination->existing ? destination->existing->stx_mode
                                    : source->status.stx_mode);

  const auto start = Clock::now();
  auto target = TemporaryFile::Create(session, destination->path);
  if (!target) return std::unexpected(target.error());
  const NamedFile from = {source_path, source->file};
  const NamedFile to = {destination->path, target->file()};

  session.progress() = {.doing = "copy", .done = 0, .total = 0};
  auto copied =
      CopyContent(session, from, source->status.stx_size, to, options.raw);
  if (!copied) return std::unexpected(copied.error());

  session.progress().doing = "sync";
  const auto sync_start = Clock::now();
  if (auto synced = target->Sync(session, mode); !synced) {
    return std::unexpected(synced.error());
  }
  const auto sync_end = Clock::now();

  if (options.verify) {
    session.At(Moment::kVerify);
    // What counts is what is on the disk. Only a hint: then the memory it is.
    ::posix_fadvise(target->file().number(), 0, 0, POSIX_FADV_DONTNEED);
    if (auto same = CompareFiles(session, from, to, copied->bytes); !same) {
      return std::unexpected(same.error());
    }
  }
  const auto publish_start = Clock::now();
  if (auto published = std::move(*target).Publish(
          session, TemporaryFile::Existing::kReplaced);
      !published) {
    return std::unexpected(published.error());
  }
  return CopyReport{
      .destination = destination->path,
      .bytes = copied->bytes,
      .holes = copied->holes,
      .time = (sync_end - start) + (Clock::now() - publish_start),
      .sync_time = sync_end - sync_start,
      .most_in_flight = copied->most_in_flight,
  };
}

}  // namespace escrow::examples
