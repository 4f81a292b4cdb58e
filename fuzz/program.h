#ifndef ESCROW_FUZZ_PROGRAM_H_
#define ESCROW_FUZZ_PROGRAM_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/examples/task.h"
#include "escrow/fuzz/check.h"
#include "escrow/fuzz/input.h"
#include "escrow/fuzz/world.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/fixed_file.h"
#include "escrow/ownership/lease.h"
#include "escrow/ownership/memory.h"
#include "escrow/ownership/pinned.h"
#include "escrow/ownership/registered_buffer.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/buffer_group.h"
#include "escrow/safe/buffer_pool.h"
#include "escrow/safe/file_table.h"
#include "escrow/safe/message_ops.h"
#include "escrow/safe/message_stream_ops.h"
#include "escrow/safe/operation.h"
#include "escrow/safe/remote.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/stream.h"
#include "escrow/safe/zero_copy_ops.h"

// Arbitrary programs on the safe layer: whatever compiles. An action starts an
// operation, or does something to one that was started, to its ring, or to what
// it works on. Whatever the program does, and whatever the kernel does, the
// simulator has nothing to report, every byte is what it should be, and all
// comes back in the end.

namespace escrow::fuzz {

// Steps that belong together. Every program has those of kCommon.
enum Family : unsigned {
  kCommon = 1,  // handles, and the ring
  kFiles = 2,
  kSockets = 4,
  kGroups = 8,
  kStreams = 16,
  kZeroCopy = 32,
  kChains = 64,
  kDeadlines = 128,
  kTables = 256,
  kCoroutines = 512,
  kTeardown = 1024,    // of the ring, and of all that belongs to it
  kEverything = 2047,  // of these
  kSystem = 2048,      // what has a system call of its own
};

// Runs the program that `data` is, of steps of `families`.
void RunProgram(const std::uint8_t* data, std::size_t size, unsigned families);

inline constexpr std::size_t kPieceBytes = 64;  // of a buffer, at most

// What an operation should have brought.
struct Expected {
  enum class Bytes : std::uint8_t { kAny, kOfFile, kAsSent };

  Bytes bytes = Bytes::kAny;
  std::size_t offset = 0;  // in the file
  // Whether it ends, whatever else does or does not happen.
  bool ends = true;
  // Whether it ends when it is cancelled. What waits its turn does not.
  bool cancellable = true;
};

class Program;

// The handle of something that was started.
class Held {
 public:
  explicit Held(unsigned ring) noexcept : ring_(ring) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  virtual ~Held() = default;

  // The program's ring when it was started, by number.
  unsigned ring() const noexcept { return ring_; }

  virtual bool done() const noexcept = 0;
  // Requires done().
  virtual void Take(Program& program) = 0;
  // These require that the ring is there. Wait() does nothing if that may take
  // for ever.
  virtual void Wait(Program&, bool) {}
  virtual void CancelAndWait(Program&) {}
  virtual void Cancel(Program&) {}
  virtual void Continue(Program&, std::uint8_t) {}
  virtual void Await(Program&) {}
  virtual void Detach() {}
  virtual void Update(Program&, std::uint8_t) {}

 private:
  unsigned ring_;
};

class Program {
 public:
  explicit Program(unsigned ring_kind);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() = default;

  void Run(std::span<const Action> actions, unsigned families);

  // For steps.

  using Step = void (*)(Program& program, const Action& action);
  struct StepOf {
    Family family;
    Step step;
  };

  safe::Ring& ring() { return *ring_; }
  unsigned ring_number() const noexcept { return ring_number_; }

  safe::StartOptions Options(const Action& action) const {
    safe::StartOptions options = {.async = (action.c & 1) != 0};
    if ((families_ & kDeadlines) != 0 && (action.c & 2) != 0) {
      options.deadline = std::chrono::microseconds(1 + action.c);
    }
    return options;
  }

