#include "tests/raw_support.h"

#include <gtest/gtest.h>
#include <liburing.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <ostream>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/raw/ring.h"

namespace escrow::testing {
namespace {

std::vector<Completion> TakeAll(raw::Ring& ring) {
  std::vector<Completion> completions;
  io_uring_cqe* cqe;
  while (io_uring_peek_cqe(ring.get(), &cqe) == 0) {
    completions.push_back({cqe->user_data, cqe->res, cqe->flags});
    io_uring_cqe_seen(ring.get(), cqe);
  }
  return completions;
}

}  // namespace

raw::Ring MakeRing(unsigned setup_flags, unsigned entries) {
  const raw::RingOptions options = {.entries = entries,
                                    .setup_flags = setup_flags};
  auto ring = raw::Ring::Create(options);
  for (int i = 0; i < 500 && !ring && ring.error().value() == ENOMEM; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ring = raw::Ring::Create(options);
  }
  if (!ring) {
    ADD_FAILURE() << ring.error().message();
    std::abort();
  }
  return std::move(*ring);
}

void Queue(raw::Ring& ring, std::uint64_t user_data,
           const std::function<void(io_uring_sqe*)>& prepare) {
  io_uring_sqe* sqe = io_uring_get_sqe(ring.get());
  ASSERT_NE(sqe, nullptr);
  prepare(sqe);
  io_uring_sqe_set_data64(sqe, user_data);
}

void PrintTo(const Completion& completion, std::ostream* out) {
  *out << "{user_data " << completion.user_data << ", result "
       << completion.result << ", flags " << completion.flags << "}";
}

std::vector<Completion> Poll(raw::Ring& ring) {
  EXPECT_GE(io_uring_submit_and_get_events(ring.get()), 0);
  return TakeAll(ring);
}

std::vector<Completion> Reap(raw::Ring& ring, unsigned count) {
  EXPECT_GE(io_uring_submit_and_wait(ring.get(), count), 0);
  return TakeAll(ring);
}

int ResultOf(raw::Ring& ring,
             const std::function<void(io_uring_sqe*)>& prepare) {
  Queue(ring, /*user_data=*/99, prepare);
  const std::vector<Completion> completions = Reap(ring);
  if (completions.size() != 1 || completions[0].user_data != 99) {
    ADD_FAILURE() << "not one completion: "
                  << ::testing::PrintToString(completions);
    return -EPROTO;
  }
  return completions[0].result;
}

void ExpectUsable(raw::Ring& ring) {
  EXPECT_EQ(ResultOf(ring, io_uring_prep_nop), 0);
}

}  // namespace escrow::testing
