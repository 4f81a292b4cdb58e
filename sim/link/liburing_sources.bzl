"""liburing_sources: the files that a cc_library of liburing is compiled from, whether or not its package exports them."""

_SOURCES = ["queue.c", "register.c", "setup.c", "syscall.c", "version.c"]

_FilesInfo = provider(fields = ["files"])

def _collect_impl(target, ctx):
    direct = []
    transitive = []
    for name in ["srcs", "hdrs"]:
        direct += getattr(ctx.rule.files, name, [])
    for name in ["actual", "deps", "implementation_deps"]:
        value = getattr(ctx.rule.attr, name, None)
        for dep in value if type(value) == "list" else [value]:
            if dep and _FilesInfo in dep:
                transitive.append(dep[_FilesInfo].files)
    return [_FilesInfo(files = depset(direct, transitive = transitive))]

_collect = aspect(
    implementation = _collect_impl,
    attr_aspects = ["actual", "deps", "implementation_deps"],
)

def _liburing_sources_impl(ctx):
    files = [
        file
        for file in ctx.attr.library[_FilesInfo].files.to_list()
        if file.basename in _SOURCES or file.extension == "h"
    ]
    missing = [name for name in _SOURCES if name not in [file.basename for file in files]]
    if missing:
        fail("%s has no %s among its sources" % (ctx.attr.library.label, ", ".join(missing)))
    return [DefaultInfo(files = depset(files))]

liburing_sources = rule(
    implementation = _liburing_sources_impl,
    attrs = {"library": attr.label(mandatory = True, aspects = [_collect])},
)
