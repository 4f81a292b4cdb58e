// The same programs on the real kernel and on the simulated one: what comes of
// each step, as text, to be compared (differential_test.cc).
//
//   differential FIRST_SEED COUNT
//
// A step submits requests, lets what can go on do so, and prints the
// completions of the step in an order that no kernel has a say in, then what
// came into the buffers. Requests that have to wait are ended by later steps,
// or cancelled in the end.

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "escrow/fuzz/check.h"

namespace {

constexpr std::size_t kBufferBytes = 64;
constexpr int kBuffers = 4;  // of the group
constexpr std::uint16_t kGroup = 7;

// SplitMix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  std::size_t Below(std::size_t bound) noexcept {
    std::uint64_t mixed = state_ += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return (mixed ^ (mixed >> 31)) % bound;
  }
  bool Flip() noexcept { return Below(2) == 0; }

 private:
  std::uint64_t state_;
};

// A request, and the memory that it has.
// The kernel gives the memory of rings back some time after they are gone.
template <typename Call>
int Patiently(const Call& call) {
  int result = call();
  for (int i = 0; i < 5000 && result == -ENOMEM; ++i) {
    ::usleep(1000);
    result = call();
  }
  return result;
}

struct Requested {
  const char* name;
  bool ends;        // by itself, as soon as the kernel gets to it
  bool makes_file;  // its result is a descriptor
  const Requested* behind = nullptr;  // in a chain
  bool done = false;
  std::array<unsigned char, kBufferBytes> bytes = {};
  const unsigned char* registered = nullptr;  // of a request on such memory
  std::array<iovec, 2> vectors = {};
  struct statx status = {};
  __kernel_timespec time = {};

  // Whether it ends without anybody, as things are now.
  bool Ends() const { return ends && (behind == nullptr || behind->done); }
};

