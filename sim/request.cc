#include "escrow/sim/request.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "escrow/sim/choices.h"
#include "escrow/sim/file.h"
#include "escrow/sim/kernel_state.h"
#include "escrow/sim/ledger.h"
#include "escrow/sim/op.h"
#include "escrow/sim/ring.h"

namespace escrow::sim {
namespace {

const OpType kUnknown = {
    .opcode = IORING_OP_LAST, .name = "an unknown opcode", .errors = {}};

const OpType& TypeOf(unsigned opcode) noexcept {
  const OpType* const type = FindOp(opcode);
  return type == nullptr ? kUnknown : *type;
}

constexpr unsigned kKnownFlags =
    IOSQE_FIXED_FILE | IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK |
    IOSQE_ASYNC | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;

}  // namespace

Request::Request(Ring& ring, const io_uring_sqe* entry, std::size_t bytes,
                 std::uint32_t its_sequence)
    : type(TypeOf(entry->opcode)), sequence(its_sequence), ring_(ring) {
  std::memcpy(entry_, entry, bytes);
  owner = {.name = type.name,
           .user_data = sqe().user_data,
           .submitted = Stack::Here()};
}

Request::~Request() {
  StopWaiting();
  op.reset();
  ReleaseAll(owner);
  delete next_link;
}

int Request::Prepare() {
  if (type.make == nullptr) {
    return sqe().opcode < IORING_OP_LAST
               ? ring_.kernel().Unsupported("opcode", sqe().opcode)
               : -EINVAL;
  }
  if ((sqe().flags & ~kKnownFlags) != 0) return -EINVAL;
  if (has_flag(IOSQE_BUFFER_SELECT) && !type.selects) return -EOPNOTSUPP;
  if (has_flag(IOSQE_CQE_SKIP_SUCCESS) && has_flag(IOSQE_IO_DRAIN)) {
    return -EOPNOTSUPP;
  }
  op = type.make();
  return op->Prepare(*this);
}

int Request::Resolve() {
  if (type.file == FileUse::kNone) return 0;
  if (has_flag(IOSQE_FIXED_FILE)) {
    const File* const file =
        ring_.files().Find(static_cast<std::uint32_t>(sqe().fd));
    if (file == nullptr) return type.file == FileUse::kOptional ? 0 : -EBADF;
    file_ = File::Borrow(file->fd());
    registered_ = ring_.files().Share(static_cast<std::uint32_t>(sqe().fd));
    return 0;
  }
  // What is not open is found out by trying.
  file_ = File::Borrow(sqe().fd);
  if (type.file == FileUse::kOptional || file_.IsOpen()) return 0;
  return -EBADF;
}

void Request::Keep() {
  if (!file_.valid() || file_.owned()) return;
  File kept = File::Duplicate(file_.fd());
  if (!kept.valid()) return;
  if (wait_fd_ == file_.fd()) wait_fd_ = kept.fd();
  file_ = std::move(kept);
}

void Request::Hold(Use use, const void* data, std::size_t size,
                   const char* what) {
  ring_.kernel().UseMemory();
  sim::Hold(owner, use, const_cast<void*>(data), size, what);
}

bool Request::has_workers() const noexcept {
  return ring_.kernel().options().threads;
}

void Request::WaitUntil(std::int64_t time) noexcept {
  time_ = time;
  if (has_workers()) {
    ring_.kernel().background().WaitNoLongerThan(time - ring_.Now());
  }
}

void Request::WaitFor(int fd, std::uint32_t events) noexcept {
  wait_fd_ = fd;
  wait_events_ = events;
}

void Request::Watch(int epoll) {
  // Edges: an event is told once, and again when it happens anew.
  const std::uint32_t events = wait_events_ | EPOLLET;
  epoll_event event = {.events = events, .data = {.ptr = this}};
  if (watched_.valid() && watched_fd_ == wait_fd_) {
    if (watched_events_ == events) return;
    watched_events_ = events;
    if (::epoll_ctl(epoll, EPOLL_CTL_MOD, watched_.fd(), &event) != 0) {
      ready = true;
    }
    return;
  }
  StopWaiting();
  watched_ = File::Duplicate(wait_fd_);
  watched_fd_ = wait_fd_;
  watched_events_ = events;
  epoll_ = epoll;
  // A file that cannot be polled is always ready.
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, watched_.fd(), &event) != 0) {
    watched_ = File();
    ready = true;
  }
}

void Request::StopWaiting() noexcept {
  if (!watched_.valid()) return;
  // Other descriptors of the file may be open, which keep the entry.
  (void)::epoll_ctl(epoll_, EPOLL_CTL_DEL, watched_.fd(), nullptr);
  watched_ = File();
}

void Request::OnEvents(std::uint32_t events) noexcept {
  events_ |= events;
  // Another thread may have found them.
  Retry();
}

std::uint32_t Request::TakeEvents() noexcept {
  return std::exchange(events_, 0);
}

void Request::Retry() noexcept {
  ready = true;
  ring_.WakeWhoeverProgresses();
}

bool Request::Post(std::int32_t result, std::uint32_t flags) {
  return ring_.PostIfRoom(owner.user_data, result, flags | IORING_CQE_F_MORE,
                          ring_.Give(*this, result));
}

std::size_t Request::Shorten(std::size_t size) {
  if (size <= 1) return size;
  // Not by too many ways: what matters is that it is less.
  constexpr std::size_t kWays = 8;
  const unsigned ways = static_cast<unsigned>(std::min(size, kWays));
  const unsigned way =
      ring_.choices().Choose(ChoicePoint::kShortTransfer, ways);
  if (way == 0) return size;
  return way == 1 ? 1 : std::max<std::size_t>(1, size - size * way / ways);
}

bool Request::EndsByChoice() {
  return ring_.choices().Happens(ChoicePoint::kMultishotEnds);
}

}  // namespace escrow::sim
