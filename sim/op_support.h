#ifndef ESCROW_SIM_OP_SUPPORT_H_
#define ESCROW_SIM_OP_SUPPORT_H_

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "escrow/sim/ledger.h"
#include "escrow/sim/op.h"
#include "escrow/sim/real_call.h"
#include "escrow/sim/request.h"

// What several operations need: real system calls, and the program's memory
// that goes into them.

namespace escrow::sim {

template <typename T>
long ToArgument(T value) noexcept {
  if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    return static_cast<long>(value);
  }
}

// A real system call: its result, or -errno.
template <typename... Args>
std::int32_t Call(long number, Args... args) noexcept {
  return static_cast<std::int32_t>(RealCall(number, ToArgument(args)...));
}

// The fields of an entry that an operation does not use have to be 0.
template <typename... Fields>
int CheckUnused(Fields... fields) noexcept {
  return ((fields == 0) && ...) ? 0 : -EINVAL;
}

template <typename T = void>
T* PointerTo(std::uint64_t address) noexcept {
  return reinterpret_cast<T*>(address);
}

// Of what is pending on a descriptor: POLL*, now.
std::uint32_t PollNow(int fd, std::uint32_t events) noexcept;

// What kind of file a descriptor is of.
struct FileKind {
  ::mode_t mode = 0;    // S_IFMT only; 0 if it is none
  int domain = -1;      // of a socket: AF_*
  int socket_type = 0;  // of a socket: SOCK_*
  int flags = 0;        // O_*

  bool IsSocket() const noexcept { return socket_type != 0; }
  bool IsIp() const noexcept { return domain == AF_INET || domain == AF_INET6; }
  // Data of these is not found by waiting for events.
  bool IsOnDisk() const noexcept;
  // A transfer of fewer bytes than were asked for leaves the rest for the next.
  bool IsStream() const noexcept;
};
FileKind KindOf(int fd) noexcept;

// Vectors.

using Vectors = std::vector<iovec>;

// Most bytes of one transfer.
inline constexpr std::size_t kMaxTransfer = 0x7fff'f000;

// Copies an array of the program's: 0 or -errno.
int LoadVectors(std::uint64_t address, std::size_t count, Vectors* vectors);

std::size_t SizeOf(const Vectors& vectors) noexcept;
// Their first `size` bytes, and all but those.
Vectors First(const Vectors& vectors, std::size_t size);
Vectors After(const Vectors& vectors, std::size_t size);

void HoldEach(Request& request, Use use, const Vectors& vectors,
              const char* what);
void BeforeLoadEach(const Vectors& vectors) noexcept;
void BeforeStoreEach(const Vectors& vectors) noexcept;
// Of what has been stored, `size` bytes in all.
void AfterStoreEach(const Vectors& vectors, std::size_t size) noexcept;

// Strings and addresses.

using Text = std::vector<char>;

// Copies a string of the program's, with its NUL, of at most `room` bytes: 0,
// or -EFAULT, or -`too_long`.
int LoadText(std::uint64_t address, std::size_t room, int too_long, Text* text);
// The same of a path, which may be empty only if `flags` say so
// (AT_EMPTY_PATH).
int LoadPath(std::uint64_t address, unsigned flags, Text* path);

// A socket address, copied from the program.
struct Address {
  sockaddr_storage storage = {};
  ::socklen_t length = 0;

  int Load(std::uint64_t address, std::uint64_t its_length) noexcept;
};

// Operations that are executed at once when they are tried.
class Immediate : public Op {
 public:
  Attempt Try(Request& request) final {
    if (!executed_) {
      if (request.has_workers() && MayBlock(request)) return Attempt::Works();
      Work(request);
    }
    return Attempt::Done(result_);
  }
  void Work(Request& request) final {
    executed_ = true;
    result_ = Execute(request);
  }

 protected:
  virtual std::int32_t Execute(Request& request) = 0;
  // Whether Execute() does, which then uses nothing of the ring.
  virtual bool MayBlock(Request& request) const {
    (void)request;
    return false;
  }
  bool executed() const noexcept { return executed_; }

 private:
  bool executed_ = false;
  std::int32_t result_ = 0;
};

// Those on what may be on a disk. Their errors do not stop the chain that they
// are in: Linux marks no failure there.
class Tolerated : public Immediate {
 public:
  bool BreaksChain(const Request&, std::int32_t result) const final;

 protected:
  bool MayBlock(Request&) const final { return true; }
};

// Gives a new descriptor to the program, or to the slot that `file_index`
// names: the result of the completion.
std::int32_t Deliver(Request& request, std::int32_t fd,
                     std::uint32_t file_index);

}  // namespace escrow::sim

#endif  // ESCROW_SIM_OP_SUPPORT_H_
