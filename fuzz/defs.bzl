"""escrow_fuzz_test: a fuzz target that is also a test with every compiler."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def _engine_flag_impl(ctx):
    return []

# The fuzzing engine, by name. A rule of our own, so that no other repository is needed for it.
engine_flag = rule(
    implementation = _engine_flag_impl,
    build_setting = config.string(flag = True),
)

# As text, for the repository of this file, whoever loads it.
_LIBFUZZER = str(Label("//fuzz:libfuzzer"))
_EXTERNAL = str(Label("//fuzz:external"))
_RUN = str(Label("//fuzz:run"))
_MUTATOR = str(Label("//fuzz:mutator"))
_LIBFUZZER_ARGUMENTS = str(Label("//fuzz:libfuzzer_arguments"))
_REPLAY = str(Label("//fuzz:replay"))

def escrow_fuzz_test(
        name,
        srcs,
        deps = [],
        simulated = True,
        packed = True,
        runs = 20000,
        seconds = 2,
        args = [],
        data = [],
        linkopts = [],
        tags = [],
        **kwargs):
    """A test that runs LLVMFuzzerTestOneInput() on seeds and on inputs made from them.

    Seeds are the files in corpus/<name>/ and regressions/<name>/ of the package, if there are any; words for libFuzzer to
    put in are in <name>.dict, likewise. With --config=fuzz libFuzzer makes the inputs, guided by coverage; otherwise they
    are random changes, the same each time. To fuzz for longer, for instance an hour:

        bazel run --config=fuzz //fuzz:<name> -- -runs=-1 -max_total_time=3600

    Args:
      name: the target.
      srcs: define LLVMFuzzerTestOneInput().
      deps: what they need.
      simulated: whether io_uring is the simulated kernel's, as escrow/fuzz/run.h says.
      packed: whether inputs are as escrow/fuzz/input.h says, and are changed action by action.
      runs: how many inputs a test tries at most.
      seconds: how long it does so at most, where there is libFuzzer.
      args: more arguments.
      data: passed to cc_test.
      linkopts: passed to cc_test.
      tags: passed to cc_test, with "simulated" if it is.
      **kwargs: passed to cc_test.
    """
    package = native.package_name()
    seeds = []
    flags = []
    for directory in ["corpus", "regressions"]:
        files = native.glob(["%s/%s/*" % (directory, name)], allow_empty = True)
        if files:
            flags.append("/".join([part for part in [package, directory, name] if part]))
            seeds += files
    dictionary = native.glob([name + ".dict"], allow_empty = True)
    if dictionary:
        flags.append("-dict=" + "/".join([part for part in [package, name + ".dict"] if part]))
    cc_test(
        name = name,
        srcs = srcs,
        args = ["-runs=%d" % runs, "-timeout=20"] + select({
            _LIBFUZZER: ["-max_total_time=%d" % seconds],
            # Without guidance, more of them find little more.
            "//conditions:default": ["-max_total_time=1"],
        }) + flags + args,
        data = data + seeds + dictionary,
        # The simulator takes the place of the system calls of what is linked.
        linkstatic = True,
        deps = deps + ([_RUN] if simulated else []) + ([_MUTATOR] if packed else []) + select({
            _LIBFUZZER: [_LIBFUZZER_ARGUMENTS],
            _EXTERNAL: [],
            "//conditions:default": [_REPLAY],
        }),
        linkopts = linkopts + select({
            _LIBFUZZER: ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        tags = tags + (["simulated"] if simulated else []),
        **kwargs
    )
