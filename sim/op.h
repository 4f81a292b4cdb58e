#ifndef ESCROW_SIM_OP_H_
#define ESCROW_SIM_OP_H_

#include <liburing/io_uring.h>

#include <cstdint>
#include <memory>
#include <span>

// What the simulated kernel does for one opcode.

namespace escrow::sim {

class Request;

// What came of trying.
struct Attempt {
  bool done;  // if not, it would have blocked
  std::int32_t result = 0;
  std::uint32_t flags = 0;  // IORING_CQE_F_BUFFER and its id, ...
  bool works = false;       // if not done: what is next is Op::Work()

  static Attempt Done(std::int32_t result, std::uint32_t flags = 0) noexcept {
    return {true, result, flags};
  }
  static Attempt Blocked() noexcept { return {false}; }
  // Only where Request::has_workers().
  static Attempt Works() noexcept {
    return {.done = false, .result = 0, .flags = 0, .works = true};
  }
};

// One request's work. The simulator makes one for each entry that it consumes.
class Op {
 public:
  Op() = default;
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  virtual ~Op() = default;

  // When the entry is consumed: refuses what the kernel refuses there, copies
  // the memory that the kernel copies there, and holds in the ledger what it
  // uses later. 0 or a negative errno.
  virtual int Prepare(Request& request) = 0;

  // Executes it as far as is possible without blocking. Called when it is
  // issued, and again whenever what it said to wait for (Request::WaitFor) may
  // have happened; a multishot one, until it is done.
  virtual Attempt Try(Request& request) = 0;

  // Does what may block, after an attempt that came to that; then it is tried
  // again. Any thread calls this, without the kernel's lock: it uses the
  // program's memory and files, and nothing of the ring.
  virtual void Work(Request& request) { (void)request; }

  // Whether the completion queue's next links are cancelled when it ends with
  // `result`.
  virtual bool BreaksChain(const Request& request, std::int32_t result) const {
    (void)request;
    return result < 0;
  }

  // Has been cancelled, or failed by choice, with `error`, a negative errno:
  // undoes what it has begun. What it is completed with then, which is what it
  // has transferred so far, if it has. What is in the ledger is released
  // anyway.
  virtual Attempt Cancelled(Request& request, std::int32_t error) {
    (void)request;
    return Attempt::Done(error);
  }
};

enum class FileUse : std::uint8_t { kNone, kDescriptor, kOptional };

struct OpType {
  unsigned opcode;   // IORING_OP_*
  const char* name;  // "RECV"
  // Whether sqe->fd is a file that the request works on.
  FileUse file = FileUse::kNone;
  // Null for an opcode that is not simulated.
  std::unique_ptr<Op> (*make)() = nullptr;
  // Which errors the call may have at any time, as positive numbers: what a
  // schedule chooses from.
  std::span<const int> errors;
  // Whether IOSQE_BUFFER_SELECT is for it.
  bool selects = false;
  // Whether it is tried when it is submitted, whatever the schedule says.
  bool immediate = false;
};

// Null for an opcode that does not exist or is not simulated.
const OpType* FindOp(unsigned opcode) noexcept;

template <typename T>
std::unique_ptr<Op> Make() {
  return std::make_unique<T>();
}

}  // namespace escrow::sim

#endif  // ESCROW_SIM_OP_H_
