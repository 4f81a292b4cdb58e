#ifndef ESCROW_RAW_BUFFER_TABLE_H_
#define ESCROW_RAW_BUFFER_TABLE_H_

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <system_error>

#include "escrow/raw/contract.h"
#include "escrow/raw/ring.h"

// The ring's table of buffers: memory that the kernel pins once, for requests
// that name it by its slot and then an address inside it.
//
//   const raw::TableBuffer table[] = {{block, 4096}};
//   if (auto error = raw::RegisterBuffers(ring, table)) return error;
//   ring.Push(raw::ReadFixed{.buffer = block, .buffer_index = 0, ...}, 7);
//
// The kernel works on the pinned pages, not on the addresses. A request goes on
// writing into them after an update or UnregisterBuffers() has returned, which
// no fault and no EFAULT tells, even if the memory was unmapped in between: it
// may be reused when the buffer has left the table *and* every request that
// could have used it is terminal. A tag says when that is, if the buffer was
// not cloned: its completion comes with the tag as user_data and result and
// flags 0, once the slot has been emptied, replaced or unregistered and no
// request uses the buffer any longer. 0 is no tag. The table's end without
// UnregisterBuffers(), with the ring, posts nothing.
//
// A request looks its slot up when it is *issued* (before Linux 6.15, when it
// is submitted): a linked or drained one finds what is in the slot by then.
//
// What holds for all registrations: registration.h.

namespace escrow::raw {

// `size` bytes from `data` on: writable memory, at most 1 GiB, not from a file
// (but for tmpfs and huge pages). Null and 0 is an empty slot. As an iovec.
struct TableBuffer {
  KernelPtr<void, Until::kUnregistered, Access::kReadWrite> data = nullptr;
  std::size_t size = 0;
};

// Pins `buffers` and makes a table of them. `tags` is empty or one for each, 0
// for an empty slot. EBUSY when there is a table, EFAULT for memory that is not
// there or not writable, ENOMEM when the user's RLIMIT_MEMLOCK does not suffice
// (every page of it counts, and all of a huge page), EINVAL for more than 2^14.
// IORING_REGISTER_BUFFERS, Linux 5.1; with tags IORING_REGISTER_BUFFERS2,
// Linux 5.13.
[[nodiscard]] std::error_code RegisterBuffers(
    Ring& ring, std::span<const TableBuffer> buffers,
    std::span<const std::uint64_t> tags = {}) noexcept;

// Makes a table of `count` empty slots. IORING_REGISTER_BUFFERS2, Linux 5.19.
[[nodiscard]] std::error_code RegisterBuffersSparse(Ring& ring,
                                                    unsigned count) noexcept;

// Puts `buffers` into the slots from `first` on. Returns how many slots were
// done, which is fewer than asked for when one was refused: the error comes
// back when none was done before it. EFAULT and ENOMEM as above, EINVAL for
// slots that are not in the table and for an empty buffer with a tag, ENXIO
// without a table. IORING_REGISTER_BUFFERS_UPDATE, Linux 5.13.
[[nodiscard]] std::expected<unsigned, std::error_code> RegisterBuffersUpdate(
    Ring& ring, unsigned first, std::span<const TableBuffer> buffers,
    std::span<const std::uint64_t> tags = {}) noexcept;

// Lets go of all buffers and of the table, without waiting for the requests
// that use them (before Linux 5.13 it did). ENXIO without a table.
// IORING_UNREGISTER_BUFFERS, Linux 5.1.
[[nodiscard]] std::error_code UnregisterBuffers(Ring& ring) noexcept;

// What CloneBuffers() copies: `count` slots of the source, from `from` on, to
// the slots from `to` on. All zero is the whole table (and all that
// Linux 6.12 knows).
struct CloneOptions {
  unsigned to = 0;
  unsigned from = 0;
  unsigned count = 0;

  // IORING_REGISTER_DST_REPLACE: into the table that there is, which grows if
  // need be (Linux 6.13). IORING_REGISTER_SRC_REGISTERED: the source is found
  // by its registration with the calling thread, as it has to be after
  // CloseRingFd().
  unsigned flags = 0;
};

// Gives `ring` the buffers that `source` has, without pinning them again. Both
// tables hold them: memory may be reused only when it has left both and all
// requests of both rings that could have used it are terminal. Tags are not
// copied; a tag of the source comes when the source is done with the buffer,
// whatever its clones do. Needs both rings for the time of the call.
// EBUSY when `ring` has a table (without IORING_REGISTER_DST_REPLACE), ENXIO
// when `source` has none, EOVERFLOW or EINVAL for slots beyond the source's
// table, EINVAL for rings of different processes.
// IORING_REGISTER_CLONE_BUFFERS, Linux 6.12.
[[nodiscard]] std::error_code CloneBuffers(
    Ring& ring, Ring& source, const CloneOptions& options = {}) noexcept;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_BUFFER_TABLE_H_
