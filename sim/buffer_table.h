#ifndef ESCROW_SIM_BUFFER_TABLE_H_
#define ESCROW_SIM_BUFFER_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "escrow/sim/report.h"

namespace escrow::sim {

class Ring;

// The registered buffers of a ring: IORING_REGISTER_BUFFERS and what belongs to
// it. In the ledger for as long as they are registered, or a request is on
// them.
class BufferTable {
 public:
  // Shared with the requests that are on it.
  struct Buffer;

  explicit BufferTable(Ring& ring) noexcept : ring_(ring) {}
  ~BufferTable();

  // The register calls, IORING_REGISTER_BUFFERS to _CLONE_BUFFERS: their
  // result, or -errno; -ENOSYS for an opcode of another kind.
  int Register(unsigned opcode, void* argument, unsigned count);

  // For a request on [data, data + size): what it has to keep; null if there is
  // no such buffer, or that is not inside it (EFAULT).
  std::shared_ptr<Buffer> Find(unsigned index, const void* data,
                               std::size_t size) const;

 private:
  Ring& ring_;
  std::vector<std::shared_ptr<Buffer>> buffers_;
  bool registered_ = false;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_BUFFER_TABLE_H_
