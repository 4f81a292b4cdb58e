#ifndef ESCROW_RAW_MEMORY_H_
#define ESCROW_RAW_MEMORY_H_

#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "escrow/raw/contract.h"
#include "escrow/raw/ops.h"

// The memory that a given operation refers to, for code that watches it: what
// the types say (contract.h), together with how many bytes there are.
//
//   ForEachMemory(op, [](const Memory& memory) { ... });

namespace escrow::raw {

// A piece of memory that the kernel uses.
struct Memory {
  const void* data;
  std::size_t size;  // bytes
  Access access;
  Until until;

  // Of what the kernel writes: as many bytes of it as the operation's result
  // says, together with the pieces before and after it that are so, too.
  // Without, all of it.
  bool counted_by_result = false;
};

namespace memory_internal {

template <typename T>
concept Pointer = requires(const T& pointer) {
  T::kBehind;
  pointer.get();
};

template <typename Pointer>
using Pointee = std::remove_pointer_t<decltype(std::declval<Pointer>().get())>;

// Gives `visit` what is worth a look.
template <typename Visit>
void Give(Visit& visit, const Memory& memory) {
  if (memory.data != nullptr && memory.size != 0) visit(memory);
}

// What `pointer` points to, `size` bytes of it.
template <typename Ptr, typename Visit>
void Bytes(Visit& visit, const Ptr& pointer, std::size_t size,
           bool counted_by_result = false) {
  Give(visit,
       {pointer.get(), size, Ptr::kAccess, Ptr::kUntil, counted_by_result});
}
template <typename Ptr, typename Visit>
void Elements(Visit& visit, const Ptr& pointer, std::size_t count) {
  Bytes(visit, pointer, count * sizeof(Pointee<Ptr>));
}
template <typename Ptr, typename Visit>
void String(Visit& visit, const Ptr& pointer) {
  if (pointer.get() != nullptr) {
    Bytes(visit, pointer, std::strlen(pointer.get()) + 1);
  }
}

// What is pointed to from memory, whose class is `region`.
template <typename Visit>
void Behind(Visit& visit, const Region& region, const void* data,
            std::size_t size, bool counted_by_result = false) {
  Give(visit, {data, size, region.access, region.until, counted_by_result});
}
template <typename Visit>
void BehindVectors(Visit& visit, Regions regions, const iovec* vectors,
                   std::size_t count) {
  for (const Region& region : regions) {
    for (std::size_t i = 0; i < count; ++i) {
      Behind(visit, region, vectors[i].iov_base, vectors[i].iov_len,
             /*counted_by_result=*/true);
    }
  }
}
template <typename Visit>
void BehindMessage(Visit& visit, Regions regions, const msghdr& message) {
  if (regions.empty()) return;
  const Region* const region = regions.begin();
  BehindVectors(visit, region[0].behind, message.msg_iov, message.msg_iovlen);
  Behind(visit, region[0], message.msg_iov, message.msg_iovlen * sizeof(iovec));
  Behind(visit, region[1], message.msg_name, message.msg_namelen);
  Behind(visit, region[2], message.msg_control, message.msg_controllen);
}

// The kernel only compares a futex word, and those who share it change it at
// any time. What has to stay is the address.
template <typename Visit>
void FutexWord(Visit& visit, Until until, const void* word) {
  Give(visit, {word, sizeof(std::uint32_t), Access::kAddress, until});
}

// By the name of a field: how many bytes it points to. A field is asked for
// after what is behind it, for `visit` may make it inaccessible.
inline constexpr std::tuple kFields(
    // Plain bytes.
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.buffer)> {
      Bytes(visit, op.buffer, op.length, /*counted_by_result=*/true);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.value)> {
      Bytes(visit, op.value, static_cast<std::size_t>(op.length),
            /*counted_by_result=*/true);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.buffers)> {
      Bytes(visit, op.buffers,
            static_cast<std::size_t>(op.length) *
                static_cast<std::size_t>(op.count));
    },

    // Strings.
    [](const auto& op, auto& visit)
        -> void requires Pointer<decltype(op.path)> { String(visit, op.path); },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.old_path)> {
      String(visit, op.old_path);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.new_path)> {
      String(visit, op.new_path);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.target)> {
      String(visit, op.target);
    },
    [](const auto& op, auto& visit)
        -> void requires Pointer<decltype(op.name)> { String(visit, op.name); },

