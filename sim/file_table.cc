#include "escrow/sim/file_table.h"

#include <liburing/io_uring.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "escrow/sim/kernel_state.h"
#include "escrow/sim/memory.h"
#include "escrow/sim/registration.h"
#include "escrow/sim/ring.h"

namespace escrow::sim {
namespace {

constexpr std::uint32_t kMostFiles = 1 << 20;
constexpr std::int32_t kNoFile = -1;

template <typename T>
const T* At(std::uint64_t address, std::uint32_t index) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): it is a pointer.
  return reinterpret_cast<const T*>(address) + index;
}

}  // namespace

struct FileTable::Registered {
  Registered(Ring& its_ring, File its_file, std::uint64_t its_tag)
      : ring(its_ring), file(std::move(its_file)), tag(its_tag) {}
  Registered(const Registered&) = delete;
  Registered& operator=(const Registered&) = delete;
  // Not in use any more, by nobody.
  ~Registered() {
    if (tag != 0) ring.PostForeign(tag, 0, 0);
  }

  Ring& ring;
  File file;
  const std::uint64_t tag;
};

FileTable::FileTable(Ring& ring) noexcept : ring_(ring) {}
FileTable::~FileTable() = default;

int FileTable::Open(std::int32_t fd, std::uint64_t tag, Slot* slot) const {
  slot->reset();
  if (fd == kNoFile) return tag != 0 ? -EINVAL : 0;
  File file = File::Duplicate(fd);
  // Rings cannot be registered with rings.
  if (!file.valid() || ring_.kernel().Find(fd) != nullptr) return -EBADF;
  *slot = std::make_shared<Registered>(ring_, std::move(file), tag);
  return 0;
}

int FileTable::RegisterAll(std::uint64_t fds, std::uint64_t tags,
                           std::uint32_t count) {
  if (registered_) return -EBUSY;
  rlimit limit = {};
  (void)::getrlimit(RLIMIT_NOFILE, &limit);
  if (count == 0) return -EINVAL;
  if (count > kMostFiles || count > limit.rlim_cur) return -EMFILE;
  std::vector<Slot> slots(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    std::int32_t fd = kNoFile;
    std::uint64_t tag = 0;
    int error = 0;
    if ((fds != 0 && !Load(&fd, At<std::int32_t>(fds, i), sizeof(fd))) ||
        (tags != 0 && !Load(&tag, At<std::uint64_t>(tags, i), sizeof(tag)))) {
      error = -EFAULT;
    } else {
      error = Open(fd, tag, &slots[i]);
    }
    if (error != 0) return error;
  }
  slots_ = std::move(slots);
  registered_ = true;
  allocate_from_ = allocate_next_ = 0;
  allocate_to_ = count;
  return 0;
}

int FileTable::Update(std::uint32_t offset, std::uint64_t fds,
                      std::uint64_t tags, std::uint32_t count) {
  if (!registered_) return -ENXIO;
  if (offset > UINT32_MAX - count) return -EOVERFLOW;
  if (offset + count > slots_.size()) return -EINVAL;
  int done = 0;
  for (std::uint32_t i = 0; i < count; ++i, ++done) {
    std::int32_t fd = kNoFile;
    std::uint64_t tag = 0;
    int error = 0;
    if (!Load(&fd, At<std::int32_t>(fds, i), sizeof(fd)) ||
        (tags != 0 && !Load(&tag, At<std::uint64_t>(tags, i), sizeof(tag)))) {
      error = -EFAULT;
    } else if (fd == IORING_REGISTER_FILES_SKIP) {
      if (tag == 0) continue;
      error = -EINVAL;
    } else {
      Slot slot;
      error = Open(fd, tag, &slot);
      // What was there goes in any case.
      const bool had = slots_[offset + i] != nullptr;
      slots_[offset + i] = error == 0 ? std::move(slot) : nullptr;
      if (slots_[offset + i] != nullptr) {
        allocate_next_ = offset + i + 1;
      } else if (had) {
        allocate_next_ = offset + i;
      }
    }
    if (error != 0) return done > 0 ? done : error;
  }
  return done;
}

