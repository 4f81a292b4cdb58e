// Programs on a driver: files and connections, whose operations are started,
// awaited, waited for and dropped in any order, as are the objects, with few
// permits.

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/examples/task.h"
#include "escrow/fuzz/check.h"
#include "escrow/fuzz/front_end.h"
#include "escrow/fuzz/input.h"
#include "escrow/fuzz/world.h"
#include "escrow/ownership/buffer.h"
#include "escrow/ownership/descriptor.h"
#include "escrow/ownership/socket_address.h"
#include "escrow/safe/driven_file.h"
#include "escrow/safe/driven_object.h"
#include "escrow/safe/driven_sockets.h"
#include "escrow/safe/driver.h"
#include "escrow/safe/path_ops.h"
#include "escrow/safe/result.h"
#include "escrow/safe/ring.h"
#include "escrow/safe/wait_ops.h"

namespace escrow::fuzz {
namespace {

using examples::Task;
using ownership::Buffer;
using ownership::Descriptor;
using safe::DrivenFile;
using safe::UnixListener;
using safe::UnixStream;

constexpr std::size_t kPieceBytes = 40;
constexpr std::size_t kMost = 12;  // of each thing

// Of a file any piece, of a connection what is sent there.
enum class Of : std::uint8_t { kFile, kStream };

class Program;

// An object, by a number.
template <typename T>
struct Numbered {
  unsigned number;
  T its;
};
constexpr unsigned kNoObject = 0;

// A submission of whatever outcome, and the object that it is for.
class Held {
 public:
  explicit Held(unsigned object) noexcept : object_(object) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  virtual ~Held() = default;

  unsigned object() const noexcept { return object_; }
  virtual bool done() const = 0;
  // Does nothing, once it is.
  virtual void Start(bool eager) = 0;
  virtual void Wait(Program& program) = 0;
  virtual Task Await(Program& program) = 0;
  // Whether Wait() returns, unless others keep all permits.
  virtual bool ends() const = 0;

