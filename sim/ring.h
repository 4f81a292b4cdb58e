#ifndef ESCROW_SIM_RING_H_
#define ESCROW_SIM_RING_H_

#include <liburing/io_uring.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <vector>

#include "escrow/sim/buffer_groups.h"
#include "escrow/sim/buffer_table.h"
#include "escrow/sim/choices.h"
#include "escrow/sim/file.h"
#include "escrow/sim/file_table.h"
#include "escrow/sim/request.h"

namespace escrow::sim {

class Kernel;

// A descriptor that the program is given by the result of a request.
struct Given {
  Given(const Owner& its_owner, int its_fd);
  // Still, and it is the same file.
  bool IsOpen() const noexcept;

  Owner owner;
  int fd;
  std::optional<FileIdentity> file;
  std::optional<std::uint32_t> position = {};  // in the completion queue
};

// One simulated ring: its queues, what is in flight on it, and what is
// registered with it. Guarded by the kernel's lock.
class Ring {
 public:
  Ring(Kernel& kernel, std::uint32_t setup_flags, unsigned entries,
       unsigned completion_entries);
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring();

  // For ops.

  FileTable& files() noexcept { return files_; }
  BufferTable& buffers() noexcept { return buffers_; }
  BufferGroups& groups() noexcept { return groups_; }
  Kernel& kernel() const noexcept { return kernel_; }
  Choices& choices() noexcept;
  // The clock of IORING_REGISTER_CLOCK, in ns; virtual, if that is chosen.
  std::int64_t Now() const noexcept;
  clockid_t clock() const noexcept { return clock_; }
  std::uint32_t setup_flags() const noexcept { return setup_flags_; }
  bool has(std::uint32_t setup_flag) const noexcept {
    return (setup_flags_ & setup_flag) != 0;
  }
  // Posts a completion that is no request's: of a message, a tag. False if it
  // was kept back because the queue is full. Wakes who waits.
  bool PostForeign(std::uint64_t user_data, std::int32_t result,
                   std::uint32_t flags);
  // All requests in flight, oldest first, but for those behind others in a
  // chain.
  const std::vector<Request*>& requests() const noexcept { return requests_; }
  // Has `request` cancelled: 0, -EALREADY if nothing stops it, or -ENOENT if it
  // is just passing. Its completion comes later.
  int Cancel(Request& request, bool certain = false);
  // How many completions it has posted; with each one, requests that count them
  // are tried again.
  std::uint32_t completions() const noexcept { return posted_; }
  bool disabled() const noexcept { return disabled_; }

  // For the system calls.

  // Makes the memfd that is mapped, or takes the program's memory; fills
  // `params` in. The descriptor, or -errno.
  int Open(io_uring_params& params);
  int fd() const noexcept { return fd_; }
  // What its descriptors stand for.
  const std::optional<FileIdentity>& file() const noexcept { return file_; }
  void* Map(void* address, std::size_t length, int protection, int flags,
            ::off_t offset) noexcept;
  // Whether [address, address + length) was some part of it.
  bool Unmap(void* address, std::size_t length) noexcept;
  bool Covers(const void* address) const noexcept;

  // One io_uring_enter(2), but for finding the ring. Releases the kernel's lock
  // while it blocks.
  int Enter(unsigned to_submit, unsigned min_complete, unsigned flags,
            const void* argument, std::size_t size);
  int Register(unsigned opcode, void* argument, unsigned count);

  // By another descriptor of it.
  void Renumber(int fd) noexcept;
  bool renumbered() const noexcept { return renumbered_; }
  // What a thread has in flight when it ends is cancelled, when it can be.
  void EndThread(long thread) noexcept;
  bool orphaned() const noexcept { return orphaned_; }
  // What poll(2) says of it: POLL*.
  std::uint32_t Events() noexcept;

  // The program has closed it: what is in flight is cancelled, or goes on.
  void Close();
  bool closed() const noexcept { return closed_; }
  // Whether anything is in flight.
  bool busy() const noexcept {
    return !requests_.empty() || !drain_queue_.empty();
  }

  // Moves everything on that can be moved on without waiting. Of a closed ring:
  // some of it.
  void Progress();
  // Whether there is anything that can be, and when, on its clock, there will
  // be if nothing happens before.
  bool CanProgress() const noexcept;
  std::optional<std::int64_t> NextTime() const noexcept;
  // Whether a thread that is in a call does that.
  bool attended() const noexcept { return waiting_ > 0; }

  // Where there are threads (Options::threads).

  // Op::Work() was called for one of its requests.
  void Worked(Request& request);
  // With IORING_SETUP_DEFER_TASKRUN only its own thread moves anything on,
  // which is told by the eventfd and the descriptor that there is something;
  // once for each call of its.
  bool deferred() const noexcept { return has(IORING_SETUP_DEFER_TASKRUN); }
  bool MayTell() const noexcept { return deferred() && !told_; }
  void Tell() noexcept;
  // Makes its descriptor readable if there is anything to be taken from its
  // queue, or what was told, and unreadable if not.
  void ShowReadable() noexcept;
  // Whether that would.
  bool IsUnshown() noexcept { return !readable_ && IsReadable(); }

 private:
  friend class Request;

  struct Part {
    void* address;
    std::size_t length;
    ::off_t offset;  // in the memfd
  };
  struct Overflow {
    std::uint64_t user_data;
    std::int32_t result;
    std::uint32_t flags;
    std::uint64_t extra[2];
    Given* given = nullptr;
  };
  struct Wait;

