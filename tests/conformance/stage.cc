#include "tests/conformance/stage.h"

#include <dirent.h>
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"

namespace escrow::testing {
namespace {

// Of requests, in user_data. The lower byte is left to the requests themselves.
constexpr std::uint64_t kGate = 1;
constexpr std::uint64_t kBefore = 2;
constexpr std::uint64_t kRequest = 3;
constexpr std::uint64_t kThen = 4;
constexpr std::uint64_t kCancel = 5;

constexpr unsigned kFileTableSize = 8;
constexpr unsigned kGroupEntries = 8;
constexpr std::uint32_t kEmptySlot = 0;  // and the next one, for pipes
constexpr unsigned kBufferTableSize = 4;
constexpr int kPoison = 0xee;

// A request that takes longer has hung.
constexpr std::chrono::seconds kLong(20);

std::size_t WholePages(std::size_t size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page;
}

std::uint64_t NextGeneration() {
  static std::uint64_t generation = 0;
  return ++generation << 16;
}

}  // namespace

void Must(bool condition, const char* what) {
  if (condition) return;
  std::perror(what);
  std::abort();
}

Stage::Stage(raw::Ring& ring, const Target& target)
    : ring_(ring), target_(target), generation_(NextGeneration()) {
  Must(pipe2(gate_, O_CLOEXEC) == 0, "pipe2");
  unusable_ = open("/proc/self/exe", O_PATH | O_CLOEXEC);
  Must(unusable_ >= 0, "open");
}

Stage::~Stage() {
  until_complete_ = nullptr;
  if (!in_flight_.empty()) {
    Push(
        [](io_uring_sqe* sqe) {
          raw::Cancel{.flags =
                          IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL}
              .Prepare(sqe);
        },
        kCancel, 0);
    Submit();
  }
  for (const auto& call : at_end_) call();
  // Closing the other ends lets go of zero-copy data that was never received.
  for (const int descriptor : descriptors_) close(descriptor);
  while (!in_flight_.empty()) {
    // Going on would let the kernel write into what is unmapped below.
    Must(Reap(), "a request that cannot be cancelled");
  }
  close(gate_[0]);
  close(gate_[1]);
  close(unusable_);
  if (file_table_) io_uring_unregister_files(ring_.get());
  if (buffer_table_) io_uring_unregister_buffers(ring_.get());
  if (group_.ring != nullptr) {
    io_uring_free_buf_ring(ring_.get(), group_.ring, kGroupEntries, kGroup);
  }
  for (const Pages& pages : pages_) {
    munmap(pages.user, pages.size);
    munmap(pages.other, pages.size);
  }
  if (directory_.empty()) return;
  DIR* directory = opendir(directory_.c_str());
  while (const dirent* entry = readdir(directory)) {
    unlinkat(dirfd(directory), entry->d_name, 0);
    unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
  }
  closedir(directory);
  rmdir(directory_.c_str());
}

void Stage::Name(std::string_view region, std::function<void()> revoke) {
  Must(regions_.emplace(region).second, "a region that is named once");
  if (region == target_.region) revoke_ = std::move(revoke);
}

// Two mappings, so that what the kernel does to pages that the program cannot
// access any more is seen.
Stage::Pages& Stage::MapPages(std::size_t size) {
  const std::size_t whole = WholePages(size);
  const int memory = memfd_create("region", MFD_CLOEXEC);
  Must(memory >= 0 && ftruncate(memory, static_cast<off_t>(whole)) == 0,
       "memfd_create");
  const auto map = [&] {
    void* mapped =
        mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    Must(mapped != MAP_FAILED, "mmap");
    return static_cast<std::byte*>(mapped);
  };
  std::byte* const user = map();
  std::byte* const other = map();
  close(memory);
  return pages_.emplace_back(Pages{user, other, whole});
}

void Stage::RevokePages(Pages& pages) {
  std::memset(pages.other, kPoison, pages.size);
  Must(mprotect(pages.user, pages.size, PROT_NONE) == 0, "mprotect");
  pages.revoked = true;
}

void* Stage::Memory(std::string_view region, std::size_t size) {
  Pages& pages = MapPages(size);
  Name(region, [&pages] { RevokePages(pages); });
  return pages.user;
}

void* Stage::SharedMemory(std::string_view region, std::size_t size) {
  shared_.emplace(region);
  return Memory(region, size);
}

void* Stage::Range(std::string_view region, std::size_t size) {
  Pages& pages = MapPages(size);
  Name(region, [&pages] {
    void* mapped =
        mmap(pages.user, pages.size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, /*fd=*/-1, /*offset=*/0);
    Must(mapped == pages.user, "mmap");
    std::memset(mapped, kPoison, pages.size);
    // From here on what is there can be seen there only.
    munmap(pages.other, pages.size);
    pages.other = pages.user;
    pages.revoked = true;
  });
  return pages.user;
}

char* Stage::Text(std::string_view region, std::string_view text) {
  char* const memory = static_cast<char*>(Memory(region, text.size() + 1));
  std::memcpy(memory, text.data(), text.size());
  return memory;
}

int Stage::Descriptor(std::string_view region, int descriptor) {
  Own(descriptor);
  Name(region, [this, descriptor] {
    Must(dup2(unusable_, descriptor) == descriptor, "dup2");
  });
  return descriptor;
}

raw::Fd Stage::File(std::string_view region, int descriptor) {
  files_.emplace(region);
  if (target_.slot && region == target_.region) return Slot(region, descriptor);
  return Descriptor(region, descriptor);
}

raw::Fd Stage::FileToClose(std::string_view region, int descriptor) {
  if (target_.slot) return File(region, descriptor);
  files_.emplace(region);
  Name(region, [descriptor] { close(descriptor); });
  return descriptor;
}

raw::FixedFile Stage::Slot(std::string_view region, int descriptor) {
  FileTable();
  Own(descriptor);
  const std::uint32_t slot = next_slot_++;
  Must(slot < kFileTableSize, "a free slot");
  const auto update = [this, slot](int file) {
    return io_uring_register_files_update(ring_.get(), slot, &file, 1);
  };
  Must(update(descriptor) == 1, "io_uring_register_files_update");
  Name(region,
       [update] { Must(update(-1) == 1, "io_uring_register_files_update"); });
  return {slot};
}

void Stage::Handle(std::string_view region, std::function<void()> revoke) {
  Name(region, std::move(revoke));
}

raw::FixedFile Stage::EmptySlot(std::string_view region) {
  FileTable();
  Name(region, [this] {
    Must(io_uring_unregister_files(ring_.get()) == 0,
         "io_uring_unregister_files");
    file_table_ = false;
  });
  return {kEmptySlot};
}

std::uint16_t Stage::RegisterBuffer(void* memory, std::size_t size) {
  Must(io_uring_register_buffers_sparse(ring_.get(), kBufferTableSize) == 0,
       "io_uring_register_buffers_sparse");
  buffer_table_ = true;
  const auto update = [this](void* base, std::size_t length) {
    const iovec vector = {.iov_base = base, .iov_len = length};
    const __u64 tag = 0;
    Must(io_uring_register_buffers_update_tag(ring_.get(), kBufferIndex,
                                              &vector, &tag, 1) == 1,
         "io_uring_register_buffers_update_tag");
  };
  update(memory, size);
  std::byte* const other = MapPages(size).user;
  Name("buffer_index", [update, other, size] { update(other, size); });
  return kBufferIndex;
}

void Stage::RegisterGroup(void* memory, std::size_t size,
                          std::uint16_t first_id) {
  if (group_.ring != nullptr) {
    Must(io_uring_free_buf_ring(ring_.get(), group_.ring, kGroupEntries,
                                kGroup) == 0,
         "io_uring_free_buf_ring");
  }
  int error = 0;
  group_ = {io_uring_setup_buf_ring(ring_.get(), kGroupEntries, kGroup,
                                    /*flags=*/0, &error),
            static_cast<std::byte*>(memory), size, first_id};
  Must(group_.ring != nullptr, "io_uring_setup_buf_ring");
  AddBuffers(0, kGroupBuffers);
}

void Stage::AddBuffers(unsigned first, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    io_uring_buf_ring_add(
        group_.ring, group_.memory + (first + i) * group_.size,
        static_cast<unsigned>(group_.size),
        static_cast<unsigned short>(group_.first_id + first + i),
        io_uring_buf_ring_mask(kGroupEntries), static_cast<int>(i));
  }
  io_uring_buf_ring_advance(group_.ring, static_cast<int>(count));
}

