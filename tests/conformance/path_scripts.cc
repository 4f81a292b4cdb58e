#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "escrow/raw/ops.h"
#include "tests/conformance/measure.h"
#include "tests/conformance/scripts.h"
#include "tests/conformance/stage.h"

// Scripts for raw/ops_path.h. In the directory there is a file "old".

namespace escrow::testing {
namespace {

int OpenDirectory(Stage& stage) {
  const int directory =
      open(stage.Directory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  Must(directory >= 0, "open");
  stage.Close(
      stage.Own(openat(directory, "old", O_CREAT | O_RDWR | O_CLOEXEC, 0600)));
  return directory;
}

int Directory(Stage& stage, const char* region) {
  return stage.Descriptor(region, OpenDirectory(stage));
}

void OpenAt(Stage& stage) {
  stage.Run(raw::OpenAt{.directory = Directory(stage, "directory"),
                        .path = stage.Text("path", "old"),
                        .flags = O_RDONLY,
                        .into = stage.EmptySlot("into")},
            "0");
}

void OpenAt2(Stage& stage) {
  stage.Run(raw::OpenAt2{.directory = Directory(stage, "directory"),
                         .path = stage.Text("path", "old"),
                         .how = stage.Value("how", open_how{.flags = O_RDONLY,
                                                            .mode = 0,
                                                            .resolve = 0}),
                         .into = stage.EmptySlot("into")},
            "0");
}

void Statx(Stage& stage) {
  stage.Run(raw::Statx{.directory = Directory(stage, "directory"),
                       .path = stage.Text("path", "old"),
                       .result = stage.Value<struct statx>("result")},
            "0");
}

void RenameAt(Stage& stage) {
  stage.Run(raw::RenameAt{.old_directory = Directory(stage, "old_directory"),
                          .old_path = stage.Text("old_path", "old"),
                          .new_directory = Directory(stage, "new_directory"),
                          .new_path = stage.Text("new_path", "new")},
            "0");
}

void UnlinkAt(Stage& stage) {
  stage.Run(raw::UnlinkAt{.directory = Directory(stage, "directory"),
                          .path = stage.Text("path", "old")},
            "0");
}

void MkdirAt(Stage& stage) {
  stage.Run(raw::MkdirAt{.directory = Directory(stage, "directory"),
                         .path = stage.Text("path", "new"),
                         .mode = 0700},
            "0");
}

void SymlinkAt(Stage& stage) {
  stage.Run(raw::SymlinkAt{.target = stage.Text("target", "old"),
                           .directory = Directory(stage, "directory"),
                           .path = stage.Text("path", "new")},
            "0");
}

void LinkAt(Stage& stage) {
  stage.Run(raw::LinkAt{.old_directory = Directory(stage, "old_directory"),
                        .old_path = stage.Text("old_path", "old"),
                        .new_directory = Directory(stage, "new_directory"),
                        .new_path = stage.Text("new_path", "new")},
            "0");
}

// The path of "old", which has user.attribute = "value". Unavailable where the
// file system has no attributes.
std::string PathWithAttribute(Stage& stage) {
  stage.Own(OpenDirectory(stage));
  const std::string path = stage.Directory() + "/old";
  if (setxattr(path.c_str(), "user.attribute", "value", 5, 0) != 0) {
    Must(errno == ENOTSUP, "setxattr");
    stage.Unavailable("needs a file system with extended attributes");
  }
  return path;
}

int OpenWithAttribute(Stage& stage) {
  return open(PathWithAttribute(stage).c_str(), O_RDWR | O_CLOEXEC);
}

void GetXattr(Stage& stage) {
  stage.Run(raw::GetXattr{.path = stage.Text("path", PathWithAttribute(stage)),
                          .name = stage.Text("name", "user.attribute"),
                          .value = stage.Memory("value", 64),
                          .length = 64},
            "5");
}

void FgetXattr(Stage& stage) {
  stage.Run(raw::FgetXattr{.fd = stage.File("fd", OpenWithAttribute(stage)),
                           .name = stage.Text("name", "user.attribute"),
                           .value = stage.Memory("value", 64),
                           .length = 64},
            "5");
}

void SetXattr(Stage& stage) {
  stage.Run(raw::SetXattr{.path = stage.Text("path", PathWithAttribute(stage)),
                          .name = stage.Text("name", "user.attribute"),
                          .value = stage.Text("value", "other"),
                          .length = 5},
            "0");
}

void FsetXattr(Stage& stage) {
  stage.Run(raw::FsetXattr{.fd = stage.File("fd", OpenWithAttribute(stage)),
                           .name = stage.Text("name", "user.attribute"),
                           .value = stage.Text("value", "other"),
                           .length = 5},
            "0");
}

}  // namespace

std::vector<NamedScript> PathScripts() {
  return {
      {"OpenAt", OpenAt},       {"OpenAt2", OpenAt2},
      {"Statx", Statx},         {"RenameAt", RenameAt},
      {"UnlinkAt", UnlinkAt},   {"MkdirAt", MkdirAt},
      {"SymlinkAt", SymlinkAt}, {"LinkAt", LinkAt},
      {"GetXattr", GetXattr},   {"FgetXattr", FgetXattr},
      {"SetXattr", SetXattr},   {"FsetXattr", FsetXattr},
  };
}

}  // namespace escrow::testing
