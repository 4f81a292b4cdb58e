#ifndef ESCROW_RAW_NAMES_H_
#define ESCROW_RAW_NAMES_H_

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <iterator>

// What liburing's header names, as tables sorted by value: for programs that
// print what a ring or a kernel has. `since` is the release of Linux that
// brought it.

namespace escrow::raw {

struct NamedFlag {
  std::uint64_t bit;
  const char* name;
  const char* since;
  const char* meaning;  // a few words
};

struct NamedRegisterOp {
  unsigned opcode;  // IORING_REGISTER_* or IORING_UNREGISTER_*
  const char* name;
  const char* since;
};

// What else is known of it is in the OpInfo of the types that have it: op.h.
struct NamedOp {
  unsigned opcode;  // IORING_OP_*
  const char* name;
};

// A name is spelled once, so that it cannot be another flag's.
#define ESCROW_NAMED(name) name, #name

// io_uring_params.features: what the kernel does.
inline constexpr NamedFlag kFeatures[] = {
    {ESCROW_NAMED(IORING_FEAT_SINGLE_MMAP), "5.4", "one mapping for two rings"},
    {ESCROW_NAMED(IORING_FEAT_NODROP), "5.5", "completions are never dropped"},
    {ESCROW_NAMED(IORING_FEAT_SUBMIT_STABLE), "5.5",
     "arguments may go after the submit"},
    {ESCROW_NAMED(IORING_FEAT_RW_CUR_POS), "5.6",
     "offset -1 is the file's position"},
    {ESCROW_NAMED(IORING_FEAT_CUR_PERSONALITY), "5.6",
     "the submitter's credentials count"},
    {ESCROW_NAMED(IORING_FEAT_FAST_POLL), "5.7",
     "waits for readiness without a worker"},
    {ESCROW_NAMED(IORING_FEAT_POLL_32BITS), "5.9",
     "32 bits of events, EPOLLEXCLUSIVE"},
    {ESCROW_NAMED(IORING_FEAT_SQPOLL_NONFIXED), "5.11",
     "SQPOLL with unregistered files"},
    {ESCROW_NAMED(IORING_FEAT_EXT_ARG), "5.11", "waits with a timeout"},
    {ESCROW_NAMED(IORING_FEAT_NATIVE_WORKERS), "5.12",
     "workers are threads of the process"},
    {ESCROW_NAMED(IORING_FEAT_RSRC_TAGS), "5.13",
     "tags and updates of registrations"},
    {ESCROW_NAMED(IORING_FEAT_CQE_SKIP), "5.17", "IOSQE_CQE_SKIP_SUCCESS"},
    {ESCROW_NAMED(IORING_FEAT_LINKED_FILE), "5.18",
     "files are looked up when a link runs"},
    {ESCROW_NAMED(IORING_FEAT_REG_REG_RING), "6.3",
     "registers through a registered ring"},
    {ESCROW_NAMED(IORING_FEAT_RECVSEND_BUNDLE), "6.10",
     "bundles of provided buffers"},
    {ESCROW_NAMED(IORING_FEAT_MIN_TIMEOUT), "6.12",
     "a minimal time to wait for a batch"},
    {ESCROW_NAMED(IORING_FEAT_RW_ATTR), "6.14",
     "attributes of reads and writes"},
    {ESCROW_NAMED(IORING_FEAT_NO_IOWAIT), "6.15", "IORING_ENTER_NO_IOWAIT"},
};

// io_uring_params.flags: what a program asks for.
inline constexpr NamedFlag kSetupFlags[] = {
    {ESCROW_NAMED(IORING_SETUP_IOPOLL), "5.1", "polls devices for completions"},
    {ESCROW_NAMED(IORING_SETUP_SQPOLL), "5.1", "a kernel thread submits"},
    {ESCROW_NAMED(IORING_SETUP_SQ_AFF), "5.1", "that thread's CPU is given"},
    {ESCROW_NAMED(IORING_SETUP_CQSIZE), "5.5",
     "the completion queue's size is given"},
    {ESCROW_NAMED(IORING_SETUP_CLAMP), "5.6", "too large sizes are reduced"},
    {ESCROW_NAMED(IORING_SETUP_ATTACH_WQ), "5.6", "shares another's workers"},
    {ESCROW_NAMED(IORING_SETUP_R_DISABLED), "5.10", "starts disabled"},
    {ESCROW_NAMED(IORING_SETUP_SUBMIT_ALL), "5.18",
     "a submit goes on after an error"},
    {ESCROW_NAMED(IORING_SETUP_COOP_TASKRUN), "5.19",
     "no interrupt for completions"},
    {ESCROW_NAMED(IORING_SETUP_TASKRUN_FLAG), "5.19",
     "shows that completions wait"},
    {ESCROW_NAMED(IORING_SETUP_SQE128), "5.19", "entries of 128 bytes"},
    {ESCROW_NAMED(IORING_SETUP_CQE32), "5.19", "completions of 32 bytes"},
    {ESCROW_NAMED(IORING_SETUP_SINGLE_ISSUER), "6.0", "one thread submits"},
    {ESCROW_NAMED(IORING_SETUP_DEFER_TASKRUN), "6.1",
     "completes in the program's waits"},
    {ESCROW_NAMED(IORING_SETUP_NO_MMAP), "6.5", "in the program's own memory"},
    {ESCROW_NAMED(IORING_SETUP_REGISTERED_FD_ONLY), "6.5",
     "no descriptor, only an index"},
    {ESCROW_NAMED(IORING_SETUP_NO_SQARRAY), "6.6", "entries in order only"},
    {ESCROW_NAMED(IORING_SETUP_HYBRID_IOPOLL), "6.13",
     "sleeps before it polls"},
    {ESCROW_NAMED(IORING_SETUP_CQE_MIXED), "6.18",
     "completions of 16 and 32 bytes"},
    {ESCROW_NAMED(IORING_SETUP_SQE_MIXED), "6.19",
     "entries of 64 and 128 bytes"},
    {ESCROW_NAMED(IORING_SETUP_SQ_REWIND), "7.0",
     "each submit starts at entry 0"},
};

// The flags of io_uring_enter(2).
inline constexpr NamedFlag kEnterFlags[] = {
    {ESCROW_NAMED(IORING_ENTER_GETEVENTS), "5.1", "waits for completions"},
    {ESCROW_NAMED(IORING_ENTER_SQ_WAKEUP), "5.1", "wakes the SQPOLL thread"},
    {ESCROW_NAMED(IORING_ENTER_SQ_WAIT), "5.10", "waits for a free entry"},
    {ESCROW_NAMED(IORING_ENTER_EXT_ARG), "5.11", "takes a timeout as well"},
    {ESCROW_NAMED(IORING_ENTER_REGISTERED_RING), "5.18",
     "takes a registered ring"},
    {ESCROW_NAMED(IORING_ENTER_ABS_TIMER), "6.12", "the timeout is absolute"},
    {ESCROW_NAMED(IORING_ENTER_EXT_ARG_REG), "6.13",
     "its arguments are registered"},
    {ESCROW_NAMED(IORING_ENTER_NO_IOWAIT), "6.15",
     "the wait is not called I/O wait"},
};

// io_uring_sqe.flags.
inline constexpr NamedFlag kSqeFlags[] = {
    {ESCROW_NAMED(IOSQE_FIXED_FILE), "5.1", "the file is a registered one"},
    {ESCROW_NAMED(IOSQE_IO_DRAIN), "5.2", "waits for all before it"},
    {ESCROW_NAMED(IOSQE_IO_LINK), "5.3", "the next one waits for it"},
    {ESCROW_NAMED(IOSQE_IO_HARDLINK), "5.5", "the same, even if it fails"},
    {ESCROW_NAMED(IOSQE_ASYNC), "5.6", "goes to a worker at once"},
    {ESCROW_NAMED(IOSQE_BUFFER_SELECT), "5.7", "the kernel picks the buffer"},
    {ESCROW_NAMED(IOSQE_CQE_SKIP_SUCCESS), "5.17",
     "no completion unless it fails"},
};

// The operations of io_uring_register(2), each at its own number.
inline constexpr NamedRegisterOp kRegisterOps[] = {
    {ESCROW_NAMED(IORING_REGISTER_BUFFERS), "5.1"},
    {ESCROW_NAMED(IORING_UNREGISTER_BUFFERS), "5.1"},
    {ESCROW_NAMED(IORING_REGISTER_FILES), "5.1"},
    {ESCROW_NAMED(IORING_UNREGISTER_FILES), "5.1"},
    {ESCROW_NAMED(IORING_REGISTER_EVENTFD), "5.2"},
    {ESCROW_NAMED(IORING_UNREGISTER_EVENTFD), "5.2"},
    {ESCROW_NAMED(IORING_REGISTER_FILES_UPDATE), "5.5"},
    {ESCROW_NAMED(IORING_REGISTER_EVENTFD_ASYNC), "5.6"},
    {ESCROW_NAMED(IORING_REGISTER_PROBE), "5.6"},
    {ESCROW_NAMED(IORING_REGISTER_PERSONALITY), "5.6"},
    {ESCROW_NAMED(IORING_UNREGISTER_PERSONALITY), "5.6"},
    {ESCROW_NAMED(IORING_REGISTER_RESTRICTIONS), "5.10"},
    {ESCROW_NAMED(IORING_REGISTER_ENABLE_RINGS), "5.10"},
    {ESCROW_NAMED(IORING_REGISTER_FILES2), "5.13"},
    {ESCROW_NAMED(IORING_REGISTER_FILES_UPDATE2), "5.13"},
    {ESCROW_NAMED(IORING_REGISTER_BUFFERS2), "5.13"},
    {ESCROW_NAMED(IORING_REGISTER_BUFFERS_UPDATE), "5.13"},
    {ESCROW_NAMED(IORING_REGISTER_IOWQ_AFF), "5.14"},
    {ESCROW_NAMED(IORING_UNREGISTER_IOWQ_AFF), "5.14"},
    {ESCROW_NAMED(IORING_REGISTER_IOWQ_MAX_WORKERS), "5.15"},
    {ESCROW_NAMED(IORING_REGISTER_RING_FDS), "5.18"},
    {ESCROW_NAMED(IORING_UNREGISTER_RING_FDS), "5.18"},
    {ESCROW_NAMED(IORING_REGISTER_PBUF_RING), "5.19"},
    {ESCROW_NAMED(IORING_UNREGISTER_PBUF_RING), "5.19"},
    {ESCROW_NAMED(IORING_REGISTER_SYNC_CANCEL), "6.0"},
    {ESCROW_NAMED(IORING_REGISTER_FILE_ALLOC_RANGE), "6.0"},
    {ESCROW_NAMED(IORING_REGISTER_PBUF_STATUS), "6.8"},
    {ESCROW_NAMED(IORING_REGISTER_NAPI), "6.9"},
    {ESCROW_NAMED(IORING_UNREGISTER_NAPI), "6.9"},
    {ESCROW_NAMED(IORING_REGISTER_CLOCK), "6.12"},
    {ESCROW_NAMED(IORING_REGISTER_CLONE_BUFFERS), "6.12"},
    {ESCROW_NAMED(IORING_REGISTER_SEND_MSG_RING), "6.13"},
    {ESCROW_NAMED(IORING_REGISTER_ZCRX_IFQ), "6.15"},
    {ESCROW_NAMED(IORING_REGISTER_RESIZE_RINGS), "6.13"},
    {ESCROW_NAMED(IORING_REGISTER_MEM_REGION), "6.13"},
    {ESCROW_NAMED(IORING_REGISTER_QUERY), "6.18"},
    {ESCROW_NAMED(IORING_REGISTER_ZCRX_CTRL), "6.19"},
    {ESCROW_NAMED(IORING_REGISTER_BPF_FILTER), "7.0"},
};

// io_uring_sqe.opcode, each at its own number.
inline constexpr NamedOp kOps[] = {
    {ESCROW_NAMED(IORING_OP_NOP)},
    {ESCROW_NAMED(IORING_OP_READV)},
    {ESCROW_NAMED(IORING_OP_WRITEV)},
    {ESCROW_NAMED(IORING_OP_FSYNC)},
    {ESCROW_NAMED(IORING_OP_READ_FIXED)},
    {ESCROW_NAMED(IORING_OP_WRITE_FIXED)},
    {ESCROW_NAMED(IORING_OP_POLL_ADD)},
    {ESCROW_NAMED(IORING_OP_POLL_REMOVE)},
    {ESCROW_NAMED(IORING_OP_SYNC_FILE_RANGE)},
    {ESCROW_NAMED(IORING_OP_SENDMSG)},
    {ESCROW_NAMED(IORING_OP_RECVMSG)},
    {ESCROW_NAMED(IORING_OP_TIMEOUT)},
    {ESCROW_NAMED(IORING_OP_TIMEOUT_REMOVE)},
    {ESCROW_NAMED(IORING_OP_ACCEPT)},
    {ESCROW_NAMED(IORING_OP_ASYNC_CANCEL)},
    {ESCROW_NAMED(IORING_OP_LINK_TIMEOUT)},
    {ESCROW_NAMED(IORING_OP_CONNECT)},
    {ESCROW_NAMED(IORING_OP_FALLOCATE)},
    {ESCROW_NAMED(IORING_OP_OPENAT)},
    {ESCROW_NAMED(IORING_OP_CLOSE)},
    {ESCROW_NAMED(IORING_OP_FILES_UPDATE)},
    {ESCROW_NAMED(IORING_OP_STATX)},
    {ESCROW_NAMED(IORING_OP_READ)},
    {ESCROW_NAMED(IORING_OP_WRITE)},
    {ESCROW_NAMED(IORING_OP_FADVISE)},
    {ESCROW_NAMED(IORING_OP_MADVISE)},
    {ESCROW_NAMED(IORING_OP_SEND)},
    {ESCROW_NAMED(IORING_OP_RECV)},
    {ESCROW_NAMED(IORING_OP_OPENAT2)},
    {ESCROW_NAMED(IORING_OP_EPOLL_CTL)},
    {ESCROW_NAMED(IORING_OP_SPLICE)},
    {ESCROW_NAMED(IORING_OP_PROVIDE_BUFFERS)},
    {ESCROW_NAMED(IORING_OP_REMOVE_BUFFERS)},
    {ESCROW_NAMED(IORING_OP_TEE)},
    {ESCROW_NAMED(IORING_OP_SHUTDOWN)},
    {ESCROW_NAMED(IORING_OP_RENAMEAT)},
    {ESCROW_NAMED(IORING_OP_UNLINKAT)},
    {ESCROW_NAMED(IORING_OP_MKDIRAT)},
    {ESCROW_NAMED(IORING_OP_SYMLINKAT)},
    {ESCROW_NAMED(IORING_OP_LINKAT)},
    {ESCROW_NAMED(IORING_OP_MSG_RING)},
    {ESCROW_NAMED(IORING_OP_FSETXATTR)},
    {ESCROW_NAMED(IORING_OP_SETXATTR)},
    {ESCROW_NAMED(IORING_OP_FGETXATTR)},
    {ESCROW_NAMED(IORING_OP_GETXATTR)},
    {ESCROW_NAMED(IORING_OP_SOCKET)},
    {ESCROW_NAMED(IORING_OP_URING_CMD)},
    {ESCROW_NAMED(IORING_OP_SEND_ZC)},
    {ESCROW_NAMED(IORING_OP_SENDMSG_ZC)},
    {ESCROW_NAMED(IORING_OP_READ_MULTISHOT)},
    {ESCROW_NAMED(IORING_OP_WAITID)},
    {ESCROW_NAMED(IORING_OP_FUTEX_WAIT)},
    {ESCROW_NAMED(IORING_OP_FUTEX_WAKE)},
    {ESCROW_NAMED(IORING_OP_FUTEX_WAITV)},
    {ESCROW_NAMED(IORING_OP_FIXED_FD_INSTALL)},
    {ESCROW_NAMED(IORING_OP_FTRUNCATE)},
    {ESCROW_NAMED(IORING_OP_BIND)},
    {ESCROW_NAMED(IORING_OP_LISTEN)},
    {ESCROW_NAMED(IORING_OP_RECV_ZC)},
    {ESCROW_NAMED(IORING_OP_EPOLL_WAIT)},
    {ESCROW_NAMED(IORING_OP_READV_FIXED)},
    {ESCROW_NAMED(IORING_OP_WRITEV_FIXED)},
    {ESCROW_NAMED(IORING_OP_PIPE)},
    {ESCROW_NAMED(IORING_OP_NOP128)},
    {ESCROW_NAMED(IORING_OP_URING_CMD128)},
};

#undef ESCROW_NAMED

template <typename Named, std::size_t kCount>
constexpr bool AreAtTheirNumbers(const Named (&table)[kCount]) noexcept {
  for (std::size_t i = 0; i < kCount; ++i) {
    if (table[i].opcode != i) return false;
  }
  return true;
}

static_assert(AreAtTheirNumbers(kOps) && std::size(kOps) == IORING_OP_LAST);
static_assert(AreAtTheirNumbers(kRegisterOps) &&
              std::size(kRegisterOps) == IORING_REGISTER_LAST);

}  // namespace escrow::raw

#endif  // ESCROW_RAW_NAMES_H_
