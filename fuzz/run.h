#ifndef ESCROW_FUZZ_RUN_H_
#define ESCROW_FUZZ_RUN_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "escrow/fuzz/input.h"

// Fuzzing what a program owns while the kernel uses it.
//
//   extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
//                                         std::size_t size) {
//     const escrow::fuzz::Run run(data, size);
//     LogWriter log;  // yours, which uses io_uring
//     for (const escrow::fuzz::Action& action : run.actions()) {
//       switch (action.kind % 3) {
//         case 0: log.Append(action.a); break;
//         case 1: log.Flush(); break;
//         case 2: log.Cancel(); break;
//       }
//     }
//     return 0;
//   }
//
// In a target of escrow_fuzz_test (//fuzz:defs.bzl) all of io_uring is
// simulated, whatever library the program uses it by. What the program does
// wrong with memory that the kernel may use ends it with a report. With
// ESCROW_FUZZ_CHOICES in the environment, the end of the process says which
// choices the kernel has made, and what the program asked for that is not
// simulated.

namespace escrow::fuzz {

// One run of the program, with a kernel that does what the front of the input
// says. There is one at a time, and no ring when it begins.
class Run {
 public:
  // Time passes when there is nothing else to wait for.
  Run(const std::uint8_t* data, std::size_t size);
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  // Reports what is wrong in the end: memory that requests of a closed ring
  // still own, descriptors in results that were not read. So all rings are
  // closed by now.
  ~Run();

  std::span<const Action> actions() const noexcept { return input_.actions(); }

 private:
  Input input_;
};

}  // namespace escrow::fuzz

#endif  // ESCROW_FUZZ_RUN_H_
