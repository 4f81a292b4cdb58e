#ifndef ESCROW_SIM_FILE_TABLE_H_
#define ESCROW_SIM_FILE_TABLE_H_

#include <cstdint>
#include <vector>

#include "escrow/sim/file.h"

namespace escrow::sim {

class Ring;

// The registered files of a ring: IORING_REGISTER_FILES and what belongs to it.
class FileTable {
 public:
  explicit FileTable(Ring& ring) noexcept : ring_(ring) {}

  // The register calls, IORING_REGISTER_FILES to _FILE_ALLOC_RANGE: their
  // result, or -errno; -ENOSYS for an opcode of another kind.
  int Register(unsigned opcode, void* argument, unsigned count);

  // The file in a slot, or null.
  const File* Find(std::uint32_t slot) const noexcept;

  // Puts `file` where an entry's file_index says: slot + 1, or
  // IORING_FILE_INDEX_ALLOC. The result of the completion: 0, or the slot when
  // it was allocated, or -errno, in which case `file` is closed.
  int Install(File file, std::uint32_t file_index);

  // Empties a slot: 0, or -errno.
  int Remove(std::uint32_t slot);

 private:
  struct Slot {
    File file;
    std::uint64_t tag = 0;
  };

  Ring& ring_;
  std::vector<Slot> slots_;
  bool registered_ = false;
  std::uint32_t allocate_from_ = 0;
  std::uint32_t allocate_to_ = 0;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_FILE_TABLE_H_
