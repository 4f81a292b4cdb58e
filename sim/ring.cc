#include "escrow/sim/ring.h"

#include <fcntl.h>
#include <linux/time_types.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "escrow/sim/choices.h"
#include "escrow/sim/file.h"
#include "escrow/sim/kernel_state.h"
#include "escrow/sim/ledger.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op.h"
#include "escrow/sim/real_call.h"
#include "escrow/sim/request.h"

namespace escrow::sim {
namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;

// Where things are in a ring's memory, as Linux has them.
constexpr std::uint32_t kSqHead = 0;
constexpr std::uint32_t kSqTail = 64;
constexpr std::uint32_t kCqHead = 128;
constexpr std::uint32_t kCqTail = 192;
constexpr std::uint32_t kSqMask = 256;
constexpr std::uint32_t kCqMask = 260;
constexpr std::uint32_t kSqEntries = 264;
constexpr std::uint32_t kCqEntries = 268;
constexpr std::uint32_t kSqDropped = 272;
constexpr std::uint32_t kSqFlags = 276;
constexpr std::uint32_t kCqFlags = 280;
constexpr std::uint32_t kCqOverflow = 284;
constexpr std::uint32_t kCqes = 320;
constexpr std::size_t kPage = 4096;

constexpr std::uint32_t kFeatures =
    IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
    IORING_FEAT_RW_CUR_POS | IORING_FEAT_CUR_PERSONALITY |
    IORING_FEAT_FAST_POLL | IORING_FEAT_POLL_32BITS |
    IORING_FEAT_SQPOLL_NONFIXED | IORING_FEAT_EXT_ARG |
    IORING_FEAT_NATIVE_WORKERS | IORING_FEAT_RSRC_TAGS | IORING_FEAT_CQE_SKIP |
    IORING_FEAT_LINKED_FILE | IORING_FEAT_REG_REG_RING |
    IORING_FEAT_RECVSEND_BUNDLE | IORING_FEAT_MIN_TIMEOUT |
    IORING_FEAT_NO_IOWAIT;

constexpr unsigned kLinkFlags = IOSQE_IO_LINK | IOSQE_IO_HARDLINK;

// How often in a row a schedule may have the kernel put something off, so that
// every program comes to its end.
constexpr unsigned kPatience = 3;

std::size_t RoundUp(std::size_t size, std::size_t to) noexcept {
  return (size + to - 1) / to * to;
}

std::int64_t ToNanoseconds(const __kernel_timespec& time) noexcept {
  return time.tv_sec * kNanoseconds + time.tv_nsec;
}

// In others a worker does not wait: it leaves that to a poll.
bool WaitsInWorker(const Request& request) noexcept {
  return request.type.opcode == IORING_OP_SPLICE ||
         request.type.opcode == IORING_OP_TEE;
}

}  // namespace

// What an enter waits for.
struct Ring::Wait {
  std::optional<std::int64_t> deadline;  // of the ring's clock
  // From when on one completion is enough.
  std::optional<std::int64_t> enough;
  const sigset_t* mask = nullptr;
};

Ring::Ring(Kernel& kernel, std::uint32_t setup_flags, unsigned entries,
           unsigned completion_entries)
    : kernel_(kernel),
      setup_flags_(setup_flags),
      sq_entries_(entries),
      cq_entries_(completion_entries),
      entry_bytes_((setup_flags & IORING_SETUP_SQE128) != 0 ? 128 : 64),
      completion_bytes_((setup_flags & IORING_SETUP_CQE32) != 0 ? 32 : 16),
      clock_(CLOCK_MONOTONIC),
      disabled_((setup_flags & IORING_SETUP_R_DISABLED) != 0),
      issuer_(disabled_ ? 0 : ThreadId()) {}

Ring::~Ring() {
  while (!requests_.empty()) Forget(*requests_.back());
  for (Request* const head : drain_queue_) delete head;
  for (const Part& part : {own_rings_, own_entries_}) {
    if (part.address != nullptr) {
      RealCall(SYS_munmap, reinterpret_cast<long>(part.address),
               static_cast<long>(part.length));
    }
  }
}

Choices& Ring::choices() noexcept { return kernel_.options().choices; }

std::int64_t Ring::Now() const noexcept { return kernel_.Now(clock_); }

// Memory.

int Ring::MakeMemory(int fd) {
  array_offset_ = RoundUp(kCqes + cq_entries_ * completion_bytes_, 64);
  rings_size_ = array_offset_ + sq_entries_ * sizeof(std::uint32_t);
  const std::size_t size =
      IORING_OFF_SQES + RoundUp(sq_entries_ * entry_bytes_, kPage);
  int made = ::memfd_create("[io_uring]", MFD_CLOEXEC);
  if (made < 0) return -errno;
  if (kernel_.options().threads) {
    memory_ = File::Adopt(made);
    if (!memory_.valid() ||
        ::ftruncate(memory_.fd(), static_cast<::off_t>(size)) != 0) {
      return -errno;
    }
    return fd >= 0 ? 0 : MakeSocket();
  }
  if (kernel_.first_ring() > 0) {
    const int low = std::exchange(
        made, static_cast<int>(RealCall(SYS_fcntl, made, F_DUPFD_CLOEXEC,
                                        kernel_.first_ring())));
    RealCall(SYS_close, low);
    if (made < 0) return made;
  }
  if (::ftruncate(made, static_cast<::off_t>(size)) == 0) {
    file_ = FileIdentity::Of(made);
  } else {
    file_.reset();
  }
  if (!file_.has_value()) {
    const int error = errno;
    RealCall(SYS_close, made);
    return -error;
  }
  if (fd >= 0) {
    RealCall(SYS_dup3, made, fd, O_CLOEXEC);
    RealCall(SYS_close, made);
  } else {
    fd_ = made;
  }
  memory_ = File::Borrow(fd_);
  return 0;
}

