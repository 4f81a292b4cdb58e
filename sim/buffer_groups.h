#ifndef ESCROW_SIM_BUFFER_GROUPS_H_
#define ESCROW_SIM_BUFFER_GROUPS_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "escrow/sim/ledger.h"

namespace escrow::sim {

class Request;

// What a request has selected from a group, until it says what became of it.
struct Selection {
  unsigned group = 0;
  std::uint16_t id = 0;    // of the first buffer
  std::uint32_t size = 0;  // and all that it has
  // Of the others there are only as many bytes as were asked for.
  std::vector<iovec> vectors;
  bool from_ring = false;
  bool emptied = false;    // the group: there are no more
  bool committed = false;  // it is gone from the group already
  bool partly = false;     // and some of the last buffer is still there

  bool empty() const noexcept { return vectors.empty(); }
};

// The buffers that a ring's requests select from: rings of provided buffers
// (IORING_REGISTER_PBUF_RING, incremental or not) and the older groups of
// IORING_OP_PROVIDE_BUFFERS. What is provided is the kernel's, by the ledger,
// until a completion says that it has been used; a buffer that is provided
// twice is reported.
class BufferGroups {
 public:
  BufferGroups() noexcept;
  ~BufferGroups();

  // The register calls, IORING_REGISTER_PBUF_RING, _UNREGISTER_, _STATUS: their
  // result, or -errno; -ENOSYS for an opcode of another kind.
  int Register(unsigned opcode, void* argument, unsigned count);

  // The file to be mapped at `offset` of the ring's, from its beginning: a
  // descriptor of the simulator's, or -1 if that is no ring of buffers.
  int FileAt(::off_t offset) const noexcept;
  // That it has been, and that it is not any more.
  void Mapped(::off_t offset, void* address) noexcept;
  void Unmapped(const void* address) noexcept;

  // Takes in what the program has provided since the last time. At every enter,
  // and before a selection.
  void TakeIn();

  // Buffers for a transfer of at most `size` bytes (0: as large as they are),
  // of a bundle no more of them than have room for `enough`. 0, or -ENOBUFS if
  // there is none.
  int Select(unsigned group, std::size_t size, std::size_t enough,
             Selection* selection);
  // A selection that Try() returns with is gone from the group: the request's
  // own, to be loaded from or stored into, until it is used. `size` is as much
  // as the transfer may take of it.
  void Commit(Request& request, Use use, std::size_t size,
              Selection* selection);
  // What was selected was used for `result` bytes, or an error: the flags of
  // the completion (IORING_CQE_F_BUFFER, _BUF_MORE, the id).
  std::uint32_t Used(Request& request, std::int32_t result,
                     Selection* selection);
  // It was not used after all. Not of what was committed.
  void PutBack(Selection* selection);

  // IORING_OP_PROVIDE_BUFFERS and _REMOVE_BUFFERS: their results.
  int Provide(unsigned group, std::uint64_t address, std::uint32_t size,
              unsigned count, unsigned first);
  int Remove(unsigned group, unsigned count);

 private:
  struct Buffer;
  struct Group;

  int RegisterRing(const void* argument, unsigned count);
  int UnregisterRing(const void* argument, unsigned count);
  int Status(void* argument, unsigned count);
  Group* Find(unsigned group) noexcept;
  Group& Add(unsigned group);
  void TakeIn(Group& group);
  // Makes a buffer the kernel's.
  void Own(Group& group, const Buffer& buffer);
  // Takes `size` bytes off the front of a ring: whether none are left of the
  // last buffer that they reach into.
  bool Consume(Group& group, std::size_t count, std::size_t size);

  std::vector<std::unique_ptr<Group>> groups_;
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_BUFFER_GROUPS_H_
