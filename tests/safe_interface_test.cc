// What a target that lists only //:safe can and cannot say. Nearly all of it is
// decided by the compiler; the test has only to be built.

#include <gtest/gtest.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/mapping.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/pinned.h"
#include "escrow/ownership/registered_buffer.h"
#include "escrow/ownership/shared.h"
#include "escrow/safe/message_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/socket_ops.h"
#include "escrow/safe/vector_ops.h"
#include "escrow/safe/zero_copy_ops.h"

// Raw headers are out of reach, and so is what hands out raw rings.
#if __has_include("escrow/raw/ring.h") ||                        \
                  __has_include(                                 \
                      "escrow/raw/ops.h") ||                     \
                      __has_include(                             \
                          "escrow/raw/contract.h") ||            \
                          __has_include(                         \
                              "escrow/raw/error.h") ||           \
                              __has_include(                     \
                                  "escrow/safe/raw_access.h") || \
                                  __has_include("escrow/safe/engine.h")
#error "//:safe gives away what has to be opted into"
#endif
#if !__has_include("escrow/safe/ring.h")
#error "the checks above look in the wrong place"
#endif

namespace escrow::safe {
namespace {

using ownership::Descriptor;

template <typename B>
concept CanRead = requires(Ring& ring, const Descriptor& file, B buffer) {
  ring.Read(file, std::forward<B>(buffer), 0);
};
template <typename B>
concept CanWrite = requires(Ring& ring, const Descriptor& file, B buffer) {
  ring.Write(file, std::forward<B>(buffer), 0);
};

// Memory that somebody else owns is no buffer.
static_assert(!CanRead<std::span<std::byte>>);
static_assert(!CanRead<std::span<char>>);
static_assert(!CanRead<std::string_view>);
static_assert(!CanRead<char*>);
static_assert(!CanRead<void*>);
static_assert(!CanRead<std::unique_ptr<char[]>>);
static_assert(!CanWrite<std::span<const std::byte>>);
static_assert(!CanWrite<std::string_view>);
static_assert(!CanWrite<const char*>);
static_assert(!CanWrite<const char (&)[4]>);
static_assert(!CanWrite<void*>);

// Memory that is handed over is. (A copy is handed over of what stays.)
static_assert(CanRead<std::string> && CanWrite<std::string>);
static_assert(CanRead<std::vector<int>> && CanWrite<std::vector<int>>);
static_assert(CanRead<std::array<char, 3>> && CanWrite<std::array<char, 3>>);
static_assert(CanRead<ownership::Buffer> && CanWrite<ownership::Buffer>);
static_assert(!CanRead<ownership::Buffer&>, "it cannot be copied");
static_assert(!CanRead<ownership::StaticBytes>, "it is read-only");
static_assert(CanWrite<ownership::StaticBytes>);

// What is shared, or also the program's, is for reading only.
static_assert(!CanRead<ownership::Shared<std::string>>);
static_assert(CanWrite<ownership::Shared<std::string>>);
static_assert(!CanRead<ownership::Pinned<const std::string>>);
static_assert(CanRead<ownership::Pinned<std::string>>);
static_assert(!CanRead<ownership::Pinnable<std::string>&>, "it stays");

// Nor do several buffers, messages or ops take what somebody else owns.
static_assert(!ReadableBuffers<std::vector<std::string_view>>);
static_assert(!WritableBuffers<std::vector<iovec>>);
static_assert(!WritableBuffers<std::array<std::span<std::byte>, 2>>);
static_assert(!ReadableMessage<std::string_view>);
static_assert(!ReadableMessage<std::vector<std::span<const std::byte>>>);
static_assert(!ReadableMessage<std::tuple<std::string, std::string_view>>);
static_assert(!WritableMessage<std::vector<ownership::StaticBytes>>);
template <template <typename> typename OpOf, typename B>
concept Describes = requires {
  typename OpOf<B>;
};
static_assert(!Describes<Send, std::string_view> &&
              !Describes<SendZeroCopy, std::string_view> &&
              !Describes<Receive, std::span<std::byte>> &&
              !Describes<Receive, ownership::StaticBytes>);
static_assert(
    !Describes<SendMessageZeroCopy, std::string_view> &&
    !Describes<SendMessageZeroCopy, std::vector<std::span<const std::byte>>>);
static_assert(Describes<Send, std::string> &&
              Describes<SendZeroCopy, std::string> &&
              Describes<SendMessageZeroCopy, std::string> &&
              Describes<Receive, std::string>);

// What is lent has one owner at a time.
static_assert(!std::is_copy_constructible_v<ownership::Buffer>);
static_assert(!std::is_copy_constructible_v<ownership::RegisteredBuffer>);
static_assert(!std::is_copy_constructible_v<ownership::Lease>);
static_assert(!std::is_copy_constructible_v<ownership::Mapping>);
static_assert(!std::is_copy_constructible_v<Descriptor>);
static_assert(!std::is_copy_constructible_v<ownership::FixedFile>);
static_assert(!std::is_move_constructible_v<ownership::Pinnable<std::string>>);

// A file is a Descriptor, not a number.
template <typename F>
concept IsFile = requires(Ring& ring, F file) {
  ring.Read(file, std::string(), 0);
};
static_assert(IsFile<Descriptor&> && !IsFile<int>);

// A path is a string that the operation owns.
static_assert(std::is_same_v<decltype(std::declval<Ring&>().Open("x", 0)),
                             Operation<Result<Descriptor>>>);

// Outcomes are had once: the handle has to be given away.
using Read = Operation<Transfer<std::string>>;
static_assert(!std::is_copy_constructible_v<Read>);
static_assert(std::is_nothrow_move_constructible_v<Read>);
template <typename T>
concept CanTakeLvalue = requires(T& operation) {
  operation.Take();
};
template <typename T>
concept CanThenLvalue = requires(T& operation) {
  operation.Then([](auto...) {});
};
template <typename T>
concept CanAwaitLvalue = requires(T& operation) {
  operation.operator co_await();
};
static_assert(!CanTakeLvalue<Read> && !CanThenLvalue<Read> &&
              !CanAwaitLvalue<Read>);
template <typename T>
concept CanWaitLvalue = requires(Ring& ring, T& operation) {
  ring.Wait(operation);
};
static_assert(!CanWaitLvalue<Read>);

static_assert(!std::is_copy_constructible_v<Ring>);
static_assert(std::is_nothrow_move_constructible_v<Ring>);

// A handle costs what a pointer costs.
static_assert(sizeof(Read) == sizeof(void*));

TEST(SafeInterface, Compiles) {
  auto ring = Ring::Create();
  ASSERT_TRUE(ring) << ring.error().message();
  EXPECT_TRUE(ring->Wait(ring->Nop()));
}

}  // namespace
}  // namespace escrow::safe