    // One of its type.
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.result)> {
      Elements(visit, op.result, 1);
    },
    [](const auto& op, auto& visit) -> void requires Pointer<decltype(op.how)> {
      Elements(visit, op.how, 1);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.duration)> {
      Elements(visit, op.duration, 1);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.event)> {
      Elements(visit, op.event, 1);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.info)> {
      Elements(visit, op.info, 1);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.vector)> {
      Elements(visit, op.vector, 1);
    },

    // Several.
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.events)> {
      Elements(visit, op.events, static_cast<std::size_t>(op.max_events));
    },
    [](const auto& op, auto& visit) -> void requires Pointer<decltype(op.fds)> {
      if constexpr (requires { op.count; }) {
        Elements(visit, op.fds, op.count);
      } else {
        Elements(visit, op.fds, 2);
      }
    },

    // Addresses, and what is called so.
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.address)> {
      if constexpr (!requires { op.address_length; }) {
        Bytes(visit, op.address, static_cast<std::size_t>(op.length));
      } else if constexpr (Pointer<decltype(op.address_length)>) {
        if (op.address_length.get() != nullptr) {
          Bytes(visit, op.address, *op.address_length.get());
        }
      } else {
        Bytes(visit, op.address, op.address_length);
      }
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.address_length)> {
      Elements(visit, op.address_length, 1);
    },

    // What points further.
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.vectors)> {
      BehindVectors(visit, op.vectors.kBehind, op.vectors.get(), op.count);
      Elements(visit, op.vectors, op.count);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.message)> {
      BehindMessage(visit, op.message.kBehind, *op.message.get());
      Elements(visit, op.message, 1);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.protection)> {
      if (op.protection.get() == nullptr) return;
      const io_uring_attr_pi& information = *op.protection.get();
      Behind(visit, *op.protection.kBehind.begin(),
             // NOLINTNEXTLINE(performance-no-int-to-ptr): as the kernel does.
             reinterpret_cast<const void*>(information.addr), information.len);
      Elements(visit, op.protection, 1);
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.word)> {
      FutexWord(visit, op.word.kUntil, op.word.get());
    },
    [](const auto& op,
       auto& visit) -> void requires Pointer<decltype(op.futexes)> {
      for (std::size_t i = 0; i < op.count; ++i) {
        FutexWord(visit, op.futexes.kBehind.begin()->until,
                  reinterpret_cast<const void*>(op.futexes.get()[i].uaddr));
      }
      Elements(visit, op.futexes, op.count);
    },

    // By value; only the driver knows what in it is a pointer.
    [](const auto& op, auto&) -> void requires requires {
      op.payload.bytes;
    } {});

template <typename Op, typename Visit>
constexpr std::size_t CountFields() {
  return std::apply(
      []<typename... Fields>(const Fields&...) {
        return (std::size_t{0} + ... +
                std::size_t{std::is_invocable_v<Fields, const Op&, Visit&>});
      },
      kFields);
}

template <typename Op>
constexpr std::size_t CountMemory() {
  std::size_t count = 0;
  for (const Region& region : RegionsOf<Op>()) {
    if (region.access != Access::kHandle) ++count;
  }
  return count;
}

}  // namespace memory_internal

// Calls `visit` with each piece of memory that `op` refers to, in the order
// that the kernel fills them in. The op, and what it points to, are as they are
// pushed. Not visited are buffers of groups, which the operation does not name,
// and pointers in the payload of a UringCmd. `visit` may make what it is given
// inaccessible.
template <typename Op, typename Visit>
// NOLINTNEXTLINE(cppcoreguidelines-missing-std-forward): called many times.
void ForEachMemory(const Op& op, Visit&& visit) {
  using V = std::remove_reference_t<Visit>;
  static_assert(memory_internal::CountFields<Op, V>() ==
                    memory_internal::CountMemory<Op>(),
                "a field that memory.h does not know the size of");
  std::apply(
      [&]<typename... Fields>(const Fields&... fields) {
        const auto visit_field = [&]<typename Field>(const Field& field) {
          if constexpr (std::is_invocable_v<Field, const Op&, V&>) {
            field(op, visit);
          }
        };
        (visit_field(fields), ...);
      },
      memory_internal::kFields);
}

}  // namespace escrow::raw

#endif  // ESCROW_RAW_MEMORY_H_
