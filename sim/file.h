#ifndef ESCROW_SIM_FILE_H_
#define ESCROW_SIM_FILE_H_

#include <sys/types.h>

#include <optional>
#include <utility>

namespace escrow::sim {

// Where the numbers of the simulator's own descriptors begin: in the middle of
// what the process may have, or before.
int FirstOwnNumber() noexcept;

// Which file a number stands for, by fstat(2).
struct FileIdentity {
  // Nothing, with errno set, if there is no such descriptor.
  static std::optional<FileIdentity> Of(int fd) noexcept;

  bool operator==(const FileIdentity&) const noexcept = default;

  ::dev_t device;
  ::ino_t inode;
};

// A reference to an open file, as the kernel has one: either a number of the
// program's, which the program may close at any time, or a descriptor of the
// simulator's own. Those are duplicates with high numbers, so that the program
// gets the numbers that it would get without.
class File {
 public:
  File() noexcept = default;
  static File Borrow(int fd) noexcept { return File(fd, false); }
  static File Own(int fd) noexcept { return File(fd, true); }
  // A duplicate; invalid, with errno set, if there cannot be one.
  static File Duplicate(int fd) noexcept;
  // Moves a descriptor that was just opened to a high number.
  static File Adopt(int fd) noexcept;

  File(File&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), owned_(other.owned_) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(owned_, other.owned_);
    return *this;
  }
  ~File();

  int fd() const noexcept { return fd_; }
  bool valid() const noexcept { return fd_ >= 0; }
  bool owned() const noexcept { return owned_; }
  // Whether there is such a descriptor.
  bool IsOpen() const noexcept;
  // For the program, which closes it.
  int Release() noexcept;

 private:
  File(int fd, bool owned) noexcept : fd_(fd), owned_(owned) {}

  int fd_ = -1;
  bool owned_ = false;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_FILE_H_
