#!/usr/bin/env bash
# Restores the photos in examples/photos with the small demo model, then asks the index what came out.
#
# `make demo` runs it. By hand: SUPIR_BIN names the folder of the supir command; without it, PATH is searched.

set -euo pipefail

if [ -n "${SUPIR_BIN:-}" ]; then
  PATH=$(cd "$SUPIR_BIN" && pwd):$PATH
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v supir >/dev/null; then
  echo "error: the supir command is not on PATH" >&2
  echo "hint: run make demo, which installs it" >&2
  exit 2
fi

input=examples/photos
output=demo-output
query="select photo_id, status, error_code, caption_source, caption, width, height from photos order by photo_id"

# A second run on the same output would find everything done and restore nothing.
rm -rf "$output"

show() {
  printf '\n$'
  printf ' %s' "$@"
  printf '\n'
}

show supir run --input "$input" --output "$output" --model demo --preset demo
code=0
supir run --input "$input" --output "$output" --model demo --preset demo || code=$?

# damaged/truncated.jpg is half a file, put there to show what happens to such photos: it becomes a failed row, the
# others are restored, and the run says so with exit code 3.
if [ "$code" -ne 0 ] && [ "$code" -ne 3 ]; then
  echo "error: supir run ended with exit code $code" >&2
  exit "$code"
fi

echo "(exit code $code: damaged/truncated.jpg is half a file, to show what happens to such photos)"

show supir index "$output" --sql "\"$query\""
supir index "$output" --sql "$query"

printf '\nThe pictures are in %s\n' "$PWD/$output/images"
