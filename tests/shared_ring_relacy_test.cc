// The algorithms of raw/shared_queues.h in a model checker: in all orders in
// which threads can run, switching up to so many times where nothing makes
// them, and with everything that the C++ memory model lets a load see. Then
// again with each order of memory relaxed in turn, which must be found out.

#include <gtest/gtest.h>
#include <liburing.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <ostream>
#include <span>
#include <streambuf>
#include <string>
#include <string_view>
#include <vector>

#include "escrow/raw/shared_queues.h"

// After all others: it redefines words of the language.
#include <relacy/relacy.hpp>
#undef new
#undef delete
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef assert
#undef errno
#undef memory_order_relaxed
#undef memory_order_consume
#undef memory_order_acquire
#undef memory_order_release
#undef memory_order_acq_rel
#undef memory_order_seq_cst

namespace escrow::raw {
namespace {

using enum OrderedAt;

// The place whose order is relaxed.
OrderedAt relaxed_at = kNowhere;

// Whether all that is copied is claimed, because only one thread does. Then the
// kernel must not overwrite it meanwhile.
bool one_copies = false;

// Relacy's atomics. A fence that is relaxed is one that is not full.
struct CheckedMemory {
  template <typename T>
  using Atomic = rl::atomic<T>;
  using Word = rl::atomic<unsigned>;
  struct Entry {
    rl::atomic<std::uint64_t> user_data;
    rl::atomic<std::uint32_t> result;
    rl::var<std::uint32_t> plain;
  };
  struct Completion {
    std::uint64_t user_data;
    std::uint32_t result;
  };
  using Order = std::memory_order;

  static rl::memory_order Of(Order order, OrderedAt at) {
    if (at == relaxed_at && at != kNowhere) return rl::mo_relaxed;
    switch (order) {
      case std::memory_order_relaxed:
        return rl::mo_relaxed;
      case std::memory_order_consume:
      case std::memory_order_acquire:
        return rl::mo_acquire;
      case std::memory_order_release:
        return rl::mo_release;
      case std::memory_order_acq_rel:
        return rl::mo_acq_rel;
      case std::memory_order_seq_cst:
        break;
    }
    return rl::mo_seq_cst;
  }

  template <typename T>
  static T Load(const rl::atomic<T>& atomic, Order order, OrderedAt at) {
    return atomic.load(Of(order, at), RL_INFO);
  }
  template <typename T>
  static void Store(rl::atomic<T>& atomic, T value, Order order, OrderedAt at) {
    atomic.store(value, Of(order, at), RL_INFO);
  }
  template <typename T>
  static T Exchange(rl::atomic<T>& atomic, T value, Order order, OrderedAt at) {
    return atomic.exchange(value, Of(order, at), RL_INFO);
  }
  template <typename T>
  static T FetchAdd(rl::atomic<T>& atomic, T value, Order order, OrderedAt at) {
    return atomic.fetch_add(value, Of(order, at), RL_INFO);
  }
  template <typename T>
  static bool CompareExchange(rl::atomic<T>& atomic, T& expected, T value,
                              Order success, Order failure, OrderedAt at) {
    return atomic.compare_exchange_strong(expected, value, Of(success, at),
                                          RL_INFO, Of(failure, at), RL_INFO);
  }
  static void Fence(Order, OrderedAt at) {
    rl::atomic_thread_fence(at == relaxed_at ? rl::mo_acq_rel : rl::mo_seq_cst,
                            RL_INFO);
  }
  static Completion Copy(Entry& entry) {
    if (one_copies) (void)static_cast<std::uint32_t>(entry.plain(RL_INFO));
    return {entry.user_data.load(rl::mo_relaxed, RL_INFO),
            entry.result.load(rl::mo_relaxed, RL_INFO)};
  }
};

// A submission queue, its entries, and what the kernel does to them: as the
// kernel does, with acquire and release, and nothing more.
template <unsigned kEntries>
struct Submissions {
  using Memory = CheckedMemory;

