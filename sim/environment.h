#ifndef ESCROW_SIM_ENVIRONMENT_H_
#define ESCROW_SIM_ENVIRONMENT_H_

// How a program runs under the simulated kernel, as its environment says:
//
//   ESCROW_SIM_SEED=N          choices at random, the same for the same N
//   ESCROW_SIM_SCHEDULE=FILE   choices as they were recorded
//                              (with neither: the benign ones)
//   ESCROW_SIM_RECORD=FILE     where to record them, whatever ends the program
//   ESCROW_SIM_CLOCK=virtual   timeouts take no time; "real" is the default
//   ESCROW_SIM_CHECKS=changed-entries,stale-user-data
//                              checks of what is unusual, but not wrong
//
// A report says how to repeat the run. Programs that cannot be run so, because
// a variable makes no sense, end with a message.

namespace escrow::sim {

// Each once, by a front end: when the program begins, before any ring, and when
// it has come to its end in order: reports what is left over.
void BeginAsEnvironmentSays();
void EndOfProgram() noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_ENVIRONMENT_H_