void Stage::AddToGroup() { AddBuffers(kGroupBuffers, 1); }

std::uint16_t Stage::Group(std::size_t size, std::string_view content) {
  const std::size_t all = (kGroupBuffers + 1) * size;
  auto* const memory =
      static_cast<std::byte*>(SharedMemory("group/buffers of the group", all));
  std::byte* const other = MapPages(all).user;
  for (std::size_t at = 0; at < all; at += size) {
    std::memcpy(memory + at, content.data(), content.size());
  }
  RegisterGroup(memory, size, /*first_id=*/0);
  Name("group",
       [this, other, size] { RegisterGroup(other, size, kOtherBuffers); });
  return kGroup;
}

int Stage::Own(int descriptor) {
  Must(descriptor >= 0, "a descriptor");
  descriptors_.push_back(descriptor);
  return descriptor;
}

void Stage::Close(int descriptor) {
  std::erase(descriptors_, descriptor);
  close(descriptor);
}

void Stage::AtEnd(std::function<void()> call) {
  at_end_.push_back(std::move(call));
}

const std::string& Stage::Directory() {
  if (directory_.empty()) {
    const char* parent = std::getenv("TEST_TMPDIR");
    directory_ =
        std::string(parent != nullptr ? parent : "/tmp") + "/stageXXXXXX";
    Must(mkdtemp(directory_.data()) != nullptr, "mkdtemp");
  }
  return directory_;
}

