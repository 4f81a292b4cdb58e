#include "escrow/sim/kernel.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/sim/choices.h"
#include "escrow/sim/file.h"
#include "escrow/sim/kernel_state.h"
#include "escrow/sim/ledger.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/real_call.h"
#include "escrow/sim/report.h"
#include "escrow/sim/ring.h"

namespace escrow::sim {
namespace {

constexpr std::uint32_t kMaxEntries = 32768;
constexpr std::uint32_t kMaxCompletionEntries = 2 * kMaxEntries;
constexpr std::int64_t kNanoseconds = 1'000'000'000;

// When a ring's descriptor is readable at the latest after a call that has left
// something in the queue, ns.
constexpr std::int64_t kShows = 1'000'000;

// How often a ring is looked for that is known by a duplicate, ns.
constexpr std::int64_t kLooksAgain = 10'000'000;

constexpr std::uint32_t kKnownFlags =
    IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF | IORING_SETUP_CQSIZE |
    IORING_SETUP_CLAMP | IORING_SETUP_ATTACH_WQ | IORING_SETUP_R_DISABLED |
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
    IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SQE128 | IORING_SETUP_CQE32 |
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
    IORING_SETUP_NO_MMAP | IORING_SETUP_REGISTERED_FD_ONLY |
    IORING_SETUP_NO_SQARRAY | IORING_SETUP_CQE_MIXED;

std::uint32_t RoundUp(std::uint32_t count) noexcept {
  std::uint32_t power = 1;
  while (power < count) power *= 2;
  return power;
}

// Whether the kernel takes these together.
bool Consistent(std::uint32_t flags) noexcept {
  const auto has = [flags](std::uint32_t flag) { return (flags & flag) != 0; };
  constexpr std::uint32_t kTaskRun =
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN;
  if (has(IORING_SETUP_SQPOLL) && has(kTaskRun | IORING_SETUP_TASKRUN_FLAG)) {
    return false;
  }
  if (has(IORING_SETUP_TASKRUN_FLAG) && !has(kTaskRun)) return false;
  if (has(IORING_SETUP_DEFER_TASKRUN) && !has(IORING_SETUP_SINGLE_ISSUER)) {
    return false;
  }
  if (has(IORING_SETUP_SQ_AFF) && !has(IORING_SETUP_SQPOLL)) return false;
  if (has(IORING_SETUP_REGISTERED_FD_ONLY) && !has(IORING_SETUP_NO_MMAP)) {
    return false;
  }
  return !has(IORING_SETUP_CQE32) || !has(IORING_SETUP_CQE_MIXED);
}

// Whether the thread forks, and so has the lock.
thread_local bool forking = false;

// What a system call of the program's is inside of.
class Call {
 public:
  Call() : lock_(Kernel::Get().mutex(), std::defer_lock) {
    // A handler of fork(3) may use rings.
    if (!forking) lock_.lock();
    Kernel::Get().WatchThread();
    Kernel::Get().background().CallMade();
  }

