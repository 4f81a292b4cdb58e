#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "escrow/sim/file.h"
#include "escrow/sim/kernel_state.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op.h"
#include "escrow/sim/op_support.h"
#include "escrow/sim/ops.h"
#include "escrow/sim/request.h"
#include "escrow/sim/ring.h"

// Waiting for events of others: epoll, children, words in memory.

namespace escrow::sim {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;

// For what nothing tells of.
Attempt WaitAWhile(Request& request) {
  request.WaitUntil(request.ring().Now() + kMillisecond);
  return Attempt::Blocked();
}

class EpollCtl final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.buf_index != 0 || sqe.splice_fd_in != 0) return -EINVAL;
    if (sqe.len == EPOLL_CTL_DEL) return 0;
    return Load(&event_, PointerTo(sqe.addr), sizeof(event_)) ? 0 : -EFAULT;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    return Call(SYS_epoll_ctl, sqe.fd, sqe.len, sqe.off, &event_);
  }

 private:
  epoll_event event_ = {};
};

class EpollWait final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = CheckUnused(sqe.off, sqe.rw_flags, sqe.buf_index,
                                      sqe.splice_fd_in)) {
      return error;
    }
    if (sqe.addr != 0 && sqe.len != 0 && sqe.len <= kMostEvents) {
      request.Hold(Use::kWrite, PointerTo(sqe.addr),
                   sqe.len * sizeof(epoll_event), "events");
    }
    return 0;
  }

  Attempt Try(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.len == 0 || sqe.len > kMostEvents) return Attempt::Done(-EINVAL);
    std::vector<epoll_event> events(std::min(sqe.len, kMostAtOnce));
    const std::int32_t count =
        Call(SYS_epoll_pwait, request.fd(), events.data(), events.size(), 0,
             nullptr, 0);
    if (count == 0) {
      request.WaitFor(POLLIN);
      return Attempt::Blocked();
    }
    if (count > 0 &&
        !Store(PointerTo(sqe.addr), events.data(),
               static_cast<std::size_t>(count) * sizeof(epoll_event))) {
      return Attempt::Done(-EFAULT);
    }
    return Attempt::Done(count);
  }

 private:
  static constexpr std::uint32_t kMostEvents = INT32_MAX / sizeof(epoll_event);
  static constexpr std::uint32_t kMostAtOnce = 1024;
};

class WaitId final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error =
            CheckUnused(sqe.addr, sqe.buf_index, sqe.addr3, sqe.waitid_flags)) {
      return error;
    }
    if (sqe.addr2 != 0) {
      request.Hold(Use::kWrite, PointerTo(sqe.addr2), sizeof(siginfo_t),
                   "infop");
    }
    return 0;
  }

  Attempt Try(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    siginfo_t info = {};
    const std::uint32_t options = sqe.file_index;
    const std::int32_t result =
        Call(SYS_waitid, sqe.len, sqe.fd, &info, options | WNOHANG, nullptr);
    const bool found = result == 0 && info.si_signo != 0;
    if (result == 0 && !found && (options & WNOHANG) == 0 &&
        !IsNonblocking(sqe)) {
      return Wait(request);
    }
    if (sqe.addr2 == 0) return Attempt::Done(result);
    return Attempt::Done(StoreInfo(sqe.addr2, info) ? result : -EFAULT);
  }

 private:
  static bool IsNonblocking(const io_uring_sqe& sqe) noexcept {
    return sqe.len == P_PIDFD &&
           (Call(SYS_fcntl, sqe.fd, F_GETFL) & O_NONBLOCK) != 0;
  }

  // Only these fields are, whatever the type is made of.
  static bool StoreInfo(std::uint64_t address, const siginfo_t& info) {
    auto* const its = PointerTo<siginfo_t>(address);
    return Store(&its->si_signo, &info.si_signo, sizeof(info.si_signo)) &&
           Store(&its->si_errno, &info.si_errno, sizeof(info.si_errno)) &&
           Store(&its->si_code, &info.si_code, sizeof(info.si_code)) &&
           Store(&its->si_pid, &info.si_pid, sizeof(info.si_pid)) &&
           Store(&its->si_uid, &info.si_uid, sizeof(info.si_uid)) &&
           Store(&its->si_status, &info.si_status, sizeof(info.si_status));
  }

  Attempt Wait(Request& request) {
    const io_uring_sqe& sqe = request.sqe();
    // A child's end is told by a descriptor of it, but nothing else is.
    const bool ends_only = (sqe.file_index & (WSTOPPED | WCONTINUED)) == 0;
    if (!child_.valid() && sqe.len == P_PID && ends_only) {
      child_ = File::Adopt(Call(SYS_pidfd_open, sqe.fd, 0));
    } else if (!child_.valid() && sqe.len == P_PIDFD && ends_only) {
      child_ = File::Duplicate(sqe.fd);
    }
    if (!child_.valid()) return WaitAWhile(request);
    request.WaitFor(child_.fd(), POLLIN);
    return Attempt::Blocked();
  }

  File child_;
};

