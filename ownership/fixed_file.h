#ifndef ESCROW_OWNERSHIP_FIXED_FILE_H_
#define ESCROW_OWNERSHIP_FIXED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"

namespace escrow::ownership {

class RecordPool;

// A ring's table of registered files, as the owners of its slots see it. It
// lives as long as anybody uses it: whoever made it, operations that will fill
// a slot, and FixedFiles. Belongs to the thread of its ring.
class FileSlots {
 public:
  FileSlots(const FileSlots&) = delete;
  FileSlots& operator=(const FileSlots&) = delete;

  // The records of the operations that may name its slots. Null when the ring
  // is gone, and with it what was in the slots.
  const RecordPool* pool() const noexcept { return pool_; }

  void Use() noexcept { ++users_; }
  void EndUse() noexcept { EndUses(1); }
  // `count` of them at once, of at least one.
  void EndUses(std::size_t count) noexcept {
    users_ -= count;
    if (users_ == 0) Unused();
  }

  // Nobody uses `slot` any more. Empties it, unless `is_empty`.
  virtual void Leave(int slot, bool is_empty) noexcept = 0;

 protected:
  explicit FileSlots(const RecordPool* pool) noexcept : pool_(pool) {}
  ~FileSlots() = default;

  void RingGone() noexcept { pool_ = nullptr; }
  // The last user is gone: ends this.
  virtual void Unused() noexcept = 0;

 private:
  const RecordPool* pool_;
  std::size_t users_ = 0;
};

// One use of a FileSlots, or of none.
class FileSlotsShare {
 public:
  FileSlotsShare() noexcept = default;
  explicit FileSlotsShare(FileSlots& slots) noexcept : slots_(&slots) {
    slots_->Use();
  }
  FileSlotsShare(const FileSlotsShare& other) noexcept : slots_(other.slots_) {
    if (slots_ != nullptr) slots_->Use();
  }
  FileSlotsShare(FileSlotsShare&& other) noexcept
      : slots_(std::exchange(other.slots_, nullptr)) {}
  FileSlotsShare& operator=(FileSlotsShare other) noexcept {
    std::swap(slots_, other.slots_);
    return *this;
  }
  ~FileSlotsShare() {
    if (slots_ != nullptr) slots_->EndUse();
  }

  bool valid() const noexcept { return slots_ != nullptr; }
  // Requires valid().
  FileSlots& operator*() const noexcept { return *slots_; }
  FileSlots* operator->() const noexcept { return slots_; }

 private:
  FileSlots* slots_ = nullptr;
};

// Owns a file in a slot of a ring's table of registered files. Operations on
// that ring take it wherever they take a Descriptor, which saves them the
// look-up. The slot is emptied, and may be used again, when this and all
// operations on it are gone; the file is closed then, unless a Descriptor has
// it open, too. May outlive its table and its ring: the file ends with the ring
// at the latest.
//
// Movable. Belongs to the thread of its ring.
class FixedFile {
 public:
  // Owns nothing: valid() is false.
  FixedFile() noexcept = default;

  // Takes ownership of a slot that has a file.
  static FixedFile Adopt(FileSlots& slots, int slot);

  FixedFile(FixedFile&&) noexcept = default;
  FixedFile& operator=(FixedFile&&) noexcept = default;
  ~FixedFile() = default;

  bool valid() const noexcept { return share_.valid(); }
  explicit operator bool() const noexcept { return valid(); }

  // Which slot it is. Requires valid().
  int slot() const noexcept {
    ESCROW_CHECK(valid(), "an empty FixedFile has no slot");
    return share_.number();
  }
  // The table. Requires valid().
  const FileSlots& slots() const noexcept { return share_.slots(); }

  // For an operation to hold. Requires valid().
  DescriptorShare Share() const noexcept {
    ESCROW_CHECK(valid(), "an operation on an empty FixedFile");
    return share_;
  }

  // As those of Descriptor.
  std::uint32_t shares() const noexcept { return share_.others(); }
  bool alone() const noexcept { return share_.alone(); }
  void WhenAlone(void (*callback)(void* context), void* context) noexcept {
    share_.WhenAlone(callback, context);
  }

  // For whoever has emptied the slot, which is free when no share is left.
  // Requires valid().
  void Closed() && noexcept;

 private:
  explicit FixedFile(DescriptorShare::State* state) noexcept : share_(state) {}

  DescriptorShare share_;
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_FIXED_FILE_H_
