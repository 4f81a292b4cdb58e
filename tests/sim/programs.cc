// usage: programs NAME
//
// Programs that are right about memory that the kernel uses, each of another
// character, written against plain liburing: on the simulated kernel nothing is
// reported of them, whatever happens to their requests. They take every error
// for possible, give up when there is one, and exit with 0 then, too; what has
// gone through must be right.

#include <arpa/inet.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "programs: %s: %s\n", what, std::strerror(errno));
  std::exit(2);
}
void Expect(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "programs: wrong: %s\n", what);
  std::exit(3);
}

struct Completion {
  std::int32_t result;
  std::uint32_t flags;
  bool more() const { return (flags & IORING_CQE_F_MORE) != 0; }
  bool notification() const { return (flags & IORING_CQE_F_NOTIF) != 0; }
  int buffer() const {
    return static_cast<int>(flags >> IORING_CQE_BUFFER_SHIFT);
  }
  bool has_buffer() const { return (flags & IORING_CQE_F_BUFFER) != 0; }
};

// A ring, and what is called for the completions of each request. What a
// callback has captured lives until the last one.
class Loop {
 public:
  using Callback = std::function<void(Completion)>;

  explicit Loop(unsigned entries = 16, unsigned flags = 0) {
    const int error = ::io_uring_queue_init(entries, &ring_, flags);
    if (error != 0) {
      errno = -error;
      Fail("io_uring_queue_init");
    }
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop() {
    RunUntil([this] { return requests_ == 0; });
    ::io_uring_queue_exit(&ring_);
  }

  io_uring* get() { return &ring_; }

  // Room for as many that have to be submitted together.
  void Reserve(unsigned count) {
    while (::io_uring_sq_space_left(&ring_) < count) Submit();
  }
  io_uring_sqe* Add(Callback callback) {
    Reserve(1);
    io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
    auto* const request = new Request{std::move(callback), 1};
    ++requests_;
    // Before the call that prepares it, which leaves this as it is.
    ::io_uring_sqe_set_data(entry, request);
    return entry;
  }
  static void* Key(const io_uring_sqe* entry) {
    return reinterpret_cast<void*>(entry->user_data);
  }

  void Submit() {
    const int result = ::io_uring_submit(&ring_);
    if (result < 0 && result != -EAGAIN && result != -EBUSY &&
        result != -EINTR) {
      errno = -result;
      Fail("io_uring_submit");
    }
    // What the kernel has no room for has to be taken first.
    if (result == -EBUSY || result == -EAGAIN) Take();
  }

  template <typename Done>
  void RunUntil(Done done) {
    while (!done()) {
      if (::io_uring_sq_ready(&ring_) > 0) Submit();
      if (Take()) continue;
      if (::io_uring_sq_ready(&ring_) > 0) continue;
      io_uring_cqe* completion = nullptr;
      const int result = ::io_uring_wait_cqe(&ring_, &completion);
      if (result < 0 && result != -EINTR && result != -EAGAIN &&
          result != -EBUSY) {
        errno = -result;
        Fail("io_uring_wait_cqe");
      }
    }
  }
  void Run() {
    RunUntil([this] { return requests_ == 0; });
  }
  int requests() const { return requests_; }

  // For messages of other rings, whose user_data is odd.
  std::function<void(std::uint64_t, Completion)> on_message;

 private:
  struct Request {
    Callback callback;
    int left;  // last completions that are to come
  };

  bool Take() {
    bool any = false;
    io_uring_cqe* each = nullptr;
    while (::io_uring_peek_cqe(&ring_, &each) == 0 && each != nullptr) {
      const Completion completion = {each->res, each->flags};
      const std::uint64_t user_data = each->user_data;
      ::io_uring_cqe_seen(&ring_, each);
      any = true;
      if ((user_data & 1) != 0) {
        on_message(user_data, completion);
        continue;
      }
      auto* const request = reinterpret_cast<Request*>(user_data);
      request->callback(completion);
      if (completion.more()) continue;
      --requests_;
      delete request;
    }
    return any;
  }

  io_uring ring_ = {};
  int requests_ = 0;
};

using Bytes = std::vector<char>;

Bytes Pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>(i * 31 + i / 251);
  }
  return bytes;
}

