#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "escrow/sim/buffer_groups.h"
#include "escrow/sim/buffer_table.h"
#include "escrow/sim/kernel_state.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op.h"
#include "escrow/sim/op_support.h"
#include "escrow/sim/ops.h"
#include "escrow/sim/request.h"
#include "escrow/sim/ring.h"

// Reading and writing files.

namespace escrow::sim {
namespace {

// Those of later kernels are refused by the system call.
constexpr std::uint32_t kHighPriority = 0x1;  // RWF_HIPRI
constexpr std::uint32_t kNoWait = 0x8;        // RWF_NOWAIT
constexpr std::uint32_t kAtomic = 0x40;       // RWF_ATOMIC
constexpr std::int64_t kCurrentPosition = -1;

enum class Way : std::uint8_t { kRead, kWrite };

// What READ, WRITE, and their variants have in common.
class Transfer : public Op {
 protected:
  explicit Transfer(Way way) : way_(way) {}

  int PrepareCommon(Request& request) {
    const io_uring_sqe& sqe = request.sqe();
    constexpr unsigned kClassShift = 13;
    constexpr unsigned kMostClass = 3;
    const unsigned priority_class = sqe.ioprio >> kClassShift;
    const bool level_of_none = priority_class == 0 && sqe.ioprio != 0;
    if (priority_class > kMostClass || level_of_none) return -EINVAL;
    if (sqe.attr_type_mask != 0) {
      return request.ring().kernel().Unsupported("attributes of transfers",
                                                 sqe.opcode);
    }
    position_ = static_cast<std::int64_t>(sqe.off);
    flags_ = static_cast<std::uint32_t>(sqe.rw_flags);
    return 0;
  }

  // What is to come after a Move() that has no result yet.
  enum class Next : std::uint8_t { kNothing, kWait, kWork };

  // Without blocking, where there are workers; where there are not, but on a
  // disk.
  std::int32_t Move(Request& request, const FileKind& kind, Vectors vectors,
                    Next* next) {
    *next = Next::kNothing;
    if (has_worked()) {
      const std::int32_t result = *std::exchange(worked_, std::nullopt);
      const std::size_t done = std::exchange(done_, 0);
      const auto total = static_cast<std::int32_t>(
          done + static_cast<std::size_t>(std::max(result, 0)));
      if (way_ == Way::kRead && total > 0) {
        AfterStoreEach(vectors, static_cast<std::size_t>(total));
      }
      return total > 0 ? total : result;
    }
    if ((flags_ & kHighPriority) != 0) return -EINVAL;
    std::size_t size = SizeOf(vectors);
    if (MayBeShort(kind, size)) {
      size = request.Shorten(size);
      vectors = First(vectors, size);
    }
    if (way_ == Way::kRead) {
      BeforeStoreEach(vectors);
    } else {
      BeforeLoadEach(vectors);
    }
    std::int32_t result;
    if (kind.IsOnDisk()) {
      result = MoveOnDisk(request, kind, vectors, next);
    } else {
      result = MoveWithoutBlocking(request, kind, vectors, next);
    }
    if (*next == Next::kWork) return 0;
    if (way_ == Way::kRead && result > 0) {
      AfterStoreEach(vectors, static_cast<std::size_t>(result));
    }
    if (*next == Next::kWait) {
      request.WaitFor(way_ == Way::kRead ? POLLIN : POLLOUT);
    }
    return result;
  }

  // Whether there is the result of a worker for it.
  bool has_worked() const noexcept { return worked_.has_value(); }

  void Work(Request& request) final {
    worked_ = Syscall(request.fd(), rest_, rest_position_, flags_);
  }

  Way way_;
  std::int64_t position_ = kCurrentPosition;
  std::uint32_t flags_ = 0;  // RWF_*

 private:
  bool MayBeShort(const FileKind& kind, std::size_t size) const noexcept {
    if (!kind.IsStream() || (flags_ & kAtomic) != 0) return false;
    constexpr std::size_t kPipeBuffer = 4096;
    return way_ == Way::kRead || kind.mode != S_IFIFO || size > kPipeBuffer;
  }

  std::int32_t Syscall(int fd, const Vectors& vectors, std::int64_t position,
                       std::uint32_t flags) const noexcept {
    const long number = way_ == Way::kRead ? SYS_preadv2 : SYS_pwritev2;
    return Call(number, fd, vectors.data(), vectors.size(), position, 0, flags);
  }

  void LeaveToWorker(const Vectors& vectors, std::int64_t position,
                     Next* next) {
    rest_ = vectors;
    rest_position_ = position;
    *next = Next::kWork;
  }

