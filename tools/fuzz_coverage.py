#!/usr/bin/env python3
"""Prints which lines of ownership/ and safe/ the seeds of the fuzz targets reach.

usage: python3 tools/fuzz_coverage.py [--missed] [--seeds=DIRECTORY]

Seeds are those in fuzz/corpus/ and fuzz/regressions/, and those in the folders of DIRECTORY that are named like the
targets. With --missed, the lines that none of them reaches are printed, too.
"""

import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

WORKSPACE = pathlib.Path(__file__).resolve().parent.parent
CONFIG = "--config=coverage"
MEASURED = ("ownership", "safe")


def output_of(*command, **kwargs):
    result = subprocess.run(command, cwd=WORKSPACE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **kwargs)
    if result.returncode:
        sys.exit(f"fuzz_coverage.py: {' '.join(map(str, command[:3]))} failed")
    return result.stdout


def seeds_of(name, more):
    folders = [WORKSPACE / "fuzz" / kind / name for kind in ("corpus", "regressions")]
    if more:
        folders.append(more / name)
    return [str(file) for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]


def hits_by_file(lcov):
    """How often each line was reached. A header is seen through links of several names."""
    hits = collections.defaultdict(lambda: collections.defaultdict(int))
    lines = None
    for record in lcov.splitlines():
        kind, _, value = record.partition(":")
        if kind == "SF":
            match = re.search(r"(?:^|/)((?:%s)/[a-z_0-9]+\.(?:h|cc))$" % "|".join(MEASURED), value)
            lines = hits[match[1]] if match else None
        elif kind == "DA" and lines is not None:
            number, count = value.split(",")[:2]
            lines[int(number)] += int(count)
    return hits


def main():
    missed = False
    more = None
    for argument in sys.argv[1:]:
        if argument == "--missed":
            missed = True
        elif argument.startswith("--seeds="):
            more = pathlib.Path(argument.partition("=")[2]).resolve()
        else:
            sys.exit(__doc__.strip())

    targets = output_of("bazel", "query", "tests(//fuzz/...) - attr(tags, manual, //fuzz/...)").split()
    output_of("bazel", "build", CONFIG, *targets)
    binaries = pathlib.Path(output_of("bazel", "info", CONFIG, "bazel-bin").strip())
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for target in targets:
            name = target.partition(":")[2]
            binary = binaries / "fuzz" / name
            seeds = seeds_of(name, more)
            if not seeds:
                continue
            environment = dict(os.environ, LLVM_PROFILE_FILE=f"{scratch}/{name}.profraw")
            output_of(binary, *seeds, env=environment, stderr=subprocess.DEVNULL)
            objects += ["-object", str(binary)]
        profile = f"{scratch}/all.profdata"
        raw = [str(file) for file in pathlib.Path(scratch).glob("*.profraw")]
        output_of("llvm-profdata-19", "merge", "-o", profile, *raw)
        lcov = output_of("llvm-cov-19", "export", "-format=lcov", f"-instr-profile={profile}", *objects[1:],
                         stderr=subprocess.DEVNULL)

    totals = {folder: [0, 0] for folder in MEASURED}
    for file, lines in sorted(hits_by_file(lcov).items()):
        reached = sum(1 for count in lines.values() if count)
        total = totals[file.partition("/")[0]]
        total[0] += reached
        total[1] += len(lines)
        print(f"{100 * reached / len(lines):6.1f} % of {len(lines):5}  {file}")
        if missed:
            text = (WORKSPACE / file).read_text().splitlines()
            for number in sorted(number for number, count in lines.items() if not count):
                print(f"    {number:5}  {text[number - 1]}")
    for folder, (reached, lines) in totals.items():
        print(f"{100 * reached / max(lines, 1):6.1f} % of {lines:5}  {folder}/")


if __name__ == "__main__":
    main()
