#ifndef ESCROW_EXAMPLES_TEMPORARY_FILE_H_
#define ESCROW_EXAMPLES_TEMPORARY_FILE_H_

#include <sys/types.h>

#include <string>
#include <utility>

#include "escrow/examples/failure.h"
#include "escrow/examples/session.h"
#include "escrow/ownership/descriptor.h"

// A file that gets its name when its content is complete and on the disk, so
// that nobody ever finds half of it under that name.

namespace escrow::examples {

// Removes itself unless it was given its name.
class TemporaryFile {
 public:
  // Makes a file that is going to be `path`, in the same directory and for us
  // alone. Failures name `path`.
  static Expected<TemporaryFile> Create(Session& session, std::string path);

  TemporaryFile(TemporaryFile&& other) noexcept
      : path_(std::move(other.path_)),
        temporary_path_(std::exchange(other.temporary_path_, {})),
        file_(std::move(other.file_)),
        directory_(std::move(other.directory_)) {}
  TemporaryFile& operator=(TemporaryFile&&) = delete;
  ~TemporaryFile();

  // The path it is going to have.
  const std::string& path() const noexcept { return path_; }

  // Open for reading and writing, until Publish().
  const ownership::Descriptor& file() const noexcept { return file_; }

  // Gives it its permissions and has all of it on the disk.
  Expected<void> Sync(Session& session, ::mode_t mode);

  // Closes it and gives it its name. Requires Sync(). What has the name already
  // is replaced, or is an error.
  enum class Existing : bool { kReplaced, kError };
  Expected<void> Publish(Session& session, Existing existing) &&;

 private:
  TemporaryFile(std::string path, ownership::Descriptor directory)
      : path_(std::move(path)), directory_(std::move(directory)) {}

  std::string path_;
  std::string temporary_path_;  // empty if there is no such file (any more)
  ownership::Descriptor file_;
  ownership::Descriptor directory_;  // invalid where we must not read it
};

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_TEMPORARY_FILE_H_
