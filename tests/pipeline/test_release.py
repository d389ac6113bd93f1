"""Workers of another release refuse to work."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.release import check, release
from supir_core import __version__
from supir_core.errors import ClusterError
from tests.jobs.command import REPOSITORY


def test_the_release_is_version_and_content() -> None:
    assert re.fullmatch(rf"{re.escape(__version__)}-[0-9a-f]{{12}}", release())
    check(release(), "here")


def test_any_change_of_the_code_is_another_release(tmp_path: Path) -> None:
    for package in ("supir_core", "pipeline"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", "from pipeline.release import release; print(release())"]

    def there() -> str:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    assert there() == release()
    with (tmp_path / "supir_core" / "noise.py").open("a") as file:
        file.write("# changed\n")
    assert there() != release()
    with pytest.raises(ClusterError, match="node seven has supir") as error:
        check(there(), "seven")
    assert error.value.code == "other-release" and "image" in error.value.hint
