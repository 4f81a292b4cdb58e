#include "escrow/sim/buffer_table.h"

#include <liburing/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "escrow/sim/kernel_state.h"
#include "escrow/sim/ledger.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op_support.h"
#include "escrow/sim/registration.h"
#include "escrow/sim/report.h"
#include "escrow/sim/ring.h"

namespace escrow::sim {
namespace {

constexpr std::uint32_t kMostBuffers = 1 << 14;
constexpr std::size_t kMostBytes = std::size_t{1} << 30;
constexpr std::uintptr_t kPage = 4096;

// Memory that is pinned: the table's, and that of all its clones.
struct Pinned {
  explicit Pinned(const iovec& its_memory) : memory(its_memory) {
    owner.submitted = Stack::Here();
    Hold(owner, Use::kRegistered, memory.iov_base, memory.iov_len,
         "registered buffer");
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned() { ReleaseAll(owner); }

  Owner owner = {.name = "registered buffer"};
  const iovec memory;
};

// Whether all of it can be written to, as it has to be to be pinned.
bool IsMapped(const iovec& memory) noexcept {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.iov_base);
  const std::uintptr_t page = begin / kPage * kPage;
#ifndef MADV_POPULATE_WRITE
  constexpr int MADV_POPULATE_WRITE = 23;
#endif
  const int result = Call(SYS_madvise, page, begin + memory.iov_len - page,
                          MADV_POPULATE_WRITE);
  return result == 0 || result == -EINVAL;  // before Linux 5.14
}

}  // namespace

struct BufferTable::Buffer {
  Buffer(Ring& its_ring, std::shared_ptr<const Pinned> its_memory,
         std::uint64_t its_tag)
      : ring(its_ring), pinned(std::move(its_memory)), tag(its_tag) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  // Not in use any more, by nobody: the memory is the program's by the time at
  // which it can read so.
  ~Buffer() {
    pinned.reset();
    if (tag != 0) ring.PostForeign(tag, 0, 0);
  }

  Ring& ring;
  std::shared_ptr<const Pinned> pinned;  // null: nothing, with a tag
  const std::uint64_t tag;
};

BufferTable::BufferTable(Ring& ring) noexcept : ring_(ring) {}
BufferTable::~BufferTable() = default;

int BufferTable::Open(const iovec& memory, std::uint64_t tag,
                      Slot* slot) const {
  slot->reset();
  if (memory.iov_base == nullptr) {
    if (memory.iov_len != 0) return -EFAULT;
    return tag != 0 ? -EINVAL : 0;
  }
  if (memory.iov_len == 0 || memory.iov_len > kMostBytes) return -EFAULT;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.iov_base);
  if (begin > UINTPTR_MAX - memory.iov_len - kPage) return -EOVERFLOW;
  if (!IsMapped(memory)) return -EFAULT;
  *slot = std::make_shared<Buffer>(ring_,
                                   std::make_shared<const Pinned>(memory), tag);
  return 0;
}

int BufferTable::RegisterAll(std::uint64_t vectors, std::uint64_t tags,
                             std::uint32_t count) {
  if (!buffers_.empty()) return -EBUSY;
  if (count == 0 || count > kMostBuffers) return -EINVAL;
  std::vector<Slot> buffers(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    iovec memory = {};
    std::uint64_t tag = 0;
    if (vectors != 0 &&
        !Load(&memory, PointerTo<const iovec>(vectors) + i, sizeof(memory))) {
      return -EFAULT;
    }
    if (tags != 0 &&
        !Load(&tag, PointerTo<const std::uint64_t>(tags) + i, sizeof(tag))) {
      return -EFAULT;
    }
    if (const int error = Open(memory, tag, &buffers[i])) return error;
  }
  buffers_ = std::move(buffers);
  return 0;
}

int BufferTable::Update(std::uint32_t offset, std::uint64_t vectors,
                        std::uint64_t tags, std::uint32_t count) {
  if (buffers_.empty()) return -ENXIO;
  if (offset > UINT32_MAX - count) return -EOVERFLOW;
  if (offset + count > buffers_.size()) return -EINVAL;
  for (std::uint32_t i = 0; i < count; ++i) {
    iovec memory = {};
    std::uint64_t tag = 0;
    int error = 0;
    Slot slot;
    if (!Load(&memory, PointerTo<const iovec>(vectors) + i, sizeof(memory)) ||
        (tags != 0 &&
         !Load(&tag, PointerTo<const std::uint64_t>(tags) + i, sizeof(tag)))) {
      error = -EFAULT;
    } else {
      error = Open(memory, tag, &slot);
    }
    if (error != 0) return i > 0 ? static_cast<int>(i) : error;
    buffers_[offset + i] = std::move(slot);
  }
  return static_cast<int>(count);
}

