// A program that uses io_uring in its own way, and the few lines at the end
// that fuzz what it owns while the kernel uses it. It needs no part of escrow
// but //fuzz.
//
//   bazel run --config=fuzz //examples:fuzz_your_own -- -max_total_time=60
//
// finds nothing. The same program with the mistake that most such programs have
// had at some time is //examples:fuzz_your_own_with_a_mistake: after a second
// or so, a report says where the memory was freed too early, and where the
// kernel was given it.

#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "escrow/fuzz/run.h"

namespace {

// Writes lines to the end of a file, in the background.
class LogWriter {
 public:
  explicit LogWriter(int file) : file_(file) {
    if (io_uring_queue_init(8, &ring_, 0) != 0) std::abort();
  }
  ~LogWriter() {
    Flush();
    io_uring_queue_exit(&ring_);
  }
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  void Append(std::string text) {
    Line& line = *lines_.emplace_back(std::make_unique<Line>(std::move(text)));
    io_uring_sqe* const entry = NextEntry();
    io_uring_prep_write(entry, file_, line.text.data(),
                        static_cast<unsigned>(line.text.size()), end_);
    io_uring_sqe_set_data(entry, &line);
    end_ += line.text.size();
    io_uring_submit(&ring_);
  }

  // Gives up the oldest line, if it is not too late.
  void GiveUp() {
    if (lines_.empty()) return;
    Line& line = *lines_.front();
    io_uring_sqe* const entry = NextEntry();
    io_uring_prep_cancel(entry, &line, 0);
    // The address with a bit that no address has.
    io_uring_sqe_set_data64(
        entry, reinterpret_cast<std::uintptr_t>(&line) | kCancellation);
    ++cancellations_;
    io_uring_submit(&ring_);
  }

  // Takes in what is there.
  void Poll() {
    io_uring_submit_and_get_events(&ring_);
    io_uring_cqe* completion;
    while (io_uring_peek_cqe(&ring_, &completion) == 0) Take(*completion);
  }

  // Waits for all of it.
  void Flush() {
    while (!lines_.empty() || cancellations_ > 0) {
      // Both fail when a signal comes, for one.
      io_uring_submit_and_wait(&ring_, 1);
      Poll();
    }
  }

 private:
  struct Line {
    std::string text;
  };
  static constexpr std::uint64_t kCancellation = 1;

  io_uring_sqe* NextEntry() {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    while (entry == nullptr) {
      Poll();
      entry = io_uring_get_sqe(&ring_);
    }
    return entry;
  }

  void Take(const io_uring_cqe& completion) {
    const std::uint64_t data = completion.user_data;
    io_uring_cqe_seen(&ring_, const_cast<io_uring_cqe*>(&completion));
    if ((data & kCancellation) != 0) {
      --cancellations_;
#ifdef ESCROW_EXAMPLE_MISTAKE
      // "It is cancelled, so nobody needs it any more." But that the kernel
      // tried says nothing of the write: it may be running, and go on.
      Forget(data & ~kCancellation);
#endif
      return;
    }
    Forget(data);
  }

  void Forget(std::uint64_t data) {
    std::erase_if(lines_, [data](const std::unique_ptr<Line>& line) {
      return reinterpret_cast<std::uintptr_t>(line.get()) == data;
    });
  }

  io_uring ring_;
  int file_;
  std::uint64_t end_ = 0;  // of the file
  int cancellations_ = 0;  // in flight
  // By pointer, for they stay where they are.
  std::vector<std::unique_ptr<Line>> lines_;
};

}  // namespace

// A program that uses it, and a kernel: each input is one of each.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  static const int file = ::memfd_create("log", MFD_CLOEXEC);
  const escrow::fuzz::Run run(data, size);
  LogWriter log(file);
  for (const escrow::fuzz::Action& action : run.actions()) {
    switch (action.kind % 4) {
      case 0:
        log.Append(std::string(40 + action.a, 'x'));
        break;
      case 1:
        log.GiveUp();
        break;
      case 2:
        log.Poll();
        break;
      case 3:
        log.Flush();
        break;
    }
  }
  return 0;
}
