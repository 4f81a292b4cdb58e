// safe/queue.h: one suite for all that executes its requests.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/queue.h"
#include "escrow/safe/result.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using cases::Ends;
using cases::Pair;
using escrow::testing::MakeEnterFail;
using escrow::testing::OpenDescriptors;
using escrow::testing::TemporaryFile;
using ownership::Buffer;
using ownership::Descriptor;
using Kind = Queue::Kind;

struct Backend {
  const char* name;
  Result<std::unique_ptr<Queue>> (*make)(std::size_t cap);
};

class QueueTest : public ::testing::TestWithParam<Backend> {
 protected:
  static std::unique_ptr<Queue> Make(std::size_t cap) {
    auto queue = GetParam().make(cap);
    EXPECT_TRUE(queue.has_value()) << queue.error().message();
    return std::move(*queue);
  }

  static std::vector<Queue::Completion> Wait(Queue& queue, std::size_t min) {
    std::vector<Queue::Completion> done;
    const auto waited = queue.Wait(min, done);
    EXPECT_TRUE(waited.has_value()) << waited.error().message();
    EXPECT_GE(done.size(), min);
    return done;
  }

  // The result of the only request in flight.
  static Result<std::size_t> WaitForOne(Queue& queue) {
    return Wait(queue, 1).at(0).size;
  }
};

std::span<std::byte> Bytes(std::string& text) {
  return std::as_writable_bytes(std::span(text));
}

// A1, A2
TEST_P(QueueTest, HasItsCap) {
  const auto queue = Make(5);
  EXPECT_EQ(queue->cap(), 5u);
  EXPECT_EQ(queue->in_flight(), 0u);
  EXPECT_TRUE(Wait(*queue, 0).empty());
}

TEST_P(QueueTest, SignalsAreTheProgramsOwn) {
  const auto queue = Make(2);
  EXPECT_TRUE(escrow::testing::SignalsAreLeftToThisThread());
}

// A3: what is beyond the cap is the caller's mistake.
TEST_P(QueueTest, MoreThanItsCapEndsTheProgram) {
  const TemporaryFile file("x");
  EXPECT_DEATH(
      {
        const auto queue = Make(1);
        const int fd = file.Open(O_RDONLY);
        std::string text(1, ' ');
        queue->Read(0, fd, 0, Bytes(text));
        queue->Read(0, fd, 0, Bytes(text));
      },
      "a request to a Queue that is full");
  EXPECT_DEATH((void)GetParam().make(0), "can have nothing in flight");
}

// A4: so is waiting for more than there is.
TEST_P(QueueTest, WaitForMoreThanIsInFlightEndsTheProgram) {
  EXPECT_DEATH(
      {
        const auto queue = Make(2);
        std::vector<Queue::Completion> done;
        (void)queue->Wait(1, done);
      },
      "for more than a Queue has in flight");
}

// A6
TEST_P(QueueTest, UnknownKindEndsTheProgram) {
  EXPECT_DEATH(Make(1)->Add({.id = 0,
                             .kind = static_cast<Kind>(17),
                             .file = 0,
                             .offset = 0,
                             .memory = nullptr,
                             .length = 0}),
               "a request of an unknown kind");
}

// A4: min = 0 takes what is there, and does not wait for the rest.
TEST_P(QueueTest, WaitForNoneTakesWhatIsDone) {
  const Ends pipe;
  const TemporaryFile file("0123456789");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDONLY));
  std::string never(4, ' ');
  std::string text(4, ' ');
  const auto queue = Make(2);
  queue->Read(1, regular.number(), 2, Bytes(text));
  // In a queue that does one after the other the second one must not be first.
  std::vector<Queue::Completion> done;
  queue->Read(2, pipe.read.number(), Queue::kCurrentPosition, Bytes(never));
  while (done.empty()) {
    ASSERT_TRUE(queue->Wait(0, done));
  }
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].id, 1u);
  EXPECT_EQ(done[0].size, 4u);
  EXPECT_EQ(text, "2345");
  EXPECT_EQ(queue->in_flight(), 1u);
  EXPECT_TRUE(Wait(*queue, 0).empty());
}

