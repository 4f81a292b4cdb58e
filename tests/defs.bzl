"""safe_test: a test of the safe layer, and the same where io_uring is forbidden."""

load("@rules_cc//cc:defs.bzl", "cc_library", "cc_test")

# The simulator's allocations would be among those that these count.
_COUNTS = ["*AllocatesNothing*", "*AllocateNothing*"]

def safe_test(name, srcs, deps, size, tags = [], not_on_fallback = {}, error = "EPERM", **kwargs):
    """A cc_test, and a second one of the same objects, <name>_on_fallback, in which each ring is an emulated one.

    Args:
      name: the target.
      srcs: as of cc_test.
      deps: as of cc_test.
      size: as of cc_test.
      tags: as of cc_test.
      not_on_fallback: patterns of GoogleTest's, of what is not for the second one, by the reason.
      error: what the second one's calls of io_uring are answered with.
      **kwargs: passed to the first one.
    """
    skipped = []
    for patterns in not_on_fallback.values():
        skipped += patterns
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
        # What AddressSanitizer could see here, it sees on the simulated kernel. ThreadSanitizer lets no child of a
        # process with threads start any, which death tests do.
        tags = tags + [tag for tag in ["no-asan", "single-thread"] if tag not in tags],
        deps = [
            ":forbidden_with_" + error,
            ":" + name + "_objects",
            "//sim:fallback",
        ],
    )
