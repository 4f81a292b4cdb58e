// SendFileToRing of ring_ops.h, and the slots that it fills.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <future>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/remote.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/ring_ops.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_world.h"

namespace escrow::safe::cases {
namespace {

using ownership::FixedFile;

constexpr FileTableOptions kSlots = {.made = 2, .put = 4};

// A ring with a table.
struct Node {
  Node() : ring(MakeRing()), table(MakeTable(*ring)) {}
  static Ring MakeRing() {
    auto made = Ring::Create({.entries = 8});
    if (!made) {
      ADD_FAILURE() << made.error().message();
      std::abort();
    }
    return std::move(*made);
  }
  static FileTable MakeTable(Ring& ring) {
    auto made = FileTable::Create(ring, kSlots);
    if (!made) {
      ADD_FAILURE() << made.error().message();
      std::abort();
    }
    return std::move(*made);
  }
  FixedFile Put(const Descriptor& file) {
    auto put = table->Put(file);
    EXPECT_TRUE(put) << put.error().message();
    return std::move(*put);
  }
  ReservedSlot Reserve() {
    auto slot = table->Reserve();
    EXPECT_TRUE(slot) << slot.error().message();
    return std::move(*slot);
  }
  // How many slots can be had, without taking back what was returned.
  std::size_t CountFree(const Descriptor& file) {
    std::vector<FixedFile> files;
    while (auto put = table->Put(file)) files.push_back(std::move(*put));
    return files.size();
  }
  void ExpectReads(const FixedFile& file) {
    auto [size, text] = ring->Wait(ring->Read(file, std::string(4, '.'), 2));
    EXPECT_EQ(size.value(), 4u);
    EXPECT_EQ(text, "2345");
  }

  std::optional<Ring> ring;
  std::optional<FileTable> table;
};

struct SendFileToRingCase {
  World world;
  Node other;
  FixedFile file;
  static constexpr const char* kName = "SendFileToRing";
  static constexpr const char* kCall = "msg_ring (file)";

  // The table of the ring that sends.
  inline static std::optional<FileTable> table;
  static void Prepare(Ring& ring) { table = Node::MakeTable(ring); }
  static void End() { table.reset(); }

