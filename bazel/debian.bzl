"""Builds escrow from what Debian packages provide, for machines whose Bazel cannot download.

Two things are missing there. Debian's own Bazel (4.2.3 in Debian 12, 7.7.1 later) reports an empty version and expects
to find the rules of released Bazels where a released Bazel would download them: debian_bazel_shims() stands in. And the
dependencies come from apt instead of the Central Registry: debian_dependencies(), debian_test_dependencies().

A workspace that depends on escrow calls the first two from its own WORKSPACE.
"""

def _generated_files_impl(rctx):
    for path, content in rctx.attr.files.items():
        rctx.file(path, content, executable = False)

# A repository that consists of the given files and nothing else.
_generated_files = repository_rule(
    implementation = _generated_files_impl,
    attrs = {"files": attr.string_dict(mandatory = True)},
)

def _reexport(names):
    """Starlark source that makes built-in rules loadable from a file, as released Bazels have it."""
    return "\n".join(["{0} = native.{0}".format(name) for name in names]) + "\n"

_CC_RULES = ["cc_binary", "cc_import", "cc_library", "cc_shared_library", "cc_test", "cc_toolchain", "cc_toolchain_suite"]
_JAVA_RULES = ["binary", "import", "library", "plugin", "runtime", "test", "toolchain"]

# Where Debian's Bazel 7 packages keep the repositories that it resolves by itself in Bzlmod mode only.
_DEBIAN_BAZEL_7_REPOSITORIES = {
    "bazel_features": "tools/features",
    "bazel_skylib": "tools/skylib",
    "platforms": "tools/platforms",
    "rules_cc": "rules/cc",
    "rules_java": "rules/java",
    "rules_license": "rules/license",
    "rules_proto": "rules/proto",
    "rules_python": "rules/python",
}

def debian_bazel_shims():
    """Defines what Debian's Bazel looks for on the network. Does nothing in a released Bazel."""
    if native.bazel_version:
        return

    # Every test depends on the coverage tools, used or not.
    _generated_files(name = "remote_coverage_tools", files = {
        "WORKSPACE": "",
        "BUILD.bazel": """filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])""",
    })

    if hasattr(native, "module_name"):
        for name, path in _DEBIAN_BAZEL_7_REPOSITORIES.items():
            native.local_repository(name = name, path = "/usr/share/bazel/" + path)
        return

    _generated_files(name = "rules_cc", files = {
        "WORKSPACE": "",
        "BUILD.bazel": "",
        "cc/BUILD.bazel": "",
        "cc/defs.bzl": _reexport([rule for rule in _CC_RULES if hasattr(native, rule)]),
        "cc/common/BUILD.bazel": "",
        # A file cannot both use the built-in of a name and define that name.
        "cc/common/built_in.bzl": "BuiltInCcInfo = CcInfo\n",
        "cc/common/cc_info.bzl": """load(":built_in.bzl", "BuiltInCcInfo")\nCcInfo = BuiltInCcInfo\n""",
    })
    _generated_files(name = "rules_java", files = {
        "WORKSPACE": "",
        "BUILD.bazel": "",
        "java/BUILD.bazel": "",
        "java/defs.bzl": _reexport(["java_" + rule for rule in _JAVA_RULES]),
    })

def _system_files_impl(rctx):
    for link, target in rctx.attr.links.items():
        if not rctx.path(target).exists:
            fail("@%s needs %s, which this machine does not have. Run escrow's ./setup, or: apt-get install %s" %
                 (rctx.name, target, rctx.attr.package))
        rctx.symlink(target, link)
    rctx.file("WORKSPACE", "")
    rctx.symlink(rctx.attr.build_file, "BUILD.bazel")

# Files that a Debian package has installed, linked into a repository. Bazel tracks the links' targets, so an upgrade of
# the package rebuilds what depends on it.
_system_files = repository_rule(
    implementation = _system_files_impl,
    attrs = {
        "build_file": attr.label(mandatory = True),
        "links": attr.string_dict(mandatory = True),
        "package": attr.string(mandatory = True),
    },
    local = True,
)

def _debian_source_impl(rctx):
    result = rctx.execute(
        ["sh", rctx.path(rctx.attr._script), rctx.attr.suite, rctx.attr.package, "."],
        timeout = 300,
    )
    if result.return_code:
        fail("@%s: cannot get the source of %s from Debian %s:\n%s" %
             (rctx.name, rctx.attr.package, rctx.attr.suite, result.stderr))
    rctx.file("WORKSPACE", "")
    rctx.delete("BUILD.bazel")
    rctx.symlink(rctx.attr.build_file, "BUILD.bazel")

# The upstream source of a Debian source package. Not "local": it is fetched once, not at every start of the server.
_debian_source = repository_rule(
    implementation = _debian_source_impl,
    attrs = {
        "build_file": attr.label(mandatory = True),
        "package": attr.string(mandatory = True),
        "suite": attr.string(mandatory = True),
        "_script": attr.label(default = "//bazel:debian_source.sh"),
    },
)

# What Boost.Intrusive 1.74 includes, directly or not. All of Boost would be 14,000 files in every sandbox.
_BOOST_FOLDERS = [
    "config",
    "container_hash",
    "core",
    "detail",
    "functional",
    "integer",
    "intrusive",
    "move",
    "type_traits",
]
_BOOST_HEADERS = [
    "assert",
    "config",
    "cstdint",
    "limits",
    "static_assert",
    "throw_exception",
    "version",
]

def debian_dependencies():
    """What escrow's libraries need: @liburing (2.15 or newer) and @boost.intrusive."""
    _debian_source(
        name = "liburing",
        build_file = Label("//bazel:liburing.BUILD"),
        package = "liburing",
        suite = "testing",  # Debian 12 has 2.3; testing's binary package does not compile with Debian 12's headers
    )
    links = {"boost/" + folder: "/usr/include/boost/" + folder for folder in _BOOST_FOLDERS}
    links.update({"boost/%s.hpp" % name: "/usr/include/boost/%s.hpp" % name for name in _BOOST_HEADERS})
    _system_files(
        name = "boost.intrusive",
        build_file = Label("//bazel:boost_intrusive.BUILD"),
        links = links,
        package = "libboost-dev",
    )

def debian_test_dependencies():
    """What only escrow's own tests and benchmarks need: @googletest, @google_benchmark and @relacy."""
    _system_files(
        name = "googletest",
        build_file = Label("//bazel:googletest.BUILD"),
        links = {
            "googlemock": "/usr/src/googletest/googlemock",
            "googletest": "/usr/src/googletest/googletest",
        },
        package = "googletest",
    )
    _debian_source(
        name = "google_benchmark",
        build_file = Label("//bazel:google_benchmark.BUILD"),
        package = "benchmark",
        suite = "testing",  # Debian 12 has only a shared library, built without NDEBUG
    )
    _system_files(
        name = "relacy",
        build_file = Label("//bazel:relacy.BUILD"),
        links = {"relacy": "/usr/include/relacy"},
        package = "relacy-dev",
    )
