"""Which release of this package a process runs: workers refuse to work for a driver of another one."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import pipeline
import supir_core
from supir_core.errors import ClusterError

PARTS = ("*.py", "*.toml")  # what decides results: code and presets


@cache
def release() -> str:
    """The version and 12 hex digits of the code and the presets, such as `0.1.0-9f86d081884c`."""
    digest = hashlib.sha256()
    for package in (supir_core, pipeline):
        top = Path(package.__path__[0])
        for file in sorted(file for part in PARTS for file in top.rglob(part)):
            digest.update(f"{package.__name__}/{file.relative_to(top).as_posix()}".encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{supir_core.__version__}-{digest.hexdigest()[:12]}"


def check(drivers: str, node: str) -> None:
    """Refuse to work for a driver of another release.

    Args:
        drivers: what `release` is there.
        node: where this process is.

    Raises:
        ClusterError: `other-release`.
    """
    if release() != drivers:
        raise ClusterError(
            f"node {node} has supir {release()}, the driver has {drivers}",
            hint="give all nodes the same image, or leave --no-package out, so that the driver's package travels",
            code="other-release",
        )
