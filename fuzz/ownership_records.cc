// Records, shares, pieces of registered memory and leases: in whatever order
// they are taken and given back, everything is ended once, and nobody has what
// somebody else has.
//
// No ring is involved: the kernel of the buffer ledger is a queue in here.

#include <fcntl.h>
#include <liburing/io_uring.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "escrow/fuzz/check.h"
#include "escrow/fuzz/input.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/record.h"
#include "escrow/ownership/record_pool.h"
#include "escrow/ownership/registered_buffer.h"

namespace {

using escrow::fuzz::Action;
using namespace escrow::ownership;  // NOLINT: all of it is what is tested

const std::error_category& AnyCategory() noexcept {
  return std::generic_category();
}

template <typename T>
std::optional<T> Extract(std::vector<T>& items, std::uint8_t which) {
  if (items.empty()) return std::nullopt;
  std::swap(items[which % items.size()], items.back());
  std::optional<T> last(std::move(items.back()));
  items.pop_back();
  return last;
}

// Counts those that are alive.
class Counted {
 public:
  explicit Counted(int& alive) noexcept : alive_(&alive) { ++alive; }
  Counted(Counted&& other) noexcept : alive_(other.alive_) { ++*alive_; }
  Counted& operator=(Counted&&) = delete;
  ~Counted() { --*alive_; }

 private:
  int* alive_;
};

// Records.

template <std::size_t kBytes>
struct Content {
  Counted counted;
  int* discarded;
  std::array<std::byte, kBytes> bytes = {};

  int Take(const RawResult& result) && noexcept { return result.value; }
  void Discard(const RawResult&) noexcept { ++*discarded; }
};
using Small = Content<16>;
using Large = Content<1024>;  // not inside of the record

class Records {
 public:
  explicit Records(Descriptor& file) : file_(&file) {}
  ~Records() {
    for (const Used& used : used_) End(used, /*take=*/false);
    ESCROW_REQUIRE(alive_ == 0);
    ESCROW_REQUIRE(beside_ == 0);
  }
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;

  void Step(const Action& action) {
    switch (action.b % 5) {
      case 0:
      case 1:
        Acquire(action);
        break;
      case 2:
        if (const auto used = Extract(used_, action.a)) {
          End(*used, (action.c & 1) != 0);
          dead_.push_back(used->user_data);
        }
        break;
      case 3:
        if (!used_.empty()) {
          const Used& used = used_[action.a % used_.size()];
          ESCROW_REQUIRE(pool_.Find(used.user_data) == used.record);
        }
        break;
      case 4:
        if (!dead_.empty()) {
          ESCROW_REQUIRE(pool_.Find(dead_[action.a % dead_.size()]) == nullptr);
        }
        break;
    }
    ESCROW_REQUIRE(alive_ == static_cast<int>(used_.size()));
  }

 private:
  struct Used {
    Record* record;
    std::uint64_t user_data;
    bool large;
    Counted* beside;
  };

  void Acquire(const Action& action) {
    if (used_.size() >= 100) return;
    Record& record = pool_.Acquire();
    Used used = {&record, record.user_data(), (action.c & 1) != 0, nullptr};
    ESCROW_REQUIRE((used.user_data & Record::kUserDataBit) != 0);
    for (const Used& other : used_) ESCROW_REQUIRE(other.record != &record);
    record.stage = Record::Stage::kQueued;
    if (used.large) {
      record.Emplace<Large>(Counted(alive_), &discarded_);
    } else {
      record.Emplace<Small>(Counted(alive_), &discarded_);
    }
    if ((action.c & 2) != 0) {
      used.beside = record.EmplaceBeside(Counted(beside_));
    }
    if ((action.c & 4) != 0 && file_->valid()) record.Hold(file_->Share());
    if ((action.c & 8) != 0 && file_->valid()) record.HoldAlso(file_->Share());
    used_.push_back(used);
  }

  void End(const Used& used, bool take) {
    Record& record = *used.record;
    ESCROW_REQUIRE(record.user_data() == used.user_data);
    record.stage = Record::Stage::kDone;
    record.result = {.value = 7, .flags = 0, .category = &AnyCategory};
    record.file.Release();
    record.other_file.Release();
    if (used.beside != nullptr) record.DestroyBeside(used.beside);
    const int before = discarded_;
    if (take) {
      ESCROW_REQUIRE(record.Holds<Large>() == used.large);
      ESCROW_REQUIRE(record.Take<int>() == 7);
    } else {
      record.content_type->discard(record);
    }
    ESCROW_REQUIRE(discarded_ == before + (take ? 0 : 1));
    pool_.Release(record);
  }

  Descriptor* file_;
  RecordPool pool_;
  int alive_ = 0;
  int beside_ = 0;
  int discarded_ = 0;
  std::vector<Used> used_;
  std::vector<std::uint64_t> dead_;
};

// Shares.

class Files {
 public:
  Files() { Open(); }
  ~Files() {
    shares_.clear();
    file_ = Descriptor();
    ESCROW_REQUIRE(IsClosed());
  }
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

  Descriptor& file() { return file_; }