int Ring::MakeSocket() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                   ends) != 0) {
    return -errno;
  }
  fd_ = ends[0];
  peer_ = File::Adopt(ends[1]);
  file_ = FileIdentity::Of(fd_);
  return 0;
}

void Ring::WriteSizes() {
  StoreWord(kSqMask, sq_entries_ - 1);
  StoreWord(kCqMask, cq_entries_ - 1);
  StoreWord(kSqEntries, sq_entries_);
  StoreWord(kCqEntries, cq_entries_);
}

void Ring::Describe(io_uring_params& params) const noexcept {
  const std::uint64_t rings_at = params.cq_off.user_addr;
  const std::uint64_t entries_at = params.sq_off.user_addr;
  params.sq_entries = sq_entries_;
  params.cq_entries = cq_entries_;
  params.sq_off = {.head = kSqHead,
                   .tail = kSqTail,
                   .ring_mask = kSqMask,
                   .ring_entries = kSqEntries,
                   .flags = kSqFlags,
                   .dropped = kSqDropped,
                   .array = has(IORING_SETUP_NO_SQARRAY)
                                ? 0
                                : static_cast<std::uint32_t>(array_offset_),
                   .resv1 = 0,
                   .user_addr = entries_at};
  params.cq_off = {.head = kCqHead,
                   .tail = kCqTail,
                   .ring_mask = kCqMask,
                   .ring_entries = kCqEntries,
                   .overflow = kCqOverflow,
                   .cqes = kCqes,
                   .flags = kCqFlags,
                   .resv1 = 0,
                   .user_addr = rings_at};
}

int Ring::Open(io_uring_params& params) {
  if (const int error = MakeMemory(-1)) return error;
  if (has(IORING_SETUP_NO_MMAP)) {
    rings_ = reinterpret_cast<std::byte*>(params.cq_off.user_addr);
    entries_ = reinterpret_cast<std::byte*>(params.sq_off.user_addr);
    if (rings_ == nullptr || entries_ == nullptr) {
      RealCall(SYS_close, fd_);
      return -EFAULT;
    }
    owner_.submitted = Stack::Here();
    Hold(owner_, Use::kRegistered, rings_, rings_size_, "ring memory");
    Hold(owner_, Use::kRegistered, entries_, sq_entries_ * entry_bytes_,
         "ring memory");
  }
  WriteSizes();
  // Its thread sleeps whenever it can, so that the program calls in.
  if (has(IORING_SETUP_SQPOLL)) SetFlag(IORING_SQ_NEED_WAKEUP, true);
  Describe(params);
  params.features = kFeatures;
  if (kernel_.options().threads) params.features &= ~IORING_FEAT_REG_REG_RING;
  if (has(IORING_SETUP_REGISTERED_FD_ONLY)) {
    memory_ = File::Duplicate(fd_);
    RealCall(SYS_close, std::exchange(fd_, -1));
    return 0;
  }
  return fd_;
}

// The program maps the new queues after this, and unmaps the old ones, which
// stay as they were until then.
int Ring::Resize(void* argument, unsigned count) {
  if (count != 1 || !has(IORING_SETUP_DEFER_TASKRUN) ||
      has(IORING_SETUP_NO_MMAP)) {
    return -EINVAL;
  }
  io_uring_params params;
  if (!Load(&params, argument, sizeof(params))) return -EFAULT;
  constexpr std::uint32_t kMay = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  if ((params.flags & ~kMay) != 0) return -EINVAL;
  if (const int error = ChooseSizes(params.sq_entries, params)) return error;

  const std::uint32_t sq_head = LoadWord(kSqHead);
  const std::uint32_t sq_tail = LoadWord(kSqTail);
  const std::uint32_t cq_head = LoadWord(kCqHead);
  const std::uint32_t cq_tail = LoadWord(kCqTail);
  if (sq_tail - sq_head > params.sq_entries ||
      cq_tail - cq_head > params.cq_entries) {
    return -EOVERFLOW;
  }
  const std::uint32_t flags = LoadWord(kSqFlags);
  const std::uint32_t cq_flags = LoadWord(kCqFlags);
  std::vector<std::byte> old_entries(sq_entries_ * entry_bytes_);
  std::memcpy(old_entries.data(), Entry(0), old_entries.size());
  std::vector<std::byte> old_completions(cq_entries_ * completion_bytes_);
  std::byte* const old_slots = Memory(IORING_OFF_SQ_RING) + kCqes;
  if (rings_ != nullptr) {
    sim::Open(old_slots, old_completions.size());
  }
  std::memcpy(old_completions.data(), old_slots, old_completions.size());
  const std::uint32_t old_sq_mask = sq_entries_ - 1;
  const std::uint32_t old_cq_mask = cq_entries_ - 1;

  sq_entries_ = params.sq_entries;
  cq_entries_ = params.cq_entries;
  if (const int error = MakeMemory(fd_)) return error;
  for (Part* const part : {&own_rings_, &own_entries_}) {
    if (part->address != nullptr) {
      RealCall(SYS_munmap, reinterpret_cast<long>(part->address),
               static_cast<long>(part->length));
    }
    *part = {};
  }
  rings_ = nullptr;
  entries_ = nullptr;
  WriteSizes();
  StoreWord(kSqHead, sq_head);
  StoreWord(kSqTail, sq_tail);
  StoreWord(kCqHead, cq_head);
  StoreWord(kCqTail, cq_tail);
  StoreWord(kSqFlags, flags);
  StoreWord(kCqFlags, cq_flags);
  for (std::uint32_t i = sq_head; i != sq_tail; ++i) {
    std::memcpy(Entry(i & (sq_entries_ - 1)),
                &old_entries[(i & old_sq_mask) * entry_bytes_], entry_bytes_);
  }
  std::byte* const slots = Memory(IORING_OFF_SQ_RING) + kCqes;
  for (std::uint32_t i = cq_head; i != cq_tail; ++i) {
    std::memcpy(&slots[(i & (cq_entries_ - 1)) * completion_bytes_],
                &old_completions[(i & old_cq_mask) * completion_bytes_],
                completion_bytes_);
  }
  Describe(params);
  return Store(argument, &params, sizeof(params)) ? 0 : -EFAULT;
}

