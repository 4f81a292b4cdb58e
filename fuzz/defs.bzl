"""cc_fuzz_test: a fuzz target that is also a test with every compiler."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def _engine_flag_impl(ctx):
    return []

# The fuzzing engine, by name. A rule of our own, so that no other repository is needed for it.
engine_flag = rule(
    implementation = _engine_flag_impl,
    build_setting = config.string(flag = True),
)

def cc_fuzz_test(name, srcs, deps = [], runs = 2000, **kwargs):
    """A test that runs LLVMFuzzerTestOneInput() on the seeds in corpus/<name>/ and on `runs` inputs made from them.

    With --config=fuzz libFuzzer makes the inputs, guided by coverage; otherwise they are random changes, the same each
    time. To fuzz for longer:

        bazel run --config=fuzz //fuzz:<name> -- -runs=-1 -max_total_time=600

    Args:
      name: the target.
      srcs: define LLVMFuzzerTestOneInput().
      deps: what they need.
      runs: how many inputs a test tries.
      **kwargs: passed to cc_test.
    """
    cc_test(
        name = name,
        srcs = srcs,
        args = ["-runs=%d" % runs, "%s/corpus/%s" % (native.package_name(), name)],
        data = native.glob(["corpus/%s/*" % name]),
        deps = deps + select({
            "//fuzz:libfuzzer": ["//fuzz:libfuzzer_arguments"],
            "//conditions:default": ["//fuzz:replay"],
        }),
        linkopts = select({
            "//fuzz:libfuzzer": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        **kwargs
    )
