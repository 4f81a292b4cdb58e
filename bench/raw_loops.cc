#include "bench/raw_loops.h"

#include <liburing.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "bench/liburing_loops.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"

namespace escrow::bench {
namespace {

[[gnu::always_inline]] inline int SubmitAndReap(raw::Ring& ring,
                                                unsigned entries,
                                                int expected) {
  const raw::EnterResult submitted = ring.SubmitAndWait(entries);
  if (!submitted) return -submitted.error_number();

  const auto completions = ring.completions();
  for (const io_uring_cqe& cqe : completions) {
    if (cqe.res != expected) return cqe.res < 0 ? cqe.res : -EIO;
  }
  ring.Advance(completions.entries());
  return completions.entries() == entries ? 0 : -EIO;
}

}  // namespace

int RawNop(raw::Ring& ring, unsigned batch, std::uint64_t rounds) {
  for (; rounds > 0; --rounds) {
    for (unsigned i = 0; i < batch; ++i) {
      if (!ring.TryPush(raw::Nop{}, i)) return -EBUSY;
    }
    const int result = SubmitAndReap(ring, batch, 0);
    if (result < 0) return result;
  }
  return 0;
}

int RawRead(raw::Ring& ring, int file, char* blocks, unsigned batch,
            std::uint64_t rounds) {
  for (; rounds > 0; --rounds) {
    for (unsigned i = 0; i < batch; ++i) {
      const std::uint64_t offset = std::uint64_t{i} * kBlockSize;
      if (!ring.TryPush(raw::Read{.fd = file,
                                  .buffer = blocks + offset,
                                  .length = kBlockSize,
                                  .offset = offset},
                        i)) {
        return -EBUSY;
      }
    }
    const int result = SubmitAndReap(ring, batch, kBlockSize);
    if (result < 0) return result;
  }
  return 0;
}

int RawReadFixed(raw::Ring& ring, int file, char* blocks, unsigned batch,
                 std::uint64_t rounds) {
  for (; rounds > 0; --rounds) {
    for (unsigned i = 0; i < batch; ++i) {
      const std::uint64_t offset = std::uint64_t{i} * kBlockSize;
      if (!ring.TryPush(
              raw::ReadFixed{.fd = file,
                             .buffer = blocks + offset,
                             .length = kBlockSize,
                             .offset = offset,
                             .buffer_index = static_cast<std::uint16_t>(i)},
              i)) {
        return -EBUSY;
      }
    }
    const int result = SubmitAndReap(ring, batch, kBlockSize);
    if (result < 0) return result;
  }
  return 0;
}

int RawSend(raw::Ring& ring, int socket, const char* messages, unsigned batch,
            std::uint64_t rounds) {
  for (; rounds > 0; --rounds) {
    for (unsigned i = 0; i < batch; ++i) {
      if (!ring.TryPush(
              raw::Send{.fd = socket,
                        .buffer = messages + std::size_t{i} * kMessageSize,
                        .length = kMessageSize},
              i)) {
        return -EBUSY;
      }
    }
    const int result = SubmitAndReap(ring, batch, kMessageSize);
    if (result < 0) return result;
  }
  return 0;
}

int RawRecv(raw::Ring& ring, int socket, char* messages, int flags,
            unsigned batch, std::uint64_t rounds) {
  for (; rounds > 0; --rounds) {
    for (unsigned i = 0; i < batch; ++i) {
      if (!ring.TryPush(
              raw::Recv{.fd = socket,
                        .buffer = messages + std::size_t{i} * kMessageSize,
                        .length = kMessageSize,
                        .flags = flags},
              i)) {
        return -EBUSY;
      }
    }
    const int result = SubmitAndReap(ring, batch, kMessageSize);
    if (result < 0) return result;
  }
  return 0;
}

int RawLinked(raw::Ring& ring, unsigned batch, std::uint64_t rounds) {
  for (; rounds > 0; --rounds) {
    for (unsigned i = 0; i < batch; ++i) {
      auto pair = ring.Reserve(2);
      if (!pair) return -EBUSY;
      pair.Push(raw::Nop{}, i, IOSQE_IO_LINK);
      pair.Push(raw::Nop{}, i);
      pair.Commit();
    }
    const int result = SubmitAndReap(ring, 2 * batch, 0);
    if (result < 0) return result;
  }
  return 0;
}

}  // namespace escrow::bench
