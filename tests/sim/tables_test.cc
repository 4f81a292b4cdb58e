#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing/io_uring.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "escrow/sim/buffer_groups.h"
#include "escrow/sim/kernel_state.h"
#include "escrow/sim/request.h"
#include "escrow/sim/ring.h"

// What is registered with a simulated ring, without one that anything is
// submitted to.

namespace escrow::sim {
namespace {

struct Tables : ::testing::Test {
  Ring ring{Kernel::Get(), /*setup_flags=*/0, /*entries=*/8,
            /*completion_entries=*/16};
  io_uring_sqe entry = {};
  Request request{ring, &entry, sizeof(entry), /*its_sequence=*/0};
};

// Files.

struct Files : Tables {
  FileTable& files = ring.files();
  const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);

  ~Files() override { ::close(fd); }

  int RegisterSparse(std::uint32_t count) {
    io_uring_rsrc_register asked = {};
    asked.nr = count;
    asked.flags = IORING_RSRC_REGISTER_SPARSE;
    return files.Register(IORING_REGISTER_FILES2, &asked, sizeof(asked));
  }
  File Another() { return File::Duplicate(fd); }
};

TEST_F(Files, AreRegisteredOnce) {
  EXPECT_EQ(files.Register(IORING_UNREGISTER_FILES, nullptr, 0), -ENXIO);
  EXPECT_EQ(files.Install(Another(), 1), -ENXIO);
  std::array<int, 2> fds = {fd, -1};
  EXPECT_EQ(files.Register(IORING_REGISTER_FILES, fds.data(), 0), -EINVAL);
  EXPECT_EQ(files.Register(IORING_REGISTER_FILES, fds.data(), 2), 0);
  EXPECT_EQ(files.Register(IORING_REGISTER_FILES, fds.data(), 2), -EBUSY);
  ASSERT_NE(files.Find(0), nullptr);
  EXPECT_NE(files.Find(0)->fd(), fd);
  EXPECT_EQ(files.Find(1), nullptr);
  EXPECT_EQ(files.Find(2), nullptr);
  EXPECT_EQ(files.Register(IORING_UNREGISTER_FILES, nullptr, 0), 0);
  EXPECT_EQ(files.Find(0), nullptr);
  fds = {fd, 1 << 20};
  EXPECT_EQ(files.Register(IORING_REGISTER_FILES, fds.data(), 2), -EBADF);
}

TEST_F(Files, AreAllocatedFromWhereTheLastOneWas) {
  ASSERT_EQ(RegisterSparse(3), 0);
  EXPECT_EQ(files.Install(Another(), IORING_FILE_INDEX_ALLOC), 0);
  EXPECT_EQ(files.Install(Another(), IORING_FILE_INDEX_ALLOC), 1);
  EXPECT_EQ(files.Remove(0), 0);
  EXPECT_EQ(files.Remove(0), -EBADF);
  EXPECT_EQ(files.Remove(3), -EINVAL);
  EXPECT_EQ(files.Install(Another(), IORING_FILE_INDEX_ALLOC), 0);
  EXPECT_EQ(files.Install(Another(), IORING_FILE_INDEX_ALLOC), 2);
  EXPECT_EQ(files.Install(Another(), IORING_FILE_INDEX_ALLOC), -ENFILE);
  // A slot that is named is replaced.
  EXPECT_EQ(files.Install(Another(), 2), 0);
  EXPECT_EQ(files.Install(Another(), 4), -EINVAL);
}

TEST_F(Files, AreAllocatedInsideTheRange) {
  ASSERT_EQ(RegisterSparse(4), 0);
  io_uring_file_index_range range = {.off = 2, .len = 3, .resv = 0};
  EXPECT_EQ(files.Register(IORING_REGISTER_FILE_ALLOC_RANGE, &range, 0),
            -EINVAL);
  range.len = 1;
  EXPECT_EQ(files.Register(IORING_REGISTER_FILE_ALLOC_RANGE, &range, 0), 0);
  EXPECT_EQ(files.Install(Another(), IORING_FILE_INDEX_ALLOC), 2);
  EXPECT_EQ(files.Install(Another(), IORING_FILE_INDEX_ALLOC), -ENFILE);
  EXPECT_EQ(files.Install(Another(), 1), 0);
}

TEST_F(Files, UpdateSaysHowFarItCame) {
  ASSERT_EQ(RegisterSparse(3), 0);
  std::array<int, 3> fds = {fd, IORING_REGISTER_FILES_SKIP, 1 << 20};
  const auto update = [&](std::uint32_t offset, unsigned count) {
    io_uring_rsrc_update asked = {};
    asked.offset = offset;
    asked.data = reinterpret_cast<std::uint64_t>(fds.data());
    return files.Register(IORING_REGISTER_FILES_UPDATE, &asked, count);
  };
  EXPECT_EQ(update(0, 3), 2);
  EXPECT_NE(files.Find(0), nullptr);
  EXPECT_EQ(update(2, 2), -EINVAL);
  fds[0] = -1;
  EXPECT_EQ(update(0, 1), 1);
  EXPECT_EQ(files.Find(0), nullptr);
}

// Registered buffers.

struct Buffers : Tables {
  BufferTable& buffers = ring.buffers();
  std::array<char, 64> memory = {};

