#ifndef ESCROW_SAFE_COMMAND_OPS_H_
#define ESCROW_SAFE_COMMAND_OPS_H_

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"

// Commands to the drivers of files, for Ring::Start().

namespace escrow::safe {

namespace internal {

template <ownership::Readable B>
using DataOf = decltype(ownership::OwnedMemory<B>::Data(std::declval<B&>()));

// What `Make` makes for a command with a B.
template <typename Make, typename B>
using CommandOf = std::invoke_result_t<Make&, DataOf<B>, std::size_t>;

// What an entry has room for: one of 64 bytes, and one of 128 bytes.
inline constexpr std::size_t kCommandSize = 16;
inline constexpr std::size_t kBigCommandSize = 80;

template <typename Make, typename B>
concept MakesCommand = std::invocable<Make&, DataOf<B>, std::size_t> &&
                       std::is_trivially_copyable_v<CommandOf<Make, B>> &&
                       sizeof(CommandOf<Make, B>) <= kBigCommandSize;

// What an entry says besides its command bytes.
struct CommandEntry {
  std::uint32_t command;
  const void* address;
  std::size_t length;
};

void StartCommand(ownership::Record& record, File file,
                  const CommandEntry& entry, std::span<const std::byte> bytes);

}  // namespace internal

// io_uring's ioctl(2): NVMe, ublk, FUSE. What the driver returned, which may be
// a status of its own above zero.
//
// `command` is the driver's. The bytes that it has in the entry are those of a
// struct that `make` returns; `make` is called once, at the start, with the
// place where `buffer` stays until the driver is done, and its size:
//
//   struct Read { std::uint64_t address; std::uint64_t length; };
//   ring.Start(UringCommand{
//       .file = device, .command = 1, .buffer = std::move(block),
//       .make = [](const std::byte* data, std::size_t size) {
//         return Read{reinterpret_cast<std::uintptr_t>(data), size};
//       }});
//
// So whatever else the struct points to is not kept alive, and nor may the
// address be kept. A struct of more than 16 bytes, of 80 at most, needs a ring
// with IORING_SETUP_SQE128.
//
// Whether a command can be cancelled is the driver's to say: if not, dropping
// it, or the ring, is dropping it when it ends. What the result owns is not
// known, and left to leak if nobody takes it.
template <ownership::Readable B, internal::MakesCommand<B> Make>
struct UringCommand {
  File file;
  std::uint32_t command;
  B buffer;
  Make make;
  // For drivers that look for the buffer in io_uring_sqe.addr and len.
  bool buffer_in_entry = false;

  using Outcome = Transfer<B>;
  void Start(ownership::Record& record) {
    using Memory = ownership::OwnedMemory<B>;
    const auto bytes = make(Memory::Data(buffer), Memory::Size(buffer));
    internal::CommandEntry entry = {
        .command = command, .address = nullptr, .length = 0};
    if (buffer_in_entry) {
      entry.address = Memory::Data(buffer);
      entry.length = Memory::Size(buffer);
    }
    internal::StartCommand(record, std::move(file), entry,
                           std::as_bytes(std::span(&bytes, 1)));
  }
  Outcome Take(const ownership::RawResult& result) && {
    return {internal::UsualOutcome<Result<std::size_t>>::Take(result),
            std::move(buffer)};
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

// Discards `length` bytes of a block device from `offset` on, both multiples of
// its sectors, as ioctl(2) with BLKDISCARD does: what they hold is lost.
// operation_not_supported for what is no block device, or one that cannot.
// Linux 6.12.
struct DiscardBlocks {
  File device;
  std::uint64_t offset;  // bytes
  std::uint64_t length;  // bytes

  using Outcome = Result<void>;
  void Start(ownership::Record& record);
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_COMMAND_OPS_H_
