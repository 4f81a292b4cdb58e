"""Downloads what escrow needs, for workspaces without Bzlmod (Bazel 7, or 8 with --enable_workspace).

With Bzlmod, MODULE.bazel is all it takes; on Debian without internet, see debian.bzl.
"""

load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")
load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")

_BOOST_VERSION = "1.90.0"

# The part of Boost that Boost.Intrusive includes: checksum of each library's archive, and the libraries it includes.
_BOOST_LIBRARIES = {
    "assert": ("1f48f929e69146db222fdf9538ec81c7cbd3ca88b94343644942b477031a3bba", ["config"]),
    "config": ("1390bd79fbf270e40cfe5ac6b899f4a9c4e47139b6e17b4c1f7f78822adaa9fc", []),
    "intrusive": ("1d48572a3437a74f18b058c7ad510545dc608e38a5943fc137116fccffa1d442", ["assert", "config", "move"]),
    "move": ("dadf667dee6bbfc23200b5b43eaf359c35628f5ace07c0196ef7acda4fabeff5", ["config"]),
}

# Repositories and targets are named as in the Central Registry, so that @boost.intrusive means the same either way.
_BOOST_BUILD = """
load("@rules_cc//cc:defs.bzl", "cc_library")

licenses(["notice"])  # BSL-1.0

cc_library(
    name = "boost.{library}",
    hdrs = glob(["include/**"]),
    includes = ["include"],
    visibility = ["//visibility:public"],
    deps = {deps},
)
"""

def escrow_dependencies():
    """Defines @liburing, @boost.intrusive with what it needs, and @rules_cc, unless the workspace already has them."""
    maybe(
        http_archive,
        name = "rules_cc",  # the one that Bazel 7 falls back on has no cc/common/cc_info.bzl
        sha256 = "abc605dd850f813bb37004b77db20106a19311a96b2da1c92b789da529d28fe1",
        strip_prefix = "rules_cc-0.0.17",
        urls = ["https://github.com/bazelbuild/rules_cc/releases/download/0.0.17/rules_cc-0.0.17.tar.gz"],
    )
    maybe(
        http_archive,
        name = "liburing",
        build_file = Label("//bazel:liburing.BUILD"),
        sha256 = "8d052f2622dcb3678cbaee5ff582a87572672a6c0a56533cdda5b65cb636120a",
        strip_prefix = "liburing-liburing-2.15",
        urls = ["https://github.com/axboe/liburing/archive/refs/tags/liburing-2.15.tar.gz"],
    )
    for library, (sha256, includes) in _BOOST_LIBRARIES.items():
        maybe(
            http_archive,
            name = "boost." + library,
            build_file_content = _BOOST_BUILD.format(
                deps = ["@boost.{0}//:boost.{0}".format(included) for included in includes],
                library = library,
            ),
            sha256 = sha256,
            strip_prefix = "{}-boost-{}".format(library, _BOOST_VERSION),
            urls = ["https://github.com/boostorg/{}/archive/refs/tags/boost-{}.tar.gz".format(library, _BOOST_VERSION)],
        )
