#ifndef ESCROW_SAFE_MAILBOX_H_
#define ESCROW_SAFE_MAILBOX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>

#include "escrow/safe/result.h"

namespace escrow::safe::internal {

// Work that another thread gave to a ring.
class Posted {
 public:
  Posted() noexcept = default;
  Posted(const Posted&) = delete;
  Posted& operator=(const Posted&) = delete;
  virtual ~Posted() = default;
  virtual void Run() = 0;

 private:
  friend class PostedList;
  Posted* next_ = nullptr;
};

// First in, first out. Destroys what is left.
class PostedList {
 public:
  PostedList() noexcept = default;
  PostedList(PostedList&& other) noexcept
      : first_(std::exchange(other.first_, nullptr)), last_(other.last_) {}
  PostedList& operator=(PostedList&& other) noexcept {
    std::swap(first_, other.first_);
    std::swap(last_, other.last_);
    return *this;
  }
  ~PostedList() {
    while (!empty()) (void)PopFront();
  }

  bool empty() const noexcept { return first_ == nullptr; }
  void PushBack(std::unique_ptr<Posted> work) noexcept {
    Posted* const added = work.release();
    (empty() ? first_ : last_->next_) = added;
    last_ = added;
  }
  std::unique_ptr<Posted> PopFront() noexcept {
    return std::unique_ptr<Posted>(
        std::exchange(first_, std::exchange(first_->next_, nullptr)));
  }

 private:
  Posted* first_ = nullptr;
  Posted* last_ = nullptr;  // if there is a first
};

// Where other threads leave work for a ring. Shared by the ring and its
// Remotes; outlives it when they do. All members are for any thread, except
// where it says the ring's.
//
// A wake-up is sent once for each time that the ring sleeps, by whoever finds
// it asleep. As the ring looks for work and falls asleep in one step, under the
// mutex, none is needed otherwise.
class Mailbox {
 public:
  // `wake_data` is the user_data of the completion that wakes the ring.
  Mailbox(int ring_fd, std::uint64_t wake_data) noexcept;
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox();

  // The ring's. Chooses how posts wake it, for which it must be enabled: by a
  // completion, if the kernel lets us send one, or by event_fd(). Errors are
  // those of eventfd(2).
  std::error_code ChooseWakeup();
  // Has ChooseWakeup() choose the latter.
  void PreferEventfd() noexcept { prefer_eventfd_ = true; }
  // -1 with completions.
  int event_fd() const noexcept { return event_fd_; }
  // The ring's. Unsignals event_fd().
  void ClearEvent() noexcept;

  // The ring's, awake from here on. Takes what there is.
  PostedList Take() noexcept;
  // The ring's. Whether it is asleep from here on: until Take(), posts wake it.
  // Not if there is work, nor, if the ring has nothing else to wait for, when
  // nobody is left who could post any.
  bool Sleep(bool needs_remotes) noexcept;
  bool HasRemotes() noexcept;

  // The ring ends: what is posted from here on is refused. Returns the rest.
  PostedList Close() noexcept;

  // Those of Remote. owner_dead after Close(), or the error of a wake-up that
  // was refused; `work` is destroyed then.
  Result<void> Post(std::unique_ptr<Posted> work);
  void AddRemote() noexcept;
  void DropRemote() noexcept;

 private:
  bool inherited() const noexcept;
  // With the mutex, for ring_fd_ to be this ring's.
  std::error_code Wake() noexcept;

  const int ring_fd_;
  const std::uint64_t wake_data_;
  const std::uint32_t fork_generation_;
  bool prefer_eventfd_ = false;
  bool chosen_ = false;
  int event_fd_ = -1;

  std::mutex mutex_;
  PostedList posted_;
  std::size_t remotes_ = 0;
  bool asleep_ = false;
  bool closed_ = false;
};

}  // namespace escrow::safe::internal

#endif  // ESCROW_SAFE_MAILBOX_H_