  std::shared_ptr<BufferTable::Buffer> Find(unsigned index, std::size_t offset,
                                            std::size_t size) {
    return buffers.Find(index, {{memory.data() + offset, size}});
  }
};

TEST_F(Buffers, AreFoundByWhatIsInsideThem) {
  EXPECT_EQ(buffers.Register(IORING_UNREGISTER_BUFFERS, nullptr, 0), -ENXIO);
  std::array<iovec, 2> vectors = {{{memory.data(), 32}, {nullptr, 0}}};
  EXPECT_EQ(buffers.Register(IORING_REGISTER_BUFFERS, vectors.data(), 2), 0);
  EXPECT_EQ(buffers.Register(IORING_REGISTER_BUFFERS, vectors.data(), 2),
            -EBUSY);
  EXPECT_NE(Find(0, 0, 32), nullptr);
  EXPECT_NE(Find(0, 16, 16), nullptr);
  EXPECT_EQ(Find(0, 16, 17), nullptr);
  EXPECT_EQ(Find(1, 0, 1), nullptr);
  EXPECT_EQ(Find(2, 0, 1), nullptr);
  // For a request that is on it, it stays.
  const auto kept = Find(0, 0, 32);
  EXPECT_EQ(buffers.Register(IORING_UNREGISTER_BUFFERS, nullptr, 0), 0);
  EXPECT_EQ(Find(0, 0, 32), nullptr);
  EXPECT_EQ(kept.use_count(), 1);
}

TEST_F(Buffers, MustBeMemory) {
  iovec vector = {nullptr, 1};
  EXPECT_EQ(buffers.Register(IORING_REGISTER_BUFFERS, &vector, 1), -EFAULT);
  vector = {memory.data(), 0};
  EXPECT_EQ(buffers.Register(IORING_REGISTER_BUFFERS, &vector, 1), -EFAULT);
  void* const nothing =
      ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ::munmap(nothing, 4096);
  vector = {nothing, 1};
  EXPECT_EQ(buffers.Register(IORING_REGISTER_BUFFERS, &vector, 1), -EFAULT);
}

// Groups.

struct Groups : Tables {
  static constexpr unsigned kGroup = 7;
  static constexpr unsigned kEntries = 4;

  BufferGroups& groups = ring.groups();
  alignas(4096) std::array<io_uring_buf, kEntries> entries = {};
  std::array<std::array<char, 16>, kEntries> memory = {};
  std::uint16_t tail = 0;
  Selection selection;

