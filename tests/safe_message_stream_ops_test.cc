// The ops of message_stream_ops.h.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/control_data.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/message_ops.h"
#include "escrow/safe/message_stream_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/stream.h"
#include "tests/safe_stream_cases.h"
#include "tests/safe_world.h"
#include "tests/support.h"

namespace escrow::safe::cases {
namespace {

using escrow::testing::OpenDescriptors;
using ownership::ControlData;
using ownership::ControlRoom;

constexpr std::size_t kCount = 8;
constexpr std::size_t kBytes = 8;  // of a message
constexpr std::size_t kControl = ControlRoom::For(sizeof(int));

std::string Text(const LeasedMessage& message) {
  return {reinterpret_cast<const char*>(message.data()), message.size()};
}
void Put(const Descriptor& file, std::string_view text) {
  EXPECT_EQ(::send(file.number(), text.data(), text.size(), 0),
            std::ssize(text));
}

// A group of each ring, which outlives it.
struct Grouped {
  inline static std::optional<BufferGroup> group;

  static void Prepare(Ring& ring) {
    auto made = BufferGroup::Create(
        ring, {.count = kCount,
               .size = ReceiveMessageMany::kOverhead + kControl + kBytes});
    ASSERT_TRUE(made) << made.error().message();
    group = std::move(*made);
  }
  static void Check(Ring&) { EXPECT_EQ(group->available(), kCount); }
  static void End() { group.reset(); }

  World world = {};
  auto Bad() {
    return ReceiveMessageMany{.socket = world.OpenFile(), .group = *group};
  }
  static constexpr int kError = ENOTSOCK;
  static constexpr const char* kCall = "recvmsg (multishot)";
};

struct DatagramsCase : Grouped {
  Pair pair{SOCK_DGRAM};
  static constexpr const char* kName = "ReceiveMessageMany";

  auto Op() {
    return ReceiveMessageMany{
        .socket = pair.here, .group = *group, .control_size = kControl};
  }
  void Send() { Put(pair.there, "12345678"); }
  void Expect(Result<LeasedMessage> message) {
    EXPECT_EQ(Text(*message), "12345678");
    EXPECT_EQ(message->flags, 0);
  }
};

// With a file that each of them passes, which somebody has to close.
struct ConnectionCase : Grouped {
  Pair pair;
  static constexpr const char* kName = "ReceiveMessageMany_connection";
  static constexpr bool kItemsCost = true;

  auto Op() {
    return ReceiveMessageMany{.socket = pair.here,
                              .group = *group,
                              .control_size = kControl,
                              .connection = true};
  }
  void Send() {
    const Descriptor file = world.OpenFile();
    const int number = file.number();
    SendPassing(pair.there, "abc", {&number, 1});
  }
  void Expect(Result<LeasedMessage> message) {
    EXPECT_EQ(Text(*message), "abc");
    EXPECT_TRUE(message->control.TakeDescriptor());
  }
  void Finish() { pair.there = Descriptor(); }
};

using Cases = ::testing::Types<DatagramsCase, ConnectionCase>;
ESCROW_STREAM_CASES(MessageStream, Cases);

// What a row cannot say.

class SafeMessageStream : public ::testing::Test {
 protected:
  SafeMessageStream() {
    auto ring = Ring::Create({.entries = 8});
    EXPECT_TRUE(ring) << ring.error().message();
    ring_ = std::move(*ring);
    group_ =
        MakeGroup({.count = kCount,
                   .size = ReceiveMessageMany::kOverhead + kControl + kBytes});
  }
  ~SafeMessageStream() override {
    if (!ring_) return;
    Drain();
    EXPECT_EQ(group_->available(), kCount);
  }

  void Drain() {
    while (ring_->in_flight() > 0) ASSERT_TRUE(ring_->Dispatch());
  }

  std::optional<BufferGroup> MakeGroup(const BufferGroupOptions& options) {
    auto group = BufferGroup::Create(*ring_, options);
    EXPECT_TRUE(group) << group.error().message();
    return std::move(*group);
  }
  Stream<LeasedMessage> Start(const Descriptor& socket,
                              bool connection = false) {
    return ring_->Start(ReceiveMessageMany{.socket = socket,
                                           .group = *group_,
                                           .control_size = kControl,
                                           .connection = connection});
  }
  // Passes an open file along with the bytes.
  void Pass(const Descriptor& socket, const std::string& bytes) {
    ControlData control;
    control.Pass(world_.OpenFile());
    auto [size, message] = ring_->Wait(ring_->Start(SendMessage<std::string>{
        .socket = socket,
        .message = {.bytes = bytes, .control = std::move(control)}}));
    EXPECT_EQ(size.value(), bytes.size());
  }

