#ifndef ESCROW_SAFE_FILE_TABLE_H_
#define ESCROW_SAFE_FILE_TABLE_H_

#include <concepts>
#include <cstdint>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream_ops.h"

// Files that are registered with a ring: an operation that names one saves the
// look-up of a descriptor, and what an operation makes need not have a
// descriptor at all.
//
//   auto table = safe::FileTable::Create(ring);
//   auto log = table->Put(descriptor);
//   ring.Write(*log, std::move(line));
//   auto opened = ring.Wait(ring.Start(
//       safe::Direct<safe::Open>{.table = *table, .op = {.path = "data"}}));
//   ring.Read(*opened, std::move(block), 0);

namespace escrow::safe {

struct FileTableOptions {
  // Slots for the files that operations make; the kernel chooses among them.
  std::uint32_t made = 64;

  // Slots for Put(). Needs Linux 6.0 if there are any.
  std::uint32_t put = 64;
};

// A ring's table of registered files, of which a ring has one at a time. Its
// slots belong to FixedFiles; the table goes when this and the last of them are
// gone, or with the ring. Belongs to the thread of its ring. Movable; a
// moved-from table may only be destroyed or assigned to.
class FileTable {
 public:
  // Both are one registration. Errors: device_or_resource_busy when the ring
  // has a table, too_many_files_open for more slots than RLIMIT_NOFILE lets the
  // process have descriptors.
  static Result<FileTable> Create(Ring& ring,
                                  const FileTableOptions& options = {});

  // Puts the file of `file` into a free slot, at once. Both stay open until
  // both are gone. Errors: too_many_files_open_in_system when no slot is free,
  // bad_file_descriptor for a ring's descriptor or when the ring is gone.
  Result<ownership::FixedFile> Put(const ownership::Descriptor& file);

  // For an operation to hold.
  ownership::FileSlotsShare Share() const noexcept { return share_; }

 private:
  explicit FileTable(ownership::FileSlots& slots) noexcept : share_(slots) {}

  ownership::FileSlotsShare share_;
};

namespace internal {

// The table that an op fills a slot of, which cannot be left out.
class TableOf {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): reads `.table = files`.
  TableOf(const FileTable& table) noexcept : share_(table.Share()) {}

  ownership::FileSlots& slots() const noexcept { return *share_; }

 private:
  ownership::FileSlotsShare share_;
};

// Checks that the table is the ring's, and has what `record` makes put there.
void MakeSlot(ownership::Record& record, const ownership::FileSlots& slots);

// What comes of an op whose files go into slots.
template <typename T>
struct DirectOutcome {
  static_assert(
      std::same_as<typename T::Outcome, Result<ownership::Descriptor>>,
      "Direct is for ops that make a file");

  using Outcome = Result<ownership::FixedFile>;
  static Outcome Take(T&, ownership::FileSlots& slots,
                      const ownership::RawResult& result) {
    if (!result.ok()) return Failure(result);
    return ownership::FixedFile::Adopt(slots, result.value);
  }
};

template <>
struct DirectOutcome<Accept> {
  struct Connection {
    ownership::FixedFile socket;
    ownership::SocketAddress peer;
  };
  using Outcome = Result<Connection>;
  static Outcome Take(Accept& op, ownership::FileSlots& slots,
                      const ownership::RawResult& result);
};

template <>
struct DirectOutcome<Pipe> {
  struct Ends {
    ownership::FixedFile read;
    ownership::FixedFile write;
  };
  using Outcome = Result<Ends>;
  static Outcome Take(Pipe& op, ownership::FileSlots& slots,
                      const ownership::RawResult& result);
};

}  // namespace internal

// Does what `op` does, and puts the file that it makes into a slot of `table`
// instead of giving it a descriptor: Open, Socket, Accept, Pipe. A slot has no
// close-on-exec flag, and no other process ever gets it. If nobody takes the
// outcome, the slot is emptied. too_many_files_open_in_system (ENFILE) when
// none is free. Of AcceptMany, a stream of FixedFiles.
template <typename T>
struct Direct;

template <Op T>
struct Direct<T> {
  internal::TableOf table;
  T op;

  using Outcome = typename internal::DirectOutcome<T>::Outcome;
  void Start(ownership::Record& record) {
    internal::MakeSlot(record, table.slots());
    op.Start(record);
    record.makes_slot = false;
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::DirectOutcome<T>::Take(op, table.slots(), result);
  }
  void Discard(const ownership::RawResult& result) noexcept {
    (void)internal::DirectOutcome<T>::Take(op, table.slots(), result);
  }
};

template <>
struct Direct<AcceptMany> {
  internal::TableOf table;
  AcceptMany op;

  using Item = ownership::FixedFile;
  void Start(ownership::Record& record) {
    internal::MakeSlot(record, table.slots());
    op.Start(record);
    record.makes_slot = false;
  }
  Result<Item> Take(const ownership::RawResult& result);
  void Discard(const ownership::RawResult& result) noexcept {
    (void)Take(result);
  }
};

// Makes a Descriptor for the file in a slot, with close-on-exec. Linux 6.8.
struct InstallDescriptor {
  class Slot {
   public:
    // NOLINTNEXTLINE(google-explicit-constructor): reads `.file = log`.
    Slot(const ownership::FixedFile& file) noexcept : share_(file.Share()) {}

    ownership::DescriptorShare Take() && noexcept { return std::move(share_); }

   private:
    ownership::DescriptorShare share_;
  };

  Slot file;

  using Outcome = Result<ownership::Descriptor>;
  void Start(ownership::Record& record);
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_FILE_TABLE_H_