  // Keeps a handle, or drops it if there are enough.
  void Keep(std::unique_ptr<Held> held);
  template <typename Outcome>
  void Keep(safe::Operation<Outcome> operation, Expected expected = {});
  template <typename Item>
  void Keep(safe::Stream<Item> stream);
  void Keep(examples::Task task);
  template <typename... Outcomes>
  void Keep(std::tuple<safe::Operation<Outcomes>...> operations,
            Expected expected = {}) {
    const auto keep = [&](auto& operation) {
      Keep(std::move(operation), expected);
      // The kernel does not find those that are behind it.
      expected.cancellable = false;
    };
    std::apply([&](auto&... each) { (keep(each), ...); }, operations);
  }
  // Starts what is kept, as `action` says.
  template <typename Op>
  void Start(Op op, const Action& action, Expected expected = {}) {
    Keep(ring().Start(std::move(op), Options(action)), expected);
  }
  std::unique_ptr<Held> Extract(std::uint8_t which);
  std::size_t held() const noexcept { return held_.size(); }
  void DropOne() {
    if (!held_.empty()) held_.pop_back();
  }

  // Looks at an outcome, and takes what is in it.
  template <typename T>
  void Examine(safe::Result<T> result, const Expected& expected);
  template <typename B, typename T>
  void Examine(safe::Transfer<B, T> outcome, const Expected& expected);
  template <typename B>
  void Examine(safe::ZeroCopySent<B> outcome, const Expected& expected);
  template <ownership::Readable B>
  void Examine(B buffer, const Expected& expected);
  template <typename T>
  void Examine(safe::OutgoingMessage<T> message, const Expected& expected) {
    Examine(std::move(message.bytes), expected);
  }
  void Keep(ownership::Lease lease);
  void Keep(ownership::LeaseBundle bundle) {
    while (!bundle.empty()) Keep(bundle.Next());
  }
  void Keep(ownership::FixedFile file);

  // Calls `use` with a buffer, of zeros, of whatever type.
  template <typename Use>
  void WithBuffer(std::uint8_t kind, const Use& use);
  ownership::Buffer NewBuffer(std::size_t size = kPieceBytes,
                              std::byte value = std::byte{0}) {
    return MakeBuffer(size, value);
  }

  // What programs work on. Made when it is asked for.
  const ownership::Descriptor& file() { return File(); }
  const ownership::Descriptor& scratch() { return Scratch(); }
  const Ends& pipe();                        // read from `here`
  const Ends& stream();                      // both ends of a connection
  const ownership::Descriptor& datagrams();  // to itself, over IP
  const ownership::Descriptor& listener();
  const ownership::SocketAddress& listener_address();
  void ConnectToListener();

  safe::BufferGroup& group(bool incremental);
  safe::BufferPool* pool();  // null where the ring cannot have one (any more)
  safe::FileTable* table();
  std::vector<ownership::FixedFile>& fixed_files() { return fixed_files_; }
  std::optional<ownership::Lease> TakeLease();
  ownership::Pinnable<std::array<char, 32>>& pinned() { return pinned_; }

  // Notifications and messages that belong to no operation, at most.
  void ExpectUnknown(unsigned count = 1) { unknown_ += count; }

  // Ends the ring, with whatever is in flight, and makes another one.
  void Restart(std::uint8_t how);
  void Drain();

 private:
  void MakeRing(unsigned kind);
  void EndRing(std::uint8_t how);
  void DropRegistered();
  void Check();

  unsigned families_ = 0;
  unsigned ring_number_ = 0;
  unsigned unknown_ = 0;
  ownership::Pinnable<std::array<char, 32>> pinned_;
  std::optional<safe::Ring> ring_;
  std::optional<safe::BufferGroup> groups_[2];
  std::optional<safe::BufferPool> pool_;
  std::optional<safe::FileTable> table_;
  std::vector<ownership::FixedFile> fixed_files_;
  struct Tagged {
    ownership::Lease lease;
    std::byte tag;
  };
  std::vector<Tagged> leases_;
  std::uint8_t tags_ = 0;
  Ends pipe_;
  Ends stream_;
  ownership::Descriptor datagrams_;
  ownership::Descriptor listener_;
  ownership::SocketAddress listener_address_;
  std::vector<std::unique_ptr<Held>> held_;
};

inline constexpr std::size_t kGroupBuffers = 4;
inline constexpr std::size_t kPoolBuffers = 3;

// The steps of families.
std::span<const Program::StepOf> CommonSteps();
std::span<const Program::StepOf> FileSteps();
std::span<const Program::StepOf> SocketSteps();
std::span<const Program::StepOf> GroupSteps();
std::span<const Program::StepOf> ChainSteps();
std::span<const Program::StepOf> SystemSteps();
std::span<const Program::StepOf> ValueSteps();

// Out of where it is, and back.
template <typename T>
void MoveAbout(T& value) {
  T elsewhere(std::move(value));
  value = std::move(elsewhere);
}

// The handles.

template <typename Outcome>
examples::Task AwaitOne(Program& program, safe::Operation<Outcome> operation,
                        Expected expected) {
  program.Examine(co_await std::move(operation), expected);
}

template <typename Outcome>
class HeldOperation final : public Held {
 public:
  HeldOperation(unsigned ring, safe::Operation<Outcome> operation,
                const Expected& expected) noexcept
      : Held(ring), operation_(std::move(operation)), expected_(expected) {}

