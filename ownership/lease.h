#ifndef ESCROW_OWNERSHIP_LEASE_H_
#define ESCROW_OWNERSHIP_LEASE_H_

#include <boost/intrusive/link_mode.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/list_hook.hpp>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/ownership/buffer.h"
#include "escrow/ownership/check.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/record.h"

namespace escrow::ownership {

class Lease;
class LeaseBundle;

// What a completion brought: bytes in one buffer of a group, or from there on
// in those that follow. To be made a Lease or a LeaseBundle of, once.
struct Arrival {
  std::uint32_t offset = 0;  // in the first buffer
  std::uint32_t length = 0;  // bytes
  std::uint16_t id = 0;      // of the first buffer
  bool any = false;          // if not, there is nothing to give back either
};

// Somebody who is to be told when the kernel is given a buffer. Whose end
// withdraws that.
struct BufferWaiter {
  // Called in the middle of a ring's work; may not use a ring.
  void (*callback)(void* context) = nullptr;
  void* context = nullptr;

  boost::intrusive::list_member_hook<
      boost::intrusive::link_mode<boost::intrusive::auto_unlink>>
      hook = {};
};

// The buffers of a group, and who has which byte of them: the kernel, which
// chooses among those that it was given, or leases. A buffer goes back to the
// kernel when the kernel has said that it is done with it and its last lease is
// gone. With incremental consumption several leases are in one buffer, each
// behind the one before, in the order in which the completions came.
//
// Lives as long as anybody uses it: whoever made it, operations that may take
// from it, and leases. Belongs to the thread of its ring.
class BufferLedger {
 public:
  struct Options {
    std::size_t count = 0;  // of buffers; 2^15 at most
    std::size_t size = 0;   // of each, in bytes; below 2^31
    bool incremental = false;
  };

  BufferLedger(const BufferLedger&) = delete;
  BufferLedger& operator=(const BufferLedger&) = delete;

  // The records of the operations that may take from it; null when they cannot
  // any more.
  const RecordPool* pool() const noexcept { return pool_; }
  bool incremental() const noexcept { return incremental_; }

  // To be called for each completion of an operation on the group, in the order
  // of the completion queue, with an error or without. `bundle` if it may be
  // about several buffers.
  Arrival Arrive(const RawResult& result, bool bundle) noexcept;

  // Empty ones if nothing arrived.
  Lease MakeLease(const Arrival& arrival) noexcept;
  LeaseBundle MakeBundle(const Arrival& arrival) noexcept;

  // How many buffers the kernel has, if only the rest of one.
  std::size_t available() const noexcept { return available_; }

  // Has `waiter` told when the kernel is given a buffer, once. Requires that it
  // has none, and that operations may take from this.
  void WhenAvailable(BufferWaiter& waiter) noexcept;

  void Use() noexcept { ++users_; }
  void EndUse() noexcept {
    if (--users_ == 0) Unused();
  }

 protected:
  // The memory for `options.count` buffers and for the ring of their entries.
  struct Memory {
    Buffer buffers;
    Buffer entries;
  };
  static std::expected<Memory, std::error_code> Allocate(
      const Options& options);

  // Gives the kernel nothing yet.
  BufferLedger(Memory memory, const Options& options);
  ~BufferLedger() = default;

  // Gives the kernel all buffers. From here on operations of `pool` may take
  // them.
  void Open(const RecordPool& pool) noexcept;
  // The group is not registered any more.
  void Close() noexcept { pool_ = nullptr; }

  // A power of two.
  std::uint32_t entry_count() const noexcept {
    return static_cast<std::uint32_t>(order_.size());
  }
  std::byte* entries() noexcept { return memory_.entries.data(); }

  // Adds a buffer to the kernel's ring.
  virtual void Publish(std::byte* data, std::uint32_t size,
                       std::uint16_t id) noexcept = 0;
  // The last user is gone: ends this.
  virtual void Unused() noexcept = 0;

 private:
  friend class Lease;
  friend class LeaseBundle;

  struct State {
    std::uint32_t used = 0;      // bytes, from the start
    std::uint32_t leases = 0;    // in it
    std::uint16_t position = 0;  // in the ring of entries
    std::uint16_t next = 0;      // the buffer in which a bundle goes on
    bool kernels = false;        // the kernel has it
  };

  std::byte* DataOf(std::uint16_t id) noexcept {
    return memory_.buffers.data() + id * stride_;
  }
  // Bytes of the buffer that the kernel may fill.
  std::uint32_t LengthOf(const State& state) const noexcept;
  void GiveToKernel(std::uint16_t id) noexcept;
  void TellWaiters() noexcept;
  void TakeFromKernel(State& state) noexcept {
    state.kernels = false;
    --available_;
  }
  void EndLease(std::uint16_t id) noexcept {
    State& state = states_[id];
    if (--state.leases == 0 && !state.kernels) GiveToKernel(id);
    EndUse();
  }

