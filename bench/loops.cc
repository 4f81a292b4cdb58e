#include "bench/loops.h"

#include <liburing.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bench/liburing_loops.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"

namespace escrow::bench {
namespace {

using ownership::Buffer;
using ownership::Descriptor;
using Made = std::expected<std::unique_ptr<Loop>, std::error_code>;

std::unexpected<std::error_code> Failure(int error) {
  return std::unexpected(std::error_code(error, std::system_category()));
}

std::expected<Descriptor, std::error_code> CachedFile(unsigned blocks) {
  const char* const directory = std::getenv("TMPDIR");
  std::string path = directory != nullptr ? directory : "/tmp";
  path += "/escrow_bench_XXXXXX";
  const int number = ::mkstemp(path.data());
  if (number < 0) return Failure(errno);
  Descriptor file = Descriptor::Adopt(number);
  ::unlink(path.c_str());
  const std::string block(kBlockSize, 'x');
  for (unsigned i = 0; i < blocks; ++i) {
    errno = ENOSPC;
    if (::write(number, block.data(), block.size()) != kBlockSize) {
      return Failure(errno);
    }
  }
  return file;
}

// liburing

class LiburingLoop : public Loop {
 public:
  LiburingLoop(unsigned batch, Descriptor file)
      : batch_(batch),
        file_(std::move(file)),
        blocks_(file_.valid() ? std::size_t{batch} * kBlockSize : 0) {}
  ~LiburingLoop() override {
    if (created_) io_uring_queue_exit(&ring_);
  }

  int Create(std::uint32_t flags) {
    const int result = liburing_create(&ring_, kEntries, flags);
    created_ = result == 0;
    return result;
  }

  int Run(std::uint64_t rounds) override {
    if (!file_.valid()) return liburing_nop(&ring_, batch_, rounds);
    return liburing_read(&ring_, file_.number(), blocks_.data(), batch_,
                         rounds);
  }

 private:
  unsigned batch_;
  Descriptor file_;
  std::vector<char> blocks_;
  io_uring ring_;
  bool created_ = false;
};

Made MakeLiburing(unsigned batch, Descriptor file, std::uint32_t flags) {
  auto loop = std::make_unique<LiburingLoop>(batch, std::move(file));
  if (const int result = loop->Create(flags); result < 0) {
    return Failure(-result);
  }
  return loop;
}

// escrow::raw

std::expected<raw::Ring, std::error_code> CreateRaw(std::uint32_t flags) {
  auto ring = raw::Ring::Create({.entries = kEntries, .setup_flags = flags});
  if (ring && (flags & IORING_SETUP_SINGLE_ISSUER) != 0) {
    if (const std::error_code error = ring->RegisterRingFd()) {
      return std::unexpected(error);
    }
  }
  return ring;
}

class RawNop final : public Loop {
 public:
  RawNop(raw::Ring ring, unsigned batch)
      : ring_(std::move(ring)), batch_(batch) {}

  int Run(std::uint64_t rounds) override {
    return Rounds(ring_, batch_, rounds);
  }

 private:
  // Its parameters are those of the C function: a member would be loaded again
  // after each store into the ring.
  static int Rounds(raw::Ring& ring, unsigned batch, std::uint64_t rounds) {
    for (; rounds > 0; --rounds) {
      for (unsigned i = 0; i < batch; ++i) {
        if (!ring.TryPush(raw::Nop{}, i)) return -EBUSY;
      }
      const raw::EnterResult submitted = ring.SubmitAndWait(batch);
      if (!submitted) return -submitted.error_number();

      unsigned count = 0;
      for (const io_uring_cqe& cqe : ring.completions()) {
        if (cqe.res < 0) return cqe.res;
        ++count;
      }
      ring.Advance(count);
      if (count != batch) return -EIO;
    }
    return 0;
  }

  raw::Ring ring_;
  unsigned batch_;
};

class RawRead final : public Loop {
 public:
  RawRead(raw::Ring ring, unsigned batch, Descriptor file)
      : ring_(std::move(ring)),
        batch_(batch),
        file_(std::move(file)),
        blocks_(std::size_t{batch} * kBlockSize) {}

  int Run(std::uint64_t rounds) override {
    return Rounds(ring_, file_.number(), blocks_.data(), batch_, rounds);
  }

 private:
  static int Rounds(raw::Ring& ring, int file, char* blocks, unsigned batch,
                    std::uint64_t rounds) {
    for (; rounds > 0; --rounds) {
      for (unsigned i = 0; i < batch; ++i) {
        const std::uint64_t offset = std::uint64_t{i} * kBlockSize;
        if (!ring.TryPush(raw::Read{.fd = file,
                                    .buffer = blocks + offset,
                                    .length = kBlockSize,
                                    .offset = offset},
                          i)) {
          return -EBUSY;
        }
      }
      const raw::EnterResult submitted = ring.SubmitAndWait(batch);
      if (!submitted) return -submitted.error_number();

      unsigned count = 0;
      for (const io_uring_cqe& cqe : ring.completions()) {
        if (cqe.res != kBlockSize) return cqe.res < 0 ? cqe.res : -EIO;
        ++count;
      }
      ring.Advance(count);
      if (count != batch) return -EIO;
    }
    return 0;
  }