  // A memfd for the queues as they are sized: 0 or -errno. `fd` becomes it, if
  // that is a descriptor.
  int MakeMemory(int fd);
  int MakeSocket();
  // Describes the queues.
  void WriteSizes();
  void Describe(io_uring_params& params) const noexcept;
  // Ring memory, as the program sees it if it has mapped it.
  std::byte* Memory(::off_t offset) noexcept;
  std::uint32_t& Word(std::uint32_t offset) noexcept;
  std::byte* Entry(std::uint32_t index) noexcept;
  std::uint32_t LoadWord(std::uint32_t offset) noexcept;
  void StoreWord(std::uint32_t offset, std::uint32_t value) noexcept;
  void SetFlag(std::uint32_t flag, bool set) noexcept;
  // Whether there may be more in the queue after a call.
  void SetTaskrun() noexcept;
  bool IsReadable() noexcept;
  void WriteToPeer() noexcept;

  // Submission.
  int Submit(unsigned count);
  // The entries that the program has queued, [head, tail): where each is.
  std::uint32_t QueueHead() noexcept;
  std::uint32_t QueueTail() noexcept;
  std::uint32_t EntryIndex(std::uint32_t at) noexcept;

  // As Checks ask for: of one that is about to be consumed, of one that has
  // just been, and of all that were.
  void CheckUserData(const io_uring_sqe& entry);
  void KeepEntry(std::uint32_t index);
  void CheckEntries();

  // Consumes one entry; false if there is none.
  Request* Consume();
  // A chain whose members all have been consumed.
  void Start(Request* head);
  bool MustDrain(const Request& request) const noexcept;
  void StartDrained();
  void Issue(Request& request);
  void ArmLinkTimeout(Request& request);
  // Tries it, and completes it or lets it wait.
  void Try(Request& request);
  // Completes it with an error that is not its own.
  void Fail(Request& request, std::int32_t error);
  void Arm(Request& request);
  void Forget(Request& request) noexcept;

  // When it is closed: tells what nobody takes care of any more.
  void CheckLeft();

  // Completion.
  void Complete(Request& request, std::int32_t result, std::uint32_t flags);
  void FinishNotification(Request& request);
  void CancelLinks(Request* links, std::int32_t first_error);
  bool PostOrKeep(std::uint64_t user_data, std::int32_t result,
                  std::uint32_t flags, Given* given = nullptr);
  // False, with nothing posted, if there is no room.
  bool PostIfRoom(std::uint64_t user_data, std::int32_t result,
                  std::uint32_t flags, Given* given = nullptr);
  // What to post with a result of `request` that is a descriptor; else null.
  Given* Give(const Request& request, std::int32_t result);
  // Of what was given, what the program has not seen yet.
  void DropSeen() noexcept;
  void Posted();
  bool WriteCompletion(const Overflow& completion);
  void FlushOverflow(bool forced);
  void CloseSlots();
  std::uint32_t Available() noexcept;

  // Progress.
  static bool CanProgress(const Request& request, std::int64_t now) noexcept;
  int WaitForCompletions(unsigned count, Wait& wait);
  void WakeWaiter() noexcept;
  // That one, or the thread in the background.
  void WakeWhoeverProgresses() noexcept;
  void SignalEventfd() noexcept;

  int CheckIssuer() const noexcept;
  int RegisterEventfd(const void* argument, unsigned count, bool async);
  int SyncCancel(const void* argument, unsigned count);
  int Probe(void* argument, unsigned count);
  int SetClock(const void* argument);
  int Resize(void* argument, unsigned count);

  Kernel& kernel_;
  FileTable files_{*this};
  BufferTable buffers_{*this};
  BufferGroups groups_;
  const std::uint32_t setup_flags_;
  std::uint32_t sq_entries_;
  std::uint32_t cq_entries_;
  const std::size_t entry_bytes_;
  const std::size_t completion_bytes_;
  std::size_t array_offset_ = 0;
  std::size_t rings_size_ = 0;
  struct KeptEntry {
    bool kept = false;
    std::uint64_t sum = 0;
  };
  std::vector<KeptEntry> kept_entries_;
  Owner owner_ = {.name = "ring"};
  int fd_ = -1;  // the program's
  File memory_;  // the same file, maybe under another number
  std::optional<FileIdentity> file_;
  std::vector<Part> parts_;
  std::byte* rings_ = nullptr;    // offset 0
  std::byte* entries_ = nullptr;  // IORING_OFF_SQES
  Part own_rings_ = {};
  Part own_entries_ = {};
  clockid_t clock_;
  bool disabled_;
  bool closed_ = false;
  bool renumbered_ = false;
  bool orphaned_ = false;   // its issuer has ended
  bool in_worker_ = false;  // what is tried now
  long issuer_ = 0;  // the thread, of a ring with IORING_SETUP_SINGLE_ISSUER
  std::uint32_t sequence_ = 0;
  std::uint32_t posted_ = 0;
  std::uint32_t slots_closed_to_ = 0;
  std::vector<Request*> requests_;
  std::vector<Request*> drain_queue_;
  std::vector<Overflow> overflow_;
  std::vector<std::unique_ptr<Given>> given_;
  unsigned refusals_ = 0;     // of submits by choice, in a row
  unsigned interrupted_ = 0;  // waits by choice, in a row
  unsigned flushes_put_off_ = 0;
  bool reading_late_ = false;  // the SQPOLL thread
  File eventfd_;
  bool eventfd_async_ = false;
  bool told_ = false;  // by Tell()
  // Where there are threads, the program's descriptor is a socket, for others
  // to poll, and this is its peer.
  File peer_;
  bool readable_ = false;
  unsigned waiting_ = 0;
  std::uint16_t personality_ = 0;
  std::uint32_t workers_[2] = {8, 64};  // bounded and unbounded
};

}  // namespace escrow::sim

#endif  // ESCROW_SIM_RING_H_
