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

void DescriptorShare::Dwindled(State* state) noexcept {
  if (state->shares == 1) {
    std::exchange(state->when_alone, nullptr)(state->context);
    return;
  }
  if (state->closes) ::close(state->number);
  delete state;
}

Descriptor Descriptor::Adopt(int number) {
  ESCROW_CHECK(number >= 0, "Descriptor::Adopt() of a number below zero");
  return Descriptor(new DescriptorShare::State{.number = number,
                                               .closes = true,
                                               .shares = 1,
                                               .when_alone = nullptr,
                                               .context = nullptr});
}

Descriptor Descriptor::Permanent(int number) {
  Descriptor descriptor = Adopt(number);
  descriptor.share_.state_->closes = false;
  return descriptor;
}

std::expected<Descriptor, std::error_code> Descriptor::Duplicate() const {
  static const auto& category = *new raw::CallCategory("fcntl");
  const int copy = fcntl(number(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return std::unexpected(std::error_code(errno, category));
  return Adopt(copy);
}

void Descriptor::WhenAlone(void (*callback)(void* context),
                           void* context) noexcept {
  ESCROW_CHECK(valid() && (callback == nullptr || !alone()),
               "WhenAlone() of a Descriptor that is alone");
  share_.state_->when_alone = callback;
  share_.state_->context = context;
}

int Descriptor::Release() && noexcept {
  ESCROW_CHECK(valid() && alone(),
               "Release() of a Descriptor that operations still use");
  share_.state_->closes = false;
  const int number = share_.number();
  share_.Release();
  return number;
}

}  // namespace escrow::ownership