void* Ring::Map(void* address, std::size_t length, int protection, int flags,
                ::off_t offset) noexcept {
  // The queues are one mapping, to be had under either name.
  const ::off_t real = offset == static_cast<::off_t>(IORING_OFF_CQ_RING)
                           ? IORING_OFF_SQ_RING
                           : offset;
  const int buffers = groups_.FileAt(offset);
  const long mapped =
      RealCall(SYS_mmap, reinterpret_cast<long>(address),
               static_cast<long>(length), protection, flags & ~MAP_POPULATE,
               buffers >= 0 ? buffers : memory_.fd(), buffers >= 0 ? 0 : real);
  if (mapped < 0 && mapped > -4096) {
    errno = static_cast<int>(-mapped);
    return MAP_FAILED;
  }
  auto* const at = reinterpret_cast<std::byte*>(mapped);
  parts_.push_back({at, length, real});
  if (real == static_cast<::off_t>(IORING_OFF_SQ_RING) && rings_ == nullptr &&
      length >= kCqes + cq_entries_ * completion_bytes_) {
    rings_ = at;
    const std::uint32_t head = LoadWord(kCqHead);
    slots_closed_to_ = head;
    for (std::uint32_t i = LoadWord(kCqTail); i != head + cq_entries_; ++i) {
      const std::size_t slot = i & (cq_entries_ - 1);
      sim::Close(rings_ + kCqes + slot * completion_bytes_, completion_bytes_);
    }
  } else if (real == static_cast<::off_t>(IORING_OFF_SQES) &&
             entries_ == nullptr) {
    entries_ = at;
  } else if (buffers >= 0) {
    groups_.Mapped(offset, at);
  }
  return at;
}

bool Ring::Unmap(void* address, std::size_t length) noexcept {
  const auto* const begin = static_cast<std::byte*>(address);
  bool any = false;
  std::erase_if(parts_, [&](const Part& part) {
    auto* const at = static_cast<std::byte*>(part.address);
    if (at < begin || at >= begin + length) return false;
    if (at == rings_) {
      sim::Open(rings_ + kCqes, cq_entries_ * completion_bytes_);
      rings_ = nullptr;
    }
    if (at == entries_) entries_ = nullptr;
    groups_.Unmapped(at);
    any = true;
    return true;
  });
  return any;
}

bool Ring::Covers(const void* address) const noexcept {
  const auto* const at = static_cast<const std::byte*>(address);
  return std::any_of(parts_.begin(), parts_.end(), [at](const Part& part) {
    const auto* const begin = static_cast<const std::byte*>(part.address);
    return at >= begin && at < begin + part.length;
  });
}

std::byte* Ring::Memory(::off_t offset) noexcept {
  const bool queues = offset == static_cast<::off_t>(IORING_OFF_SQ_RING);
  if (std::byte* const mapped = queues ? rings_ : entries_) return mapped;
  // Before the program has mapped it, or afterwards.
  Part& own = queues ? own_rings_ : own_entries_;
  if (own.address == nullptr) {
    const std::size_t length =
        RoundUp(queues ? rings_size_ : sq_entries_ * entry_bytes_, kPage);
    const long mapped =
        RealCall(SYS_mmap, 0, static_cast<long>(length), PROT_READ | PROT_WRITE,
                 MAP_SHARED, memory_.fd(), offset);
    own = {reinterpret_cast<void*>(mapped), length, offset};
  }
  return static_cast<std::byte*>(own.address);
}

std::uint32_t& Ring::Word(std::uint32_t offset) noexcept {
  return *reinterpret_cast<std::uint32_t*>(Memory(IORING_OFF_SQ_RING) + offset);
}
std::uint32_t Ring::LoadWord(std::uint32_t offset) noexcept {
  return __atomic_load_n(&Word(offset), __ATOMIC_ACQUIRE);
}
void Ring::StoreWord(std::uint32_t offset, std::uint32_t value) noexcept {
  __atomic_store_n(&Word(offset), value, __ATOMIC_RELEASE);
}

std::byte* Ring::Entry(std::uint32_t index) noexcept {
  return Memory(static_cast<::off_t>(IORING_OFF_SQES)) + index * entry_bytes_;
}

void Ring::SetTaskrun() noexcept {
  SetFlag(IORING_SQ_TASKRUN, busy() || readable_);
}

bool Ring::IsReadable() noexcept {
  return told_ || Available() > 0 || !overflow_.empty();
}

void Ring::WriteToPeer() noexcept {
  const char byte = 0;
  (void)!::write(peer_.fd(), &byte, 1);
}

void Ring::ShowReadable() noexcept {
  if (closed_ || !peer_.valid() || IsReadable() == readable_) return;
  readable_ = !readable_;
  SetTaskrun();
  if (readable_) {
    WriteToPeer();
    return;
  }
  char bytes[64];
  while (::read(fd_, bytes, sizeof(bytes)) > 0) continue;
}

