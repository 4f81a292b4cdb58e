// usage: bugs NAME
//
// Programs that are wrong about memory that the kernel uses, each in another
// way that has been seen in the wild. They are written against plain liburing.
// On the kernel's own io_uring all of them come to their end and exit with 0,
// also when they are built with AddressSanitizer.

#include <arpa/inet.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr std::size_t kSize = 64;

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "bugs: %s: %s\n", what, std::strerror(errno));
  std::exit(2);
}

// Seen by the sanitizer whatever the optimizer thinks of it.
void Touch(void* memory) {
  auto* const bytes = static_cast<volatile char*>(memory);
  bytes[0] = static_cast<char>(bytes[0] + 1);
}

class Ring {
 public:
  explicit Ring(unsigned entries = 8, unsigned flags = 0) {
    const int error = ::io_uring_queue_init(entries, &ring_, flags);
    if (error != 0) {
      errno = -error;
      Fail("io_uring_queue_init");
    }
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() { Exit(); }

  void Exit() {
    if (!exited_) ::io_uring_queue_exit(&ring_);
    exited_ = true;
  }

  io_uring* get() { return &ring_; }
  io_uring_sqe* Entry(std::uint64_t user_data) {
    io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
    if (entry == nullptr) Fail("io_uring_get_sqe");
    ::io_uring_sqe_set_data64(entry, user_data);
    return entry;
  }
  // These programs know that a submit may fail.
  void Submit() {
    int result;
    do {
      result = ::io_uring_submit(&ring_);
    } while (result == -EAGAIN || result == -EBUSY || result == -EINTR ||
             (result >= 0 && ::io_uring_sq_ready(&ring_) > 0));
    if (result < 0) Fail("io_uring_submit");
  }
  io_uring_cqe* Peek() {
    io_uring_cqe* completion = nullptr;
    int result;
    do {
      result = ::io_uring_wait_cqe(&ring_, &completion);
    } while (result == -EINTR || result == -EAGAIN || result == -EBUSY);
    if (result < 0) Fail("io_uring_wait_cqe");
    return completion;
  }
  struct Completion {
    std::uint64_t user_data;
    std::int32_t result;
    std::uint32_t flags;
  };
  Completion Wait() {
    const io_uring_cqe* const completion = Peek();
    const Completion copy = {completion->user_data, completion->res,
                             completion->flags};
    ::io_uring_cqe_seen(&ring_, const_cast<io_uring_cqe*>(completion));
    return copy;
  }
  void Nop() {
    ::io_uring_prep_nop(Entry(99));
    Submit();
    while (Wait().user_data != 99) continue;
  }

 private:
  io_uring ring_ = {};
  bool exited_ = false;
};

struct Pair {
  int in;
  int out;
  void Put(std::size_t size = kSize) const {
    const char bytes[kSize] = {};
    if (::write(out, bytes, size) < 0) Fail("write");
  }
};
Pair Pipe() {
  int fds[2];
  if (::pipe(fds) != 0) Fail("pipe");
  return {fds[0], fds[1]};
}
Pair FullPipe() {
  const Pair pipe = Pipe();
  ::fcntl(pipe.out, F_SETFL, O_NONBLOCK);
  char bytes[4096] = {};
  while (::write(pipe.out, bytes, sizeof(bytes)) > 0) continue;
  ::fcntl(pipe.out, F_SETFL, 0);
  return pipe;
}
Pair SocketPair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) Fail("socketpair");
  return {fds[0], fds[1]};
}
Pair Connection() {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  ::socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener, generic, size) != 0 || ::listen(listener, 1) != 0 ||
      ::getsockname(listener, generic, &size) != 0) {
    Fail("listen");
  }
  const int out = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(out, generic, size) != 0) Fail("connect");
  const int in = ::accept(listener, nullptr, nullptr);
  if (in < 0) Fail("accept");
  ::close(listener);
  return {in, out};
}

char* Allocate() {
  static void* (*volatile allocate)(std::size_t) = &std::malloc;
  auto* const memory = static_cast<char*>(allocate(kSize));
  std::memset(memory, 0, kSize);
  return memory;
}
void Free(void* memory) {
  static void (*volatile free)(void*) = &std::free;
  free(memory);
}

// The bugs.

void FreeInFlight() {
  Ring ring;
  const Pair pipe = Pipe();
  char* const buffer = Allocate();
  ::io_uring_prep_read(ring.Entry(1), pipe.in, buffer, kSize, 0);
  ring.Submit();
  Free(buffer);
  pipe.Put();
  ring.Wait();
}

void TouchInFlight() {
  Ring ring;
  const Pair pipe = Pipe();
  char* const buffer = Allocate();
  ::io_uring_prep_read(ring.Entry(1), pipe.in, buffer, kSize, 0);
  ring.Submit();
  Touch(buffer + 8);
  pipe.Put();
  ring.Wait();
  Free(buffer);
}

