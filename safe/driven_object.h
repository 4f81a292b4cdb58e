#ifndef ESCROW_SAFE_DRIVEN_OBJECT_H_
#define ESCROW_SAFE_DRIVEN_OBJECT_H_

#include <coroutine>
#include <cstddef>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/result.h"

// What files (driven_file.h) and sockets (driven_sockets.h) on a driver have in
// common:
//
// The descriptor is in the thread of the driver's ring, where the operations of
// an object are performed one after the other, in the order in which they are
// started. One that is of another kind than those before it (a write after a
// read) has these cancelled, and waits until they are over; all have their
// outcomes. Close() does the same, and reports what comes of close(2). No other
// use is made of an object after that, and none that is prepared before is
// started, which is checked.
//
// Destroying an object cancels its operations, and closes the descriptor when
// they are over; by close(2) in the ring's thread. None that is prepared before
// is started after that, not even a Close(), which is checked.

namespace escrow::safe {

namespace internal {

class DrivenObject {
 public:
  DrivenObject(std::shared_ptr<DriverBase> driver, ownership::Descriptor file);
  DrivenObject(DrivenObject&&) noexcept = default;
  DrivenObject& operator=(DrivenObject&& other) noexcept {
    DrivenObject taken(std::move(other));
    std::swap(driver_, taken.driver_);
    std::swap(state_, taken.state_);
    std::swap(closed_, taken.closed_);
    return *this;
  }
  ~DrivenObject();

  using Kind = SubmissionState::Kind;

  // `make_work` is called with the DrivenState, to refer to.
  template <typename MakeWork>
  auto Submit(Kind kind, const MakeWork& make_work) {
    ESCROW_CHECK(state_ != nullptr && !closed_,
                 "use of a file or socket after its Close()");
    closed_ = kind == Kind::kClose;
    return internal::Submit(driver_, kind, state_, make_work(*state_));
  }
  // The same of a function that makes an op of the Descriptor.
  template <typename MakeOp>
  auto SubmitOp(Kind kind, MakeOp make_op) {
    return Submit(kind, [&](DrivenState& state) {
      auto make = [&state, make_op = std::move(make_op)]() mutable {
        return make_op(state.file);
      };
      return Single<decltype(make)>{std::move(make)};
    });
  }

  Submission<Result<void>> Close();
  Submission<Result<ownership::Descriptor>> IntoDescriptor();

  const std::shared_ptr<DriverBase>& driver() const noexcept { return driver_; }

 private:
  std::shared_ptr<DriverBase> driver_;
  std::shared_ptr<DrivenState> state_;
  bool closed_ = false;
};

}  // namespace internal

// Reads by pieces of `capacity` bytes, and hands out what is there:
//
//   safe::BufferedReader reader(stream);
//   while (reader.Fill().Wait().value_or(0) > 0) {
//     const auto line = ...(reader.bytes());
//     reader.Consume(line.size());
//   }
//
// `F` has a Read(Buffer), whose outcome is a Transfer<Buffer>. It stays where
// it is, and may be used otherwise meanwhile, too.
template <typename F>
class BufferedReader {
 public:
  explicit BufferedReader(F& file, std::size_t capacity = 8192) noexcept
      : file_(&file), capacity_(capacity) {
    ESCROW_CHECK(capacity > 0, "a BufferedReader without room");
  }
  BufferedReader(const BufferedReader&) = delete;
  BufferedReader& operator=(const BufferedReader&) = delete;
  ~BufferedReader() = default;

  // What is read and not consumed. Valid until the next Fill().
  std::span<const std::byte> bytes() const noexcept {
    return {buffer_.data() + begin_, end_ - begin_};
  }

  // Takes the first `count` bytes away, of which there are so many.
  void Consume(std::size_t count) noexcept {
    ESCROW_CHECK(count <= end_ - begin_, "more consumed than there is");
    begin_ += count;
  }

  // Reads, if nothing is there. What it is awaited or waited for is how much
  // there is, 0 at the end of the file. One at a time, which must not be
  // dropped after the reader. If it is dropped in flight, what it reads is
  // lost, as with every read.
  class [[nodiscard]] Filling;
  Filling Fill();

 private:
  using Read = Submission<Transfer<ownership::Buffer>>;

  Result<std::size_t> Take(Transfer<ownership::Buffer> outcome) {
    ESCROW_CHECK(begin_ == end_, "a BufferedReader is filled twice at once");
    buffer_ = std::move(outcome.buffer);
    begin_ = 0;
    end_ = outcome.result.value_or(0);
    return outcome.result;
  }

  F* file_;
  std::size_t capacity_;
  ownership::Buffer buffer_;  // empty while it is filled
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

template <typename F>
class BufferedReader<F>::Filling {
 public:
  Result<std::size_t> Wait() && {
    if (!read_.has_value()) return ready_;
    return reader_->Take(std::move(*read_).Wait());
  }

  auto operator co_await() && {
    struct Awaiter {
      using Inner = decltype(std::declval<Read>().operator co_await());
      BufferedReader* reader;
      Result<std::size_t> ready;
      std::optional<Inner> inner;

      bool await_ready() const noexcept {
        return !inner.has_value() || inner->await_ready();
      }
      bool await_suspend(std::coroutine_handle<> waiter) {
        return inner->await_suspend(waiter);
      }
      Result<std::size_t> await_resume() {
        if (!inner.has_value()) return ready;
        return reader->Take(inner->await_resume());
      }
    };
    Awaiter awaiter{reader_, ready_, std::nullopt};
    if (read_.has_value()) {
      awaiter.inner.emplace(std::move(*read_).operator co_await());
    }
    return awaiter;
  }

 private:
  friend class BufferedReader;

  BufferedReader* reader_;
  Result<std::size_t> ready_;
  std::optional<Read> read_;

  Filling(BufferedReader* reader, Result<std::size_t> ready,
          std::optional<Read> read)
      : reader_(reader), ready_(ready), read_(std::move(read)) {}
};

template <typename F>
auto BufferedReader<F>::Fill() -> Filling {
  if (begin_ != end_) return Filling(this, end_ - begin_, std::nullopt);
  begin_ = end_ = 0;
  if (buffer_.capacity() == 0) {
    auto made = ownership::Buffer::Allocate(capacity_);
    if (!made) {
      return Filling(this, std::unexpected(made.error()), std::nullopt);
    }
    buffer_ = std::move(*made);
  }
  return Filling(this, 0, file_->Read(std::move(buffer_)));
}

}  // namespace escrow::safe

#endif  // ESCROW_SAFE_DRIVEN_OBJECT_H_
