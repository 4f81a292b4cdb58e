#ifndef ESCROW_SAFE_QUEUE_H_
#define ESCROW_SAFE_QUEUE_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/memory.h"
#include "escrow/safe/result.h"

// Bounded queues of reads and writes, told apart by numbers, for programs that
// keep a fixed number of blocks in flight:
//
//   auto queue = safe::MakeRingQueue(/*cap=*/8);
//   safe::OwningQueue<Buffer> blocks(std::move(*queue));
//   for (std::uint64_t i = 0; i < 8; ++i) {
//     blocks.Read(/*id=*/i, file, /*offset=*/i * kSize, std::move(buffers[i]));
//   }
//   while (blocks.in_flight() > 0) {
//     done.clear();
//     if (auto waited = blocks.Wait(/*min=*/1, done); !waited) return waited;
//     for (auto& [id, size, buffer] : done) ...
//   }
//
// What executes them is chosen when a queue is made, and makes no difference to
// what it does: a ring, threads, or one thread for all.

namespace escrow::safe {

// A queue of transfers of memory that stays the caller's, which is what
// OwningQueue, below, saves its users to think about: what a request refers to,
// which for vectors includes the array of them, has to stay where it is until
// Wait() has returned the completion, or the queue is destroyed. So has the
// descriptor.
//
// Not thread-safe. That of MakeRingQueue() belongs to the thread that made it.
class Queue {
 public:
  enum class Kind : std::uint8_t { kRead, kWrite, kReadVector, kWriteVector };

  // As an offset: use and advance the file's own position. The offset does not
  // matter for pipes, sockets and terminals.
  static constexpr ::off_t kCurrentPosition = -1;

  struct Request {
    std::uint64_t id;  // comes back with the completion; need not be unique
    Kind kind;
    int file;
    ::off_t offset;      // bytes from the start of the file
    void* memory;        // bytes, not written to by kWrite; or an iovec[]
    std::size_t length;  // in bytes; or how many vectors
  };

  struct Completion {
    std::uint64_t id;
    // Bytes transferred, which may be fewer than asked for, 0 at the end of the
    // file; or the error of preadv2(2) or pwritev2(2). Pipes and sockets are
    // waited for also with O_NONBLOCK.
    Result<std::size_t> size;
  };

  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // Cancels what is in flight and returns when the last of it has ended: no
  // memory and no descriptor of a request is used after that. What waits for a
  // pipe, a socket or a terminal is interrupted; what is being done to a disk
  // goes on to its end, and so does, on threads, what a terminal has begun to
  // write.
  virtual ~Queue() = default;

  // How many requests may be in flight.
  std::size_t cap() const noexcept { return cap_; }
  // How many were added whose completions Wait() has not returned.
  std::size_t in_flight() const noexcept { return in_flight_; }

  // Starts a request, which may not begin before the next Wait(). Requests run
  // concurrently and in any order, those of MakeSerialQueue() one after the
  // other. Requires in_flight() < cap(), and no error of Wait() so far.
  void Add(const Request& request);

  void Read(std::uint64_t id, int file, ::off_t offset,
            std::span<std::byte> bytes) {
    Add({id, Kind::kRead, file, offset, bytes.data(), bytes.size()});
  }
  void Write(std::uint64_t id, int file, ::off_t offset,
             std::span<const std::byte> bytes) {
    Add({id, Kind::kWrite, file, offset, const_cast<std::byte*>(bytes.data()),
         bytes.size()});
  }
  void ReadVector(std::uint64_t id, int file, ::off_t offset,
                  std::span<const iovec> vectors) {
    Add({id, Kind::kReadVector, file, offset,
         const_cast<iovec*>(vectors.data()), vectors.size()});
  }
  void WriteVector(std::uint64_t id, int file, ::off_t offset,
                   std::span<const iovec> vectors) {
    Add({id, Kind::kWriteVector, file, offset,
         const_cast<iovec*>(vectors.data()), vectors.size()});
  }

  // Blocks until at least `min` requests are done, and appends the completions
  // of all that are to `completions`; with 0, of what is done already. Goes on
  // when a signal interrupts it. Requires `min` <= in_flight().
  //
  // Errors are those of io_uring_enter(2), which a queue of threads has none
  // of. After one the queue may only be destroyed.
  Result<void> Wait(std::size_t min, std::vector<Completion>& completions);

 protected:
  explicit Queue(std::size_t cap);

