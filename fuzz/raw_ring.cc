// The arithmetic of the queues: whatever is pushed, submitted and reaped, in
// whatever portions, on rings of all shapes, each entry has its completions,
// once, and none is lost when there are more than there is room for.

#include <liburing.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "escrow/fuzz/check.h"
#include "escrow/fuzz/input.h"
#include "escrow/fuzz/run.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"

namespace {

using escrow::fuzz::Action;
namespace raw = escrow::raw;

// Several reports of a refusal in a row are the kernel's, for ever is not.
constexpr int kPatience = 64;

class Queues {
 public:
  explicit Queues(const Action& shape) {
    constexpr std::uint32_t kFlags[] = {
        0,
        IORING_SETUP_SQE128,
        IORING_SETUP_CQE32,
        IORING_SETUP_SQE128 | IORING_SETUP_CQE32,
        IORING_SETUP_NO_SQARRAY,
        IORING_SETUP_CQE_MIXED,
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_SUBMIT_ALL,
    };
    raw::RingOptions options = {.entries = 1u << shape.a % 4,
                                .setup_flags = kFlags[shape.b % 8]};
    if ((shape.c & 1) != 0) options.completion_entries = options.entries * 4;
    auto ring = raw::Ring::Create(options);
    ESCROW_REQUIRE(ring.has_value());
    ring_.emplace(std::move(*ring));
    entries_ = options.entries;
  }

  void Step(const Action& action) {
    switch (action.kind % 7) {
      case 0:
        Push(1 + action.a % 8u, action.b);
        break;
      case 1:
        PushReserved(1 + action.a % 4u);
        break;
      case 2:
        Submit();
        break;
      case 3:
        (void)ring_->SubmitAndGetEvents();
        break;
      case 4:
        Reap(1 + action.a % 8u);
        break;
      case 5:
        Wait(1 + action.a % 8u);
        break;
      case 6:
        Post(action.a);
        break;
    }
    ESCROW_REQUIRE(ring_->sq_ready() <= entries_);
    ESCROW_REQUIRE(ring_->sq_ready() + ring_->sq_space_left() == entries_);
  }

  // All that was pushed comes back.
  void Finish() {
    for (int i = 0; i < kPatience && left_ > 0; ++i) {
      if (ring_->completions().entries() == 0) (void)ring_->SubmitAndWait(1);
      Reap(~0u);
    }
    ESCROW_REQUIRE(left_ == 0);
    ESCROW_REQUIRE(ring_->sq_ready() == 0);
    for (const std::uint8_t count : expected_) ESCROW_REQUIRE(count == 0);
  }

 private:
  // Expects a completion for the entry that gets the value.
  std::uint64_t Expect() {
    expected_.push_back(1);
    ++left_;
    return expected_.size() - 1;
  }
  void Forget() {
    expected_.pop_back();
    --left_;
  }

  void Push(unsigned count, std::uint8_t flags) {
    for (; count > 0; --count) {
      const bool room = ring_->sq_space_left() > 0;
      const std::uint64_t value = Expect();
      const std::uint8_t sqe_flags = (flags & 1) != 0 ? IOSQE_ASYNC : 0;
      const bool pushed = ring_->TryPush(raw::Nop{}, value, sqe_flags);
      ESCROW_REQUIRE(pushed == room);
      if (!pushed) {
        Forget();
        return;
      }
    }
  }

  void PushReserved(unsigned count) {
    const bool room = ring_->sq_space_left() >= count;
    auto reservation = ring_->Reserve(count);
    ESCROW_REQUIRE(static_cast<bool>(reservation) == room);
    if (!room) return;
    for (; count > 0; --count) reservation.Push(raw::Nop{}, Expect());
    reservation.Commit();
  }

  // To itself: a completion more than there are entries.
  void Post(std::uint8_t result) {
    if (ring_->sq_space_left() == 0) return;
    const std::uint64_t posted = Expect();
    const std::uint64_t entry = Expect();
    posts_.push_back(entry);
    ESCROW_REQUIRE(ring_->TryPush(
        raw::MsgRing{
            .ring = ring_->get()->ring_fd, .result = result, .data = posted},
        entry));
  }

  // Only what posts to a ring may fail, and then posts nothing.
  void Refused(std::uint64_t entry) {
    ESCROW_REQUIRE(std::count(posts_.begin(), posts_.end(), entry) == 1);
    ESCROW_REQUIRE(expected_[entry - 1] == 1);
    expected_[entry - 1] = 0;
    --left_;
  }

  void Submit() {
    const unsigned ready = ring_->sq_ready();
    const auto submitted = ring_->Submit();
    const unsigned taken = submitted ? *submitted : 0;
    ESCROW_REQUIRE(taken <= ready);
    // What was not taken stays where it is.
    ESCROW_REQUIRE(ring_->sq_ready() == ready - taken);
  }

  void Wait(unsigned count) {
    if (left_ == 0) return;
    // At least one comes, of what the kernel has.
    (void)count;
    for (int i = 0; i < kPatience; ++i) {
      if (const auto waited = ring_->SubmitAndWait(1)) break;
    }
  }

  void Reap(unsigned most) {
    const raw::Completions completions = ring_->completions();
    auto position = completions.begin();
    unsigned reaped = 0;
    unsigned slots = 0;
    for (; position != completions.end() && reaped < most; ++position) {
      const io_uring_cqe& completion = *position;
      ESCROW_REQUIRE(completion.user_data < expected_.size());
      ESCROW_REQUIRE(expected_[completion.user_data] == 1);
      expected_[completion.user_data] = 0;
      --left_;
      if (completion.res < 0) Refused(completion.user_data);
      ++reaped;
      slots = completions.EntriesThrough(position);
    }
    ring_->Advance(slots);
  }

  std::optional<raw::Ring> ring_;
  unsigned entries_;
  std::vector<std::uint8_t> expected_;
  std::vector<std::uint64_t> posts_;
  std::size_t left_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const escrow::fuzz::Run run(data, size);
  if (run.actions().empty()) return 0;
  Queues queues(run.actions().front());
  for (const Action& action : run.actions().subspan(1)) queues.Step(action);
  // Or it is closed with what is in flight.
  if ((run.actions().front().c & 2) == 0) queues.Finish();
  return 0;
}