  int Register(unsigned flags) {
    io_uring_buf_reg asked = {};
    asked.ring_addr = reinterpret_cast<std::uint64_t>(entries.data());
    asked.ring_entries = kEntries;
    asked.bgid = kGroup;
    asked.flags = static_cast<std::uint16_t>(flags);
    return groups.Register(IORING_REGISTER_PBUF_RING, &asked, 1);
  }
  void Provide(std::uint16_t id, std::uint32_t size) {
    io_uring_buf& buffer = entries[tail & (kEntries - 1)];
    buffer.addr = reinterpret_cast<std::uint64_t>(memory[id].data());
    buffer.len = size;
    buffer.bid = id;
    entries[0].resv = ++tail;
  }
  int Select(std::size_t size, std::size_t enough) {
    return groups.Select(kGroup, size, enough, &selection);
  }
  std::vector<std::size_t> Sizes() const {
    std::vector<std::size_t> sizes;
    for (const iovec& vector : selection.vectors) {
      sizes.push_back(vector.iov_len);
    }
    return sizes;
  }
  static std::uint32_t IsBuffer(std::uint16_t id, std::uint32_t flags = 0) {
    return IORING_CQE_F_BUFFER | flags |
           std::uint32_t{id} << IORING_CQE_BUFFER_SHIFT;
  }
};

TEST_F(Groups, AreUsedInTheirOrder) {
  ASSERT_EQ(Register(0), 0);
  EXPECT_EQ(Register(0), -EEXIST);
  EXPECT_EQ(Select(0, 0), -ENOBUFS);
  Provide(2, 16);
  Provide(1, 8);
  ASSERT_EQ(Select(0, 0), 0);
  EXPECT_EQ(Sizes(), std::vector<std::size_t>{16});
  // What was not used comes again, and so does what there was an error with.
  groups.PutBack(&selection);
  ASSERT_EQ(Select(4, 0), 0);
  EXPECT_EQ(groups.Used(request, -EFAULT, &selection), 0u);
  ASSERT_EQ(Select(4, 0), 0);
  EXPECT_EQ(Sizes(), std::vector<std::size_t>{4});
  EXPECT_EQ(groups.Used(request, 3, &selection), IsBuffer(2));
  ASSERT_EQ(Select(0, 0), 0);
  EXPECT_TRUE(selection.emptied);
  EXPECT_EQ(groups.Used(request, 8, &selection), IsBuffer(1));
  EXPECT_EQ(Select(0, 0), -ENOBUFS);
}

TEST_F(Groups, AreConsumedBitByBit) {
  ASSERT_EQ(Register(IOU_PBUF_RING_INC), 0);
  Provide(0, 16);
  Provide(1, 8);
  ASSERT_EQ(Select(0, 0), 0);
  EXPECT_EQ(groups.Used(request, 10, &selection),
            IsBuffer(0, IORING_CQE_F_BUF_MORE));
  // The kernel keeps its place in the entry itself.
  EXPECT_EQ(entries[0].addr,
            reinterpret_cast<std::uint64_t>(memory[0].data() + 10));
  EXPECT_EQ(entries[0].len, 6u);
  ASSERT_EQ(Select(0, SIZE_MAX), 0);
  EXPECT_EQ(Sizes(), (std::vector<std::size_t>{6, 8}));
  EXPECT_EQ(groups.Used(request, 7, &selection),
            IsBuffer(0, IORING_CQE_F_BUF_MORE));
  ASSERT_EQ(Select(0, 0), 0);
  EXPECT_EQ(selection.vectors[0].iov_base, memory[1].data() + 1);
  EXPECT_EQ(groups.Used(request, 7, &selection), IsBuffer(1));
  EXPECT_EQ(Select(0, 0), -ENOBUFS);
}

TEST_F(Groups, AreBundled) {
  ASSERT_EQ(Register(0), 0);
  for (const std::uint16_t id : {0, 1, 2}) Provide(id, 8);
  ASSERT_EQ(Select(0, 9), 0);
  EXPECT_EQ(Sizes(), (std::vector<std::size_t>{8, 8}));
  EXPECT_FALSE(selection.emptied);
  // Only what the result reaches into is used.
  EXPECT_EQ(groups.Used(request, 8, &selection), IsBuffer(0));
  ASSERT_EQ(Select(12, SIZE_MAX), 0);
  EXPECT_EQ(Sizes(), std::vector<std::size_t>{8});
  groups.PutBack(&selection);
  ASSERT_EQ(Select(0, SIZE_MAX), 0);
  EXPECT_TRUE(selection.emptied);
  EXPECT_EQ(groups.Used(request, 9, &selection), IsBuffer(1));
  EXPECT_EQ(Select(0, 0), -ENOBUFS);
}

TEST_F(Groups, CommittedBuffersAreTheRequests) {
  ASSERT_EQ(Register(0), 0);
  Provide(3, 16);
  ASSERT_EQ(Select(0, 0), 0);
  groups.Commit(request, Use::kWrite, 16, &selection);
  Selection other;
  EXPECT_EQ(groups.Select(kGroup, 0, 0, &other), -ENOBUFS);
  EXPECT_TRUE(Uses(request.owner));
  EXPECT_EQ(groups.Used(request, -ECANCELED, &selection), IsBuffer(3));
  EXPECT_FALSE(Uses(request.owner));
}

TEST_F(Groups, OlderOnesAreLists) {
  const auto address = reinterpret_cast<std::uint64_t>(memory.data());
  EXPECT_EQ(groups.Remove(kGroup, 1), -ENOENT);
  EXPECT_EQ(groups.Provide(kGroup, address, 16, 3, 5), 0);
  EXPECT_EQ(Register(0), -EEXIST);
  ASSERT_EQ(Select(4, 0), 0);
  groups.PutBack(&selection);
  ASSERT_EQ(Select(0, SIZE_MAX), 0);
  EXPECT_EQ(Sizes(), std::vector<std::size_t>{16});
  // An error uses them up.
  EXPECT_EQ(groups.Used(request, -EFAULT, &selection), IsBuffer(5));
  EXPECT_EQ(groups.Remove(kGroup, 5), 2);
  EXPECT_EQ(Select(0, 0), -ENOBUFS);
  ASSERT_EQ(Register(0), 0);
  EXPECT_EQ(groups.Provide(kGroup, address, 16, 1, 0), -EINVAL);
}

TEST_F(Groups, TellWhereTheyAre) {
  io_uring_buf_status status = {};
  status.buf_group = kGroup;
  EXPECT_EQ(groups.Register(IORING_REGISTER_PBUF_STATUS, &status, 1), -ENOENT);
  ASSERT_EQ(Register(0), 0);
  Provide(0, 16);
  ASSERT_EQ(Select(0, 0), 0);
  groups.Used(request, 1, &selection);
  EXPECT_EQ(groups.Register(IORING_REGISTER_PBUF_STATUS, &status, 1), 0);
  EXPECT_EQ(status.head, 1u);
  io_uring_buf_reg asked = {};
  asked.bgid = kGroup;
  EXPECT_EQ(groups.Register(IORING_UNREGISTER_PBUF_RING, &asked, 1), 0);
  EXPECT_EQ(groups.Register(IORING_UNREGISTER_PBUF_RING, &asked, 1), -ENOENT);
}

using GroupsDeathTest = Groups;

TEST_F(GroupsDeathTest, ABufferIsProvidedTwice) {
  ASSERT_EQ(Register(0), 0);
  Provide(0, 16);
  groups.TakeIn();
  Provide(0, 16);
  EXPECT_DEATH(groups.TakeIn(), "io-uring-buffer-provided-twice");
}

TEST_F(GroupsDeathTest, MoreIsProvidedThanThereAreEntries) {
  ASSERT_EQ(Register(0), 0);
  entries[0].resv = kEntries + 1;
  EXPECT_DEATH(groups.TakeIn(), "io-uring-buffer-ring-overrun");
}

}  // namespace
}  // namespace escrow::sim
