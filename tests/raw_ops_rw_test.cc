#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "escrow/raw/ops_rw.h"
#include "tests/raw_ops_test.h"
#include "tests/support.h"

namespace escrow::raw {
namespace {

using testing::TemporaryFile;

// Of IOPRIO_CLASS_BE, the class of all who ask for no other.
constexpr std::uint16_t kBestEffort = 2 << 13 | 7;

TEST_F(RawOps, Read) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDONLY));
  char buffer[4] = {};
  EXPECT_EQ(ResultOf(Read{.fd = fd.get(),
                          .buffer = buffer,
                          .length = 4,
                          .offset = 3,
                          .priority = kBestEffort}),
            4);
  EXPECT_EQ(std::string(buffer, 4), "3456");
  // From the current position, which is 0 as yet.
  EXPECT_EQ(ResultOf(Read{.fd = fd.get(), .buffer = buffer, .length = 3}), 3);
  EXPECT_EQ(buffer[2], '2');
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 3);
  EXPECT_EQ(ResultOf(Read{
                .fd = fd.get(), .buffer = buffer, .length = 4, .offset = 8}),
            2);
  EXPECT_EQ(ResultOf(Read{
                .fd = fd.get(), .buffer = buffer, .length = 4, .offset = 10}),
            0);
  // A slot, not a descriptor.
  const int number = fd.get();
  ASSERT_EQ(io_uring_register_files(ring().get(), &number, 1), 0);
  EXPECT_EQ(
      ResultOf(
          Read{.fd = FixedFile{0}, .buffer = buffer, .length = 1, .offset = 9}),
      1);
  EXPECT_EQ(buffer[0], '9');

  EXPECT_EQ(RefusalOf(Read{.fd = -1, .buffer = buffer, .length = 1}), EBADF);
  EXPECT_EQ(RefusalOf(Read{.fd = FixedFile{1}, .buffer = buffer, .length = 1}),
            EBADF);
  EXPECT_EQ(RefusalOf(Read{.fd = fd.get(),
                           .buffer = buffer,
                           .length = 1,
                           .rw_flags = __kernel_rwf_t{1} << 30}),
            EOPNOTSUPP);
}

TEST_F(RawOps, Write) {
  const TemporaryFile file;
  const Closing fd(file.Open(O_RDWR));
  EXPECT_EQ(ResultOf(Write{.fd = fd.get(),
                           .buffer = "abcdef",
                           .length = 6,
                           .offset = 2,
                           .priority = kBestEffort}),
            6);
  EXPECT_EQ(ResultOf(Write{.fd = fd.get(), .buffer = "A", .length = 1}), 1);
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 1);
  EXPECT_EQ(ResultOf(Write{.fd = fd.get(),
                           .buffer = "Z",
                           .length = 1,
                           .offset = 0,
                           .rw_flags = RWF_APPEND}),
            1);
  EXPECT_EQ(file.Content(), std::string("A\0abcdefZ", 9));

  const Closing read_only(file.Open(O_RDONLY));
  EXPECT_EQ(RefusalOf(Write{.fd = read_only.get(), .buffer = "x", .length = 1}),
            EBADF);
  if (KernelIsAtLeast("6.13")) {
    // Only some block devices have protection information.
    const io_uring_attr_pi protection = {};
    EXPECT_EQ(RefusalOf(Write{.fd = fd.get(),
                              .buffer = "x",
                              .length = 1,
                              .protection = &protection}),
              EINVAL);
  }
}

TEST_F(RawOps, Readv) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDONLY));
  char first[2];
  char second[3];
  const iovec vectors[] = {{first, sizeof(first)}, {second, sizeof(second)}};
  EXPECT_EQ(ResultOf(Readv{
                .fd = fd.get(), .vectors = vectors, .count = 2, .offset = 4}),
            5);
  EXPECT_EQ(std::string(first, 2) + std::string(second, 3), "45678");
  EXPECT_EQ(ResultOf(Readv{.fd = fd.get(), .vectors = vectors, .count = 1}), 2);
  EXPECT_EQ(std::string(first, 2), "01");
  EXPECT_EQ(RefusalOf(Readv{.fd = fd.get(), .vectors = nullptr, .count = 1}),
            EFAULT);
}

TEST_F(RawOps, Writev) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDWR));
  char first[] = "ab";
  char second[] = "cde";
  const iovec vectors[] = {{first, 2}, {second, 3}};
  EXPECT_EQ(ResultOf(Writev{
                .fd = fd.get(), .vectors = vectors, .count = 2, .offset = 4}),
            5);
  EXPECT_EQ(file.Content(), "0123abcde9");
  EXPECT_EQ(RefusalOf(Writev{
                .fd = fd.get(), .vectors = vectors, .count = IOV_MAX + 1}),
            EINVAL);
}

// Registers one buffer with the ring.
class RegisteredBuffer {
 public:
  static constexpr std::size_t kSize = 4096;

  explicit RegisteredBuffer(Ring& ring) {
    const iovec vector = {.iov_base = memory_, .iov_len = kSize};
    EXPECT_EQ(io_uring_register_buffers(ring.get(), &vector, 1), 0);
  }
  char* data() { return memory_; }

 private:
  alignas(4096) char memory_[kSize] = {};
};

TEST_F(RawOps, ReadFixed) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDONLY));
  RegisteredBuffer buffer(ring());
  EXPECT_EQ(ResultOf(ReadFixed{.fd = fd.get(),
                               .buffer = buffer.data() + 100,
                               .length = 5,
                               .offset = 4,
                               .buffer_index = 0}),
            5);
  EXPECT_EQ(std::string(buffer.data() + 100, 5), "45678");
  // No such buffer; not inside it.
  EXPECT_EQ(RefusalOf(ReadFixed{.fd = fd.get(),
                                .buffer = buffer.data(),
                                .length = 1,
                                .buffer_index = 7}),
            EFAULT);
  EXPECT_EQ(RefusalOf(ReadFixed{.fd = fd.get(),
                                .buffer = buffer.data() + buffer.kSize - 1,
                                .length = 2,
                                .buffer_index = 0}),
            EFAULT);
}