  World world_;
  std::optional<Ring> ring_;
  std::optional<BufferGroup> group_;
};

TEST_F(SafeMessageStream, Messages) {
  const Pair pair(SOCK_DGRAM);
  auto stream = Start(pair.here);
  for (const char* const text : {"one", "", "three", "12345678"}) {
    Put(pair.there, text);
    auto message = ring_->Next(stream);
    ASSERT_TRUE(message && *message) << message->error().message();
    EXPECT_EQ(Text(**message), text);
    EXPECT_EQ((*message)->flags, 0);
    EXPECT_EQ((*message)->address.size(), 0u);
    EXPECT_EQ((*message)->control.size(), 0u);
  }
}

TEST_F(SafeMessageStream, SaysWhatIsCutOff) {
  const Pair pair(SOCK_DGRAM);
  auto stream = Start(pair.here);
  Put(pair.there, "123456789");
  const auto message = ring_->Next(stream);
  ASSERT_TRUE(message && *message);
  EXPECT_EQ(Text(**message), "12345678");
  EXPECT_EQ((*message)->flags, MSG_TRUNC);
}

TEST_F(SafeMessageStream, AddressOfTheSender) {
  const Descriptor here =
      Descriptor::Adopt(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const Descriptor there =
      Descriptor::Adopt(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const SocketAddress to = UnixAddress(world_.Path("here"));
  const SocketAddress from = UnixAddress(world_.Path("there"));
  ASSERT_EQ(::bind(here.number(), to.data(), to.size()), 0);
  ASSERT_EQ(::bind(there.number(), from.data(), from.size()), 0);
  ASSERT_EQ(::connect(there.number(), to.data(), to.size()), 0);
  auto stream = Start(here);
  Put(there, "abc");
  const auto message = ring_->Next(stream);
  ASSERT_TRUE(message && *message);
  const SocketAddress& sender = (*message)->address;
  EXPECT_EQ(sender.family(), AF_UNIX);
  EXPECT_STREQ(reinterpret_cast<const sockaddr_un*>(sender.data())->sun_path,
               world_.Path("there").c_str());
  EXPECT_EQ(Text(**message), "abc");
}

TEST_F(SafeMessageStream, DescriptorsAreOwned) {
  const Pair pair;
  const int before = OpenDescriptors();
  {
    auto stream = Start(pair.here, /*connection=*/true);
    Pass(pair.there, "take it");
    auto message = ring_->Next(stream);
    ASSERT_TRUE(message && *message);
    EXPECT_EQ(Text(**message), "take it");
    {
      const Descriptor file = (*message)->control.TakeDescriptor();
      ASSERT_TRUE(file);
      EXPECT_EQ(::fcntl(file.number(), F_GETFD), FD_CLOEXEC);
      char bytes[4];
      EXPECT_EQ(::pread(file.number(), bytes, 4, 2), 4);
      EXPECT_EQ(std::string(bytes, 4), "2345");
      EXPECT_FALSE((*message)->control.TakeDescriptor());
    }
    EXPECT_EQ(OpenDescriptors(), before);
    // One that is taken with its message, and one that nobody asks for.
    Pass(pair.there, "second");
    (void)ring_->Next(stream);
    EXPECT_EQ(OpenDescriptors(), before);
    Pass(pair.there, "third");
    while (!stream.ready()) EXPECT_TRUE(ring_->Wait(ring_->Nop()));
    EXPECT_EQ(OpenDescriptors(), before + 1);
  }
  Drain();
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(SafeMessageStream, EndsWithTheConnection) {
  Pair pair;
  auto stream = Start(pair.here, /*connection=*/true);
  Put(pair.there, "last");
  auto message = ring_->Next(stream);
  ASSERT_TRUE(message && *message);
  EXPECT_EQ(Text(**message), "last");
  pair.there = Descriptor();
  EXPECT_FALSE(ring_->Next(stream));
}

TEST_F(SafeMessageStream, CallbackWaitsForBuffers) {
  Pair pair(SOCK_DGRAM);
  std::vector<LeasedMessage> messages;
  int dry = 0;
  Start(pair.here).ForEach([&](std::optional<Result<LeasedMessage>> item) {
    if (!item) return;
    if (*item) {
      messages.push_back(std::move(**item));
    } else {
      ++dry;
      EXPECT_EQ(item->error(), std::errc::no_buffer_space);
    }
  });
  for (std::size_t i = 0; i < kCount + 1; ++i) Put(pair.there, "abc");
  Drain();
  EXPECT_EQ(messages.size(), kCount);
  EXPECT_EQ(dry, 1);
  messages.clear();
  while (messages.empty()) ASSERT_TRUE(ring_->Dispatch());
  EXPECT_EQ(Text(messages[0]), "abc");
  ring_.reset();
  messages.clear();
}

TEST_F(SafeMessageStream, BytesAreSentOn) {
  const Pair pair(SOCK_DGRAM), other(SOCK_DGRAM);
  auto stream = Start(pair.here);
  Put(pair.there, "abc");
  auto message = ring_->Next(stream);
  ASSERT_TRUE(message && *message);
  auto [size, bytes] =
      ring_->Wait(ring_->Start(Send<ownership::Slice<ownership::Lease>>{
          .socket = other.there, .buffer = std::move((*message)->bytes)}));
  EXPECT_EQ(size.value(), 3u);
  char received[8];
  EXPECT_EQ(::recv(other.here.number(), received, sizeof(received), 0), 3);
  EXPECT_EQ(std::string(received, 3), "abc");
}

TEST_F(SafeMessageStream, RefusesWhatCannotBe) {
  const auto error = [&](ReceiveMessageMany op) {
    auto stream = ring_->Start(std::move(op));
    const auto item = ring_->Next(stream);
    EXPECT_FALSE(ring_->Next(stream));
    return item->error();
  };
  const Pair pair(SOCK_DGRAM);
  Put(pair.there, "abc");
  const Descriptor file = world_.OpenFile();
  const std::error_code bad = error({.socket = file, .group = *group_});
  EXPECT_EQ(bad, std::errc::not_a_socket);
  EXPECT_TRUE(bad.message().starts_with("recvmsg (multishot): "));
  EXPECT_EQ(
      error({.socket = pair.here, .group = *group_, .flags = MSG_WAITALL}),
      std::errc::invalid_argument);
  EXPECT_EQ(
      error({.socket = pair.here, .group = *group_, .control_size = 1000}),
      std::errc::bad_address);
  const auto incremental = MakeGroup({.incremental = true});
  EXPECT_EQ(error({.socket = pair.here, .group = *incremental}),
            std::errc::invalid_argument);
}

}  // namespace
}  // namespace escrow::safe::cases
