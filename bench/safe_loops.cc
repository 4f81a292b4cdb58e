#include "bench/safe_loops.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "bench/liburing_loops.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"

namespace escrow::bench {

int SafeNop(safe::Ring& ring, std::span<SafeNopOperation> operations,
            std::uint64_t rounds) {
  for (; rounds > 0; --rounds) {
    for (SafeNopOperation& operation : operations) operation = ring.Nop();
    for (SafeNopOperation& operation : operations) {
      const auto result = ring.Wait(std::move(operation));
      if (!result) return -result.error().value();
    }
  }
  return 0;
}

int SafeRead(safe::Ring& ring, const ownership::Descriptor& file,
             ownership::Buffer* buffers,
             std::span<SafeReadOperation> operations, std::uint64_t rounds) {
  for (; rounds > 0; --rounds) {
    for (std::size_t i = 0; i < operations.size(); ++i) {
      operations[i] = ring.Read(file, std::move(buffers[i]), i * kBlockSize);
    }
    for (std::size_t i = 0; i < operations.size(); ++i) {
      auto [size, buffer] = ring.Wait(std::move(operations[i]));
      buffers[i] = std::move(buffer);
      if (!size) return -size.error().value();
      if (*size != kBlockSize) return -EIO;
    }
  }
  return 0;
}

}  // namespace escrow::bench
