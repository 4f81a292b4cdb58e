#ifndef ESCROW_TESTS_CONFORMANCE_STAGE_H_
#define ESCROW_TESTS_CONFORMANCE_STAGE_H_

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"

// One request, held back while what it refers to is taken away.
//
// The request is linked behind a read of an empty pipe: the gate. Once the
// kernel has consumed both entries, one of the regions of the request is
// revoked; then a byte is written to the pipe, and the completions say whether
// the kernel missed the region.
//
// A script sets up one operation: it puts each region that it names into pages
// of its own, opens what the operation needs, and says which completions come
// when nothing is revoked. It is run anew for every region and moment.

namespace escrow::testing {

// When a region is revoked.
enum class Moment {
  kNever,
  kSubmitted,        // the entry is consumed, the gate is closed
  kFirstCompletion,  // the first one, with IORING_CQE_F_MORE, was read
  kEnd,              // the terminal one was read
};

struct Target {
  std::string region;  // as Row::region
  Moment moment = Moment::kNever;
  // Puts the file that is the region into a slot of the ring's file table,
  // instead of using its descriptor.
  bool slot = false;
};

struct Report {
  // Each completion, then what was observed: "5+ notified | hello". See
  // Stage::Run().
  std::string outcome;
  std::string untouched;  // what it is when nothing is revoked
  // The region was revoked, and the kernel stored into it later.
  bool written = false;
  // What was observed is not what is observed when nothing is revoked.
  bool observed_otherwise = false;
  bool more = false;      // the first completion had IORING_CQE_F_MORE
  bool notified = false;  // one had IORING_CQE_F_NOTIF
  // Why the script could not be run here; empty if it was.
  std::string unavailable;
  // What went wrong apart from the outcome; empty if nothing.
  std::string trouble;
};

class Stage {
 public:
  Stage(raw::Ring& ring, const Target& target);
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  // Cancels what is in flight and waits for it, then releases everything.
  ~Stage();

  // Regions, by their names in the contract. "a/b" is region b behind a. All
  // that they return lives as long as the stage.

  // Zeroed pages. Revoked, they are overwritten and then made inaccessible.
  void* Memory(std::string_view region, std::size_t size);
  // As Memory(); the kernel may use it for other requests, too, so that it is
  // also revoked at the end of this one.
  void* SharedMemory(std::string_view region, std::size_t size);
  // As Memory(). Revoked, there are other pages in its place, for whoever uses
  // the address.
  void* Range(std::string_view region, std::size_t size);
  // As Memory(), with a copy of `value` at its start.
  template <typename T>
  T* Value(std::string_view region, const T& value = T()) {
    return static_cast<T*>(
        std::memcpy(Memory(region, sizeof(T)), &value, sizeof(T)));
  }
  // As Memory(), with `text` and a NUL.
  char* Text(std::string_view region, std::string_view text);

  // Takes `descriptor`. Revoked, its number is that of another file, which
  // nothing can be done with.
  int Descriptor(std::string_view region, int descriptor);
  // As Descriptor(), or a slot, which is emptied when it is revoked.
  raw::Fd File(std::string_view region, int descriptor);
  // As File(), for a request that closes it. Revoked, it is closed already.
  raw::Fd FileToClose(std::string_view region, int descriptor);
  // A slot of the file table with a duplicate of `descriptor`. Revoked, it is
  // empty.
  raw::FixedFile Slot(std::string_view region, int descriptor);
  // Something else; revoked by a call of `revoke`.
  void Handle(std::string_view region, std::function<void()> revoke);
  // A free slot to put a file into. Revoked, the ring has no file table.
  raw::FixedFile EmptySlot(std::string_view region);
  // Registers `memory` as buffer `kBufferIndex`, which is region
  // "buffer_index". Revoked, other memory has that index.
  std::uint16_t RegisterBuffer(void* memory, std::size_t size);
  // A group of kGroupBuffers buffers of `size` bytes, filled with `content`,
  // which is regions "group" and "group/buffers of the group". Revoked, another
  // group has its number, with identities from kOtherBuffers on.
  std::uint16_t Group(std::size_t size, std::string_view content = "");
  // Gives it another one. Once only.
  void AddToGroup();

  static constexpr std::uint16_t kBufferIndex = 1;
  static constexpr std::uint16_t kGroup = 7;
  static constexpr unsigned kGroupBuffers = 6;
  static constexpr std::uint16_t kOtherBuffers = 64;

  // Whatever else an operation needs.

  // As Memory(), of no region.
  void* Scratch(std::size_t size) { return MapPages(size).user; }
  template <typename T>
  T* ScratchValue(const T& value) {
    return static_cast<T*>(std::memcpy(Scratch(sizeof(T)), &value, sizeof(T)));
  }
  // Registers group kGroup, in the place of the one there is, with
  // kGroupBuffers buffers of `size` bytes, and room for one more in `memory`.
  void RegisterGroup(void* memory, std::size_t size, std::uint16_t first_id);
  // Closes `descriptor` at the end. Fails the process if it is negative.
  int Own(int descriptor);
  // Closes it already.
  void Close(int descriptor);
  // Calls `call` at the end, before anything is closed.
  void AtEnd(std::function<void()> call);
  // The path of an empty directory that is removed at the end, but for
  // directories in it.
  const std::string& Directory();
  // Registers an empty file table, if there is none yet.
  void FileTable();
  raw::Ring& ring() { return ring_; }
  // The result of one operation, performed now.
  template <typename Op>
  int Do(const Op& op) {
    return DoPrepared([op](io_uring_sqe* sqe) { op.Prepare(sqe); });
  }
  // Puts an operation in flight that is there before the request, and not part
  // of the outcome. Returns its user_data.
  template <typename Op>
  std::uint64_t Start(const Op& op) {
    return StartPrepared([op](io_uring_sqe* sqe) { op.Prepare(sqe); });
  }