// Futexes. Words of 32 bits, as the kernel has no others yet.

constexpr std::uint32_t kWordOf32 = 2;     // FUTEX2_SIZE_U32
constexpr std::uint32_t kPrivate = 128;    // FUTEX2_PRIVATE
constexpr std::uint32_t kOtherKinds = 12;  // FUTEX2_NUMA, FUTEX2_MPOL

int CheckKind(Request& request, std::uint32_t kind) {
  if ((kind & kOtherKinds) != 0) {
    return request.ring().kernel().Unsupported("futex flags", kind);
  }
  return (kind & ~kPrivate) == kWordOf32 ? 0 : -EINVAL;
}

// FUTEX_WAIT and FUTEX_WAITV.
class FutexWaiter : public Op {
 public:
  FutexWaiter() = default;
  ~FutexWaiter() override { std::erase(All(), this); }

  Attempt Try(Request& request) final {
    if (woken_.has_value()) return Attempt::Done(*woken_);
    const bool begins = request_ == nullptr;
    for (std::size_t i = 0; i < words_.size(); ++i) {
      const Word& word = words_[i];
      std::uint32_t value = 0;
      if (word.mask == 0) return Attempt::Done(-EINVAL);
      if (!Load(&value, PointerTo(word.address), sizeof(value))) {
        return Attempt::Done(-EFAULT);
      }
      if (value == word.expected) continue;
      // Later it means that whoever changed it has woken, which is not seen
      // here if it was by the system call.
      return Attempt::Done(begins ? -EAGAIN : static_cast<std::int32_t>(i));
    }
    if (begins) {
      request_ = &request;
      All().push_back(this);
    }
    return WaitAWhile(request);
  }

  // Wakes at most `count` that wait for any of the bits of `mask`: how many.
  static std::int32_t Wake(std::uint64_t address, std::uint32_t mask,
                           std::int32_t count) {
    std::int32_t woken = 0;
    for (FutexWaiter* const waiter : All()) {
      if (woken >= count) break;
      if (waiter->Matches(address, mask)) ++woken;
    }
    return woken;
  }

 protected:
  struct Word {
    std::uint64_t address;
    std::uint32_t expected;
    std::uint32_t mask;
  };

  // They change while they are waited for.
  void Add(Request& request, const Word& word) {
    words_.push_back(word);
    if (word.address == 0) return;
    request.Hold(Use::kAddress, PointerTo(word.address), sizeof(std::uint32_t),
                 "futex");
  }

 private:
  // In the order in which they began. Never destroyed: a thread may be inside
  // to the very end.
  static std::vector<FutexWaiter*>& All() {
    static auto& all = *new std::vector<FutexWaiter*>;
    return all;
  }

  bool Matches(std::uint64_t address, std::uint32_t mask) {
    if (woken_.has_value()) return false;
    for (std::size_t i = 0; i < words_.size(); ++i) {
      if (words_[i].address != address || (words_[i].mask & mask) == 0) {
        continue;
      }
      woken_ = static_cast<std::int32_t>(i);
      request_->Retry();
      return true;
    }
    return false;
  }

