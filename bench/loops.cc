#include "bench/loops.h"

#include <liburing.h>
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bench/cached_file.h"
#include "bench/liburing_loops.h"
#include "bench/raw_loops.h"
#include "bench/safe_loops.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/raw/ring.h"
#include "escrow/safe/ring.h"

namespace escrow::bench {
namespace {

using ownership::Buffer;
using ownership::Descriptor;
using Made = std::expected<std::unique_ptr<Loop>, std::error_code>;

std::unexpected<std::error_code> Failure(int error) {
  return std::unexpected(std::error_code(error, std::system_category()));
}

// What operations work on; what a loop has no use for is empty.
struct Inputs {
  Descriptor file;
  Descriptor socket;
  Descriptor peer;  // what `socket` is connected to
  Buffer memory;    // a block or a message for each operation

  char* data() noexcept { return reinterpret_cast<char*>(memory.data()); }
};

// Of blocks in memory, in every implementation: copying to an address that is
// none of a page takes longer.
constexpr std::size_t kAlignment = 4096;

// Has `socket` discard what is sent to it, which the sender does not notice: a
// loop may send for ever, without anybody who receives.
std::error_code DiscardAll(const Descriptor& socket) {
  sock_filter accept_nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog filter = {.len = 1, .filter = &accept_nothing};
  if (::setsockopt(socket.number(), SOL_SOCKET, SO_ATTACH_FILTER, &filter,
                   sizeof filter) < 0) {
    return {errno, std::system_category()};
  }
  return {};
}

// Received with MSG_PEEK, one datagram is there for ever: a loop may receive
// without anybody who sends.
constexpr int kRecvFlags = MSG_PEEK;

std::error_code SendOne(const Descriptor& socket) {
  const char message[kMessageSize] = {};
  if (::send(socket.number(), message, sizeof message, 0) < 0) {
    return {errno, std::system_category()};
  }
  return {};
}

std::expected<Inputs, std::error_code> MakeInputs(Operation operation,
                                                  unsigned batch) {
  Inputs inputs;
  std::size_t size = 0;
  switch (operation) {
    case Operation::kNop:
    case Operation::kLinked:
      break;
    case Operation::kRead:
    case Operation::kReadFixed: {
      auto file = CachedFile(batch, kBlockSize);
      if (!file) return std::unexpected(file.error());
      inputs.file = std::move(*file);
      size = std::size_t{batch} * kBlockSize;
      break;
    }
    case Operation::kSend:
    case Operation::kRecv: {
      int ends[2];
      if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) < 0) {
        return Failure(errno);
      }
      inputs.socket = Descriptor::Adopt(ends[0]);
      inputs.peer = Descriptor::Adopt(ends[1]);
      if (const std::error_code error = operation == Operation::kSend
                                            ? DiscardAll(inputs.peer)
                                            : SendOne(inputs.peer)) {
        return std::unexpected(error);
      }
      size = std::size_t{batch} * kMessageSize;
      break;
    }
  }
  auto memory = Buffer::Allocate(size, kAlignment);
  if (!memory) return std::unexpected(memory.error());
  inputs.memory = std::move(*memory);
  std::memset(inputs.memory.data(), 0, size);
  return inputs;
}

// 0 or a negated errno.
int RegisterBlocks(io_uring* ring, Buffer& memory) {
  std::vector<iovec> blocks;
  for (std::size_t offset = 0; offset < memory.size(); offset += kBlockSize) {
    blocks.push_back({memory.data() + offset, kBlockSize});
  }
  return io_uring_register_buffers(ring, blocks.data(),
                                   static_cast<unsigned>(blocks.size()));
}

class LiburingLoop final : public Loop {
 public:
  static Made Make(const Cell& cell, std::uint32_t flags, Inputs inputs) {
    auto loop = std::make_unique<LiburingLoop>(cell, std::move(inputs));
    int result = liburing_create(&loop->ring_, kEntries, flags);
    if (result < 0) return Failure(-result);
    loop->created_ = true;
    if (cell.operation == Operation::kReadFixed) {
      result = RegisterBlocks(&loop->ring_, loop->inputs_.memory);
      if (result < 0) return Failure(-result);
    }
    return loop;
  }

