#include "escrow/sim/buffer_groups.h"

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

#include "escrow/sim/file.h"
#include "escrow/sim/ledger.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/op_support.h"
#include "escrow/sim/report.h"
#include "escrow/sim/request.h"
#include "escrow/sim/ring.h"

namespace escrow::sim {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kMostOfBundle = 256;
constexpr std::size_t kMostVectors = 1024;
constexpr std::size_t kLongest = 0x7fff'ffff;

constexpr Mistake kTwice = {"io-uring-buffer-provided-twice",
                            "a buffer is provided that is provided already"};
constexpr Mistake kTooMany = {
    "io-uring-buffer-ring-overrun",
    "more buffers are provided than the ring has entries"};

// Where a ring that the kernel allocates is mapped.
::off_t OffsetOf(unsigned group) noexcept {
  return static_cast<::off_t>(IORING_OFF_PBUF_RING |
                              std::uint64_t{group} << IORING_OFF_PBUF_SHIFT);
}

}  // namespace

struct BufferGroups::Buffer {
  std::uint64_t address;
  std::uint32_t size;
  std::uint16_t id;

  void* data() const noexcept { return PointerTo(address); }
};

struct BufferGroups::Group {
  explicit Group(unsigned its_id) : id(its_id) {
    owner.submitted = Stack::Here();
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  ~Group() {
    ReleaseAll(owner);
    if (own != nullptr) Call(SYS_munmap, own, bytes());
  }

  std::size_t bytes() const noexcept {
    return std::size_t{size} * sizeof(io_uring_buf);
  }
  // The ring, where the program sees it if it does.
  io_uring_buf* entries() const noexcept {
    if (own == nullptr) return PointerTo<io_uring_buf>(address);
    return static_cast<io_uring_buf*>(mapped != nullptr ? mapped : own);
  }
  io_uring_buf* entry(std::uint16_t position) const noexcept {
    return entries() + (position & (size - 1));
  }

  const unsigned id;
  Owner owner = {.name = "buffer group"};
  bool is_ring = false;
  bool incremental = false;
  std::uint32_t size = 0;     // of a ring, in entries
  std::uint64_t address = 0;  // of one that the program has brought
  File file;                  // of one that it has not
  void* own = nullptr;        // and a mapping of that,
  void* mapped = nullptr;     // and one of the program's
  std::uint16_t head = 0;
  // What is owned: of a ring, from the head on.
  std::vector<Buffer> buffers;
};

BufferGroups::BufferGroups() noexcept = default;
BufferGroups::~BufferGroups() = default;

BufferGroups::Group* BufferGroups::Find(unsigned group) noexcept {
  for (const auto& candidate : groups_) {
    if (candidate->id == group) return candidate.get();
  }
  return nullptr;
}

BufferGroups::Group& BufferGroups::Add(unsigned group) {
  groups_.push_back(std::make_unique<Group>(group));
  return *groups_.back();
}

int BufferGroups::FileAt(::off_t offset) const noexcept {
  for (const auto& group : groups_) {
    if (group->file.valid() && OffsetOf(group->id) == offset) {
      return group->file.fd();
    }
  }
  return -1;
}

void BufferGroups::Mapped(::off_t offset, void* address) noexcept {
  for (const auto& group : groups_) {
    if (group->file.valid() && OffsetOf(group->id) == offset &&
        group->mapped == nullptr) {
      group->mapped = address;
    }
  }
}

void BufferGroups::Unmapped(const void* address) noexcept {
  for (const auto& group : groups_) {
    if (group->mapped == address) group->mapped = nullptr;
  }
}

void BufferGroups::Own(Group& group, const Buffer& buffer) {
  group.buffers.push_back(buffer);
  if (buffer.address == 0 || buffer.size == 0) return;
  for (const auto& other : groups_) {
    for (const Buffer& provided : other->buffers) {
      if (&provided == &group.buffers.back()) continue;
      if (provided.address < buffer.address + buffer.size &&
          buffer.address < provided.address + provided.size) {
        Report(kTwice, buffer.data(), buffer.size, &other->owner);
      }
    }
  }
  Hold(group.owner, Use::kProvided, buffer.data(), buffer.size,
       "provided buffer");
}

void BufferGroups::TakeIn(Group& group) {
  if (!group.is_ring) return;
  const auto* const ring =
      reinterpret_cast<const io_uring_buf_ring*>(group.entries());
  const std::uint16_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
  const auto provided = static_cast<std::uint16_t>(tail - group.head);
  if (provided > group.size) {
    Report(kTooMany, ring, group.bytes(), &group.owner);
  }
  for (std::size_t i = group.buffers.size(); i < provided; ++i) {
    io_uring_buf entry = {};
    if (!Load(&entry, group.entry(static_cast<std::uint16_t>(group.head + i)),
              offsetof(io_uring_buf, resv))) {
      return;
    }
    Own(group, {entry.addr, entry.len, entry.bid});
  }
}

void BufferGroups::TakeIn() {
  for (const auto& group : groups_) TakeIn(*group);
}

int BufferGroups::Select(unsigned group_id, std::size_t size,
                         std::size_t enough, Selection* selection) {
  *selection = {};
  Group* const group = Find(group_id);
  if (group == nullptr) return -ENOBUFS;
  TakeIn(*group);
  if (group->buffers.empty()) return -ENOBUFS;
  selection->group = group_id;
  selection->id = group->buffers.front().id;
  selection->size = group->buffers.front().size;
  selection->from_ring = group->is_ring;
  std::size_t most = 1;
  if (group->is_ring && enough > 0) {
    most = kMostVectors;
    const std::size_t first = group->buffers.front().size;
    if (size != 0 && first != 0) {
      most = std::min((size - 1) / first + 1, kMostOfBundle);
    }
  }
  std::size_t room = size == 0 ? kLongest : size;
  std::size_t has = 0;
  std::size_t taken = 0;
  for (const Buffer& buffer : group->buffers) {
    if (taken == most || room == 0 || (taken > 0 && has >= enough)) break;
    // What does not fit whole is left for the next one, for the program would
    // not know where it goes on.
    const bool whole = buffer.size <= room;
    if (!whole && taken > 0 && !group->incremental) break;
    const std::size_t length = std::min<std::size_t>(buffer.size, room);
    selection->vectors.push_back({buffer.data(), length});
    room -= length;
    has += length;
    ++taken;
  }
  selection->emptied = taken == group->buffers.size();
  if (!group->is_ring) group->buffers.erase(group->buffers.begin());
  return 0;
}

bool BufferGroups::Consume(Group& group, std::size_t count, std::size_t size) {
  for (std::size_t i = 0; i < count; ++i) {
    if (group.buffers.empty()) return true;
    Buffer& buffer = group.buffers.front();
    if (buffer.address != 0) Release(group.owner, buffer.data());
    if (group.incremental && (buffer.size > size || size == 0)) {
      buffer.address += size;
      buffer.size -= static_cast<std::uint32_t>(size);
      io_uring_buf* const entry = group.entry(group.head);
      Store(&entry->addr, &buffer.address, sizeof(entry->addr));
      Store(&entry->len, &buffer.size, sizeof(entry->len));
      if (buffer.address != 0 && buffer.size > 0) {
        Hold(group.owner, Use::kProvided, buffer.data(), buffer.size,
             "provided buffer");
      }
      return false;
    }
    if (group.incremental) {
      size -= buffer.size;
      const std::uint32_t none = 0;
      Store(&group.entry(group.head)->len, &none, sizeof(none));
    }
    ++group.head;
    group.buffers.erase(group.buffers.begin());
    if (group.incremental && size == 0) return true;
  }
  return true;
}

void BufferGroups::Commit(Request& request, Use use, std::size_t size,
                          Selection* selection) {
  if (selection->committed) return;
  selection->committed = true;
  Group* const group = Find(selection->group);
  if (group != nullptr && selection->from_ring) {
    selection->partly = !Consume(*group, selection->vectors.size(), size);
  } else if (group != nullptr) {
    Release(group->owner, selection->vectors.front().iov_base);
  }
  HoldEach(request, use, selection->vectors, "selected buffer");
}

std::uint32_t BufferGroups::Used(Request& request, std::int32_t result,
                                 Selection* selection) {
  const Selection used = std::exchange(*selection, {});
  if (used.empty()) return 0;
  std::uint32_t flags = IORING_CQE_F_BUFFER | std::uint32_t{used.id}
                                                  << IORING_CQE_BUFFER_SHIFT;
  Group* const group = Find(used.group);
  if (used.committed) {
    for (const iovec& vector : used.vectors) {
      if (vector.iov_base != nullptr) Release(request.owner, vector.iov_base);
    }
    return used.partly ? flags | IORING_CQE_F_BUF_MORE : flags;
  }
  if (!used.from_ring) {
    if (group != nullptr) {
      Release(group->owner, used.vectors.front().iov_base);
    }
    return flags;
  }
  // An error leaves it where it is.
  if (result < 0) return 0;
  if (group == nullptr) return flags;
  std::size_t left = static_cast<std::size_t>(result);
  std::size_t buffers = 0;
  for (const iovec& vector : used.vectors) {
    ++buffers;
    if (left <= vector.iov_len) break;
    left -= vector.iov_len;
  }
  if (!Consume(*group, buffers, static_cast<std::size_t>(result))) {
    flags |= IORING_CQE_F_BUF_MORE;
  }
  return flags;
}

void BufferGroups::PutBack(Selection* selection) {
  const Selection unused = std::exchange(*selection, {});
  if (unused.empty() || unused.committed || unused.from_ring) return;
  Group* const group = Find(unused.group);
  if (group == nullptr) return;
  void* const data = unused.vectors.front().iov_base;
  group->buffers.insert(
      group->buffers.begin(),
      {reinterpret_cast<std::uint64_t>(data), unused.size, unused.id});
}

int BufferGroups::Provide(unsigned group_id, std::uint64_t address,
                          std::uint32_t size, unsigned count, unsigned first) {
  Group* group = Find(group_id);
  if (group != nullptr && group->is_ring) return -EINVAL;
  if (group == nullptr) group = &Add(group_id);
  group->owner.submitted = Stack::Here();
  for (unsigned i = 0; i < count; ++i) {
    Own(*group, {address + std::uint64_t{i} * size, size,
                 static_cast<std::uint16_t>(first + i)});
  }
  return 0;
}

int BufferGroups::Remove(unsigned group_id, unsigned count) {
  Group* const group = Find(group_id);
  if (group == nullptr) return -ENOENT;
  if (group->is_ring) return -EINVAL;
  const std::size_t removed =
      std::min<std::size_t>(count, group->buffers.size());
  for (std::size_t i = 0; i < removed; ++i) {
    Release(group->owner, group->buffers[i].data());
  }
  group->buffers.erase(
      group->buffers.begin(),
      group->buffers.begin() + static_cast<std::ptrdiff_t>(removed));
  return static_cast<int>(removed);
}

int BufferGroups::RegisterRing(const void* argument, unsigned count) {
  io_uring_buf_reg asked;
  if (count != 1) return -EINVAL;
  if (!Load(&asked, argument, sizeof(asked))) return -EFAULT;
  bool reserved = asked.min_left != 0;
  for (const std::uint32_t each : asked.resv) reserved |= each != 0;
  constexpr unsigned kKnown = IOU_PBUF_RING_MMAP | IOU_PBUF_RING_INC;
  constexpr std::uint32_t kMostEntries = 65536;
  const std::uint32_t entries = asked.ring_entries;
  if (reserved || (asked.flags & ~kKnown) != 0) return -EINVAL;
  if (entries == 0 || (entries & (entries - 1)) != 0 ||
      entries >= kMostEntries) {
    return -EINVAL;
  }
  Group* const existing = Find(asked.bgid);
  if (existing != nullptr &&
      (existing->is_ring || !existing->buffers.empty())) {
    return -EEXIST;
  }
  auto group = std::make_unique<Group>(asked.bgid);
  group->is_ring = true;
  group->incremental = (asked.flags & IOU_PBUF_RING_INC) != 0;
  group->size = entries;
  if ((asked.flags & IOU_PBUF_RING_MMAP) != 0) {
    if (asked.ring_addr != 0) return -EINVAL;
    group->file = File::Adopt(
        static_cast<int>(::memfd_create("[io_uring]", MFD_CLOEXEC)));
    if (!group->file.valid() ||
        Call(SYS_ftruncate, group->file.fd(), group->bytes()) != 0) {
      return -ENOMEM;
    }
    const long own =
        RealCall(SYS_mmap, 0, static_cast<long>(group->bytes()),
                 PROT_READ | PROT_WRITE, MAP_SHARED, group->file.fd(), 0);
    if (own < 0 && own > -static_cast<long>(kPage)) return -ENOMEM;
    group->own = PointerTo(static_cast<std::uint64_t>(own));
  } else {
    if (asked.ring_addr == 0) return -EFAULT;
    if (asked.ring_addr % kPage != 0) return -EINVAL;
    io_uring_buf entry;
    if (!Load(&entry, PointerTo<const io_uring_buf>(asked.ring_addr),
              sizeof(entry)) ||
        !Load(&entry,
              PointerTo<const io_uring_buf>(asked.ring_addr) + entries - 1,
              sizeof(entry))) {
      return -EFAULT;
    }
    group->address = asked.ring_addr;
    Hold(group->owner, Use::kRegistered, PointerTo(asked.ring_addr),
         group->bytes(), "buffer ring");
  }
  std::erase_if(
      groups_, [existing](const auto& each) { return each.get() == existing; });
  groups_.push_back(std::move(group));
  return 0;
}

int BufferGroups::UnregisterRing(const void* argument, unsigned count) {
  io_uring_buf_reg asked;
  if (count != 1) return -EINVAL;
  if (!Load(&asked, argument, sizeof(asked))) return -EFAULT;
  bool reserved = asked.flags != 0 || asked.min_left != 0;
  for (const std::uint32_t each : asked.resv) reserved |= each != 0;
  if (reserved) return -EINVAL;
  Group* const group = Find(asked.bgid);
  if (group == nullptr) return -ENOENT;
  if (!group->is_ring) return -EINVAL;
  std::erase_if(groups_,
                [group](const auto& each) { return each.get() == group; });
  return 0;
}

int BufferGroups::Status(void* argument, unsigned count) {
  io_uring_buf_status status;
  if (count != 1) return -EINVAL;
  if (!Load(&status, argument, sizeof(status))) return -EFAULT;
  for (const std::uint32_t each : status.resv) {
    if (each != 0) return -EINVAL;
  }
  const Group* const group = Find(status.buf_group);
  if (group == nullptr) return -ENOENT;
  if (!group->is_ring) return -EINVAL;
  status.head = group->head;
  return Store(argument, &status, sizeof(status)) ? 0 : -EFAULT;
}

int BufferGroups::Register(unsigned opcode, void* argument, unsigned count) {
  switch (opcode) {
    case IORING_REGISTER_PBUF_RING:
      return argument == nullptr ? -EINVAL : RegisterRing(argument, count);
    case IORING_UNREGISTER_PBUF_RING:
      return argument == nullptr ? -EINVAL : UnregisterRing(argument, count);
    case IORING_REGISTER_PBUF_STATUS:
      return argument == nullptr ? -EINVAL : Status(argument, count);
    default:
      return -ENOSYS;
  }
}

}  // namespace escrow::sim
