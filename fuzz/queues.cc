// Programs on queues: one that owns its memory, and one whose memory is the
// program's, in arrays of pieces. What is in flight is not waited for unless it
// ends by itself.

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "escrow/fuzz/check.h"
#include "escrow/fuzz/front_end.h"
#include "escrow/fuzz/input.h"
#include "escrow/fuzz/world.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/queue.h"
#include "escrow/safe/result.h"

namespace escrow::fuzz {
namespace {

using ownership::Buffer;
using ownership::Descriptor;
using safe::Queue;

constexpr std::size_t kPieceBytes = 48;
constexpr std::size_t kMostCap = 8;

bool IsSerial(std::uint8_t kind) { return kind % 32 == 31; }

// Threads take longer to make than most programs to run, so they are few.
safe::Result<std::unique_ptr<Queue>> MakeQueue(std::uint8_t kind,
                                               std::size_t cap) {
  if (IsSerial(kind)) return safe::MakeSerialQueue(cap);
  return kind % 32 == 30 ? safe::MakeThreadQueue(cap)
                         : safe::MakeRingQueue(cap);
}

enum class Of : std::uint8_t { kFile, kPipe, kScratch };

// What was added, by its number: what it works on, and from where.
struct Added {
  bool in_flight = false;
  Of of = Of::kFile;
  std::size_t offset = 0;
};

// Those of one queue.
class InFlight {
 public:
  InFlight() = default;
  // Whether what is behind one that does not end does not end, either.
  explicit InFlight(bool in_turn) noexcept : in_turn_(in_turn) {}

  std::optional<std::uint64_t> Add(Of of, std::size_t offset) {
    for (std::size_t id = 0; id < added_.size(); ++id) {
      if (added_[id].in_flight) continue;
      added_[id] = {.in_flight = true, .of = of, .offset = offset};
      endless_ += of == Of::kPipe ? 1 : 0;
      return id;
    }
    return std::nullopt;
  }
  const Added& Remove(std::uint64_t id) {
    ESCROW_REQUIRE(id < added_.size() && added_[id].in_flight);
    added_[id].in_flight = false;
    endless_ -= added_[id].of == Of::kPipe ? 1 : 0;
    return added_[id];
  }
  // How many are sure to end, of `count`.
  std::size_t Ending(std::size_t count) const noexcept {
    return in_turn_ && endless_ > 0 ? 0 : count - endless_;
  }

