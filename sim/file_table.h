#ifndef ESCROW_SIM_FILE_TABLE_H_
#define ESCROW_SIM_FILE_TABLE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "escrow/sim/file.h"

namespace escrow::sim {

class Ring;

// The registered files of a ring: IORING_REGISTER_FILES and what belongs to it.
class FileTable {
 public:
  explicit FileTable(Ring& ring) noexcept;
  ~FileTable();

  // The register calls, IORING_REGISTER_FILES to _FILE_ALLOC_RANGE: their
  // result, or -errno; -ENOSYS for an opcode of another kind.
  int Register(unsigned opcode, void* argument, unsigned count);

  bool registered() const noexcept { return registered_; }

  // The file in a slot, or null.
  const File* Find(std::uint32_t slot) const noexcept;
  // For a request on it: what it keeps. The tag is posted when nobody does.
  std::shared_ptr<const void> Share(std::uint32_t slot) const noexcept;

  // What IORING_REGISTER_FILES_UPDATE does, with arrays of the program's; tags
  // may be null: how many, or -errno.
  int Update(std::uint32_t offset, std::uint64_t fds, std::uint64_t tags,
             std::uint32_t count);

  // Puts `file` where an entry's file_index says: slot + 1, or
  // IORING_FILE_INDEX_ALLOC. The result of the completion: 0, or the slot when
  // it was allocated, or -errno, in which case `file` is closed.
  int Install(File file, std::uint32_t file_index);

  // Empties a slot: 0, or -errno.
  int Remove(std::uint32_t slot);

 private:
  struct Registered;
  using Slot = std::shared_ptr<Registered>;

  int Open(std::int32_t fd, std::uint64_t tag, Slot* slot) const;
  int RegisterAll(std::uint64_t fds, std::uint64_t tags, std::uint32_t count);
  int SetRange(const void* argument, unsigned count);
  int FindFree() const noexcept;

  Ring& ring_;
  std::vector<Slot> slots_;
  bool registered_ = false;
  // Where slots are allocated, and where the next one is looked for first.
  std::uint32_t allocate_from_ = 0;
  std::uint32_t allocate_to_ = 0;
  std::uint32_t allocate_next_ = 0;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_FILE_TABLE_H_
