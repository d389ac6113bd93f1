#!/usr/bin/env bash
# Installs what the tests in tests/s3 start: Ceph's RADOS Gateway, a real S3 store, from Debian's or Ubuntu's packages
# (64 MB to fetch, 290 MB on disk). Does nothing where it is there already. The tests start and end it themselves.

set -euo pipefail

readonly packages=(radosgw ceph-mon ceph-osd ceph-common)

for program in radosgw radosgw-admin ceph-mon ceph-osd ceph ceph-authtool monmaptool; do
  command -v "$program" >/dev/null || missing=$program
done
if [ -z "${missing:-}" ]; then exit; fi

if ! command -v apt-get >/dev/null; then
  echo "error: $missing is missing, and this system has no apt-get" >&2
  echo "hint: install ${packages[*]}; without them the tests in tests/s3 are skipped" >&2
  exit 2
fi
root=()
if [ "$(id -u)" -ne 0 ]; then root=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -qq
"${root[@]}" apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