  SendFileToRing Send() { return {.file = file, .to = other.Reserve()}; }
  SendFileToRing Good() {
    auto put = table->Put(world.OpenFile());
    EXPECT_TRUE(put) << put.error().message();
    file = std::move(*put);
    return Send();
  }
  void Expect(SendFileToRing::Outcome sent) {
    EXPECT_TRUE(sent.buffer.filled());
    auto taken = other.table->Take(std::move(sent.buffer));
    ASSERT_TRUE(taken) << taken.error().message();
    other.ExpectReads(*taken);
    EXPECT_EQ(other.ring->unknown_completions(), 0u);
  }
  SendFileToRing Bad() {
    // Behind the back of its owner.
    file = FixedFile::Adopt(*table->Share(), 0);
    return Send();
  }
  static constexpr int kError = EBADF;
};
using Cases = ::testing::Types<SendFileToRingCase>;
INSTANTIATE_TYPED_TEST_SUITE_P(SendFile, SafeOps, Cases, CaseNames);

// What a row cannot say.

class SafeSendFile : public ::testing::Test {
 protected:
  // From one to the other, of this thread.
  SendFileToRing::Outcome Send(const FixedFile& file, ReservedSlot slot) {
    return here_.ring->Wait(
        here_.ring->Start(SendFileToRing{.file = file, .to = std::move(slot)}));
  }
  ReservedSlot SendIt(const Descriptor& file) {
    auto [sent, slot] = Send(here_.Put(file), there_.Reserve());
    EXPECT_TRUE(sent) << sent.error().message();
    EXPECT_TRUE(slot.filled());
    return std::move(slot);
  }
  // Whether nobody can write any more, by and by.
  static bool IsClosed(const Descriptor& read_end) {
    pollfd end = {.fd = read_end.number(), .events = POLLIN, .revents = 0};
    return ::poll(&end, 1, /*timeout=*/10'000) == 1 &&
           (end.revents & POLLHUP) != 0;
  }
  static bool IsOpen(const Descriptor& read_end) {
    pollfd end = {.fd = read_end.number(), .events = POLLIN, .revents = 0};
    return ::poll(&end, 1, /*timeout=*/0) == 0;
  }

  World world_;
  Node here_;
  Node there_;
};

TEST_F(SafeSendFile, TheReceiverOwnsItAlone) {
  Ends ends;
  ReservedSlot slot = SendIt(ends.write);
  ends.write = Descriptor();
  EXPECT_TRUE(IsOpen(ends.read));
  auto file = there_.table->Take(std::move(slot));
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_TRUE(
      there_.ring->Wait(there_.ring->Write(*file, std::string("x"))).result);
  EXPECT_EQ(ends.Content(), "x");
  *file = FixedFile();
  EXPECT_TRUE(IsClosed(ends.read));
  EXPECT_EQ(there_.CountFree(world_.OpenFile()), kSlots.put);
}

TEST_F(SafeSendFile, SlotsAreReservedOnceEach) {
  std::vector<ReservedSlot> slots;
  for (std::size_t i = 0; i < kSlots.put; ++i)
    slots.push_back(there_.Reserve());
  EXPECT_EQ(there_.table->Reserve().error(),
            std::errc::too_many_files_open_in_system);
  EXPECT_EQ(there_.CountFree(world_.OpenFile()), 0u);
  slots.pop_back();
  auto again = there_.table->Reserve();
  ASSERT_TRUE(again) << again.error().message();
  slots.clear();
  // Dispatch() takes them back, too.
  EXPECT_TRUE(there_.ring->Dispatch());
  EXPECT_EQ(there_.CountFree(world_.OpenFile()), kSlots.put - 1);
}

TEST_F(SafeSendFile, WhatWasNotSentCannotBeTaken) {
  EXPECT_EQ(there_.table->Take(there_.Reserve()).error(),
            std::errc::bad_file_descriptor);
  const FixedFile empty = FixedFile::Adopt(*here_.table->Share(), 0);
  auto [sent, slot] = Send(empty, there_.Reserve());
  EXPECT_EQ(sent.error(), std::errc::bad_file_descriptor);
  EXPECT_FALSE(slot.filled());
  // It is free for another try.
  auto [again, filled] = Send(here_.Put(world_.OpenFile()), std::move(slot));
  EXPECT_TRUE(again);
  EXPECT_TRUE(there_.table->Take(std::move(filled)));
  EXPECT_TRUE(there_.ring->Dispatch(std::chrono::nanoseconds(0)));
  EXPECT_EQ(there_.CountFree(world_.OpenFile()), kSlots.put);
}

TEST_F(SafeSendFile, DroppedInAnyThreadIsClosedInTheReceivers) {
  for (const bool elsewhere : {false, true}) {
    Ends ends;
    {
      ReservedSlot slot = SendIt(ends.write);
      if (elsewhere) {
        std::thread([dropped = std::move(slot)] {}).join();
      }
    }
    ends.write = Descriptor();
    EXPECT_TRUE(IsOpen(ends.read));
    EXPECT_TRUE(there_.ring->Dispatch());
    EXPECT_TRUE(IsClosed(ends.read));
    EXPECT_EQ(there_.CountFree(world_.OpenFile()), kSlots.put);
  }
}

TEST_F(SafeSendFile, DroppedInFlightIsClosedInTheReceivers) {
  Ends ends;
  {
    const FixedFile file = here_.Put(ends.write);
    auto send = here_.ring->Start(
        SendFileToRing{.file = file, .to = there_.Reserve()}, {.async = true});
    EXPECT_TRUE(here_.ring->Submit());
  }
  ends.write = Descriptor();
  while (here_.ring->in_flight() > 0) EXPECT_TRUE(here_.ring->Dispatch());
  EXPECT_TRUE(there_.ring->Dispatch());
  EXPECT_TRUE(IsClosed(ends.read));
  EXPECT_EQ(there_.CountFree(world_.OpenFile()), kSlots.put);
}

TEST_F(SafeSendFile, TheSendersRingEndsFirst) {
  ReservedSlot slot = SendIt(world_.OpenFile());
  here_.table.reset();
  here_.ring.reset();
  auto file = there_.table->Take(std::move(slot));
  ASSERT_TRUE(file) << file.error().message();
  there_.ExpectReads(*file);
}

TEST_F(SafeSendFile, TheReceiversTableGoesFirst) {
  Ends ends;
  {
    const ReservedSlot slot = SendIt(ends.write);
    ends.write = Descriptor();
    there_.table.reset();
    // Its slots are still used.
    EXPECT_FALSE(FileTable::Create(*there_.ring));
  }
  EXPECT_TRUE(there_.ring->Dispatch());
  EXPECT_TRUE(IsClosed(ends.read));
  EXPECT_TRUE(FileTable::Create(*there_.ring));
}

TEST_F(SafeSendFile, TheReceiversRingEndsFirst) {
  for (const bool filled : {false, true}) {
    Node there;
    std::swap(there, there_);
    Ends ends;
    std::optional<ReservedSlot> slot;
    slot.emplace(filled ? SendIt(ends.write) : there_.Reserve());
    there_.ring.reset();
    if (!filled) {
      // There it is nobody's but the slot's.
      const FixedFile file = here_.Put(ends.write);
      auto [sent, back] = Send(file, std::move(*slot));
      EXPECT_TRUE(sent) << sent.error().message();
      *slot = std::move(back);
    }
    ends.write = Descriptor();
    EXPECT_EQ(there_.table->Reserve().error(), std::errc::bad_file_descriptor);
    EXPECT_EQ(there_.table->Take(std::move(*slot)).error(),
              std::errc::bad_file_descriptor);
    slot.reset();
    EXPECT_TRUE(IsClosed(ends.read));
  }
}

TEST_F(SafeSendFile, TheReceiversRingEndsWithTheTableGone) {
  ReservedSlot slot = there_.Reserve();
  there_.table.reset();
  there_.ring.reset();
  const ReservedSlot moved = std::move(slot);
  EXPECT_FALSE(moved.filled());
}

TEST_F(SafeSendFile, NotToTheSameRing) {
  const FixedFile file = here_.Put(world_.OpenFile());
  auto [sent, slot] = Send(file, here_.Reserve());
  EXPECT_EQ(sent.error(), std::errc::invalid_argument);
  EXPECT_FALSE(slot.filled());
}

TEST_F(SafeSendFile, NotToARingWhoseThreadIsGone) {
  std::optional<Node> node;
  std::optional<ReservedSlot> slot;
  std::thread([&] {
    node.emplace();
    slot.emplace(node->Reserve());
  }).join();
  const FixedFile file = here_.Put(world_.OpenFile());
  auto [sent, back] = Send(file, std::move(*slot));
  EXPECT_EQ(sent.error(), std::errc::owner_dead);
  EXPECT_FALSE(back.filled());
}

// The receiver waits in its ring, and gets everything, once.
TEST_F(SafeSendFile, BetweenThreads) {
  struct Offer {
    ReservedSlot slot;
    Remote remote;
  };
  constexpr int kFiles = 100;
  // By then the receiver's is there.
  struct Receiver {
    Node node;
    int taken = 0;
    void Take(ReservedSlot slot, const std::string& expected) {
      auto file = node.table->Take(std::move(slot));
      ASSERT_TRUE(file) << file.error().message();
      auto [size, text] =
          node.ring->Wait(node.ring->Read(*file, std::string(8, '.')));
      ASSERT_TRUE(size) << size.error().message();
      EXPECT_EQ(text.substr(0, *size), expected);
      ++taken;
    }
  };
  for (int i = 0; i < kFiles; ++i) {
    std::promise<Offer> offered;
    std::future<Offer> offer = offered.get_future();
    std::promise<Receiver*> told;
    std::future<Receiver*> receiver = told.get_future();
    std::thread thread([&] {
      Receiver mine;
      auto remote = mine.node.ring->CreateRemote();
      ASSERT_TRUE(remote);
      told.set_value(&mine);
      offered.set_value({mine.node.Reserve(), std::move(*remote)});
      while (mine.taken == 0) EXPECT_TRUE(mine.node.ring->Dispatch());
    });
    const std::string content = std::to_string(i);
    Ends ends(content);
    Receiver* const its = receiver.get();
    auto [slot, remote] = offer.get();
    const FixedFile file = here_.Put(ends.read);
    ends.read = Descriptor();
    auto [sent, filled] = Send(file, std::move(slot));
    EXPECT_TRUE(sent) << sent.error().message();
    EXPECT_TRUE(
        remote.Post([its, content, arrived = std::move(filled)]() mutable {
          its->Take(std::move(arrived), content);
        }));
    thread.join();
  }
}

TEST_F(SafeSendFile, AChildProcessLeavesTheParentsSlotsAlone) {
  std::optional<ReservedSlot> slot(SendIt(world_.OpenFile()));
  const pid_t child = ::fork();
  if (child == 0) {
    slot.reset();
    ::_exit(0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  auto file = there_.table->Take(std::move(*slot));
  ASSERT_TRUE(file) << file.error().message();
  there_.ExpectReads(*file);
}

void Misuse(bool twice) {
  Node here, there;
  const World world;
  const FixedFile file = here.Put(world.OpenFile());
  auto [sent, slot] = here.ring->Wait(
      here.ring->Start(SendFileToRing{.file = file, .to = there.Reserve()}));
  if (twice) {
    (void)here.ring->Start(SendFileToRing{.file = file, .to = std::move(slot)});
  } else {
    (void)here.table->Take(std::move(slot));
  }
}

TEST(SafeSendFileDeathTest, MisuseIsNamed) {
  EXPECT_DEATH(Misuse(true), "to a ReservedSlot that is not free");
  EXPECT_DEATH(Misuse(false), "a ReservedSlot of another table");
}

}  // namespace
}  // namespace escrow::safe::cases
