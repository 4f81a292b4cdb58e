#include "escrow/safe/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/raw/error.h"
#include "escrow/raw/synchronous.h"
#include "escrow/safe/owner.h"
#include "escrow/safe/result.h"

namespace escrow::safe::internal {
namespace {

// The error of the last call, which is eventfd(2) or one on such a descriptor.
std::error_code EventfdError() { return raw::LastError<"eventfd">(); }

}  // namespace

Mailbox::Mailbox(int ring_fd, std::uint64_t wake_data) noexcept
    : ring_fd_(ring_fd),
      wake_data_(wake_data),
      fork_generation_(ForkGeneration()) {}

Mailbox::~Mailbox() {
  if (event_fd_ >= 0) ::close(event_fd_);
}

bool Mailbox::inherited() const noexcept {
  return fork_generation_ != ForkGeneration();
}

std::error_code Mailbox::ChooseWakeup() {
  if (event_fd_ >= 0 || (chosen_ && !prefer_eventfd_)) return {};
  const bool completions =
      !prefer_eventfd_ &&
      !raw::RegisterSyncMsg({.ring_fd = ring_fd_, .user_data = wake_data_});
  if (!completions) {
    const int made = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made < 0) return EventfdError();
    const std::lock_guard lock(mutex_);
    event_fd_ = made;
  }
  chosen_ = true;
  return {};
}

void Mailbox::ClearEvent() noexcept {
  std::uint64_t count;
  (void)!::read(event_fd_, &count, sizeof(count));
}

PostedList Mailbox::Take() noexcept {
  const std::lock_guard lock(mutex_);
  asleep_ = false;
  return std::move(posted_);
}

bool Mailbox::Sleep(bool needs_remotes) noexcept {
  const std::lock_guard lock(mutex_);
  asleep_ = posted_.empty() && !(needs_remotes && remotes_ == 0);
  return asleep_;
}

bool Mailbox::HasRemotes() noexcept {
  const std::lock_guard lock(mutex_);
  return remotes_ != 0;
}

PostedList Mailbox::Close() noexcept {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  asleep_ = false;
  return std::move(posted_);
}

std::error_code Mailbox::Wake() noexcept {
  if (event_fd_ < 0) {
    return raw::RegisterSyncMsg({.ring_fd = ring_fd_, .user_data = wake_data_});
  }
  const std::uint64_t one = 1;
  // Full is signalled, too.
  if (::write(event_fd_, &one, sizeof(one)) < 0 && errno != EAGAIN) {
    return EventfdError();
  }
  return {};
}

Result<void> Mailbox::Post(std::unique_ptr<Posted> work) {
  ESCROW_CHECK(!inherited(),
               "a Remote is used by a child process that inherited it");
  const std::lock_guard lock(mutex_);
  if (closed_) {
    return std::unexpected(std::make_error_code(std::errc::owner_dead));
  }
  if (asleep_) {
    if (const std::error_code error = Wake()) return std::unexpected(error);
    asleep_ = false;
  }
  posted_.PushBack(std::move(work));
  return {};
}

void Mailbox::AddRemote() noexcept {
  if (inherited()) return;
  const std::lock_guard lock(mutex_);
  ++remotes_;
}

void Mailbox::DropRemote() noexcept {
  if (inherited()) return;
  const std::lock_guard lock(mutex_);
  // What waits for posts only has nothing to wait for any more.
  if (--remotes_ == 0 && asleep_) asleep_ = static_cast<bool>(Wake());
}

}  // namespace escrow::safe::internal
