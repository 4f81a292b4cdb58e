#ifndef ESCROW_SAFE_REMOTE_H_
#define ESCROW_SAFE_REMOTE_H_

#include <concepts>
#include <memory>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/safe/mailbox.h"
#include "escrow/safe/result.h"

namespace escrow::safe {

struct RemoteOptions {
  // Have the ring woken by an eventfd(2) that it polls, whoever posts, instead
  // of by a completion that the kernel is asked to put into it. That is done in
  // any case where the ring's thread may not or cannot do the latter; choose it
  // when only other threads may not, because of a seccomp filter of theirs.
  bool eventfd = false;
};

// Reaches a ring from any thread:
//
//   auto remote = ring.CreateRemote();
//   std::thread([remote = *remote] {
//     (void)remote.Post([] { ... });  // runs in the ring's thread
//   }).detach();
//   while (...) ring.Dispatch();
//
// Copyable, and may outlive the ring. While there is a Remote, Dispatch() waits
// for posts, also with nothing in flight; when the last one is gone, that wait
// ends. A single Remote is used by one thread at a time, and copies of it by
// as many as you like. In a child process of fork(2) it may only be destroyed.
class Remote {
 public:
  Remote(const Remote& other) noexcept : mailbox_(other.mailbox_) { Add(); }
  Remote(Remote&& other) noexcept = default;
  Remote& operator=(Remote other) noexcept {
    std::swap(mailbox_, other.mailbox_);
    return *this;
  }
  ~Remote() {
    if (mailbox_ != nullptr) mailbox_->DropRemote();
  }

  // Has `work()` called by the ring's next Dispatch(), like a callback, in the
  // order of the posts. Costs an allocation, and a system call if that
  // Dispatch() is blocked and nobody has woken it yet.
  //
  // If the ring ends first, `work` is destroyed unrun in the ring's thread. On
  // an error it is destroyed by this call: owner_dead when the ring is gone,
  // those of io_uring_register(2) or write(2) if the wake-up was refused.
  template <typename Work>
  requires std::invocable<Work&>
  [[nodiscard]] Result<void> Post(Work work) const {
    ESCROW_CHECK(mailbox_ != nullptr, "use of a Remote that was moved from");
    return mailbox_->Post(std::make_unique<PostedWork<Work>>(std::move(work)));
  }

  // The same of what is made already, which costs no allocation any more.
  [[nodiscard]] Result<void> Post(
      std::unique_ptr<internal::Posted> work) const {
    ESCROW_CHECK(mailbox_ != nullptr, "use of a Remote that was moved from");
    return mailbox_->Post(std::move(work));
  }

  // For the ring.
  explicit Remote(std::shared_ptr<internal::Mailbox> mailbox) noexcept
      : mailbox_(std::move(mailbox)) {
    Add();
  }

 private:
  template <typename Work>
  class PostedWork final : public internal::Posted {
   public:
    explicit PostedWork(Work work) : work_(std::move(work)) {}
    void Run() override { (void)work_(); }

   private:
    Work work_;
  };

  void Add() noexcept {
    if (mailbox_ != nullptr) mailbox_->AddRemote();
  }

  std::shared_ptr<internal::Mailbox> mailbox_;  // null when moved from
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_REMOTE_H_