// A4: min = cap, and the completions are appended to what is in the vector.
TEST_P(QueueTest, WaitForAllAppendsAll) {
  const TemporaryFile file("0123456789");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDONLY));
  constexpr std::size_t kCap = 8;
  const auto queue = Make(kCap);
  std::array<std::string, kCap> texts;
  for (std::size_t i = 0; i < kCap; ++i) {
    texts[i].resize(1);
    queue->Read(i, regular.number(), static_cast<::off_t>(i), Bytes(texts[i]));
  }
  EXPECT_EQ(queue->in_flight(), kCap);
  std::vector<Queue::Completion> done = {{.id = 77, .size = 0}};
  ASSERT_TRUE(queue->Wait(kCap, done));
  ASSERT_EQ(done.size(), kCap + 1);
  EXPECT_EQ(done[0].id, 77u);
  EXPECT_EQ(queue->in_flight(), 0u);
  std::set<std::uint64_t> ids;
  for (std::size_t i = 1; i <= kCap; ++i) {
    EXPECT_EQ(done[i].size, 1u);
    ids.insert(done[i].id);
  }
  EXPECT_EQ(ids.size(), kCap);
  for (std::size_t i = 0; i < kCap; ++i) {
    EXPECT_EQ(texts[i], std::to_string(i));
  }
}

TEST_P(QueueTest, CapOfOneIsEnough) {
  const TemporaryFile file("ab");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDWR));
  const auto queue = Make(1);
  std::string text(1, ' ');
  for (const char expected : {'a', 'b'}) {
    queue->Read(0, regular.number(), Queue::kCurrentPosition, Bytes(text));
    EXPECT_EQ(WaitForOne(*queue), 1u);
    EXPECT_EQ(text[0], expected);
  }
}

// A8: errors are values, a short count is none, and ids may be the same.
TEST_P(QueueTest, ResultsAreThoseOfTheCalls) {
  const TemporaryFile file("0123456789");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDONLY));
  const auto queue = Make(4);
  std::string text(16, ' ');

  queue->Read(0, -1, 0, Bytes(text));
  EXPECT_EQ(WaitForOne(*queue).error(), std::errc::bad_file_descriptor);
  queue->Write(0, regular.number(), 0, Bytes(text));
  EXPECT_EQ(WaitForOne(*queue).error(), std::errc::bad_file_descriptor);

  queue->Read(0, regular.number(), 8, Bytes(text));
  EXPECT_EQ(WaitForOne(*queue), 2u);
  EXPECT_EQ(text.substr(0, 2), "89");
  queue->Read(0, regular.number(), 10, Bytes(text));
  EXPECT_EQ(WaitForOne(*queue), 0u);

  for (int i = 0; i < 4; ++i) queue->Read(0, regular.number(), 0, {});
  for (const Queue::Completion& done : Wait(*queue, 4)) {
    EXPECT_EQ(done.id, 0u);
    EXPECT_EQ(done.size, 0u);
  }

  const std::vector<iovec> too_many(5000);
  queue->ReadVector(0, regular.number(), 0, too_many);
  EXPECT_EQ(WaitForOne(*queue).error(), std::errc::invalid_argument);
}

TEST_P(QueueTest, BadAddressIsAnError) {
  const TemporaryFile file("0123456789");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDONLY));
  void* const page =
      ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  const auto queue = Make(1);
  queue->Read(0, regular.number(), 0,
              std::span(static_cast<std::byte*>(page), 8));
  EXPECT_EQ(WaitForOne(*queue).error(), std::errc::bad_address);
  EXPECT_EQ(::munmap(page, 4096), 0);
}

// A12: the remainder of a short transfer is added again.
TEST_P(QueueTest, RemaindersAreAddedAgain) {
  const Ends pipe;
  const std::string sent = "what comes in several parts";
  std::string text(sent.size(), ' ');
  const auto queue = Make(1);
  std::size_t size = 0;
  for (std::size_t at = 0; size < sent.size(); at += 5) {
    const std::string part = sent.substr(std::min(at, sent.size()), 5);
    ASSERT_EQ(::write(pipe.write.number(), part.data(), part.size()),
              std::ssize(part));
    queue->Read(size, pipe.read.number(), Queue::kCurrentPosition,
                Bytes(text).subspan(size));
    const auto done = Wait(*queue, 1);
    EXPECT_EQ(done[0].id, size);
    ASSERT_EQ(done[0].size, part.size());
    size += *done[0].size;
  }
  EXPECT_EQ(text, sent);
}

