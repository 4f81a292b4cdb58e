#ifndef ESCROW_SIM_KERNEL_H_
#define ESCROW_SIM_KERNEL_H_

#include <liburing/io_uring.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "escrow/sim/choices.h"

// The system calls of io_uring, executed in the process that calls them.
//
// Real entries in, real completions out: a ring is a memfd with the layout that
// the kernel gives one, which the program maps as it maps any ring. What a
// request does to files it does with real system calls on real descriptors;
// when, in which order, how much of it, and with what luck, is a matter of
// choices (choices.h). Everything happens inside these calls: between them the
// simulated kernel does not run, unless it is asked to (Options::threads).

namespace escrow::sim {

// As the system calls, but for the errors, which are returned: -EINVAL.
int SysSetup(unsigned entries, io_uring_params* params) noexcept;
int SysEnter(unsigned fd, unsigned to_submit, unsigned min_complete,
             unsigned flags, const void* arg, std::size_t size) noexcept;
int SysRegister(unsigned fd, unsigned opcode, void* arg,
                unsigned count) noexcept;
// Of a ring; others are none of the simulator's business, see IsRing().
int SysClose(int fd) noexcept;
// Where a ring, or a part of it, is mapped, and that it is not any more: calls
// mmap(2) and munmap(2). Errors as MAP_FAILED with errno, and as -errno.
void* SysMap(void* address, std::size_t length, int protection, int flags,
             int fd, ::off_t offset) noexcept;
int SysUnmap(void* address, std::size_t length) noexcept;

// Whether `fd` is a simulated ring, or a duplicate of one's descriptor.
bool IsRing(int fd) noexcept;

// Whether there is a part of a simulated ring at `address`.
bool IsMapped(const void* address) noexcept;

enum class Clock : std::uint8_t {
  kReal,     // timeouts take their time
  kVirtual,  // time passes when there is nothing else to wait for
};

// Checks of what programs may rightly do, which few do.
struct Checks {
  bool changed_entries = false;  // an entry is not changed after its submit
  bool stale_user_data = false;  // every entry has its user_data set
};

struct Options {
  Choices choices;
  Clock clock = Clock::kReal;
  Checks checks = {};
  // What may block is left to threads, and another one has things go on while
  // nobody is in a call: for real work, with benign choices and the real clock.
  // Descriptors of rings by index are refused: they are the real kernel's.
  bool threads = false;
};

// Begins anew, with these. Ends the program if there are rings; zombies of
// rings that were closed are gone. Until the first call: benign, with the real
// clock.
void Reset(Options options);

// Descriptors of rings have numbers from `first` on. 0, which is what holds
// until the first call: the lowest ones, as everywhere.
void NumberRingsFrom(int first) noexcept;

// What is wrong at the end of a program that has come to its end in order, or
// of an input: a ring that was closed while a request on it used memory, whose
// end nobody could see any more; a ring that was closed with a result in it
// which nobody had seen, and which is a descriptor that is still open. Reported
// as a mistake, if there is any.
void CheckEnd() noexcept;

// The choices of the run so far, which Choices::Following() makes again.
Schedule MadeChoices();

// What programs asked for that is not simulated, each once, with how often, on
// standard error; nothing if there is nothing. It was answered with EINVAL.
void PrintUnsupported() noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_KERNEL_H_
