#include "tests/raw_bytes.h"

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <sstream>
#include <string>

#include "escrow/raw/ring.h"
#include "tests/raw_op_support.h"

namespace escrow::raw {
namespace {

struct SqeField {
  const char* name;
  std::size_t offset;
  std::size_t size;
};

// Of a submission queue entry, in order and without a gap.
constexpr SqeField kFields[] = {
    {"opcode", offsetof(io_uring_sqe, opcode), 1},
    {"flags", offsetof(io_uring_sqe, flags), 1},
    {"ioprio", offsetof(io_uring_sqe, ioprio), 2},
    {"fd", offsetof(io_uring_sqe, fd), 4},
    {"off (addr2, cmd_op)", offsetof(io_uring_sqe, off), 8},
    {"addr (level, optname)", offsetof(io_uring_sqe, addr), 8},
    {"len", offsetof(io_uring_sqe, len), 4},
    {"rw_flags (msg_flags, ...)", offsetof(io_uring_sqe, rw_flags), 4},
    {"user_data", offsetof(io_uring_sqe, user_data), 8},
    {"buf_index (buf_group)", offsetof(io_uring_sqe, buf_index), 2},
    {"personality", offsetof(io_uring_sqe, personality), 2},
    {"file_index (splice_fd_in, optlen, addr_len)",
     offsetof(io_uring_sqe, file_index), 4},
    {"addr3 (attr_ptr, optval, cmd)", offsetof(io_uring_sqe, addr3), 8},
    {"attr_type_mask (cmd + 8)", offsetof(io_uring_sqe, attr_type_mask), 8},
    {"cmd + 16", 64, 32},
    {"cmd + 48", 96, 32},
};

std::string Hex(const unsigned char* bytes, std::size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < size; ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

unsigned char* Entry(const Ring& ring, unsigned index, std::size_t size) {
  return reinterpret_cast<unsigned char*>(ring.get()->sq.sqes) + index * size;
}

}  // namespace

Ring& RawBytes::SmallRing() {
  static Ring ring = MakeRing({.entries = 2});
  return ring;
}

Ring& RawBytes::BigRing() {
  static Ring ring =
      MakeRing({.entries = 2, .setup_flags = IORING_SETUP_SQE128});
  return ring;
}

std::size_t RawBytes::EntrySize(const Ring& ring) {
  return sizeof(io_uring_sqe) << io_uring_sqe_shift(ring.get());
}

void RawBytes::Rewind(Ring& ring, std::uint64_t seed) {
  ring.get()->sq.sqe_tail = ring.get()->sq.sqe_head;
  const std::size_t size = EntrySize(ring);
  std::mt19937_64 garbage(~seed);
  for (std::size_t i = 0; i < size; i += sizeof(std::uint64_t)) {
    const std::uint64_t bytes = garbage();
    std::memcpy(Entry(ring, 0, size) + i, &bytes, sizeof(bytes));
    std::memcpy(Entry(ring, 1, size) + i, &bytes, sizeof(bytes));
  }
}

std::string RawBytes::Difference(const Ring& ring) {
  const std::size_t size = EntrySize(ring);
  const unsigned char* const theirs = Entry(ring, 0, size);
  const unsigned char* const ours = Entry(ring, 1, size);
  std::ostringstream text;
  for (const SqeField& field : kFields) {
    if (field.offset >= size) break;
    if (std::memcmp(theirs + field.offset, ours + field.offset, field.size) !=
        0) {
      text << '\n'
           << field.name << ": liburing "
           << Hex(theirs + field.offset, field.size) << ", Push "
           << Hex(ours + field.offset, field.size);
    }
  }
  return text.str();
}

}  // namespace escrow::raw
