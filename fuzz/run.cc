#include "escrow/fuzz/run.h"

#include <cstddef>
#include <cstdint>

#include "escrow/sim/choices.h"
#include "escrow/sim/kernel.h"

namespace escrow::fuzz {

Run::Run(const std::uint8_t* data, std::size_t size) : input_(data, size) {
  sim::Reset({.choices = sim::Choices::Following(input_.schedule()),
              .clock = sim::Clock::kVirtual});
}

Run::~Run() { sim::CheckEnd(); }

}  // namespace escrow::fuzz
