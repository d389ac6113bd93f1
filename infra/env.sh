#!/usr/bin/env bash
# Prepares .venv in this checkout; the last line printed is its path.
#
#   infra/env.sh            prepare .venv (does nothing when it is up to date)
#   infra/env.sh distclean  remove .venv and the shared environments
#
# The dependencies take gigabytes, so they are installed once and shared by all checkouts:
#
#   <cache>/env-<hash>   an ordinary venv with the dependencies of pyproject.toml (dev tools too), not the project;
#                        <hash> covers the dependency lists and the interpreter's ABI
#   .venv                a small venv: a .pth file adds the shared packages, and the project is
#                        installed editable, so two checkouts never see each other's code
#
# <cache> is $SUPIR_ENV_DIR, else $XDG_CACHE_HOME/supir, else ~/.cache/supir. $PYTHON picks the interpreter.
# An environment counts as built once its .ready file exists, which is written last: whatever was interrupted
# before that is thrown away and built again.

set -euo pipefail

readonly need_gb=10   # at the peak: 6.4 GB installed and 2.9 GB of downloads
readonly ample_gb=14  # enough for another copy of the downloads in pip's own cache

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=${SUPIR_ENV_DIR:-${XDG_CACHE_HOME:-${HOME:?set HOME or SUPIR_ENV_DIR}/.cache}/supir}
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
cache=${cache%/}
venv=$root/.venv

# These would send packages, or the interpreter, somewhere else.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV __PYVENV_LAUNCHER__

say() { printf '%s\n' "$*" >&2; }

die() { # message, hint
  say "error: $1"
  say "hint: $2"
  exit 2
}

# Prints what compiled packages must match, such as "cpython-311-x86_64-linux-gnu x86_64"; fails below Python 3.11.
abi_of() {
  "$1" -c '
import platform, sys, sysconfig
assert sys.version_info >= (3, 11)
print(sysconfig.get_config_var("SOABI"), platform.machine())' 2>/dev/null
}

has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Prints the first interpreter that runs, is new enough and can make a venv. A name on PATH proves little: version
# managers put launchers there for interpreters that are not installed.
find_python() {
  local candidate without_venv='' candidates=(python3.13 python3.12 python3.11 python3)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    abi_of "$candidate" >/dev/null || continue
    if has_venv "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
    without_venv=${without_venv:-$candidate}
  done
  if [ -n "$without_venv" ]; then
    die "$without_venv has no venv module" "on Debian and Ubuntu: apt install ${without_venv##*/}-venv"
  elif [ -n "${PYTHON:-}" ]; then
    die "PYTHON=$PYTHON does not run or is older than 3.11" "give the path of a Python 3.11 or newer"
  fi
  die "no Python 3.11 or newer found" "install one, or name it: make PYTHON=/path/to/python3 ..."
}

# True when .venv was built in this very place, from this pyproject.toml, on a shared environment that is still
# there, and its interpreter (and the one asked for, if any) still fits.
is_ready() {
  [ -f "$venv/.ready" ] || return 1
  local built_at='' shared='' abi=''
  { IFS= read -r built_at && IFS= read -r shared && IFS= read -r abi; } <"$venv/.ready" || return 1
  [ "$built_at" = "$root" ] && [ "${shared%/*}" = "$cache" ] && [ -f "$shared/.ready" ] || return 1
  cmp -s "$root/pyproject.toml" "$venv/pyproject.toml" || return 1
  [ "$(abi_of "$venv/bin/python")" = "$abi" ] || return 1
  [ -z "${PYTHON:-}" ] || [ "$(abi_of "$PYTHON")" = "$abi" ]
}

# Waits for the one lock that guards the cache, and holds it until this script and its children end. The lock
# belongs to file descriptor 9, so it cannot outlive its owner; Python takes it as not every system has flock(1).
lock() { # python
  mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] ||
    die "cannot write to $cache" "set SUPIR_ENV_DIR to a folder of your own"
  exec 9>>"$cache/.lock"
  if ! "$1" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null; then
    say "Waiting for another build of the environment ..."
    "$1" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' ||
      die "cannot lock $cache/.lock" "set SUPIR_ENV_DIR to a folder on a local disk"
  fi
}