void Stage::FileTable() {
  if (file_table_) return;
  Must(io_uring_register_files_sparse(ring_.get(), kFileTableSize) == 0,
       "io_uring_register_files_sparse");
  file_table_ = true;
}

void Stage::Observe(std::string_view untouched,
                    std::function<std::string()> call) {
  untouched_observation_ = untouched;
  observe_ = std::move(call);
}

const void* Stage::Peek(const void* memory) const {
  for (const Pages& pages : pages_) {
    if (pages.user == memory) return pages.other;
  }
  Must(false, "memory of the stage");
  return nullptr;
}

void Stage::Revoke() {
  Must(revoke_ != nullptr, "a region that the script names");
  revoke_();
  revoked_ = true;
}

void Stage::Push(const Prepare& prepare, std::uint64_t id, std::uint8_t flags) {
  io_uring_sqe* const sqe = ring_.GetSqe();
  Must(sqe != nullptr, "a free entry");
  prepare(sqe);
  sqe->flags |= flags;
  sqe->user_data = UserData(id);
  in_flight_.insert(sqe->user_data);
}

void Stage::Submit() {
  Must(ring_.Submit().has_value(), "io_uring_enter");
  // IORING_SETUP_SQPOLL: the thread moves the head when it has consumed all
  // that it took.
  while (ring_.sq_ready() != 0) usleep(20);
}

bool Stage::Reap() {
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (std::chrono::steady_clock::now() < deadline) {
    if (until_complete_) until_complete_();
    __kernel_timespec slice = {.tv_sec = 0, .tv_nsec = 1'000'000};
    if (!until_complete_) slice = {.tv_sec = 1, .tv_nsec = 0};
    io_uring_cqe* unused;
    const int error = io_uring_wait_cqe_timeout(ring_.get(), &unused, &slice);
    if (error == -ETIME || error == -EINTR || error == -EAGAIN) continue;
    Must(error == 0, "io_uring_enter");
    const auto completions = ring_.completions();
    for (const io_uring_cqe& cqe : completions) {
      // One of an earlier stage: a notification can come after the end of a
      // request that was cancelled.
      if ((cqe.user_data & ~std::uint64_t{0xffff}) != generation_) continue;
      if ((cqe.flags & IORING_CQE_F_MORE) == 0) in_flight_.erase(cqe.user_data);
      reaped_.push_back(cqe);
    }
    ring_.Advance(completions.entries());
    return true;
  }
  errno = ETIME;
  return false;
}

