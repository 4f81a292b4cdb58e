// Prints how long a nop takes from its submission to its completion, in
// nanoseconds, in plain liburing. The median of many, for an interrupt is as
// long as a thousand.

#include <liburing.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "bench/median.h"

namespace {

// Negative if it fails.
int RoundTrip(io_uring& ring) {
  io_uring_prep_nop(io_uring_get_sqe(&ring));
  if (const int submitted = io_uring_submit_and_wait(&ring, 1); submitted < 0) {
    return submitted;
  }
  io_uring_cqe* completion = nullptr;
  if (const int error = io_uring_peek_cqe(&ring, &completion); error < 0) {
    return error;
  }
  io_uring_cqe_seen(&ring, completion);
  return 0;
}

}  // namespace

int main() {
  io_uring ring;
  int error = io_uring_queue_init(8, &ring, 0);
  std::vector<double> times;
  while (error == 0 && times.size() < 20'000) {
    const auto start = std::chrono::steady_clock::now();
    error = RoundTrip(ring);
    const std::chrono::duration<double, std::nano> time =
        std::chrono::steady_clock::now() - start;
    times.push_back(time.count());
  }
  if (error != 0) {
    std::fprintf(stderr, "nop_round_trip: %s\n", std::strerror(-error));
    return 1;
  }
  io_uring_queue_exit(&ring);
  std::printf("%.0f\n", escrow::bench::Median(times));
  return 0;
}
