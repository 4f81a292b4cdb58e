#ifndef ESCROW_SAFE_VECTOR_OPS_H_
#define ESCROW_SAFE_VECTOR_OPS_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/op.h"
#include "escrow/safe/result.h"
#include "escrow/safe/several.h"

// Reading and writing several buffers at once, for Ring::Start().
//
//   std::array<std::string, 2> parts = {"head", "body"};
//   auto written = ring.Start(
//       WriteVector<std::array<std::string, 2>>{.file = log,
//                                               .buffers = std::move(parts)});
//
// The buffers come back with the result, all of them. More than eight in a
// std::vector, or what does not fit into a record as a std::array, cost an
// allocation; more than IOV_MAX are invalid_argument. If all of them are of a
// BufferPool of the ring's, and none is empty, the transfer is that of
// registered memory (Linux 6.15).

namespace escrow::safe {

// A std::vector or a std::array of Readable, or Writable, values.
template <typename T>
concept ReadableBuffers =
    ownership::Readable<typename internal::Several<T>::Element>;
template <typename T>
concept WritableBuffers = ReadableBuffers<T> &&
    ownership::Writable<typename internal::Several<T>::Element>;

namespace internal {

template <typename Buffers>
using VectorRoom = ArrayRoom<iovec, Several<Buffers>::kFew>;

// Describes `buffers` in `room`.
template <typename Buffers>
const iovec* Describe(Buffers& buffers, VectorRoom<Buffers>& room) {
  using Memory =
      ownership::OwnedMemory<typename internal::Several<Buffers>::Element>;
  iovec* const vectors = room.Make(buffers.size());
  iovec* next = vectors;
  for (auto& buffer : buffers) {
    *next++ = {.iov_base = const_cast<std::byte*>(
                   static_cast<const std::byte*>(Memory::Data(buffer))),
               .iov_len = Memory::Size(buffer)};
  }
  return vectors;
}

template <typename Buffers>
ownership::BufferRegistration CommonRegistrationOf(
    const Buffers& buffers) noexcept {
  CommonRegistration common;
  for (const auto& buffer : buffers) common.Add(buffer);
  return common.value();
}

void StartReadVector(ownership::Record& record, File file,
                     ownership::BufferRegistration registration,
                     const iovec* vectors, std::size_t count,
                     std::uint64_t offset, int flags);
void StartWriteVector(ownership::Record& record, File file,
                      ownership::BufferRegistration registration,
                      const iovec* vectors, std::size_t count,
                      std::uint64_t offset, int flags);

}  // namespace internal

// preadv2(2): fills one buffer after the other. Bytes read in all, 0 at the end
// of the file.
template <WritableBuffers T>
struct ReadVector {
  File file;
  T buffers;
  std::uint64_t offset = kCurrentPosition;  // bytes
  int flags = 0;                            // RWF_*

  KernelRoom<internal::VectorRoom<T>> vectors =
      KernelRoom<internal::VectorRoom<T>>();

  using Outcome = Transfer<T>;
  void Start(ownership::Record& record) {
    internal::StartReadVector(record, std::move(file),
                              internal::CommonRegistrationOf(buffers),
                              internal::Describe(buffers, vectors.value),
                              buffers.size(), offset, flags);
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::TakeTransfer(result, buffers);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

// pwritev2(2): writes one buffer after the other. Bytes written in all, which
// may be less.
template <ReadableBuffers T>
struct WriteVector {
  File file;
  T buffers;
  std::uint64_t offset = kCurrentPosition;  // bytes
  int flags = 0;                            // RWF_*

  KernelRoom<internal::VectorRoom<T>> vectors =
      KernelRoom<internal::VectorRoom<T>>();

  using Outcome = Transfer<T>;
  void Start(ownership::Record& record) {
    internal::StartWriteVector(record, std::move(file),
                               internal::CommonRegistrationOf(buffers),
                               internal::Describe(buffers, vectors.value),
                               buffers.size(), offset, flags);
  }
  Outcome Take(const ownership::RawResult& result) && {
    return internal::TakeTransfer(result, buffers);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_VECTOR_OPS_H_
