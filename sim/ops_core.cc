#include "escrow/sim/ops_core.h"

#include <linux/time_types.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "escrow/sim/cancel.h"
#include "escrow/sim/choices.h"
#include "escrow/sim/file.h"
#include "escrow/sim/kernel_state.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op.h"
#include "escrow/sim/request.h"
#include "escrow/sim/ring.h"

namespace escrow::sim {
namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;

// Copies a time of the program's: 0 or -errno.
int LoadTime(std::uint64_t address, std::int64_t* nanoseconds) {
  __kernel_timespec time;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): it is a pointer.
  if (!Load(&time, reinterpret_cast<const void*>(address), sizeof(time))) {
    return -EFAULT;
  }
  if (time.tv_sec < 0 || time.tv_nsec < 0) return -EINVAL;
  // Far away is far enough.
  const std::int64_t seconds =
      std::min<std::int64_t>(time.tv_sec, std::int64_t{1} << 32);
  *nanoseconds = seconds * kNanoseconds + time.tv_nsec;
  return 0;
}

class Nop final : public Op {
 public:
  int Prepare(Request& request) override {
    const std::uint32_t flags = request.sqe().nop_flags;
    constexpr std::uint32_t kKnown = IORING_NOP_INJECT_RESULT;
    if ((flags & ~kKnown) != 0) {
      return request.ring().kernel().Unsupported("NOP flags", flags & ~kKnown);
    }
    return 0;
  }
  Attempt Try(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    const bool inject = (sqe.nop_flags & IORING_NOP_INJECT_RESULT) != 0;
    return Attempt::Done(inject ? static_cast<std::int32_t>(sqe.len) : 0);
  }
};

// A time of a request, on the clock that its flags name.
class Timed : public Op {
 public:
  bool Updatable() const noexcept { return started_; }
  // From now on.
  void Update(Request& request, std::int64_t time, bool absolute) {
    Set(request, time, absolute);
    request.ready = false;
  }

 protected:
  static constexpr std::uint32_t kClockFlags = IORING_TIMEOUT_CLOCK_MASK;

  int PrepareTime(Request& request, std::uint32_t known_flags) {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.buf_index != 0 || sqe.len != 1 || sqe.splice_fd_in != 0) {
      return -EINVAL;
    }
    flags_ = sqe.timeout_flags;
    if ((flags_ & ~known_flags) != 0) return -EINVAL;
    if ((flags_ & kClockFlags) == kClockFlags) return -EINVAL;
    return LoadTime(sqe.addr, &time_);
  }
  void Begin(Request& request) {
    if (std::exchange(started_, true)) return;
    Set(request, time_, (flags_ & IORING_TIMEOUT_ABS) != 0);
  }
  bool Due(const Request& request) const {
    return request.ring().Now() >= due_;
  }
  std::uint32_t flags_ = 0;
  std::int64_t time_ = 0;
  std::int64_t due_ = 0;

 private:
  void Set(Request& request, std::int64_t time, bool absolute) {
    const std::int64_t now = request.ring().Now();
    due_ = now + time;
    if (absolute) {
      clockid_t clock = CLOCK_MONOTONIC;
      if ((flags_ & IORING_TIMEOUT_REALTIME) != 0) clock = CLOCK_REALTIME;
      if ((flags_ & IORING_TIMEOUT_BOOTTIME) != 0) clock = CLOCK_BOOTTIME;
      due_ = now + time - request.ring().kernel().Now(clock);
    }
    request.WaitUntil(due_);
  }

  bool started_ = false;
};

class Timeout final : public Timed {
 public:
  int Prepare(Request& request) override {
    const int error = PrepareTime(request, kClockFlags | IORING_TIMEOUT_ABS |
                                               IORING_TIMEOUT_ETIME_SUCCESS |
                                               IORING_TIMEOUT_MULTISHOT);
    if (error != 0) return error;
    left_ = static_cast<std::uint32_t>(request.sqe().off);
    return (flags_ & IORING_TIMEOUT_MULTISHOT) != 0 &&
                   (flags_ & IORING_TIMEOUT_ABS) != 0
               ? -EINVAL
               : 0;
  }
  Attempt Try(Request& request) override {
    Ring& ring = request.ring();
    const bool multishot = (flags_ & IORING_TIMEOUT_MULTISHOT) != 0;
    if (!Updatable()) {
      Begin(request);
      if (!multishot && left_ > 0) {
        request.counts = true;
        until_ = ring.completions() + left_;
      }
    }
    if (request.counts &&
        static_cast<std::int32_t>(ring.completions() - until_) >= 0) {
      return Attempt::Done(0);
    }
    if (!Due(request)) return Attempt::Blocked();
    if (multishot && left_ != 1) {
      if (left_ > 0) --left_;
      due_ += time_;
      request.WaitUntil(due_);
      if (!request.EndsByChoice() && request.Post(-ETIME, 0)) {
        return Attempt::Blocked();
      }
    }
    return Attempt::Done(-ETIME);
  }
  bool BreaksChain(const Request&, std::int32_t result) const override {
    if (result == -ETIME && (flags_ & IORING_TIMEOUT_ETIME_SUCCESS) != 0) {
      return false;
    }
    return result < 0;
  }

