// usage: shared [SECONDS]
//
// Prints what a ring that threads share takes in time: escrow::raw::SharedRing,
// against liburing's between two mutexes, one for submitting and one for
// reaping, and against a ring for each thread, without and with a message to
// the next thread's ring for each batch. Every thread pushes nops in batches,
// submits, and reaps a batch of whatever is there. SECONDS, 1 by default, is
// for each line.

#include <liburing.h>

#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <system_error>
#include <thread>
#include <vector>

#include "bench/alternate.h"
#include "bench/seconds.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/shared_ring.h"

namespace escrow::bench {
namespace {

constexpr unsigned kEntries = 256;
constexpr unsigned kMostThreads = 4;
constexpr unsigned kMostBatch = 32;
// Of all threads in a run, for each of a batch. So many that all threads are at
// it for most of the run.
constexpr unsigned kBatches = 1 << 14;

enum Implementation { kMutexes, kShared, kOwn, kOwnWithMessages };

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "shared: %s failed\n", what);
  std::exit(1);
}
void Require(bool condition, const char* what) {
  if (!condition) Fail(what);
}

void Pause() { std::this_thread::yield(); }

// liburing's ring between two mutexes.
class Mutexes {
 public:
  Mutexes() {
    Require(io_uring_queue_init(kEntries, &ring_, 0) == 0, "io_uring_setup");
  }
  ~Mutexes() { io_uring_queue_exit(&ring_); }

  void Submit(unsigned batch) {
    const std::scoped_lock lock(submission_);
    for (unsigned i = 0; i < batch; ++i) {
      io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
      io_uring_prep_nop(sqe);
      io_uring_sqe_set_data64(sqe, i + 1);
    }
    Require(io_uring_submit(&ring_) == static_cast<int>(batch), "submit");
  }

  unsigned Reap(unsigned batch) {
    std::array<io_uring_cqe*, kMostBatch> completions;
    const std::scoped_lock lock(completion_);
    const unsigned count =
        io_uring_peek_batch_cqe(&ring_, completions.data(), batch);
    for (unsigned i = 0; i < count; ++i) {
      Require(completions[i]->res == 0, "nop");
    }
    io_uring_cq_advance(&ring_, count);
    return count;
  }

 private:
  std::mutex submission_;
  std::mutex completion_;
  io_uring ring_;
};

class Shared {
 public:
  Shared() {
    auto ring = raw::SharedRing::Create({.entries = kEntries});
    Require(ring.has_value(), "io_uring_setup");
    ring_ = std::move(*ring);
  }

  void Submit(unsigned batch) {
    thread_local std::array<raw::SharedRing::Entry, kMostBatch> entries;
    const auto all = std::span(entries).first(batch);
    for (std::size_t taken = 0; taken < batch;) {
      taken += ring_->Take(all.subspan(taken));
      if (taken < batch) Pause();
    }
    for (unsigned i = 0; i < batch; ++i) all[i].Fill(raw::Nop{}, i + 1);
    ring_->Publish(all);
    Require(ring_->Submit().has_value(), "submit");
  }

  unsigned Reap(unsigned batch) {
    std::array<raw::SharedCompletion, kMostBatch> completions;
    const auto count =
        static_cast<unsigned>(ring_->Reap(std::span(completions).first(batch)));
    for (unsigned i = 0; i < count; ++i) {
      Require(completions[i].result == 0, "nop");
    }
    return count;
  }

 private:
  std::unique_ptr<raw::SharedRing> ring_;
};

// A thread's own ring, as the kernel likes it best.
class Own {
 public:
  Own() {
    Require(io_uring_queue_init(
                kEntries, &ring_,
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) == 0,
            "io_uring_setup");
  }
  ~Own() { io_uring_queue_exit(&ring_); }
  int fd() const { return ring_.ring_fd; }

  // `peer` is where a message goes, if it is not negative.
  void Run(unsigned rounds, unsigned batch, int peer) {
    const unsigned messages = peer < 0 ? 0 : 1;
    const unsigned expected = rounds * (batch + 2 * messages);
    unsigned reaped = 0;
    for (unsigned i = 0; i < rounds; ++i) {
      for (unsigned j = 0; j < batch; ++j) {
        io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data64(sqe, j + 1);
      }
      if (messages != 0) {
        io_uring_prep_msg_ring(io_uring_get_sqe(&ring_), peer, 0, i, 0);
      }
      Require(io_uring_submit_and_get_events(&ring_) ==
                  static_cast<int>(batch + messages),
              "submit");
      reaped += Reap();
    }
    while (reaped < expected) {
      io_uring_cqe* unused;
      Require(io_uring_wait_cqe(&ring_, &unused) == 0, "wait");
      reaped += Reap();
    }
  }

