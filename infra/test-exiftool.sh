#!/usr/bin/env bash
# Installs exiftool, by which the tests judge metadata, from Debian's or Ubuntu's packages (23 MB on disk). Does nothing
# where it is there already; without it those tests are skipped.

set -euo pipefail

if command -v exiftool >/dev/null; then exit; fi
if ! command -v apt-get >/dev/null; then
  echo "error: exiftool is missing, and this system has no apt-get" >&2
  echo "hint: install exiftool; without it some tests of metadata are skipped" >&2
  exit 2
fi
root=()
if [ "$(id -u)" -ne 0 ]; then root=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -qq
"${root[@]}" apt-get install -qq -y --no-install-recommends libimage-exiftool-perl >/dev/null
