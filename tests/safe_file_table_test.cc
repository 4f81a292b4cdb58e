// The files of file_table.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream.h"
#include "escrow/safe/stream_ops.h"
#include "tests/safe_op_cases.h"
#include "tests/safe_stream_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using escrow::testing::OpenDescriptors;
using ownership::FixedFile;

constexpr FileTableOptions kSlots = {.made = 8 * kManifold,
                                     .put = 4 * kManifold};

// IORING_REGISTER_FILES_UPDATE, of a ring that is registered with its thread.
constexpr unsigned kRegisterFilesUpdate = 6 | (1u << 31);

// How many slots of the table that operations fill are free.
std::size_t FreeSlots(Ring& ring, const FileTable& table) {
  std::vector<FixedFile> files;
  for (;;) {
    auto file = ring.Wait(
        ring.Start(Direct<Socket>{.table = table, .op = {.domain = AF_UNIX}}));
    if (!file) {
      EXPECT_EQ(file.error(), std::errc::too_many_files_open_in_system);
      return files.size();
    }
    files.push_back(std::move(*file));
  }
}

// The one table of each ring, which outlives it.
struct Tabled {
  inline static std::optional<FileTable> table;

  static void Prepare(Ring& ring) {
    auto made = FileTable::Create(ring, kSlots);
    ASSERT_TRUE(made) << made.error().message();
    table = std::move(*made);
  }
  static void Check(Ring& ring) {
    EXPECT_EQ(FreeSlots(ring, *table), kSlots.made);
  }
  static void End() { table.reset(); }
};

// What can be seen of a slot also when the ring is gone.
void ExpectMade(const FixedFile& file) {
  EXPECT_TRUE(file);
  EXPECT_LT(file.slot(), static_cast<int>(kSlots.made));
}

struct DirectOpenCase : Tabled {
  World world;
  int descriptors = OpenDescriptors();
  static constexpr const char* kName = "Direct_Open";
  static constexpr const char* kCall = "openat2";

  auto Good() {
    return Direct<Open>{.table = *table, .op = {.path = world.Path("file")}};
  }
  void Expect(Result<FixedFile> file) { ExpectMade(*file); }
  auto Bad() {
    return Direct<Open>{.table = *table, .op = {.path = world.Path("none")}};
  }
  static constexpr int kError = ENOENT;
};

struct DirectSocketCase : Tabled {
  static constexpr const char* kName = "Direct_Socket";
  static constexpr const char* kCall = "socket";

  auto Good() { return Direct<Socket>{.table = *table, .op = {}}; }
  void Expect(Result<FixedFile> socket) { ExpectMade(*socket); }
  auto Bad() { return Direct<Socket>{.table = *table, .op = {.domain = 999}}; }
  static constexpr int kError = EAFNOSUPPORT;
};

struct DirectAcceptCase : Tabled {
  World world;
  Listener listener{world};
  Descriptor client = UnixSocket();
  static constexpr const char* kName = "Direct_Accept";
  static constexpr const char* kCall = "accept";

  auto Good() {
    EndWait();
    return Waits();
  }
  void Expect(Direct<Accept>::Outcome connection) {
    ExpectMade(connection->socket);
    const auto* const name =
        reinterpret_cast<const sockaddr_un*>(connection->peer.data());
    EXPECT_EQ(name->sun_path, world.Path("client"));
  }
  auto Bad() {
    return Direct<Accept>{.table = *table, .op = {.socket = client}};
  }
  static constexpr int kError = EINVAL;
  Direct<Accept> Waits() {
    return {.table = *table, .op = {.socket = listener.socket}};
  }
  void EndWait() {
    const SocketAddress name = UnixAddress(world.Path("client"));
    EXPECT_EQ(::bind(client.number(), name.data(), name.size()), 0);
    listener.Connect(client);
  }
  void ExpectWaited(Direct<Accept>::Outcome connection) {
    Expect(std::move(connection));
  }
};

struct DirectPipeCase : Tabled {
  static constexpr const char* kName = "Direct_Pipe";
  static constexpr const char* kCall = "pipe2";

  auto Good() { return Direct<Pipe>{.table = *table, .op = {}}; }
  void Expect(Direct<Pipe>::Outcome ends) {
    ExpectMade(ends->read);
    ExpectMade(ends->write);
    EXPECT_NE(ends->read.slot(), ends->write.slot());
  }
  auto Bad() {
    return Direct<Pipe>{.table = *table, .op = {.flags = O_APPEND}};
  }
  static constexpr int kError = EINVAL;
  static constexpr bool kRefusedAtOnce = true;
};

