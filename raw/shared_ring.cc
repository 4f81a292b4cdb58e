#include "escrow/raw/shared_ring.h"

#include <liburing.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <memory>
#include <new>
#include <span>
#include <system_error>
#include <utility>

#include "escrow/raw/error.h"
#include "escrow/raw/ring.h"
#include "escrow/raw/sanitizer.h"
#include "escrow/raw/shared_queues.h"

namespace escrow::raw {
namespace {

constexpr std::uint32_t kFlags =
    IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF | IORING_SETUP_CQSIZE |
    IORING_SETUP_CLAMP | IORING_SETUP_ATTACH_WQ | IORING_SETUP_SUBMIT_ALL;

// Indices are taken and published in portions of as many, without allocating.
constexpr std::size_t kPortion = 64;

}  // namespace

std::expected<std::unique_ptr<SharedRing>, std::error_code> SharedRing::Create(
    const SharedRingOptions& options) {
  const auto failed = [](int error) {
    return std::unexpected(std::error_code(error, SetupCategory()));
  };
  if ((options.setup_flags & ~kFlags) != 0) return failed(EINVAL);
  auto ring = Ring::CreateIndexed({
      .entries = options.entries,
      .setup_flags = options.setup_flags | IORING_SETUP_SUBMIT_ALL,
      .completion_entries = options.completion_entries,
      .sq_thread_cpu = options.sq_thread_cpu,
      .sq_thread_idle_ms = options.sq_thread_idle_ms,
      .workqueue_ring_fd = options.workqueue_ring_fd,
  });
  if (!ring) return std::unexpected(ring.error());

  const unsigned entries = ring->get()->sq.ring_entries;
  std::unique_ptr<std::atomic<std::uint64_t>[]> published(
      new (std::nothrow) std::atomic<std::uint64_t>[entries]);
  if (published == nullptr) return failed(ENOMEM);
  const unsigned room = ring->get()->cq.ring_entries;
  std::unique_ptr<SharedRing> shared(new (std::nothrow) SharedRing(
      std::move(*ring), std::move(published),
      options.most_in_flight == 0 ? room
                                  : std::min(options.most_in_flight, room)));
  if (shared == nullptr) return failed(ENOMEM);
  return shared;
}

SharedRing::SharedRing(Ring ring,
                       std::unique_ptr<std::atomic<std::uint64_t>[]> published,
                       std::uint64_t most_in_flight) noexcept
    : ring_(std::move(ring)), published_(std::move(published)) {
  const io_uring_sq& sq = ring_.get()->sq;
  const io_uring_cq& cq = ring_.get()->cq;
  submission_.Init({.head = sq.khead,
                    .tail = sq.ktail,
                    .array = sq.array,
                    .entries = sq.ring_entries,
                    .published = published_.get()},
                   most_in_flight);
  completion_.Init({.head = cq.khead,
                    .tail = cq.ktail,
                    .entries = cq.cqes,
                    .mask = cq.ring_mask});
}

SharedRing::~SharedRing() = default;

// The kernel orders what was done before an entry was published and what is
// done once it is consumed or completed, but ThreadSanitizer does not see it.
// The tail was stored in between.
void SharedRing::SeeKernelOrder() const noexcept {
  if constexpr (kThreadSanitizer) {
    (void)std::atomic_ref(*ring_.get()->sq.ktail)
        .load(std::memory_order_acquire);
  }
}

std::size_t SharedRing::Take(std::span<Entry> entries) noexcept {
  std::array<unsigned, kPortion> indices;
  std::size_t taken = 0;
  while (taken < entries.size()) {
    const std::size_t wanted = std::min(kPortion, entries.size() - taken);
    const std::size_t count =
        submission_.Take(std::span(indices).first(wanted));
    SeeKernelOrder();
    for (std::size_t i = 0; i < count; ++i) {
      Entry& entry = entries[taken + i];
      assert(!entry && "Take() into an Entry that is not empty");
      std::memset(SqeAt(indices[i]), 0, sizeof(io_uring_sqe));
      entry.ring_ = this;
      entry.index_ = indices[i];
    }
    taken += count;
    if (count < wanted) break;
  }
  return taken;
}

void SharedRing::Publish(std::span<Entry> entries) noexcept {
  if (entries.empty()) return;
  for ([[maybe_unused]] const Entry& entry : entries) {
    assert(entry.ring_ == this && "Publish() of an Entry that is not its own");
    assert((entry.sqe()->flags & IOSQE_CQE_SKIP_SUCCESS) == 0 &&
           "an entry of a shared ring without a completion");
  }
  assert((entries.back().sqe()->flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)) ==
             0 &&
         "a chain that ends in a link");
  const bool wanted =
      submission_.Publish(entries.size(), [entries](std::size_t i) {
        entries[i].ring_ = nullptr;
        return entries[i].index_;
      });
  if (wanted) (void)Submit();
}