  void Step(const Action& action) {
    switch (action.b % 6) {
      case 0:
        if (file_.valid() && shares_.size() < 16) {
          shares_.push_back(file_.Share());
        }
        break;
      case 1:
        if (!shares_.empty() && shares_.size() < 16) {
          shares_.push_back(DescriptorShare(shares_.front()));
        }
        break;
      case 2:
        (void)Extract(shares_, action.a);
        break;
      case 3:
        if (auto share = Extract(shares_, action.a)) {
          if (!share->ReleaseLightly()) share->Release();
          ESCROW_REQUIRE(!share->valid());
        }
        break;
      case 4:
        if (!shares_.empty()) {
          ESCROW_REQUIRE(shares_.front().number() == number_);
        }
        break;
      case 5:
        file_ = Descriptor(std::move(file_));
        break;
    }
    ESCROW_REQUIRE(!IsClosed());
    if (shares_.empty()) return;
    ESCROW_REQUIRE(!file_.valid() || shares_.front().number() == number_);
  }

 private:
  void Open() {
    number_ = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 60);
    ESCROW_REQUIRE(number_ >= 60);
    file_ = Descriptor::Adopt(number_);
  }
  bool IsClosed() const { return ::fcntl(number_, F_GETFD) < 0; }

  int number_ = -1;
  Descriptor file_;
  std::vector<DescriptorShare> shares_;
};

// Pieces.

class Pieces {
 public:
  Pieces() {
    auto made = BufferStore::Make(kCount, kSize, 64);
    ESCROW_REQUIRE(made.has_value());
    store_ = *made;
  }
  ~Pieces() {
    if (store_ != nullptr) store_->EndUse();
  }
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;

  void Step(const Action& action) {
    if (action.b % 8 == 7 && store_ != nullptr) {
      // The pieces stay.
      std::exchange(store_, nullptr)->EndUse();
    } else if ((action.b & 1) != 0) {
      if (auto piece = Extract(pieces_, action.a)) Look(*piece);
    } else if (store_ != nullptr) {
      auto buffer = store_->Take();
      ESCROW_REQUIRE(buffer.has_value() == (pieces_.size() < kCount));
      if (!buffer.has_value()) return;
      ESCROW_REQUIRE(buffer->size() == kSize);
      const auto tag = static_cast<std::byte>(++tags_);
      std::memset(buffer->data(), tags_, buffer->size());
      pieces_.push_back({std::move(*buffer), tag});
    }
    if (store_ != nullptr) {
      ESCROW_REQUIRE(store_->available() == kCount - pieces_.size());
    }
  }

 private:
  static constexpr std::size_t kCount = 4;
  static constexpr std::size_t kSize = 40;
  struct Piece {
    RegisteredBuffer buffer;
    std::byte tag;
  };

  static void Look(const Piece& piece) {
    for (std::size_t i = 0; i < piece.buffer.size(); ++i) {
      ESCROW_REQUIRE(piece.buffer[i] == piece.tag);
    }
  }

  BufferStore* store_;
  std::uint8_t tags_ = 0;
  std::vector<Piece> pieces_;
};

// Leases.

// A group whose kernel does what it is told.
class Group final : public BufferLedger {
 public:
  static Group* Make(const Options& options, bool& ended) {
    auto memory = Allocate(options);
    ESCROW_REQUIRE(memory.has_value());
    auto* const group = new Group(std::move(*memory), options, ended);
    group->Open(group->records_);
    return group;
  }

  void EndRegistration() { Close(); }

  // Writes `size` bytes, at most as there is room for, as recv(2) would, and
  // says what the completion is.
  RawResult Receive(std::size_t size, bool bundle, std::byte value) {
    RawResult result = {-ENOBUFS, 0, &AnyCategory};
    if (given_.empty()) return result;
    const std::uint16_t first = given_.front().id;
    std::int32_t received = 0;
    bool keeps = false;
    while (size > 0 && !given_.empty()) {
      Given& buffer = given_.front();
      const std::size_t part =
          std::min<std::size_t>(size, buffer.size - buffer.used);
      // Nobody else's.
      for (std::size_t i = 0; i < part; ++i) {
        buffer.data[buffer.used + i] = value;
      }
      buffer.used += static_cast<std::uint32_t>(part);
      received += static_cast<std::int32_t>(part);
      size -= part;
      keeps = incremental() && buffer.used < buffer.size;
      if (!keeps) given_.pop_front();
      if (!bundle) break;
    }
    result.value = received;
    result.flags = IORING_CQE_F_BUFFER | unsigned{first}
                                             << IORING_CQE_BUFFER_SHIFT;
    if (keeps) result.flags |= IORING_CQE_F_BUF_MORE;
    return result;
  }

  // An operation that fails although it had chosen a buffer.
  RawResult Fail() {
    RawResult result = {-ECONNRESET, 0, &AnyCategory};
    if (given_.empty()) return result;
    result.flags = IORING_CQE_F_BUFFER | unsigned{given_.front().id}
                                             << IORING_CQE_BUFFER_SHIFT;
    if (incremental()) {
      result.flags |= IORING_CQE_F_BUF_MORE;
    } else {
      given_.pop_front();
    }
    return result;
  }