__attribute__((noinline)) void ReadIntoFrame(Ring& ring, int fd) {
  char buffer[kSize];
  ::io_uring_prep_read(ring.Entry(1), fd, buffer, kSize, 0);
  ring.Submit();
}
void StackBuffer() {
  Ring ring;
  const Pair pipe = Pipe();
  ReadIntoFrame(ring, pipe.in);
  pipe.Put();
  ring.Wait();
}

__attribute__((noinline)) void PrepareTimeout(Ring& ring) {
  __kernel_timespec time = {.tv_sec = 0, .tv_nsec = 1000};
  ::io_uring_prep_timeout(ring.Entry(1), &time, 0, 0);
}
void StackTimespec() {
  Ring ring;
  PrepareTimeout(ring);
  ring.Submit();
  ring.Wait();
}

__attribute__((noinline)) void Receive(Ring& ring, int fd, iovec* vector) {
  msghdr message = {};
  message.msg_iov = vector;
  message.msg_iovlen = 1;
  ::io_uring_prep_recvmsg(ring.Entry(1), fd, &message, 0);
  ring.Submit();
}
void StackMessage() {
  Ring ring;
  const Pair sockets = SocketPair();
  char* const buffer = Allocate();
  iovec vector = {buffer, kSize};
  Receive(ring, sockets.in, &vector);
  sockets.Put();
  ring.Wait();
  Free(buffer);
}

void CompletionAfterSeen() {
  Ring ring;
  ::io_uring_prep_nop(ring.Entry(1));
  ring.Submit();
  io_uring_cqe* const completion = ring.Peek();
  ::io_uring_cqe_seen(ring.get(), completion);
  ring.Nop();
  if (const_cast<volatile io_uring_cqe*>(completion)->res < 0) Fail("nop");
}

void ExitInFlight() {
  Ring ring;
  const Pair pipe = Pipe();
  char* const buffer = Allocate();
  ::io_uring_prep_read(ring.Entry(1), pipe.in, buffer, kSize, 0);
  ring.Submit();
  ring.Exit();
  Free(buffer);
}

void ZeroCopyBeforeNotification() {
  Ring ring;
  const Pair connection = Connection();
  char* const buffer = Allocate();
  ::io_uring_prep_send_zc(ring.Entry(1), connection.out, buffer, kSize, 0, 0);
  ring.Submit();
  const Ring::Completion sent = ring.Wait();
  std::memset(buffer, 1, kSize);
  if ((sent.flags & IORING_CQE_F_MORE) != 0) ring.Wait();
  Free(buffer);
}

// A ring of provided buffers with one of them.
struct Group {
  static constexpr int kId = 7;
  static constexpr unsigned kEntries = 8;

