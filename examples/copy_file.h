#ifndef ESCROW_EXAMPLES_COPY_FILE_H_
#define ESCROW_EXAMPLES_COPY_FILE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "escrow/examples/failure.h"
#include "escrow/examples/session.h"

// Copying a regular file through a ring, completely or not at all.

namespace escrow::examples {

struct CopyOptions {
  bool raw = false;     // blocks on raw entries, see block_copy.h
  bool verify = false;  // compare before the copy gets its name
};

struct CopyReport {
  std::string destination;  // the file, also if a directory was given
  std::uint64_t bytes = 0;
  std::uint64_t holes = 0;  // bytes of the above that were not copied
  std::chrono::duration<double> time{0};       // without the comparing
  std::chrono::duration<double> sync_time{0};  // part of it
  std::size_t most_in_flight = 0;              // operations at once
};

// Copies `source` to `destination`, or into it if that is a directory. The copy
// has the permissions of what it replaces, or of `source`. What was there stays
// until the copy is complete, and on failure.
Expected<CopyReport> CopyFile(Session& session, const std::string& source,
                              const std::string& destination,
                              const CopyOptions& options);

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_COPY_FILE_H_
