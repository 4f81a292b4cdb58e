#include "escrow/raw/error.h"

#include <string>
#include <system_error>

#include "escrow/raw/diagnosis.h"

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

}  // namespace

const std::error_category& SetupCategory() noexcept {
  static const auto& category = *new SetupErrors;
  return category;
}

const std::error_category& EnterCategory() noexcept {
  static const auto& category = *new CallCategory("io_uring_enter");
  return category;
}

const std::error_category& RegisterCategory() noexcept {
  static const auto& category = *new CallCategory("io_uring_register");
  return category;
}

std::string CallCategory::message(int error) const {
  return std::string(call_) + ": " + std::generic_category().message(error);
}

std::error_condition CallCategory::default_error_condition(
    int error) const noexcept {
  return std::generic_category().default_error_condition(error);
}

}  // namespace escrow::raw
