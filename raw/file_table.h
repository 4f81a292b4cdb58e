#ifndef ESCROW_RAW_FILE_TABLE_H_
#define ESCROW_RAW_FILE_TABLE_H_

#include <liburing.h>

#include <cstdint>
#include <expected>
#include <span>
#include <system_error>

#include "escrow/raw/ring.h"

// The ring's table of files: a request that names a file by its slot, with
// FixedFile, saves the look-up of a descriptor.
//
//   if (auto error = raw::RegisterFilesSparse(ring, 64)) return error;
//   if (auto done = raw::RegisterFilesUpdate(ring, 3, std::array{fd}); !done) {
//     return done.error();
//   }
//   close(fd);  // the table has its own reference
//   ring.Push(raw::Read{.fd = raw::FixedFile{3}, ...}, user_data);
//
// A file that leaves the table, by an update or with the table, stays open for
// the requests that have it already. A request looks its slot up when it is
// *issued*: a linked or drained one works on what is in the slot by then.
//
// Tags tell when a file is really let go of: once a slot that was given a tag
// is emptied, replaced or unregistered *and* no request uses its file any
// longer, a completion comes with the tag as user_data, and result and flags 0.
// 0 is no tag. The table's end without UnregisterFiles(), with the ring, posts
// nothing.
//
// What holds for all registrations: registration.h.

namespace escrow::raw {

// In place of a descriptor: the slot is empty, or becomes it.
inline constexpr int kNoFile = -1;
// In place of a descriptor in an update: the slot stays as it is. Linux 5.12.
inline constexpr int kSkipFile = IORING_REGISTER_FILES_SKIP;

// Makes a table of `files`. `tags` is empty or one for each, 0 for a kNoFile.
// EBUSY when there is a table, EBADF for a number that is not open or is a
// ring, EMFILE for more than the soft RLIMIT_NOFILE (which liburing tries to
// raise, once) and for more than 2^20.
// IORING_REGISTER_FILES, Linux 5.1; with tags IORING_REGISTER_FILES2,
// Linux 5.13.
[[nodiscard]] std::error_code RegisterFiles(
    Ring& ring, std::span<const int> files,
    std::span<const std::uint64_t> tags = {}) noexcept;

// Makes a table of `count` empty slots. IORING_REGISTER_FILES2, Linux 5.19.
[[nodiscard]] std::error_code RegisterFilesSparse(Ring& ring,
                                                  unsigned count) noexcept;

// Puts `files` into the slots from `first` on. Returns how many slots were
// done, which is fewer than asked for when one was refused: the error comes
// back when none was done before it. EBADF as above, EINVAL for slots that are
// not in the table and for a kNoFile or kSkipFile with a tag, ENXIO without a
// table. IORING_REGISTER_FILES_UPDATE, Linux 5.5; with tags
// IORING_REGISTER_FILES_UPDATE2, Linux 5.13.
[[nodiscard]] std::expected<unsigned, std::error_code> RegisterFilesUpdate(
    Ring& ring, unsigned first, std::span<const int> files,
    std::span<const std::uint64_t> tags = {}) noexcept;

// The slots among which the kernel chooses for requests that ask for any free
// one (IORING_FILE_INDEX_ALLOC): `count` from `first` on; at first, the whole
// table. Such a request ends with ENFILE when all are taken. EINVAL for slots
// that are not in the table. IORING_REGISTER_FILE_ALLOC_RANGE, Linux 6.0.
[[nodiscard]] std::error_code RegisterFileAllocRange(Ring& ring, unsigned first,
                                                     unsigned count) noexcept;

// Lets go of all files and of the table. Does not wait for the requests that
// use them (before Linux 5.13 it did). ENXIO without a table.
// IORING_UNREGISTER_FILES, Linux 5.1.
[[nodiscard]] std::error_code UnregisterFiles(Ring& ring) noexcept;

}  // namespace escrow::raw

#endif  // ESCROW_RAW_FILE_TABLE_H_