 private:
  unsigned object_;
};

class Program {
 public:
  explicit Program(std::uint8_t kind) {
    auto ring = safe::Ring::Create({.entries = 2u << kind % 4});
    ESCROW_REQUIRE(ring.has_value());
    ring_.emplace(std::move(*ring));
    driver_.emplace(*ring_, /*permits=*/1 + kind % 3);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() = default;

  void Run(std::span<const Action> actions) {
    for (const Action& action : actions) Step(action);
    // In any order, but before the ring.
    const std::uint8_t how = actions.empty() ? 0 : actions.back().c;
    if ((how & 1) != 0) tasks_.clear();
    if ((how & 2) != 0) held_.clear();
    if ((how & 4) != 0) Dispatch();
    for (const auto& held : held_) {
      if (held->object() != kNoObject) held->Start(false);
    }
    files_.clear();
    streams_.clear();
    listener_.reset();
    tasks_.clear();
    if ((how & 8) == 0) {
      held_.clear();
      driver_.reset();
    }
    ring_.reset();
    // What is left of it is done, or was not begun.
    held_.clear();
  }

  // For Held.

  template <typename T>
  void Examine(safe::Result<T> result, Of of) {
    if (!result) {
      ESCROW_REQUIRE(result.error().value() > 0);
      return;
    }
    if constexpr (std::is_same_v<T, DrivenFile>) {
      if (files_.size() < kMost) files_.push_back(Number(std::move(*result)));
    } else if constexpr (std::is_same_v<T, UnixStream>) {
      if (streams_.size() < kMost) {
        streams_.push_back(Number(std::move(*result)));
      }
    } else if constexpr (std::is_same_v<T, UnixListener::Connection>) {
      Examine(safe::Result<UnixStream>(std::move(result->stream)), of);
    } else if constexpr (std::is_same_v<T, Descriptor>) {
      ESCROW_REQUIRE(result->valid() && result->alone());
    }
  }
  void Examine(safe::Transfer<Buffer> outcome, Of of) {
    ESCROW_REQUIRE(outcome.buffer.size() == kPieceBytes);
    if (!outcome.result) return;
    ESCROW_REQUIRE(*outcome.result <= kPieceBytes);
    if (of == Of::kStream) {
      RequireSent(outcome.buffer.data(), *outcome.result);
    } else {
      // Each byte of a file says which one is next.
      for (std::size_t i = 1; i < *outcome.result; ++i) {
        const auto before = static_cast<std::size_t>(outcome.buffer[i - 1]);
        ESCROW_REQUIRE(outcome.buffer[i] ==
                       static_cast<std::byte>((before + 6) % 251 + 1));
      }
    }
  }

 private:
  template <typename Outcome>
  class HeldSubmission final : public Held {
   public:
    HeldSubmission(safe::Submission<Outcome> submission, unsigned object, Of of,
                   bool ends)
        : Held(object),
          submission_(std::move(submission)),
          of_(of),
          ends_(ends) {}

    bool done() const override { return submission_.done(); }
    void Start(bool eager) override { submission_.Start(eager); }
    void Wait(Program& program) override {
      program.Examine(std::move(submission_).Wait(), of_);
    }
    Task Await(Program& program) override {
      return AwaitOne(program, std::move(submission_), of_);
    }
    bool ends() const override { return ends_; }

   private:
    static Task AwaitOne(Program& program, safe::Submission<Outcome> submission,
                         Of of) {
      auto outcome = co_await std::move(submission);
      program.Examine(std::move(outcome), of);
    }

    safe::Submission<Outcome> submission_;
    Of of_;
    bool ends_;
  };

  template <typename Outcome>
  void Keep(safe::Submission<Outcome> submission, unsigned object, Of of,
            bool ends) {
    if (held_.size() == kMost) return;
    held_.push_back(std::make_unique<HeldSubmission<Outcome>>(
        std::move(submission), object, of, ends));
  }

  // What is prepared for an object must not be started after its end, or that
  // of its Close().
  void StartAllOf(unsigned object) {
    for (const auto& held : held_) {
      if (held->object() == object) held->Start(false);
    }
  }

  template <typename T>
  void Erase(std::vector<Numbered<T>>& from, std::uint8_t which) {
    if (from.empty()) return;
    const auto found = from.begin() + which % from.size();
    StartAllOf(found->number);
    from.erase(found);
  }

  template <typename T>
  Numbered<T> Number(T its) {
    return {++numbers_, std::move(its)};
  }

  void Step(const Action& action) {
    switch (action.kind % 16) {
      case 0:
        Open(action.b);
        break;
      case 1:
      case 2:
        UseFile(action);
        break;
      case 3:
        Pair();
        break;
      case 4:
      case 5:
        UseStream(action);
        break;
      case 6:
        UseListener(action.b);
        break;
      case 7:
        Start(action);
        break;
      case 8:
        WaitForOne(action.a);
        break;
      case 9:
        if (auto held = Extract(action.a)) {
          if (tasks_.size() == kMost) break;
          tasks_.push_back(held->Await(*this));
        }
        break;
      case 10:
        (void)Extract(action.a);
        break;
      case 11:
        if (!tasks_.empty()) {
          std::swap(tasks_[action.a % tasks_.size()], tasks_.back());
          tasks_.pop_back();
        }
        break;
      case 12:
        Dispatch();
        break;
      case 13:
        Erase(files_, action.a);
        break;
      case 14:
        Erase(streams_, action.a);
        break;
      case 15:
        Keep(safe::Perform(*driver_,
                           [time = action.a] {
                             return safe::Timeout{
                                 .time = std::chrono::microseconds(time)};
                           }),
             kNoObject, Of::kFile, true);
        break;
    }
  }

  void Open(std::uint8_t how) {
    const char* const path = how % 4 == 3 ? "/nonexistent" : "/dev/null";
    if (how % 2 == 0) {
      if (files_.size() == kMost) return;
      files_.push_back(Number(DrivenFile::Adopt(*driver_, MakeFile())));
      return;
    }
    Keep(DrivenFile::Open(*driver_, path), kNoObject, Of::kFile, true);
  }

  void UseFile(const Action& action) {
    if (files_.empty()) return;
    const std::size_t index = action.a % files_.size();
    auto& [number, file] = files_[index];
    switch (action.b % 8) {
      case 0:
      case 1:
        Keep(file.Read(MakeBuffer(kPieceBytes)), number, Of::kFile, true);
        break;
      case 2:
        // From where the next ones are read, or never.
        Keep(file.Seek(safe::SeekFrom::kEnd, action.c), number, Of::kFile,
             true);
        break;
      case 3:
        Keep(file.Seek(action.c % 2 == 0 ? safe::SeekFrom::kStart
                                         : safe::SeekFrom::kCurrent,
                       action.c),
             number, Of::kFile, true);
        break;
      case 4:
        Keep(file.Sync(), number, Of::kFile, true);
        break;
      case 5:
        StartAllOf(number);
        Keep(file.Close(), number, Of::kFile, true);
        StartAllOf(number);
        files_.erase(files_.begin() + static_cast<std::ptrdiff_t>(index));
        break;
      case 6:
        StartAllOf(number);
        Keep(file.IntoDescriptor(), number, Of::kFile, true);
        StartAllOf(number);
        files_.erase(files_.begin() + static_cast<std::ptrdiff_t>(index));
        break;
      case 7: {
        DrivenFile elsewhere(std::move(file));
        file = std::move(elsewhere);
        break;
      }
    }
  }

  void Pair() {
    if (streams_.size() + 2 > kMost) return;
    auto pair = UnixStream::Pair(*driver_);
    ESCROW_REQUIRE(pair.has_value());
    streams_.push_back(Number(std::move(pair->first)));
    streams_.push_back(Number(std::move(pair->second)));
  }

  void UseStream(const Action& action) {
    if (streams_.empty()) return;
    const std::size_t index = action.a % streams_.size();
    auto& [number, stream] = streams_[index];
    switch (action.b % 8) {
      case 0:
      case 1:
        Keep(stream.Read(MakeBuffer(kPieceBytes)), number, Of::kStream, false);
        break;
      case 2:
      case 3:
        Keep(stream.Write(MakeBuffer(kPieceBytes, kSent)), number, Of::kStream,
             false);
        break;
      case 4:
        Keep(stream.Shutdown(action.c % 2 == 0 ? SHUT_WR : SHUT_RDWR), number,
             Of::kStream, false);
        break;
      case 5:
        StartAllOf(number);
        Keep(stream.Close(), number, Of::kStream, false);
        StartAllOf(number);
        streams_.erase(streams_.begin() + static_cast<std::ptrdiff_t>(index));
        break;
      case 6:
        StartAllOf(number);
        Keep(stream.IntoDescriptor(), number, Of::kStream, false);
        StartAllOf(number);
        streams_.erase(streams_.begin() + static_cast<std::ptrdiff_t>(index));
        break;
      case 7: {
        if (tasks_.size() == kMost) return;
        StartAllOf(number);
        tasks_.push_back(Buffered(std::move(stream)));
        streams_.erase(streams_.begin() + static_cast<std::ptrdiff_t>(index));
        break;
      }
    }
  }

  static Task Buffered(UnixStream stream) {
    safe::BufferedReader reader(stream, 16);
    for (;;) {
      auto filling = reader.Fill();
      const auto filled = co_await std::move(filling);
      if (!filled || *filled == 0) break;
      ESCROW_REQUIRE(*filled == reader.bytes().size());
      RequireSent(reader.bytes().data(), *filled);
      reader.Consume((*filled + 1) / 2);
    }
  }

  void UseListener(std::uint8_t how) {
    if (!listener_) {
      sockaddr family = {};
      family.sa_family = AF_UNIX;
      // Linux chooses an abstract name.
      const ownership::SocketAddress any(&family, sizeof(family.sa_family));
      auto bound = UnixListener::Bind(*driver_, any);
      ESCROW_REQUIRE(bound.has_value());
      listener_.emplace(Number(std::move(*bound)));
    }
    switch (how % 5) {
      case 0:
      case 1:
        Keep(UnixStream::Connect(*driver_, listener_->its.address()), kNoObject,
             Of::kStream, false);
        break;
      case 2:
        Keep(listener_->its.Accept(), listener_->number, Of::kStream, false);
        break;
      case 3:
        Keep(listener_->its.Incoming().Next(), listener_->number, Of::kStream,
             false);
        break;
      case 4:
        StartAllOf(listener_->number);
        Keep(listener_->its.Close(), listener_->number, Of::kStream, false);
        StartAllOf(listener_->number);
        listener_.reset();
        break;
    }
  }

  std::unique_ptr<Held> Extract(std::uint8_t which) {
    if (held_.empty()) return nullptr;
    const std::size_t index = which % held_.size();
    std::swap(held_[index], held_.back());
    auto held = std::move(held_.back());
    held_.pop_back();
    return held;
  }

  void Start(const Action& action) {
    if (held_.empty()) return;
    held_[action.a % held_.size()]->Start((action.b & 1) != 0);
  }

  // What others are in the way of may never end.
  void WaitForOne(std::uint8_t which) {
    bool all_end = tasks_.empty();
    for (const auto& held : held_) all_end = all_end && held->ends();
    const auto held = Extract(which);
    if (held != nullptr && (held->done() || (all_end && !endless_dropped_))) {
      held->Wait(*this);
    }
    endless_dropped_ = endless_dropped_ || (held != nullptr && !held->ends());
  }

  void Dispatch() {
    const auto ran = ring_->Dispatch(std::chrono::microseconds(1));
    ESCROW_REQUIRE(ran || IsRefusal(ran.error()));
  }

  std::optional<safe::Ring> ring_;
  std::optional<safe::LocalDriver> driver_;
  unsigned numbers_ = kNoObject;
  std::vector<Numbered<DrivenFile>> files_;
  std::vector<Numbered<UnixStream>> streams_;
  std::optional<Numbered<UnixListener>> listener_;
  std::vector<std::unique_ptr<Held>> held_;
  std::vector<Task> tasks_;
  bool endless_dropped_ = false;
};

}  // namespace
}  // namespace escrow::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  return escrow::fuzz::RunFrontEnd<escrow::fuzz::Program>(data, size);
}
