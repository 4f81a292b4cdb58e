"""uninstrumented: a binary built without the sanitizers that the rest of the build has.

What is preloaded into any program must not need what only some have, and is preloaded into the programs that those
start, too: a symbolizer, for one.
"""

_OPTIONS = ["//command_line_option:" + name for name in ["copt", "conlyopt", "cxxopt", "linkopt"]]

# May name sanitizers, too, and cannot be read here.
_PER_FILE = "//command_line_option:per_file_copt"

def _without_sanitizers_impl(settings, _):
    options = {
        option: [value for value in settings[option] if not value.startswith(("-fsanitize", "-fno-sanitize"))]
        for option in _OPTIONS
    }
    options[_PER_FILE] = []
    return options

_without_sanitizers = transition(
    implementation = _without_sanitizers_impl,
    inputs = _OPTIONS,
    outputs = _OPTIONS + [_PER_FILE],
)

def _uninstrumented_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = output, target_file = ctx.files.binary[0])
    return [DefaultInfo(
        files = depset([output]),
        runfiles = ctx.runfiles(files = [output]),
    )]

uninstrumented = rule(
    implementation = _uninstrumented_impl,
    attrs = {
        "binary": attr.label(mandatory = True, cfg = _without_sanitizers),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
)
