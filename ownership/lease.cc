#include "escrow/ownership/lease.h"

#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>
#include <utility>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/check.h"
#include "escrow/ownership/record.h"

namespace escrow::ownership {
namespace {

constexpr std::size_t kMostBuffers = std::size_t{1} << 15;
constexpr std::size_t kMostBytes = (std::size_t{1} << 31) - 1;

// Two buffers share no cache line.
constexpr std::size_t StrideOf(std::size_t size) {
  constexpr std::size_t kLine = 64;
  return (size + kLine - 1) / kLine * kLine;
}

}  // namespace

std::expected<BufferLedger::Memory, std::error_code> BufferLedger::Allocate(
    const Options& options) {
  if (options.count == 0 || options.count > kMostBuffers || options.size == 0 ||
      options.size > kMostBytes) {
    return std::unexpected(std::make_error_code(std::errc::invalid_argument));
  }
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  auto buffers = Buffer::Allocate(StrideOf(options.size) * options.count, page);
  if (!buffers) return std::unexpected(buffers.error());
  auto entries = Buffer::Allocate(
      std::bit_ceil(options.count) * sizeof(io_uring_buf), page);
  if (!entries) return std::unexpected(entries.error());
  std::fill_n(entries->data(), entries->size(), std::byte{0});
  return Memory{std::move(*buffers), std::move(*entries)};
}

BufferLedger::BufferLedger(Memory memory, const Options& options)
    : memory_(std::move(memory)),
      stride_(StrideOf(options.size)),
      size_(static_cast<std::uint32_t>(options.size)),
      incremental_(options.incremental),
      states_(options.count),
      order_(std::bit_ceil(options.count)) {}

void BufferLedger::Open(const RecordPool& pool) noexcept {
  pool_ = &pool;
  for (std::size_t id = 0; id < states_.size(); ++id) {
    GiveToKernel(static_cast<std::uint16_t>(id));
  }
}

void BufferLedger::GiveToKernel(std::uint16_t id) noexcept {
  if (pool_ == nullptr) return;
  State& state = states_[id];
  state.used = 0;
  state.position = tail_;
  state.kernels = true;
  order_[tail_ & (order_.size() - 1)] = id;
  ++tail_;
  ++available_;
  Publish(DataOf(id), size_, id);
  if (!waiters_.empty()) [[unlikely]] {
    TellWaiters();
  }
}

void BufferLedger::WhenAvailable(BufferWaiter& waiter) noexcept {
  ESCROW_CHECK(available_ == 0 && pool_ != nullptr,
               "a wait for a buffer of a group that has one");
  waiters_.push_back(waiter);
}

// All of them, for who is first may not take the buffer.
void BufferLedger::TellWaiters() noexcept {
  while (!waiters_.empty()) {
    const BufferWaiter& waiter = waiters_.front();
    waiters_.pop_front();
    waiter.callback(waiter.context);
  }
}

std::uint32_t BufferLedger::LengthOf(const State& state) const noexcept {
  // With incremental consumption the kernel writes down what is left. Else it
  // may have shortened the entry, for a bundle that came to nothing then.
  if (incremental_) return size_;
  const auto* const entries =
      reinterpret_cast<const io_uring_buf*>(memory_.entries.data());
  return std::min(size_, entries[state.position & (order_.size() - 1)].len);
}

Arrival BufferLedger::Arrive(const RawResult& result, bool bundle) noexcept {
  if ((result.flags & IORING_CQE_F_BUFFER) == 0) return {};
  const bool kernel_keeps = (result.flags & IORING_CQE_F_BUF_MORE) != 0;
  auto id = static_cast<std::uint16_t>(result.flags >> IORING_CQE_BUFFER_SHIFT);
  const auto check = [&] {
    ESCROW_CHECK(id < states_.size() && states_[id].kernels,
                 "a completion names a buffer that the kernel does not have");
  };
  check();
  if (result.value <= 0) {
    if (!kernel_keeps) {
      TakeFromKernel(states_[id]);
      if (states_[id].leases == 0) GiveToKernel(id);
    }
    return {};
  }
  auto left = static_cast<std::uint32_t>(result.value);
  Arrival arrival = {
      .offset = states_[id].used, .length = 0, .id = id, .any = true};
  for (;;) {
    State& state = states_[id];
    const std::uint32_t piece = std::min(left, LengthOf(state) - state.used);
    state.used += piece;
    ++state.leases;
    arrival.length += piece;
    left -= piece;
    // A result may say more than what there was room for, with MSG_TRUNC.
    const bool last = left == 0 || !bundle;
    if (!last || !kernel_keeps) TakeFromKernel(state);
    if (last) return arrival;
    state.next = order_[(state.position + 1u) & (order_.size() - 1)];
    id = state.next;
    check();
  }
}

Lease BufferLedger::MakeLease(const Arrival& arrival) noexcept {
  if (!arrival.any) return {};
  return {*this, arrival.id, DataOf(arrival.id) + arrival.offset,
          arrival.length};
}

LeaseBundle BufferLedger::MakeBundle(const Arrival& arrival) noexcept {
  if (!arrival.any) return {};
  return {*this, arrival};
}

Lease LeaseBundle::Next() noexcept {
  ESCROW_CHECK(!empty(), "Next() of an empty LeaseBundle");
  BufferLedger& ledger = *ledger_;
  const BufferLedger::State& state = ledger.states_[rest_.id];
  // All but the last piece reach to the end of what is used of their buffer;
  // behind the last one there may be other leases.
  const std::uint32_t piece = std::min(rest_.length, state.used - rest_.offset);
  Lease lease(ledger, rest_.id, ledger.DataOf(rest_.id) + rest_.offset, piece);
  rest_.length -= piece;
  rest_.offset = 0;
  rest_.id = state.next;
  if (rest_.length == 0) {
    ledger_ = nullptr;
    ledger.EndUse();
  }
  return lease;
}

}  // namespace escrow::ownership