TEST_P(QueueTest, SocketsAndFullPipesAreWaitedFor) {
  const Pair sockets;
  const auto queue = Make(1);
  std::string text(3, ' ');
  queue->Read(0, sockets.here.number(), Queue::kCurrentPosition, Bytes(text));
  EXPECT_TRUE(Wait(*queue, 0).empty());
  ASSERT_EQ(::write(sockets.there.number(), "abc", 3), 3);
  EXPECT_EQ(WaitForOne(*queue), 3u);
  EXPECT_EQ(text, "abc");

  const Ends pipe;
  const int room = ::fcntl(pipe.write.number(), F_SETPIPE_SZ, 4096);
  ASSERT_GT(room, 0);
  std::string many(static_cast<std::size_t>(room), 'x');
  ASSERT_EQ(::write(pipe.write.number(), many.data(), many.size()), room);
  queue->Write(0, pipe.write.number(), Queue::kCurrentPosition, Bytes(text));
  EXPECT_TRUE(Wait(*queue, 0).empty());
  ASSERT_EQ(::read(pipe.read.number(), many.data(), many.size()), room);
  EXPECT_EQ(WaitForOne(*queue), 3u);
}

TEST_P(QueueTest, NonBlockingPipesAreWaitedForToo) {
  const Ends pipe;
  ASSERT_EQ(::fcntl(pipe.read.number(), F_SETFL, O_NONBLOCK), 0);
  const auto queue = Make(1);
  std::string text(3, ' ');
  queue->Read(0, pipe.read.number(), Queue::kCurrentPosition, Bytes(text));
  EXPECT_TRUE(Wait(*queue, 0).empty());
  ASSERT_EQ(::write(pipe.write.number(), "abc", 3), 3);
  EXPECT_EQ(WaitForOne(*queue), 3u);
}

// A5: what waits is cancelled, and memory is not used after that.
// A terminal, and its other side.
struct Terminal {
  Terminal() : other(Descriptor::Adopt(::posix_openpt(O_RDWR | O_NOCTTY))) {
    EXPECT_EQ(::grantpt(other.number()), 0);
    EXPECT_EQ(::unlockpt(other.number()), 0);
    char name[64];
    EXPECT_EQ(::ptsname_r(other.number(), name, sizeof(name)), 0);
    file = Descriptor::Adopt(::open(name, O_RDWR | O_NOCTTY));
    EXPECT_TRUE(file.valid());
  }
  Descriptor other;
  Descriptor file;
};

// The offset does not matter.
TEST_P(QueueTest, TerminalsAreReadAndWritten) {
  const Terminal terminal;
  const auto queue = Make(1);
  std::string text = "abc";
  queue->Write(1, terminal.file.number(), /*offset=*/4096, Bytes(text));
  EXPECT_EQ(WaitForOne(*queue), 3u);
  std::string bytes(8, ' ');
  queue->Read(1, terminal.file.number(), /*offset=*/4096, Bytes(bytes));
  EXPECT_EQ(::write(terminal.other.number(), "de\n", 3), 3);
  EXPECT_EQ(WaitForOne(*queue), 3u);
  EXPECT_EQ(bytes.substr(0, 3), "de\n");
}

TEST_P(QueueTest, DestructionEndsABlockedRead) {
  const Ends pipe;
  std::array<std::string, 3> texts;
  texts.fill("----");
  {
    const auto queue = Make(texts.size());
    for (std::string& text : texts) {
      queue->Read(0, pipe.read.number(), Queue::kCurrentPosition, Bytes(text));
    }
    EXPECT_TRUE(Wait(*queue, 0).empty());
  }
  ASSERT_EQ(::write(pipe.write.number(), "late", 4), 4);
  for (const std::string& text : texts) EXPECT_EQ(text, "----");
  std::string rest(8, ' ');
  EXPECT_EQ(::read(pipe.read.number(), rest.data(), rest.size()), 4);
}

// A5, A9: what was never waited for may or may not happen, and not later.
TEST_P(QueueTest, DestructionEndsWhatWasAdded) {
  const TemporaryFile file("0123456789");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDONLY));
  std::array<std::string, 16> texts;
  {
    const auto queue = Make(texts.size());
    for (std::string& text : texts) {
      text = "----";
      queue->Read(0, regular.number(), 0, Bytes(text));
    }
  }
  for (const std::string& text : texts) {
    EXPECT_TRUE(text == "----" || text == "0123") << text;
  }
}