 private:
  std::uint32_t left_ = 0;
  std::uint32_t until_ = 0;
};

class LinkTimeout final : public Timed {
 public:
  int Prepare(Request& request) override {
    return PrepareTime(request, kClockFlags | IORING_TIMEOUT_ABS |
                                    IORING_TIMEOUT_ETIME_SUCCESS);
  }
  Attempt Try(Request& request) override {
    if (!Updatable()) {
      // Behind nothing that it could time.
      if (request.timed == nullptr) return Attempt::Done(-EINVAL);
      Begin(request);
      return Attempt::Blocked();
    }
    if (!Due(request)) return Attempt::Blocked();
    Request* const timed = request.timed;
    if (timed == nullptr) return Attempt::Done(-ENOENT);
    // If it got away once, nothing would end it any more.
    const int answer = timed->ring().Cancel(*timed, /*certain=*/true);
    if (answer != 0) return Attempt::Done(answer);
    // Those count what they cancel; measured on Linux 6.18.
    const unsigned opcode = timed->type.opcode;
    const bool counts = opcode == IORING_OP_FUTEX_WAIT ||
                        opcode == IORING_OP_FUTEX_WAITV ||
                        opcode == IORING_OP_WAITID;
    return Attempt::Done(counts ? 1 : -ETIME);
  }
};

class TimeoutRemove final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.buf_index != 0 || sqe.len != 0 || sqe.splice_fd_in != 0) {
      return -EINVAL;
    }
    flags_ = sqe.timeout_flags;
    constexpr std::uint32_t kUpdate =
        IORING_TIMEOUT_UPDATE | IORING_LINK_TIMEOUT_UPDATE;
    if ((flags_ & kUpdate) == 0) return flags_ == 0 ? 0 : -EINVAL;
    if ((flags_ &
         ~(kUpdate | IORING_TIMEOUT_ABS | IORING_TIMEOUT_CLOCK_MASK)) != 0) {
      return -EINVAL;
    }
    return LoadTime(sqe.addr2, &time_);
  }
  Attempt Try(Request& request) override {
    const bool linked = (flags_ & IORING_LINK_TIMEOUT_UPDATE) != 0;
    const unsigned opcode = linked ? IORING_OP_LINK_TIMEOUT : IORING_OP_TIMEOUT;
    for (Request* const other : request.ring().requests()) {
      if (other->type.opcode != opcode ||
          other->sqe().user_data != request.sqe().addr ||
          other->cancelled != 0) {
        continue;
      }
      if (flags_ == 0) {
        return Attempt::Done(request.ring().Cancel(*other));
      }
      static_cast<Timed&>(*other->op)
          .Update(*other, time_, (flags_ & IORING_TIMEOUT_ABS) != 0);
      return Attempt::Done(0);
    }
    return Attempt::Done(-ENOENT);
  }

 private:
  std::uint32_t flags_ = 0;
  std::int64_t time_ = 0;
};

class Cancel final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.off != 0 || sqe.splice_fd_in != 0) return -EINVAL;
    key_ = {.flags = sqe.cancel_flags,
            .user_data = sqe.addr,
            .fd = sqe.fd,
            .opcode = 0};
    constexpr std::uint32_t kKnown =
        IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD |
        IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_FD_FIXED |
        IORING_ASYNC_CANCEL_USERDATA | IORING_ASYNC_CANCEL_OP;
    if ((key_.flags & ~kKnown) != 0) return -EINVAL;
    if ((key_.flags & IORING_ASYNC_CANCEL_FD) != 0 &&
        (key_.flags & IORING_ASYNC_CANCEL_ANY) != 0) {
      return -EINVAL;
    }
    if ((key_.flags & IORING_ASYNC_CANCEL_OP) != 0) {
      if ((key_.flags & IORING_ASYNC_CANCEL_ANY) != 0) return -EINVAL;
      key_.opcode = static_cast<std::uint8_t>(sqe.len);
    }
    if (request.has_flag(IOSQE_FIXED_FILE)) {
      key_.flags |= IORING_ASYNC_CANCEL_FD_FIXED;
    }
    return 0;
  }
  Attempt Try(Request& request) override {
    return Attempt::Done(CancelMatching(request.ring(), key_, &request));
  }

 private:
  CancelKey key_;
};