struct InstallDescriptorCase : Tabled {
  World world;
  FixedFile file;
  static constexpr const char* kName = "InstallDescriptor";
  static constexpr const char* kCall = "fixed fd install";

  auto Good() {
    auto put = table->Put(world.OpenFile());
    EXPECT_TRUE(put) << put.error().message();
    file = std::move(*put);
    return InstallDescriptor{.file = file};
  }
  void Expect(Result<Descriptor> descriptor) {
    EXPECT_EQ(::fcntl(descriptor->number(), F_GETFD), FD_CLOEXEC);
    char byte;
    EXPECT_EQ(::read(descriptor->number(), &byte, 1), 1);
    EXPECT_EQ(byte, '0');
  }
  auto Bad() {
    // Behind the back of its owner.
    file = FixedFile::Adopt(*table->Share(), 0);
    return InstallDescriptor{.file = file};
  }
  static constexpr int kError = EBADF;
};

// What takes a File takes a FixedFile.
struct FixedSendCase : Tabled {
  Pair pair;
  FixedFile socket;
  static constexpr const char* kName = "Send_from_slot";
  static constexpr const char* kCall = "send";

  auto Good() {
    auto put = table->Put(pair.here);
    EXPECT_TRUE(put) << put.error().message();
    socket = std::move(*put);
    pair.here = Descriptor();
    return Send<std::string>{.socket = socket, .buffer = "sent"};
  }
  void Expect(Transfer<std::string> sent) {
    EXPECT_EQ(*sent.result, 4u);
    char bytes[8];
    EXPECT_EQ(::read(pair.there.number(), bytes, sizeof(bytes)), 4);
  }
  auto Bad() {
    pair.there = Descriptor();
    return Good();
  }
  static constexpr int kError = EPIPE;
};

struct CloseCase : Tabled {
  World world;
  FixedFile file;
  static constexpr const char* kName = "Close_of_a_slot";
  static constexpr const char* kCall = "close";

  auto Good() {
    auto put = table->Put(world.OpenFile());
    EXPECT_TRUE(put) << put.error().message();
    return Close{.file = std::move(*put)};
  }
  void Expect(Result<void>) {}
  auto Bad() {
    // Behind the back of its owner.
    return Close{.file = FixedFile::Adopt(*table->Share(), 0)};
  }
  static constexpr int kError = EBADF;
};

struct DirectAcceptManyCase : Tabled {
  World world;
  Listener listener{world};
  std::vector<Descriptor> clients = {};
  static constexpr const char* kName = "Direct_AcceptMany";
  static constexpr const char* kCall = "accept (multishot)";

  Direct<AcceptMany> Op() {
    return {.table = *table, .op = {.socket = listener.socket}};
  }
  void Send() { clients.push_back(listener.Connect()); }
  void Expect(Result<FixedFile> connection) { ExpectMade(*connection); }
  Direct<AcceptMany> Bad() {
    clients.push_back(UnixSocket());
    return {.table = *table, .op = {.socket = clients.back()}};
  }
  static constexpr int kError = EINVAL;
};

using Cases = ::testing::Types<DirectOpenCase, DirectSocketCase,
                               DirectAcceptCase, DirectPipeCase, FixedSendCase>;
ESCROW_OP_CASES(FileTable, Cases);
using StreamCases = ::testing::Types<DirectAcceptManyCase>;
ESCROW_STREAM_CASES(FileTable, StreamCases);
#ifndef ESCROW_SOAK
// Their bad ops take a slot from whoever has it.
using SlotCases = ::testing::Types<InstallDescriptorCase, CloseCase>;
INSTANTIATE_TYPED_TEST_SUITE_P(FileTableSlots, SafeOps, SlotCases, CaseNames);
#endif

// What a row cannot say.

class SafeFileTable : public ::testing::Test {
 protected:
  SafeFileTable() : ring_(MakeRing()), table_(MakeTable(ring_)) {}
  ~SafeFileTable() override {
    if (!table_ || !ring_) return;
    EXPECT_EQ(FreeSlots(*ring_, *table_), kSlots.made);
  }

  static std::optional<Ring> MakeRing() {
    auto ring = Ring::Create({.entries = 8});
    EXPECT_TRUE(ring) << ring.error().message();
    return std::move(*ring);
  }
  static std::optional<FileTable> MakeTable(std::optional<Ring>& ring) {
    auto table = FileTable::Create(*ring, kSlots);
    EXPECT_TRUE(table) << table.error().message();
    return std::move(*table);
  }
  Result<FixedFile> OpenDirect() {
    return ring_->Wait(ring_->Start(
        Direct<Open>{.table = *table_,
                     .op = {.path = world_.Path("file"), .flags = O_RDWR}}));
  }
  // Whether the file is the one of the world.
  void ExpectReads(const FixedFile& file) {
    auto [size, text] = ring_->Wait(ring_->Read(file, std::string(4, '.'), 2));
    EXPECT_EQ(size.value(), 4u);
    EXPECT_EQ(text, "2345");
  }