  std::size_t given() const { return given_.size(); }

 private:
  struct Given {
    std::byte* data;
    std::uint32_t size;
    std::uint16_t id;
    std::uint32_t used = 0;
  };

  Group(Memory memory, const Options& options, bool& ended)
      : BufferLedger(std::move(memory), options), ended_(&ended) {
    Use();
  }
  ~Group() { *ended_ = true; }

  void Publish(std::byte* data, std::uint32_t size,
               std::uint16_t id) noexcept override {
    for (const Given& other : given_) ESCROW_REQUIRE(other.id != id);
    auto* const slots = reinterpret_cast<io_uring_buf*>(entries());
    slots[tail_++ & (entry_count() - 1)].len = size;
    given_.push_back({data, size, id});
  }
  void Unused() noexcept override { delete this; }

  bool* ended_;
  RecordPool records_;
  std::uint16_t tail_ = 0;
  std::deque<Given> given_;
};

class Leases {
 public:
  explicit Leases(const Action& action)
      : options_{.count = 1 + action.a % 5u,
                 .size = 8,
                 .incremental = (action.c & 1) != 0},
        group_(Group::Make(options_, ended_)) {}
  ~Leases() {
    while (!bundles_.empty()) bundles_.pop_back();
    while (!leases_.empty()) Look(*Extract(leases_, 0));
    if (group_ != nullptr) {
      if (open_) ESCROW_REQUIRE(group_->available() == options_.count);
      group_->EndUse();
    }
    ESCROW_REQUIRE(ended_);
  }
  Leases(const Leases&) = delete;
  Leases& operator=(const Leases&) = delete;

  void Step(const Action& action) {
    switch (action.b % 8) {
      case 0:
      case 1:
        Receive(action, (action.b & 1) != 0);
        break;
      case 2:
        if (auto lease = Extract(leases_, action.a)) Look(*lease);
        break;
      case 3:
        if (auto bundle = Extract(bundles_, action.a)) {
          // Some of it; the rest is dropped.
          for (int i = action.c % 4; i > 0 && !bundle->leases.empty(); --i) {
            Keep(bundle->leases.Next(), bundle->tag);
          }
        }
        break;
      case 4:
        if (group_ != nullptr && open_) {
          const RawResult failed = group_->Fail();
          ESCROW_REQUIRE(!group_->Arrive(failed, false).any);
        }
        break;
      case 5:
        if (group_ != nullptr && open_ && group_->available() == 0) {
          BufferWaiter waiter;
          waiter.callback = [](void* told) { ++*static_cast<int*>(told); };
          waiter.context = &told_;
          group_->WhenAvailable(waiter);
          // Withdrawn with it.
        }
        break;
      case 6:
        if (group_ != nullptr && action.c == 7) {
          open_ = false;
          group_->EndRegistration();
        }
        break;
      case 7:
        if (group_ != nullptr && action.c == 7) {
          group_->EndUse();
          group_ = nullptr;
        }
        break;
    }
    if (group_ != nullptr && open_) {
      ESCROW_REQUIRE(group_->available() == group_->given());
      ESCROW_REQUIRE(group_->available() <= options_.count);
    }
  }

 private:
  struct Tagged {
    Lease lease;
    std::byte tag;
  };
  struct TaggedBundle {
    LeaseBundle leases;
    std::byte tag;
  };

  void Receive(const Action& action, bool bundle) {
    if (group_ == nullptr || !open_) return;
    const auto tag = static_cast<std::byte>(++tags_);
    const std::size_t size = 1 + action.a % 20u;
    const RawResult result = group_->Receive(size, bundle, tag);
    const Arrival arrival = group_->Arrive(result, bundle);
    if (!arrival.any) return;
    if (bundle) {
      bundles_.push_back({group_->MakeBundle(arrival), tag});
      ESCROW_REQUIRE(bundles_.back().leases.size() ==
                     static_cast<std::size_t>(result.value));
    } else {
      Keep(group_->MakeLease(arrival), tag);
    }
  }

  void Keep(Lease lease, std::byte tag) {
    leases_.push_back({std::move(lease), tag});
    Look(leases_.back());
  }

  static void Look(const Tagged& tagged) {
    for (std::size_t i = 0; i < tagged.lease.size(); ++i) {
      ESCROW_REQUIRE(tagged.lease[i] == tagged.tag);
    }
  }

  BufferLedger::Options options_;
  bool ended_ = false;
  bool open_ = true;
  int told_ = 0;
  std::uint8_t tags_ = 0;
  Group* group_;
  std::vector<Tagged> leases_;
  std::vector<TaggedBundle> bundles_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const escrow::fuzz::Input input(data, size);
  Files files;
  Records records(files.file());
  Pieces pieces;
  Leases leases(input.actions().empty() ? Action() : input.actions().front());
  for (const Action& action : input.actions()) {
    switch (action.kind % 5) {
      case 0:
        records.Step(action);
        break;
      case 1:
        files.Step(action);
        break;
      case 2:
        pieces.Step(action);
        break;
      default:
        leases.Step(action);
    }
  }
  return 0;
}