  // The request, and its completions when nothing is revoked: results, as
  // "-EFAULT" when negative, with "#2" behind them for a selected buffer and
  // "+" for IORING_CQE_F_MORE; "notified" for IORING_CQE_F_NOTIF.
  template <typename Op>
  void Run(const Op& op, std::string_view untouched) {
    op_ = [op](io_uring_sqe* sqe) { op.Prepare(sqe); };
    untouched_ = untouched;
  }
  // Changes its entry after it was prepared.
  void Patch(std::function<void(io_uring_sqe*)> patch) { patch_ = patch; }

  // Results that are not negative are printed as "some", ...
  void CountsVary() { counts_vary_ = true; }
  // ... or are descriptors, printed as "file" and closed.
  void ResultsAreFiles() { results_are_files_ = true; }
  // Puts `op` between the gate and the request, linked to both.
  template <typename Op>
  void LinkBefore(const Op& op) {
    before_ = [op](io_uring_sqe* sqe) { op.Prepare(sqe); };
  }
  // Calls `call` after the first completion, with its result.
  void OnFirst(std::function<void(int)> call) { on_first_ = call; }
  // Calls `call` again and again until the request completes.
  void UntilComplete(std::function<void()> call) { until_complete_ = call; }
  // Cancels a multishot request after so many completions.
  void CancelAfter(int completions) { cancel_after_ = completions; }
  // Afterwards calls `prepare`, and performs `op` with no gate, whose
  // completions are part of the outcome, too.
  template <typename Op>
  void Then(std::function<void()> prepare, const Op& op) {
    prepare_then_ = prepare;
    then_ = [op](io_uring_sqe* sqe) { op.Prepare(sqe); };
  }
  // Observes `call()` in the end, which is `untouched` when nothing is revoked.
  void Observe(std::string_view untouched, std::function<std::string()> call);
  // What is at `memory`, which Memory() returned, even if it is revoked.
  const void* Peek(const void* memory) const;
  // Whether it was revoked.
  bool revoked(std::string_view region) const {
    return revoked_ && target_.region == region;
  }
  // Gives up: the environment lacks something that is named.
  void Unavailable(std::string_view reason) { unavailable_ = reason; }

  // For who runs the script.

  Report Perform();
  // The names of the regions that the script has named, of those that it has
  // put into File(), and of those in SharedMemory().
  const std::set<std::string>& regions() const { return regions_; }
  const std::set<std::string>& files() const { return files_; }
  const std::set<std::string>& shared() const { return shared_; }

 private:
  using Prepare = std::function<void(io_uring_sqe*)>;

  struct Pages {
    std::byte* user;   // as the kernel is told; may be inaccessible
    std::byte* other;  // the same pages at another address
    std::size_t size;
    bool revoked = false;
  };
  struct BufferRing {
    io_uring_buf_ring* ring = nullptr;
    std::byte* memory = nullptr;
    std::size_t size = 0;  // of a buffer
    std::uint16_t first_id = 0;
  };

  void Name(std::string_view region, std::function<void()> revoke);
  Pages& MapPages(std::size_t size);
  static void RevokePages(Pages& pages);
  void AddBuffers(unsigned first, unsigned count);
  void Revoke();

  std::uint64_t UserData(std::uint64_t id) const { return generation_ | id; }
  void Push(const Prepare& prepare, std::uint64_t id, std::uint8_t flags);
  // Returns when the kernel has consumed what was pushed.
  void Submit();
  // Waits for a completion and files it. False after a long time.
  bool Reap();
  // The next completion of a request; false after a long time.
  bool Next(std::uint64_t id, io_uring_cqe* cqe);
  int DoPrepared(const Prepare& prepare);
  std::uint64_t StartPrepared(const Prepare& prepare);
  // Waits for the end of a request.
  void Follow(std::uint64_t id, bool is_request);
  void Append(const io_uring_cqe& cqe);

  raw::Ring& ring_;
  const Target target_;
  const std::uint64_t generation_;
  std::uint64_t next_id_ = 100;
  Report report_;
  bool revoked_ = false;

  std::set<std::string> regions_;
  std::set<std::string> files_;
  std::set<std::string> shared_;
  std::function<void()> revoke_;
  std::deque<Pages> pages_;
  std::vector<int> descriptors_;
  std::vector<std::function<void()>> at_end_;
  std::string directory_;
  int gate_[2];
  char gate_byte_ = 0;
  int unusable_;  // a file that nothing can be done with
  bool file_table_ = false;
  std::uint32_t next_slot_ = 2;
  bool buffer_table_ = false;
  BufferRing group_;

  Prepare op_;
  Prepare patch_;
  Prepare before_;
  Prepare then_;
  std::string untouched_;
  std::string untouched_observation_;
  bool counts_vary_ = false;
  bool results_are_files_ = false;
  int cancel_after_ = 0;
  std::function<void(int)> on_first_;
  std::function<void()> until_complete_;
  std::function<void()> prepare_then_;
  std::function<std::string()> observe_;
  std::string unavailable_;

  std::set<std::uint64_t> in_flight_;
  std::deque<io_uring_cqe> reaped_;
};

// Sets up one operation on a stage.
using Script = void (*)(Stage&);

// Ends the process, with the errno, unless `condition` holds: for what a script
// cannot do without.
void Must(bool condition, const char* what);

}  // namespace escrow::testing

#endif  // ESCROW_TESTS_CONFORMANCE_STAGE_H_