  World world_;
  std::optional<Ring> ring_;
  std::optional<FileTable> table_;
};

TEST_F(SafeFileTable, ReadsWritesAndSyncsWithoutADescriptor) {
  const int descriptors = OpenDescriptors();
  auto file = OpenDirect();
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(OpenDescriptors(), descriptors);
  ExpectReads(*file);
  auto [written, text] = ring_->Wait(ring_->Write(*file, std::string("ab"), 3));
  EXPECT_EQ(written.value(), 2u);
  EXPECT_TRUE(ring_->Wait(ring_->Fsync(*file)));
  EXPECT_TRUE(ring_->Wait(ring_->Start(Truncate{.file = *file, .length = 5})));
  auto [size, all] = ring_->Wait(ring_->Read(*file, std::string(9, '.'), 0));
  EXPECT_EQ(size.value(), 5u);
  EXPECT_EQ(all, "012ab....");
}

TEST_F(SafeFileTable, PutsFilesOfWhichTheDescriptorMayGo) {
  std::vector<FixedFile> files;
  for (std::uint32_t i = 0; i < kSlots.put; ++i) {
    auto file = table_->Put(world_.OpenFile());
    ASSERT_TRUE(file) << file.error().message();
    ExpectReads(*file);
    files.push_back(std::move(*file));
  }
  const auto refused = table_->Put(world_.OpenFile());
  EXPECT_EQ(refused.error(), std::errc::too_many_files_open_in_system);
  const int freed = files[1].slot();
  files.erase(files.begin() + 1);
  auto again = table_->Put(world_.OpenFile());
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->slot(), freed);
  ExpectReads(*again);
  // The kernel's slots are others.
  EXPECT_EQ(FreeSlots(*ring_, *table_), kSlots.made);
  ExpectReads(*again);
}

TEST_F(SafeFileTable, ClosesTheFileWithItsSlot) {
  Ends ends;
  auto file = table_->Put(ends.write);
  ASSERT_TRUE(file);
  ends.write = Descriptor();
  auto read = ring_->Read(ends.read, std::string(4, '.'));
  EXPECT_TRUE(ring_->Wait(ring_->Nop()));
  EXPECT_FALSE(read.done());
  *file = FixedFile();
  // The last writer is gone.
  auto [size, text] = ring_->Wait(std::move(read));
  EXPECT_EQ(size.value(), 0u);
}

TEST_F(SafeFileTable, SlotIsKeptUntilTheLastOperationOnIt) {
  const Ends ends;
  auto file = table_->Put(ends.read);
  ASSERT_TRUE(file);
  const int slot = file->slot();
  auto read = ring_->Read(*file, std::string(4, '.'));
  EXPECT_TRUE(ring_->Submit());
  *file = FixedFile();
  // Of the other slots, none is that one.
  for (std::uint32_t i = 1; i < kSlots.put; ++i) {
    auto other = table_->Put(world_.OpenFile());
    ASSERT_TRUE(other);
    EXPECT_NE(other->slot(), slot);
  }
  std::vector<FixedFile> others;
  for (;;) {
    auto other = table_->Put(world_.OpenFile());
    if (!other) break;
    others.push_back(std::move(*other));
  }
  EXPECT_EQ(others.size(), kSlots.put - 1);
  EXPECT_EQ(::write(ends.write.number(), "data", 4), 4);
  auto [size, text] = ring_->Wait(std::move(read));
  EXPECT_EQ(text, "data");
  auto last = table_->Put(world_.OpenFile());
  ASSERT_TRUE(last);
  EXPECT_EQ(last->slot(), slot);
}

TEST_F(SafeFileTable, CancelsWhatIsOnTheFile) {
  const Ends ends, others;
  auto file = table_->Put(ends.read);
  ASSERT_TRUE(file);
  auto first = ring_->Read(*file, std::string(4, '.'));
  // The same file, by its descriptor.
  auto second = ring_->Read(ends.read, std::string(4, '.'));
  auto other = ring_->Read(others.read, std::string(4, '.'));
  EXPECT_TRUE(ring_->Submit());
  EXPECT_EQ(ring_->Wait(ring_->CancelAll(*file)).value(), 2u);
  EXPECT_EQ(ring_->Wait(std::move(first)).result.error(),
            std::errc::operation_canceled);
  EXPECT_EQ(ring_->Wait(std::move(second)).result.error(),
            std::errc::operation_canceled);
  EXPECT_FALSE(other.done());
}