  LiburingLoop(const Cell& cell, Inputs inputs)
      : cell_(cell), inputs_(std::move(inputs)) {}
  ~LiburingLoop() override {
    if (created_) io_uring_queue_exit(&ring_);
  }

  int Run(std::uint64_t rounds) override {
    char* const memory = inputs_.data();
    switch (cell_.operation) {
      case Operation::kNop:
        return liburing_nop(&ring_, cell_.batch, rounds);
      case Operation::kRead:
        return liburing_read(&ring_, inputs_.file.number(), memory, cell_.batch,
                             rounds);
      case Operation::kReadFixed:
        return liburing_read_fixed(&ring_, inputs_.file.number(), memory,
                                   cell_.batch, rounds);
      case Operation::kSend:
        return liburing_send(&ring_, inputs_.socket.number(), memory,
                             cell_.batch, rounds);
      case Operation::kRecv:
        return liburing_recv(&ring_, inputs_.socket.number(), memory,
                             kRecvFlags, cell_.batch, rounds);
      case Operation::kLinked:
        return liburing_linked(&ring_, cell_.batch, rounds);
    }
    return -EINVAL;
  }

 private:
  Cell cell_;
  Inputs inputs_;
  io_uring ring_;
  bool created_ = false;
};

class RawLoop final : public Loop {
 public:
  static Made Make(const Cell& cell, std::uint32_t flags, Inputs inputs) {
    auto ring = raw::Ring::Create({.entries = kEntries, .setup_flags = flags});
    if (!ring) return std::unexpected(ring.error());
    if ((flags & IORING_SETUP_SINGLE_ISSUER) != 0) {
      if (const std::error_code error = ring->RegisterRingFd()) {
        return std::unexpected(error);
      }
    }
    if (cell.operation == Operation::kReadFixed) {
      const int result = RegisterBlocks(ring->get(), inputs.memory);
      if (result < 0) return Failure(-result);
    }
    return std::make_unique<RawLoop>(cell, std::move(*ring), std::move(inputs));
  }

  RawLoop(const Cell& cell, raw::Ring ring, Inputs inputs)
      : cell_(cell), inputs_(std::move(inputs)), ring_(std::move(ring)) {}

  int Run(std::uint64_t rounds) override {
    char* const memory = inputs_.data();
    switch (cell_.operation) {
      case Operation::kNop:
        return RawNop(ring_, cell_.batch, rounds);
      case Operation::kRead:
        return RawRead(ring_, inputs_.file.number(), memory, cell_.batch,
                       rounds);
      case Operation::kReadFixed:
        return RawReadFixed(ring_, inputs_.file.number(), memory, cell_.batch,
                            rounds);
      case Operation::kSend:
        return RawSend(ring_, inputs_.socket.number(), memory, cell_.batch,
                       rounds);
      case Operation::kRecv:
        return RawRecv(ring_, inputs_.socket.number(), memory, kRecvFlags,
                       cell_.batch, rounds);
      case Operation::kLinked:
        return RawLinked(ring_, cell_.batch, rounds);
    }
    return -EINVAL;
  }

 private:
  Cell cell_;
  Inputs inputs_;
  raw::Ring ring_;
};

class SafeNopLoop final : public Loop {
 public:
  SafeNopLoop(safe::Ring ring, unsigned batch) : ring_(std::move(ring)) {
    for (unsigned i = 0; i < batch; ++i) {
      operations_.push_back(ring_.Nop());
      std::move(operations_.back()).Detach();
    }
  }

  int Run(std::uint64_t rounds) override {
    return SafeNop(ring_, operations_, rounds);
  }

 private:
  safe::Ring ring_;
  std::vector<SafeNopOperation> operations_;  // moved from between the rounds
};