struct Sockets {
  Sockets() {
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) Fail("socketpair");
  }
  ~Sockets() {
    ::close(fds[0]);
    ::close(fds[1]);
  }
  int fds[2];
};

struct Listener {
  Listener() {
    fd = ::socket(AF_INET, SOCK_STREAM, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    ::socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(fd, generic, size) != 0 || ::listen(fd, 16) != 0 ||
        ::getsockname(fd, generic, &size) != 0) {
      Fail("listen");
    }
  }
  ~Listener() { ::close(fd); }
  int Connect() const {
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::connect(client, reinterpret_cast<const sockaddr*>(&address),
                  sizeof(address)) != 0) {
      Fail("connect");
    }
    return client;
  }
  int fd;
  sockaddr_in address = {};
};

int TemporaryFile(const Bytes& content) {
  char path[] = "/tmp/escrow-programs-XXXXXX";
  const int fd = ::mkstemp(path);
  if (fd < 0 || ::unlink(path) != 0) Fail("mkstemp");
  if (::pwrite(fd, content.data(), content.size(), 0) !=
      static_cast<::ssize_t>(content.size())) {
    Fail("pwrite");
  }
  return fd;
}

// Reads and writes with as many as eight at a time, and what is short again.
void FileCopy() {
  constexpr std::size_t kBlock = 1024;
  const Bytes content = Pattern(40'000);
  const int from = TemporaryFile(content);
  const int to = TemporaryFile({});
  bool failed = false;
  {
    Loop loop;
    struct Block {
      std::size_t offset;
      std::size_t size;
      std::size_t done = 0;
      Bytes bytes;
    };
    int running = 0;
    std::function<void(std::shared_ptr<Block>)> write;
    std::function<void(std::shared_ptr<Block>)> read;
    write = [&](std::shared_ptr<Block> block) {
      io_uring_sqe* const entry = loop.Add([&, block](Completion completion) {
        if (completion.result <= 0) {
          failed = true;
          --running;
          return;
        }
        block->done += static_cast<std::size_t>(completion.result);
        if (block->done < block->size) {
          write(block);
        } else {
          --running;
        }
      });
      ::io_uring_prep_write(entry, to, block->bytes.data() + block->done,
                            static_cast<unsigned>(block->size - block->done),
                            block->offset + block->done);
    };
    read = [&](std::shared_ptr<Block> block) {
      io_uring_sqe* const entry = loop.Add([&, block](Completion completion) {
        if (completion.result <= 0) {
          failed = true;
          --running;
          return;
        }
        block->done += static_cast<std::size_t>(completion.result);
        if (block->done < block->size) {
          read(block);
        } else {
          block->done = 0;
          write(block);
        }
      });
      ::io_uring_prep_read(entry, from, block->bytes.data() + block->done,
                           static_cast<unsigned>(block->size - block->done),
                           block->offset + block->done);
    };
    for (std::size_t at = 0; at < content.size(); at += kBlock) {
      loop.RunUntil([&] { return running < 8; });
      auto block = std::make_shared<Block>();
      block->offset = at;
      block->size = std::min(kBlock, content.size() - at);
      block->bytes.resize(block->size);
      ++running;
      read(std::move(block));
    }
    loop.Run();
  }
  Bytes copy(content.size());
  if (!failed) {
    Expect(::pread(to, copy.data(), copy.size(), 0) ==
                   static_cast<::ssize_t>(copy.size()) &&
               copy == content,
           "the copy");
  }
  ::close(from);
  ::close(to);
}

// One connection of an echo server.
class Echo {
 public:
  Echo(Loop& loop, int fd) : loop_(loop), fd_(fd), bytes_(64) { Receive(); }

 private:
  void Receive() {
    ::io_uring_prep_recv(loop_.Add([this](Completion completion) {
      if (completion.result <= 0) return End();
      size_ = static_cast<std::size_t>(completion.result);
      sent_ = 0;
      Send();
    }),
                         fd_, bytes_.data(), bytes_.size(), 0);
  }
  void Send() {
    ::io_uring_prep_send(loop_.Add([this](Completion completion) {
      if (completion.result <= 0) return End();
      sent_ += static_cast<std::size_t>(completion.result);
      if (sent_ < size_) return Send();
      Receive();
    }),
                         fd_, bytes_.data() + sent_, size_ - sent_, 0);
  }
  void End() {
    ::close(fd_);
    delete this;
  }

  Loop& loop_;
  int fd_;
  Bytes bytes_;
  std::size_t size_ = 0;
  std::size_t sent_ = 0;
};

// Sends a pattern, and reads it until the end or until all are back.
void TalkTo(int fd, std::size_t size) {
  const Bytes sent = Pattern(size);
  (void)::send(fd, sent.data(), sent.size(), MSG_NOSIGNAL);
  ::shutdown(fd, SHUT_WR);
  Bytes back(size);
  std::size_t got = 0;
  for (;;) {
    const ::ssize_t more = ::recv(fd, back.data() + got, back.size() - got, 0);
    if (more <= 0) break;
    got += static_cast<std::size_t>(more);
  }
  Expect(std::equal(back.begin(), back.begin() + static_cast<long>(got),
                    sent.begin()),
         "what the server sent");
  ::close(fd);
}

void EchoServer() {
  const Listener listener;
  Loop loop;
  std::vector<std::thread> clients;
  for (std::size_t i = 0; i < 3; ++i) {
    clients.emplace_back([&, i] { TalkTo(listener.Connect(), 100 + i * 100); });
    bool accepted = false;
    while (!accepted) {
      // Of the peer, until it has come.
      auto address = std::make_shared<std::pair<sockaddr_in, ::socklen_t>>();
      address->second = sizeof(sockaddr_in);
      bool done = false;
      ::io_uring_prep_accept(loop.Add([&, address](Completion completion) {
        done = true;
        if (completion.result < 0) return;
        accepted = true;
        Expect(address->first.sin_family == AF_INET, "the peer's address");
        new Echo(loop, completion.result);
      }),
                             listener.fd,
                             reinterpret_cast<sockaddr*>(&address->first),
                             &address->second, 0);
      loop.RunUntil([&] { return done; });
    }
  }
  loop.Run();
  for (std::thread& client : clients) client.join();
}

// One accept for all, and one receive for each, until it ends.
void Multishot() {
  const Listener listener;
  Loop loop;
  constexpr int kClients = 4;
  constexpr int kGroup = 3;
  constexpr unsigned kBuffers = 8;
  constexpr std::size_t kSize = 32;
  int error = 0;
  io_uring_buf_ring* const group =
      ::io_uring_setup_buf_ring(loop.get(), kBuffers, kGroup, 0, &error);
  if (group == nullptr) Fail("io_uring_setup_buf_ring");
  std::vector<Bytes> buffers(kBuffers, Bytes(kSize));
  const auto provide = [&](int id) {
    ::io_uring_buf_ring_add(group, buffers[static_cast<unsigned>(id)].data(),
                            kSize, static_cast<unsigned short>(id),
                            ::io_uring_buf_ring_mask(kBuffers), 0);
    ::io_uring_buf_ring_advance(group, 1);
  };
  for (unsigned i = 0; i < kBuffers; ++i) provide(static_cast<int>(i));

  int accepted = 0;
  int ended = 0;
  const Bytes pattern = Pattern(300);
  std::function<void(int, std::shared_ptr<std::size_t>)> receive;
  receive = [&](int fd, std::shared_ptr<std::size_t> got) {
    io_uring_sqe* const entry = loop.Add([&, fd, got](Completion completion) {
      if (completion.has_buffer()) {
        const Bytes& bytes =
            buffers[static_cast<unsigned>(completion.buffer())];
        for (int i = 0; i < completion.result; ++i) {
          Expect(bytes[static_cast<unsigned>(i)] == pattern[*got], "a byte");
          ++*got;
        }
        provide(completion.buffer());
      }
      if (completion.more()) return;
      if (completion.result > 0 || completion.result == -ENOBUFS) {
        receive(fd, got);
        return;
      }
      ::close(fd);
      ++ended;
    });
    ::io_uring_prep_recv_multishot(entry, fd, nullptr, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = kGroup;
  };
  void* key = nullptr;
  bool accepting = false;
  std::function<void()> accept = [&] {
    accepting = true;
    io_uring_sqe* const entry = loop.Add([&](Completion completion) {
      if (!completion.more()) accepting = false;
      if (completion.result >= 0) {
        ++accepted;
        receive(completion.result, std::make_shared<std::size_t>(0));
      }
      if (!completion.more() && accepted < kClients) accept();
    });
    key = Loop::Key(entry);
    ::io_uring_prep_multishot_accept(entry, listener.fd, nullptr, nullptr, 0);
  };
  accept();
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&] {
      const int fd = listener.Connect();
      (void)::send(fd, pattern.data(), pattern.size(), MSG_NOSIGNAL);
      ::close(fd);
    });
  }
  loop.RunUntil([&] { return ended == kClients; });
  while (accepting) {
    // It may slip through.
    bool answered = false;
    ::io_uring_prep_cancel(loop.Add([&](Completion) { answered = true; }), key,
                           0);
    loop.RunUntil([&] { return answered; });
    for (int i = 0; i < 4 && accepting; ++i) {
      bool passed = false;
      ::io_uring_prep_nop(loop.Add([&](Completion) { passed = true; }));
      loop.RunUntil([&] { return passed; });
    }
  }
  loop.Run();
  for (std::thread& client : clients) client.join();
  ::io_uring_free_buf_ring(loop.get(), group, kBuffers, kGroup);
}

