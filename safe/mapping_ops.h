#ifndef ESCROW_SAFE_MAPPING_OPS_H_
#define ESCROW_SAFE_MAPPING_OPS_H_

#include <cstddef>

#include "escrow/ownership/mapping.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

// Operations on mapped memory, for Ring::Start().

namespace escrow::safe {

// madvise(2). The kernel acts on what is mapped there when it gets to it, which
// is why the mapping is out of reach meanwhile. A part of one may be advised:
// from whole pages on, and up to whole pages, to which the kernel rounds.
struct AdviseMapping {
  ownership::Mapping mapping;
  std::size_t offset = 0;  // bytes, whole pages; inside of the mapping
  std::size_t length = 0;  // bytes; 0: to the end of the mapping
  int advice = 0;          // MADV_*

  static constexpr bool kStopsChain = false;
  using Outcome = Transfer<ownership::Mapping, void>;
  void Start(ownership::Record& record);
  Outcome Take(const ownership::RawResult& result) &&;
  void Discard(const ownership::RawResult&) noexcept {}
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_MAPPING_OPS_H_