int FileTable::SetRange(const void* argument, unsigned count) {
  io_uring_file_index_range range;
  if (argument == nullptr || count != 0) return -EINVAL;
  if (!Load(&range, argument, sizeof(range))) return -EFAULT;
  if (range.off > UINT32_MAX - range.len) return -EOVERFLOW;
  if (range.resv != 0 || range.off + range.len > slots_.size()) return -EINVAL;
  allocate_from_ = allocate_next_ = range.off;
  allocate_to_ = range.off + range.len;
  return 0;
}

int FileTable::Register(unsigned opcode, void* argument, unsigned count) {
  switch (opcode) {
    case IORING_REGISTER_FILES:
      if (argument == nullptr) return -EFAULT;
      return RegisterAll(reinterpret_cast<std::uint64_t>(argument), 0, count);
    case IORING_REGISTER_FILES2: {
      io_uring_rsrc_register asked;
      if (const int error = LoadRegistration(argument, count, &asked)) {
        return error;
      }
      return RegisterAll(asked.data, asked.tags, asked.nr);
    }
    case IORING_UNREGISTER_FILES: {
      if (argument != nullptr || count != 0) return -EINVAL;
      if (!registered_) return -ENXIO;
      registered_ = false;
      allocate_from_ = allocate_to_ = allocate_next_ = 0;
      const std::vector<Slot> gone = std::exchange(slots_, {});
      return 0;
    }
    case IORING_REGISTER_FILES_UPDATE: {
      io_uring_rsrc_update asked;
      if (count == 0) return -EINVAL;
      if (!Load(&asked, argument, sizeof(asked))) return -EFAULT;
      if (asked.resv != 0) return -EINVAL;
      return Update(asked.offset, asked.data, 0, count);
    }
    case IORING_REGISTER_FILES_UPDATE2: {
      io_uring_rsrc_update2 asked;
      if (const int error = LoadUpdate(argument, count, &asked)) return error;
      return Update(asked.offset, asked.data, asked.tags, asked.nr);
    }
    case IORING_REGISTER_FILE_ALLOC_RANGE:
      return SetRange(argument, count);
    default:
      return -ENOSYS;
  }
}

const File* FileTable::Find(std::uint32_t slot) const noexcept {
  if (slot >= slots_.size() || slots_[slot] == nullptr) return nullptr;
  return &slots_[slot]->file;
}

std::shared_ptr<const void> FileTable::Share(
    std::uint32_t slot) const noexcept {
  return slot < slots_.size() ? slots_[slot] : nullptr;
}

int FileTable::FindFree() const noexcept {
  // On from where the last one was found, and then from the beginning.
  const std::uint32_t size = allocate_to_;
  for (const auto& [from, to] :
       {std::pair{allocate_next_, size},
        std::pair{allocate_from_, std::min(allocate_next_, size)}}) {
    for (std::uint32_t slot = from; slot < to; ++slot) {
      if (slots_[slot] == nullptr) return static_cast<int>(slot);
    }
  }
  return -ENFILE;
}

int FileTable::Install(File file, std::uint32_t file_index) {
  const bool allocated = file_index == IORING_FILE_INDEX_ALLOC;
  if (!file.valid()) return -EBADF;
  int slot = static_cast<int>(file_index) - 1;
  if (allocated) {
    slot = FindFree();
    if (slot < 0) return slot;
  }
  if (ring_.kernel().Find(file.fd()) != nullptr) return -EBADF;
  if (!registered_) return -ENXIO;
  if (slot < 0 || static_cast<std::size_t>(slot) >= slots_.size()) {
    return -EINVAL;
  }
  slots_[static_cast<std::size_t>(slot)] =
      std::make_shared<Registered>(ring_, std::move(file), 0);
  allocate_next_ = static_cast<std::uint32_t>(slot) + 1;
  return allocated ? slot : 0;
}

int FileTable::Remove(std::uint32_t slot) {
  if (!registered_) return -ENXIO;
  if (slot >= slots_.size()) return -EINVAL;
  if (slots_[slot] == nullptr) return -EBADF;
  const Slot gone = std::exchange(slots_[slot], nullptr);
  allocate_next_ = slot;
  return 0;
}

}  // namespace escrow::sim
