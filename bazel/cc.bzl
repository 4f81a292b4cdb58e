"""escrow_cc_library: a cc_library whose users see its own headers and those of `deps`, but not of `implementation_deps`.

This is what keeps `//:safe` from giving raw headers away: the safe layer is implemented on the raw one, yet a target
that lists only `//:safe` has no include path on which "escrow/raw/ring.h" is found, with any compiler. (Bazel 7 has an
attribute of that name; Debian's Bazel 4.2.3 does not, and this works in both.)
"""

load("@rules_cc//cc:defs.bzl", "cc_library")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")

def _link_only_impl(ctx):
    return [CcInfo(linking_context = ctx.attr.library[CcInfo].linking_context)]

_link_only = rule(
    implementation = _link_only_impl,
    attrs = {"library": attr.label(mandatory = True, providers = [CcInfo])},
)

def escrow_cc_library(
        name,
        srcs = [],
        hdrs = [],
        deps = [],
        implementation_deps = [],
        testonly = False,
        **kwargs):
    """Headers are included as "escrow/<package>/<file>". Private unless `visibility` says otherwise.

    Args:
      name: the target.
      srcs: compiled against `deps` and `implementation_deps`.
      hdrs: must include headers of `deps` only.
      deps: part of this library's interface.
      implementation_deps: linked, but their headers stay out of the users' sight.
      testonly: as everywhere.
      **kwargs: passed to the cc_library that users depend on.
    """
    interface = dict(
        hdrs = hdrs,
        include_prefix = "escrow/" + native.package_name(),
        target_compatible_with = [Label("@platforms//os:linux")],
        testonly = testonly,
    )
    if not implementation_deps:
        cc_library(name = name, srcs = srcs, deps = deps, **dict(interface, **kwargs))
        return
    implementation = name + "_implementation"
    cc_library(
        name = implementation,
        srcs = srcs,
        deps = deps + implementation_deps,
        visibility = ["//visibility:private"],
        **interface
    )
    _link_only(
        name = name + "_link",
        library = implementation,
        testonly = testonly,
        visibility = ["//visibility:private"],
    )
    cc_library(name = name, deps = deps + [name + "_link"], **dict(interface, **kwargs))
