"""What a submitted run needs from this machine: the package as a wheel, and small files that its options name."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jobs
from supir_core.errors import InputError

FILES = "submitted"  # the folder, below the driver's, of files that options name
NEEDED = ("pyproject.toml", "LICENSE", "NOTICE", "README.md")
PACKAGES = ("supir_core", "pipeline", "jobs")


def unpack_wheel(folder: Path) -> Path:
    """Build a wheel of the checkout that this process runs from, and unpack it; the wheel.

    Ray would install a wheel with everything that it depends on, gigabytes that the nodes have. Unpacked into the
    folder in which the driver starts, it comes before what is installed there.

    Args:
        folder: gets the packages.

    Raises:
        InputError: this is no checkout, or it does not build (`package`).
    """
    root = Path(jobs.__path__[0]).parent
    if not all((root / name).exists() for name in (*NEEDED, *PACKAGES)):
        raise InputError(
            f"{root} is no checkout of supir, so there is nothing to build a wheel from",
            hint="--no-package uses what is installed in the image",
            code="package",
        )
    source, wheels = folder.with_name(folder.name + "-source"), folder.with_name(folder.name + "-wheel")
    source.mkdir()
    for name in NEEDED:
        shutil.copy(root / name, source)
    for name in PACKAGES:  # a copy, as building leaves folders behind, and would take up what old ones have left
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "wheel", "-q", "--no-deps"]
    done = subprocess.run(
        [*command, "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise InputError(
            f"the wheel could not be built: {said[-1]}",
            hint="pip and setuptools are needed; --no-package uses what is installed in the image",
            code="package",
        )
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return wheel


def take_along(file: str, folder: Path) -> str:
    """Copy a file that an option names; its path as the driver will see it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        data = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}", hint="check the path", code="not-found") from error
    name = hashlib.sha256(data).hexdigest()[:12] + Path(file).suffix
    (folder / FILES).mkdir(exist_ok=True)
    (folder / FILES / name).write_bytes(data)
    return f"{FILES}/{name}"