class Program {
 public:
  explicit Program(std::uint64_t seed) : random_(seed) {
    io_uring_params params = {};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    ESCROW_REQUIRE(Patiently([&] {
                     return io_uring_queue_init_params(16, &ring_, &params);
                   }) == 0);
    file_ = ::memfd_create("file", MFD_CLOEXEC);
    std::array<unsigned char, 1024> bytes;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<unsigned char>(i * 7);
    }
    ESCROW_REQUIRE(::write(file_, bytes.data(), bytes.size()) ==
                   static_cast<ssize_t>(bytes.size()));
    ESCROW_REQUIRE(::pipe2(pipe_, O_CLOEXEC) == 0);
    ESCROW_REQUIRE(
        ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets_) == 0);
    const int files[] = {file_, sockets_[0], -1, -1};
    ESCROW_REQUIRE(io_uring_register_files(&ring_, files, 4) == 0);
    const iovec registered = {registered_.data(), registered_.size()};
    ESCROW_REQUIRE(Patiently([&] {
                     return io_uring_register_buffers(&ring_, &registered, 1);
                   }) == 0);
    int error = 0;
    Patiently([&] {
      group_ = io_uring_setup_buf_ring(&ring_, kBuffers, kGroup, 0, &error);
      return error;
    });
    ESCROW_REQUIRE(group_ != nullptr);
    for (int i = 0; i < kBuffers; ++i) Provide(i);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    io_uring_free_buf_ring(&ring_, group_, kBuffers, kGroup);
    io_uring_queue_exit(&ring_);
    for (const int fd : {file_, pipe_[0], pipe_[1], sockets_[0], sockets_[1]}) {
      ::close(fd);
    }
  }

  void Run() {
    for (std::size_t steps = 2 + random_.Below(10); steps > 0; --steps) {
      Step();
    }
    std::printf(" end:");
    link_ = 0;
    behind_ = nullptr;
    // What is hard-linked behind a cancelled request starts then.
    do {
      io_uring_sqe* const entry = Start("CANCEL", true);
      io_uring_prep_cancel64(entry, 0, IORING_ASYNC_CANCEL_ANY);
      Finish(entry);
      Settle();
    } while (Unfinished() > 0);
    Print();
    std::printf("\n");
  }

 private:
  void Step() {
    const std::size_t count = 1 + random_.Below(3);
    for (std::size_t i = 0; i < count; ++i) {
      // Chains are within the step.
      link_ = i + 1 < count && random_.Below(4) == 0
                  ? random_.Flip() ? IOSQE_IO_LINK : IOSQE_IO_HARDLINK
                  : 0;
      Request();
      behind_ = link_ != 0 ? requests_.back().get() : nullptr;
    }
    Settle();
    Print();
  }

  void Provide(int id) {
    io_uring_buf_ring_add(group_, provided_[id].data(), kBufferBytes,
                          static_cast<std::uint16_t>(id),
                          io_uring_buf_ring_mask(kBuffers), 0);
    io_uring_buf_ring_advance(group_, 1);
  }

  io_uring_sqe* Start(const char* name, bool ends, bool makes_file = false) {
    requests_.push_back(std::make_unique<Requested>());
    Requested& request = *requests_.back();
    request.name = name;
    request.ends = ends;
    request.behind = behind_;
    request.makes_file = makes_file;
    for (std::size_t i = 0; i < kBufferBytes; ++i) {
      request.bytes[i] = static_cast<unsigned char>(requests_.size());
    }
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    ESCROW_REQUIRE(entry != nullptr);
    return entry;
  }
  void Finish(io_uring_sqe* entry) {
    entry->flags |= static_cast<std::uint8_t>(link_);
    io_uring_sqe_set_data64(entry, requests_.size() - 1);
  }

  // Another piece for each request that is in flight.
  unsigned char* NextRegistered() {
    const std::size_t piece = requests_.size() % kRegistered;
    unsigned char* const begin = registered_.data() + piece * kBufferBytes;
    requests_.back()->registered = begin;
    return begin;
  }

  // Which of several that wait for the same is served first is open.
  bool ReaderWaits() const {
    return std::ranges::any_of(requests_, [](const auto& request) {
      return !request->done && !request->ends && request->name[0] == 'R';
    });
  }

  void Request() {
    const auto size = static_cast<unsigned>(1 + random_.Below(kBufferBytes));
    const auto offset = random_.Below(1100);
    io_uring_sqe* entry = nullptr;
    const auto memory = [this] { return requests_.back()->bytes.data(); };
    std::size_t kind = random_.Below(30);
    constexpr std::size_t kReaders[] = {3, 5, 8, 9};
    if (std::ranges::count(kReaders, kind) != 0 && ReaderWaits()) kind = 0;
    switch (kind) {
      case 0:
        entry = Start("NOP", true);
        io_uring_prep_nop(entry);
        break;
      case 1:
        entry = Start("READ", true);
        io_uring_prep_read(entry, file_, memory(), size, offset);
        break;
      case 2:
        entry = Start("WRITE", true);
        io_uring_prep_write(entry, file_, memory(), size, offset);
        break;
      case 3:
        entry = Start("READ pipe", false);
        io_uring_prep_read(entry, pipe_[0], memory(), size, -1);
        break;
      case 4:
        entry = Start("WRITE pipe", true);
        requests_.back()->bytes.fill('p');
        io_uring_prep_write(entry, pipe_[1], memory(), size, -1);
        break;
      case 5:
        entry = Start("RECV", false);
        io_uring_prep_recv(entry, sockets_[0], memory(), size, 0);
        break;
      case 6:
      case 7:
        entry = Start("SEND", true);
        requests_.back()->bytes.fill('s');
        io_uring_prep_send(entry, sockets_[1], memory(), size, MSG_NOSIGNAL);
        break;
      case 8:
        entry = Start("RECV group", false);
        io_uring_prep_recv(entry, sockets_[0], nullptr, 0, 0);
        entry->flags |= IOSQE_BUFFER_SELECT;
        entry->buf_group = kGroup;
        break;
      case 9:
        entry = Start("RECV multishot", false);
        io_uring_prep_recv_multishot(entry, sockets_[0], nullptr, 0, 0);
        entry->flags |= IOSQE_BUFFER_SELECT;
        entry->buf_group = kGroup;
        break;
      case 10:
        entry = Start("READV", true);
        Describe(size);
        io_uring_prep_readv(entry, file_, requests_.back()->vectors.data(), 2,
                            offset);
        break;
      case 11:
        entry = Start("WRITEV", true);
        Describe(size);
        io_uring_prep_writev(entry, file_, requests_.back()->vectors.data(), 2,
                             offset);
        break;
      case 12:
        entry = Start("POLL", false);
        io_uring_prep_poll_add(entry, pipe_[0], POLLIN);
        break;
      case 13:
        entry = Start("POLL multishot", false);
        io_uring_prep_poll_multishot(entry, sockets_[0], POLLIN);
        break;
      case 14:
        entry = Start("TIMEOUT", false);
        requests_.back()->time.tv_sec = 1000;
        io_uring_prep_timeout(entry, &requests_.back()->time, 0, 0);
        break;
      case 15:
        entry = Start("TIMEOUT now", true);
        requests_.back()->time.tv_nsec = 1;
        io_uring_prep_timeout(entry, &requests_.back()->time, 0, 0);
        break;
      case 16:
      case 17: {
        entry = Start("CANCEL", true);
        const std::size_t target = random_.Below(requests_.size());
        // Whether a worker has begun it is open.
        const bool runs = requests_[target]->ends && !requests_[target]->done;
        io_uring_prep_cancel64(entry, runs ? kPosted : target, 0);
        break;
      }
      case 18:
        entry = Start("CANCEL fd", true);
        io_uring_prep_cancel_fd(entry, sockets_[0], IORING_ASYNC_CANCEL_ALL);
        break;
      case 19:
        entry = Start("OPENAT", true, true);
        io_uring_prep_openat(entry, AT_FDCWD,
                             random_.Flip() ? "/dev/null" : "/nonexistent",
                             O_RDONLY | O_CLOEXEC, 0);
        break;
      case 20:
        entry = Start("STATX", true);
        io_uring_prep_statx(entry, file_, "", AT_EMPTY_PATH, STATX_SIZE,
                            &requests_.back()->status);
        break;
      case 21:
        entry = Start("FSYNC", true);
        io_uring_prep_fsync(entry, file_, 0);
        break;
      case 22:
        entry = Start("READ slot", true);
        io_uring_prep_read(entry, 0, memory(), size, offset);
        entry->flags |= IOSQE_FIXED_FILE;
        break;
      case 23:
        entry = Start("READ empty slot", true);
        io_uring_prep_read(entry, 2, memory(), size, offset);
        entry->flags |= IOSQE_FIXED_FILE;
        break;
      case 24:
        entry = Start("READ_FIXED", true);
        io_uring_prep_read_fixed(entry, file_, NextRegistered(), size, offset,
                                 0);
        break;
      case 25:
        entry = Start("WRITE_FIXED outside", true);
        io_uring_prep_write_fixed(entry, file_, memory(), size, offset, 0);
        break;
      case 26:
        entry = Start("READ bad fd", true);
        io_uring_prep_read(entry, 999, memory(), size, 0);
        break;
      case 27:
        entry = Start("SOCKET", true, true);
        io_uring_prep_socket(entry, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
        break;
      case 28:
        entry = Start("FALLOCATE", true);
        io_uring_prep_fallocate(entry, file_, 0, 0, 1024);
        break;
      case 29:
        entry = Start("MSG_RING", true);
        io_uring_prep_msg_ring(entry, ring_.ring_fd, size, kPosted, 0);
        break;
    }
    Finish(entry);
  }

  void Describe(unsigned size) {
    Requested& request = *requests_.back();
    request.vectors[0] = {request.bytes.data(), size / 2};
    request.vectors[1] = {request.bytes.data() + size / 2, size - size / 2};
  }

  // Until everything that ends by itself has, and the rest has got as far as it
  // gets without anybody.
  void Settle() {
    for (int quiet = 0; quiet < 4;) {
      io_uring_submit_and_get_events(&ring_);
      // What has ended may wake, and start, others.
      quiet = Reap() ? 0 : quiet + 1;
      const bool left = std::any_of(requests_.begin(), requests_.end(),
                                    [](const auto& request) {
                                      return request->Ends() && !request->done;
                                    });
      if (!left) continue;
      io_uring_submit_and_wait(&ring_, 1);
      quiet = 0;
    }
  }

  std::size_t Unfinished() const {
    return static_cast<std::size_t>(
        std::count_if(requests_.begin(), requests_.end(),
                      [](const auto& request) { return !request->done; }));
  }

  struct Completed {
    std::uint64_t user_data;
    std::int32_t result;
    std::uint32_t flags;
    std::uint64_t hash;
    std::size_t order;  // in which they came
    bool operator<(const Completed& other) const {
      return user_data != other.user_data ? user_data < other.user_data
                                          : order < other.order;
    }
  };

  static std::uint64_t Hash(const unsigned char* bytes, std::size_t size) {
    std::uint64_t hash = 14695981039346656037u;
    for (std::size_t i = 0; i < size; ++i) {
      hash = (hash ^ bytes[i]) * 1099511628211u;
    }
    return hash;
  }

  bool Reap() {
    bool any = false;
    io_uring_cqe* completion;
    while (io_uring_peek_cqe(&ring_, &completion) == 0) {
      Completed completed = {completion->user_data, completion->res,
                             completion->flags, 0, completions_.size()};
      io_uring_cqe_seen(&ring_, completion);
      if (completed.user_data != kPosted) Finished(completed);
      completions_.push_back(completed);
      any = true;
    }
    return any;
  }

  void Finished(Completed& completed) {
    Requested& request = *requests_[completed.user_data];
    ESCROW_REQUIRE(!request.done);
    request.done = (completed.flags & IORING_CQE_F_MORE) == 0;
    if (request.makes_file && completed.result >= 0) {
      ::close(completed.result);
      completed.result = 0;
    }
    if ((completed.flags & IORING_CQE_F_BUFFER) == 0) return;
    const auto id =
        static_cast<int>(completed.flags >> IORING_CQE_BUFFER_SHIFT);
    ESCROW_REQUIRE(id < kBuffers);
    // How much of it, but not what: who of several senders was first is open.
    Provide(id);
  }

  void Print() {
    for (Completed& completed : completions_) {
      if (completed.user_data == kPosted) continue;
      const Requested& request = *requests_[completed.user_data];
      completed.hash =
          Hash(request.bytes.data(), kBufferBytes) ^ request.status.stx_size;
      if (request.registered != nullptr) {
        completed.hash ^= Hash(request.registered, kBufferBytes);
      }
    }
    std::sort(completions_.begin(), completions_.end());
    for (const Completed& completed : completions_) {
      const bool posted = completed.user_data == kPosted;
      std::printf(" [%s %d %x %llx]",
                  posted ? "posted" : requests_[completed.user_data]->name,
                  completed.result, completed.flags,
                  static_cast<unsigned long long>(completed.hash & 0xffff));
    }
    std::printf(" |");
    completions_.clear();
  }

  static constexpr std::uint64_t kPosted = 1 << 20;

  Random random_;
  io_uring ring_ = {};
  int file_ = -1;
  int pipe_[2];
  int sockets_[2];
  unsigned link_ = 0;
  const Requested* behind_ = nullptr;
  io_uring_buf_ring* group_ = nullptr;
  std::array<std::array<unsigned char, kBufferBytes>, kBuffers> provided_ = {};
  static constexpr std::size_t kRegistered = 256;  // pieces
  std::array<unsigned char, kRegistered* kBufferBytes> registered_ = {};
  std::vector<std::unique_ptr<Requested>> requests_;
  std::vector<Completed> completions_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s FIRST_SEED COUNT\n", argv[0]);
    return 2;
  }
  const std::uint64_t first = std::strtoull(argv[1], nullptr, 10);
  const std::uint64_t count = std::strtoull(argv[2], nullptr, 10);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    std::printf("%llu:", static_cast<unsigned long long>(seed));
    Program(seed).Run();
    std::fflush(stdout);
  }
}
