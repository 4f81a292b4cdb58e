#include "escrow/raw/error.h"

#include <array>
#include <cstddef>
#include <iterator>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/raw/diagnosis.h"
#include "escrow/raw/names.h"

namespace escrow::raw {
namespace {

class SetupErrors final : public CallCategory {
 public:
  SetupErrors() noexcept : CallCategory("io_uring_setup") {}

  std::string message(int error) const override {
    std::string message = CallCategory::message(error);
    const Diagnosis why = Diagnose(error, GatherEvidence());
    if (why.reason.empty()) return message;
    message += " (" + why.reason;
    if (!why.remedy.empty()) message += "; " + why.remedy;
    return message + ")";
  }
};

// Of one opcode of io_uring_register(2), by whose name it goes.
class RegisterErrors final : public CallCategory {
 public:
  explicit RegisterErrors(const NamedRegisterOp& op) noexcept
      : CallCategory(op.name) {}

  std::string message(int error) const override {
    return std::string("io_uring_register(") + name() +
           "): " + std::generic_category().message(error);
  }
};

constexpr std::size_t kRegisterOpCount = std::size(kRegisterOps);

// Like kRegisterOps, which is sorted by number without gaps.
template <std::size_t... kIndices>
auto MakeRegisterErrors(std::index_sequence<kIndices...>) {
  return new std::array<RegisterErrors, kRegisterOpCount>{
      RegisterErrors(kRegisterOps[kIndices])...};
}

}  // namespace

const std::error_category& SetupCategory() noexcept {
  static const auto& category = *new SetupErrors;
  return category;
}

const std::error_category& EnterCategory() noexcept {
  return CategoryOf<"io_uring_enter">();
}

const std::error_category& RegisterCategory() noexcept {
  return CategoryOf<"io_uring_register">();
}

const std::error_category& RegisterCategory(unsigned opcode) noexcept {
  static const auto& categories =
      *MakeRegisterErrors(std::make_index_sequence<kRegisterOpCount>());
  return opcode < kRegisterOpCount ? categories[opcode] : RegisterCategory();
}

std::string CallCategory::message(int error) const {
  return std::string(call_) + ": " + std::generic_category().message(error);
}

std::error_condition CallCategory::default_error_condition(
    int error) const noexcept {
  return std::generic_category().default_error_condition(error);
}

}  // namespace escrow::raw