TEST_F(SafeFileTable, ClosesAsAnOperation) {
  auto made = OpenDirect();
  auto put = table_->Put(world_.OpenFile());
  ASSERT_TRUE(made && put);
  const int slot = put->slot();
  EXPECT_TRUE(ring_->Wait(ring_->Close(std::move(*made))));
  EXPECT_TRUE(ring_->Wait(ring_->Close(std::move(*put))));
  auto again = table_->Put(world_.OpenFile());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->slot(), slot);
}

TEST_F(SafeFileTable, CloseWaitsForTheOperationsOnTheFile) {
  const Ends ends;
  auto file = table_->Put(ends.read);
  ASSERT_TRUE(file);
  auto read = ring_->Read(*file, std::string(4, '.'));
  auto close = ring_->Close(std::move(*file));
  EXPECT_TRUE(ring_->Wait(ring_->Nop()));
  EXPECT_FALSE(close.done());
  EXPECT_EQ(::write(ends.write.number(), "data", 4), 4);
  EXPECT_EQ(ring_->Wait(std::move(read)).buffer, "data");
  EXPECT_TRUE(ring_->Wait(std::move(close)));
}

TEST_F(SafeFileTable, CloseEndsTheChainOfItsFile) {
  for (int i = 0; i < 20; ++i) {
    auto file = OpenDirect();
    ASSERT_TRUE(file) << file.error().message();
    auto [write, close] = ring_->Start(
        Chain{With{Write<std::string>{.file = *file, .buffer = "abc"},
                   {.deadline = std::chrono::hours(1)}},
              Close{.file = std::move(*file)}});
    EXPECT_TRUE(ring_->Wait(std::move(close)));
    EXPECT_EQ(ring_->Wait(std::move(write)).result.value(), 3u);
  }
  EXPECT_EQ(FreeSlots(*ring_, *table_), kSlots.made);
}

TEST_F(SafeFileTable, CloseThatIsNeverSubmittedEmptiesTheSlotAllTheSame) {
  auto file = OpenDirect();
  ASSERT_TRUE(file);
  { auto close = ring_->Close(std::move(*file)); }
  while (ring_->in_flight() > 0) EXPECT_TRUE(ring_->Dispatch());
}

TEST_F(SafeFileTable, RefusesWhatCannotBePut) {
  EXPECT_EQ(FileTable::Create(*ring_).error(),
            std::errc::device_or_resource_busy);
  const auto closed = Descriptor::Permanent(1023);
  EXPECT_EQ(table_->Put(closed).error(), std::errc::bad_file_descriptor);
  auto other = MakeRing();
  EXPECT_EQ(FileTable::Create(*other, {.made = 1u << 21, .put = 0}).error(),
            std::errc::too_many_files_open);
}

TEST_F(SafeFileTable, EndsBeforeItsSlots) {
  auto file = OpenDirect();
  auto put = table_->Put(world_.OpenFile());
  ASSERT_TRUE(file && put);
  table_.reset();
  ExpectReads(*file);
  *file = FixedFile();
  ExpectReads(*put);
  EXPECT_EQ(FileTable::Create(*ring_).error(),
            std::errc::device_or_resource_busy);
  *put = FixedFile();
  table_ = MakeTable(ring_);
}

TEST_F(SafeFileTable, EndsBeforeTheOperationsThatFillIt) {
  const Listener listener(world_);
  auto accept = ring_->Start(
      Direct<Accept>{.table = *table_, .op = {.socket = listener.socket}});
  EXPECT_TRUE(ring_->Submit());
  table_.reset();
  const Descriptor client = listener.Connect();
  {
    auto connection = ring_->Wait(std::move(accept));
    ASSERT_TRUE(connection) << connection.error().message();
    auto [sent, text] = ring_->Wait(ring_->Start(
        Send<std::string>{.socket = connection->socket, .buffer = "hello"}));
    EXPECT_EQ(sent.value(), 5u);
  }
  table_ = MakeTable(ring_);
}