// It has no completion, so it is complete as far as those are counted.
void SharedRing::Entry::GiveUp() noexcept {
  std::memset(sqe(), 0, sizeof(io_uring_sqe));
  sqe()->flags = IOSQE_CQE_SKIP_SUCCESS;
  SharedRing& ring = *std::exchange(ring_, nullptr);
  const bool wanted =
      ring.submission_.Publish(1, [this](std::size_t) { return index_; });
  ring.submission_.Complete(1);
  if (wanted) (void)ring.Submit();
}

EnterResult SharedRing::Submit() noexcept {
  int consumed = 0;
  int error = 0;
  (void)submission_.Submit([&](Collected collected) noexcept {
    const int result = EnterToSubmit(collected);
    if (result < 0) {
      error = result;
    } else {
      consumed += result;
    }
  });
  return EnterResult(consumed == 0 ? error : consumed);
}

// Never two threads at a time: they would tell the kernel of overlapping
// numbers of entries, and the second could stop in the middle of a chain.
int SharedRing::EnterToSubmit(Collected collected) noexcept {
  if (collected.pending == 0) return 0;
  if (!polled()) return Enter(collected.pending, 0, 0);
  if (submission_.NeedsWakeup(*ring_.get()->sq.kflags)) {
    const int result = Enter(collected.pending, 0, IORING_ENTER_SQ_WAKEUP);
    if (result < 0) return result;
  }
  return static_cast<int>(collected.added);
}

std::size_t SharedRing::Reap(std::span<SharedCompletion> completions) noexcept {
  const std::size_t count = completion_.Reap(completions);
  if (count == 0) return 0;
  SeeKernelOrder();
  const auto reaped = completions.first(count);
  const auto ended = std::count_if(
      reaped.begin(), reaped.end(),
      [](const SharedCompletion& completion) { return !completion.more(); });
  if (ended != 0) submission_.Complete(static_cast<std::uint64_t>(ended));
  return count;
}

// The kernel waits for a distance from its own head.
bool SharedRing::ReadyAfterGivingBack(unsigned count) noexcept {
  completion_.GiveBack();
  return completion_.ready() >= count;
}

EnterResult SharedRing::Wait(unsigned count) noexcept {
  if (ReadyAfterGivingBack(count)) return EnterResult(0);
  return EnterResult(Enter(0, count, IORING_ENTER_GETEVENTS));
}

EnterResult SharedRing::WaitTimeout(unsigned count,
                                    const __kernel_timespec& timeout) noexcept {
  if (ReadyAfterGivingBack(count)) return EnterResult(0);
  io_uring_getevents_arg argument = {};
  argument.sigmask_sz = _NSIG / 8;
  argument.ts = reinterpret_cast<std::uintptr_t>(&timeout);
  return EnterResult(
      io_uring_enter2(static_cast<unsigned>(ring_.get()->ring_fd), 0, count,
                      IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                      sizeof(argument)));
}

EnterResult SharedRing::Flush() noexcept {
  completion_.GiveBack();
  return EnterResult(Enter(0, 0, IORING_ENTER_GETEVENTS));
}

int SharedRing::Enter(unsigned submit, unsigned wait,
                      unsigned flags) const noexcept {
  return io_uring_enter(static_cast<unsigned>(ring_.get()->ring_fd), submit,
                        wait, flags, nullptr);
}

}  // namespace escrow::raw
