#include "escrow/fuzz/run.h"

#include <cstddef>
#include <cstdint>

namespace escrow::fuzz {

Run::Run(const std::uint8_t* data, std::size_t size) : input_(data, size) {}

Run::~Run() = default;

}  // namespace escrow::fuzz
