// Prints how long a nop takes from its submission to its completion, in
// nanoseconds, in plain liburing. The median of many, for an interrupt is as
// long as a thousand.

#include <liburing.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <vector>

int main() {
  io_uring ring;
  int error = -io_uring_queue_init(8, &ring, 0);
  std::vector<double> times(20'000);
  for (double& time : times) {
    const auto start = std::chrono::steady_clock::now();
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    io_uring_cqe* completion = nullptr;
    if (error == 0) error = std::min(0, io_uring_submit_and_wait(&ring, 1));
    if (error == 0) error = io_uring_peek_cqe(&ring, &completion);
    if (error != 0) {
      std::fprintf(stderr, "nop_round_trip: %s\n",
                   std::strerror(error < 0 ? -error : error));
      return 1;
    }
    io_uring_cqe_seen(&ring, completion);
    time = std::chrono::duration<double, std::nano>(
               std::chrono::steady_clock::now() - start)
               .count();
  }
  io_uring_queue_exit(&ring);
  const auto middle =
      times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  std::printf("%.0f\n", *middle);
  return 0;
}
