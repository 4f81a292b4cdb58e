#ifndef ESCROW_SIM_BUFFER_GROUPS_H_
#define ESCROW_SIM_BUFFER_GROUPS_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "escrow/sim/report.h"

namespace escrow::sim {

class Request;
class Ring;

// The buffers that a ring's requests select from: rings of provided buffers
// (IORING_REGISTER_PBUF_RING, incremental or not) and the older groups of
// IORING_OP_PROVIDE_BUFFERS. What is provided is the kernel's, by the ledger,
// until a completion says that it has been used; a buffer that is provided
// twice is reported.
class BufferGroups {
 public:
  explicit BufferGroups(Ring& ring) noexcept;
  ~BufferGroups();

  // The register calls, IORING_REGISTER_PBUF_RING, _UNREGISTER_, _STATUS: their
  // result, or -errno; -ENOSYS for an opcode of another kind.
  int Register(unsigned opcode, void* argument, unsigned count);

  // Takes in what the program has provided since the last time. At every enter,
  // and before a selection.
  void TakeIn();

  // Buffers for a transfer of at most `size` bytes (0: as large as they are),
  // more than one only for a bundle. None: -ENOBUFS. They are the request's
  // until one of the next two is called, which has to be before Try() returns.
  int Select(Request& request, unsigned group, std::size_t size, bool bundle,
             std::vector<iovec>* vectors);
  // What was selected was used for `result` bytes, or an error: the flags of
  // the completion (IORING_CQE_F_BUFFER, _BUF_MORE, the id).
  std::uint32_t Used(Request& request, std::int32_t result);
  // It was not used after all.
  void PutBack(Request& request) noexcept;

  // IORING_OP_PROVIDE_BUFFERS and _REMOVE_BUFFERS: their results.
  int Provide(unsigned group, void* data, std::uint32_t size, unsigned count,
              unsigned first);
  int Remove(unsigned group, unsigned count);

 private:
  struct Group;

  Group* Find(unsigned group) noexcept;

  Ring& ring_;
  std::vector<std::unique_ptr<Group>> groups_;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_BUFFER_GROUPS_H_