  void Init(std::uint64_t most_in_flight) {
    // Near the wrap.
    const unsigned start = ~0u;
    head.store(start, rl::mo_relaxed, RL_INFO);
    tail.store(start, rl::mo_relaxed, RL_INFO);
    for (auto& element : array) element.store(0, rl::mo_relaxed, RL_INFO);
    for (auto& sqe : sqes) sqe(RL_INFO) = 0;
    queue.Init({.head = &head,
                .tail = &tail,
                .array = array.data(),
                .entries = kEntries,
                .published = published.data()},
               most_in_flight);
    consumed = {};
    expected = {};
  }

  // Takes as many entries as there are values, fills them and publishes them.
  // Returns false if it did not get them.
  bool Push(std::span<const unsigned> values) {
    std::array<unsigned, kEntries> indices;
    const std::size_t taken =
        queue.Take(std::span(indices).first(values.size()));
    RL_ASSERT(taken <= values.size());
    if (taken == 0) return false;
    for (std::size_t i = 0; i < taken; ++i) {
      RL_ASSERT(indices[i] < kEntries);
      sqes[indices[i]](RL_INFO) = values[i];
      ++expected[values[i]];
    }
    if (queue.Publish(taken, [&](std::size_t i) { return indices[i]; })) {
      Submit();
    }
    return true;
  }

  // The system call: consumes `pending` entries.
  void Consume(unsigned pending) {
    const unsigned end = tail.load(rl::mo_acquire, RL_INFO);
    unsigned position = head.load(rl::mo_relaxed, RL_INFO);
    ++enters;
    for (; pending > 0 && position != end; --pending) {
      const unsigned index =
          array[position & (kEntries - 1)].load(rl::mo_relaxed, RL_INFO);
      RL_ASSERT(index < kEntries);
      const unsigned value = sqes[index](RL_INFO);
      RL_ASSERT(value != 0);
      ++consumed[value];
      consumed_by[value] = enters;
      ++position;
      head.store(position, rl::mo_release, RL_INFO);
    }
    RL_ASSERT(pending == 0);
  }

  void Submit() {
    queue.Submit([this](const auto& collected) {
      RL_ASSERT(collected.pending <= kEntries);
      RL_ASSERT(!inside);
      inside = true;
      if (collected.pending != 0) Consume(collected.pending);
      inside = false;
      // Only then are completions there.
      queue.Complete(collected.pending);
    });
  }

  // Everything that was published is consumed, once.
  void ExpectAllConsumed() { RL_ASSERT(consumed == expected); }

  Memory::Word head, tail;
  std::array<Memory::Word, kEntries> array;
  std::array<rl::var<unsigned>, kEntries> sqes;
  std::array<rl::atomic<std::uint64_t>, kEntries> published;
  SubmissionQueue<Memory> queue;
  // Of the test itself; not looked at for races.
  std::array<unsigned, 8> consumed, expected, consumed_by;
  unsigned enters = 0;
  bool inside = false;
};

// Two threads, one entry: each takes what the other had.
struct Recycling : rl::test_suite<Recycling, 2> {
  void before() { queues.Init(/*most_in_flight=*/1); }
  void thread(unsigned index) {
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned value = 1 + 2 * index + i;
      if (queues.Push(std::span(&value, 1))) queues.Submit();
    }
  }
  void after() { queues.ExpectAllConsumed(); }

  Submissions<1> queues;
};

// Three threads share two entries.
struct Contention : rl::test_suite<Contention, 3> {
  void before() { queues.Init(/*most_in_flight=*/2); }
  void thread(unsigned index) {
    const unsigned value = 1 + index;
    if (queues.Push(std::span(&value, 1))) queues.Submit();
  }
  void after() { queues.ExpectAllConsumed(); }

  Submissions<2> queues;
};

// One publishes two together, and does not submit. Another does, behind or in
// front of these.
struct Batch : rl::test_suite<Batch, 2> {
  void before() { queues.Init(/*most_in_flight=*/4); }
  void thread(unsigned index) {
    if (index == 0) {
      constexpr unsigned kValues[] = {1, 2};
      RL_ASSERT(queues.Push(kValues));
    } else {
      constexpr unsigned kValue[] = {3};
      RL_ASSERT(queues.Push(kValue));
      queues.Submit();
    }
  }
  void after() {
    RL_ASSERT(queues.consumed[3] == 1);
    RL_ASSERT(queues.consumed[1] == queues.consumed[2]);
    RL_ASSERT(queues.consumed[1] == 0 ||
              queues.consumed_by[1] == queues.consumed_by[2]);
  }

