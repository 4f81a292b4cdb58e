// The counters of a ring that is shared, in one thread: whatever is taken,
// held, published, given up, submitted and reaped, in whatever portions, a
// model of numbers knows what there is, and each request has its completion,
// once.

#include "escrow/raw/shared_ring.h"

#include <liburing.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "escrow/fuzz/check.h"
#include "escrow/fuzz/input.h"
#include "escrow/fuzz/run.h"
#include "escrow/raw/ops.h"

namespace {

using escrow::fuzz::Action;
namespace raw = escrow::raw;

// Several reports of a refusal in a row are the kernel's, for ever is not.
constexpr int kPatience = 64;

class Shared {
 public:
  explicit Shared(const Action& shape)
      : entries_(1u << shape.a % 4),
        room_(entries_ << (1 + shape.b % 2)),
        most_(shape.c % 8 == 0 ? room_ : std::min(shape.c % 8u, room_)) {
    auto ring = raw::SharedRing::Create({.entries = entries_,
                                         .completion_entries = room_,
                                         .most_in_flight = most_});
    ESCROW_REQUIRE(ring.has_value());
    ring_ = std::move(*ring);
  }

  void Step(const Action& action) {
    switch (action.kind % 6) {
      case 0:
        Take(action.a % 10);
        break;
      case 1:
        Publish(action.a % 10, action.b);
        break;
      case 2:
        GiveUp(action.a);
        break;
      case 3:
        Submit();
        break;
      case 4:
        Reap(action.a % 20);
        break;
      case 5:
        Wait();
        break;
    }
    Check();
  }

  // All that was published comes back, and all entries are free.
  void Finish() {
    prepared_ += static_cast<std::uint32_t>(held_.size());
    held_.clear();
    for (int i = 0; i < kPatience && prepared_ > 0; ++i) Submit();
    for (int i = 0; i < kPatience && !expected_.empty(); ++i) {
      (void)ring_->Wait(1);
      Reap(20);
    }
    ESCROW_REQUIRE(expected_.empty());
    ESCROW_REQUIRE(ring_->in_flight() == 0);
    ESCROW_REQUIRE(ring_->prepared() == 0);
    ESCROW_REQUIRE(ring_->available() == entries_);
    ESCROW_REQUIRE(ring_->ready() == 0);
  }

 private:
  void Check() {
    ESCROW_REQUIRE(ring_->prepared() == prepared_);
    ESCROW_REQUIRE(ring_->available() == entries_ - prepared_ - held_.size());
    ESCROW_REQUIRE(ring_->in_flight() == expected_.size() + held_.size());
    ESCROW_REQUIRE(ring_->in_flight() <= most_);
    ESCROW_REQUIRE(ring_->ready() <= expected_.size());
    ESCROW_REQUIRE(!ring_->cq_has_overflow());
  }

  void Take(std::size_t wanted) {
    std::array<raw::SharedRing::Entry, 10> entries;
    const std::size_t expected =
        std::min({wanted, entries_ - prepared_ - held_.size(),
                  most_ - expected_.size() - held_.size()});
    const std::size_t taken = ring_->Take(std::span(entries).first(wanted));
    ESCROW_REQUIRE(taken == expected);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      ESCROW_REQUIRE(static_cast<bool>(entries[i]) == (i < taken));
      if (i >= taken) continue;
      for (const auto& other : held_) {
        ESCROW_REQUIRE(other.sqe() != entries[i].sqe());
      }
      held_.push_back(std::move(entries[i]));
    }
  }

  // The oldest or the latest that are held.
  void Publish(std::size_t count, std::uint8_t which) {
    count = std::min(count, held_.size());
    const std::size_t begin = (which & 1) != 0 ? 0 : held_.size() - count;
    const auto batch = std::span(held_).subspan(begin, count);
    for (const auto& entry : batch) {
      entry.Fill(raw::Nop{}, next_, (which & 2) != 0 ? IOSQE_ASYNC : 0);
      expected_.insert(next_++);
    }
    ring_->Publish(batch);
    for (const auto& entry : batch) ESCROW_REQUIRE(!entry);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(begin),
                held_.begin() + static_cast<std::ptrdiff_t>(begin + count));
    prepared_ += static_cast<std::uint32_t>(count);
  }

  void GiveUp(std::size_t which) {
    if (held_.empty()) return;
    held_.erase(held_.begin() +
                static_cast<std::ptrdiff_t>(which % held_.size()));
    ++prepared_;
  }

  void Submit() {
    const auto submitted = ring_->Submit();
    const unsigned taken = submitted ? *submitted : 0;
    ESCROW_REQUIRE(taken <= prepared_);
    prepared_ -= taken;
  }

  void Wait() {
    // What was not submitted does not come.
    if (ring_->ready() == 0) return;
    ESCROW_REQUIRE(ring_->Wait(1));
  }

  void Reap(std::size_t most) {
    std::array<raw::SharedCompletion, 20> completions;
    const std::size_t ready = ring_->ready();
    const std::size_t count = ring_->Reap(std::span(completions).first(most));
    ESCROW_REQUIRE(count >= std::min(most, ready) && count <= most);
    for (std::size_t i = 0; i < count; ++i) {
      ESCROW_REQUIRE(expected_.erase(completions[i].user_data) == 1);
    }
  }

  std::uint32_t entries_;
  std::uint32_t room_;
  std::uint32_t most_;
  std::unique_ptr<raw::SharedRing> ring_;
  std::vector<raw::SharedRing::Entry> held_;
  std::set<std::uint64_t> expected_;
  std::uint64_t next_ = 1;
  std::uint32_t prepared_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const escrow::fuzz::Run run(data, size);
  if (run.actions().empty()) return 0;
  Shared shared(run.actions().front());
  for (const Action& action : run.actions().subspan(1)) shared.Step(action);
  shared.Finish();
  return 0;
}
