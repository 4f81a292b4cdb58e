#include "escrow/safe/queue.h"

#include <sys/uio.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <limits>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/vector_ops.h"

namespace escrow::safe {

Queue::Queue(std::size_t cap) : cap_(cap) {
  ESCROW_CHECK(cap > 0, "a Queue that can have nothing in flight");
}

void Queue::Add(const Request& request) {
  ESCROW_CHECK(!failed_, "a Queue used after an error of Wait()");
  ESCROW_CHECK(in_flight_ < cap_, "a request to a Queue that is full");
  ESCROW_CHECK(request.kind <= Kind::kWriteVector,
               "a request of an unknown kind");
  ++in_flight_;
  Start(request);
}

Result<void> Queue::Wait(std::size_t min,
                         std::vector<Completion>& completions) {
  ESCROW_CHECK(!failed_, "a Queue used after an error of Wait()");
  ESCROW_CHECK(min <= in_flight_, "Wait() for more than a Queue has in flight");
  const std::size_t before = completions.size();
  Result<void> collected = Collect(min, completions);
  in_flight_ -= completions.size() - before;
  failed_ = !collected;
  return collected;
}

namespace {

// A transfer of memory that outlives the ring.
struct BorrowingTransfer {
  File file;
  Queue::Request request;
  iovec bytes = {};  // of a request that has no vectors

  using Outcome = Result<std::size_t>;
  void Start(ownership::Record& record) {
    const iovec* vectors = static_cast<const iovec*>(request.memory);
    std::size_t count = request.length;
    if (request.kind == Queue::Kind::kRead ||
        request.kind == Queue::Kind::kWrite) {
      bytes = {.iov_base = request.memory, .iov_len = request.length};
      vectors = &bytes;
      count = 1;
    }
    const bool reads = request.kind == Queue::Kind::kRead ||
                       request.kind == Queue::Kind::kReadVector;
    const auto start =
        reads ? &internal::StartReadVector : &internal::StartWriteVector;
    start(record, std::move(file), {}, vectors, count,
          static_cast<std::uint64_t>(request.offset), /*flags=*/0);
  }
};

class RingQueue final : public Queue {
 public:
  RingQueue(Ring ring, std::size_t cap) : Queue(cap), ring_(std::move(ring)) {
    done_.reserve(cap);
  }

 private:
  void Start(const Request& request) override {
    // Also where a number below zero is no file.
    constexpr int kNoFile = std::numeric_limits<int>::max();
    const int file = request.file < 0 ? kNoFile : request.file;
    ring_
        .Start(BorrowingTransfer{.file = ownership::Descriptor::Permanent(file),
                                 .request = request})
        .Then([this, id = request.id](Result<std::size_t> size) {
          done_.push_back({id, size});
        });
  }

  Result<void> Collect(std::size_t min,
                       std::vector<Completion>& completions) override {
    Result<void> result;
    do {
      std::optional<std::chrono::nanoseconds> limit;
      if (done_.size() >= min) limit = std::chrono::nanoseconds(0);
      const auto dispatched = ring_.Dispatch(limit);
      if (!dispatched) result = std::unexpected(dispatched.error());
    } while (result && done_.size() < min);
    completions.insert(completions.end(), done_.begin(), done_.end());
    done_.clear();
    return result;
  }

  std::vector<Completion> done_;
  // Ends first, and with it what is in flight.
  Ring ring_;
};

}  // namespace

Result<std::unique_ptr<Queue>> MakeRingQueue(std::size_t cap) {
  ESCROW_CHECK(cap > 0, "a Queue that can have nothing in flight");
  constexpr std::size_t kTooMany = 1 << 16;  // for the kernel, which says so
  auto ring = Ring::Create(
      {.entries = static_cast<std::uint32_t>(std::min(cap, kTooMany))});
  if (!ring) return std::unexpected(ring.error());
  return std::make_unique<RingQueue>(std::move(*ring), cap);
}

}  // namespace escrow::safe
