#ifndef ESCROW_SIM_OPS_H_
#define ESCROW_SIM_OPS_H_

#include <memory>

#include "escrow/sim/op.h"

// Operations on files, sockets, paths and memory: for the table of all of them.
// Those on the ring itself are in ops_core.h.

namespace escrow::sim {

// ops_rw.cc
std::unique_ptr<Op> MakeRead();
std::unique_ptr<Op> MakeWrite();
std::unique_ptr<Op> MakeReadv();
std::unique_ptr<Op> MakeWritev();
std::unique_ptr<Op> MakeReadFixed();
std::unique_ptr<Op> MakeWriteFixed();
std::unique_ptr<Op> MakeReadvFixed();
std::unique_ptr<Op> MakeWritevFixed();
std::unique_ptr<Op> MakeReadMultishot();

// ops_message.cc
std::unique_ptr<Op> MakeSend();
std::unique_ptr<Op> MakeSendMsg();
std::unique_ptr<Op> MakeSendZeroCopy();
std::unique_ptr<Op> MakeSendMsgZeroCopy();
std::unique_ptr<Op> MakeRecv();
std::unique_ptr<Op> MakeRecvMsg();

// ops_socket.cc
std::unique_ptr<Op> MakeSocket();
std::unique_ptr<Op> MakeBind();
std::unique_ptr<Op> MakeListen();
std::unique_ptr<Op> MakeAccept();
std::unique_ptr<Op> MakeConnect();
std::unique_ptr<Op> MakeShutdown();
std::unique_ptr<Op> MakeCommand();

// ops_file.cc
std::unique_ptr<Op> MakeFsync();
std::unique_ptr<Op> MakeSyncFileRange();
std::unique_ptr<Op> MakeFallocate();
std::unique_ptr<Op> MakeFtruncate();
std::unique_ptr<Op> MakeFadvise();
std::unique_ptr<Op> MakeMadvise();
std::unique_ptr<Op> MakeSplice();
std::unique_ptr<Op> MakeTee();
std::unique_ptr<Op> MakePipe();
std::unique_ptr<Op> MakeClose();
std::unique_ptr<Op> MakeFixedFdInstall();
std::unique_ptr<Op> MakeFilesUpdate();
std::unique_ptr<Op> MakeProvideBuffers();
std::unique_ptr<Op> MakeRemoveBuffers();

// ops_path.cc
std::unique_ptr<Op> MakeOpenAt();
std::unique_ptr<Op> MakeOpenAt2();
std::unique_ptr<Op> MakeStatx();
std::unique_ptr<Op> MakeRenameAt();
std::unique_ptr<Op> MakeUnlinkAt();
std::unique_ptr<Op> MakeMkdirAt();
std::unique_ptr<Op> MakeSymlinkAt();
std::unique_ptr<Op> MakeLinkAt();
std::unique_ptr<Op> MakeFsetXattr();
std::unique_ptr<Op> MakeSetXattr();
std::unique_ptr<Op> MakeFgetXattr();
std::unique_ptr<Op> MakeGetXattr();

// ops_wait.cc
std::unique_ptr<Op> MakeEpollCtl();
std::unique_ptr<Op> MakeEpollWait();
std::unique_ptr<Op> MakeWaitId();
std::unique_ptr<Op> MakeFutexWait();
std::unique_ptr<Op> MakeFutexWake();
std::unique_ptr<Op> MakeFutexWaitV();

}  // namespace escrow::sim

#endif  // ESCROW_SIM_OPS_H_
