#include "escrow/ownership/descriptor.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <expected>
#include <system_error>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/raw/error.h"

namespace escrow::ownership {

namespace {

// Free states, chained by their `context`.
template <typename State>
class StateCache {
 public:
  // Null from the end of the thread on, when statics may still be destroyed.
  static StateCache* Mine() noexcept {
    // The flag has no destructor, and so is there as long as the thread is.
    static thread_local bool gone = false;
    static thread_local StateCache mine(&gone);
    return gone ? nullptr : &mine;
  }

  explicit StateCache(bool* gone) noexcept : gone_(gone) {}
  ~StateCache() {
    *gone_ = true;
    while (State* const state = Get()) delete state;
  }

  State* Get() noexcept {
    State* const state = head_;
    if (state == nullptr) return nullptr;
    head_ = static_cast<State*>(state->context);
    --size_;
    return state;
  }
  // Whether there was room for it.
  bool Put(State* state) noexcept {
    constexpr int kMost = 256;
    if (size_ == kMost) return false;
    state->context = head_;
    head_ = state;
    ++size_;
    return true;
  }

 private:
  bool* gone_;
  State* head_ = nullptr;
  int size_ = 0;
};

}  // namespace

DescriptorShare::State* DescriptorShare::MakeState() {
  auto* const cache = StateCache<State>::Mine();
  State* const state = cache == nullptr ? nullptr : cache->Get();
  return state == nullptr ? new State : state;
}

void DescriptorShare::Dwindled(State* state) noexcept {
  if (state->when_alone != nullptr) {
    state->shares = 1;
    std::exchange(state->when_alone, nullptr)(state->context);
    return;
  }
  if (state->close != nullptr) state->close(*state);
  auto* const cache = StateCache<State>::Mine();
  if (cache == nullptr || !cache->Put(state)) delete state;
}

void DescriptorShare::WhenAlone(void (*callback)(void* context),
                                void* context) noexcept {
  ESCROW_CHECK(valid() && (callback == nullptr || !alone()),
               "WhenAlone() of a file that is alone");
  if (state_->when_alone != nullptr) ++state_->shares;
  if (callback != nullptr) --state_->shares;
  state_->when_alone = callback;
  state_->context = context;
}

Descriptor Descriptor::Adopt(int number) {
  ESCROW_CHECK(number >= 0, "Descriptor::Adopt() of a number below zero");
  auto* const state = DescriptorShare::MakeState();
  *state = {.number = number,
            .shares = 1,
            .slots = nullptr,
            .close = [](auto& closing) noexcept { ::close(closing.number); },
            .when_alone = nullptr,
            .context = nullptr};
  return Descriptor(state);
}

Descriptor Descriptor::Permanent(int number) {
  Descriptor descriptor = Adopt(number);
  descriptor.share_.state_->close = nullptr;
  return descriptor;
}

std::expected<Descriptor, std::error_code> Descriptor::Duplicate() const {
  const int copy = fcntl(number(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return std::unexpected(raw::LastError<"fcntl">());
  return Adopt(copy);
}

void Descriptor::WhenAlone(void (*callback)(void* context),
                           void* context) noexcept {
  share_.WhenAlone(callback, context);
}

int Descriptor::Release() && noexcept {
  ESCROW_CHECK(valid() && alone(),
               "Release() of a Descriptor that operations still use");
  const int number = share_.number();
  std::move(*this).Closed();
  return number;
}

void Descriptor::Closed() && noexcept {
  share_.state_->close = nullptr;
  share_.Release();
}

}  // namespace escrow::ownership