TEST_P(QueueTest, NothingStaysOpen) {
  const int before = OpenDescriptors();
  {
    const Ends pipe;
    std::string text(4, ' ');
    const auto queue = Make(2);
    queue->Read(0, pipe.read.number(), Queue::kCurrentPosition, Bytes(text));
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

// A13, A6, A7: 4 MiB in pieces of 4 KiB through eight slots, in vectors of two.
constexpr std::size_t kTotal = 4 << 20;
constexpr std::size_t kPiece = 4096;
constexpr std::size_t kCap = 8;

// Transfers all of `memory`, piece by piece; a slot is used again when its
// request is done.
void TransferAll(Queue& queue, Kind kind, int file,
                 std::span<std::byte> memory) {
  std::array<std::array<iovec, 2>, kCap> vectors;
  std::set<std::size_t> free;
  for (std::size_t i = 0; i < kCap; ++i) free.insert(i);
  std::size_t offset = 0;
  std::size_t transferred = 0;
  while (transferred < memory.size()) {
    while (!free.empty() && offset < memory.size()) {
      const std::size_t slot = *free.begin();
      free.erase(free.begin());
      std::byte* const piece = memory.data() + offset;
      vectors[slot] = {
          iovec{.iov_base = piece, .iov_len = kPiece / 2},
          iovec{.iov_base = piece + kPiece / 2, .iov_len = kPiece / 2}};
      const bool plain = kind == Kind::kRead || kind == Kind::kWrite;
      queue.Add({.id = slot,
                 .kind = kind,
                 .file = file,
                 .offset = static_cast<::off_t>(offset),
                 .memory = plain ? static_cast<void*>(piece)
                                 : static_cast<void*>(vectors[slot].data()),
                 .length = plain ? kPiece : 2});
      offset += kPiece;
    }
    std::vector<Queue::Completion> done;
    ASSERT_TRUE(queue.Wait(1, done));
    for (const Queue::Completion& completion : done) {
      ASSERT_EQ(completion.size, kPiece);
      ASSERT_TRUE(free.insert(completion.id).second);
      transferred += kPiece;
    }
  }
  EXPECT_EQ(queue.in_flight(), 0u);
}

std::string RandomBytes() {
  std::string bytes(kTotal, ' ');
  std::mt19937 random(17);
  std::generate(bytes.begin(), bytes.end(),
                [&] { return static_cast<char>(random()); });
  return bytes;
}

TEST_P(QueueTest, ReadsManyPieces) {
  const std::string expected = RandomBytes();
  const TemporaryFile file(expected);
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDONLY));
  for (const Kind kind : {Kind::kRead, Kind::kReadVector}) {
    const auto queue = Make(kCap);
    std::string read(kTotal, ' ');
    TransferAll(*queue, kind, regular.number(), Bytes(read));
    EXPECT_TRUE(read == expected);
  }
}

TEST_P(QueueTest, WritesManyPieces) {
  std::string written = RandomBytes();
  for (const Kind kind : {Kind::kWrite, Kind::kWriteVector}) {
    const TemporaryFile file;
    const Descriptor regular = Descriptor::Adopt(file.Open(O_WRONLY));
    const auto queue = Make(kCap);
    TransferAll(*queue, kind, regular.number(), Bytes(written));
    EXPECT_TRUE(file.Content() == written);
  }
}

// The owning variant: nothing above is up to the caller any more.

TEST_P(QueueTest, OwnedMemoryComesBack) {
  const TemporaryFile file("0123456789");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDWR));
  OwningQueue<std::string> queue(Make(4));
  EXPECT_EQ(queue.cap(), 4u);
  queue.Write(7, regular, 4, "ABC");
  std::vector<OwningQueue<std::string>::Completion> done;
  ASSERT_TRUE(queue.Wait(1, done));
  queue.Read(8, regular, 2, std::string(6, ' '));
  queue.Read(9, Descriptor::Permanent(1'000'000), 0, "kept");
  EXPECT_EQ(queue.in_flight(), 2u);
  ASSERT_TRUE(queue.Wait(2, done));
  EXPECT_EQ(queue.in_flight(), 0u);
  ASSERT_EQ(done.size(), 3u);
  std::sort(done.begin(), done.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  EXPECT_EQ(done[0].id, 7u);
  EXPECT_EQ(done[0].size, 3u);
  EXPECT_EQ(done[0].buffer, "ABC");
  EXPECT_EQ(done[1].size, 6u);
  EXPECT_EQ(done[1].buffer, "23ABC7");
  EXPECT_EQ(done[2].size.error(), std::errc::bad_file_descriptor);
  EXPECT_EQ(done[2].buffer, "kept");
}

