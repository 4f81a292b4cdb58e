#ifndef ESCROW_OWNERSHIP_RECORD_POOL_H_
#define ESCROW_OWNERSHIP_RECORD_POOL_H_

#include <algorithm>
#include <bit>
#include <boost/intrusive/list.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "escrow/ownership/record.h"

namespace escrow::ownership {

using RecordList =
    boost::intrusive::list<Record,
                           boost::intrusive::member_hook<
                               Record, decltype(Record::hook), &Record::hook>,
                           boost::intrusive::constant_time_size<false>>;

// The records of one ring: a slab that grows by blocks, never shrinks or moves,
// and so allocates only when more operations are in flight than ever before.
// Not thread-safe.
class RecordPool {
 public:
  // Makes `first_size` records, 64 or more and rounded up to a power of two,
  // when the first one is needed: as many as are usually in flight, which are
  // found a little faster.
  explicit RecordPool(std::size_t first_size = kBlockRecords) noexcept
      : next_size_(std::bit_ceil(std::max(first_size, kBlockRecords))) {}
  RecordPool(const RecordPool&) = delete;
  RecordPool& operator=(const RecordPool&) = delete;

  // A free record, of which the caller has to fill content and stage. Ends the
  // program when there is no memory for more.
  Record& Acquire() noexcept {
    Record* const record = free_;
    if (record == nullptr) [[unlikely]] {
      return AcquireNew();
    }
    return Acquire(*record);
  }

  // What Acquire() has without making more records, or null. To be acquired.
  Record* free() const noexcept { return free_; }
  Record& Acquire(Record& free) noexcept {
    free_ = free.next_free;
    return free;
  }

  // Takes a record back, whose content is ended and which is in no list. Its
  // user_data() is not valid any more.
  void Release(Record& record) noexcept {
    Renew(record);
    record.SetState({});
    record.sqe_flags = 0;
    record.stays_on_drop = false;
    record.makes_slot = false;
    record.own_came = false;
    record.next_free = free_;
    free_ = &record;
  }

  // Gives a record that is used again, without having been taken back, another
  // user_data(): what the kernel still hears of the last use does not concern
  // this one.
  void Renew(Record& record) noexcept {
    if (++record.use == 0) [[unlikely]] {
      WrapUse(record);
    }
  }

  // The record that is now used under `user_data`, or null if there is none:
  // what a completion with that user_data belongs to.
  Record* Find(std::uint64_t user_data) noexcept {
    if (static_cast<std::uint32_t>(user_data) < first_size_) [[likely]] {
      return FindFirst(user_data);
    }
    return FindBeyond(user_data);
  }

  // The same, or null for any record that is not one of the first. Requires
  // that there are records.
  Record* FindFirst(std::uint64_t user_data) noexcept {
    // Any index leads to one of them, of which the user_data tells whether it
    // is meant.
    Record& record = first_[user_data & first_mask_];
    return record.user_data() == user_data ? &record : nullptr;
  }

  // Calls `function` with every record, used or free. Records may change and
  // be taken back meanwhile; Acquire() is not allowed.
  template <typename Function>
  void ForEach(Function function) {
    for (std::size_t i = 0; i < first_size_; ++i) function(first_[i]);
    for (const auto& block : more_) {
      for (std::size_t i = 0; i < kBlockRecords; ++i) function(block[i]);
    }
  }

  // Records that exist, used or free.
  std::size_t size() const noexcept { return size_; }

 private:
  static constexpr std::size_t kBlockRecords = 64;

  void Grow() noexcept;
  Record& AcquireNew() noexcept;
  static void WrapUse(Record& record) noexcept;
  Record* FindBeyond(std::uint64_t user_data) noexcept;

  Record* free_ = nullptr;
  std::unique_ptr<Record[]> first_;
  std::size_t first_size_ = 0;
  std::size_t first_mask_ = 0;
  std::vector<std::unique_ptr<Record[]>> more_;
  std::size_t size_ = 0;
  std::size_t next_size_;  // of the block that Grow() adds
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_RECORD_POOL_H_
