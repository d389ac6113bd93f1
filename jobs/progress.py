"""How far a command is: photos done, failed and left of a run, or a plain count."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

PLAIN_EVERY_S = 10.0
PATIENCE_S = 2.0  # what takes less shows no progress


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with how many are done, and of how many: a bar on a terminal, else a line now and then."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task, start, said = bar.add_task(what), time.monotonic(), time.monotonic()

    def count(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - start < PATIENCE_S:
            return
        if sys.stderr.isatty():
            bar.start()
            bar.update(task, completed=done, total=total)
        elif now - said >= PLAIN_EVERY_S:
            said = now
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}: {done} of {total}\n")
            sys.stderr.flush()

    try:
        yield count
    finally:
        if bar.live.is_started:
            bar.stop()


def counted(done: int, failed: int, skipped: int, left: int) -> str:
    """How many photos are done, failed, skipped (if any are), and left."""
    return f"{done} done, {failed} failed, {f'{skipped} skipped, ' if skipped else ''}{left} left"


class RunProgress:
    """Counts finished rows and shows them; use it as a context manager.

    Args:
        total: photos of this run.
        style: auto, bar, plain, log (plain lines, logged) or none; auto is a bar on a terminal, else plain lines.
    """

    def __init__(self, total: int, style: str):
        self.total, self.captioned, self.megapixels = total, 0, 0.0
        self.done, self.failed, self.skipped = 0, 0, 0
        self._style = style if style != "auto" else ("bar" if sys.stderr.isatty() else "plain")
        self._lines = self._style in ("plain", "log")
        self._start = self._said = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first photos were finished, and how many
        columns = (TextColumn("restoring"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=self._style != "bar")
        self._task = self._bar.add_task(self._text(), total=total)

    def __enter__(self) -> RunProgress:
        self._bar.__enter__()
        if self._lines:
            self._line()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)
        if self._lines and kind is None:
            self._line()

    @property
    def left(self) -> int:
        """Photos without a row."""
        return self.total - self.finished

    @property
    def finished(self) -> int:
        """Photos with a row."""
        return self.done + self.failed + self.skipped

    @property
    def seconds(self) -> float:
        """Since the start."""
        return max(time.monotonic() - self._start, 1e-3)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Count finished index rows."""
        for row in rows:
            restored = row["status"] == "restored"
            self.done += restored
            self.failed += row["status"] == "failed"
            self.skipped += row["status"] == "skipped"
            self.megapixels += (row["width"] * row["height"] / 1e6) if restored else 0
        if self._first is None and rows:
            self._first = (time.monotonic(), len(rows))
        self._show()

    def add_captions(self, count: int) -> None:
        """Count photos that have been captioned, where all of them are before the first is restored."""
        self.captioned += count
        self._show()

    def say(self, text: str) -> None:
        """Show a line of text."""
        if self._style == "log":
            log.info(text)
        else:
            self._bar.console.print(text, markup=False, soft_wrap=True)

    def _show(self) -> None:
        self._bar.update(self._task, completed=self.finished, description=self._text())
        if self._lines and time.monotonic() - self._said >= PLAIN_EVERY_S:
            self._line()

    def _text(self) -> str:
        finished, left = self.finished, self.left
        if self.captioned and not finished:
            return f"{self.captioned} captioned, {left} left to restore"
        text = f"{counted(self.done, self.failed, self.skipped, left)}, {self.megapixels / self.seconds:.3g} MP/s"
        if self._first is not None and finished > self._first[1] and left:
            since, before = self._first  # networks load until then
            minutes = (time.monotonic() - since) / (finished - before) * left / 60
            text += f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"
        return text

    def _line(self) -> None:
        self._said = time.monotonic()
        if self._style == "log":
            counts = {"done": self.done, "failed": self.failed, "skipped": self.skipped, "left": self.left}
            facts = {**counts, "megapixels": self.megapixels}
            log.info(self._text(), extra={"facts": facts})
            return
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {self._text()}\n")
        sys.stderr.flush()
