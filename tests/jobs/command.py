"""The console script as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "from jobs.cli import main; main()"]
TINY = ["--set", "sampling.num_steps=2", "--set", "size.min_size_px=64"]


def supir(*words: object, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `supir ...` to its end."""
    return subprocess.run(
        [*PROGRAM, *map(str, words)],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