  Submissions<4> queues;
};

// A thread of the kernel consumes, and goes to sleep when there is nothing.
struct Polling : rl::test_suite<Polling, 2> {
  void before() {
    queues.Init(/*most_in_flight=*/2);
    flags.store(0, rl::mo_relaxed, RL_INFO);
  }
  void thread(unsigned index) {
    if (index == 0) {
      Poll();
      return;
    }
    const unsigned value = 1;
    RL_ASSERT(queues.Push(std::span(&value, 1)));
    queues.queue.Submit([this](const auto& collected) {
      if (collected.pending != 0 && queues.queue.NeedsWakeup(flags)) {
        woken = true;
      }
    });
  }
  void Poll() {
    unsigned position = queues.head.load(rl::mo_relaxed, RL_INFO);
    const auto waiting = [&] {
      return queues.tail.load(rl::mo_acquire, RL_INFO) - position;
    };
    if (const unsigned pending = waiting(); pending != 0) {
      queues.Consume(pending);
      return;
    }
    flags.store(IORING_SQ_NEED_WAKEUP, rl::mo_relaxed, RL_INFO);
    rl::atomic_thread_fence(rl::mo_seq_cst, RL_INFO);
    if (const unsigned pending = waiting(); pending != 0) {
      queues.Consume(pending);
      return;
    }
    asleep = true;
  }
  void after() { RL_ASSERT(!asleep || woken); }

  Submissions<2> queues;
  rl::atomic<unsigned> flags;
  bool asleep = false;
  bool woken = false;
};

// The kernel completes three requests in a queue of two or one, of which it
// overwrites what it was given back. Threads reap, and one that does not gives
// back what they have claimed.
template <unsigned kEntries, unsigned kReapers, std::size_t kPortion,
          bool kHelped = false>
struct Reaping : rl::test_suite<Reaping<kEntries, kReapers, kPortion, kHelped>,
                                kReapers + kHelped + 1> {
  using Memory = CheckedMemory;
  static constexpr unsigned kStart = ~0u;

  void before() {
    head.store(kStart, rl::mo_relaxed, RL_INFO);
    tail.store(kStart, rl::mo_relaxed, RL_INFO);
    for (auto& entry : entries) {
      entry.user_data.store(0, rl::mo_relaxed, RL_INFO);
      entry.result.store(0, rl::mo_relaxed, RL_INFO);
      entry.plain(RL_INFO) = 0;
    }
    one_copies = kReapers == 1;
    queue.Init({.head = &head,
                .tail = &tail,
                .entries = entries.data(),
                .mask = kEntries - 1});
  }

  void thread(unsigned index) {
    if (index == 0) {
      Complete();
      return;
    }
    if (kHelped && index == kReapers + 1) {
      queue.GiveBack();
      return;
    }
    for (int i = 0; i < 2; ++i) {
      std::array<Memory::Completion, kPortion> reaped;
      const std::size_t count = queue.Reap(reaped);
      RL_ASSERT(count <= kPortion);
      for (std::size_t j = 0; j < count; ++j) {
        RL_ASSERT(reaped[j].user_data >= 1 && reaped[j].user_data <= posted);
        RL_ASSERT(reaped[j].result == reaped[j].user_data);
        RL_ASSERT(j == 0 || reaped[j].user_data == reaped[j - 1].user_data + 1);
        RL_ASSERT(!seen[reaped[j].user_data]);
        seen[reaped[j].user_data] = true;
        ++total;
      }
    }
  }

  void Complete() {
    unsigned position = kStart;
    for (int attempt = 0; attempt < 4 && posted < 3; ++attempt) {
      const unsigned used = position - head.load(rl::mo_acquire, RL_INFO);
      RL_ASSERT(used <= kEntries);
      if (used == kEntries) continue;
      auto& entry = entries[position & (kEntries - 1)];
      ++posted;
      entry.user_data.store(posted, rl::mo_relaxed, RL_INFO);
      entry.result.store(posted, rl::mo_relaxed, RL_INFO);
      if (one_copies) entry.plain(RL_INFO) = posted;
      ++position;
      tail.store(position, rl::mo_release, RL_INFO);
    }
  }

  // Nothing that was reaped is kept from the kernel.
  void after() {
    RL_ASSERT(head.load(rl::mo_acquire, RL_INFO) == kStart + total);
  }

  Memory::Word head, tail;
  std::array<Memory::Entry, kEntries> entries;
  CompletionQueue<Memory> queue;
  std::array<bool, 4> seen = {};
  unsigned posted = 0;
  unsigned total = 0;
};

using ReapingOne = Reaping<1, 1, 1>;
using ReapingTwo = Reaping<2, 2, 2>;
using Helping = Reaping<1, 1, 1, true>;

// Relacy replaces `new` while it searches; what it writes then must allocate
// nothing.
class Report : public std::streambuf {
 public:
  Report() { setp(text_.data(), text_.data() + text_.size()); }
  std::string_view text() const {
    return {pbase(), static_cast<std::size_t>(pptr() - pbase())};
  }