  Memory memory_;
  std::size_t stride_;
  std::uint32_t size_;
  bool incremental_;
  std::vector<State> states_;         // by id
  std::vector<std::uint16_t> order_;  // ids, by position
  std::uint16_t tail_ = 0;            // the next position
  std::size_t available_ = 0;
  std::size_t users_ = 0;
  const RecordPool* pool_ = nullptr;
  boost::intrusive::list<
      BufferWaiter,
      boost::intrusive::member_hook<BufferWaiter, decltype(BufferWaiter::hook),
                                    &BufferWaiter::hook>,
      boost::intrusive::constant_time_size<false>>
      waiters_;
};

// One use of a BufferLedger.
class LedgerShare {
 public:
  explicit LedgerShare(BufferLedger& ledger) noexcept : ledger_(&ledger) {
    ledger_->Use();
  }
  LedgerShare(const LedgerShare& other) noexcept : ledger_(other.ledger_) {
    if (ledger_ != nullptr) ledger_->Use();
  }
  LedgerShare(LedgerShare&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)) {}
  LedgerShare& operator=(LedgerShare other) noexcept {
    std::swap(ledger_, other.ledger_);
    return *this;
  }
  ~LedgerShare() {
    if (ledger_ != nullptr) ledger_->EndUse();
  }

  // Not of one that was moved from.
  bool valid() const noexcept { return ledger_ != nullptr; }
  BufferLedger& operator*() const noexcept { return *ledger_; }
  BufferLedger* operator->() const noexcept { return ledger_; }

 private:
  BufferLedger* ledger_;
};

// Bytes that the kernel put into a buffer of a group. They are this lease's
// until it is destroyed, to be read, changed, and given to operations, also
// after the group and the ring are gone.
//
// Movable, not copyable; a moved-from lease is empty. Belongs to the thread of
// its group.
class Lease {
 public:
  // No bytes.
  Lease() noexcept = default;

  Lease(Lease&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        id_(other.id_) {}
  Lease& operator=(Lease&& other) noexcept {
    Lease taken(std::move(other));
    std::swap(ledger_, taken.ledger_);
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    std::swap(id_, taken.id_);
    return *this;
  }
  ~Lease() {
    if (ledger_ != nullptr) ledger_->EndLease(id_);
  }

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  std::byte& operator[](std::size_t index) noexcept { return data_[index]; }
  const std::byte& operator[](std::size_t index) const noexcept {
    return data_[index];
  }

 private:
  friend class BufferLedger;
  friend class LeaseBundle;

  Lease(BufferLedger& ledger, std::uint16_t id, std::byte* data,
        std::uint32_t size) noexcept
      : ledger_(&ledger), data_(data), size_(size), id_(id) {
    ledger.Use();
  }

  BufferLedger* ledger_ = nullptr;
  std::byte* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint16_t id_ = 0;
};

// Bytes that the kernel put into several buffers of a group at once: leases, in
// the order of the bytes.
//
//   while (!bundle.empty()) Use(bundle.Next());
//
// Those that are not taken end with it. Movable, not copyable; a moved-from
// bundle is empty.
class LeaseBundle {
 public:
  LeaseBundle() noexcept = default;

  LeaseBundle(LeaseBundle&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)), rest_(other.rest_) {}
  LeaseBundle& operator=(LeaseBundle&& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(rest_, other.rest_);
    return *this;
  }
  ~LeaseBundle() {
    while (!empty()) (void)Next();
  }

  // Bytes that are left.
  std::size_t size() const noexcept {
    return ledger_ == nullptr ? 0 : rest_.length;
  }
  bool empty() const noexcept { return ledger_ == nullptr; }

  // Takes the first lease out. Requires !empty().
  Lease Next() noexcept;

 private:
  friend class BufferLedger;

  LeaseBundle(BufferLedger& ledger, const Arrival& arrival) noexcept
      : ledger_(&ledger), rest_(arrival) {
    ledger.Use();
  }

  BufferLedger* ledger_ = nullptr;  // null when nothing is left
  Arrival rest_;
};

template <>
struct OwnedMemory<Lease> {
  static std::byte* Data(Lease& value) noexcept { return value.data(); }
  static std::size_t Size(const Lease& value) noexcept { return value.size(); }
};

}  // namespace escrow::ownership

#endif  // ESCROW_OWNERSHIP_LEASE_H_
