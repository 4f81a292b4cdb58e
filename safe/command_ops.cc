#include "escrow/safe/command_ops.h"

#include <liburing.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "escrow/ownership/check.h"
#include "escrow/ownership/record.h"
#include "escrow/raw/ops.h"
#include "escrow/safe/engine.h"
#include "escrow/safe/op.h"

namespace escrow::safe {

void DiscardBlocks::Start(ownership::Record& record) {
  record.Hold(std::move(device).Take());
  internal::Engine::Of(record).Start(
      record,
      raw::BlockDiscard{.fd = internal::FdOf(record.file),
                        .offset = offset,
                        .length = length},
      record.sqe_flags);
}

}  // namespace escrow::safe

namespace escrow::safe::internal {
namespace {

using ownership::Record;

static_assert(sizeof(raw::UringCmd::payload.bytes) == kCommandSize);
static_assert(sizeof(raw::UringCmdBig::payload.bytes) == kBigCommandSize);

template <typename Command>
void Start(Record& record, const CommandEntry& entry,
           std::span<const std::byte> bytes) {
  Command command = {.fd = FdOf(record.file),
                     .command = entry.command,
                     .address = const_cast<void*>(entry.address),
                     .length = static_cast<std::uint32_t>(entry.length)};
  std::memcpy(command.payload.bytes, bytes.data(), bytes.size());
  Engine::Of(record).Start(record, command, record.sqe_flags);
}

}  // namespace

void StartCommand(Record& record, File file, const CommandEntry& entry,
                  std::span<const std::byte> bytes) {
  ESCROW_CHECK(entry.length <= std::numeric_limits<std::uint32_t>::max(),
               "a command with a buffer of 4 GiB");
  record.Hold(std::move(file).Take());
  if (bytes.size() <= kCommandSize) {
    Start<raw::UringCmd>(record, entry, bytes);
    return;
  }
  ESCROW_CHECK(
      (Engine::Of(record).ring().setup_flags() & IORING_SETUP_SQE128) != 0,
      "a command of more than 16 bytes, on a ring without "
      "IORING_SETUP_SQE128");
  Start<raw::UringCmdBig>(record, entry, bytes);
}

}  // namespace escrow::safe::internal
