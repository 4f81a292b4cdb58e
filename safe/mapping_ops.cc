#include "escrow/safe/mapping_ops.h"

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/mapping.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

namespace escrow::safe {

using internal::Engine;
using ownership::Mapping;
using ownership::RawResult;
using ownership::Record;

void AdviseMapping::Start(Record& record) {
  ESCROW_CHECK(offset <= mapping.size() && length <= mapping.size() - offset,
               "AdviseMapping beyond the end of the mapping");
  const std::size_t advised = length != 0 ? length : mapping.size() - offset;
  Engine::Of(record).Start(
      record,
      raw::Madvise{.address = mapping.data() + offset,
                   .length = static_cast<std::int64_t>(advised),
                   .advice = advice},
      record.sqe_flags);
}

Transfer<Mapping, void> AdviseMapping::Take(const RawResult& result) && {
  return {internal::UsualOutcome<Result<void>>::Take(result),
          std::move(mapping)};
}

}  // namespace escrow::safe
