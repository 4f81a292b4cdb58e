#include "escrow/ownership/record_pool.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/record.h"

namespace escrow::ownership {

void RecordPool::Grow() noexcept {
  const std::size_t first = size();
  ESCROW_CHECK(first + kBlockRecords <= Record::kNoIndex,
               "four billion operations on one ring");
  // Not make_unique(): it would clear the inline bytes.
  std::unique_ptr<Record[]> block(new Record[kBlockRecords]);
  for (std::size_t i = 0; i < kBlockRecords; ++i) {
    block[i].pool = this;
    block[i].identity = Record::kUserDataBit | (first + i);
    block[i].next_free = i + 1 < kBlockRecords ? &block[i + 1] : free_;
  }
  Record* const records = block.get();
  blocks_.push_back(std::move(block));
  free_ = records;
  size_ += kBlockRecords;
}

}  // namespace escrow::ownership