  // What is in memory is moved at once, the rest by a worker.
  std::int32_t MoveOnDisk(Request& request, const FileKind& kind,
                          const Vectors& vectors, Next* next) {
    const int fd = request.fd();
    if (!request.has_workers() || (flags_ & kNoWait) != 0) {
      return Syscall(fd, vectors, position_, flags_);
    }
    // These wait for the disk, whatever else they promise.
    constexpr int kWaits = O_DIRECT | O_SYNC | O_DSYNC;
    const bool waits = (kind.flags & kWaits) != 0 || flags_ != 0 ||
                       request.has_flag(IOSQE_ASYNC);
    while (!waits && done_ < SizeOf(vectors)) {
      const std::int32_t result =
          Syscall(fd, After(vectors, done_), PositionAfter(done_), kNoWait);
      if (result == -EAGAIN || result == -EOPNOTSUPP) break;
      if (result <= 0) {
        const std::size_t done = std::exchange(done_, 0);
        return done > 0 ? static_cast<std::int32_t>(done) : result;
      }
      done_ += static_cast<std::size_t>(result);
    }
    if (done_ > 0 && done_ == SizeOf(vectors)) {
      return static_cast<std::int32_t>(std::exchange(done_, 0));
    }
    LeaveToWorker(After(vectors, done_), PositionAfter(done_), next);
    return 0;
  }
  std::int64_t PositionAfter(std::size_t size) const noexcept {
    return position_ == kCurrentPosition
               ? position_
               : position_ + static_cast<std::int64_t>(size);
  }

  std::int32_t MoveWithoutBlocking(Request& request, const FileKind& kind,
                                   const Vectors& vectors, Next* next) {
    const int fd = request.fd();
    std::int64_t position = position_;
    std::int32_t result = Syscall(fd, vectors, position, flags_ | kNoWait);
    if (result == -ESPIPE && position != kCurrentPosition) {
      // What has no position does not mind one here.
      position = kCurrentPosition;
      result = Syscall(fd, vectors, position, flags_ | kNoWait);
    }
    const bool can_wait = (flags_ & kNoWait) == 0;
    if (result == -EOPNOTSUPP && can_wait) {
      // Not one of the files that know how not to block.
      const std::uint32_t events = way_ == Way::kRead ? POLLIN : POLLOUT;
      const std::uint32_t any = events | POLLERR | POLLHUP | POLLNVAL;
      if ((PollNow(fd, events) & any) == 0) {
        if ((kind.flags & O_NONBLOCK) == 0) *next = Next::kWait;
        return -EAGAIN;
      }
      if (request.has_workers() && (kind.flags & O_NONBLOCK) == 0) {
        // Somebody else may be faster.
        request.WorkMayNotEnd();
        LeaveToWorker(vectors, position, next);
        return 0;
      }
      return Syscall(fd, vectors, position, flags_);
    }
    if (result == -EAGAIN && can_wait) *next = Next::kWait;
    return result;
  }

  std::size_t done_ = 0;  // before a worker's part
  Vectors rest_;          // that
  std::int64_t rest_position_ = kCurrentPosition;
  std::optional<std::int32_t> worked_;
};

enum class Memory : std::uint8_t { kOne, kMany, kOneFixed, kManyFixed };

template <Way kWay, Memory kMemory>
class ReadWrite final : public Transfer {
 public:
  ReadWrite() : Transfer(kWay) {}

  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (const int error = PrepareCommon(request)) return error;
    if (request.has_flag(IOSQE_BUFFER_SELECT)) {
      asked_ = sqe.len;
      if (!kVectored) return 0;
      // The length of the only vector.
      if (sqe.len != 1) return -EINVAL;
      iovec vector;
      if (!Load(&vector, PointerTo(sqe.addr), sizeof(vector))) return -EFAULT;
      asked_ = vector.iov_len;
      return 0;
    }
    if (kVectored) {
      if (const int error = LoadVectors(sqe.addr, sqe.len, &vectors_)) {
        return error;
      }
    } else {
      vectors_.push_back(
          {PointerTo(sqe.addr), std::min<std::size_t>(sqe.len, kMaxTransfer)});
    }
    expected_ = SizeOf(vectors_);
    // A registered one is looked for when it is issued; if it is there now, it
    // most probably is then.
    if (kFixed) fixed_ = request.ring().buffers().Find(sqe.buf_index, vectors_);
    if (!kFixed || fixed_ != nullptr) HoldVectors(request);
    return 0;
  }

