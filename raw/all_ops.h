#ifndef ESCROW_RAW_ALL_OPS_H_
#define ESCROW_RAW_ALL_OPS_H_

#include "escrow/raw/contract.h"
#include "escrow/raw/ops.h"

// Every operation type there is, for code that treats them all: tables, tests,
// tools.
//
//   ForEachOp([&]<typename Op>() { Print(Op::kInfo, RegionsOf<Op>()); });

namespace escrow::raw {

template <typename... Ops>
struct OpList {};

// In the order of the opcodes, the plain type first.
using AllOps =
    OpList<Nop, Readv, ReadvSelected, Writev, Fsync, ReadFixed, WriteFixed,
           PollAdd, PollMultishot, PollRemove, PollUpdate, SyncFileRange,
           SendMsg, RecvMsg, RecvMsgSelected, RecvMsgMultishot, Timeout,
           TimeoutMultishot, TimeoutImmediate, TimeoutImmediateMultishot,
           TimeoutRemove, TimeoutUpdate, TimeoutUpdateImmediate, Accept,
           AcceptMultishot, Cancel, CancelFd, LinkTimeout, LinkTimeoutImmediate,
           Connect, Fallocate, OpenAt, Close, FilesUpdate, Statx, Read,
           ReadSelected, Write, Fadvise, Madvise, Send, SendVectors,
           SendSelected, SendBundle, Recv, RecvSelected, RecvBundle,
           RecvMultishot, RecvBundleMultishot, OpenAt2, EpollCtl, Splice,
           ProvideBuffers, RemoveBuffers, Tee, Shutdown, RenameAt, UnlinkAt,
           MkdirAt, SymlinkAt, LinkAt, MsgRing, MsgRingFd, FsetXattr, SetXattr,
           FgetXattr, GetXattr, Socket, UringCmd, UringCmdBig, GetSocketOption,
           SetSocketOption, GetSocketName, SocketInputQueue, SocketOutputQueue,
           SocketTxTimestamp, BlockDiscard, SendZeroCopy, SendZeroCopyFixed,
           SendZeroCopyVectors, SendMsgZeroCopy, SendMsgZeroCopyFixed,
           ReadMultishot, WaitId, FutexWait, FutexWake, FutexWaitV,
           FixedFdInstall, Ftruncate, Bind, Listen, RecvZeroCopy, EpollWait,
           ReadvFixed, WritevFixed, Pipe, Nop128, UringCmd128>;

template <typename Call, typename... Ops>
constexpr void ForEachOp(OpList<Ops...>, Call&& call) {
  (call.template operator()<Ops>(), ...);
}

// Calls `call.template operator()<Op>()` for each.
template <typename Call>
constexpr void ForEachOp(Call&& call) {
  ForEachOp(AllOps{}, call);
}

}  // namespace escrow::raw

#endif  // ESCROW_RAW_ALL_OPS_H_