 private:
  // What is too much is left out.
  int_type overflow(int_type character) override {
    return traits_type::not_eof(character);
  }

  std::array<char, 1 << 14> text_;
};

struct Outcome {
  bool passed;
  std::uint64_t tried;
};

template <typename Suite>
Outcome Search(unsigned switches, Report& report) {
  std::ostream stream(&report);
  rl::test_params params;
  params.search_type = rl::sched_bound;
  params.context_bound = switches;
  params.output_stream = &stream;
  params.progress_stream = &stream;
  const bool passed = rl::simulate<Suite>(params);
  return {passed, static_cast<std::uint64_t>(params.stop_iteration)};
}

struct Scenario {
  const char* name;
  Outcome (*search)(unsigned switches, Report& report);
  unsigned switches;
};

// The shortest first.
constexpr Scenario kScenarios[] = {
    {"ReapingOne", Search<ReapingOne>, 3},
    {"Polling", Search<Polling>, 3},
    {"Helping", Search<Helping>, 2},
    {"ReapingTwo", Search<ReapingTwo>, 2},
    {"Batch", Search<Batch>, 3},
    {"Recycling", Search<Recycling>, 2},
    {"Contention", Search<Contention>, 1},
};

class InAllOrders : public ::testing::TestWithParam<Scenario> {};

TEST_P(InAllOrders, Holds) {
  relaxed_at = kNowhere;
  static Report report;
  const Outcome outcome = GetParam().search(GetParam().switches, report);
  EXPECT_TRUE(outcome.passed) << report.text();
  EXPECT_GT(outcome.tried, 100u);
}

INSTANTIATE_TEST_SUITE_P(SharedQueues, InAllOrders,
                         ::testing::ValuesIn(kScenarios),
                         [](const auto& parameter) {
                           return parameter.param.name;
                         });

// All of them but kPublishClaim, without which a thread could read an element
// that was written after it: in the memory model, but neither in this checker,
// whose loads see nothing that comes later, nor on any processor whose stores
// wait for earlier loads.
class Relaxed : public ::testing::TestWithParam<OrderedAt> {};

TEST_P(Relaxed, IsFound) {
  relaxed_at = GetParam();
  static Report report;
  bool found = false;
  for (const Scenario& scenario : kScenarios) {
    if (!scenario.search(scenario.switches, report).passed) {
      found = true;
      break;
    }
  }
  relaxed_at = kNowhere;
  EXPECT_TRUE(found);
}

INSTANTIATE_TEST_SUITE_P(SharedQueues, Relaxed,
                         ::testing::Values(kTakeCounter, kTakeHead, kTakeClaim,
                                           kPublish, kCollect, kTail, kEnter,
                                           kLeave, kWakeup, kReapCounter,
                                           kReapTail, kReapClaim,
                                           kGiveBackCounter, kGiveBackHead));

}  // namespace
}  // namespace escrow::raw