void Ring::SetFlag(std::uint32_t flag, bool set) noexcept {
  if (closed_) return;
  const std::uint32_t flags = LoadWord(kSqFlags);
  const std::uint32_t changed = set ? flags | flag : flags & ~flag;
  if (changed != flags) StoreWord(kSqFlags, changed);
}

// Completions.

std::uint32_t Ring::Available() noexcept {
  return LoadWord(kCqTail) - LoadWord(kCqHead);
}

// What the program has marked seen is not its any more.
void Ring::CloseSlots() {
  if (rings_ == nullptr || closed_) return;
  const std::uint32_t head = LoadWord(kCqHead);
  if (head - slots_closed_to_ > cq_entries_) {
    slots_closed_to_ = head - cq_entries_;
  }
  for (; slots_closed_to_ != head; ++slots_closed_to_) {
    const std::size_t slot = slots_closed_to_ & (cq_entries_ - 1);
    sim::Close(rings_ + kCqes + slot * completion_bytes_, completion_bytes_);
  }
}

bool Ring::WriteCompletion(const Overflow& completion) {
  CloseSlots();
  const std::uint32_t tail = LoadWord(kCqTail);
  const bool wide_in_mixed =
      has(IORING_SETUP_CQE_MIXED) && (completion.flags & IORING_CQE_F_32) != 0;
  std::uint32_t used = tail - LoadWord(kCqHead);
  const std::uint32_t index = tail & (cq_entries_ - 1);
  const auto write = [&](std::uint32_t slot, const Overflow& its,
                         std::size_t bytes) {
    std::byte* const at =
        Memory(IORING_OFF_SQ_RING) + kCqes + slot * completion_bytes_;
    if (at != nullptr && rings_ != nullptr) sim::Open(at, bytes);
    std::memcpy(at, &its, bytes);
  };
  if (wide_in_mixed) {
    // It must not wrap around: what is left there is skipped.
    const bool at_end = index + 1 == cq_entries_;
    if (used + (at_end ? 3 : 2) > cq_entries_) return false;
    if (at_end) {
      write(index, {0, 0, IORING_CQE_F_SKIP, {}, nullptr}, 16);
      StoreWord(kCqTail, tail + 1);
      write(0, completion, 32);
      StoreWord(kCqTail, tail + 3);
    } else {
      write(index, completion, 32);
      StoreWord(kCqTail, tail + 2);
    }
    return true;
  }
  if (used >= cq_entries_) return false;
  if (completion.given != nullptr) completion.given->position = tail;
  write(index, completion, completion_bytes_);
  StoreWord(kCqTail, tail + 1);
  return true;
}

Given* Ring::Give(const Request& request, std::int32_t result) {
  const io_uring_sqe& sqe = request.sqe();
  const unsigned opcode = request.type.opcode;
  const bool opens = opcode == IORING_OP_OPENAT ||
                     opcode == IORING_OP_OPENAT2 ||
                     opcode == IORING_OP_ACCEPT || opcode == IORING_OP_SOCKET;
  if (result < 0 || request.op == nullptr || kernel_.options().threads ||
      !(opens ? sqe.file_index == 0 : opcode == IORING_OP_FIXED_FD_INSTALL)) {
    return nullptr;
  }
  if (closed_) {
    kernel_.Lost(Given(request.owner, result));
    return nullptr;
  }
  DropSeen();
  given_.push_back(std::make_unique<Given>(request.owner, result));
  return given_.back().get();
}

void Ring::DropSeen() noexcept {
  const std::uint32_t head = LoadWord(kCqHead);
  std::erase_if(given_, [head](const std::unique_ptr<Given>& given) {
    return given->position.has_value() &&
           static_cast<std::int32_t>(head - *given->position) > 0;
  });
}

bool Ring::PostOrKeep(std::uint64_t user_data, std::int32_t result,
                      std::uint32_t flags, Given* given) {
  if (closed_) return true;
  const Overflow completion = {user_data, result, flags, {}, given};
  // In order: behind those that wait already.
  const bool posted = overflow_.empty() && WriteCompletion(completion);
  if (!posted) {
    overflow_.push_back(completion);
    SetFlag(IORING_SQ_CQ_OVERFLOW, true);
  }
  Posted();
  return posted;
}

bool Ring::PostIfRoom(std::uint64_t user_data, std::int32_t result,
                      std::uint32_t flags, Given* given) {
  if (closed_) return true;
  if (!overflow_.empty() ||
      !WriteCompletion({user_data, result, flags, {}, given})) {
    std::erase_if(given_,
                  [given](const auto& each) { return each.get() == given; });
    return false;
  }
  Posted();
  return true;
}

void Ring::Posted() {
  ++posted_;
  for (Request* const request : requests_) request->ready |= request->counts;
  if (in_worker_ || !eventfd_async_) SignalEventfd();
  // Whoever waits for an edge has taken all that was there.
  constexpr std::uint32_t kFirst = 3;
  if (readable_ && Available() <= kFirst) WriteToPeer();
  kernel_.Posted(*this);
  WakeWaiter();
}

void Ring::SignalEventfd() noexcept {
  if (!eventfd_.valid() ||
      (LoadWord(kCqFlags) & IORING_CQ_EVENTFD_DISABLED) != 0) {
    return;
  }
  const std::uint64_t one = 1;
  (void)!::write(eventfd_.fd(), &one, sizeof(one));
}

bool Ring::PostForeign(std::uint64_t user_data, std::int32_t result,
                       std::uint32_t flags) {
  const bool posted = PostOrKeep(user_data, result, flags);
  if (!attended()) ShowReadable();
  return posted;
}

