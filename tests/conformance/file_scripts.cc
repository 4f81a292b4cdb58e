#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "escrow/raw/ops.h"
#include "tests/conformance/measure.h"
#include "tests/conformance/scripts.h"
#include "tests/conformance/stage.h"

// Scripts for raw/ops_file.h.

namespace escrow::testing {
namespace {

void Fsync(Stage& stage) {
  stage.Run(raw::Fsync{.fd = stage.File("fd", TextFile("hello"))}, "0");
}

void SyncFileRange(Stage& stage) {
  stage.Run(raw::SyncFileRange{.fd = stage.File("fd", TextFile("hello")),
                               .offset = 0,
                               .length = 0,
                               .flags = SYNC_FILE_RANGE_WRITE},
            "0");
}

void Fallocate(Stage& stage) {
  stage.Run(
      raw::Fallocate{
          .fd = stage.File("fd", TextFile("hello")), .offset = 0, .length = 10},
      "0");
}

void Ftruncate(Stage& stage) {
  stage.Run(
      raw::Ftruncate{.fd = stage.File("fd", TextFile("hello")), .length = 2},
      "0");
}

void Fadvise(Stage& stage) {
  stage.Run(raw::Fadvise{.fd = stage.File("fd", TextFile("hello")),
                         .advice = POSIX_FADV_WILLNEED},
            "0");
}

void Madvise(Stage& stage) {
  stage.Run(raw::Madvise{.address = stage.Range("address", 4096),
                         .length = 4096,
                         .advice = MADV_DONTNEED},
            "0");
}

void Splice(Stage& stage) {
  const Ends in = MakePipe(stage);
  WriteTo(in.theirs, "hello");
  const Ends out = MakePipe(stage);
  stage.Own(out.ours);
  stage.Run(raw::Splice{.in = stage.File("in", in.ours),
                        .out = stage.File("out", dup(out.theirs)),
                        .length = 5},
            "5");
}

void Tee(Stage& stage) {
  const Ends in = MakePipe(stage);
  WriteTo(in.theirs, "hello");
  const Ends out = MakePipe(stage);
  stage.Own(out.ours);
  stage.Run(raw::Tee{.in = stage.File("in", in.ours),
                     .out = stage.File("out", dup(out.theirs)),
                     .length = 5},
            "5");
}

// The descriptors that it made are closed through slots: their numbers could
// not be told from revoked memory.
void Pipe(Stage& stage) {
  stage.Run(
      raw::Pipe{.fds = static_cast<int*>(stage.Memory("fds", 2 * sizeof(int))),
                .into = stage.EmptySlot("into")},
      "0");
}

void Close(Stage& stage) {
  stage.Run(raw::Close{.fd = stage.FileToClose("fd", TextFile("hello"))}, "0");
}

void FixedFdInstall(Stage& stage) {
  stage.ResultsAreFiles();
  stage.Run(raw::FixedFdInstall{.file = stage.Slot("file", TextFile("hello"))},
            "file");
}

}  // namespace

std::vector<NamedScript> FileScripts() {
  return {
      {"Fsync", Fsync},
      {"SyncFileRange", SyncFileRange},
      {"Fallocate", Fallocate},
      {"Ftruncate", Ftruncate},
      {"Fadvise", Fadvise},
      {"Madvise", Madvise},
      {"Splice", Splice},
      {"Tee", Tee},
      {"Pipe", Pipe},
      {"Close", Close},
      {"FixedFdInstall", FixedFdInstall},
  };
}

}  // namespace escrow::testing