 private:
  unsigned Reap() {
    unsigned head;
    unsigned count = 0;
    io_uring_cqe* cqe;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      Require(cqe->res == 0, "nop");
      ++count;
    }
    io_uring_cq_advance(&ring_, count);
    return count;
  }

  io_uring ring_;
};

// Threads that run what they are told, all at once.
class Bench {
 public:
  Bench(unsigned threads, unsigned batch)
      : threads_(threads), batch_(batch), barrier_(threads + 1) {
    for (unsigned i = 0; i < threads; ++i) {
      workers_.emplace_back([this, i] { Work(i); });
    }
    barrier_.arrive_and_wait();  // all have their rings
  }
  ~Bench() {
    stop_ = true;
    barrier_.arrive_and_wait();
    for (std::thread& worker : workers_) worker.join();
  }

  void Run(Implementation implementation) {
    implementation_ = implementation;
    reaped_ = 0;
    barrier_.arrive_and_wait();
    barrier_.arrive_and_wait();
  }

 private:
  template <typename Ring>
  void RunOn(Ring& ring) {
    unsigned counted = 0;
    for (unsigned i = 0; i < rounds(); ++i) {
      ring.Submit(batch_);
      counted += ring.Reap(batch_);
    }
    reaped_ += counted;
    while (reaped_ < rounds() * threads_ * batch_) {
      if (const unsigned count = ring.Reap(batch_); count != 0) {
        reaped_ += count;
      } else {
        Pause();
      }
    }
  }

  void Work(unsigned index) {
    Own own;
    descriptors_[index] = own.fd();
    barrier_.arrive_and_wait();
    for (;;) {
      barrier_.arrive_and_wait();
      if (stop_) return;
      switch (implementation_) {
        case kMutexes:
          RunOn(mutexes_);
          break;
        case kShared:
          RunOn(shared_);
          break;
        case kOwn:
          own.Run(rounds(), batch_, -1);
          break;
        default:
          own.Run(rounds(), batch_, descriptors_[(index + 1) % threads_]);
          break;
      }
      barrier_.arrive_and_wait();
    }
  }

  unsigned rounds() const { return kBatches / threads_; }

  const unsigned threads_;
  const unsigned batch_;
  std::barrier<> barrier_;
  Mutexes mutexes_;
  Shared shared_;
  Implementation implementation_ = kMutexes;
  bool stop_ = false;
  std::array<int, kMostThreads> descriptors_ = {};
  std::atomic<unsigned> reaped_ = 0;
  std::vector<std::thread> workers_;
};

// In the order of Implementation.
std::vector<Times> Compare(unsigned threads, unsigned batch,
                           std::chrono::seconds limit) {
  Bench bench(threads, batch);
  std::vector<std::function<std::error_code()>> runs;
  for (const Implementation each :
       {kMutexes, kShared, kOwn, kOwnWithMessages}) {
    runs.emplace_back([&bench, each] {
      bench.Run(each);
      return std::error_code();
    });
    // What is done once only is not measured.
    (void)runs.back()();
  }
  return *Alternate(runs, kBatches * batch, limit);
}

int Main(int argc, char** argv) {
  const std::chrono::seconds limit = SecondsFrom(argc, argv, "shared");
  std::printf(
      "a nop, in nanoseconds between two mutexes, and in parts of that:\n"
      "%7s %6s %12s %12s %12s %12s\n",
      "threads", "batch", "two mutexes", "SharedRing", "own rings",
      "+ messages");
  for (const unsigned batch : {1u, kMostBatch}) {
    for (const unsigned threads : {1u, 2u, kMostThreads}) {
      const std::vector<Times> times = Compare(threads, batch, limit);
      std::printf("%7u %6u %12.1f %12.2f %12.2f %12.2f\n", threads, batch,
                  times[kMutexes].time, times[kShared].ratio, times[kOwn].ratio,
                  times[kOwnWithMessages].ratio);
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace escrow::bench

int main(int argc, char** argv) { return escrow::bench::Main(argc, argv); }