// Write, sync and read, linked, and reads that a linked timeout ends.
void Chains() {
  const int file = TemporaryFile(Bytes(64));
  int pipe[2];
  if (::pipe(pipe) != 0) Fail("pipe");
  {
    Loop loop(8);
    for (int round = 0; round < 8; ++round) {
      auto out = std::make_shared<Bytes>(Pattern(64));
      auto in = std::make_shared<Bytes>(64);
      auto written = std::make_shared<int>(0);
      loop.Reserve(3);
      io_uring_sqe* entry = loop.Add([out, written](Completion completion) {
        *written = completion.result;
      });
      ::io_uring_prep_write(entry, file, out->data(), 64, 0);
      entry->flags |= IOSQE_IO_LINK;
      entry = loop.Add([](Completion) {});
      ::io_uring_prep_fsync(entry, file, 0);
      entry->flags |= IOSQE_IO_LINK;
      entry = loop.Add([in, out, written](Completion completion) {
        if (completion.result < 0) return;
        Expect(*written == 64, "a read behind a short write");
        Expect(std::equal(in->begin(), in->begin() + completion.result,
                          out->begin()),
               "what was read back");
      });
      ::io_uring_prep_read(entry, file, in->data(), 64, 0);
      loop.Run();

      // Nothing comes, or something does just then.
      auto bytes = std::make_shared<Bytes>(16);
      auto time = std::make_shared<__kernel_timespec>();
      time->tv_nsec = 1'000'000;
      loop.Reserve(2);
      entry = loop.Add([bytes](Completion completion) {
        Expect(completion.result <= 16, "the size of a read");
      });
      ::io_uring_prep_read(entry, pipe[0], bytes->data(), 16, 0);
      entry->flags |= IOSQE_IO_LINK;
      ::io_uring_prep_link_timeout(loop.Add([time](Completion) {}), time.get(),
                                   0);
      if (round % 2 == 1 && ::write(pipe[1], "hello", 5) != 5) Fail("write");
      loop.Run();
    }
  }
  ::close(file);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

// Leases on provided buffers: each goes back when it has been sent.
void BufferRingEcho() {
  constexpr int kGroup = 1;
  constexpr unsigned kBuffers = 4;
  constexpr std::size_t kSize = 16;
  const Sockets sockets;
  std::thread client([&] {
    const Bytes sent = Pattern(200);
    (void)::send(sockets.fds[1], sent.data(), sent.size(), MSG_NOSIGNAL);
    ::shutdown(sockets.fds[1], SHUT_WR);
    Bytes back(sent.size());
    std::size_t got = 0;
    for (;;) {
      const ::ssize_t more =
          ::recv(sockets.fds[1], back.data() + got, back.size() - got, 0);
      if (more <= 0) break;
      got += static_cast<std::size_t>(more);
    }
    Expect(std::equal(back.begin(), back.begin() + static_cast<long>(got),
                      sent.begin()),
           "what comes back");
  });
  Loop loop;
  Bytes memory(kBuffers * kSize);
  int error = 0;
  io_uring_buf_ring* const group =
      ::io_uring_setup_buf_ring(loop.get(), kBuffers, kGroup, 0, &error);
  if (group == nullptr) Fail("io_uring_setup_buf_ring");
  const auto provide = [&](int id) {
    ::io_uring_buf_ring_add(group, &memory[static_cast<unsigned>(id) * kSize],
                            kSize, static_cast<unsigned short>(id),
                            ::io_uring_buf_ring_mask(kBuffers), 0);
    ::io_uring_buf_ring_advance(group, 1);
  };
  for (unsigned i = 0; i < kBuffers; ++i) provide(static_cast<int>(i));
  bool failed = false;
  bool ended = false;
  while (!ended && !failed) {
    int id = -1;
    int size = 0;
    bool received = false;
    io_uring_sqe* const entry = loop.Add([&](Completion completion) {
      received = true;
      size = completion.result;
      if (completion.has_buffer()) id = completion.buffer();
      ended = size == 0;
      failed = size < 0;
    });
    ::io_uring_prep_recv(entry, sockets.fds[0], nullptr, kSize, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = kGroup;
    loop.RunUntil([&] { return received; });
    for (int sent = 0; sent < size && !failed;) {
      bool done = false;
      ::io_uring_prep_send(loop.Add([&](Completion completion) {
        done = true;
        failed = completion.result <= 0;
        sent += completion.result;
      }),
                           sockets.fds[0],
                           &memory[static_cast<unsigned>(id) * kSize +
                                   static_cast<unsigned>(sent)],
                           static_cast<unsigned>(size - sent), 0);
      loop.RunUntil([&] { return done; });
    }
    if (id >= 0) provide(id);
  }
  ::shutdown(sockets.fds[0], SHUT_RDWR);
  client.join();
  loop.Run();
  ::io_uring_free_buf_ring(loop.get(), group, kBuffers, kGroup);
}

// The buffer is used again when the notification has come, if one comes.
void ZeroCopy() {
  const Listener listener;
  const int out = listener.Connect();
  const int in = ::accept(listener.fd, nullptr, nullptr);
  if (in < 0) Fail("accept");
  {
    Loop loop;
    Bytes buffer(512);
    for (int round = 0; round < 6; ++round) {
      std::fill(buffer.begin(), buffer.end(), static_cast<char>(round));
      int sent = 0;
      bool done = false;
      ::io_uring_prep_send_zc(loop.Add([&](Completion completion) {
        if (!completion.notification()) sent = completion.result;
        done = !completion.more();
      }),
                              out, buffer.data(), buffer.size(), 0, 0);
      loop.RunUntil([&] { return done; });
      Bytes got(buffer.size());
      for (int left = sent; left > 0;) {
        const ::ssize_t size =
            ::recv(in, got.data(), static_cast<unsigned>(left), 0);
        if (size <= 0) Fail("recv");
        Expect(got[0] == static_cast<char>(round), "what has been sent");
        left -= static_cast<int>(size);
      }
    }
  }
  ::close(in);
  ::close(out);
}

// Two threads with a ring each, which send each other messages.
void TwoThreads() {
  constexpr unsigned kMessages = 20;
  std::atomic<int> fds[2] = {-1, -1};
  std::atomic<unsigned> finished = 0;
  const auto run = [&](int self) {
    Loop loop(32);
    unsigned received = 0;
    unsigned failed = 0;
    loop.on_message = [&](std::uint64_t, Completion completion) {
      Expect(completion.result == 7 + (1 - self), "the message");
      ++received;
    };
    fds[self] = loop.get()->ring_fd;
    while (fds[1 - self] < 0) std::this_thread::yield();
    static std::atomic<unsigned> delivered[2];
    for (unsigned i = 0; i < kMessages; ++i) {
      ::io_uring_prep_msg_ring(loop.Add([&](Completion completion) {
        if (completion.result < 0) {
          ++failed;
        } else {
          ++delivered[1 - self];
        }
      }),
                               fds[1 - self], 7 + static_cast<unsigned>(self),
                               2 * i + 1, 0);
      loop.RunUntil([&] { return loop.requests() < 8; });
    }
    loop.Run();
    ++finished;
    while (finished < 2) std::this_thread::yield();
    // All that was delivered is there by now, or comes with the next call.
    while (received < delivered[self]) {
      bool passed = false;
      ::io_uring_prep_nop(loop.Add([&](Completion) { passed = true; }));
      loop.RunUntil([&] { return passed; });
    }
    ++finished;
    while (finished < 4) std::this_thread::yield();
  };
  std::thread other(run, 1);
  run(0);
  other.join();
}

// Some that pass, some that are updated, and some that are removed.
void Timeouts() {
  Loop loop(8);
  for (int round = 0; round < 4; ++round) {
    std::vector<std::unique_ptr<__kernel_timespec>> times;
    std::vector<void*> keys;
    for (int i = 0; i < 4; ++i) {
      times.push_back(std::make_unique<__kernel_timespec>());
      *times.back() = {.tv_sec = i < 2 ? 0 : 3600, .tv_nsec = 1'000'000};
      io_uring_sqe* const entry = loop.Add([](Completion completion) {
        Expect(completion.result == -ETIME || completion.result == -ECANCELED,
               "the result of a timeout");
      });
      keys.push_back(Loop::Key(entry));
      ::io_uring_prep_timeout(entry, times.back().get(), 0, 0);
    }
    loop.Reserve(8);  // all are submitted: their times are not needed any more
    times.clear();
    __kernel_timespec soon = {.tv_sec = 0, .tv_nsec = 1000};
    bool updated = false;
    ::io_uring_prep_timeout_update(
        loop.Add([&](Completion) { updated = true; }), &soon,
        reinterpret_cast<std::uint64_t>(keys[2]), 0);
    loop.RunUntil([&] { return updated; });
    // Whether or not one is still there: until all are gone.
    while (loop.requests() > 0) {
      bool removed = false;
      ::io_uring_prep_timeout_remove(
          loop.Add([&](Completion) { removed = true; }),
          reinterpret_cast<std::uint64_t>(keys[3]), 0);
      loop.RunUntil([&] { return removed; });
    }
  }
}

// Registered files and buffers.
void FixedFilesAndBuffers() {
  const Bytes content = Pattern(256);
  const int file = TemporaryFile(content);
  {
    Loop loop;
    Bytes memory(512);
    const iovec vector = {memory.data(), memory.size()};
    int result = ::io_uring_register_buffers(loop.get(), &vector, 1);
    if (result == 0) result = ::io_uring_register_files(loop.get(), &file, 1);
    if (result != 0) {
      errno = -result;
      Fail("register");
    }
    for (unsigned round = 0; round < 8; ++round) {
      const unsigned at = round * 32;
      int got = 0;
      io_uring_sqe* entry =
          loop.Add([&](Completion completion) { got = completion.result; });
      ::io_uring_prep_read_fixed(entry, 0, &memory[at], 32, at, 0);
      entry->flags |= IOSQE_FIXED_FILE;
      loop.Run();
      for (int i = 0; i < got; ++i) {
        const std::size_t byte = at + static_cast<unsigned>(i);
        Expect(memory[byte] == content[byte], "what was read");
      }
      if (got <= 0) continue;
      entry = loop.Add([](Completion) {});
      ::io_uring_prep_write_fixed(entry, 0, &memory[at],
                                  static_cast<unsigned>(got), at, 0);
      entry->flags |= IOSQE_FIXED_FILE;
      loop.Run();
    }
    ::io_uring_unregister_buffers(loop.get());
    ::io_uring_unregister_files(loop.get());
  }
  Bytes after(content.size());
  if (::pread(file, after.data(), after.size(), 0) < 0) Fail("pread");
  Expect(after == content, "what was written");
  ::close(file);
}

// Reads that are cancelled, some by key, some all at once, and some too late.
void CancelStorm() {
  Sockets pairs[4];
  Loop loop(64);
  for (int round = 0; round < 5; ++round) {
    std::vector<void*> keys;
    for (Sockets& pair : pairs) {
      for (int i = 0; i < 3; ++i) {
        auto bytes = std::make_shared<Bytes>(32);
        io_uring_sqe* const entry = loop.Add([bytes](Completion completion) {
          if (completion.result > 0) Expect((*bytes)[0] == 'x', "a byte");
        });
        keys.push_back(Loop::Key(entry));
        ::io_uring_prep_recv(entry, pair.fds[0], bytes->data(), bytes->size(),
                             0);
      }
    }
    loop.Submit();
    if (::send(pairs[round % 4].fds[1], "xxxx", 4, MSG_NOSIGNAL) != 4) {
      Fail("send");
    }
    for (void* const key : keys) {
      ::io_uring_prep_cancel(loop.Add([](Completion) {}), key, 0);
    }
    while (loop.requests() > 0) {
      bool answered = false;
      ::io_uring_prep_cancel(loop.Add([&](Completion) { answered = true; }),
                             nullptr,
                             IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
      loop.RunUntil([&] { return answered; });
    }
  }
}

// Entries are taken whenever it pleases the kernel's thread.
void SubmissionThread() {
  const Bytes content = Pattern(640);
  const int file = TemporaryFile(content);
  {
    Loop loop(8, IORING_SETUP_SQPOLL);
    for (std::size_t at = 0; at < content.size(); at += 64) {
      auto bytes = std::make_shared<Bytes>(64);
      io_uring_sqe* const entry = loop.Add([&, bytes, at](Completion done) {
        if (done.result < 0) return;
        Expect(std::equal(bytes->begin(), bytes->begin() + done.result,
                          content.begin() + static_cast<long>(at)),
               "what was read");
      });
      ::io_uring_prep_read(entry, file, bytes->data(), 64, at);
      loop.Submit();
    }
    loop.Run();
  }
  ::close(file);
}

// More completions than there is room for.
void Overflow() {
  Loop loop(4);
  int done = 0;
  for (int i = 0; i < 100; ++i) {
    ::io_uring_prep_nop(loop.Add([&](Completion) { ++done; }));
    if (i % 4 == 3) (void)::io_uring_submit(loop.get());
  }
  loop.Run();
  Expect(done == 100, "how many there were");
}

// Messages, whose headers are written when they come.
void Messages() {
  const Sockets sockets;
  Loop loop;
  struct Message {
    explicit Message(char byte) : bytes(32, byte) {
      vectors[0] = {bytes.data(), 16};
      vectors[1] = {bytes.data() + 16, 16};
      header.msg_iov = vectors;
      header.msg_iovlen = 2;
    }
    msghdr header = {};
    iovec vectors[2] = {};
    Bytes bytes;
  };
  for (int round = 0; round < 6; ++round) {
    auto in = std::make_shared<Message>('-');
    auto out = std::make_shared<Message>('x');
    ::io_uring_prep_recvmsg(loop.Add([in](Completion completion) {
      if (completion.result > 0) Expect(in->bytes[0] == 'x', "the message");
    }),
                            sockets.fds[0], &in->header, 0);
    ::io_uring_prep_sendmsg(loop.Add([&, out](Completion completion) {
      // Nothing comes any more for who waits.
      if (completion.result <= 0) ::shutdown(sockets.fds[1], SHUT_WR);
    }),
                            sockets.fds[1], &out->header, 0);
    loop.Run();
  }
}

// Descriptors that are left to the end of the process, and one that is closed.
void OpenFiles() {
  Loop loop;
  for (int i = 0; i < 4; ++i) {
    ::io_uring_prep_openat(loop.Add([i](Completion completion) {
      if (i == 0 && completion.result >= 0) ::close(completion.result);
    }),
                           AT_FDCWD, "/dev/null", O_RDONLY, 0);
  }
  loop.Run();
}

struct Program {
  const char* name;
  void (*run)();
};

constexpr Program kPrograms[] = {
    {"file-copy", &FileCopy},
    {"echo-server", &EchoServer},
    {"multishot", &Multishot},
    {"chains", &Chains},
    {"buffer-ring-echo", &BufferRingEcho},
    {"zero-copy", &ZeroCopy},
    {"two-threads", &TwoThreads},
    {"timeouts", &Timeouts},
    {"fixed-files-and-buffers", &FixedFilesAndBuffers},
    {"cancel-storm", &CancelStorm},
    {"submission-thread", &SubmissionThread},
    {"overflow", &Overflow},
    {"messages", &Messages},
    {"open-files", &OpenFiles},
};

}  // namespace

int main(int count, char** arguments) {
  for (const Program& program : kPrograms) {
    if (count == 2 && std::strcmp(arguments[1], program.name) == 0) {
      program.run();
      return 0;
    }
  }
  for (const Program& program : kPrograms) std::puts(program.name);
  return 2;
}
