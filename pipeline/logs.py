"""Log lines as JSON, with the run and the photo that they are about: `--log-format json`. No ray here."""

from __future__ import annotations

import datetime
import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

TEXT, JSON = "text", "json"

_photo: ContextVar[str | None] = ContextVar("photo", default=None)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, run, and photo_id where it is about one.

    Args:
        run: the run's name, where there is one yet.
    """

    def __init__(self, run: str | None = None):
        super().__init__()
        self.run = run

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": when, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage(),
            "run": self.run, "photo_id": getattr(record, "photo_id", None) or _photo.get(),
            **getattr(record, "facts", {}),
        }  # fmt: skip
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value is not None}, ensure_ascii=False)


class LinesAsLog(io.TextIOBase):
    """A stream whose lines become log lines, for what is written for people's eyes.

    Args:
        log: that gets them.
    """

    def __init__(self, log: logging.Logger):
        self._log, self._begun = log, ""

    def write(self, text: str) -> int:
        """Take text; every line that it completes is logged."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(None, map(str.strip, lines)):
            self._log.info(line)
        return len(text)


def set_up(log_format: str, run: str | None = None, stream: TextIO | None = None) -> None:
    """Have this process log as asked; text is Python's own way.

    Args:
        log_format: text or json.
        run: the run's name.
        stream: where to; stderr if not given.
    """
    root = logging.getLogger()
    for before in [one for one in root.handlers if isinstance(one.formatter, JsonLines)]:
        root.removeHandler(before)
    if log_format != JSON:
        return
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(run))
    root.addHandler(handler)
    for name in ("pipeline", "jobs", "supir_core"):
        logging.getLogger(name).setLevel(logging.INFO)


def is_json() -> bool:
    """Whether this process logs as JSON."""
    return any(isinstance(one.formatter, JsonLines) for one in logging.getLogger().handlers)


@contextmanager
def about(photo_id: str) -> Iterator[None]:
    """What is logged inside, by this thread, is about this photo."""
    before = _photo.set(photo_id)
    try:
        yield
    finally:
        _photo.reset(before)
