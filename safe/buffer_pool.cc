#include "escrow/safe/buffer_pool.h"

#include <cstddef>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/registered_buffer.h"
#include "escrow/raw/buffer_table.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"

namespace escrow::safe {

using ownership::BufferStore;

// The only entry of the ring's table of buffers: all of the store.
class internal::PoolRegistration final : public internal::Attachment {
 public:
  PoolRegistration(Engine& engine, BufferStore& store) noexcept
      : engine_(&engine), store_(store) {
    store_.registration = {.ring = &engine, .index = 0};
    engine.Attach(*this);
  }
  ~PoolRegistration() {
    if (engine_ != nullptr && !engine_->LeaveHandle()) {
      (void)raw::UnregisterBuffers(engine_->ring());
      store_.registration = {};
    }
    store_.EndUse();
  }

  void RingEnds() noexcept override {
    engine_ = nullptr;
    store_.registration = {};
  }

  BufferStore& store() noexcept { return store_; }

 private:
  Engine* engine_;  // null when the ring is gone
  BufferStore& store_;
};

Result<BufferPool> BufferPool::Create(Ring& ring,
                                      const BufferPoolOptions& options) {
  internal::Engine& engine = internal::EngineOf(ring);
  engine.CheckOwner();
  const Result<BufferStore*> store =
      BufferStore::Make(options.count, options.size, options.alignment);
  if (!store) return std::unexpected(store.error());
  const raw::TableBuffer all = {.data = (*store)->data(),
                                .size = (*store)->size()};
  if (const std::error_code error =
          raw::RegisterBuffers(engine.ring(), std::span(&all, 1))) {
    (*store)->EndUse();
    return std::unexpected(error);
  }
  return BufferPool(*new internal::PoolRegistration(engine, **store));
}

BufferPool::~BufferPool() { delete registration_; }

std::optional<ownership::RegisteredBuffer> BufferPool::Take() noexcept {
  ESCROW_CHECK(registration_ != nullptr,
               "use of a BufferPool that was moved from");
  return registration_->store().Take();
}

std::size_t BufferPool::available() const noexcept {
  ESCROW_CHECK(registration_ != nullptr,
               "use of a BufferPool that was moved from");
  return registration_->store().available();
}

}  // namespace escrow::safe
