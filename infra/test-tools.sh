#!/usr/bin/env bash
# Installs what the tests of infra/ and of clusters start, from Debian's or Ubuntu's packages: prometheus and promtool
# (metrics, rules, the dashboard's queries) and ip (nodes in network namespaces). Does nothing where they are there
# already; no service is started. Without them those tests are skipped.

set -euo pipefail

missing=()
for program in prometheus:prometheus promtool:prometheus ip:iproute2; do
  command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
done
if [ "${#missing[@]}" -eq 0 ]; then exit; fi

if ! command -v apt-get >/dev/null; then
  echo "error: ${missing[*]} is missing, and this system has no apt-get" >&2
  echo "hint: install it; without it some tests in tests/infra and tests/cluster are skipped" >&2
  exit 2
fi
root=()
if [ "$(id -u)" -ne 0 ]; then root=(sudo); fi
"${root[@]}" apt-get update -qq
# In runlevel 1 packages do not start their services.
"${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
