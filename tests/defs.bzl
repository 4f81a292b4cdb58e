"""safe_test: a test of the safe layer, and the same where io_uring is forbidden."""

load("@rules_cc//cc:defs.bzl", "cc_library", "cc_test")

# The simulator's allocations would be among those that these count.
_COUNTS = ["*AllocatesNothing*", "*AllocateNothing*"]

def safe_test(name, srcs, deps, size, tags = [], skipped = [], **kwargs):
    """A cc_test, and a second one of the same objects, <name>_on_fallback, in which each ring is an emulated one.

    Args:
      name: the target.
      srcs: as of cc_test.
      deps: as of cc_test.
      size: as of cc_test.
      tags: as of cc_test.
      skipped: patterns of GoogleTest's, of what is not for the fallback.
      **kwargs: passed to the first one.
    """
    cc_library(
        name = name + "_objects",
        testonly = True,
        srcs = srcs,
        alwayslink = True,
        linkstatic = True,
        visibility = ["//visibility:private"],
        deps = deps,
    )
    cc_test(
        name = name,
        size = size,
        tags = tags,
        deps = [":" + name + "_objects"],
        **kwargs
    )
    cc_test(
        name = name + "_on_fallback",
        size = size,
        args = ["--gtest_filter=-" + ":".join(_COUNTS + skipped)],
        # Else it would be up to the loader which liburing comes first.
        linkstatic = True,
        tags = tags,
        deps = [
            ":forbidden",
            ":" + name + "_objects",
            "//sim:fallback",
        ],
    )
