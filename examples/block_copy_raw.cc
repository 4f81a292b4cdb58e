#include <liburing.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/examples/block_copy.h"
#include "escrow/examples/extents.h"
#include "escrow/examples/failure.h"
#include "escrow/ownership/buffer.h"
#include "escrow/raw/error.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "escrow/safe/raw_access.h"

namespace escrow::examples {
namespace {

// Blocks that raw requests point to. Outlives the requests: nothing else keeps
// the kernel from writing into freed memory.
class RawBlocks {
 public:
  explicit RawBlocks(BlockCopy& copy)
      : copy_(copy), access_(copy.session().ring(), *this) {}
  RawBlocks(const RawBlocks&) = delete;
  RawBlocks& operator=(const RawBlocks&) = delete;
  ~RawBlocks() {
    draining_ = true;
    while (copy_.in_flight() > 0) {
      // Errors pass, and there is no other way to learn of completions.
      if (!copy_.session().ring().Dispatch()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  }

  Expected<void> Run() {
    slots_.resize(copy_.depth());
    for (Slot& slot : slots_) {
      auto memory =
          ownership::Buffer::Allocate(copy_.session().block_size(), 4096);
      if (!memory) return Failed("memory for blocks", memory.error());
      slot.memory = *std::move(memory);
    }
    for (Slot& slot : slots_) StartNext(slot);
    while (copy_.in_flight() > 0 && !copy_.failure()) {
      if (auto turned = copy_.session().Turn(); !turned) return turned;
    }
    if (copy_.failure()) return std::unexpected(*copy_.failure());
    return {};
  }

  // Called by the ring.
  void operator()(const io_uring_cqe& cqe) {
    Slot& slot = slots_[cqe.user_data];
    copy_.Ended();
    if (draining_ || copy_.failure()) return;
    if (cqe.res == -EINTR) return Push(slot);
    if (cqe.res < 0) return Fail(slot, -cqe.res);
    slot.done += static_cast<std::size_t>(cqe.res);
    if (slot.done < slot.block.length) {
      if (cqe.res == 0 && !slot.writing) {
        return copy_.SourceEnded(slot.block.offset + slot.done);
      }
      return Push(slot);
    }
    if (!slot.writing) {
      slot.writing = true;
      slot.done = 0;
      return Push(slot);
    }
    copy_.Copied(slot.block);
    StartNext(slot);
  }

 private:
  struct Slot {
    ownership::Buffer memory;
    Block block = {};
    std::size_t done = 0;
    bool writing = false;
  };

  void StartNext(Slot& slot) {
    const auto block = copy_.Next();
    if (!block) return;
    slot.block = *block;
    slot.done = 0;
    slot.writing = false;
    Push(slot);
  }

  void Push(Slot& slot) {
    raw::Ring& ring = access_.ring();
    std::byte* const data = slot.memory.data() + slot.done;
    const auto length =
        static_cast<std::uint32_t>(slot.block.length - slot.done);
    const std::uint64_t offset = slot.block.offset + slot.done;
    const auto user_data = static_cast<std::uint64_t>(&slot - slots_.data());
    const bool pushed =
        slot.writing ? ring.TryPush(raw::Write{.fd = copy_.target().number(),
                                               .buffer = data,
                                               .length = length,
                                               .offset = offset},
                                    user_data)
                     : ring.TryPush(raw::Read{.fd = copy_.source().number(),
                                              .buffer = data,
                                              .length = length,
                                              .offset = offset},
                                    user_data);
    // The queue has room for all blocks, so it is full only if the kernel does
    // not take from it.
    if (!pushed) return Fail(slot, EBUSY);
    copy_.Started();
  }

  void Fail(const Slot& slot, int error) {
    if (slot.writing) {
      copy_.TargetFailed({error, raw::OperationCategory<raw::Write>()});
    } else {
      copy_.SourceFailed({error, raw::OperationCategory<raw::Read>()});
    }
  }

  BlockCopy& copy_;
  std::vector<Slot> slots_;
  bool draining_ = false;
  safe::RawAccess access_;
};

}  // namespace

Expected<void> CopyBlocksRaw(BlockCopy& copy) { return RawBlocks(copy).Run(); }

}  // namespace escrow::examples
