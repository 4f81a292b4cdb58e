#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "escrow/raw/buffer_ring.h"
#include "escrow/raw/ring.h"
#include "tests/raw_support.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

using testing::Completion;
using testing::ExpectUsable;
using testing::MakeRing;
using testing::Pipe;
using testing::Queue;
using testing::Reap;

constexpr std::uint16_t kGroup = 3;
constexpr int kBuffers = 4;
constexpr std::uint32_t kSize = 64;

// Buffers, and where the kernel finds them.
struct Memory {
  alignas(4096) std::array<std::byte, 4096> ring;
  char buffers[kBuffers][kSize];
};

// Not on a stack, whose other memory would be pinned with it.
Memory& Storage() {
  static Memory memory;
  return memory;
}

template <typename Group>
void AddAll(Group& group) {
  for (int i = 0; i < kBuffers; ++i) {
    group.Add(Storage().buffers[i], kSize, static_cast<std::uint16_t>(i), i);
  }
  group.Advance(kBuffers);
}

void Write(int fd, std::string_view text) {
  ASSERT_EQ(write(fd, text.data(), text.size()),
            static_cast<ssize_t>(text.size()));
}

// A read of at most `length` bytes into a buffer of the group.
Completion Read(Ring& ring, int fd, unsigned length = kSize) {
  Queue(ring, 1, [&](io_uring_sqe* sqe) {
    io_uring_prep_read(sqe, fd, nullptr, length, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = kGroup;
  });
  const std::vector<Completion> completions = Reap(ring);
  EXPECT_EQ(completions.size(), 1u);
  return completions.empty() ? Completion{} : completions[0];
}

io_uring_cqe Cqe(const Completion& completion) {
  io_uring_cqe cqe = {};
  cqe.user_data = completion.user_data;
  cqe.res = completion.result;
  cqe.flags = completion.flags;
  return cqe;
}

// Reads some text through every buffer of the group, twice.
void ExchangeThrough(Ring& ring, BufferRing& group) {
  const Pipe pipe;
  EXPECT_EQ(group.Available(ring), kBuffers);
  for (int i = 0; i < 2 * kBuffers; ++i) {
    const std::string text = "text " + std::to_string(i);
    Write(pipe.write_end, text);
    const io_uring_cqe cqe = Cqe(Read(ring, pipe.read_end));
    ASSERT_EQ(cqe.res, static_cast<int>(text.size()));
    ASSERT_TRUE(HasBuffer(cqe));
    EXPECT_FALSE(BufferHasMore(cqe));
    const std::uint16_t id = BufferId(cqe);
    EXPECT_EQ(id, i % kBuffers);
    EXPECT_EQ(std::string_view(Storage().buffers[id], text.size()), text);
    EXPECT_EQ(group.Head(ring), i + 1);
    EXPECT_EQ(group.Available(ring), kBuffers - 1);
    group.Add(Storage().buffers[id], kSize, id);
    group.Advance(1);
    EXPECT_EQ(group.Available(ring), kBuffers);
  }
  close(pipe.read_end);
  close(pipe.write_end);
}

TEST(RawBufferRing, InMemoryOfTheCaller) {
  Ring ring = MakeRing();
  // What was there before must not be taken for buffers.
  Storage().ring.fill(std::byte{0xff});
  auto group = BufferRing::Register(
      ring, {.group = kGroup, .entries = kBuffers}, &Storage().ring);
  ASSERT_TRUE(group) << group.error().message();
  EXPECT_EQ(group->group(), kGroup);
  EXPECT_EQ(group->entries(), static_cast<unsigned>(kBuffers));
  EXPECT_EQ(static_cast<void*>(group->get()), &Storage().ring);
  EXPECT_EQ(group->Available(ring), 0);
  AddAll(*group);
  ExchangeThrough(ring, *group);
  EXPECT_FALSE(group->Unregister(ring));
  EXPECT_EQ(group->Unregister(ring), std::errc::no_such_file_or_directory);
  EXPECT_EQ(group->Head(ring).error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(group->Available(ring).error(),
            std::errc::no_such_file_or_directory);
  ExpectUsable(ring);
}

TEST(RawBufferRing, MappedFromTheKernel) {
  Ring ring = MakeRing();
  auto group = BufferRing::Map(ring, {.group = kGroup, .entries = kBuffers});
  ASSERT_TRUE(group) << group.error().message();
  AddAll(*group);
  ExchangeThrough(ring, *group);
  EXPECT_FALSE(group->Unregister(ring));
  // The mapping is gone too.
  unsigned char resident;
  EXPECT_EQ(mincore(group->get(), 4096, &resident), -1);
  EXPECT_EQ(errno, ENOMEM);
  ExpectUsable(ring);
}

TEST(RawBufferRing, RefusesWhatCannotBe) {
  Ring ring = MakeRing();
  EXPECT_EQ(
      BufferRing::Map(ring, {.group = kGroup, .entries = 3}).error().message(),
      "io_uring_register(IORING_REGISTER_PBUF_RING): Invalid argument");
  EXPECT_EQ(BufferRing::Register(ring, {.group = kGroup, .entries = 1 << 16},
                                 &Storage().ring)
                .error(),
            std::errc::invalid_argument);
  auto group = BufferRing::Map(ring, {.group = kGroup, .entries = kBuffers});
  ASSERT_TRUE(group) << group.error().message();
  EXPECT_EQ(
      BufferRing::Map(ring, {.group = kGroup, .entries = kBuffers}).error(),
      std::errc::file_exists);
  AddAll(*group);
  ExchangeThrough(ring, *group);
  EXPECT_FALSE(group->Unregister(ring));
}

TEST(RawBufferRing, AdvanceWithCompletions) {
  Ring ring = MakeRing();
  auto group = BufferRing::Map(ring, {.group = kGroup, .entries = kBuffers});
  ASSERT_TRUE(group) << group.error().message();
  AddAll(*group);
  const Pipe pipe;
  Write(pipe.write_end, "abcdef");
  for (int i = 0; i < 2; ++i) {
    Queue(ring, 1, [&](io_uring_sqe* sqe) {
      io_uring_prep_read(sqe, pipe.read_end, nullptr, 3, 0);
      sqe->flags |= IOSQE_BUFFER_SELECT;
      sqe->buf_group = kGroup;
    });
  }
  ASSERT_EQ(io_uring_submit_and_wait(ring.get(), 2), 2);
  EXPECT_EQ(io_uring_cq_ready(ring.get()), 2u);
  EXPECT_EQ(group->Available(ring), kBuffers - 2);
  group->Add(Storage().buffers[0], kSize, 0, 0);
  group->Add(Storage().buffers[1], kSize, 1, 1);
  group->AdvanceWithCompletions(ring, /*completions=*/1, /*count=*/2);
  EXPECT_EQ(io_uring_cq_ready(ring.get()), 1u);
  EXPECT_EQ(group->Available(ring), kBuffers);
  group->AdvanceWithCompletions(ring, /*completions=*/1, /*count=*/0);
  EXPECT_EQ(io_uring_cq_ready(ring.get()), 0u);
  EXPECT_EQ(group->Available(ring), kBuffers);
  EXPECT_FALSE(group->Unregister(ring));
  close(pipe.read_end);
  close(pipe.write_end);
}

TEST(RawBufferRing, IncrementalBuffersAreUsedUpBitByBit) {
  Ring ring = MakeRing();
  auto group = BufferRing::Map(
      ring, {.group = kGroup, .entries = kBuffers, .flags = IOU_PBUF_RING_INC});
  if (!group && group.error() == std::errc::invalid_argument) {
    GTEST_SKIP() << "IOU_PBUF_RING_INC needs Linux 6.12";
  }
  ASSERT_TRUE(group) << group.error().message();
  AddAll(*group);
  const Pipe pipe;
  std::size_t offset = 0;
  for (const std::string& text : {std::string(40, 'a'), std::string(23, 'b')}) {
    Write(pipe.write_end, text);
    const io_uring_cqe cqe = Cqe(Read(ring, pipe.read_end, /*length=*/40));
    EXPECT_EQ(cqe.res, static_cast<int>(text.size()));
    ASSERT_TRUE(HasBuffer(cqe));
    EXPECT_EQ(BufferId(cqe), 0);
    EXPECT_TRUE(BufferHasMore(cqe));
    EXPECT_EQ(std::string_view(Storage().buffers[0] + offset, text.size()),
              text);
    EXPECT_EQ(group->Available(ring), kBuffers);
    offset += text.size();
  }
  // One byte is left, which is all that the next read gets.
  Write(pipe.write_end, "cd");
  const io_uring_cqe last = Cqe(Read(ring, pipe.read_end));
  EXPECT_EQ(last.res, 1);
  EXPECT_EQ(BufferId(last), 0);
  EXPECT_FALSE(BufferHasMore(last));
  EXPECT_EQ(Storage().buffers[0][kSize - 1], 'c');
  EXPECT_EQ(group->Available(ring), kBuffers - 1);
  const io_uring_cqe next = Cqe(Read(ring, pipe.read_end));
  EXPECT_EQ(next.res, 1);
  EXPECT_EQ(BufferId(next), 1);
  EXPECT_TRUE(BufferHasMore(next));
  EXPECT_EQ(Storage().buffers[1][0], 'd');
  EXPECT_FALSE(group->Unregister(ring));
  close(pipe.read_end);
  close(pipe.write_end);
}

// Whether `group`, of incremental buffers, gives one back that has 15 bytes
// left.
bool GivesBackWith15Left(Ring& ring, BufferRing& group) {
  AddAll(group);
  const Pipe pipe;
  Write(pipe.write_end, std::string(kSize - 15, 'a'));
  const io_uring_cqe cqe = Cqe(Read(ring, pipe.read_end));
  EXPECT_EQ(cqe.res, static_cast<int>(kSize - 15));
  EXPECT_EQ(BufferId(cqe), 0);
  close(pipe.read_end);
  close(pipe.write_end);
  EXPECT_EQ(group.Available(ring),
            BufferHasMore(cqe) ? kBuffers : kBuffers - 1);
  return !BufferHasMore(cqe);
}

TEST(RawBufferRing, IncrementalBuffersAreGivenBackWithTooLittleLeft) {
  Ring ring = MakeRing();
  const BufferRingOptions options = {
      .group = kGroup, .entries = kBuffers, .flags = IOU_PBUF_RING_INC};
  // What the kernel knows, asked without escrow.
  io_uring_buf_reg registration = {};
  registration.ring_addr = reinterpret_cast<std::uintptr_t>(&Storage().ring);
  registration.ring_entries = kBuffers;
  registration.bgid = kGroup + 1;
  registration.min_left = 16;
  if (io_uring_register_buf_ring(ring.get(), &registration,
                                 IOU_PBUF_RING_INC) != 0) {
    BufferRingOptions with = options;
    with.min_left = 16;
    EXPECT_EQ(BufferRing::Map(ring, with).error(), std::errc::invalid_argument);
    ExpectUsable(ring);
    GTEST_SKIP() << "the kernel refuses min_left";
  }
  ASSERT_EQ(io_uring_unregister_buf_ring(ring.get(), kGroup + 1), 0);

  auto without = BufferRing::Map(ring, options);
  ASSERT_TRUE(without) << without.error().message();
  EXPECT_FALSE(GivesBackWith15Left(ring, *without));
  EXPECT_FALSE(without->Unregister(ring));

  BufferRingOptions enough = options;
  enough.min_left = 15;
  auto left = BufferRing::Map(ring, enough);
  ASSERT_TRUE(left) << left.error().message();
  EXPECT_FALSE(GivesBackWith15Left(ring, *left));
  EXPECT_FALSE(left->Unregister(ring));

  BufferRingOptions too_little = options;
  too_little.min_left = 16;
  auto spent = BufferRing::Map(ring, too_little);
  ASSERT_TRUE(spent) << spent.error().message();
  EXPECT_TRUE(GivesBackWith15Left(ring, *spent));
  EXPECT_FALSE(spent->Unregister(ring));
}

// Errors name a buffer that they took; the end of a stream names one that it
// did not take.
TEST(RawBufferRing, ErrorsTakeBuffersAndTheEndOfAStreamDoesNot) {
  Ring ring = MakeRing();
  auto group = BufferRing::Map(ring, {.group = kGroup, .entries = kBuffers});
  ASSERT_TRUE(group) << group.error().message();
  AddAll(*group);
  const int directory = open("/", O_RDONLY | O_DIRECTORY);
  const io_uring_cqe error = Cqe(Read(ring, directory));
  EXPECT_EQ(error.res, -EISDIR);
  close(directory);
  ASSERT_TRUE(HasBuffer(error));
  EXPECT_EQ(BufferId(error), 0);
  EXPECT_FALSE(BufferHasMore(error));
  EXPECT_EQ(group->Available(ring), kBuffers - 1);

  const Pipe pipe;
  close(pipe.write_end);
  const io_uring_cqe end = Cqe(Read(ring, pipe.read_end));
  close(pipe.read_end);
  EXPECT_EQ(end.res, 0);
  if (HasBuffer(end)) {
    EXPECT_EQ(BufferId(end), 1);
  }
  EXPECT_EQ(group->Available(ring), HasBuffer(end) && !BufferHasMore(end)
                                        ? kBuffers - 2
                                        : kBuffers - 1);
  EXPECT_FALSE(group->Unregister(ring));
}

// A bundle fills several buffers, in the order in which they were added.
TEST(RawBufferRing, ABundleNamesTheFirstOfSeveral) {
  Ring ring = MakeRing();
  if ((ring.features() & IORING_FEAT_RECVSEND_BUNDLE) == 0) {
    GTEST_SKIP() << "bundles need Linux 6.10";
  }
  auto group = BufferRing::Map(ring, {.group = kGroup, .entries = kBuffers});
  ASSERT_TRUE(group) << group.error().message();
  for (int i = 0; i < kBuffers; ++i) {
    const int buffer = kBuffers - 1 - i;
    group->Add(Storage().buffers[buffer], kSize,
               static_cast<std::uint16_t>(buffer), i);
  }
  group->Advance(kBuffers);
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
  Write(sockets[1], std::string(kSize, 'x') + "yz");
  Queue(ring, 1, [&](io_uring_sqe* sqe) {
    io_uring_prep_recv(sqe, sockets[0], nullptr, 0, 0);
    sqe->ioprio |= IORING_RECVSEND_BUNDLE;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = kGroup;
  });
  const std::vector<Completion> completions = Reap(ring);
  ASSERT_EQ(completions.size(), 1u);
  const io_uring_cqe cqe = Cqe(completions[0]);
  EXPECT_EQ(cqe.res, static_cast<int>(kSize + 2));
  EXPECT_EQ(BufferId(cqe), kBuffers - 1);
  EXPECT_EQ(group->Available(ring), kBuffers - 2);
  EXPECT_EQ(std::string_view(Storage().buffers[kBuffers - 2], 2), "yz");
  EXPECT_FALSE(group->Unregister(ring));
  close(sockets[0]);
  close(sockets[1]);
}

TEST(RawBufferRing, UnregisteringEndsNoRequest) {
  Ring ring = MakeRing();
  auto group = BufferRing::Map(ring, {.group = kGroup, .entries = kBuffers});
  ASSERT_TRUE(group) << group.error().message();
  AddAll(*group);
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
  Queue(ring, 7, [&](io_uring_sqe* sqe) {
    io_uring_prep_recv_multishot(sqe, sockets[0], nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = kGroup;
  });
  EXPECT_TRUE(testing::Poll(ring).empty());
  EXPECT_FALSE(group->Unregister(ring));
  EXPECT_TRUE(testing::Poll(ring).empty());
  Write(sockets[1], "x");
  EXPECT_EQ(Reap(ring), (std::vector<Completion>{{7, -ENOBUFS, 0}}));
  close(sockets[0]);
  close(sockets[1]);
  ExpectUsable(ring);
}

TEST(RawBufferRing, GroupsDoNotMeet) {
  Ring ring = MakeRing();
  const std::uint16_t groups[] = {0, BufferRing::kMapGroups - 1, 0xffff};
  std::vector<BufferRing> rings;
  for (const std::uint16_t group : groups) {
    auto made =
        group < BufferRing::kMapGroups
            ? BufferRing::Map(ring, {.group = group, .entries = 1 << 12})
            : BufferRing::Register(ring, {.group = group, .entries = 1},
                                   &Storage().ring);
    ASSERT_TRUE(made) << made.error().message();
    rings.push_back(*made);
    rings.back().Add(Storage().buffers[0], 1,
                     static_cast<std::uint16_t>(~group));
    rings.back().Advance(1);
  }
  const Pipe pipe;
  Write(pipe.write_end, "abc");
  for (const std::uint16_t group : groups) {
    Queue(ring, 1, [&](io_uring_sqe* sqe) {
      io_uring_prep_read(sqe, pipe.read_end, nullptr, 1, 0);
      sqe->flags |= IOSQE_BUFFER_SELECT;
      sqe->buf_group = group;
    });
    const std::vector<Completion> completions = Reap(ring);
    ASSERT_EQ(completions.size(), 1u);
    EXPECT_EQ(completions[0].result, 1);
    EXPECT_EQ(BufferId(Cqe(completions[0])),
              static_cast<std::uint16_t>(~group));
  }
  for (BufferRing& group : rings) EXPECT_FALSE(group.Unregister(ring));
  close(pipe.read_end);
  close(pipe.write_end);
}

// The offset of group 0x8000 is that of group 0.
TEST(RawBufferRing, DoesNotMapAnotherGroup) {
  Ring ring = MakeRing();
  auto group = BufferRing::Map(ring, {.group = 0, .entries = 1});
  ASSERT_TRUE(group) << group.error().message();
  EXPECT_EQ(BufferRing::Map(ring, {.group = 0x8000, .entries = 1}).error(),
            std::errc::invalid_argument);
  EXPECT_EQ(
      BufferRing::Map(ring, {.group = BufferRing::kMapGroups, .entries = 1})
          .error(),
      std::errc::invalid_argument);
  EXPECT_FALSE(group->Unregister(ring));
}

}  // namespace
}  // namespace escrow::raw