  std::vector<Word> words_;
  Request* request_ = nullptr;  // once it waits
  std::optional<std::int32_t> woken_;
};

bool HasFutexFields(const io_uring_sqe& sqe) noexcept {
  return sqe.len == 0 && sqe.futex_flags == 0 && sqe.buf_index == 0 &&
         sqe.file_index == 0 && sqe.addr2 <= UINT32_MAX &&
         sqe.addr3 <= UINT32_MAX;
}

class FutexWait final : public FutexWaiter {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (!HasFutexFields(sqe)) return -EINVAL;
    if (const int error =
            CheckKind(request, static_cast<std::uint32_t>(sqe.fd))) {
      return error;
    }
    Add(request, {sqe.addr, static_cast<std::uint32_t>(sqe.addr2),
                  static_cast<std::uint32_t>(sqe.addr3)});
    return 0;
  }
};

class FutexWaitV final : public FutexWaiter {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.fd != 0 || sqe.buf_index != 0 || sqe.file_index != 0 ||
        sqe.addr2 != 0 || sqe.futex_flags != 0 || sqe.addr3 != 0 ||
        sqe.len == 0 || sqe.len > FUTEX_WAITV_MAX) {
      return -EINVAL;
    }
    for (std::uint32_t i = 0; i < sqe.len; ++i) {
      futex_waitv word;
      if (!Load(&word, PointerTo<const futex_waitv>(sqe.addr) + i,
                sizeof(word))) {
        return -EFAULT;
      }
      if (word.__reserved != 0 || word.val > UINT32_MAX) return -EINVAL;
      if (const int error = CheckKind(request, word.flags)) return error;
      Add(request,
          {word.uaddr, static_cast<std::uint32_t>(word.val), UINT32_MAX});
    }
    return 0;
  }
};

class FutexWake final : public Immediate {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (!HasFutexFields(sqe)) return -EINVAL;
    if (const int error =
            CheckKind(request, static_cast<std::uint32_t>(sqe.fd))) {
      return error;
    }
    if (sqe.addr != 0) {
      request.Hold(Use::kAddress, PointerTo(sqe.addr), sizeof(std::uint32_t),
                   "futex");
    }
    return 0;
  }

 protected:
  std::int32_t Execute(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    const auto mask = static_cast<std::uint32_t>(sqe.addr3);
    const auto count = static_cast<std::int32_t>(
        std::min<std::uint64_t>(sqe.addr2, INT32_MAX));
    if (mask == 0 || sqe.addr % sizeof(std::uint32_t) != 0) return -EINVAL;
    if (count == 0) return 0;
    const std::int32_t woken = FutexWaiter::Wake(sqe.addr, mask, count);
    if (woken == count) return woken;
    // And those of the system call.
    const bool is_private =
        (static_cast<std::uint32_t>(sqe.fd) & kPrivate) != 0;
    const std::int32_t others =
        Call(SYS_futex, sqe.addr,
             FUTEX_WAKE_BITSET | (is_private ? FUTEX_PRIVATE_FLAG : 0),
             count - woken, nullptr, nullptr, mask);
    return others < 0 && woken == 0 ? others : woken + std::max(0, others);
  }
};

}  // namespace

std::unique_ptr<Op> MakeEpollCtl() { return Make<EpollCtl>(); }
std::unique_ptr<Op> MakeEpollWait() { return Make<EpollWait>(); }
std::unique_ptr<Op> MakeWaitId() { return Make<WaitId>(); }
std::unique_ptr<Op> MakeFutexWait() { return Make<FutexWait>(); }
std::unique_ptr<Op> MakeFutexWake() { return Make<FutexWake>(); }
std::unique_ptr<Op> MakeFutexWaitV() { return Make<FutexWaitV>(); }

}  // namespace escrow::sim