 private:
  bool in_turn_ = false;
  std::array<Added, kMostCap> added_;
  std::size_t endless_ = 0;
};

void ExamineRead(const Added& added, const std::byte* data, std::size_t size) {
  if (added.of == Of::kFile) RequireOfFile(data, size, added.offset);
  if (added.of == Of::kPipe) RequireSent(data, size);
}

class Program {
 public:
  explicit Program(std::uint8_t kind) : kind_(kind) {
    for (std::size_t i = 0; i < kMostCap; ++i) {
      for (std::size_t j = 0; j < 2; ++j) {
        vectors_[i][j] = {pieces_[i][j].data(), pieces_[i][j].size()};
      }
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() = default;

  void Run(std::span<const Action> actions) {
    for (const Action& action : actions) Step(action);
  }

 private:
  using Owning = safe::OwningQueue<Buffer>;

  void Step(const Action& action) {
    const auto of = static_cast<Of>(action.a % 3);
    const std::size_t offset = action.b * std::size_t{5};
    switch (action.kind % 10) {
      case 0:
        AddOwning(of, offset, (action.c & 1) != 0);
        break;
      case 1:
        AddVectors(of, offset, (action.c & 1) != 0);
        break;
      case 2:
        WaitOwning(action.a);
        break;
      case 3:
        WaitVectors(action.a);
        break;
      case 4:
        Feed(pipe_.there, 1 + action.a);
        break;
      case 5:
        owning_.reset();
        break;
      case 6:
        queue_.reset();
        break;
      case 7:
        kind_ = action.a;
        break;
      case 8:
        // With what is in flight.
        if (owning_) {
          Owning elsewhere(std::move(*owning_));
          *owning_ = std::move(elsewhere);
        }
        break;
      case 9:
        // It shares in what it uses.
        if (queue_ == nullptr || queue_->in_flight() == 0) pipe_ = MakePipe();
        break;
    }
  }

  void AddOwning(Of of, std::size_t offset, bool write) {
    if (!owning_) {
      auto made = MakeQueue(kind_, 1 + kind_ % kMostCap);
      ESCROW_REQUIRE(made.has_value());
      owning_.emplace(std::move(*made));
      owned_ = InFlight(IsSerial(kind_));
    }
    if (owning_->in_flight() == owning_->cap()) return;
    if (write) of = Of::kScratch;
    const auto id = owned_.Add(of, offset);
    ESCROW_REQUIRE(id.has_value());
    if (write) {
      owning_->Write(*id, Scratch(), static_cast<::off_t>(offset),
                     MakeBuffer(kPieceBytes, kSent));
      return;
    }
    owning_->Read(*id, FileOf(of), OffsetOf(of, offset),
                  MakeBuffer(kPieceBytes));
  }

  void AddVectors(Of of, std::size_t offset, bool write) {
    if (queue_ == nullptr) {
      auto made = MakeQueue(kind_, 1 + kind_ % kMostCap);
      ESCROW_REQUIRE(made.has_value());
      queue_ = std::move(*made);
      lent_ = InFlight(IsSerial(kind_));
    }
    if (queue_->in_flight() == queue_->cap()) return;
    if (write) of = Of::kScratch;
    const auto id = lent_.Add(of, offset);
    ESCROW_REQUIRE(id.has_value());
    const auto file = FileOf(of).number();
    if (write) {
      queue_->WriteVector(*id, file, static_cast<::off_t>(offset),
                          vectors_[*id]);
    } else {
      queue_->ReadVector(*id, file, OffsetOf(of, offset), vectors_[*id]);
    }
  }

  void WaitOwning(std::uint8_t asked) {
    if (!owning_) return;
    const std::size_t before = owning_->in_flight();
    const std::size_t least = asked % (owned_.Ending(before) + 1);
    std::vector<Owning::Completion> done;
    const auto waited = owning_->Wait(least, done);
    ESCROW_REQUIRE(owning_->in_flight() == before - done.size());
    for (const Owning::Completion& each : done) {
      const Added& added = owned_.Remove(each.id);
      ESCROW_REQUIRE(each.buffer.size() == kPieceBytes);
      if (!each.size) continue;
      ESCROW_REQUIRE(*each.size <= kPieceBytes);
      ExamineRead(added, each.buffer.data(), *each.size);
    }
    if (waited) {
      ESCROW_REQUIRE(done.size() >= least);
      return;
    }
    ESCROW_REQUIRE(IsRefusal(waited.error()));
    owning_.reset();
  }

  void WaitVectors(std::uint8_t asked) {
    if (queue_ == nullptr) return;
    const std::size_t before = queue_->in_flight();
    const std::size_t least = asked % (lent_.Ending(before) + 1);
    std::vector<Queue::Completion> done;
    const auto waited = queue_->Wait(least, done);
    ESCROW_REQUIRE(queue_->in_flight() == before - done.size());
    for (const Queue::Completion& each : done) {
      const Added& added = lent_.Remove(each.id);
      if (!each.size) continue;
      ESCROW_REQUIRE(*each.size <= 2 * kPieceBytes);
      const auto& pieces = pieces_[each.id];
      const std::size_t first = std::min(*each.size, kPieceBytes);
      ExamineRead(added, pieces[0].data(), first);
      ExamineRead({.of = added.of, .offset = added.offset + kPieceBytes},
                  pieces[1].data(), *each.size - first);
    }
    if (waited) {
      ESCROW_REQUIRE(done.size() >= least);
      return;
    }
    ESCROW_REQUIRE(IsRefusal(waited.error()));
    queue_.reset();
  }

  const Descriptor& FileOf(Of of) const {
    if (of == Of::kPipe) return pipe_.here;
    return of == Of::kFile ? File() : Scratch();
  }
  static ::off_t OffsetOf(Of of, std::size_t offset) {
    return of == Of::kPipe ? Queue::kCurrentPosition
                           : static_cast<::off_t>(offset);
  }

  std::uint8_t kind_;
  Ends pipe_ = MakePipe();
  std::array<std::array<std::array<std::byte, kPieceBytes>, 2>, kMostCap>
      pieces_ = {};
  std::array<std::array<iovec, 2>, kMostCap> vectors_;
  InFlight owned_;
  InFlight lent_;
  // End before what they use.
  std::optional<Owning> owning_;
  std::unique_ptr<Queue> queue_;
};

}  // namespace
}  // namespace escrow::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  return escrow::fuzz::RunFrontEnd<escrow::fuzz::Program>(data, size);
}