void Ring::FlushOverflow(bool forced) {
  if (overflow_.empty()) return;
  if (!forced && flushes_put_off_ < kPatience &&
      choices().Happens(ChoicePoint::kOverflowFlush)) {
    ++flushes_put_off_;
    return;
  }
  flushes_put_off_ = 0;
  std::size_t flushed = 0;
  while (flushed < overflow_.size() && WriteCompletion(overflow_[flushed])) {
    ++flushed;
  }
  overflow_.erase(overflow_.begin(),
                  overflow_.begin() + static_cast<std::ptrdiff_t>(flushed));
  SetFlag(IORING_SQ_CQ_OVERFLOW, !overflow_.empty());
}

// The last completion of a request, unless a notification follows.
void Ring::Complete(Request& request, std::int32_t result,
                    std::uint32_t flags) {
  Request* const links = std::exchange(request.next_link, nullptr);
  const bool breaks = request.op == nullptr
                          ? result < 0
                          : request.op->BreaksChain(request, result);
  const bool hard = request.has_flag(IOSQE_IO_HARDLINK);
  if (Request* const timeout = std::exchange(request.link_timeout, nullptr)) {
    timeout->timed = nullptr;
    Complete(*timeout, -ECANCELED, 0);
  }
  if (Request* const timed = std::exchange(request.timed, nullptr)) {
    timed->link_timeout = nullptr;
  }
  const bool quiet = request.has_flag(IOSQE_CQE_SKIP_SUCCESS) && !breaks;
  if (request.notifies()) {
    request.stage = Request::Stage::kNotifying;
    request.ready = true;
    request.skipped = 0;
    request.StopWaiting();
    PostOrKeep(request.owner.user_data, result, flags | IORING_CQE_F_MORE);
  } else {
    const std::uint64_t user_data = request.owner.user_data;
    Given* const given = quiet ? nullptr : Give(request, result);
    Forget(request);
    if (!quiet) PostOrKeep(user_data, result, flags, given);
  }
  if (links == nullptr) return;
  if (closed_ || (breaks && !hard)) {
    CancelLinks(links, -ECANCELED);
  } else {
    Issue(*links);
  }
}

void Ring::FinishNotification(Request& request) {
  const std::uint64_t user_data = request.owner.user_data;
  const std::int32_t notification = request.notification();
  Forget(request);
  PostOrKeep(user_data, notification, IORING_CQE_F_NOTIF);
}

void Ring::CancelLinks(Request* links, std::int32_t first_error) {
  while (links != nullptr) {
    Request* const request = links;
    links = std::exchange(request->next_link, nullptr);
    const std::int32_t error =
        request->refused != 0 ? request->refused : first_error;
    const std::uint64_t user_data = request->owner.user_data;
    const bool notifies = request->notifies();
    const bool announced = notifies && request->refused != 0;
    const std::int32_t notification = request->notification();
    Forget(*request);
    PostOrKeep(user_data, error, announced ? IORING_CQE_F_MORE : 0);
    if (announced ||
        (notifies && !choices().Happens(ChoicePoint::kStrayNotification))) {
      PostOrKeep(user_data, notification, IORING_CQE_F_NOTIF);
    }
  }
}

void Ring::Forget(Request& request) noexcept {
  std::erase(requests_, &request);
  delete &request;
}

// Submission.

std::uint32_t Ring::EntryIndex(std::uint32_t at) noexcept {
  const std::uint32_t index = at & (sq_entries_ - 1);
  if (has(IORING_SETUP_NO_SQARRAY)) return index;
  return __atomic_load_n(reinterpret_cast<std::uint32_t*>(
                             Memory(IORING_OFF_SQ_RING) + array_offset_) +
                             index,
                         __ATOMIC_RELAXED);
}
std::uint32_t Ring::QueueHead() noexcept { return LoadWord(kSqHead); }
std::uint32_t Ring::QueueTail() noexcept { return LoadWord(kSqTail); }

Request* Ring::Consume() {
  const std::uint32_t head = LoadWord(kSqHead);
  if (head == LoadWord(kSqTail)) return nullptr;
  const std::uint32_t index = EntryIndex(head);
  if (index >= sq_entries_) {
    StoreWord(kSqDropped, LoadWord(kSqDropped) + 1);
    StoreWord(kSqHead, head + 1);
    return nullptr;
  }
  const auto* const entry = reinterpret_cast<const io_uring_sqe*>(Entry(index));
  CheckUserData(*entry);
  auto request =
      std::make_unique<Request>(*this, entry, entry_bytes_, sequence_++);
  if (!has(IORING_SETUP_SQPOLL)) request->thread = ThreadId();
  KeepEntry(index);
  StoreWord(kSqHead, head + 1);
  request->refused = request->Prepare();
  return request.release();
}

int Ring::Submit(unsigned count) {
  const std::uint32_t queued = LoadWord(kSqTail) - LoadWord(kSqHead);
  count = std::min({count, queued, sq_entries_});
  if (count == 0) return 0;
  const unsigned most = count;
  // Where the kernel has no memory for requests, or no room for completions.
  if (!has(IORING_SETUP_SQPOLL) && refusals_ < kPatience) {
    const unsigned how = choices().Choose(ChoicePoint::kSubmitError, 3);
    if (how != 0) {
      ++refusals_;
      return how == 1 ? -EAGAIN : -EBUSY;
    }
    if (count > 1 && choices().Happens(ChoicePoint::kSubmitShort)) {
      ++refusals_;
      count = 1 + choices().Choose(ChoicePoint::kSubmitShort, count - 1);
    } else {
      refusals_ = 0;
    }
  }
  groups_.TakeIn();
  Request* first = nullptr;
  Request* last = nullptr;
  unsigned submitted = 0;
  // A chain is not cut in two: nothing in a program could mend that.
  while (submitted < count || (first != nullptr && submitted < most)) {
    Request* const request = Consume();
    ++submitted;
    if (request == nullptr) continue;
    const bool links_on = request->has_flag(kLinkFlags);
    if (first == nullptr) {
      first = request;
    } else {
      last->next_link = request;
    }
    last = request;
    const bool failed = request->refused != 0;
    if (links_on) continue;
    Start(std::exchange(first, nullptr));
    if (failed && !has(IORING_SETUP_SUBMIT_ALL)) break;
  }
  if (first != nullptr) Start(first);
  return static_cast<int>(submitted);
}

