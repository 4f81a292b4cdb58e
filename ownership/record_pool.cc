#include "escrow/ownership/record_pool.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/record.h"

namespace escrow::ownership {

void RecordPool::Grow() noexcept {
  const std::size_t begin = size_;
  const std::size_t count = std::exchange(next_size_, kBlockRecords);
  ESCROW_CHECK(begin + count <= Record::kCancelBit,
               "a billion operations on one ring");
  // Not make_unique(): it would clear the inline bytes.
  std::unique_ptr<Record[]> block(new Record[count]);
  for (std::size_t i = 0; i < count; ++i) {
    block[i].pool = this;
    block[i].index = static_cast<std::uint32_t>(begin + i);
    block[i].next_free = i + 1 < count ? &block[i + 1] : free_;
  }
  free_ = block.get();
  size_ += count;
  if (begin == 0) {
    first_ = std::move(block);
    first_size_ = count;
    first_mask_ = count - 1;
  } else {
    more_.push_back(std::move(block));
  }
}

Record& RecordPool::AcquireNew() noexcept {
  Grow();
  return Acquire();
}

// Apart, so that compilers do not compute it every time.
void RecordPool::WrapUse(Record& record) noexcept {
  record.use = Record::kUseBit;
}

Record* RecordPool::FindBeyond(std::uint64_t user_data) noexcept {
  const auto index = static_cast<std::uint32_t>(user_data);
  if (index >= size_) return nullptr;
  const std::size_t beyond = index - first_size_;
  Record& record = more_[beyond / kBlockRecords][beyond % kBlockRecords];
  return record.user_data() == user_data ? &record : nullptr;
}

}  // namespace escrow::ownership