  bool done() const noexcept override { return operation_.done(); }
  void Take(Program& program) override {
    program.Examine(std::move(operation_).Take(), expected_);
  }
  void Wait(Program& program, bool at_most) override {
    if (at_most) {
      if (!program.ring().WaitAtMost(std::chrono::microseconds(5),
                                     operation_)) {
        return;
      }
      ESCROW_REQUIRE(operation_.done());
    } else if (!expected_.ends) {
      return;
    }
    program.Examine(program.ring().Wait(std::move(operation_)), expected_);
  }
  void CancelAndWait(Program& program) override {
    if (!expected_.cancellable) return;
    program.Examine(program.ring().CancelAndWait(std::move(operation_)),
                    expected_);
  }
  void Cancel(Program& program) override {
    auto cancel = program.ring().Cancel(operation_);
    program.Keep(std::move(cancel));
  }
  void Continue(Program& program, std::uint8_t how) override {
    std::move(operation_)
        .Then([&program, expected = expected_, how](auto... parts) {
          program.Examine(Outcome{std::move(parts)...}, expected);
          // It may do all this while the ring dispatches.
          if ((how & 1) != 0) program.Keep(program.ring().Nop());
          if ((how & 2) != 0) program.DropOne();
          if ((how & 4) != 0) (void)program.ring().Wait(program.ring().Nop());
          if ((how & 8) != 0) {
            program.ring().Nop().Then([](safe::Result<void>) {});
          }
        });
  }
  void Await(Program& program) override {
    program.Keep(AwaitOne(program, std::move(operation_), expected_));
  }
  void Detach() override { std::move(operation_).Detach(); }
  void Update(Program& program, std::uint8_t how) override;

 private:
  safe::Operation<Outcome> operation_;
  Expected expected_;
};

template <typename Outcome>
void HeldOperation<Outcome>::Update(Program&, std::uint8_t) {}
// Of what may be a timeout, or a poll.
template <>
void HeldOperation<safe::Result<void>>::Update(Program& program,
                                               std::uint8_t how);
template <>
void HeldOperation<safe::Result<std::uint32_t>>::Update(Program& program,
                                                        std::uint8_t how);

template <typename Item>
examples::Task AwaitItems(Program& program, safe::Stream<Item> stream) {
  while (auto item = co_await stream.Next()) {
    const bool failed = !item->has_value();
    program.Examine(std::move(*item), Expected());
    if (failed) break;
  }
}

template <typename Item>
class HeldStream final : public Held {
 public:
  HeldStream(unsigned ring, safe::Stream<Item> stream) noexcept
      : Held(ring), stream_(std::move(stream)) {}

  bool done() const noexcept override { return stream_.ready(); }
  void Take(Program& program) override {
    while (stream_.ready()) {
      auto item = stream_.Take();
      if (!item.has_value()) return;
      program.Examine(std::move(*item), Expected());
    }
  }
  void Wait(Program& program, bool) override {
    stream_.Arm();
    Take(program);
  }
  void Cancel(Program& program) override {
    auto cancel = program.ring().Cancel(stream_);
    program.Keep(std::move(cancel));
  }
  void Continue(Program& program, std::uint8_t how) override {
    unsigned left = how % 8;
    std::move(stream_).ForEach(
        [&program, left, how](auto item) mutable -> bool {
          if (!item.has_value()) return false;
          program.Examine(std::move(*item), Expected());
          if ((how & 8) != 0) program.Keep(program.ring().Nop());
          if ((how & 16) != 0) program.DropOne();
          return left-- > 0;
        });
  }
  void Await(Program& program) override {
    program.Keep(AwaitItems(program, std::move(stream_)));
  }