void Ring::Start(Request* head) {
  bool refused = false;
  for (const Request* each = head; each != nullptr; each = each->next_link) {
    refused |= each->refused != 0;
  }
  if (refused) {
    CancelLinks(head, -ECANCELED);
    return;
  }
  if (!drain_queue_.empty() || MustDrain(*head)) {
    head->stage = Request::Stage::kLinked;
    drain_queue_.push_back(head);
    return;
  }
  Issue(*head);
}

// Whether it waits for all that came before.
bool Ring::MustDrain(const Request& request) const noexcept {
  bool drains = false;
  for (const Request* each = &request; each != nullptr;
       each = each->next_link) {
    drains |= each->has_flag(IOSQE_IO_DRAIN);
  }
  return drains && !requests_.empty();
}

void Ring::StartDrained() {
  while (!drain_queue_.empty()) {
    Request* const head = drain_queue_.front();
    if (!closed_ && MustDrain(*head)) return;
    drain_queue_.erase(drain_queue_.begin());
    if (closed_) {
      CancelLinks(head, -ECANCELED);
    } else {
      Issue(*head);
    }
  }
}

void Ring::Issue(Request& request) {
  requests_.push_back(&request);
  request.stage = Request::Stage::kArmed;
  if (const int error = request.Resolve()) {
    Fail(request, error);
    return;
  }
  Request* const next = request.next_link;
  if (next != nullptr && next->type.opcode == IORING_OP_LINK_TIMEOUT) {
    ArmLinkTimeout(request);
  }
  const bool async = request.has_flag(IOSQE_ASYNC);
  const unsigned late =
      request.type.immediate
          ? 0
          : choices().Choose(ChoicePoint::kIssueLate, async ? 2 : 3);
  // A worker has it at once, where there are any.
  if (late == 0 && (!async || request.has_workers())) {
    Try(request);
    return;
  }
  if (async || late == 2) request.stage = Request::Stage::kRunning;
  request.Keep();
}

void Ring::ArmLinkTimeout(Request& request) {
  Request* const timeout = request.next_link;
  request.next_link = std::exchange(timeout->next_link, nullptr);
  request.link_timeout = timeout;
  timeout->timed = &request;
  requests_.push_back(timeout);
  timeout->stage = Request::Stage::kArmed;
  const Attempt attempt = timeout->op->Try(*timeout);
  (void)attempt;  // its time is known now
  timeout->ready = false;
}

void Ring::Fail(Request& request, std::int32_t error) {
  const Attempt attempt = request.op->Cancelled(request, error);
  Complete(request, attempt.result, attempt.flags);
}

void Ring::Try(Request& request) {
  request.ready = false;
  // Of what was cancelled, too.
  if (request.stage == Request::Stage::kNotifying) {
    FinishNotification(request);
    return;
  }
  if (request.orphaned && request.cancelled == 0) {
    request.cancelled = -ECANCELED;
  }
  // What a worker has done is done.
  if (request.cancelled != 0 && !request.worked) {
    Fail(request, request.cancelled);
    return;
  }
  if (!request.type.errors.empty() && !request.asked_for_error) {
    request.asked_for_error = true;
    const unsigned choice =
        choices().Choose(ChoicePoint::kError,
                         static_cast<unsigned>(1 + request.type.errors.size()));
    if (choice != 0) {
      Fail(request, -request.type.errors[choice - 1]);
      return;
    }
  }
  const bool running = request.stage == Request::Stage::kRunning;
  in_worker_ = running && !has(IORING_SETUP_DEFER_TASKRUN);
  const Attempt attempt = request.op->Try(request);
  if (attempt.done) Complete(request, attempt.result, attempt.flags);
  in_worker_ = false;
  if (attempt.done) return;
  request.worked = false;
  if (attempt.works) {
    request.stage = Request::Stage::kRunning;
    request.working = true;
    request.StopWaiting();
    request.Keep();
    kernel_.workers(request.endless).Start(request);
    return;
  }
  if (request.interrupted) {
    Fail(request, running && WaitsInWorker(request) ? -EINTR : -ECANCELED);
    return;
  }
  // A worker that sleeps can be interrupted.
  if (running) request.stage = Request::Stage::kArmed;
  Arm(request);
}

void Ring::Arm(Request& request) {
  if (!request.waits_for_file()) return;
  request.Keep();
  request.Watch(kernel_.poller().fd());
}

void Ring::Worked(Request& request) {
  request.working = false;
  request.worked = true;
  if (deferred() && !closed_) {
    request.Retry();
  } else {
    Try(request);
  }
}

void Ring::Tell() noexcept {
  told_ = true;
  SignalEventfd();
  ShowReadable();
}