bool Stage::Next(std::uint64_t id, io_uring_cqe* cqe) {
  while (true) {
    const auto found = std::find_if(
        reaped_.begin(), reaped_.end(),
        [&](const io_uring_cqe& c) { return c.user_data == UserData(id); });
    if (found != reaped_.end()) {
      *cqe = *found;
      reaped_.erase(found);
      return true;
    }
    if (!Reap()) {
      report_.trouble = "no completion came";
      return false;
    }
  }
}

int Stage::DoPrepared(const Prepare& prepare) {
  const std::uint64_t id = next_id_++;
  Push(prepare, id, 0);
  Submit();
  io_uring_cqe cqe;
  Must(Next(id, &cqe), "a completion");
  return cqe.res;
}

std::uint64_t Stage::StartPrepared(const Prepare& prepare) {
  const std::uint64_t id = next_id_++;
  Push(prepare, id, 0);
  Submit();
  return UserData(id);
}

void Stage::Append(const io_uring_cqe& cqe) {
  std::string& text = report_.outcome;
  if (!text.empty()) text += ' ';
  if ((cqe.flags & IORING_CQE_F_NOTIF) != 0) {
    report_.notified = true;
    text += "notified";
    return;
  }
  if (cqe.res < 0) {
    const char* name = strerrorname_np(-cqe.res);
    text += std::string("-") + (name != nullptr ? name : "?");
  } else if (results_are_files_) {
    text += "file";
    close(cqe.res);
  } else if (counts_vary_) {
    text += "some";
  } else {
    text += std::to_string(cqe.res);
  }
  if ((cqe.flags & IORING_CQE_F_BUFFER) != 0) {
    text += '#' + std::to_string(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
  }
  if ((cqe.flags & IORING_CQE_F_MORE) != 0) text += '+';
}

void Stage::Follow(std::uint64_t id, bool is_request) {
  io_uring_cqe cqe;
  for (int count = 1; Next(id, &cqe); ++count) {
    Append(cqe);
    const bool more = (cqe.flags & IORING_CQE_F_MORE) != 0;
    if (is_request && count == 1) {
      report_.more = more;
      if (more && target_.moment == Moment::kFirstCompletion) Revoke();
      if (on_first_) on_first_(cqe.res);
    }
    if (!more) return;
    if (count == cancel_after_) {
      Push(
          [&](io_uring_sqe* sqe) {
            raw::Cancel{.user_data = UserData(id)}.Prepare(sqe);
          },
          kCancel, 0);
      Submit();
    }
  }
}

Report Stage::Perform() {
  if (!unavailable_.empty()) {
    report_.unavailable = unavailable_;
    return report_;
  }
  Must(op_ != nullptr, "a request");
  const Prepare request = [this](io_uring_sqe* sqe) {
    op_(sqe);
    if (patch_) patch_(sqe);
  };
  Push(
      [this](io_uring_sqe* sqe) {
        raw::Read{.fd = gate_[0], .buffer = &gate_byte_, .length = 1}.Prepare(
            sqe);
      },
      kGate, IOSQE_IO_LINK);
  if (before_) Push(before_, kBefore, IOSQE_IO_LINK);
  Push(request, kRequest, 0);
  Submit();
  if (target_.moment == Moment::kSubmitted) Revoke();
  Must(write(gate_[1], "", 1) == 1, "write");
  Follow(kRequest, /*is_request=*/true);

  if (then_ && report_.trouble.empty()) {
    if (target_.moment == Moment::kEnd) Revoke();
    prepare_then_();
    Push(then_, kThen, 0);
    Submit();
    Follow(kThen, /*is_request=*/false);
  }

  report_.untouched = untouched_;
  if (observe_ && report_.trouble.empty()) {
    const std::string observed = observe_();
    report_.observed_otherwise = observed != untouched_observation_;
    report_.outcome += " | " + observed;
    report_.untouched += " | " + untouched_observation_;
  }
  for (const Pages& pages : pages_) {
    if (!pages.revoked) continue;
    report_.written |=
        std::any_of(pages.other, pages.other + pages.size,
                    [](std::byte b) { return b != std::byte{kPoison}; });
  }
  return report_;
}

}  // namespace escrow::testing
