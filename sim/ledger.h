#ifndef ESCROW_SIM_LEDGER_H_
#define ESCROW_SIM_LEDGER_H_

#include <cstddef>
#include <cstdint>

#include "escrow/sim/report.h"

// Which bytes of the program the kernel may use, until when, and for whom.
//
// Finds out when the program frees them (through the allocator's hooks, where a
// sanitizer has them), returns from the frame that they are in, touches what
// the kernel may write (it is poisoned), changes what the kernel may read (its
// checksum is compared), or gives them to the kernel twice.
//
// Any thread may call any of this; it locks for itself.

namespace escrow::sim {

enum class Use : std::uint8_t {
  kRead,        // the kernel loads from it
  kWrite,       // the kernel stores into it
  kReadWrite,   // both
  kAddress,     // the address itself is used: what is mapped there
  kRegistered,  // it may be used by requests to come; the program may touch it
  kProvided,    // as kWrite, for requests to come
};

// Keeps [data, data + size) for `owner`, which stays where it is until
// ReleaseAll(), and may have any number of pieces. `what` names the piece in
// reports ("buffer", "msghdr"); static. Reports memory that is invalid already,
// and what overlaps another piece if one of the two is stored into, registered
// pieces excepted.
void Hold(const Owner& owner, Use use, void* data, std::size_t size,
          const char* what) noexcept;

// Ends the piece that begins at `data`, or all. Reports what happened to it.
void Release(const Owner& owner, const void* data) noexcept;
void ReleaseAll(const Owner& owner) noexcept;

// From now on nothing is kept for anybody: without AddressSanitizer there is
// little to find, and a program that is no test has better things to do.
void KeepNothing() noexcept;

// Whether `owner` has any piece that the kernel may load from or store into.
bool Uses(const Owner& owner) noexcept;

// Has fork(3) wait for whoever is inside, from now on. May be called again, to
// be the first that it waits for.
void HandleForksOfLedger() noexcept;

// The same of memory that the kernel shares with the program word by word, as
// are the slots of the completion queue: what is closed must not be touched.
// Whole granules of 8 bytes. Open() is without effect on what is not closed.
void Close(void* data, std::size_t size) noexcept;
void Open(void* data, std::size_t size) noexcept;

// In a thread that is inside the simulator, where the allocator is called for
// the simulator's own sake.
class Inside {
 public:
  Inside() noexcept;
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  ~Inside();

 private:
  bool outer_;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_LEDGER_H_
