#!/usr/bin/env python3
"""Runs clang-tidy on layers of the workspace, by the compile_commands.json that tools/compile_commands.py writes.

usage: python3 tools/clang_tidy.py FOLDER...

The files of a folder are looked at as one translation unit: clang-tidy spends nearly all of its time on the standard
library, which it then sees once per folder. So what two files of a folder have in unnamed namespaces must not have the
same name. What the static analyzer finds (clang-analyzer-*), and using-declarations that nobody uses, are found in single
files only:

    clang-tidy-19 -p . safe/ring.cc
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

WORKSPACE = pathlib.Path(__file__).resolve().parent.parent
CLANG_TIDY = "clang-tidy-19"

# Followed by a value.
OF_ONE_FILE = ("-c", "-o", "-MF")
SEARCHED = ("-isystem", "-iquote")


def options_of(entry):
    """The arguments of a command of the database, without what is for its file alone, each with its value."""
    arguments = iter(entry["arguments"][1:])
    for argument in arguments:
        if argument in OF_ONE_FILE:
            next(arguments)
        elif argument in SEARCHED:
            yield argument, next(arguments)
        elif argument != "-MD":
            yield (argument,)


def arguments_for_all(entries):
    """Those of the first one, and where the others search for headers."""
    options = list(options_of(entries[0]))
    for entry in entries[1:]:
        options += [option for option in options_of(entry) if option[0].startswith("-i") or option[0].startswith("-I")]
    return [argument for option in dict.fromkeys(options) for argument in option]


def check(folder, entries, scratch):
    """Whether there is nothing to be said of the sources in `folder`."""
    source = pathlib.Path(scratch) / f"{folder}.cc"
    lines = [f'#include "{WORKSPACE / entry["file"]}"  // NOLINT\n' for entry in entries]
    source.write_text("".join(lines))
    command = [CLANG_TIDY, f"--config-file={WORKSPACE / '.clang-tidy'}", "--quiet", "--warnings-as-errors=*", str(source)]
    result = subprocess.run(command + ["--"] + arguments_for_all(entries), cwd=WORKSPACE, stdin=subprocess.DEVNULL)
    return result.returncode == 0


def main():
    folders = sys.argv[1:]
    if not folders or folders[0].startswith("-"):
        sys.exit(__doc__.strip())
    try:
        database = json.loads((WORKSPACE / "compile_commands.json").read_text())
    except OSError as error:
        sys.exit(f"clang_tidy.py: run tools/compile_commands.py first: {error}")
    by_folder = {}
    for folder in folders:
        sources = {str(source.relative_to(WORKSPACE)) for source in (WORKSPACE / folder).glob("*.cc")}
        entries = [entry for entry in database if entry["file"] in sources]
        unknown = sources - {entry["file"] for entry in entries}
        if unknown or not entries:
            sys.exit(f"clang_tidy.py: compile_commands.json has nothing of {', '.join(sorted(unknown)) or folder}")
        by_folder[folder] = entries
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(max_workers=2) as threads:
        clean = threads.map(lambda item: check(*item, scratch), by_folder.items())
        sys.exit(0 if all(list(clean)) else 1)


if __name__ == "__main__":
    main()