  explicit Group(Ring& ring) : its_ring(ring) {
    int error = 0;
    buffers = ::io_uring_setup_buf_ring(ring.get(), kEntries, kId, 0, &error);
    if (buffers == nullptr) Fail("io_uring_setup_buf_ring");
  }
  ~Group() { ::io_uring_free_buf_ring(its_ring.get(), buffers, kEntries, kId); }
  void Provide(char* buffer, unsigned short id) const {
    ::io_uring_buf_ring_add(buffers, buffer, kSize, id,
                            ::io_uring_buf_ring_mask(kEntries), 0);
    ::io_uring_buf_ring_advance(buffers, 1);
  }
  void Receive(int fd) const {
    io_uring_sqe* const entry = its_ring.Entry(1);
    ::io_uring_prep_recv(entry, fd, nullptr, kSize, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = kId;
    its_ring.Submit();
  }

  Ring& its_ring;
  io_uring_buf_ring* buffers;
};

void ProvidedTwice() {
  Ring ring;
  char* const buffer = Allocate();
  {
    const Group group(ring);
    const Pair sockets = SocketPair();
    group.Provide(buffer, 0);
    sockets.Put(1);
    group.Receive(sockets.in);
    ring.Wait();
    // Once when it was read, and once in the end of whoever read it.
    group.Provide(buffer, 0);
    group.Provide(buffer, 0);
    sockets.Put(1);
    group.Receive(sockets.in);
    ring.Wait();
  }
  Free(buffer);
}

void ProvidedAndRead() {
  Ring ring;
  char* const buffer = Allocate();
  {
    const Group group(ring);
    const Pair sockets = SocketPair();
    group.Provide(buffer, 0);
    sockets.Put(16);
    group.Receive(sockets.in);
    ring.Wait();
    group.Provide(buffer, 0);
    group.Receive(sockets.in);
    Touch(buffer + 8);
    sockets.Put(16);
    ring.Wait();
  }
  Free(buffer);
}

void FreeWhenCancelled() {
  Ring ring;
  const Pair pipe = Pipe();
  char* const buffer = Allocate();
  ::io_uring_prep_read(ring.Entry(1), pipe.in, buffer, kSize, 0);
  ring.Submit();
  ::io_uring_prep_cancel64(ring.Entry(2), 1, 0);
  ring.Submit();
  bool read = false;
  while (ring.Wait().user_data != 2) read = true;
  Free(buffer);
  pipe.Put();
  if (!read) ring.Wait();
}

void FreeWhenWaitTimesOut() {
  Ring ring;
  const Pair pipe = Pipe();
  char* const buffer = Allocate();
  ::io_uring_prep_read(ring.Entry(1), pipe.in, buffer, kSize, 0);
  ring.Submit();
  __kernel_timespec time = {.tv_sec = 0, .tv_nsec = 1'000'000};
  io_uring_cqe* completion = nullptr;
  (void)::io_uring_wait_cqe_timeout(ring.get(), &completion, &time);
  Free(buffer);
  pipe.Put();
  ring.Wait();
}

void SharedBuffer() {
  Ring ring;
  const Pair one = Pipe();
  const Pair other = Pipe();
  char* const buffer = Allocate();
  ::io_uring_prep_read(ring.Entry(1), one.in, buffer, kSize, 0);
  ::io_uring_prep_read(ring.Entry(2), other.in, buffer + 32, 32, 0);
  ring.Submit();
  one.Put();
  other.Put();
  ring.Wait();
  ring.Wait();
  Free(buffer);
}

void ChangeOfWhatIsWritten() {
  Ring ring;
  const Pair pipe = FullPipe();
  char* const buffer = Allocate();
  ::io_uring_prep_write(ring.Entry(1), pipe.out, buffer, kSize, 0);
  ring.Submit();
  buffer[kSize - 1] = 'x';
  static char bytes[1 << 20];
  if (::read(pipe.in, bytes, sizeof(bytes)) <= 0) Fail("read");
  ring.Wait();
  Free(buffer);
}

void FreeWhenSubmitFails() {
  Ring ring;
  const Pair pipe = Pipe();
  char* const buffer = Allocate();
  ::io_uring_prep_read(ring.Entry(1), pipe.in, buffer, kSize, 0);
  const bool submitted = ::io_uring_submit(ring.get()) == 1;
  pipe.Put();
  if (submitted) ring.Wait();
  Free(buffer);
  // Otherwise it is still queued, for the next submit.
  ring.Nop();
}

__attribute__((noinline)) void PrepareVectors(Ring& ring, int fd,
                                              char* buffer) {
  iovec vectors[2] = {{buffer, 8}, {buffer + 8, 8}};
  ::io_uring_prep_readv(ring.Entry(1), fd, vectors, 2, 0);
}
void StackVectors() {
  Ring ring;
  const Pair pipe = Pipe();
  char* const buffer = Allocate();
  pipe.Put();
  PrepareVectors(ring, pipe.in, buffer);
  ring.Submit();
  ring.Wait();
  Free(buffer);
}

void ChangedEntry() {
  Ring ring;
  const Pair pipe = Pipe();
  char* const buffer = Allocate();
  io_uring_sqe* const entry = ring.Entry(1);
  ::io_uring_prep_read(entry, pipe.in, buffer, kSize, 0);
  ring.Submit();
  entry->len = 8;
  pipe.Put();
  ring.Wait();
  ring.Nop();
  Free(buffer);
}

void StaleUserData() {
  Ring ring(1);
  ring.Nop();
  io_uring_sqe* const entry = ::io_uring_get_sqe(ring.get());
  ::io_uring_prep_nop(entry);
  ring.Submit();
  ring.Wait();
}

void LostDescriptor() {
  Ring ring;
  ::io_uring_prep_openat(ring.Entry(1), AT_FDCWD, "/dev/null", O_RDONLY, 0);
  ring.Submit();
  ring.Peek();
  ring.Exit();
}

struct Bug {
  const char* name;
  void (*run)();
};

constexpr Bug kBugs[] = {
    {"free-in-flight", &FreeInFlight},
    {"touch-in-flight", &TouchInFlight},
    {"stack-buffer", &StackBuffer},
    {"stack-timespec", &StackTimespec},
    {"stack-message", &StackMessage},
    {"completion-after-seen", &CompletionAfterSeen},
    {"exit-in-flight", &ExitInFlight},
    {"zero-copy-before-notification", &ZeroCopyBeforeNotification},
    {"provided-twice", &ProvidedTwice},
    {"provided-and-read", &ProvidedAndRead},
    {"free-when-cancelled", &FreeWhenCancelled},
    {"free-when-wait-times-out", &FreeWhenWaitTimesOut},
    {"shared-buffer", &SharedBuffer},
    {"change-of-what-is-written", &ChangeOfWhatIsWritten},
    {"free-when-submit-fails", &FreeWhenSubmitFails},
    {"stack-vectors", &StackVectors},
    {"changed-entry", &ChangedEntry},
    {"stale-user-data", &StaleUserData},
    {"lost-descriptor", &LostDescriptor},
};

}  // namespace

int main(int count, char** arguments) {
  for (const Bug& bug : kBugs) {
    if (count == 2 && std::strcmp(arguments[1], bug.name) == 0) {
      bug.run();
      return 0;
    }
  }
  for (const Bug& bug : kBugs) std::puts(bug.name);
  return 2;
}