int BufferTable::Clone(const void* argument, unsigned count) {
  io_uring_clone_buffers asked;
  constexpr std::uint32_t kKnown =
      IORING_REGISTER_SRC_REGISTERED | IORING_REGISTER_DST_REPLACE;
  if (count != 1) return -EINVAL;
  if (!Load(&asked, argument, sizeof(asked))) return -EFAULT;
  const bool replace = (asked.flags & IORING_REGISTER_DST_REPLACE) != 0;
  if ((asked.flags & ~kKnown) != 0) return -EINVAL;
  if (!replace && !buffers_.empty()) return -EBUSY;
  for (const std::uint32_t reserved : asked.pad) {
    if (reserved != 0) return -EINVAL;
  }
  const bool registered = (asked.flags & IORING_REGISTER_SRC_REGISTERED) != 0;
  const auto source = registered
                          ? ring_.kernel().FindRegistered(asked.src_fd)
                          : ring_.kernel().Find(static_cast<int>(asked.src_fd));
  if (source == nullptr) {
    if (registered) return -EINVAL;
    return File::Borrow(static_cast<int>(asked.src_fd)).IsOpen() ? -EOPNOTSUPP
                                                                 : -EBADF;
  }
  const std::vector<Slot> from = source->buffers().buffers_;
  if (asked.nr == 0 && (asked.dst_off != 0 || asked.src_off != 0)) {
    return -EINVAL;
  }
  if (from.empty()) return -ENXIO;
  if (asked.nr == 0) asked.nr = static_cast<std::uint32_t>(from.size());
  if (asked.nr > from.size() || asked.nr > kMostBuffers) return -EINVAL;
  if (asked.src_off > from.size() - asked.nr) return -EOVERFLOW;
  if (asked.dst_off > UINT32_MAX - asked.nr) return -EOVERFLOW;
  if (asked.dst_off + asked.nr > kMostBuffers) return -EINVAL;
  if (buffers_.size() < asked.dst_off + asked.nr) {
    buffers_.resize(asked.dst_off + asked.nr);
  }
  for (std::uint32_t i = 0; i < asked.nr; ++i) {
    const Slot& cloned = from[asked.src_off + i];
    buffers_[asked.dst_off + i] =
        cloned == nullptr ? nullptr
                          : std::make_shared<Buffer>(ring_, cloned->pinned, 0);
  }
  return 0;
}

int BufferTable::Register(unsigned opcode, void* argument, unsigned count) {
  switch (opcode) {
    case IORING_REGISTER_BUFFERS:
      if (argument == nullptr) return -EFAULT;
      return RegisterAll(reinterpret_cast<std::uint64_t>(argument), 0, count);
    case IORING_REGISTER_BUFFERS2: {
      io_uring_rsrc_register asked;
      if (const int error = LoadRegistration(argument, count, &asked)) {
        return error;
      }
      return RegisterAll(asked.data, asked.tags, asked.nr);
    }
    case IORING_UNREGISTER_BUFFERS: {
      if (argument != nullptr || count != 0) return -EINVAL;
      if (buffers_.empty()) return -ENXIO;
      const std::vector<Slot> gone = std::exchange(buffers_, {});
      return 0;
    }
    case IORING_REGISTER_BUFFERS_UPDATE: {
      io_uring_rsrc_update2 asked;
      if (const int error = LoadUpdate(argument, count, &asked)) return error;
      return Update(asked.offset, asked.data, asked.tags, asked.nr);
    }
    case IORING_REGISTER_CLONE_BUFFERS:
      return Clone(argument, count);
    default:
      return -ENOSYS;
  }
}

std::shared_ptr<BufferTable::Buffer> BufferTable::Find(
    unsigned index, const std::vector<iovec>& vectors) const {
  if (index >= buffers_.size()) return nullptr;
  const Slot& buffer = buffers_[index];
  if (buffer == nullptr || buffer->pinned == nullptr) return nullptr;
  const iovec& memory = buffer->pinned->memory;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.iov_base);
  for (const iovec& vector : vectors) {
    const auto at = reinterpret_cast<std::uintptr_t>(vector.iov_base);
    if (at < begin || at - begin > memory.iov_len ||
        vector.iov_len > memory.iov_len - (at - begin)) {
      return nullptr;
    }
  }
  return buffer;
}

}  // namespace escrow::sim
