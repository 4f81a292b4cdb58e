#include "docs/lifetimes_page.h"

#include <string>
#include <string_view>

#include "escrow/raw/all_ops.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/op.h"

namespace escrow::docs {
namespace {

using raw::Access;
using raw::OpInfo;
using raw::Region;
using raw::Regions;

constexpr std::string_view kIntroduction =
    R"(# How long the kernel uses what a request refers to

This page is made from the types in `raw/` (`bazel run //docs:lifetimes`); a
test fails when it is stale, and another one proves the classes against the
running kernel: it holds each request back behind a read of an empty pipe,
revokes one region after the submit, lets the request go, and looks at whether
the kernel missed the region.

## Classes

Ordered: a later point is never reached before an earlier one.

| Until | The memory must stay valid, and the number must keep its meaning, until |
|---|---|
| consumed | the kernel has consumed the entry: `io_uring_enter` returned **and** the submission queue's head moved past it. A failed or short submit has not consumed it. With `IORING_SETUP_SQPOLL`, and before Linux 5.5, nothing tells when: take it as *completion* |
| issued | the request is issued. For linked, drained and `IOSQE_ASYNC` requests that can be arbitrarily later than the submit and nothing tells when: take it as *completion* |
| completion | the request's terminal completion: the one without `IORING_CQE_F_MORE` |
| last completion | the same, of a request that posts others before it |
| notification | the completion with `IORING_CQE_F_NOTIF`, or the first one if that lacks `IORING_CQE_F_MORE` |
| unregistered | the buffer, slot, group or ring is unregistered **and** every request that could have picked it is terminal |
| teardown | the ring is gone for good, which is some time after it was closed, and nothing tells when |

It is always safe to hold everything until the request's end, the event in the
second column of the next table; *consumed* is an optimisation.

## Operations

*Ends* is the event that ends the request itself. Indented regions are what the
one above points to or names. *Looks up* is a number that is resolved when the
request is issued: a descriptor that was closed and opened again by then is
another file.

| Operation | Ends | Refers to | The kernel | Until | Remarks |
|---|---|---|---|---|---|
)";

constexpr std::string_view kAfterTable = R"(
## What no entry names

| Memory | Must stay valid until |
|---|---|
| the mapped rings themselves | they are unmapped. The mapping keeps the ring alive: closing the descriptor alone cancels nothing |
| ring memory that the program brought (`IORING_SETUP_NO_MMAP`) | teardown: after a close with requests in flight the kernel wrote into it later in 46 of 200 runs. Let requests end first; unmap it, never reuse it |
| arguments of `io_uring_enter` (time, signal mask) | the call returns |
| a registered wait region | teardown |
| arrays of `iovec`, descriptors and tags given to a registration | the call returns |
| registered buffers | unregistered; their pages stay pinned until the last request that uses them, and the completion with the entry's tag tells when that is |
| descriptors that were registered | at once closable: the table has references of its own |
| a buffer ring in the program's memory | it is unregistered, or teardown |
| a buffer in a buffer ring | a completion returns it: `IORING_CQE_F_BUFFER` without `IORING_CQE_F_BUF_MORE`; or unregistered |
| area and refill ring of zero-copy receives | teardown |
| pointers into the rings when they are resized | the call: all of them change |

## What goes wrong, as measured

Figures are from Linux 6.18 with liburing 2.15.

**Submitting is not consuming.** With `IORING_SETUP_SQPOLL`, a timespec freed
right after `io_uring_submit()` was missed by 1873 of 2000 requests. Without
`IORING_SETUP_SUBMIT_ALL`, an invalid entry ends the submit: the ones behind it
stay in the queue and are executed by the *next* submit, against memory that may
be gone by then.

**Closing is not waiting.** After `io_uring_queue_exit()` returned, the kernel
went on writing into the buffers of `O_DIRECT` reads in 21 of 40 runs, and of
`IOSQE_ASYNC` reads in 146 of 5000. Closing a descriptor does not end requests on
it, and one went on to consume data. A thread that exits leaves its requests in
flight, without a completion, until something triggers them. Unregistering
buffers returns at once, with a read in flight that writes them afterwards.

**Cancelling is not ending.** The cancel request's completion and its target's
come in either order, and only the target's says that the memory is free. A
synchronous cancel of everything leaves completions to be reaped on rings with
`IORING_SETUP_DEFER_TASKRUN` or `IORING_SETUP_SQPOLL`, and from another thread it
is refused with `IORING_SETUP_SINGLE_ISSUER` (`-EEXIST`). `user_data` is a key: a
cancel hits whatever request has it by then.

**Numbers are looked up late.** A descriptor replaced by `dup2` after the submit,
a slot that was updated, a buffer table that was swapped: a linked request uses
the replacement.

**Pinned memory fails silently.** Requests on registered buffers never complete
with `-EFAULT`: the kernel writes the old pages, whoever has them. Control data of
`recvmsg` is written over silently, too, and `MADV_DONTNEED` wipes what is mapped
there when it runs.

**Zero-copy sends end twice.** After the first completion, 1,044,480 of 1,048,576
bytes that were overwritten reached the peer in their new form. A failed send has
a notification, too. One that is cancelled because a link before it failed has a
first completion without `IORING_CQE_F_MORE` *and* a notification: `user_data`
must not be a pointer that dies with the first. With `IOSQE_IO_DRAIN` it never
completes and cannot be cancelled; with `IOSQE_CQE_SKIP_SUCCESS` it is refused
with `-EINVAL`. Destroying the ring does not stop the network stack from reading
the memory, and loses the notification.

**Buffer groups.** A completion names the buffer but not the group, and errors can
name one as well (`-EFAULT` with `IORING_CQE_F_BUFFER`): it has to be given back
all the same. A group can be unregistered while a multishot receive is armed,
which ends with `-ENOBUFS` when data comes.

**Multishot accepts.** Each completion writes the peer's address over the last
one.

**Skipped completions.** With `IOSQE_CQE_SKIP_SUCCESS` a success posts no
completion: nothing tells when the memory is free.

## Results that leak

The result of these is, or may be, a descriptor or a file slot, which nobody
closes when the completion is ignored. Also when the request was cancelled: a
cancel that comes too late leaves it in the completion.

)";

