// What ForEachMemory() gives for each operation.

#include <gtest/gtest.h>
#include <liburing.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <ostream>
#include <vector>

#include "escrow/raw/all_ops.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/memory.h"
#include "escrow/raw/ops.h"

namespace escrow::raw {

bool operator==(const Memory& one, const Memory& other) {
  return one.data == other.data && one.size == other.size &&
         one.access == other.access && one.until == other.until &&
         one.counted_by_result == other.counted_by_result;
}
void PrintTo(const Memory& memory, std::ostream* out) {
  *out << memory.size << " bytes at " << memory.data << ", which it "
       << NameOf(memory.access) << " until " << NameOf(memory.until)
       << (memory.counted_by_result ? ", counted by the result" : "");
}

namespace {

template <typename Op>
std::vector<Memory> MemoryOf(const Op& op) {
  std::vector<Memory> all;
  ForEachMemory(op, [&](const Memory& memory) { all.push_back(memory); });
  return all;
}

using All = std::vector<Memory>;
constexpr Access kReads = Access::kRead;
constexpr Access kWrites = Access::kWrite;
constexpr Access kBoth = Access::kReadWrite;
constexpr Until kConsumed = Until::kConsumed;
constexpr Until kCompletion = Until::kCompletion;
constexpr Until kNotification = Until::kNotification;

std::byte bytes[1024];
std::byte* const kData = bytes;
Memory Counted(void* data, std::size_t size, Until until = kCompletion) {
  return {data, size, kWrites, until, /*counted_by_result=*/true};
}
Memory Read(const void* data, std::size_t size, Until until = kCompletion) {
  return {data, size, kReads, until, /*counted_by_result=*/true};
}

// That there is a rule for each field is checked when this is compiled.
TEST(RawMemory, EveryOperationIsKnown) {
  ForEachOp([]<typename Op>() {
    constexpr void (*kForEach)(const Op&, void (&)(const Memory&)) =
        &ForEachMemory<Op, void (&)(const Memory&)>;
    EXPECT_NE(kForEach, nullptr);
  });
}

TEST(RawMemory, OfTransfers) {
  EXPECT_EQ(MemoryOf(Nop{}), All());
  EXPECT_EQ(MemoryOf(raw::Read{.fd = 0, .buffer = kData, .length = 100}),
            All({Counted(kData, 100)}));
  EXPECT_EQ(MemoryOf(raw::Read{.fd = 0, .buffer = kData, .length = 0}), All());
  EXPECT_EQ(MemoryOf(Write{.fd = 0, .buffer = kData, .length = 100}),
            All({Read(kData, 100)}));
  EXPECT_EQ(MemoryOf(ReadFixed{
                .fd = 0, .buffer = kData, .length = 9, .buffer_index = 0}),
            All({Counted(kData, 9)}));
  EXPECT_EQ(MemoryOf(WriteFixed{
                .fd = 0, .buffer = kData, .length = 9, .buffer_index = 0}),
            All({Read(kData, 9)}));
  EXPECT_EQ(MemoryOf(Recv{.fd = 0, .buffer = kData, .length = 7}),
            All({Counted(kData, 7)}));
  EXPECT_EQ(MemoryOf(ReadSelected{.fd = 0, .group = 1, .length = 7}), All());
  EXPECT_EQ(MemoryOf(RecvMultishot{.fd = 0, .group = 1}), All());
  EXPECT_EQ(MemoryOf(ProvideBuffers{
                .buffers = kData, .length = 8, .count = 3, .group = 1}),
            All({{kData, 24, kWrites, Until::kUnregistered}}));

  io_uring_attr_pi information = {};
  information.addr = reinterpret_cast<std::uintptr_t>(kData + 512);
  information.len = 16;
  EXPECT_EQ(
      MemoryOf(raw::Read{
          .fd = 0, .buffer = kData, .length = 8, .protection = &information}),
      All({Counted(kData, 8),
           {kData + 512, 16, kBoth, kCompletion},
           {&information, sizeof(information), kReads, kConsumed}}));
}

TEST(RawMemory, OfVectors) {
  const iovec vectors[] = {{kData, 10}, {nullptr, 0}, {kData + 32, 20}};
  const Memory array = {vectors, sizeof(vectors), kReads, kConsumed};
  const All read = {Counted(kData, 10), Counted(kData + 32, 20), array};
  const All written = {Read(kData, 10), Read(kData + 32, 20), array};
  EXPECT_EQ(MemoryOf(Readv{.fd = 0, .vectors = vectors, .count = 3}), read);
  EXPECT_EQ(MemoryOf(ReadvFixed{
                .fd = 0, .vectors = vectors, .count = 3, .buffer_index = 0}),
            read);
  EXPECT_EQ(MemoryOf(Writev{.fd = 0, .vectors = vectors, .count = 3}), written);
  EXPECT_EQ(MemoryOf(WritevFixed{
                .fd = 0, .vectors = vectors, .count = 3, .buffer_index = 0}),
            written);
  EXPECT_EQ(MemoryOf(SendVectors{.fd = 0, .vectors = vectors, .count = 3}),
            written);
  EXPECT_EQ(
      MemoryOf(SendZeroCopyVectors{.fd = 0, .vectors = vectors, .count = 3}),
      All({Read(kData, 10, kNotification), Read(kData + 32, 20, kNotification),
           array}));
  // Only the length of it is used.
  EXPECT_EQ(MemoryOf(ReadvSelected{.fd = 0, .vector = vectors, .group = 1}),
            All({{vectors, sizeof(iovec), kReads, kConsumed}}));
}

TEST(RawMemory, OfSends) {
  const sockaddr_storage to = {};
  const auto* const address = reinterpret_cast<const sockaddr*>(&to);
  EXPECT_EQ(MemoryOf(Send{.fd = 0,
                          .buffer = kData,
                          .length = 9,
                          .address = address,
                          .address_length = 16}),
            All({Read(kData, 9), {address, 16, kReads, kConsumed}}));
  EXPECT_EQ(MemoryOf(SendZeroCopy{.fd = 0, .buffer = kData, .length = 9}),
            All({Read(kData, 9, kNotification)}));
  EXPECT_EQ(MemoryOf(SendZeroCopyFixed{
                .fd = 0, .buffer = kData, .length = 9, .buffer_index = 0}),
            All({Read(kData, 9, kNotification)}));
}

TEST(RawMemory, OfMessages) {
  iovec vectors[] = {{kData, 10}, {kData + 32, 20}};
  msghdr message = {};
  message.msg_name = kData + 100;
  message.msg_namelen = 16;
  message.msg_iov = vectors;
  message.msg_iovlen = 2;
  message.msg_control = kData + 200;
  message.msg_controllen = 24;
  const Memory array = {vectors, sizeof(vectors), kReads, kConsumed};
  const Memory read_name = {kData + 100, 16, kReads, kConsumed};
  const Memory read_control = {kData + 200, 24, kReads, kCompletion};
  const Memory header = {&message, sizeof(message), kReads, kConsumed};
  EXPECT_EQ(MemoryOf(SendMsg{.fd = 0, .message = &message}),
            All({Read(kData, 10), Read(kData + 32, 20), array, read_name,
                 read_control, header}));
  const All zero_copy = {Read(kData, 10, kNotification),
                         Read(kData + 32, 20, kNotification),
                         array,
                         read_name,
                         read_control,
                         header};
  EXPECT_EQ(MemoryOf(SendMsgZeroCopy{.fd = 0, .message = &message}), zero_copy);
  EXPECT_EQ(MemoryOf(SendMsgZeroCopyFixed{
                .fd = 0, .message = &message, .buffer_index = 0}),
            zero_copy);

  const Memory name = {kData + 100, 16, kWrites, kCompletion};
  const Memory control = {kData + 200, 24, kWrites, kCompletion};
  const Memory written_header = {&message, sizeof(message), kBoth, kCompletion};
  EXPECT_EQ(MemoryOf(RecvMsg{.fd = 0, .message = &message}),
            All({Counted(kData, 10), Counted(kData + 32, 20), array, name,
                 control, written_header}));
  // The data is in a buffer of the group.
  EXPECT_EQ(MemoryOf(RecvMsgSelected{.fd = 0, .message = &message, .group = 1}),
            All({array, name, control, written_header}));
  EXPECT_EQ(
      MemoryOf(RecvMsgMultishot{.fd = 0, .message = &message, .group = 1}),
      All({header}));
}

TEST(RawMemory, OfSocketCalls) {
  sockaddr_storage storage = {};
  auto* const address = reinterpret_cast<sockaddr*>(&storage);
  socklen_t size = 28;
  EXPECT_EQ(MemoryOf(Bind{.fd = 0, .address = address, .address_length = 16}),
            All({{address, 16, kReads, kConsumed}}));
  EXPECT_EQ(
      MemoryOf(Connect{.fd = 0, .address = address, .address_length = 16}),
      All({{address, 16, kReads, kConsumed}}));
  EXPECT_EQ(MemoryOf(Accept{.fd = 0}), All());
  EXPECT_EQ(
      MemoryOf(Accept{.fd = 0, .address = address, .address_length = &size}),
      All({{address, 28, kWrites, kCompletion},
           {&size, sizeof(size), kBoth, kCompletion}}));
  EXPECT_EQ(MemoryOf(AcceptMultishot{
                .fd = 0, .address = address, .address_length = &size}),
            All({{address, 28, kWrites, Until::kLastCompletion},
                 {&size, sizeof(size), kBoth, Until::kLastCompletion}}));
  EXPECT_EQ(MemoryOf(GetSocketName{
                .fd = 0, .address = address, .address_length = &size}),
            All({{address, 28, kWrites, kCompletion},
                 {&size, sizeof(size), kBoth, kCompletion}}));
  EXPECT_EQ(MemoryOf(GetSocketOption{
                .fd = 0, .option = 1, .value = kData, .length = 4}),
            All({Counted(kData, 4)}));
  EXPECT_EQ(MemoryOf(SetSocketOption{
                .fd = 0, .option = 1, .value = kData, .length = 4}),
            All({Read(kData, 4)}));
  // What the payload points to, only the driver knows.
  EXPECT_EQ(
      MemoryOf(UringCmd{.fd = 0, .command = 1, .address = kData, .length = 12}),
      All({{kData, 12, kBoth, kCompletion}}));
}

TEST(RawMemory, OfPaths) {
  const char* const path = "path";
  const char* const other = "other path";
  const Memory path_memory = {path, 5, kReads, kConsumed};
  const Memory other_memory = {other, 11, kReads, kConsumed};
  EXPECT_EQ(MemoryOf(OpenAt{.path = path, .flags = 0}), All({path_memory}));
  const open_how how = {};
  EXPECT_EQ(MemoryOf(OpenAt2{.path = path, .how = &how}),
            All({path_memory, {&how, sizeof(how), kReads, kConsumed}}));
  struct statx status;
  EXPECT_EQ(
      MemoryOf(Statx{.path = path, .result = &status}),
      All({path_memory, {&status, sizeof(status), kWrites, kCompletion}}));
  EXPECT_EQ(MemoryOf(RenameAt{.old_path = path, .new_path = other}),
            All({path_memory, other_memory}));
  EXPECT_EQ(MemoryOf(LinkAt{.old_path = path, .new_path = other}),
            All({path_memory, other_memory}));
  EXPECT_EQ(MemoryOf(SymlinkAt{.target = other, .path = path}),
            All({path_memory, other_memory}));
  EXPECT_EQ(MemoryOf(UnlinkAt{.path = path}), All({path_memory}));
  EXPECT_EQ(MemoryOf(MkdirAt{.path = path, .mode = 0}), All({path_memory}));
  EXPECT_EQ(
      MemoryOf(FgetXattr{.fd = 0, .name = other, .value = kData, .length = 64}),
      All({Counted(kData, 64), other_memory}));
  EXPECT_EQ(MemoryOf(GetXattr{
                .path = path, .name = other, .value = kData, .length = 64}),
            All({Counted(kData, 64), path_memory, other_memory}));
  EXPECT_EQ(MemoryOf(SetXattr{
                .path = path, .name = other, .value = kData, .length = 64}),
            All({Read(kData, 64, kConsumed), path_memory, other_memory}));
  EXPECT_EQ(
      MemoryOf(FsetXattr{.fd = 0, .name = other, .value = kData, .length = 64}),
      All({Read(kData, 64, kConsumed), other_memory}));
}

TEST(RawMemory, OfTheRest) {
  const __kernel_timespec time = {};
  const Memory time_memory = {&time, sizeof(time), kReads, kConsumed};
  EXPECT_EQ(MemoryOf(Timeout{.duration = &time}), All({time_memory}));
  EXPECT_EQ(MemoryOf(LinkTimeout{.duration = &time}), All({time_memory}));
  EXPECT_EQ(MemoryOf(TimeoutUpdate{.user_data = 1, .duration = &time}),
            All({time_memory}));
  EXPECT_EQ(MemoryOf(TimeoutMultishot{.duration = &time}), All({time_memory}));

  int fds[3] = {};
  EXPECT_EQ(MemoryOf(Pipe{.fds = fds}),
            All({{fds, 2 * sizeof(int), kWrites, kCompletion}}));
  EXPECT_EQ(MemoryOf(FilesUpdate{.fds = fds, .count = 3, .offset = 0}),
            All({{fds, sizeof(fds), kBoth, kCompletion}}));
  EXPECT_EQ(MemoryOf(Madvise{.address = kData, .length = 512, .advice = 0}),
            All({{kData, 512, Access::kAddress, kCompletion}}));

  epoll_event events[4] = {};
  EXPECT_EQ(MemoryOf(EpollWait{.epoll = 0, .events = events, .max_events = 4}),
            All({{events, sizeof(events), kWrites, kCompletion}}));
  EXPECT_EQ(
      MemoryOf(EpollCtl{.epoll = 0, .operation = 1, .fd = 2, .event = events}),
      All({{events, sizeof(epoll_event), kReads, kConsumed}}));
  siginfo_t info = {};
  EXPECT_EQ(
      MemoryOf(WaitId{.id_type = P_ALL, .id = 0, .info = &info, .options = 0}),
      All({{&info, sizeof(info), kWrites, kCompletion}}));

  // Others may change what a futex is, but not where.
  const std::uint32_t word = 0;
  const Memory word_memory = {&word, 4, Access::kAddress, kCompletion};
  EXPECT_EQ(MemoryOf(FutexWait{.word = &word, .expected = 0, .futex_flags = 2}),
            All({word_memory}));
  EXPECT_EQ(MemoryOf(FutexWake{.word = &word, .count = 1, .futex_flags = 2}),
            All({word_memory}));
  futex_waitv futexes[2] = {};
  futexes[1].uaddr = reinterpret_cast<std::uintptr_t>(&word);
  EXPECT_EQ(MemoryOf(FutexWaitV{.futexes = futexes, .count = 2}),
            All({word_memory, {futexes, sizeof(futexes), kReads, kConsumed}}));
}

}  // namespace
}  // namespace escrow::raw
