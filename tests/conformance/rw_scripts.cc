#include <liburing.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "escrow/raw/ops.h"
#include "tests/conformance/measure.h"
#include "tests/conformance/scripts.h"
#include "tests/conformance/stage.h"

// Scripts for raw/ops_rw.h.

namespace escrow::testing {
namespace {

// What reaches the file is seen through another descriptor of it.
int WrittenFile(Stage& stage) {
  const int file = TextFile("");
  const int same = stage.Own(dup(file));
  stage.Observe("hello", [same] { return ContentOf(same); });
  return file;
}

char* Hello(Stage& stage, const char* region) {
  return stage.Text(region, "hello");
}

iovec Five(void* memory) { return {.iov_base = memory, .iov_len = 5}; }

void Read(Stage& stage) {
  stage.Run(raw::Read{.fd = stage.File("fd", TextFile("hello")),
                      .buffer = stage.Memory("buffer", 5),
                      .length = 5},
            "5");
}

void Write(Stage& stage) {
  stage.Run(raw::Write{.fd = stage.File("fd", WrittenFile(stage)),
                       .buffer = Hello(stage, "buffer"),
                       .length = 5},
            "5");
}

void Readv(Stage& stage) {
  const iovec vector = Five(stage.Memory("vectors/iov_base", 5));
  stage.Run(raw::Readv{.fd = stage.File("fd", TextFile("hello")),
                       .vectors = stage.Value("vectors", vector),
                       .count = 1},
            "5");
}

void Writev(Stage& stage) {
  const iovec vector = Five(Hello(stage, "vectors/iov_base"));
  stage.Run(raw::Writev{.fd = stage.File("fd", WrittenFile(stage)),
                        .vectors = stage.Value("vectors", vector),
                        .count = 1},
            "5");
}

void ReadFixed(Stage& stage) {
  void* const memory = stage.Memory("buffer", 5);
  stage.Run(raw::ReadFixed{.fd = stage.File("fd", TextFile("hello")),
                           .buffer = memory,
                           .length = 5,
                           .buffer_index = stage.RegisterBuffer(memory, 5)},
            "5");
}

void WriteFixed(Stage& stage) {
  char* const memory = Hello(stage, "buffer");
  stage.Run(raw::WriteFixed{.fd = stage.File("fd", WrittenFile(stage)),
                            .buffer = memory,
                            .length = 5,
                            .buffer_index = stage.RegisterBuffer(memory, 5)},
            "5");
}

void ReadvFixed(Stage& stage) {
  void* const memory = stage.Memory("vectors/iov_base", 5);
  stage.Run(raw::ReadvFixed{.fd = stage.File("fd", TextFile("hello")),
                            .vectors = stage.Value("vectors", Five(memory)),
                            .count = 1,
                            .buffer_index = stage.RegisterBuffer(memory, 5)},
            "5");
}

void WritevFixed(Stage& stage) {
  char* const memory = Hello(stage, "vectors/iov_base");
  stage.Run(raw::WritevFixed{.fd = stage.File("fd", WrittenFile(stage)),
                             .vectors = stage.Value("vectors", Five(memory)),
                             .count = 1,
                             .buffer_index = stage.RegisterBuffer(memory, 5)},
            "5");
}

// At the end of each of these there are buffers left, of which another request
// takes one.

void ReadSelected(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  WriteTo(pipe.theirs, "hello");
  const raw::ReadSelected op = {.fd = stage.File("fd", pipe.ours),
                                .group = stage.Group(64)};
  stage.Run(op, "5#0 5#1");
  stage.Then([pipe] { WriteTo(pipe.theirs, "again"); }, op);
}

void ReadvSelected(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  WriteTo(pipe.theirs, "hello");
  const raw::ReadvSelected op = {.fd = stage.File("fd", pipe.ours),
                                 .vector = stage.Value("vector", Five(nullptr)),
                                 .group = stage.Group(64)};
  stage.Run(op, "5#0 5#1");
  stage.Then([pipe] { WriteTo(pipe.theirs, "again"); },
             raw::ReadSelected{.fd = op.fd, .group = op.group});
}

void ReadMultishot(Stage& stage) {
  const Ends pipe = MakePipe(stage);
  WriteTo(pipe.theirs, "hello");
  const raw::ReadMultishot op = {.fd = stage.File("fd", pipe.ours),
                                 .group = stage.Group(64)};
  stage.Run(op, "5#0+ 6#1+ -ECANCELED 5#2");
  stage.OnFirst([pipe](int) { WriteTo(pipe.theirs, "second"); });
  stage.CancelAfter(2);
  stage.Then([pipe] { WriteTo(pipe.theirs, "again"); },
             raw::ReadSelected{.fd = op.fd, .group = op.group});
}

}  // namespace

std::vector<NamedScript> RwScripts() {
  return {
      {"Read", Read},
      {"Write", Write},
      {"Readv", Readv},
      {"Writev", Writev},
      {"ReadFixed", ReadFixed},
      {"WriteFixed", WriteFixed},
      {"ReadvFixed", ReadvFixed},
      {"WritevFixed", WritevFixed},
      {"ReadSelected", ReadSelected},
      {"ReadvSelected", ReadvSelected},
      {"ReadMultishot", ReadMultishot},
  };
}

}  // namespace escrow::testing
