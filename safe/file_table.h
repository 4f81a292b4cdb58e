#ifndef ESCROW_SAFE_FILE_TABLE_H_
#define ESCROW_SAFE_FILE_TABLE_H_

#include <concepts>
#include <cstdint>
#include <memory>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/mailbox.h"
#include "escrow/safe/op.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/remote.h"
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

  // Slots for Put() and Reserve(). Needs Linux 6.0 if there are any.
  std::uint32_t put = 64;
};

namespace internal {
class SlotReturns;
}  // namespace internal

// A slot that is kept free, in a ring's table, for a file of another ring's:
// see SendFileToRing in ring_ops.h. Made by FileTable::Reserve(), handed to the
// other ring's thread, filled there, and handed back, for FileTable::Take().
//
// Whoever has this owns the slot, and the file when it is in it; there is no
// other trace of it. If it is dropped, in whatever thread and at whatever
// point, the slot is emptied by its ring's next Dispatch(), or the table's next
// Reserve() or Take(). May outlive the table and the ring, whose end empties
// the slot, too; an operation that fills it by then puts the file where it is
// closed with this.
//
// Movable, not copyable; for one thread at a time, whichever. While there is
// one, the ring's Dispatch() waits, as it does while there is a Remote.
class ReservedSlot {
 public:
  ReservedSlot(ReservedSlot&& other) noexcept = default;
  ReservedSlot& operator=(ReservedSlot&& other) noexcept {
    ReservedSlot taken(std::move(other));
    std::swap(returns_, taken.returns_);
    std::swap(return_work_, taken.return_work_);
    std::swap(remote_, taken.remote_);
    std::swap(ring_, taken.ring_);
    std::swap(slot_, taken.slot_);
    std::swap(filled_, taken.filled_);
    return *this;
  }
  ~ReservedSlot() {
    if (returns_ != nullptr) Return();
  }

  // Whether a file was sent to it.
  bool filled() const noexcept { return filled_; }

  // For the table, and for what fills it.
  // `return_work` is done in the ring's thread when this is dropped.
  ReservedSlot(std::shared_ptr<internal::SlotReturns> returns,
               std::unique_ptr<internal::Posted> return_work, Remote remote,
               ownership::Descriptor ring, int slot) noexcept
      : returns_(std::move(returns)),
        return_work_(std::move(return_work)),
        remote_(std::move(remote)),
        ring_(std::move(ring)),
        slot_(slot) {}
  bool valid() const noexcept { return returns_ != nullptr; }
  int slot() const noexcept { return slot_; }
  int ring() const noexcept { return ring_.number(); }
  void SetFilled() noexcept { filled_ = true; }
  // Which table it is of; gives the slot up to that.
  const internal::SlotReturns* returns() const noexcept {
    return returns_.get();
  }
  void Forget() && noexcept { returns_.reset(); }

 private:
  void Return() noexcept;

  std::shared_ptr<internal::SlotReturns> returns_;  // null when moved from
  std::unique_ptr<internal::Posted> return_work_;
  Remote remote_;
  // Keeps the kernel's side of the ring, and its number from being another's.
  ownership::Descriptor ring_;
  int slot_;
  bool filled_ = false;
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

  // Keeps a free slot of those for Put() for a file that another ring will
  // send. Errors: too_many_files_open_in_system when no slot is free,
  // bad_file_descriptor when the ring is gone, those of fcntl(2) for another
  // descriptor of the ring, and those of Ring::CreateRemote().
  Result<ReservedSlot> Reserve();

  // What was sent to `slot`, which must be of this table. bad_file_descriptor
  // when nothing was, or the ring is gone.
  Result<ownership::FixedFile> Take(ReservedSlot slot);

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

// The file that an operation is on, where it has to be in a slot of the ring's.
class SlotOf {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): reads `.file = log`.
  SlotOf(const ownership::FixedFile& file) noexcept : share_(file.Share()) {}

  ownership::DescriptorShare Take() && noexcept { return std::move(share_); }

 private:
  ownership::DescriptorShare share_;
};

// Makes a Descriptor for the file in a slot, with close-on-exec. Linux 6.8.
struct InstallDescriptor {
  SlotOf file;

  using Outcome = Result<ownership::Descriptor>;
  void Start(ownership::Record& record);
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_FILE_TABLE_H_
