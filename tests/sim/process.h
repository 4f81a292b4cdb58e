#ifndef ESCROW_TESTS_SIM_PROCESS_H_
#define ESCROW_TESTS_SIM_PROCESS_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

// Programs that tests start, and files that they need.

namespace escrow::testing {

struct Ended {
  int status = -1;     // what it has exited with, or minus its signal
  std::string output;  // both, standard output and error
};

// Runs a program, with `environment` added to the test's own, for `seconds` at
// most: then it is killed.
Ended RunProgram(const std::vector<std::string>& command,
                 const std::vector<std::string>& environment = {},
                 int seconds = 60);

// The path of a file that is in `data` of the test, from the workspace on.
std::string Runfile(std::string_view path);

// In the test's own folder.
std::string TemporaryFile(std::string_view name);

// How many seeds to try, from --test_env=ESCROW_SIM_SEEDS=N.
int Seeds(int otherwise);

}  // namespace escrow::testing

#endif  // ESCROW_TESTS_SIM_PROCESS_H_