// Whatever is destroyed first, and in whatever state.
TEST_P(QueueTest, OwnedMemoryLivesUntilTheEnd) {
  const int before = OpenDescriptors();
  {
    Descriptor write;
    OwningQueue<Buffer> queue(Make(2));
    {
      Ends pipe;
      queue.Read(1, pipe.read, Queue::kCurrentPosition, *Buffer::Allocate(64));
      queue.Read(2, pipe.read, Queue::kCurrentPosition, *Buffer::Allocate(64));
      std::vector<OwningQueue<Buffer>::Completion> done;
      ASSERT_TRUE(queue.Wait(0, done));
      EXPECT_TRUE(done.empty());
      write = std::move(pipe.write);
    }
    // Still open, or this would be EPIPE.
    ASSERT_EQ(::write(write.number(), "x", 1), 1);
    std::vector<OwningQueue<Buffer>::Completion> done;
    ASSERT_TRUE(queue.Wait(1, done));
    EXPECT_EQ(done.at(0).size, 1u);
    EXPECT_EQ(done[0].buffer.data()[0], std::byte{'x'});

    OwningQueue<Buffer> other(Make(2));
    Ends pipe;
    other.Read(3, pipe.read, Queue::kCurrentPosition, *Buffer::Allocate(64));
    other = std::move(queue);
    EXPECT_EQ(other.in_flight(), 1u);
    write = Descriptor();
    // The end of the pipe's file.
    done.clear();
    ASSERT_TRUE(other.Wait(1, done));
    EXPECT_EQ(done.at(0).size, 0u);
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

INSTANTIATE_TEST_SUITE_P(All, QueueTest,
                         ::testing::Values(Backend{"Ring", &MakeRingQueue},
                                           Backend{"Threads", &MakeThreadQueue},
                                           Backend{"Serial", &MakeSerialQueue}),
                         [](const auto& its) {
                           return std::string(its.param.name);
                         });

// A10: one at a time, in the order of Add(), which shows in a file's position.
TEST(SerialQueueTest, KeepsTheOrder) {
  const TemporaryFile file("abcdefgh");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDONLY));
  auto queue = MakeSerialQueue(8);
  ASSERT_TRUE(queue);
  std::array<std::string, 8> texts;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    texts[i] = " ";
    (*queue)->Read(i, regular.number(), Queue::kCurrentPosition,
                   Bytes(texts[i]));
  }
  std::vector<Queue::Completion> done;
  ASSERT_TRUE((*queue)->Wait(8, done));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(done[i].id, i);
    EXPECT_EQ(texts[i], std::string(1, static_cast<char>('a' + i)));
  }
}

// A9: the others run beside each other: one that waits holds up nobody.
TEST(ThreadQueueTest, RunsBesideEachOther) {
  const Ends first;
  const Ends second;
  auto queue = MakeThreadQueue(2);
  ASSERT_TRUE(queue);
  std::string one(1, ' ');
  std::string two(1, ' ');
  (*queue)->Read(1, first.read.number(), 0, Bytes(one));
  (*queue)->Read(2, second.read.number(), 0, Bytes(two));
  ASSERT_EQ(::write(second.write.number(), "2", 1), 1);
  std::vector<Queue::Completion> done;
  ASSERT_TRUE((*queue)->Wait(1, done));
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].id, 2u);
  EXPECT_EQ(two, "2");
}

// A11: more than a submission queue takes at once is not lost.
TEST(RingQueueTest, LargeOnesLoseNothing) {
  const TemporaryFile file("0123456789");
  const Descriptor regular = Descriptor::Adopt(file.Open(O_RDONLY));
  constexpr std::size_t kMany = 3000;
  auto queue = MakeRingQueue(kMany);
  ASSERT_TRUE(queue) << queue.error().message();
  std::vector<std::string> texts(kMany, std::string(10, ' '));
  std::vector<Queue::Completion> done;
  for (int round = 0; round < 3; ++round) {
    for (std::string& text : texts) {
      (*queue)->Read(1, regular.number(), 0, Bytes(text));
    }
    done.clear();
    ASSERT_TRUE((*queue)->Wait(kMany, done));
    EXPECT_EQ(done.size(), kMany);
  }
  EXPECT_EQ(MakeRingQueue(1 << 20).error(), std::errc::invalid_argument);
}

// A4: after an error there is only its destruction, which still ends all.
TEST(RingQueueTest, ErrorPoisons) {
  const auto wait_twice = [](bool use_again) {
    auto queue = MakeRingQueue(2);
    std::string text(1, ' ');
    MakeEnterFail(EIO);
    (*queue)->Read(1, -1, 0, Bytes(text));
    std::vector<Queue::Completion> done;
    const auto waited = (*queue)->Wait(1, done);
    if (waited || waited.error() != std::errc::io_error) std::_Exit(1);
    if (use_again) (*queue)->Read(1, -1, 0, Bytes(text));
    queue->reset();
    std::_Exit(7);
  };
  EXPECT_DEATH(wait_twice(true), "a Queue used after an error of Wait");
  EXPECT_EXIT(wait_twice(false), ::testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace escrow::safe