int Ring::Cancel(Request& request, bool certain) {
  // Whoever asks before that has had its effect is told the same.
  if (request.cancelled != 0) return request.waits_for_file() ? 0 : -ENOENT;
  if (request.stage == Request::Stage::kNotifying) return -ENOENT;
  const unsigned how = choices().Choose(ChoicePoint::kCancelRace, 3);
  request.ready = true;
  if (request.stage == Request::Stage::kRunning || how == 1) {
    // Done if it can be without waiting, and interrupted if not.
    request.interrupted = true;
    return -EALREADY;
  }
  // Timers that run are always found.
  const auto time = request.wait_time();
  certain |= !request.waits_for_file() && time.has_value() && *time > Now();
  if (how == 2 && !certain && request.slipped < kPatience) {
    // It is just changing hands in the kernel.
    ++request.slipped;
    return -ENOENT;
  }
  request.cancelled = -ECANCELED;
  return 0;
}

// Progress.

bool Ring::CanProgress(const Request& request, std::int64_t now) noexcept {
  if (request.working) return false;
  if (request.ready) return true;
  return request.wait_time().has_value() && *request.wait_time() <= now;
}

bool Ring::CanProgress() const noexcept {
  const std::int64_t now = Now();
  return std::any_of(
      requests_.begin(), requests_.end(),
      [now](const Request* request) { return CanProgress(*request, now); });
}

std::optional<std::int64_t> Ring::NextTime() const noexcept {
  std::optional<std::int64_t> next;
  for (const Request* const request : requests_) {
    if (request->working) continue;
    const auto time = request->wait_time();
    if (time.has_value() && (!next.has_value() || *time < *next)) next = time;
  }
  return next;
}

void Ring::Progress() {
  if (!closed_) groups_.TakeIn();
  kernel_.poller().TakeEvents();
  const std::int64_t now = Now();
  std::vector<Request*> candidates;
  for (Request* const request : requests_) {
    request->seen = false;
  }
  for (;;) {
    candidates.clear();
    for (Request* const request : requests_) {
      if (!request->seen && CanProgress(*request, now)) {
        candidates.push_back(request);
      }
    }
    if (candidates.empty()) break;
    const std::size_t count = std::min<std::size_t>(candidates.size(), 8);
    Request& request = *candidates[choices().Choose(
        ChoicePoint::kCompletionOrder, static_cast<unsigned>(count))];
    request.seen = true;
    if (closed_) {
      // Benign: it is cancelled. Else it goes on, now or later.
      const unsigned how = choices().Choose(ChoicePoint::kAfterClose, 3);
      if (how == 0) request.cancelled = -ECANCELED;
      if (how == 2) continue;
      Try(request);
      continue;
    }
    const ChoicePoint point = request.stage == Request::Stage::kNotifying
                                  ? ChoicePoint::kNotificationLate
                                  : ChoicePoint::kCompletionLate;
    if (request.skipped < kPatience && choices().Happens(point)) {
      ++request.skipped;
      continue;
    }
    request.skipped = 0;
    Try(request);
  }
  StartDrained();
  SetTaskrun();
}

void Ring::WakeWaiter() noexcept {
  if (waiting_ > 0) kernel_.poller().Wake();
}

void Ring::WakeWhoeverProgresses() noexcept {
  if (attended()) {
    kernel_.poller().Wake();
  } else {
    kernel_.background().Wake();
  }
}

int Ring::WaitForCompletions(unsigned count, Wait& wait) {
  count = std::min(count, cq_entries_);
  for (unsigned idle = 0;;) {
    const std::uint32_t before = posted_;
    Progress();
    FlushOverflow(/*forced=*/idle > 0);
    if (Available() >= count) {
      interrupted_ = 0;
      return 0;
    }
    if (interrupted_ < kPatience) {
      if (choices().Happens(ChoicePoint::kWaitInterrupted)) {
        ++interrupted_;
        return -EINTR;
      }
      if (wait.deadline.has_value() && kernel_.virtual_clock() &&
          choices().Happens(ChoicePoint::kWaitTimesOut)) {
        ++interrupted_;
        kernel_.AdvanceTo(*wait.deadline, clock_);
        return -ETIME;
      }
    }
    if (posted_ != before) continue;
    const std::int64_t now = Now();
    if (wait.enough.has_value() && *wait.enough <= now && Available() > 0) {
      return 0;
    }
    if (wait.deadline.has_value() && *wait.deadline <= now) return -ETIME;
    // What was put off by choice is not any more: nothing else happens.
    bool put_off = !overflow_.empty();
    for (Request* const request : requests_) {
      if (CanProgress(*request, now)) {
        request->skipped = kPatience;
        put_off = true;
      }
    }
    if (put_off && idle < 2 * kPatience) {
      ++idle;
      continue;
    }
    std::optional<std::int64_t> next = NextTime();
    if (wait.deadline.has_value() && (!next || *wait.deadline < *next)) {
      next = wait.deadline;
    }
    if (wait.enough.has_value() && *wait.enough > now &&
        (!next || *wait.enough < *next)) {
      next = wait.enough;
    }
    if (kernel_.virtual_clock() && next.has_value()) {
      // Unless something real happens first.
      kernel_.poller().TakeEvents();
      const bool real =
          std::any_of(requests_.begin(), requests_.end(),
                      [](const Request* request) { return request->ready; });
      if (!real) kernel_.AdvanceTo(*next, clock_);
      continue;
    }
    std::optional<std::int64_t> limit;
    if (next.has_value()) limit = std::max<std::int64_t>(0, *next - now);
    ++waiting_;
    const int error = kernel_.poller().Wait(kernel_.mutex(), limit, wait.mask);
    --waiting_;
    if (closed_) return -EBADF;
    if (error != 0) return error;
    idle = 0;
  }
}