 private:
  safe::Stream<Item> stream_;
};

class HeldTask final : public Held {
 public:
  HeldTask(unsigned ring, examples::Task task) noexcept
      : Held(ring), task_(std::move(task)) {}

  bool done() const noexcept override { return task_.done(); }
  void Take(Program&) override {}

 private:
  examples::Task task_;
};

template <typename Outcome>
void Program::Keep(safe::Operation<Outcome> operation, Expected expected) {
  Keep(std::make_unique<HeldOperation<Outcome>>(
      ring_number_, std::move(operation), expected));
}
template <typename Item>
void Program::Keep(safe::Stream<Item> stream) {
  Keep(std::make_unique<HeldStream<Item>>(ring_number_, std::move(stream)));
}

// The outcomes.

template <typename T>
void Program::Examine(safe::Result<T> result, const Expected&) {
  if (!result) {
    ESCROW_REQUIRE(result.error().value() > 0);
    return;
  }
  if constexpr (std::is_same_v<T, ownership::Lease> ||
                std::is_same_v<T, ownership::LeaseBundle>) {
    Keep(std::move(*result));
  } else if constexpr (std::is_same_v<T, safe::LeasedMessage>) {
    RequireSent(result->data(), result->size());
    Keep(std::move(result->bytes).whole());
  } else if constexpr (std::is_same_v<T, ownership::FixedFile>) {
    Keep(std::move(*result));
  }
}

template <typename B, typename T>
void Program::Examine(safe::Transfer<B, T> outcome, const Expected& expected) {
  if (!outcome.result) ESCROW_REQUIRE(outcome.result.error().value() > 0);
  if constexpr (ownership::Readable<B>) {
    using Memory = ownership::OwnedMemory<B>;
    const std::size_t size = Memory::Size(outcome.buffer);
    if constexpr (!std::is_void_v<T>) {
      if (outcome.result) {
        const std::size_t moved = *outcome.result;
        ESCROW_REQUIRE(moved <= size);
        const auto* const data =
            static_cast<const std::byte*>(Memory::Data(outcome.buffer));
        if (expected.bytes == Expected::Bytes::kOfFile) {
          RequireOfFile(data, moved, expected.offset);
        } else if (expected.bytes == Expected::Bytes::kAsSent) {
          RequireSent(data, moved);
        }
      }
    }
    Examine(std::move(outcome.buffer), expected);
  }
}

template <typename B>
void Program::Examine(safe::ZeroCopySent<B> outcome, const Expected& expected) {
  if (!outcome.result) ESCROW_REQUIRE(outcome.result.error().value() > 0);
  if (outcome.buffer.done()) {
    // Of a ring that is gone, maybe.
    Examine(std::move(outcome.buffer).Take(), expected);
    return;
  }
  Keep(std::move(outcome.buffer), expected);
}

// It is the program's again, all of it.
template <ownership::Readable B>
void Program::Examine(B buffer, const Expected&) {
  using Memory = ownership::OwnedMemory<B>;
  if constexpr (ownership::Writable<B>) {
    if (Memory::Size(buffer) > 0) {
      std::memset(Memory::Data(buffer), 0xee, Memory::Size(buffer));
    }
  }
}

template <typename Use>
void Program::WithBuffer(std::uint8_t kind, const Use& use) {
  switch (kind % 8) {
    case 0:
      use(NewBuffer());
      break;
    case 1:
      use(std::vector<char>(kPieceBytes));
      break;
    case 2:
      use(std::array<char, 48>());
      break;
    case 3:
      use(std::string(kind < 128 ? 40 : 7, '\0'));
      break;
    case 4:
      use(ownership::Array<char>(std::make_unique<char[]>(32), 32));
      break;
    case 5:
      use(ownership::Slice<ownership::Buffer>(NewBuffer(), 8, 40));
      break;
    case 6:
      if (safe::BufferPool* const from = pool()) {
        if (auto piece = from->Take()) {
          std::memset(piece->data(), 0, piece->size());
          use(std::move(*piece));
          break;
        }
      }
      use(NewBuffer());
      break;
    case 7:
      if (pinned_.pinned()) {
        use(std::vector<char>());
      } else {
        pinned_.Edit().fill(0);
        use(pinned_.Pin());
      }
      break;
  }
}

}  // namespace escrow::fuzz

#endif  // ESCROW_FUZZ_PROGRAM_H_