 private:
  virtual void Start(const Request& request) = 0;
  virtual Result<void> Collect(std::size_t min,
                               std::vector<Completion>& completions) = 0;

  std::size_t cap_;
  std::size_t in_flight_ = 0;
  bool failed_ = false;
};

// On a ring of its own, without a system call before Wait(). Requires a `cap`
// above 0. Errors are those of Ring::Create(), with invalid_argument for a
// `cap` above 32768.
Result<std::unique_ptr<Queue>> MakeRingQueue(std::size_t cap);

// On `cap` threads, which begin at once and handle no signals: for where there
// is no io_uring. Errors: those of pthread_create(3) and eventfd(2).
Result<std::unique_ptr<Queue>> MakeThreadQueue(std::size_t cap);

// On one thread, which executes what was added in that order. Errors as above.
Result<std::unique_ptr<Queue>> MakeSerialQueue(std::size_t cap);

// A queue that owns the memory of its transfers, from the call until the
// completion, and shares in the files; so no use of it can have memory written
// that is not there any more. Movable. Used as its Queue is.
template <ownership::Readable B>
class OwningQueue {
 public:
  struct Completion {
    std::uint64_t id;
    Result<std::size_t> size;  // as in Queue
    B buffer;
  };

  // Takes over a queue with nothing in flight.
  explicit OwningQueue(std::unique_ptr<Queue> queue)
      : slots_(queue->cap()), queue_(std::move(queue)) {
    ESCROW_CHECK(queue_->in_flight() == 0,
                 "an OwningQueue of a Queue with requests in flight");
    free_.reserve(slots_.size());
    for (std::size_t i = slots_.size(); i-- > 0;) free_.push_back(i);
    done_.reserve(slots_.size());
  }
  OwningQueue(OwningQueue&&) noexcept = default;
  // What is in flight has to end before what it works on.
  OwningQueue& operator=(OwningQueue&& other) noexcept {
    queue_.reset();
    slots_ = std::move(other.slots_);
    free_ = std::move(other.free_);
    done_ = std::move(other.done_);
    queue_ = std::move(other.queue_);
    return *this;
  }
  ~OwningQueue() = default;

  std::size_t cap() const noexcept { return queue_->cap(); }
  std::size_t in_flight() const noexcept { return queue_->in_flight(); }

  // Into the whole of `buffer`. Requires in_flight() < cap().
  void Read(std::uint64_t id, const ownership::Descriptor& file, ::off_t offset,
            B buffer) requires ownership::Writable<B> {
    Add(id, Queue::Kind::kRead, file, offset, std::move(buffer));
  }
  // The whole of `buffer`; may write less. Requires in_flight() < cap().
  void Write(std::uint64_t id, const ownership::Descriptor& file,
             ::off_t offset, B buffer) {
    Add(id, Queue::Kind::kWrite, file, offset, std::move(buffer));
  }

  // As Queue::Wait(). After an error, what is in flight keeps its memory until
  // this is destroyed.
  Result<void> Wait(std::size_t min, std::vector<Completion>& completions) {
    done_.clear();
    const Result<void> waited = queue_->Wait(min, done_);
    for (const Queue::Completion& done : done_) {
      const auto index = static_cast<std::size_t>(done.id);
      Slot& slot = slots_[index];
      completions.push_back({slot.id, done.size, std::move(*slot.buffer)});
      slot.buffer.reset();
      slot.file.Release();
      free_.push_back(index);
    }
    return waited;
  }

 private:
  struct Slot {
    std::uint64_t id = 0;
    std::optional<B> buffer;
    ownership::DescriptorShare file;
  };

  void Add(std::uint64_t id, Queue::Kind kind,
           const ownership::Descriptor& file, ::off_t offset, B buffer) {
    ESCROW_CHECK(!free_.empty(), "a request to a Queue that is full");
    const std::size_t index = free_.back();
    free_.pop_back();
    Slot& slot = slots_[index];
    slot.id = id;
    slot.file = file.Share();
    using Memory = ownership::OwnedMemory<B>;
    // There it stays.
    B& bytes = slot.buffer.emplace(std::move(buffer));
    const std::byte* const data = Memory::Data(bytes);
    queue_->Add({index, kind, file.number(), offset,
                 const_cast<std::byte*>(data), Memory::Size(bytes)});
  }

  std::vector<Slot> slots_;
  std::vector<std::size_t> free_;
  std::vector<Queue::Completion> done_;
  // Ends first.
  std::unique_ptr<Queue> queue_;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_QUEUE_H_
