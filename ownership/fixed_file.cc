#include "escrow/ownership/fixed_file.h"

#include <utility>

#include "escrow/ownership/descriptor.h"

namespace escrow::ownership {

FixedFile FixedFile::Adopt(FileSlots& slots, int slot) {
  auto* const state = DescriptorShare::MakeState();
  *state = {.number = slot,
            .shares = 1,
            .slots = &slots,
            .close =
                [](auto& closing) noexcept {
                  closing.slots->Leave(closing.number, /*is_empty=*/false);
                  closing.slots->EndUse();
                },
            .when_alone = nullptr,
            .context = nullptr};
  slots.Use();
  return FixedFile(state);
}

void FixedFile::Closed() && noexcept {
  share_.state_->close = [](auto& closing) noexcept {
    closing.slots->Leave(closing.number, /*is_empty=*/true);
    closing.slots->EndUse();
  };
  share_.Release();
}

}  // namespace escrow::ownership
