// Programs on a bus, whose handles are prepared, enqueued, dispatched, taken
// and dropped in any order, also by callbacks, and outlive their bus.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include "escrow/fuzz/check.h"
#include "escrow/fuzz/front_end.h"
#include "escrow/fuzz/input.h"
#include "escrow/fuzz/world.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/bus.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/wait_ops.h"

namespace escrow::fuzz {
namespace {

using ownership::Buffer;
using ownership::Descriptor;
using safe::Bus;
using Read = safe::Read<Buffer>;

constexpr std::size_t kPieceBytes = 64;
constexpr unsigned kMostCallbacks = 3;

// What is known of a handle.
enum class Stage : std::uint8_t { kIdle, kPrepared, kEnqueued, kDispatched };

class Program {
 public:
  explicit Program(std::uint8_t kind) { Restart(kind); }

  void Run(std::span<const Action> actions) {
    for (const Action& action : actions) Step(action);
    bus_.reset();
    for (Slot& slot : slots_) Outlive(slot);
  }

 private:
  struct Slot {
    std::optional<safe::BusHandle<Read>> read;
    Stage stage = Stage::kIdle;
    bool of_file = false;
    std::size_t offset = 0;
    unsigned callbacks = 0;
    unsigned again = 0;  // how often a callback may still enqueue it
  };

  void Step(const Action& action) {
    Slot& slot = slots_[action.a % slots_.size()];
    Slot& other = slots_[action.b % slots_.size()];
    switch (action.kind % 16) {
      case 0:
        Prepare(slot, action.b);
        break;
      case 1:
        if (slot.stage == Stage::kPrepared) {
          bus_->Enqueue(*slot.read);
          slot.stage = Stage::kEnqueued;
        }
        break;
      case 2:
      case 3:
        EnqueueBoth(slot, other, action.kind % 16 == 2);
        break;
      case 4:
        Submit(slot);
        break;
      case 5:
        Dispatch(std::chrono::microseconds(action.a % 4), action.b);
        break;
      case 6:
        Drop(slot);
        break;
      case 7:
        if (slot.stage != Stage::kPrepared && slot.read && slot.read->done()) {
          End(slot);
        }
        break;
      case 8:
        Feed(pipe_.there, 1 + action.a);
        break;
      case 9:
        AddCallback(slot, action.b);
        break;
      case 10:
        EnqueueTimer(action.a);
        break;
      case 11: {
        Bus elsewhere(std::move(*bus_));
        (void)elsewhere.Submit();
        *bus_ = std::move(elsewhere);
        break;
      }
      case 12:
        bus_.reset();
        for (Slot& each : slots_) {
          if ((action.b & 1) != 0) Outlive(each);
          // Or else it is taken, or prepared again, under the next one.
        }
        Restart(action.a);
        break;
      case 13:
        (void)bus_->ring().Wait(bus_->ring().CancelAll());
        break;
      case 14:
        // With what is sure to end, there is no need for a limit.
        EnqueueTimer(1);
        Dispatch(std::nullopt, action.b);
        break;
      case 15:
        // Handles may move while they are enqueued.
        std::swap(slot, other);
        break;
    }
  }

  void Restart(std::uint8_t kind) {
    safe::RingOptions options = {.entries = 2u << kind % 4};
    if (kind / 4 % 4 == 3) options.in_flight_limit = 2;
    auto bus = Bus::Create(options);
    ESCROW_REQUIRE(bus.has_value());
    bus_.emplace(std::move(*bus));
    timer_stage_ = Stage::kIdle;
    timer_.reset();
  }

  void Prepare(Slot& slot, std::uint8_t how) {
    if (slot.stage == Stage::kEnqueued && !slot.read->done()) return;
    slot.of_file = (how & 1) != 0;
    slot.offset = how * std::size_t{7};
    Read read = {.file = slot.of_file ? File() : pipe_.here,
                 .buffer = MakeBuffer(kPieceBytes)};
    if (slot.of_file) read.offset = slot.offset;
    if (slot.read) {
      slot.read->Prepare(std::move(read));
    } else {
      slot.read.emplace(Bus::Prepare(std::move(read)));
      slot.callbacks = 0;
    }
    slot.read->set_user(&slot.again);
    slot.stage = Stage::kPrepared;
  }

  void EnqueueBoth(Slot& first, Slot& second, bool chain) {
    if (&first == &second || first.stage != Stage::kPrepared ||
        second.stage != Stage::kPrepared) {
      return;
    }
    if (chain) {
      bus_->EnqueueChain(*first.read, *second.read);
    } else {
      bus_->EnqueueSerialized(*first.read, *second.read);
    }
    first.stage = second.stage = Stage::kEnqueued;
  }