 private:
  Inside inside_;
  std::unique_lock<std::mutex> lock_;
};

// Of a child process: what is not its own, but must not be destroyed either.
template <typename T>
void KeepForever(T&& value) {
  static auto& kept = *new std::vector<std::decay_t<T>>;
  kept.push_back(std::forward<T>(value));
}

}  // namespace

long ThreadId() noexcept { return ::syscall(SYS_gettid); }

int ChooseSizes(unsigned entries, io_uring_params& params) noexcept {
  const bool clamp = (params.flags & IORING_SETUP_CLAMP) != 0;
  const auto choose = [clamp](std::uint32_t asked, std::uint32_t most,
                              std::uint32_t* size) {
    if (asked == 0 || (asked > most && !clamp)) return false;
    *size = RoundUp(std::min(asked, most));
    return true;
  };
  if (!choose(entries, kMaxEntries, &params.sq_entries)) return -EINVAL;
  if ((params.flags & IORING_SETUP_CQSIZE) == 0) {
    params.cq_entries = 2 * params.sq_entries;
    return 0;
  }
  const bool fits =
      choose(params.cq_entries, kMaxCompletionEntries, &params.cq_entries) &&
      params.cq_entries >= params.sq_entries;
  return fits ? 0 : -EINVAL;
}

// Rings.

// A child process has none of the rings, nor what is in flight on them: what
// is shared with its parent must stay as it is.
Kernel::Kernel() {
  MakeThreads();
  (void)::pthread_key_create(&end_of_thread_,
                             [](void* value) { Get().OnEndOfThread(value); });
  HandleForks();
}

void Kernel::HandleForks() noexcept {
  // The ledger's handlers first, for it is locked after the kernel.
  HandleForksOfLedger();
  ::pthread_atfork(
      [] {
        if (std::exchange(forking, true)) return;
        Get().mutex_.lock();
      },
      [] {
        if (std::exchange(forking, false)) Get().mutex_.unlock();
      },
      [] {
        if (!forking) return;
        Get().Forget();
        forking = false;
        Get().mutex_.unlock();
      });
}

void Kernel::UseMemory() noexcept {
  if (!std::exchange(uses_memory_, true)) HandleForks();
}

void Kernel::Forget() noexcept {
  const Inside inside;
  poller_.Renew();
  // Their threads are the parent's.
  KeepForever(std::move(background_));
  KeepForever(std::move(workers_));
  KeepForever(std::move(endless_workers_));
  MakeThreads();
  KeepForever(std::exchange(rings_, {}));
  KeepForever(std::exchange(closed_, {}));
  KeepForever(std::exchange(registered_, {}));
  left_.reset();
  lost_.clear();
  options_.choices.KeepIn({});
}

void Kernel::MakeThreads() {
  background_ = std::make_unique<Background>(*this);
  workers_ = std::make_unique<Workers>(*this);
  endless_workers_ = std::make_unique<Workers>(*this);
}

Kernel& Kernel::Get() noexcept {
  static auto& kernel = *new Kernel;
  return kernel;
}

void Kernel::Reset(Options options) {
  CloseForgotten(/*any=*/true);
  if (!rings_.empty()) {
    std::fputs("escrow sim: Reset() while there are rings\n", stderr);
    std::abort();
  }
  closed_.clear();
  left_.reset();
  lost_.clear();
  options_ = std::move(options);
  passed_ = 0;
}

void Kernel::Add(std::shared_ptr<Ring> ring) {
  // A number that is given out anew was closed without our knowing.
  for (std::size_t i = rings_.size(); i-- > 0;) {
    if (rings_[i]->fd() == ring->fd() && ring->fd() >= 0) Close(rings_[i]);
  }
  rings_.push_back(std::move(ring));
}

std::shared_ptr<Ring> Kernel::Find(int fd) noexcept {
  for (const std::shared_ptr<Ring>& ring : rings_) {
    if (ring->fd() == fd) return ring;
  }
  // A duplicate, maybe.
  if (rings_.empty()) return nullptr;
  const auto file = FileIdentity::Of(fd);
  if (!file.has_value()) return nullptr;
  for (const std::shared_ptr<Ring>& ring : rings_) {
    if (ring->file() == file) return ring;
  }
  return nullptr;
}

int Kernel::FindDuplicate(const Ring& ring) const noexcept {
  DIR* const directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return -1;
  const int first_own = FirstOwnNumber();
  int found = -1;
  while (const dirent* const entry = ::readdir(directory)) {
    const int fd = std::atoi(entry->d_name);
    // Requests on it are not what keeps it open.
    const bool ours = fd >= first_own && (first_ring_ == 0 || fd < first_ring_);
    if (fd == ring.fd() || ours || FileIdentity::Of(fd) != ring.file()) {
      continue;
    }
    found = fd;
    break;
  }
  ::closedir(directory);
  return found;
}

void Kernel::CloseNumber(const std::shared_ptr<Ring>& ring) {
  const int other = FindDuplicate(*ring);
  if (other < 0) {
    Close(ring);
  } else {
    ring->Renumber(other);
    background_->WaitNoLongerThan(kLooksAgain);
  }
}

void Kernel::CloseForgotten(bool any) {
  for (std::size_t i = rings_.size(); i-- > 0;) {
    const std::shared_ptr<Ring> ring = rings_[i];
    if (ring->fd() < 0 || !(any || ring->renumbered()) ||
        FileIdentity::Of(ring->fd()) == ring->file()) {
      continue;
    }
    CloseNumber(ring);
  }
}

std::shared_ptr<Ring> Kernel::FindMapped(const void* address) noexcept {
  for (const std::shared_ptr<Ring>& ring : rings_) {
    if (ring->Covers(address)) return ring;
  }
  return nullptr;
}

// By value: what it is a copy of may go.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
void Kernel::Close(std::shared_ptr<Ring> ring) {
  ring->Close();
  std::erase(rings_, ring);
  for (const auto& of_thread : registered_) {
    for (std::shared_ptr<Ring>& registered : of_thread->rings) {
      if (registered == ring) registered = nullptr;
    }
  }
  if (ring->busy()) closed_.push_back(ring);
}

void Kernel::Posted(const Ring& ring) noexcept {
  for (const std::shared_ptr<Ring>& other : rings_) {
    for (Request* const request : other->requests()) {
      if (request->polled == &ring) request->Retry();
    }
  }
}

void Kernel::ProgressClosed() {
  CloseForgotten(/*any=*/false);
  // By index: none is added meanwhile.
  for (std::size_t i = closed_.size(); i-- > 0;) {
    closed_[i]->Progress();
    if (!closed_[i]->busy()) {
      closed_.erase(closed_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

std::optional<std::int64_t> Kernel::ProgressUnattended() {
  std::optional<std::int64_t> next;
  const auto add = [&next](std::int64_t time) {
    if (!next.has_value() || time < *next) next = time;
  };
  ProgressClosed();
  if (!closed_.empty()) poller_.TakeEvents();
  // By index: none is added meanwhile.
  for (std::size_t i = rings_.size(); i-- > 0;) {
    const std::shared_ptr<Ring> ring = rings_[i];
    // Nothing tells that a duplicate is closed, which may be its end.
    if (ring->renumbered()) add(kLooksAgain);
    if (ring->attended() || ring->disabled()) continue;
    // What comes while a thread is in a call, that most likely takes itself.
    ring->ShowReadable();
    if (ring->deferred()) {
      if (!ring->MayTell()) continue;
      poller_.TakeEvents();
      if (ring->CanProgress()) {
        ring->Tell();
        continue;
      }
    } else if (ring->busy()) {
      ring->Progress();
      ring->ShowReadable();
      if (ring->CanProgress()) add(0);
    }
    if (const auto time = ring->NextTime()) {
      add(std::max<std::int64_t>(0, *time - ring->Now()));
    }
  }
  return next;
}

void Kernel::Worked(Request& request) {
  Ring& ring = request.ring();
  ring.Worked(request);
  if (!ring.attended()) ring.ShowReadable();
  ProgressClosed();
}

// Threads.

void Kernel::WatchThread() noexcept {
  if (::pthread_getspecific(end_of_thread_) != nullptr) return;
  (void)::pthread_setspecific(end_of_thread_, this);
}

void Kernel::OnEndOfThread(const void* value) noexcept {
  // What others do at the end of the thread, with rings maybe, comes first.
  if (value == this) {
    (void)::pthread_setspecific(end_of_thread_, &end_of_thread_);
    return;
  }
  const Inside inside;
  const std::lock_guard<std::mutex> lock(mutex_);
  const long thread = ThreadId();
  std::erase_if(registered_, [thread](const auto& of_thread) {
    return of_thread->thread == thread;
  });
  for (const auto* const rings : {&rings_, &closed_}) {
    for (const std::shared_ptr<Ring>& ring : *rings) ring->EndThread(thread);
  }
}

// What is left over.

Given::Given(const Owner& its_owner, int its_fd)
    : owner(its_owner), fd(its_fd), file(FileIdentity::Of(its_fd)) {}

bool Given::IsOpen() const noexcept {
  return file.has_value() && FileIdentity::Of(fd) == file;
}

void Kernel::Left(const Owner& owner) {
  if (!left_.has_value()) left_ = owner;
}

void Kernel::Lost(const Given& given) { lost_.push_back(given); }

void Kernel::CheckEnd() {
  ProgressClosed();
  if (left_.has_value()) {
    Report({.kind = "io-uring-closed-in-flight",
            .what = "a ring was closed while a request on it used memory"},
           nullptr, 0, &*left_);
  }
  for (const Given& given : lost_) {
    // Somebody has found it otherwise.
    if (!given.IsOpen()) continue;
    Report({.kind = "io-uring-lost-descriptor",
            .what = "a ring was closed with a result that nobody has seen, "
                    "which is a descriptor"},
           nullptr, 0, &given.owner);
  }
}

// Registered descriptors of rings.

Kernel::Registered& Kernel::OfThread() {
  const long thread = ThreadId();
  for (const auto& of_thread : registered_) {
    if (of_thread->thread == thread) return *of_thread;
  }
  registered_.push_back(std::make_unique<Registered>());
  registered_.back()->thread = thread;
  return *registered_.back();
}

std::shared_ptr<Ring> Kernel::FindRegistered(unsigned index) noexcept {
  if (index >= std::size(Registered().rings)) return nullptr;
  return OfThread().rings[index];
}

int Kernel::RegisterRing(const std::shared_ptr<Ring>& ring) {
  Registered& mine = OfThread();
  for (std::size_t i = 0; i < std::size(mine.rings); ++i) {
    if (mine.rings[i] == nullptr) {
      mine.rings[i] = ring;
      return static_cast<int>(i);
    }
  }
  return -EBUSY;
}

int Kernel::RegisterRingFds(void* argument, unsigned count) {
  Registered& mine = OfThread();
  auto* const updates = static_cast<io_uring_rsrc_update*>(argument);
  if (count == 0 || count > std::size(mine.rings)) return -EINVAL;
  int done = 0;
  for (unsigned i = 0; i < count; ++i) {
    io_uring_rsrc_update update;
    if (!Load(&update, updates + i, sizeof(update))) return -EFAULT;
    int result = update.resv != 0 ? -EINVAL : 0;
    const auto ring = Find(static_cast<int>(update.data));
    if (result == 0 && ring == nullptr) result = -EBADF;
    if (result == 0 && update.offset == ~0U) {
      result = RegisterRing(ring);
      if (result >= 0) {
        update.offset = static_cast<std::uint32_t>(result);
        result = 0;
      }
    } else if (result == 0) {
      if (update.offset >= std::size(mine.rings)) {
        result = -EINVAL;
      } else if (mine.rings[update.offset] != nullptr) {
        result = -EBUSY;
      } else {
        mine.rings[update.offset] = ring;
      }
    }
    if (result == 0 && !Store(updates + i, &update, sizeof(update))) {
      mine.rings[update.offset] = nullptr;
      result = -EFAULT;
    }
    if (result != 0) return done > 0 ? done : result;
    ++done;
  }
  return done;
}

int Kernel::UnregisterRingFds(void* argument, unsigned count) {
  Registered& mine = OfThread();
  const auto* const updates =
      static_cast<const io_uring_rsrc_update*>(argument);
  if (count == 0 || count > std::size(mine.rings)) return -EINVAL;
  for (unsigned i = 0; i < count; ++i) {
    io_uring_rsrc_update update;
    if (!Load(&update, updates + i, sizeof(update))) return -EFAULT;
    if (update.resv != 0 || update.data != 0 ||
        update.offset >= std::size(mine.rings)) {
      return i > 0 ? static_cast<int>(i) : -EINVAL;
    }
    mine.rings[update.offset] = nullptr;
  }
  return static_cast<int>(count);
}

// Time.

std::int64_t Kernel::Now(clockid_t clock) const noexcept {
  timespec now = {};
  // Nothing of a virtual run depends on what time it really is.
  if (!virtual_clock()) ::clock_gettime(clock, &now);
  return now.tv_sec * kNanoseconds + now.tv_nsec + passed_;
}

void Kernel::AdvanceTo(std::int64_t now, clockid_t clock) noexcept {
  passed_ += std::max<std::int64_t>(0, now - Now(clock));
}

// What is missing.

int Kernel::Unsupported(const char* what, unsigned value) noexcept {
  for (Asked& asked : unsupported_) {
    if (asked.what == what && asked.value == value) {
      ++asked.times;
      return -EINVAL;
    }
  }
  unsupported_.push_back({what, value, 1});
  return -EINVAL;
}

void Kernel::PrintUnsupported() noexcept {
  for (const Asked& asked : unsupported_) {
    std::fprintf(stderr,
                 "escrow sim: not simulated, answered with EINVAL: %s %#x "
                 "(%llu times)\n",
                 asked.what, asked.value,
                 static_cast<unsigned long long>(asked.times));
  }
}

// The system calls.

int SysSetup(unsigned entries, io_uring_params* params) noexcept {
  const Call call;
  Kernel& kernel = Kernel::Get();
  io_uring_params asked;
  if (!Load(&asked, params, sizeof(asked))) return -EFAULT;
  for (const std::uint32_t reserved : asked.resv) {
    if (reserved != 0) return -EINVAL;
  }
  if ((asked.flags & ~kKnownFlags) != 0) {
    return kernel.Unsupported("setup flags", asked.flags & ~kKnownFlags);
  }
  if (!Consistent(asked.flags)) return -EINVAL;
  constexpr std::uint32_t kByIndex = IORING_SETUP_REGISTERED_FD_ONLY;
  if (kernel.options().threads && (asked.flags & kByIndex) != 0) {
    return kernel.Unsupported("setup flags", kByIndex);
  }
  if (const int error = ChooseSizes(entries, asked)) return error;
  if ((asked.flags & IORING_SETUP_ATTACH_WQ) != 0 &&
      kernel.Find(static_cast<int>(asked.wq_fd)) == nullptr) {
    return -EINVAL;
  }
  auto ring = std::make_shared<Ring>(kernel, asked.flags, asked.sq_entries,
                                     asked.cq_entries);
  const int fd = ring->Open(asked);
  if (fd < 0) return fd;
  if (!Store(params, &asked, sizeof(asked))) {
    ring->Close();
    return -EFAULT;
  }
  kernel.Add(ring);
  if (kernel.options().threads) kernel.background().Begin();
  if ((asked.flags & IORING_SETUP_REGISTERED_FD_ONLY) != 0) {
    return kernel.RegisterRing(ring);
  }
  return fd;
}

int SysEnter(unsigned fd, unsigned to_submit, unsigned min_complete,
             unsigned flags, const void* arg, std::size_t size) noexcept {
  const Call call;
  Kernel& kernel = Kernel::Get();
  constexpr unsigned kKnown = IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP |
                              IORING_ENTER_SQ_WAIT | IORING_ENTER_EXT_ARG |
                              IORING_ENTER_REGISTERED_RING |
                              IORING_ENTER_ABS_TIMER | IORING_ENTER_NO_IOWAIT;
  if ((flags & ~kKnown) != 0) {
    return kernel.Unsupported("enter flags", flags & ~kKnown);
  }
  const bool registered = (flags & IORING_ENTER_REGISTERED_RING) != 0;
  const auto ring = registered ? kernel.FindRegistered(fd)
                               : kernel.Find(static_cast<int>(fd));
  if (ring == nullptr) {
    if (registered) return -EINVAL;
    return File::Borrow(static_cast<int>(fd)).IsOpen() ? -EOPNOTSUPP : -EBADF;
  }
  kernel.ProgressClosed();
  const int result = ring->Enter(to_submit, min_complete, flags, arg, size);
  if (!kernel.poller().polled()) kernel.background().PollEnded();
  // What can go on at once does so when nobody is in a call.
  if (kernel.options().threads && !ring->attended()) {
    if (ring->CanProgress()) {
      kernel.background().Wake();
    } else if (ring->IsUnshown()) {
      kernel.background().WaitNoLongerThan(kShows);
    }
  }
  return result;
}

int SysRegister(unsigned fd, unsigned opcode, void* arg,
                unsigned count) noexcept {
  const Call call;
  Kernel& kernel = Kernel::Get();
  const bool registered = (opcode & IORING_REGISTER_USE_REGISTERED_RING) != 0;
  opcode &= ~static_cast<unsigned>(IORING_REGISTER_USE_REGISTERED_RING);
  // Calls without a ring.
  if (fd == ~0U) return kernel.Unsupported("register without a ring", opcode);
  const auto ring = registered ? kernel.FindRegistered(fd)
                               : kernel.Find(static_cast<int>(fd));
  if (ring == nullptr) {
    if (registered) return -EINVAL;
    return File::Borrow(static_cast<int>(fd)).IsOpen() ? -EOPNOTSUPP : -EBADF;
  }
  kernel.ProgressClosed();
  return ring->Register(opcode, arg, count);
}

int SysClose(int fd) noexcept {
  const Call call;
  Kernel& kernel = Kernel::Get();
  const auto ring = kernel.Find(fd);
  if (ring != nullptr && ring->fd() == fd) kernel.CloseNumber(ring);
  return static_cast<int>(RealCall(SYS_close, fd));
}

void* SysMap(void* address, std::size_t length, int protection, int flags,
             int fd, ::off_t offset) noexcept {
  const Call call;
  const auto ring = Kernel::Get().Find(fd);
  if (ring == nullptr) {
    errno = EBADF;
    return MAP_FAILED;
  }
  return ring->Map(address, length, protection, flags, offset);
}

int SysUnmap(void* address, std::size_t length) noexcept {
  const Call call;
  if (const auto ring = Kernel::Get().FindMapped(address)) {
    ring->Unmap(address, length);
  }
  return static_cast<int>(RealCall(SYS_munmap, reinterpret_cast<long>(address),
                                   static_cast<long>(length)));
}

bool IsRing(int fd) noexcept {
  const Call call;
  return Kernel::Get().Find(fd) != nullptr;
}

bool IsMapped(const void* address) noexcept {
  const Call call;
  return Kernel::Get().FindMapped(address) != nullptr;
}

// For those who run programs.

void Reset(Options options) {
  const Call call;
  Kernel::Get().Reset(std::move(options));
}

void NumberRingsFrom(int first) noexcept {
  const Call call;
  Kernel::Get().NumberRingsFrom(first);
}

void CheckEnd() noexcept {
  const Call call;
  Kernel::Get().CheckEnd();
}

Schedule MadeChoices() {
  // Also from a report, which may come from inside.
  const auto made = Kernel::Get().options().choices.made();
  return {made.begin(), made.end()};
}

void PrintUnsupported() noexcept { Kernel::Get().PrintUnsupported(); }

}  // namespace escrow::sim