// Events that are told although nobody asked for them.
constexpr std::uint32_t kAlways = POLLERR | POLLHUP | POLLNVAL;

class Poll final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.buf_index != 0 || sqe.off != 0 || sqe.addr != 0) return -EINVAL;
    if ((sqe.len & ~static_cast<unsigned>(IORING_POLL_ADD_MULTI)) != 0) {
      return -EINVAL;
    }
    multishot_ = (sqe.len & IORING_POLL_ADD_MULTI) != 0;
    if (multishot_ && request.has_flag(IOSQE_CQE_SKIP_SUCCESS)) return -EINVAL;
    events_ = sqe.poll32_events;
    return 0;
  }
  Attempt Try(Request& request) override {
    if (const auto ring = request.ring().kernel().Find(request.fd())) {
      return PollRing(request, *ring);
    }
    std::uint32_t events = request.TakeEvents();
    if (multishot_ && !std::exchange(begun_, true)) {
      // What is there already comes as the first edge.
      request.WaitFor(Waited());
      return Attempt::Blocked();
    }
    if (!multishot_ || (events == 0 && !request.watches())) {
      pollfd polled = {.fd = request.fd(),
                       .events = static_cast<short>(events_),
                       .revents = 0};
      (void)::poll(&polled, 1, 0);
      events = static_cast<unsigned short>(polled.revents);
    }
    events &= events_ | kAlways;
    request.WaitFor(Waited());
    if (events == 0) return Attempt::Blocked();
    const auto result = static_cast<std::int32_t>(events);
    // A file that cannot be polled has no more to tell.
    if (!multishot_ || !request.watches() || !request.Post(result, 0)) {
      return Attempt::Done(result);
    }
    return Attempt::Blocked();
  }

  // What a simulated one is made of is always ready.
  Attempt PollRing(Request& request, Ring& ring) {
    request.polled = &ring;
    request.Keep();
    const std::uint32_t events = ring.Events() & events_;
    if (events == 0) return Attempt::Blocked();
    const auto result = static_cast<std::int32_t>(events);
    return multishot_ && request.Post(result, 0) ? Attempt::Blocked()
                                                 : Attempt::Done(result);
  }

  void Update(Request& request, std::uint32_t events) {
    events_ = events;
    begun_ = false;
    request.ready = true;
  }
  std::uint32_t events() const noexcept { return events_; }

 private:
  std::uint32_t Waited() const noexcept {
    return events_ & ~static_cast<std::uint32_t>(kAlways);
  }

  std::uint32_t events_ = 0;
  bool multishot_ = false;
  bool begun_ = false;
};

class PollRemove final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.buf_index != 0 || sqe.splice_fd_in != 0) return -EINVAL;
    flags_ = sqe.len;
    constexpr std::uint32_t kUpdate =
        IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA;
    if ((flags_ & ~(kUpdate | IORING_POLL_ADD_MULTI)) != 0) return -EINVAL;
    if (flags_ == IORING_POLL_ADD_MULTI) return -EINVAL;
    if ((flags_ & IORING_POLL_UPDATE_USER_DATA) == 0 && sqe.off != 0) {
      return -EINVAL;
    }
    if ((flags_ & IORING_POLL_UPDATE_EVENTS) == 0 && sqe.poll32_events != 0) {
      return -EINVAL;
    }
    return 0;
  }
  Attempt Try(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    for (Request* const other : request.ring().requests()) {
      if (other->type.opcode != IORING_OP_POLL_ADD ||
          other->owner.user_data != sqe.addr || other->cancelled != 0) {
        continue;
      }
      const int answer = flags_ == 0 ? request.ring().Cancel(*other) : 0;
      if (flags_ == 0) return Attempt::Done(answer);
      if ((flags_ & IORING_POLL_UPDATE_USER_DATA) != 0) {
        other->owner.user_data = sqe.off;
      }
      auto& poll = static_cast<Poll&>(*other->op);
      poll.Update(*other, (flags_ & IORING_POLL_UPDATE_EVENTS) != 0
                              ? sqe.poll32_events
                              : poll.events());
      return Attempt::Done(0);
    }
    return Attempt::Done(-ENOENT);
  }

 private:
  std::uint32_t flags_ = 0;
};

