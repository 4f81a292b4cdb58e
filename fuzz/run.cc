#include "escrow/fuzz/run.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "escrow/sim/choices.h"
#include "escrow/sim/kernel.h"

namespace escrow::fuzz {
namespace {

// What the kernel of all runs so far has chosen, and what it could not do.
void PrintChoices() {
  for (std::size_t i = 0; i < sim::kChoicePoints; ++i) {
    const auto point = static_cast<sim::ChoicePoint>(i);
    const auto [made, adverse] = sim::Choices::CountsOf(point);
    std::fprintf(stderr, "%-20s %12llu times, %12llu not benignly\n",
                 sim::InfoOf(point).name, static_cast<unsigned long long>(made),
                 static_cast<unsigned long long>(adverse));
  }
  sim::PrintUnsupported();
}

}  // namespace

Run::Run(const std::uint8_t* data, std::size_t size) : input_(data, size) {
  static const bool printed_at_exit =
      std::getenv("ESCROW_FUZZ_CHOICES") != nullptr &&
      std::atexit(&PrintChoices) == 0;
  (void)printed_at_exit;
  sim::Reset({.choices = sim::Choices::Following(input_.schedule()),
              .clock = sim::Clock::kVirtual});
}

Run::~Run() { sim::CheckEnd(); }

}  // namespace escrow::fuzz