int Ring::CheckIssuer() const noexcept {
  if (has(IORING_SETUP_SINGLE_ISSUER) && issuer_ != ThreadId()) return -EEXIST;
  return 0;
}

int Ring::Enter(unsigned to_submit, unsigned min_complete, unsigned flags,
                const void* argument, std::size_t size) {
  if (disabled_) return -EBADFD;
  CheckEntries();
  told_ = false;
  if (readable_) ShowReadable();
  // Unless it is deferred, what has happened was taken in when it did.
  if (busy() && !has(IORING_SETUP_DEFER_TASKRUN)) Progress();
  const bool events = (flags & IORING_ENTER_GETEVENTS) != 0;
  int result = 0;
  if (has(IORING_SETUP_SQPOLL)) {
    if ((flags & (IORING_ENTER_SQ_WAKEUP | IORING_ENTER_SQ_WAIT)) != 0 ||
        reading_late_) {
      // Its thread may still be waking up when this returns.
      const bool must = (flags & IORING_ENTER_SQ_WAIT) != 0 || reading_late_ ||
                        (events && min_complete > 0);
      reading_late_ = !must && choices().Happens(ChoicePoint::kSqpollLate);
      if (!reading_late_) {
        while (LoadWord(kSqTail) != LoadWord(kSqHead)) {
          (void)Submit(sq_entries_);
        }
      }
    }
    result = static_cast<int>(to_submit);
  } else if (to_submit > 0) {
    if (const int error = CheckIssuer()) return error;
    result = Submit(to_submit);
    if (result != static_cast<int>(to_submit)) {
      Progress();
      return result;
    }
  }
  if (!events) {
    // Deferred work waits until it is asked for.
    if (!has(IORING_SETUP_DEFER_TASKRUN)) {
      Progress();
    } else {
      SetTaskrun();
    }
    return result;
  }
  if (has(IORING_SETUP_DEFER_TASKRUN)) {
    if (const int error = CheckIssuer()) return result > 0 ? result : error;
  }

  Wait wait;
  sigset_t mask;
  if ((flags & IORING_ENTER_EXT_ARG) != 0) {
    io_uring_getevents_arg extended;
    if (size != sizeof(extended)) return result > 0 ? result : -EINVAL;
    if (!Load(&extended, argument, sizeof(extended))) {
      return result > 0 ? result : -EFAULT;
    }
    if (extended.ts != 0) {
      __kernel_timespec time;
      if (!Load(&time, reinterpret_cast<const void*>(extended.ts),
                sizeof(time))) {
        return result > 0 ? result : -EFAULT;
      }
      const bool absolute = (flags & IORING_ENTER_ABS_TIMER) != 0;
      wait.deadline = ToNanoseconds(time) + (absolute ? 0 : Now());
    }
    if (extended.min_wait_usec != 0) {
      constexpr std::int64_t kMicrosecond = 1000;
      wait.enough = Now() + extended.min_wait_usec * kMicrosecond;
    }
    argument = reinterpret_cast<const void*>(extended.sigmask);
    size = extended.sigmask_sz;
  }
  if (argument != nullptr) {
    if (size != _NSIG / 8) return result > 0 ? result : -EINVAL;
    ::sigemptyset(&mask);
    if (!Load(&mask, argument, size)) return result > 0 ? result : -EFAULT;
    wait.mask = &mask;
  }
  // What has happened is taken in, whatever there is already.
  Progress();
  const int waited = WaitForCompletions(min_complete, wait);
  // With nothing to wait for, all that was deferred has run all the same.
  if (min_complete == 0) {
    Progress();
    FlushOverflow(/*forced=*/true);
  }
  SetTaskrun();
  return result > 0 ? result : waited;
}

// The end.

void Ring::Renumber(int fd) noexcept {
  fd_ = fd;
  if (!peer_.valid()) memory_ = File::Borrow(fd);
  renumbered_ = true;
}

void Ring::EndThread(long thread) noexcept {
  if (has(IORING_SETUP_SINGLE_ISSUER) && issuer_ == thread) orphaned_ = true;
  for (Request* const request : requests_) {
    // Time goes on without it.
    if (request->thread == thread && !request->type.immediate) {
      request->orphaned = true;
    }
  }
}

std::uint32_t Ring::Events() noexcept {
  const bool any = Available() > 0 || !overflow_.empty();
  const bool room = LoadWord(kSqTail) - LoadWord(kSqHead) < sq_entries_;
  return (any ? POLLIN | POLLRDNORM : 0U) | (room ? POLLOUT | POLLWRNORM : 0U);
}

void Ring::CheckLeft() {
  if (kernel_.options().threads) return;
  const auto check = [this](const Request* each) {
    for (; each != nullptr; each = each->next_link) {
      if (Uses(each->owner)) kernel_.Left(each->owner);
    }
  };
  for (const Request* const request : requests_) check(request);
  for (const Request* const head : drain_queue_) check(head);
  // The program's own memory may be gone by now.
  if (!has(IORING_SETUP_NO_MMAP)) {
    DropSeen();
    for (const auto& given : given_) kernel_.Lost(*given);
  }
  given_.clear();
}

void Ring::Close() {
  CheckLeft();
  closed_ = true;
  WakeWaiter();
  if (rings_ != nullptr && !parts_.empty()) {
    sim::Open(rings_ + kCqes, cq_entries_ * completion_bytes_);
  }
  rings_ = nullptr;
  entries_ = nullptr;
  ReleaseAll(owner_);
  buffers_.Close();
  overflow_.clear();
  for (Request* const request : requests_) request->ready = true;
  StartDrained();
  Progress();
}

}  // namespace escrow::sim
