#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <cstdint>

#include "escrow/raw/ops_wait.h"
#include "tests/raw_bytes.h"

namespace escrow::raw {
namespace {

TEST_F(RawBytes, Timeout) {
  Compare<Timeout>([](Random& random, io_uring_sqe* sqe) {
    const auto* const duration = random.Pointer<__kernel_timespec>();
    Timeout op{.duration = duration};
    const auto count = random.Optional(op.count);
    io_uring_prep_timeout(sqe, duration, count, random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, TimeoutMultishot) {
  Compare<TimeoutMultishot>([](Random& random, io_uring_sqe* sqe) {
    const auto* const duration = random.Pointer<__kernel_timespec>();
    TimeoutMultishot op{.duration = duration};
    const auto count = random.Optional(op.count);
    io_uring_prep_timeout(sqe, duration, count,
                          random.Optional(op.flags) | IORING_TIMEOUT_MULTISHOT);
    return op;
  });
}

TEST_F(RawBytes, TimeoutImmediate) {
  Compare<TimeoutImmediate>([](Random& random, io_uring_sqe* sqe) {
    const auto nanoseconds = random.Any<std::uint64_t>();
    TimeoutImmediate op{.nanoseconds = nanoseconds};
    const auto count = random.Optional(op.count);
    io_uring_prep_timeout(
        sqe, nullptr, count,
        random.Optional(op.flags) | IORING_TIMEOUT_IMMEDIATE_ARG);
    sqe->addr = nanoseconds;
    return op;
  });
}

TEST_F(RawBytes, TimeoutImmediateMultishot) {
  Compare<TimeoutImmediateMultishot>([](Random& random, io_uring_sqe* sqe) {
    const auto nanoseconds = random.Any<std::uint64_t>();
    TimeoutImmediateMultishot op{.nanoseconds = nanoseconds};
    const auto count = random.Optional(op.count);
    io_uring_prep_timeout(sqe, nullptr, count,
                          random.Optional(op.flags) | IORING_TIMEOUT_MULTISHOT |
                              IORING_TIMEOUT_IMMEDIATE_ARG);
    sqe->addr = nanoseconds;
    return op;
  });
}

TEST_F(RawBytes, TimeoutRemove) {
  Compare<TimeoutRemove>([](Random& random, io_uring_sqe* sqe) {
    const auto user_data = random.Any<std::uint64_t>();
    TimeoutRemove op{.user_data = user_data};
    io_uring_prep_timeout_remove(sqe, user_data, random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, TimeoutUpdate) {
  Compare<TimeoutUpdate>([](Random& random, io_uring_sqe* sqe) {
    const auto user_data = random.Any<std::uint64_t>();
    const auto* const duration = random.Pointer<__kernel_timespec>();
    TimeoutUpdate op{.user_data = user_data, .duration = duration};
    io_uring_prep_timeout_update(sqe, duration, user_data,
                                 random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, TimeoutUpdateImmediate) {
  Compare<TimeoutUpdateImmediate>([](Random& random, io_uring_sqe* sqe) {
    const auto user_data = random.Any<std::uint64_t>();
    const auto nanoseconds = random.Any<std::uint64_t>();
    TimeoutUpdateImmediate op{.user_data = user_data,
                              .nanoseconds = nanoseconds};
    io_uring_prep_timeout_update(
        sqe, nullptr, user_data,
        random.Optional(op.flags) | IORING_TIMEOUT_IMMEDIATE_ARG);
    sqe->addr2 = nanoseconds;
    return op;
  });
}

TEST_F(RawBytes, LinkTimeout) {
  Compare<LinkTimeout>([](Random& random, io_uring_sqe* sqe) {
    const auto* const duration = random.Pointer<__kernel_timespec>();
    LinkTimeout op{.duration = duration};
    io_uring_prep_link_timeout(sqe, duration, random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, LinkTimeoutImmediate) {
  Compare<LinkTimeoutImmediate>([](Random& random, io_uring_sqe* sqe) {
    const auto nanoseconds = random.Any<std::uint64_t>();
    LinkTimeoutImmediate op{.nanoseconds = nanoseconds};
    io_uring_prep_link_timeout(
        sqe, nullptr, random.Optional(op.flags) | IORING_TIMEOUT_IMMEDIATE_ARG);
    sqe->addr = nanoseconds;
    return op;
  });
}

TEST_F(RawBytes, PollAdd) {
  Compare<PollAdd>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto events = random.Any<unsigned>();
    io_uring_prep_poll_add(sqe, fd.number, events);
    fd.MarkFixed(sqe);
    return PollAdd{.fd = fd, .events = events};
  });
}

TEST_F(RawBytes, PollMultishot) {
  Compare<PollMultishot>([](Random& random, io_uring_sqe* sqe) {
    const auto fd = random.File();
    const auto events = random.Any<unsigned>();
    io_uring_prep_poll_multishot(sqe, fd.number, events);
    fd.MarkFixed(sqe);
    return PollMultishot{.fd = fd, .events = events};
  });
}

TEST_F(RawBytes, PollRemove) {
  Compare<PollRemove>([](Random& random, io_uring_sqe* sqe) {
    const auto user_data = random.Any<std::uint64_t>();
    io_uring_prep_poll_remove(sqe, user_data);
    return PollRemove{.user_data = user_data};
  });
}

TEST_F(RawBytes, PollUpdate) {
  Compare<PollUpdate>([](Random& random, io_uring_sqe* sqe) {
    const auto user_data = random.Any<std::uint64_t>();
    const auto flags = random.Any<unsigned>();
    PollUpdate op{.user_data = user_data, .flags = flags};
    const auto new_user_data = random.Optional(op.new_user_data);
    io_uring_prep_poll_update(sqe, user_data, new_user_data,
                              random.Optional(op.events), flags);
    return op;
  });
}

TEST_F(RawBytes, EpollCtl) {
  Compare<EpollCtl>([](Random& random, io_uring_sqe* sqe) {
    const auto epoll = random.Any<int>();
    const auto operation = random.Any<int>();
    const auto fd = random.Any<int>();
    EpollCtl op{.epoll = epoll, .operation = operation, .fd = fd};
    const epoll_event* event = nullptr;
    if (random.Flip()) op.event = event = random.Pointer<epoll_event>();
    io_uring_prep_epoll_ctl(sqe, epoll, fd, operation, event);
    return op;
  });
}

TEST_F(RawBytes, EpollWait) {
  Compare<EpollWait>([](Random& random, io_uring_sqe* sqe) {
    const auto epoll = random.File();
    auto* const events = random.Pointer<epoll_event>();
    const auto count = random.Any<int>();
    EpollWait op{.epoll = epoll, .events = events, .max_events = count};
    io_uring_prep_epoll_wait(sqe, epoll.number, events, count,
                             random.Optional(op.flags));
    epoll.MarkFixed(sqe);
    return op;
  });
}

TEST_F(RawBytes, FutexWait) {
  Compare<FutexWait>([](Random& random, io_uring_sqe* sqe) {
    const auto* const word = random.Pointer<std::uint32_t>();
    const auto expected = random.Any<std::uint64_t>();
    const auto futex_flags = random.Any<std::uint32_t>();
    FutexWait op{
        .word = word, .expected = expected, .futex_flags = futex_flags};
    const auto mask = random.Optional(op.mask, 0xffffffff);
    io_uring_prep_futex_wait(sqe, word, expected, mask, futex_flags,
                             random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, FutexWake) {
  Compare<FutexWake>([](Random& random, io_uring_sqe* sqe) {
    const auto* const word = random.Pointer<std::uint32_t>();
    const auto count = random.Any<std::uint64_t>();
    const auto futex_flags = random.Any<std::uint32_t>();
    FutexWake op{.word = word, .count = count, .futex_flags = futex_flags};
    const auto mask = random.Optional(op.mask, 0xffffffff);
    io_uring_prep_futex_wake(sqe, word, count, mask, futex_flags,
                             random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, FutexWaitV) {
  Compare<FutexWaitV>([](Random& random, io_uring_sqe* sqe) {
    const auto* const futexes = random.Pointer<futex_waitv>();
    const auto count = random.Any<std::uint32_t>();
    FutexWaitV op{.futexes = futexes, .count = count};
    io_uring_prep_futex_waitv(sqe, futexes, count, random.Optional(op.flags));
    return op;
  });
}

TEST_F(RawBytes, WaitId) {
  Compare<WaitId>([](Random& random, io_uring_sqe* sqe) {
    const auto type = random.Flip() ? P_PID : P_PIDFD;
    const auto id = random.Any<id_t>();
    const auto options = random.Any<int>();
    WaitId op{.id_type = type, .id = id, .options = options};
    siginfo_t* info = nullptr;
    if (random.Flip()) op.info = info = random.Pointer<siginfo_t>();
    io_uring_prep_waitid(sqe, type, id, info, options,
                         random.Optional(op.flags));
    return op;
  });
}

}  // namespace
}  // namespace escrow::raw
