"""A job on a cluster as its user sees it: its log above, how far the run is below."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jobs import status as shown
from jobs.progress import PLAIN_EVERY_S
from pipeline.status import RunStatus


class Following:
    """A bar on a terminal, else a line whenever the run has said how far it is; use it as a context manager.

    Args:
        name: of the job.
    """

    def __init__(self, name: str):
        self._seen, self._said, self._at = "", "", 0.0
        self._console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
        columns = (TextColumn("restoring"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task(f"{name} waits for its driver", total=None)

    def __enter__(self) -> Following:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def log(self, whole: str) -> None:
        """Show the complete lines of a log that have not been shown."""
        new = whole[len(self._seen) :] if whole.startswith(self._seen) else whole
        new = new[: new.rfind("\n") + 1]
        self._seen += new
        for line in new.splitlines():
            self._console.print(line, style="dim")

    def say(self, text: str) -> None:
        """Show a line."""
        self._console.print(text)

    def progress(self, run: RunStatus | None, last: bool = False) -> None:
        """Show how far the run is, as its output says."""
        if run is None:
            return
        text = f"{shown.counts(run)}, {shown.speed(run)}"
        if run.gpus_busy is not None:
            text += f", {run.gpus_busy:.1f} of {run.progress.gpus:g} GPUs busy"
        self._bar.update(self._task, description=text, total=run.progress.todo, completed=run.progress.finished)
        due = last or time.monotonic() - self._at >= PLAIN_EVERY_S
        if not sys.stderr.isatty() and text != self._said and (due or not self._said):
            self._said, self._at = text, time.monotonic()
            self._console.print(f"{time.strftime('%H:%M:%S')} {text}")
