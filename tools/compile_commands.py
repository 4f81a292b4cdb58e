#!/usr/bin/env python3
"""Writes compile_commands.json into the workspace's root, for clangd and clang-tidy.

usage: python3 tools/compile_commands.py

Run it again when targets or dependencies change. A source file that several targets compile has one entry. Headers of
tests, examples and benchmarks have one where those have been built.
"""

import json
import os
import pathlib
import subprocess
import sys

WORKSPACE = pathlib.Path(__file__).resolve().parent.parent

# GCC's flags do not suit tools that are made of clang. Who works on this has built it with sanitizers before, which the
# tools do not need to see.
CONFIG = "--config=asan"

LIBRARIES = ("//raw/...", "//ownership/...", "//safe/...", "//sim/...", "//fuzz/...")

# Also a flag of GCC that clang does not know, in case Bazel was told to use GCC after all, and those of Bazel's layering
# check, which name files of Bazel's own.
DROPPED = ("-fsanitize", "-fno-sanitize", "-fno-canonical-system-headers", "-fmodule", "-Wprivate-header")


def bazel(*arguments, **kwargs):
    return subprocess.run(["bazel", *arguments], cwd=WORKSPACE, stdin=subprocess.DEVNULL, **kwargs)


def output_of_bazel(*arguments):
    result = bazel(*arguments, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"compile_commands.py: bazel {arguments[0]} failed; its output is above")
    return result.stdout


def with_absolute_external(argument, output_base):
    """Bazel compiles where external/ is next to the sources; a workspace has no such folder."""
    for prefix in ("", "-I", "-isystem", "-iquote", "-include", "-F", "-L", "--sysroot="):
        start = prefix + "external/"
        if argument.startswith(start):
            return f"{prefix}{output_base}/external/{argument[len(start):]}"
    return argument


def entry(file, arguments):
    return {"directory": str(WORKSPACE), "file": file, "arguments": arguments}


def headers_of(arguments):
    """The workspace's own headers that a compilation has included, by what it wrote with -MF; none if it has failed."""
    if "-MF" not in arguments:
        return
    try:
        text = (WORKSPACE / arguments[arguments.index("-MF") + 1]).read_text()
    except OSError:
        return
    for name in text.replace("\\\n", " ").split():
        path = (WORKSPACE / name).resolve()
        if path.suffix == ".h" and WORKSPACE in path.parents and path.is_file():
            yield str(path.relative_to(WORKSPACE))


def entries_of(actions, output_base):
    """By file. Headers have entries because clangd would guess: a header without a source file of the same name gets
    the flags of some neighbour, which may lack its dependencies."""
    sources = {}
    for action in actions:
        arguments = [a for a in action.get("arguments", []) if not a.startswith(DROPPED)]
        if "-c" in arguments:
            arguments = [with_absolute_external(a, output_base) for a in arguments]
            sources.setdefault(arguments[arguments.index("-c") + 1], arguments)
    entries = {file: entry(file, arguments) for file, arguments in sources.items()}
    for source, arguments in sorted(sources.items()):
        for header in headers_of(arguments):
            is_its_own = os.path.splitext(source)[0] == os.path.splitext(header)[0]
            if header not in entries or is_its_own:
                at = arguments.index("-c")
                as_header = ["-x", "c++-header", "-c", header]
                entries[header] = entry(header, arguments[:at] + as_header + arguments[at + 2:])
    return entries


def main():
    if len(sys.argv) > 1:
        sys.exit(__doc__.strip())
    # Headers are included by a name that exists only as a link in the output tree, and some headers are generated:
    # these are made for all, and the libraries are compiled, which tells who includes what.
    # What does not compile is what these tools are needed for most, so go on.
    links = bazel("build", CONFIG, "--keep_going", "--output_groups=compilation_prerequisites_INTERNAL_", "//...")
    libraries = bazel("build", CONFIG, "--keep_going", *LIBRARIES)
    if links.returncode or libraries.returncode:
        print("compile_commands.py: the build failed; headers may be missing where it did", file=sys.stderr)
    output_base = output_of_bazel("info", CONFIG, "output_base").strip()
    actions = output_of_bazel(
        "aquery", CONFIG, "--keep_going", "--output=jsonproto", 'mnemonic("CppCompile", //...)')
    entries = entries_of(json.loads(actions).get("actions", []), output_base)
    if not entries:
        sys.exit("compile_commands.py: bazel aquery shows no compilation")

    # Replaced at once: clangd may be reading it.
    path = WORKSPACE / "compile_commands.json"
    unfinished = path.with_suffix(".json.new")
    unfinished.write_text(json.dumps([entries[file] for file in sorted(entries)], indent=1) + "\n")
    os.replace(unfinished, path)
    print(f"{path}: {len(entries)} files")


if __name__ == "__main__":
    main()
