#ifndef ESCROW_TESTS_CONFORMANCE_MEASURE_H_
#define ESCROW_TESTS_CONFORMANCE_MEASURE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "escrow/raw/contract.h"
#include "tests/conformance/stage.h"

// Compares the lifetimes that the operation types state with what the running
// kernel does.

namespace escrow::testing {

// One region of one operation type: what the test is about.
struct Row {
  std::string op;      // the name of the type
  const char* since;   // the first Linux release with the operation
  raw::Until ends;     // the completion that ends the operation
  std::string region;  // "message/msg_iov/iov_base"
  raw::Access access;
  raw::Until until;  // what the contract says
};

// All regions of all operation types, those behind others included.
std::vector<Row> AllRows();

// Sets up some of the regions of an operation.
struct NamedScript {
  const char* op;
  Script script;
  // IORING_SETUP_* that the operation needs.
  std::uint32_t setup_flags = 0;
};

// Rows that are not measured. "*" stands for any operation; a region for those
// behind it, too.
struct NotMeasured {
  const char* op;
  const char* region;
  const char* reason;
};

const std::vector<NamedScript>& AllScripts();
const std::vector<NotMeasured>& AllNotMeasured();

// What is wrong with the lists: rows that are in none, entries that match no
// row, rows that are measured all the same, regions that do not exist. Runs the
// scripts, but performs nothing.
std::vector<std::string> FindGaps(const std::vector<Row>& rows,
                                  const std::vector<NamedScript>& scripts,
                                  const std::vector<NotMeasured>& not_measured);

enum class Mode { kDefault, kDeferTaskrun, kSqpoll };

struct Verdict {
  // The row was not measured, and why. Empty if it was.
  std::string skipped = {};
  // What contradicts the row. Empty if nothing does.
  std::string problem = {};
};

// Whether the kernel uses the region of `row` until when it says, and the
// operation ends with the completion that it says.
//
// The class is measured, then compared: the latest moment at which the region
// was missed when it was revoked then. `slot`: with the file in a slot of the
// file table; `row` is one of IsFile().
Verdict Check(const Row& row, Mode mode, bool slot = false);

// Whether the region is a file that may be a descriptor or a slot.
bool IsFile(const Row& row);

}  // namespace escrow::testing

#endif  // ESCROW_TESTS_CONFORMANCE_MEASURE_H_