# Prints what to install, one requirement a line: the build backend, the dependencies, the dev tools.
requirements() { # python
  "$1" -c '
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    config = tomllib.load(file)
project = config["project"]
lists = config["build-system"]["requires"], project["dependencies"], project["optional-dependencies"]["dev"]
print("\n".join(sorted({requirement for names in lists for requirement in names})))' "$root/pyproject.toml"
}

build_shared() { # python, folder, requirements
  local free_gb
  rm -rf "$2"
  free_gb=$(df -Pk "$cache" | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
  [ "$free_gb" -ge "$need_gb" ] ||
    die "$free_gb GB free at $cache, but the dependencies need $need_gb GB" \
      "free some space, or set SUPIR_ENV_DIR to a folder on a larger disk"
  [ "$free_gb" -ge "$ample_gb" ] || export PIP_NO_CACHE_DIR=1
  say "Installing the dependencies into $2"
  say "Once for all checkouts; about 6 GB and a few minutes, PyTorch being the most of it ..."
  "$1" -m venv "$2"
  printf '%s\n' "$3" >"$2/requirements.txt"
  # pip keeps downloads in the temporary folder, which may be a small disk in memory.
  mkdir "$2/tmp"
  TMPDIR=$2/tmp "$2/bin/python" -m pip --disable-pip-version-check --no-input \
    install -qq -r "$2/requirements.txt" ||
    die "the dependencies could not be installed" "see pip's messages above; run the same command again to retry"
  rm -rf "$2/tmp"
  touch "$2/.ready"
  say "Installed in $SECONDS s."
}

# Makes .venv/bin hold the shared tools (pytest, ruff, ray ...), each run by .venv's own interpreter.
link_tools() { # shared folder
  local tool name
  for tool in "$1"/bin/*; do
    name=${tool##*/}
    case $name in python* | pip* | activate* | Activate*) continue ;; esac
    [ -f "$tool" ] || continue
    if head -n 3 "$tool" | grep -aqF "$1/bin/python"; then
      printf '#!/bin/sh\nexec "%s/bin/python" "%s" "$@"\n' "$venv" "$tool" >"$venv/bin/$name"
      chmod +x "$venv/bin/$name"
    else
      ln -s "$tool" "$venv/bin/$name"
    fi
  done
}

build_venv() { # python, shared folder
  local site
  rm -rf "$venv"
  "$1" -m venv --without-pip "$venv"
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  # addsitedir, not the bare path: it also reads the .pth files of the shared packages.
  printf 'import site; site.addsitedir(r"%s")\n' \
    "$("$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >"$site/shared.pth"
  link_tools "$2"
  # editable_mode=compat: one .pth line with the checkout's path, so new packages and subprocesses need nothing more.
  "$venv/bin/python" -m pip --disable-pip-version-check --no-input install -qq --no-deps --no-build-isolation \
    --config-settings editable_mode=compat --editable "$root" ||
    die "the project could not be installed into $venv" "see pip's messages above"
  cp "$root/pyproject.toml" "$venv/pyproject.toml"
  printf '%s\n' "$root" "$2" "$(abi_of "$venv/bin/python")" >"$venv/.ready"
}

prepare() {
  local python wanted key shared
  python=$(find_python)
  lock "$python"
  if is_ready; then return; fi  # another make was faster
  wanted=$(requirements "$python")
  key=$(printf '%s\n' "$(abi_of "$python")" "$wanted" |
    "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:12])')
  shared=$cache/env-$key
  [ -f "$shared/.ready" ] || build_shared "$python" "$shared" "$wanted"
  build_venv "$python" "$shared"
}

# Removes only what this script makes, as SUPIR_ENV_DIR may hold other things.
distclean() {
  local python shared
  python=$(find_python)
  lock "$python"
  rm -rf "$venv"
  for shared in "$cache"/env-????????????; do
    if [ -f "$shared/pyvenv.cfg" ]; then
      say "Removing $shared"
      rm -rf "$shared"
    fi
  done
}

case ${1:-prepare} in
  prepare)
    is_ready || prepare
    printf '%s\n' "$venv"
    ;;
  distclean) distclean ;;
  *) die "unknown command $1" "infra/env.sh, or infra/env.sh distclean" ;;
esac
