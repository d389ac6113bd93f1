#!/usr/bin/env bash
# Installs what tests start and pip does not have, from Debian's or Ubuntu's packages. Does nothing where it is there
# already, and starts nothing. Without it those tests are skipped.
#
#   infra/test-tools.sh          all of it
#   infra/test-tools.sh store    Ceph's RADOS Gateway, a real S3 store (64 MB to fetch, 290 MB on disk): tests/s3
#   infra/test-tools.sh photos   exiftool, by which metadata are judged (23 MB on disk)
#   infra/test-tools.sh cluster  prometheus and promtool (rules, the dashboard's queries), ip (nodes in network namespaces)

set -euo pipefail

die() { # message, hint
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 2
}

# program:package
store=(radosgw:radosgw ceph-mon:ceph-mon ceph-osd:ceph-osd radosgw-admin:ceph-common ceph:ceph-common
  ceph-authtool:ceph-common monmaptool:ceph-base)
photos=(exiftool:libimage-exiftool-perl)
cluster=(prometheus:prometheus promtool:prometheus ip:iproute2)

case ${1:-all} in
  all) wanted=("${store[@]}" "${photos[@]}" "${cluster[@]}") ;;
  store) wanted=("${store[@]}") ;;
  photos) wanted=("${photos[@]}") ;;
  cluster) wanted=("${cluster[@]}") ;;
  *) die "there is nothing called $1" "store, photos or cluster; all of them without a word" ;;
esac

missing=()
for one in "${wanted[@]}"; do
  command -v "${one%:*}" >/dev/null || missing+=("${one#*:}")
done
if [ "${#missing[@]}" -eq 0 ]; then exit; fi

command -v apt-get >/dev/null ||
  die "this system has no apt-get to install ${missing[*]}" "install what they hold; without it some tests are skipped"
root=()
if [ "$(id -u)" -ne 0 ]; then root=(sudo); fi
"${root[@]}" apt-get update -qq
# In runlevel 1 packages do not start their services.
"${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
