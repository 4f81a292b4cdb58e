#!/bin/bash -eu
# Builds every fuzz target on the simulated kernel into $OUT, with its seeds and
# its dictionary, by the compiler and the flags that OSS-Fuzz and
# ClusterFuzzLite say: $CC, $CFLAGS, $CXXFLAGS, $LIB_FUZZING_ENGINE. io_uring is
# not needed, which containers mostly forbid.

flags=(--repo_env=CC="$CC" --repo_env=CXX="${CXX:-$CC}" --strip=never --//fuzz:engine=external)
for flag in ${CFLAGS:-}; do flags+=(--conlyopt="$flag" --linkopt="$flag"); done
for flag in ${CXXFLAGS:-}; do flags+=(--cxxopt="$flag" --linkopt="$flag"); done
flags+=(--linkopt="$LIB_FUZZING_ENGINE" --linkopt=-fsanitize-link-c++-runtime)

targets=$(bazel query 'attr(tags, simulated, tests(//fuzz/...))')
bazel build "${flags[@]}" $targets

for target in $targets; do
  name=${target#*:}
  cp -f "bazel-bin/fuzz/$name" "$OUT/$name"
  seeds=()
  for directory in "fuzz/corpus/$name" "fuzz/regressions/$name"; do
    if [ -d "$directory" ]; then seeds+=("$directory"); fi
  done
  if [ ${#seeds[@]} -gt 0 ]; then
    rm -f "$OUT/${name}_seed_corpus.zip"
    zip -q -j -r "$OUT/${name}_seed_corpus.zip" "${seeds[@]}"
  fi
  if [ -f "fuzz/$name.dict" ]; then cp "fuzz/$name.dict" "$OUT/"; fi
  printf '[libfuzzer]\nmax_len = 512\ntimeout = 20\n' >"$OUT/$name.options"
done