TEST_F(RawOps, WriteFixed) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDWR));
  RegisteredBuffer buffer(ring());
  std::string("xyz").copy(buffer.data() + 8, 3);
  EXPECT_EQ(ResultOf(WriteFixed{.fd = fd.get(),
                                .buffer = buffer.data() + 8,
                                .length = 3,
                                .offset = 5,
                                .buffer_index = 0}),
            3);
  EXPECT_EQ(file.Content(), "01234xyz89");
  EXPECT_EQ(RefusalOf(WriteFixed{.fd = fd.get(),
                                 .buffer = buffer.data(),
                                 .length = 1,
                                 .buffer_index = 1}),
            EFAULT);
}

TEST_F(RawOps, ReadvFixed) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDONLY));
  RegisteredBuffer buffer(ring());
  const iovec vectors[] = {{buffer.data() + 10, 2}, {buffer.data(), 3}};
  EXPECT_EQ(ResultOf(ReadvFixed{.fd = fd.get(),
                                .vectors = vectors,
                                .count = 2,
                                .offset = 1,
                                .buffer_index = 0}),
            5);
  EXPECT_EQ(std::string(buffer.data(), 3), "345");
  EXPECT_EQ(std::string(buffer.data() + 10, 2), "12");
  char outside[2];
  const iovec elsewhere = {outside, sizeof(outside)};
  EXPECT_EQ(RefusalOf(ReadvFixed{.fd = fd.get(),
                                 .vectors = &elsewhere,
                                 .count = 1,
                                 .buffer_index = 0}),
            EFAULT);
}

TEST_F(RawOps, WritevFixed) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDWR));
  RegisteredBuffer buffer(ring());
  std::string("abcde").copy(buffer.data(), 5);
  const iovec vectors[] = {{buffer.data() + 3, 2}, {buffer.data(), 3}};
  EXPECT_EQ(ResultOf(WritevFixed{.fd = fd.get(),
                                 .vectors = vectors,
                                 .count = 2,
                                 .offset = 1,
                                 .buffer_index = 0}),
            5);
  EXPECT_EQ(file.Content(), "0deabc6789");
}

TEST_F(RawOps, ReadSelected) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDONLY));
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/2, /*size=*/4);
  const Completion first =
      Run(ReadSelected{.fd = fd.get(), .group = 5, .offset = 2});
  ASSERT_EQ(first.result, 4);
  ASSERT_TRUE(first.has_buffer());
  EXPECT_EQ(buffers.Content(first), "2345");
  const Completion second =
      Run(ReadSelected{.fd = fd.get(), .group = 5, .length = 3, .offset = 5});
  ASSERT_EQ(second.result, 3);
  EXPECT_EQ(buffers.Content(second), "567");
  EXPECT_NE(first.buffer_id(), second.buffer_id());
  EXPECT_EQ(RefusalOf(ReadSelected{.fd = fd.get(), .group = 5}), ENOBUFS);
  EXPECT_EQ(RefusalOf(ReadSelected{.fd = fd.get(), .group = 6}), ENOBUFS);
}

TEST_F(RawOps, ReadvSelected) {
  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDONLY));
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/1, /*size=*/8);
  const iovec vector = {.iov_base = nullptr, .iov_len = 3};
  const Completion completion =
      Run(ReadvSelected{.fd = fd.get(), .vector = &vector, .group = 5});
  ASSERT_EQ(completion.result, 3);
  ASSERT_TRUE(completion.has_buffer());
  EXPECT_EQ(buffers.Content(completion), "012");
}

TEST_F(RawOps, ReadMultishot) {
  Ends pipe = MakePipe();
  ProvidedBuffers buffers(ring(), /*group=*/5, /*count=*/2, /*size=*/8);
  Push(ReadMultishot{.fd = pipe.first.get(), .group = 5}, 1);
  ASSERT_EQ(*ring().Submit(), 1u);
  for (const char* text : {"one", "second"}) {
    WriteTo(pipe.second.get(), text);
    const Completion completion = Reap(1).at(0);
    EXPECT_TRUE(completion.more());
    ASSERT_TRUE(completion.has_buffer());
    EXPECT_EQ(buffers.Content(completion), text);
  }
  // No buffer is left.
  WriteTo(pipe.second.get(), "x");
  const Completion empty = Reap(1).at(0);
  EXPECT_EQ(empty.result, -ENOBUFS);
  EXPECT_FALSE(empty.more());

  // The end of the file.
  buffers.Provide(0, 8);
  buffers.Provide(1, 8);
  Push(ReadMultishot{.fd = pipe.first.get(), .group = 5}, 2);
  EXPECT_TRUE(Reap(1).at(0).more());
  pipe.second.Close();
  const Completion end = Reap(1).at(0);
  EXPECT_EQ(end.result, 0);
  EXPECT_FALSE(end.more());

  const TemporaryFile file("0123456789");
  const Closing fd(file.Open(O_RDONLY));
  EXPECT_EQ(RefusalOf(ReadMultishot{.fd = fd.get(), .group = 5}), EBADFD);
  EXPECT_EQ(
      RefusalOf(ReadMultishot{.fd = pipe.first.get(), .group = 5, .length = 1}),
      EINVAL);
}

}  // namespace
}  // namespace escrow::raw
