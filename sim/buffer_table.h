#ifndef ESCROW_SIM_BUFFER_TABLE_H_
#define ESCROW_SIM_BUFFER_TABLE_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace escrow::sim {

class Ring;

// The registered buffers of a ring: IORING_REGISTER_BUFFERS and what belongs to
// it. In the ledger for as long as they are registered, or a request is on
// them.
class BufferTable {
 public:
  // Shared with the requests that are on it.
  struct Buffer;

  explicit BufferTable(Ring& ring) noexcept;
  ~BufferTable();

  // The register calls, IORING_REGISTER_BUFFERS to _CLONE_BUFFERS: their
  // result, or -errno; -ENOSYS for an opcode of another kind.
  int Register(unsigned opcode, void* argument, unsigned count);

  // For a request on all of `vectors`: what it has to keep; null if there is no
  // such buffer, or if not all of them are inside it (EFAULT).
  std::shared_ptr<Buffer> Find(unsigned index,
                               const std::vector<iovec>& vectors) const;

  // The ring is closed: no request comes any more, and what still goes on keeps
  // its own.
  void Close() noexcept { buffers_.clear(); }

 private:
  using Slot = std::shared_ptr<Buffer>;

  int Open(const iovec& memory, std::uint64_t tag, Slot* slot) const;
  int RegisterAll(std::uint64_t vectors, std::uint64_t tags,
                  std::uint32_t count);
  int Update(std::uint32_t offset, std::uint64_t vectors, std::uint64_t tags,
             std::uint32_t count);
  int Clone(const void* argument, unsigned count);

  Ring& ring_;
  std::vector<Slot> buffers_;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_BUFFER_TABLE_H_
