#ifndef ESCROW_EXAMPLES_BLOCK_COPY_H_
#define ESCROW_EXAMPLES_BLOCK_COPY_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/examples/extents.h"
#include "escrow/examples/failure.h"
#include "escrow/examples/session.h"
#include "escrow/ownership/descriptor.h"

// The hot path of copying: the blocks between two offsets of a file, many at a
// time. There are two of it, which do the same.

namespace escrow::examples {

// One file of a copy, with the name that failures give it.
struct NamedFile {
  std::string name;
  const ownership::Descriptor& file;
};

// Which block is next, and how the copying goes.
class BlockCopy {
 public:
  BlockCopy(Session& session, NamedFile source, NamedFile target,
            std::uint64_t begin, std::uint64_t end)
      : session_(session),
        source_(std::move(source)),
        target_(std::move(target)),
        begin_(begin),
        end_(end),
        extents_(source_.file, begin, end) {}

  Session& session() noexcept { return session_; }
  const ownership::Descriptor& source() const noexcept { return source_.file; }
  const ownership::Descriptor& target() const noexcept { return target_.file; }
  std::size_t depth() const noexcept {
    return session_.DepthFor(end_ - begin_);
  }

  // Nothing when there are no more blocks, or none is to be started because of
  // a failure.
  std::optional<Block> Next();

  void Started() noexcept { most_ = std::max(most_, ++in_flight_); }
  void Ended() noexcept { --in_flight_; }
  void Copied(const Block& block) { session_.progress().done += block.length; }

  // What the operations on a block of either file came to.
  void SourceFailed(const std::error_code& error) {
    Fail(Failed(source_.name, error).error());
  }
  void SourceEnded(std::uint64_t offset);
  void TargetFailed(const std::error_code& error) {
    Fail(Failed(target_.name, error).error());
  }

  // The first failure counts.
  const std::optional<Failure>& failure() const noexcept { return failure_; }

  std::size_t in_flight() const noexcept { return in_flight_; }
  std::size_t most_in_flight() const noexcept { return most_; }
  std::uint64_t holes() const noexcept { return extents_.holes(); }

 private:
  void Fail(Failure failure) {
    if (!failure_) failure_ = std::move(failure);
  }

  Session& session_;
  NamedFile source_;
  NamedFile target_;
  std::uint64_t begin_;
  std::uint64_t end_;
  Extents extents_;
  std::size_t in_flight_ = 0;
  std::size_t most_ = 0;
  std::optional<Failure> failure_;
};

// Coroutines, one for each block in flight, whose operations own the blocks.
Expected<void> CopyBlocks(BlockCopy& copy);

// The same on raw entries of the same ring, which point to blocks that are kept
// until the kernel is done with them.
Expected<void> CopyBlocksRaw(BlockCopy& copy);

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_BLOCK_COPY_H_
