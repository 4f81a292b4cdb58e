#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/raw/error.h"
#include "escrow/safe/queue.h"
#include "escrow/safe/result.h"
#include "escrow/safe/thread.h"

namespace escrow::safe {
namespace {

using ownership::Descriptor;

std::unexpected<std::error_code> Failure(int error,
                                         const std::error_category& category) {
  return std::unexpected(std::error_code(error, category));
}

// How the file of a request is, as far as that matters here.
struct FileTraits {
  explicit FileTraits(int file) {
    struct stat status = {};
    if (::fstat(file, &status) != 0) return;
    seekable = !S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode);
    // poll(2) tells nothing of these, which are always ready.
    waits = !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode) &&
            !S_ISBLK(status.st_mode);
  }

  bool seekable = true;
  bool waits = false;  // for somebody else
};

class ThreadQueue final : public Queue {
 public:
  explicit ThreadQueue(std::size_t cap) : Queue(cap), waiting_(cap) {
    done_.reserve(cap);
  }

  ~ThreadQueue() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    if (stop_.valid()) ::eventfd_write(stop_.number(), 1);
    added_.notify_all();
    for (const pthread_t thread : threads_) ::pthread_join(thread, nullptr);
  }

  std::error_code Run(std::size_t threads) {
    const int stop = ::eventfd(0, EFD_CLOEXEC);
    if (stop < 0) return raw::LastError<"eventfd">();
    stop_ = Descriptor::Adopt(stop);
    threads_.reserve(threads);
    while (threads_.size() < threads) {
      pthread_t thread;
      const int error = internal::StartThread(
          thread,
          [](void* queue) -> void* {
            static_cast<ThreadQueue*>(queue)->Work();
            return nullptr;
          },
          this);
      if (error != 0) return {error, raw::CategoryOf<"pthread_create">()};
      threads_.push_back(thread);
    }
    return {};
  }

 private:
  void Start(const Request& request) override {
    {
      const std::lock_guard lock(mutex_);
      waiting_[(first_ + count_) % waiting_.size()] = request;
      ++count_;
    }
    added_.notify_one();
  }

  Result<void> Collect(std::size_t min,
                       std::vector<Completion>& completions) override {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [&] { return done_.size() >= min; });
    completions.insert(completions.end(), done_.begin(), done_.end());
    done_.clear();
    return {};
  }

  void Work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      added_.wait(lock, [this] { return stopping_ || count_ > 0; });
      if (stopping_) return;
      const Request request = waiting_[first_];
      first_ = (first_ + 1) % waiting_.size();
      --count_;
      lock.unlock();
      const Completion completion = {request.id, Execute(request)};
      lock.lock();
      done_.push_back(completion);
      finished_.notify_one();
    }
  }

  Result<std::size_t> Execute(const Request& request) const {
    const bool reads =
        request.kind == Kind::kRead || request.kind == Kind::kReadVector;
    const auto& category =
        reads ? raw::CategoryOf<"preadv2">() : raw::CategoryOf<"pwritev2">();

    iovec bytes = {.iov_base = request.memory, .iov_len = request.length};
    const bool plain =
        request.kind == Kind::kRead || request.kind == Kind::kWrite;
    const iovec* const vectors =
        plain ? &bytes : static_cast<const iovec*>(request.memory);
    // What is too many for an int is for the kernel, too.
    constexpr std::size_t kTooMany = 1 << 20;
    const int count =
        plain ? 1 : static_cast<int>(std::min(request.length, kTooMany));

    const FileTraits file(request.file);
    ::off_t offset = file.seekable ? request.offset : kCurrentPosition;
    // What is there may be gone to somebody else by the time of the call.
    int flags = file.waits ? RWF_NOWAIT : 0;
    for (;;) {
      if (file.waits && !AwaitReady(request.file, reads)) {
        return Failure(ECANCELED, category);
      }
      const ssize_t size =
          reads ? ::preadv2(request.file, vectors, count, offset, flags)
                : ::pwritev2(request.file, vectors, count, offset, flags);
      if (size >= 0) return static_cast<std::size_t>(size);
      if (errno == EOPNOTSUPP && flags != 0) {
        flags = 0;
      } else if (errno == ESPIPE && offset != kCurrentPosition) {
        // A terminal, or another device without positions.
        offset = kCurrentPosition;
      } else if (errno != EINTR && (errno != EAGAIN || !file.waits)) {
        return Failure(errno, category);
      }
    }
  }

  // Waits until `file` is ready, or in error. False when the queue ends first.
  bool AwaitReady(int file, bool to_read) const {
    pollfd files[] = {{.fd = file,
                       .events = static_cast<short>(to_read ? POLLIN : POLLOUT),
                       .revents = 0},
                      {.fd = stop_.number(), .events = POLLIN, .revents = 0}};
    while (::poll(files, 2, -1) < 0) continue;
    return files[1].revents == 0;
  }

  Descriptor stop_;  // an event that stays, once it has happened
  std::vector<pthread_t> threads_;

  std::mutex mutex_;
  std::condition_variable added_;
  std::condition_variable finished_;
  bool stopping_ = false;
  std::vector<Request>
      waiting_;  // a circle: the `count_` ones from `first_` on
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::vector<Completion> done_;
};

Result<std::unique_ptr<Queue>> Make(std::size_t cap, std::size_t threads) {
  auto queue = std::make_unique<ThreadQueue>(cap);
  if (const std::error_code error = queue->Run(threads)) {
    return std::unexpected(error);
  }
  return queue;
}

}  // namespace

Result<std::unique_ptr<Queue>> MakeThreadQueue(std::size_t cap) {
  return Make(cap, cap);
}

Result<std::unique_ptr<Queue>> MakeSerialQueue(std::size_t cap) {
  return Make(cap, 1);
}

}  // namespace escrow::safe