// How often the kernel's loads and stores differ from what liburing's pages say
// is told by the remark.
constexpr std::string_view kManPage = "man page";

std::string Kernel(Access access) { return NameOf(access); }

void AppendRegions(std::string& page, std::string_view start, Regions regions,
                   int depth) {
  for (const Region& region : regions) {
    page += start;
    for (int i = 0; i < depth; ++i) page += "&nbsp;&nbsp;";
    page += std::string("`") + region.name + "` | " + Kernel(region.access) +
            " | " + NameOf(region.until) + " | " + region.note + " |\n";
    start = "| | | ";
    AppendRegions(page, start, region.behind, depth + 1);
  }
}

void AppendOperation(std::string& page, const OpInfo& info, Regions regions) {
  std::string start = std::string("| **") + info.name + "**<br>" + info.call +
                      ", Linux " + info.since + " | " + NameOf(info.ends) +
                      " | ";
  if (regions.empty()) {
    page += start + "– | | | |\n";
  } else {
    AppendRegions(page, start, regions, 0);
  }
}

void AppendDisagreements(std::string& page, const OpInfo& info,
                         Regions regions) {
  for (const Region& region : regions) {
    if (std::string_view(region.note).find(kManPage) !=
        std::string_view::npos) {
      page += std::string("| ") + info.manual + " | " + info.name +
              "::" + region.name + " | " + NameOf(region.until) + " |\n";
    }
    AppendDisagreements(page, info, region.behind);
  }
}

}  // namespace

std::string LifetimesPage() {
  std::string page(kIntroduction);
  raw::ForEachOp([&]<typename Op>() {
    AppendOperation(page, Op::kInfo, raw::RegionsOf<Op>());
  });
  page += kAfterTable;
  raw::ForEachOp([&]<typename Op>() {
    if constexpr (Op::kInfo.result_owns_file) {
      page += std::string("- ") + Op::kInfo.name + "\n";
    }
  });
  page += R"(
## Where liburing's man pages say otherwise

They say "until the request is submitted" of these:

| Page | Region | Measured |
|---|---|---|
)";
  raw::ForEachOp([&]<typename Op>() {
    AppendDisagreements(page, Op::kInfo, raw::RegionsOf<Op>());
  });
  return page;
}

}  // namespace escrow::docs