class SafeReadLoop final : public Loop {
 public:
  SafeReadLoop(safe::Ring ring, Descriptor file, std::vector<Buffer> buffers)
      : ring_(std::move(ring)),
        file_(std::move(file)),
        buffers_(std::move(buffers)) {
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      operations_.push_back(ring_.Read(file_, Buffer(), 0));
      std::move(operations_.back()).Detach();
    }
  }

  int Run(std::uint64_t rounds) override {
    return SafeRead(ring_, file_, buffers_.data(), operations_, rounds);
  }

 private:
  safe::Ring ring_;
  Descriptor file_;
  std::vector<Buffer> buffers_;
  std::vector<SafeReadOperation> operations_;  // moved from between the rounds
};

Made MakeSafe(const Cell& cell, std::uint32_t flags, Inputs inputs) {
  auto ring = safe::Ring::Create({.entries = kEntries, .setup_flags = flags});
  if (!ring) return std::unexpected(ring.error());
  if (cell.operation == Operation::kNop) {
    return std::make_unique<SafeNopLoop>(std::move(*ring), cell.batch);
  }
  std::vector<Buffer> buffers;
  for (unsigned i = 0; i < cell.batch; ++i) {
    auto buffer = Buffer::Allocate(kBlockSize, kAlignment);
    if (!buffer) return std::unexpected(buffer.error());
    buffers.push_back(std::move(*buffer));
  }
  return std::make_unique<SafeReadLoop>(
      std::move(*ring), std::move(inputs.file), std::move(buffers));
}

}  // namespace

std::vector<Cell> Cells() {
  std::vector<Cell> cells;
  for (const Operation operation :
       {Operation::kNop, Operation::kRead, Operation::kReadFixed,
        Operation::kSend, Operation::kRecv, Operation::kLinked}) {
    const bool safe_has_it =
        operation == Operation::kNop || operation == Operation::kRead;
    for (const unsigned batch : {1u, 8u, 32u, 128u}) {
      cells.push_back({operation, batch, Implementation::kLiburing});
      cells.push_back({operation, batch, Implementation::kRaw});
      if (!safe_has_it) continue;
      cells.push_back({operation, batch, Implementation::kSafe});
    }
  }
  return cells;
}

const char* NameOf(Implementation implementation) {
  switch (implementation) {
    case Implementation::kLiburing:
      return "liburing";
    case Implementation::kRaw:
      return "raw";
    case Implementation::kSafe:
      return "safe";
  }
  return "";
}

const char* NameOf(Operation operation) {
  switch (operation) {
    case Operation::kNop:
      return "nop";
    case Operation::kRead:
      return "read";
    case Operation::kReadFixed:
      return "read_fixed";
    case Operation::kSend:
      return "send";
    case Operation::kRecv:
      return "recv";
    case Operation::kLinked:
      return "linked";
  }
  return "";
}

std::string NameOf(const Cell& cell) {
  std::string name = NameOf(cell.operation);
  name += '/';
  name += std::to_string(cell.batch);
  name += '/';
  name += NameOf(cell.implementation);
  return name;
}

std::expected<std::uint32_t, std::error_code> SetupFlags() {
  const auto ring = safe::Ring::Create();
  if (!ring) return std::unexpected(ring.error());
  return ring->setup_flags();
}

Made MakeLoop(const Cell& cell) {
  const auto flags = SetupFlags();
  if (!flags) return std::unexpected(flags.error());
  auto inputs = MakeInputs(cell.operation, cell.batch);
  if (!inputs) return std::unexpected(inputs.error());
  switch (cell.implementation) {
    case Implementation::kLiburing:
      return LiburingLoop::Make(cell, *flags, std::move(*inputs));
    case Implementation::kRaw:
      return RawLoop::Make(cell, *flags, std::move(*inputs));
    case Implementation::kSafe:
      return MakeSafe(cell, *flags, std::move(*inputs));
  }
  return Failure(EINVAL);
}

unsigned OperationsPerRound(const Cell& cell) {
  return cell.operation == Operation::kLinked ? 2 * cell.batch : cell.batch;
}

}  // namespace escrow::bench