TEST_F(SafeFileTable, StreamsConnections) {
  const Listener listener(world_);
  auto stream = ring_->Start(
      Direct<AcceptMany>{.table = *table_, .op = {.socket = listener.socket}});
  EXPECT_TRUE(ring_->Submit());
  std::vector<Descriptor> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(listener.Connect());
  const int descriptors = OpenDescriptors();
  auto connection = ring_->Next(stream);
  ASSERT_TRUE(connection && *connection);
  EXPECT_EQ(OpenDescriptors(), descriptors);
  auto [sent, text] = ring_->Wait(ring_->Start(
      Send<std::string>{.socket = **connection, .buffer = "hello"}));
  EXPECT_EQ(sent.value(), 5u);
  char bytes[8];
  EXPECT_EQ(::read(clients[0].number(), bytes, sizeof(bytes)), 5);
  // What nobody took leaves its slot with the stream.
  { const auto dropped = std::move(stream); }
  while (ring_->in_flight() > 0) EXPECT_TRUE(ring_->Dispatch());
}

TEST_F(SafeFileTable, RingEndsFirst) {
  const int descriptors = OpenDescriptors();
  Ends ends;
  auto file = OpenDirect();
  auto put = table_->Put(ends.write);
  ASSERT_TRUE(file && put);
  auto read = ring_->Read(*file, std::string(4, '.'), 0);
  auto open = ring_->Start(
      Direct<Open>{.table = *table_, .op = {.path = world_.Path("file")}});
  while (!open.done()) EXPECT_TRUE(ring_->Wait(ring_->Nop()));
  auto close = ring_->Close(std::move(*put));
  ring_.reset();
  EXPECT_EQ(table_->Put(ends.read).error(), std::errc::bad_file_descriptor);
  table_.reset();
  // An outcome taken only now owns a file that is gone.
  EXPECT_TRUE(std::move(open).Take());
  EXPECT_TRUE(std::move(read).Take().result);
  EXPECT_TRUE(close.done());
  *file = FixedFile();
  // What was put has gone with the ring, sooner or later.
  ends.write = Descriptor();
  char byte;
  EXPECT_EQ(::read(ends.read.number(), &byte, 1), 0);
  ends.read = Descriptor();
  EXPECT_LE(OpenDescriptors(), descriptors);
}

// Each in a child process, whose rings are its own.
enum class Misuse { kRead, kDirect, kClose, kReadAfterRing };
void UseOnAnotherRing(Misuse how) {
  const World world;
  auto ring = Ring::Create({.entries = 8});
  auto table = FileTable::Create(*ring, kSlots);
  auto file = table->Put(world.OpenFile());
  if (how == Misuse::kReadAfterRing) {
    // One in its place, as far as that goes.
    { const Ring gone = std::move(*ring); }
    ring = Ring::Create({.entries = 8});
    table = FileTable::Create(*ring, kSlots);
    (void)ring->Read(*file, std::string(4, '.'), 0);
    return;
  }
  auto other = Ring::Create({.entries = 8});
  switch (how) {
    case Misuse::kRead:
      (void)other->Read(*file, std::string(4, '.'), 0);
      break;
    case Misuse::kDirect:
      (void)other->Start(Direct<Socket>{.table = *table, .op = {}});
      break;
    default:
      (void)other->Close(std::move(*file));
      break;
  }
}
TEST(SafeFileTableDeathTest, SlotsOfOneRingAreNoneOfAnother) {
  EXPECT_DEATH(UseOnAnotherRing(Misuse::kRead),
               "a FixedFile used on a ring other than its table's");
  EXPECT_DEATH(UseOnAnotherRing(Misuse::kDirect),
               "a Direct op on a ring other than its table's");
  EXPECT_DEATH(UseOnAnotherRing(Misuse::kClose),
               "Close\\(\\) of another ring's FixedFile");
  EXPECT_DEATH(UseOnAnotherRing(Misuse::kReadAfterRing),
               "a FixedFile used on a ring other than its table's");
}

// Nothing else may ever be found in a slot that still has its file.
TEST(SafeFileTableDeathTest, SlotThatTheKernelDoesNotEmptyIsNotUsedAgain) {
  escrow::testing::ExpectChildSucceeds([] {
    const World world;
    auto ring = Ring::Create({.entries = 8});
    ASSERT_TRUE(ring);
    auto table = FileTable::Create(*ring, kSlots);
    ASSERT_TRUE(table);
    std::vector<FixedFile> files;
    for (std::uint32_t i = 0; i < kSlots.put; ++i) {
      auto file = table->Put(world.OpenFile());
      ASSERT_TRUE(file);
      files.push_back(std::move(*file));
    }
    escrow::testing::MakeRegisterFail(EINVAL, kRegisterFilesUpdate);
    files.pop_back();
    EXPECT_EQ(table->Put(world.OpenFile()).error(),
              std::errc::too_many_files_open_in_system);
  });
}

}  // namespace
}  // namespace escrow::safe::cases