  void EnqueueTimer(std::uint8_t microseconds) {
    if (timer_stage_ == Stage::kEnqueued && !timer_->done()) return;
    const safe::Timeout timeout = {.time =
                                       std::chrono::microseconds(microseconds)};
    if (timer_) {
      timer_->Prepare(timeout);
    } else {
      timer_.emplace(Bus::Prepare(timeout));
    }
    bus_->Enqueue(*timer_);
    timer_stage_ = Stage::kEnqueued;
  }

  void Submit(Slot& slot) {
    const bool prepared = slot.stage == Stage::kPrepared;
    const auto submitted = prepared ? bus_->Submit(*slot.read) : bus_->Submit();
    if (prepared) slot.stage = Stage::kEnqueued;
    ESCROW_REQUIRE(submitted || IsRefusal(submitted.error()));
  }

  void Dispatch(std::optional<std::chrono::nanoseconds> limit,
                std::uint8_t how) {
    const auto result = bus_->Dispatch(limit);
    if (!result) {
      const std::error_code& error = result.error();
      if (limit && error == std::errc::timed_out) return;
      // The timer's result may have been dispatched by a wait before.
      if (!limit && error == std::errc::resource_deadlock_would_occur) return;
      ESCROW_REQUIRE(IsRefusal(error));
      return;
    }
    if (timer_ && result->Is(*timer_)) {
      ESCROW_REQUIRE(result->IsOf<safe::Timeout>() && !result->IsOf<Read>());
      ESCROW_REQUIRE(timer_stage_ == Stage::kEnqueued);
      (void)timer_->End();
      timer_stage_ = Stage::kIdle;
      return;
    }
    ESCROW_REQUIRE(result->IsOf<Read>());
    unsigned owners = 0;
    for (Slot& slot : slots_) {
      if (!slot.read || !result->Is(*slot.read)) continue;
      ++owners;
      ESCROW_REQUIRE(slot.stage == Stage::kEnqueued && slot.read->done());
      ESCROW_REQUIRE(result->user() == slot.read->user());
      slot.stage = Stage::kDispatched;
      if ((how & 1) != 0) Examine(slot, result->End<Read>());
      if ((how & 2) != 0) Prepare(slot, how);
    }
    ESCROW_REQUIRE(owners == 1);
  }

  void AddCallback(Slot& slot, std::uint8_t how) {
    if (!slot.read || slot.callbacks == kMostCallbacks) return;
    ++slot.callbacks;
    slot.again = how / 4 % 4;
    slot.read->AddCallback([this, how](const safe::BusResult& result) {
      for (Slot& its : slots_) {
        if (!its.read || !result.Is(*its.read)) continue;
        // One before this may have begun it anew.
        if (its.stage != Stage::kEnqueued || !its.read->done()) return;
        if ((how & 1) != 0) End(its);
        if ((how & 2) != 0) Drop(its);
        if (its.stage == Stage::kIdle && its.again > 0) {
          --its.again;
          Prepare(its, how);
          bus_->Enqueue(*its.read);
          its.stage = Stage::kEnqueued;
        }
        return;
      }
      // Dropped by one before this: which then is not called.
      ESCROW_REQUIRE(false);
    });
  }

  void Drop(Slot& slot) {
    slot.read.reset();
    slot.stage = Stage::kIdle;
  }

  void End(Slot& slot) {
    if (slot.stage == Stage::kIdle) return;
    Examine(slot, slot.read->End());
  }

  static void Examine(Slot& slot, Read::Outcome outcome) {
    slot.stage = Stage::kIdle;
    ESCROW_REQUIRE(outcome.buffer.size() == kPieceBytes);
    if (!outcome.result) return;
    ESCROW_REQUIRE(*outcome.result <= kPieceBytes);
    if (slot.of_file) {
      RequireOfFile(outcome.buffer.data(), *outcome.result, slot.offset);
    } else {
      RequireSent(outcome.buffer.data(), *outcome.result);
    }
  }

  // The bus has ended.
  void Outlive(Slot& slot) {
    if (slot.stage == Stage::kEnqueued) {
      ESCROW_REQUIRE(slot.read->done());
      End(slot);
    }
  }

  Ends pipe_ = MakePipe();
  std::optional<Bus> bus_;
  std::optional<safe::BusHandle<safe::Timeout>> timer_;
  Stage timer_stage_ = Stage::kIdle;
  std::array<Slot, 5> slots_;
};

}  // namespace
}  // namespace escrow::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  return escrow::fuzz::RunFrontEnd<escrow::fuzz::Program>(data, size);
}