  Attempt Try(Request& request) override {
    if (kFixed && !imported_) {
      const bool held = fixed_ != nullptr;
      fixed_ = request.ring().buffers().Find(request.sqe().buf_index, vectors_);
      if (fixed_ == nullptr) return Attempt::Done(-EFAULT);
      if (!held) HoldVectors(request);
      imported_ = true;
    }
    BufferGroups& groups = request.ring().groups();
    const FileKind kind = KindOf(request.fd());
    if (request.has_flag(IOSQE_BUFFER_SELECT) && !has_worked()) {
      if (const int error = groups.Select(request.sqe().buf_group, asked_,
                                          /*enough=*/0, &selection_)) {
        return Attempt::Done(error);
      }
      vectors_ = selection_.vectors;
      expected_ = SizeOf(vectors_);
      // What cannot be waited for is not given back.
      if (kind.IsOnDisk()) {
        groups.Commit(request, Use::kWrite, expected_, &selection_);
      }
    }
    Next next;
    const std::int32_t result = Move(request, kind, vectors_, &next);
    if (next == Next::kWork) {
      if (request.has_flag(IOSQE_BUFFER_SELECT)) {
        groups.Commit(request, Use::kWrite, expected_, &selection_);
      }
      return Attempt::Works();
    }
    if (next == Next::kWait) {
      groups.PutBack(&selection_);
      return Attempt::Blocked();
    }
    return Attempt::Done(result, groups.Used(request, result, &selection_));
  }

  bool BreaksChain(const Request&, std::int32_t result) const override {
    return result < 0 || static_cast<std::size_t>(result) != expected_;
  }

 private:
  static constexpr bool kVectored =
      kMemory == Memory::kMany || kMemory == Memory::kManyFixed;
  static constexpr bool kFixed =
      kMemory == Memory::kOneFixed || kMemory == Memory::kManyFixed;

  void HoldVectors(Request& request) {
    HoldEach(request, kWay == Way::kRead ? Use::kWrite : Use::kRead, vectors_,
             "buffer");
  }

  Vectors vectors_;
  Selection selection_;
  std::shared_ptr<BufferTable::Buffer> fixed_;
  bool imported_ = false;
  std::size_t asked_ = 0;  // of a selected buffer; 0: all of it
  std::size_t expected_ = 0;
};

class ReadMultishot final : public Transfer {
 public:
  ReadMultishot() : Transfer(Way::kRead) {}

  int Prepare(Request& request) override {
    const io_uring_sqe& sqe = request.sqe();
    if (!request.has_flag(IOSQE_BUFFER_SELECT)) return -EINVAL;
    if (const int error = PrepareCommon(request)) return error;
    return sqe.addr != 0 || sqe.len != 0 ? -EINVAL : 0;
  }

  Attempt Try(Request& request) override {
    BufferGroups& groups = request.ring().groups();
    const FileKind kind = KindOf(request.fd());
    if (kind.IsOnDisk()) return Attempt::Done(-EBADFD);
    for (;;) {
      if (!has_worked()) {
        if (const int error = groups.Select(request.sqe().buf_group, 0,
                                            /*enough=*/0, &selection_)) {
          return Attempt::Done(error);
        }
      }
      Next next;
      const std::int32_t result =
          Move(request, kind, selection_.vectors, &next);
      if (next == Next::kWork) {
        groups.Commit(request, Use::kWrite, SizeOf(selection_.vectors),
                      &selection_);
        return Attempt::Works();
      }
      if (result <= 0 && selection_.committed) {
        return Attempt::Done(result, groups.Used(request, result, &selection_));
      }
      if (result <= 0) {
        groups.PutBack(&selection_);
        return next == Next::kWait ? Attempt::Blocked() : Attempt::Done(result);
      }
      const std::uint32_t flags = groups.Used(request, result, &selection_);
      if (request.EndsByChoice() || !request.Post(result, flags)) {
        return Attempt::Done(result, flags);
      }
    }
  }

 private:
  Selection selection_;
};

}  // namespace

std::unique_ptr<Op> MakeRead() {
  return Make<ReadWrite<Way::kRead, Memory::kOne>>();
}
std::unique_ptr<Op> MakeWrite() {
  return Make<ReadWrite<Way::kWrite, Memory::kOne>>();
}
std::unique_ptr<Op> MakeReadv() {
  return Make<ReadWrite<Way::kRead, Memory::kMany>>();
}
std::unique_ptr<Op> MakeWritev() {
  return Make<ReadWrite<Way::kWrite, Memory::kMany>>();
}
std::unique_ptr<Op> MakeReadFixed() {
  return Make<ReadWrite<Way::kRead, Memory::kOneFixed>>();
}
std::unique_ptr<Op> MakeWriteFixed() {
  return Make<ReadWrite<Way::kWrite, Memory::kOneFixed>>();
}
std::unique_ptr<Op> MakeReadvFixed() {
  return Make<ReadWrite<Way::kRead, Memory::kManyFixed>>();
}
std::unique_ptr<Op> MakeWritevFixed() {
  return Make<ReadWrite<Way::kWrite, Memory::kManyFixed>>();
}
std::unique_ptr<Op> MakeReadMultishot() { return Make<ReadMultishot>(); }

}  // namespace escrow::sim
