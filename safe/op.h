#ifndef ESCROW_SAFE_OP_H_
#define ESCROW_SAFE_OP_H_

#include <concepts>
#include <cstddef>
#include <expected>
#include <system_error>
#include <type_traits>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/record.h"
#include "escrow/safe/result.h"

// What an operation is before it is started: an aggregate that owns, or shares,
// all that the operation will use.
//
//   auto renamed = ring.Start(safe::Rename{.from = "new", .to = "current"});
//
// In a coroutine that has to be a statement of its own: in one expression with
// the co_await, g++ 12 destroys what is written in braces twice.
//
//   auto rename = ring.Start(safe::Rename{.from = "new", .to = "current"});
//   auto renamed = co_await std::move(rename);
//
// Ring::Start() moves it into the operation's record, where it stays until the
// kernel is done, and calls its
//
//   void Start(ownership::Record& record);
//
// there, which writes the entry that points into it. The other half says what
// comes of the kernel's result:
//
//   using Outcome = ...;                        // what the user gets
//   Outcome Take(const ownership::RawResult&) &&;
//   void Discard(const ownership::RawResult&) noexcept;
//
// One of the two is called, once; Discard() frees what the result owns when
// nobody takes it. Both can be left out if Outcome is a Result<void>, a
// Result<std::size_t> (the result itself), or a Result<Descriptor>.
//
// If there is a
//
//   void StartBehind(ownership::Record& record,
//                    std::span<ownership::Record* const> before);
//
// it is called instead of Start() in a chain, with the members before it. If
// there is a
//
//   bool Arrive(const ownership::RawResult&, bool last) noexcept;
//
// it is called as the completion is taken in, in the order of the completion
// queue, which may not be that in which outcomes are asked for. It returns
// false, and must not use the ring.

namespace escrow::safe {

// The file that an operation is on: a share in a Descriptor or in a FixedFile
// of the ring's, which cannot be left out of an op.
class File {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): reads `.file = log`.
  File(const ownership::Descriptor& file) noexcept : share_(file.Share()) {}
  // NOLINTNEXTLINE(google-explicit-constructor): reads `.file = log`.
  File(const ownership::FixedFile& file) noexcept : share_(file.Share()) {}

  // The number, and whether it is that of a FixedFile's slot.
  int number() const noexcept { return share_.number(); }
  bool is_slot() const noexcept { return share_.is_slot(); }

  // For the record to hold, until the operation is done.
  ownership::DescriptorShare Take() && noexcept { return std::move(share_); }

  // Likewise, for an operation that is started several times.
  ownership::DescriptorShare Share() const noexcept { return share_; }

 private:
  ownership::DescriptorShare share_;
};

// The directory that a relative path starts from: the working directory by the
// time of the operation, or that of a Descriptor.
class Directory {
 public:
  Directory() noexcept = default;
  // NOLINTNEXTLINE(google-explicit-constructor): reads `.directory = home`.
  Directory(const ownership::Descriptor& directory) noexcept
      : share_(directory.Share()) {}

  ownership::DescriptorShare Take() && noexcept { return std::move(share_); }

 private:
  ownership::DescriptorShare share_;
};

// Where the kernel puts something while it executes an op. Nothing to be given.
template <typename T>
struct KernelRoom {
  explicit constexpr KernelRoom() noexcept = default;

  T value = {};
};

namespace internal {

// Fails with the error that `result` is. Apart, for the call in it makes its
// callers save registers.
[[nodiscard, gnu::cold]] std::unexpected<std::error_code> Failure(
    const ownership::RawResult& result);

template <typename Outcome>
struct UsualOutcome;

template <>
struct UsualOutcome<Result<void>> {
  static Result<void> Take(const ownership::RawResult& result) {
    if (!result.ok()) [[unlikely]] {
      return Failure(result);
    }
    return {};
  }
  static void Discard(const ownership::RawResult&) noexcept {}
};

template <>
struct UsualOutcome<Result<std::size_t>> {
  static Result<std::size_t> Take(const ownership::RawResult& result) {
    if (!result.ok()) [[unlikely]] {
      return Failure(result);
    }
    return static_cast<std::size_t>(result.value);
  }
  static void Discard(const ownership::RawResult&) noexcept {}
};

template <>
struct UsualOutcome<Result<ownership::Descriptor>> {
  static Result<ownership::Descriptor> Take(
      const ownership::RawResult& result) {
    if (!result.ok()) return Failure(result);
    return ownership::Descriptor::Adopt(result.value);
  }
  static void Discard(const ownership::RawResult& result) noexcept {
    if (result.ok()) (void)ownership::Descriptor::Adopt(result.value);
  }
};

// The outcome of an op that owns `buffer`.
template <typename B>
Transfer<B> TakeTransfer(const ownership::RawResult& result, B& buffer) {
  return {UsualOutcome<Result<std::size_t>>::Take(result), std::move(buffer)};
}

// What most operations with an outcome own.
template <typename Outcome>
struct UsualContent;

template <>
struct UsualContent<Result<void>> {
  Result<void> Take(const ownership::RawResult& result) && noexcept {
    return UsualOutcome<Result<void>>::Take(result);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

template <typename B>
struct UsualContent<Transfer<B>> {
  B buffer;

  Transfer<B> Take(const ownership::RawResult& result) && noexcept {
    return TakeTransfer(result, buffer);
  }
  void Discard(const ownership::RawResult&) noexcept {}
};

// An op as the content of a record.
template <typename Op>
struct OpContent {
  using Outcome = typename Op::Outcome;

  Op op;

  bool Arrive(const ownership::RawResult& result,
              bool last) noexcept requires requires {
    op.Arrive(result, last);
  }
  { return op.Arrive(result, last); }

  Outcome Take(const ownership::RawResult& result) && {
    if constexpr (requires { std::move(op).Take(result); }) {
      return std::move(op).Take(result);
    } else {
      return UsualOutcome<Outcome>::Take(result);
    }
  }
  void Discard(const ownership::RawResult& result) noexcept {
    if constexpr (requires { op.Discard(result); }) {
      op.Discard(result);
    } else {
      UsualOutcome<Outcome>::Discard(result);
    }
  }
};

// An op in two stages.
template <typename Op>
requires requires { typename Op::Second; }
struct OpContent<Op> {
  using Outcome = typename Op::Outcome;
  using Second = typename Op::Second;

  Op op;

  Outcome Take(const ownership::RawResult& result, ownership::Record& record) {
    return op.Take(result, record);
  }
  Second TakeSecond() && { return std::move(op).TakeSecond(); }
  void Discard(const ownership::RawResult&) noexcept {}
};

}  // namespace internal

// What Ring::Start() takes.
template <typename T>
concept Op = std::move_constructible<T> && !std::is_reference_v<T> &&
             requires(T op, ownership::Record& record) {
  typename T::Outcome;
  { op.Start(record) } -> std::same_as<void>;
};

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_OP_H_