  raw::Ring ring_;
  unsigned batch_;
  Descriptor file_;
  std::vector<char> blocks_;
};

// escrow::safe

class SafeNop final : public Loop {
 public:
  SafeNop(safe::Ring ring, unsigned batch) : ring_(std::move(ring)) {
    for (unsigned i = 0; i < batch; ++i) {
      operations_.push_back(ring_.Nop());
      std::move(operations_.back()).Detach();
    }
  }

  int Run(std::uint64_t rounds) override {
    return Rounds(ring_, operations_, rounds);
  }

 private:
  using Handle = safe::Operation<safe::Result<void>>;

  static int Rounds(safe::Ring& ring, std::span<Handle> operations,
                    std::uint64_t rounds) {
    for (; rounds > 0; --rounds) {
      for (Handle& operation : operations) operation = ring.Nop();
      for (Handle& operation : operations) {
        const auto result = ring.Wait(std::move(operation));
        if (!result) return -result.error().value();
      }
    }
    return 0;
  }

  safe::Ring ring_;
  std::vector<Handle> operations_;  // moved from between the rounds
};

class SafeRead final : public Loop {
 public:
  SafeRead(safe::Ring ring, Descriptor file, std::vector<Buffer> buffers)
      : ring_(std::move(ring)),
        file_(std::move(file)),
        buffers_(std::move(buffers)) {
    // Not a Read(), of which a second one keeps the first from being inlined.
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      operations_.push_back(ring_.Write(file_, Buffer(), 0));
      std::move(operations_.back()).Detach();
    }
  }

  int Run(std::uint64_t rounds) override {
    return Rounds(ring_, operations_, file_, buffers_.data(), rounds);
  }

 private:
  using Handle = safe::Operation<safe::Transfer<Buffer>>;

  static int Rounds(safe::Ring& ring, std::span<Handle> operations,
                    const Descriptor& file, Buffer* buffers,
                    std::uint64_t rounds) {
    for (; rounds > 0; --rounds) {
      for (std::size_t i = 0; i < operations.size(); ++i) {
        operations[i] = ring.Read(file, std::move(buffers[i]), i * kBlockSize);
      }
      for (std::size_t i = 0; i < operations.size(); ++i) {
        auto [size, buffer] = ring.Wait(std::move(operations[i]));
        buffers[i] = std::move(buffer);
        if (!size) return -size.error().value();
        if (*size != kBlockSize) return -EIO;
      }
    }
    return 0;
  }

  safe::Ring ring_;
  Descriptor file_;
  std::vector<Buffer> buffers_;
  std::vector<Handle> operations_;  // moved from between the rounds
};

Made MakeSafe(unsigned batch, Descriptor file, std::uint32_t flags) {
  auto ring = safe::Ring::Create({.entries = kEntries, .setup_flags = flags});
  if (!ring) return std::unexpected(ring.error());
  if (!file.valid()) return std::make_unique<SafeNop>(std::move(*ring), batch);
  std::vector<Buffer> buffers;
  for (unsigned i = 0; i < batch; ++i) {
    auto buffer = Buffer::Allocate(kBlockSize);
    if (!buffer) return std::unexpected(buffer.error());
    buffers.push_back(std::move(*buffer));
  }
  return std::make_unique<SafeRead>(std::move(*ring), std::move(file),
                                    std::move(buffers));
}

}  // namespace

std::expected<std::uint32_t, std::error_code> SetupFlags() {
  const auto ring = safe::Ring::Create();
  if (!ring) return std::unexpected(ring.error());
  return ring->setup_flags();
}

Made MakeLoop(Implementation implementation, Operation operation,
              unsigned batch) {
  const auto flags = SetupFlags();
  if (!flags) return std::unexpected(flags.error());
  Descriptor file;
  if (operation == Operation::kRead) {
    auto cached = CachedFile(batch);
    if (!cached) return std::unexpected(cached.error());
    file = std::move(*cached);
  }
  switch (implementation) {
    case Implementation::kLiburing:
      return MakeLiburing(batch, std::move(file), *flags);
    case Implementation::kSafe:
      return MakeSafe(batch, std::move(file), *flags);
    case Implementation::kRaw:
      break;
  }
  auto ring = CreateRaw(*flags);
  if (!ring) return std::unexpected(ring.error());
  if (!file.valid()) return std::make_unique<RawNop>(std::move(*ring), batch);
  return std::make_unique<RawRead>(std::move(*ring), batch, std::move(file));
}

}  // namespace escrow::bench
