"""uninstrumented: a binary built without the sanitizers that the rest of the build has.

What is preloaded into any program must not need what only some have, and is preloaded into the programs that those
start, too: a symbolizer, for one.
"""

_SANITIZERS = ("-fsanitize", "-fno-sanitize")

_OPTIONS = ["//command_line_option:" + name for name in ["copt", "conlyopt", "cxxopt", "linkopt"]]

# May name sanitizers, too, and cannot be read here.
_PER_FILE = "//command_line_option:per_file_copt"

def _without_sanitizers_impl(settings, _):
    options = {
        option: [value for value in settings[option] if not value.startswith(_SANITIZERS)]
        for option in _OPTIONS
    }
    options[_PER_FILE] = []
    return options

_without_sanitizers = transition(
    implementation = _without_sanitizers_impl,
    inputs = _OPTIONS,
    outputs = _OPTIONS + [_PER_FILE],
)

def _is_instrumented(cpp):
    for options in [cpp.copts, cpp.conlyopts, cpp.cxxopts, cpp.linkopts]:
        for option in options:
            if option.startswith(_SANITIZERS):
                return True
    return False

def _uninstrumented_impl(ctx):
    # Only what is asked for is built. Where there are no sanitizers that is what others use, too.
    files = ctx.files.transitioned if _is_instrumented(ctx.fragments.cpp) else ctx.files.binary
    output = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = output, target_file = files[0])
    return [DefaultInfo(
        files = depset([output]),
        runfiles = ctx.runfiles(files = [output]),
    )]

_uninstrumented = rule(
    implementation = _uninstrumented_impl,
    attrs = {
        "binary": attr.label(mandatory = True),
        "transitioned": attr.label(mandatory = True, cfg = _without_sanitizers),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
    fragments = ["cpp"],
)

def uninstrumented(name, binary, **kwargs):
    """`binary`, for which nothing is instrumented.

    Args:
      name: the target, and its file.
      binary: a cc_binary.
      **kwargs: passed to the rule.
    """
    _uninstrumented(name = name, binary = binary, transitioned = binary, **kwargs)
