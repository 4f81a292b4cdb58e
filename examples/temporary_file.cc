#include "escrow/examples/temporary_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/examples/failure.h"
#include "escrow/examples/session.h"
#include "escrow/ownership/descriptor.h"

namespace escrow::examples {
namespace {

int RenameToNew(const std::string& from, const std::string& to) {
  const int result = ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(),
                                 RENAME_NOREPLACE);
  if (result == 0 || errno != EINVAL) return result;
  // Not every file system knows that; all that have hard links know this.
  if (::link(from.c_str(), to.c_str()) != 0) return -1;
  return ::unlink(from.c_str());
}

}  // namespace

Expected<TemporaryFile> TemporaryFile::Create(Session& session,
                                              std::string path) {
  const std::filesystem::path name(path);
  if (!name.has_filename()) return Failed(path, "does not name a file");
  const std::string directory =
      name.has_parent_path() ? name.parent_path().string() : ".";

  // A directory may be writable and not be readable: then it cannot be synced,
  // but files can still be put there.
  auto opened = session.ring().Wait(
      session.ring().Open(directory, O_RDONLY | O_DIRECTORY));
  if (!opened && opened.error() != std::errc::permission_denied) {
    return Failed(directory, opened.error());
  }
  TemporaryFile temporary(
      std::move(path), opened ? *std::move(opened) : ownership::Descriptor());

  for (;;) {
    std::uint64_t random = 0;
    if (::getrandom(&random, sizeof(random), 0) < 0) {
      return FailedCall(temporary.path_, "getrandom");
    }
    char suffix[32];
    std::snprintf(suffix, sizeof(suffix), "/.cp-%016llx",
                  static_cast<unsigned long long>(random));
    // Not given up when stopped: then the file might appear after all, later.
    auto file = session.ring().Wait(session.ring().Open(
        directory + suffix, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    if (file) {
      temporary.temporary_path_ = directory + suffix;
      temporary.file_ = *std::move(file);
      return temporary;
    }
    if (file.error() != std::errc::file_exists) {
      return Failed(temporary.path_,
                    "no temporary file beside it: " + file.error().message());
    }
  }
}

TemporaryFile::~TemporaryFile() {
  if (!temporary_path_.empty()) ::unlink(temporary_path_.c_str());
}

Expected<void> TemporaryFile::Sync(Session& session, ::mode_t mode) {
  // First, so that the permissions are on the disk too.
  if (::fchmod(file_.number(), mode) != 0) return FailedCall(path_, "fchmod");
  session.At(Moment::kSync);
  return session.Wait(path_, session.ring().Fsync(file_));
}

Expected<void> TemporaryFile::Publish(Session& session, Existing existing) && {
  session.At(Moment::kClose);
  // Some file systems report only here that they could not write everything.
  if (auto closed = session.Wait(path_, session.ring().Close(std::move(file_)));
      !closed) {
    return closed;
  }
  session.At(Moment::kRename);
  const int renamed = existing == Existing::kReplaced
                          ? std::rename(temporary_path_.c_str(), path_.c_str())
                          : RenameToNew(temporary_path_, path_);
  if (renamed != 0) return FailedCall(path_, "rename");
  temporary_path_.clear();
  if (!directory_.valid()) return {};
  auto synced = session.ring().Wait(session.ring().Fsync(directory_));
  // Not every file system has something to do there.
  if (!synced && synced.error() != std::errc::invalid_argument) {
    return Failed(path_, "complete, but may be gone after a crash: " +
                             synced.error().message());
  }
  return {};
}

}  // namespace escrow::examples