class MsgRing final : public Op {
 public:
  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.buf_index != 0 || sqe.personality != 0) return -EINVAL;
    constexpr std::uint32_t kKnown =
        IORING_MSG_RING_CQE_SKIP | IORING_MSG_RING_FLAGS_PASS;
    return (sqe.msg_ring_flags & ~kKnown) != 0 ? -EINVAL : 0;
  }
  Attempt Try(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    const auto target = request.ring().kernel().Find(request.fd());
    if (target == nullptr || target->disabled()) return Attempt::Done(-EBADFD);
    if (sqe.addr == IORING_MSG_DATA) return SendData(sqe, *target);
    if (sqe.addr == IORING_MSG_SEND_FD) return SendFile(request, *target);
    return Attempt::Done(-EINVAL);
  }

 private:
  static Attempt SendData(const io_uring_sqe& sqe, Ring& target) {
    const bool pass = (sqe.msg_ring_flags & IORING_MSG_RING_FLAGS_PASS) != 0;
    if ((sqe.msg_ring_flags & IORING_MSG_RING_CQE_SKIP) != 0 ||
        (!pass && sqe.file_index != 0)) {
      return Attempt::Done(-EINVAL);
    }
    target.PostForeign(sqe.off, static_cast<std::int32_t>(sqe.len),
                       pass ? sqe.file_index : 0);
    return Attempt::Done(0);
  }
  static Attempt SendFile(Request& request, Ring& target) {
    const io_uring_sqe& sqe = request.sqe();
    if (sqe.len != 0 || &target == &request.ring()) {
      return Attempt::Done(-EINVAL);
    }
    if (target.orphaned()) return Attempt::Done(-EOWNERDEAD);
    const File* const source =
        request.ring().files().Find(static_cast<std::uint32_t>(sqe.addr3));
    if (source == nullptr) return Attempt::Done(-EBADF);
    const int installed =
        target.files().Install(File::Duplicate(source->fd()), sqe.file_index);
    if (installed < 0) return Attempt::Done(installed);
    if ((sqe.msg_ring_flags & IORING_MSG_RING_CQE_SKIP) == 0) {
      target.PostForeign(sqe.off, installed, 0);
    }
    return Attempt::Done(installed);
  }
};

bool SameFile(int first, int second) noexcept {
  const auto one = FileIdentity::Of(first);
  return one.has_value() && one == FileIdentity::Of(second);
}

bool Matches(const Request& request, const CancelKey& key, int fd) {
  if ((key.flags & IORING_ASYNC_CANCEL_ANY) != 0) return true;
  constexpr std::uint32_t kOthers =
      IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP;
  if ((key.flags & IORING_ASYNC_CANCEL_FD) != 0 &&
      !(request.fd() >= 0 && SameFile(request.fd(), fd))) {
    return false;
  }
  if ((key.flags & IORING_ASYNC_CANCEL_OP) != 0 &&
      request.type.opcode != key.opcode) {
    return false;
  }
  const bool by_user_data = (key.flags & kOthers) == 0 ||
                            (key.flags & IORING_ASYNC_CANCEL_USERDATA) != 0;
  return !by_user_data || request.owner.user_data == key.user_data;
}

}  // namespace

int CancelMatching(Ring& ring, const CancelKey& key, const Request* self) {
  int fd = key.fd;
  if ((key.flags & IORING_ASYNC_CANCEL_FD) != 0) {
    if ((key.flags & IORING_ASYNC_CANCEL_FD_FIXED) != 0) {
      const File* const file =
          ring.files().Find(static_cast<std::uint32_t>(key.fd));
      if (file == nullptr) return -EBADF;
      fd = file->fd();
    } else if (!File::Borrow(fd).IsOpen()) {
      return -EBADF;
    }
  }
  const bool all =
      (key.flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY)) != 0;
  int found = 0;
  const std::vector<Request*> requests = ring.requests();
  for (Request* const request : requests) {
    if (request == self || request->type.opcode == IORING_OP_LINK_TIMEOUT ||
        !Matches(*request, key, fd)) {
      continue;
    }
    const int answer = ring.Cancel(*request);
    if (answer == -ENOENT) continue;
    if (!all) return answer;
    ++found;
  }
  return all ? found : -ENOENT;
}

std::unique_ptr<Op> MakeNop() { return Make<Nop>(); }
std::unique_ptr<Op> MakeTimeout() { return Make<Timeout>(); }
std::unique_ptr<Op> MakeTimeoutRemove() { return Make<TimeoutRemove>(); }
std::unique_ptr<Op> MakeLinkTimeout() { return Make<LinkTimeout>(); }
std::unique_ptr<Op> MakeCancel() { return Make<Cancel>(); }
std::unique_ptr<Op> MakePoll() { return Make<Poll>(); }
std::unique_ptr<Op> MakePollRemove() { return Make<PollRemove>(); }
std::unique_ptr<Op> MakeMsgRing() { return Make<MsgRing>(); }

}  // namespace escrow::sim
