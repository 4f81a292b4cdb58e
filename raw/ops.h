#ifndef ESCROW_RAW_OPS_H_
#define ESCROW_RAW_OPS_H_

#include "escrow/raw/op.h"
#include "escrow/raw/ops_file.h"
#include "escrow/raw/ops_path.h"
#include "escrow/raw/ops_ring.h"
#include "escrow/raw/ops_rw.h"
#include "escrow/raw/ops_socket.h"
#include "escrow/raw/ops_transfer.h"
#include "escrow/raw/ops_wait.h"

// One aggregate per io_uring operation. What differs only by a flag or a slot
// is a field; what differs by what the kernel uses until when is a type of its
// own (AcceptMultishot, SendZeroCopy). A field without a default has to be
// given; a default is the kernel's.
//
//   ring.Push(raw::Read{.fd = file, .buffer = block, .length = 4096},
//             /*user_data=*/7);
//
// Nothing here checks, owns or allocates. The type of each pointer says how
// long the memory must stay valid (contract.h); breaking that promise is a
// write by the kernel into memory that is somebody else's by then, which no
// sanitizer sees. A pointer into memory counts as given to the kernel from the
// push on, whether or not a submit has succeeded.
//
// `Prepare` fills an entry that Ring::GetSqe() cleared, through liburing's own
// io_uring_prep_*() function: byte for byte what that writes, in the
// instructions that hand-written calls need. `kInfo` says which opcode it is,
// which system call it equals and has the errors of, and since when Linux has
// it; `kRegions` what it refers to. Kernels without an operation complete it
// with -EINVAL.
//
// A result below zero is a negated errno, as in io_uring_cqe.res.
//
// Two flags of Ring::Push() change what can be known: with
// IOSQE_CQE_SKIP_SUCCESS a success posts no completion, so that nothing tells
// when the memory is free; with IOSQE_IO_LINK, IOSQE_IO_DRAIN and IOSQE_ASYNC
// the request is issued later than the submit, and the handles in it
// are looked up then.

#endif  // ESCROW_RAW_OPS_H_
