"""How far a run is, as `<output>/runs/<run>/progress.json` says it: written by its driver every few seconds.

Whoever can read the output can follow the run, from anywhere, without asking the cluster and without reading logs.
"""

from __future__ import annotations

import datetime
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline import rows
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import StorageError

EVERY_S = 10.0

RUNNING = "running"
FINISHED = "finished"
INTERRUPTED = "interrupted"  # ended before its time, as it was asked to
BROKEN = "broken"  # ended by an error

SECONDS = ("fetch_s", "caption_s", "restore_s", "networks_s", "commit_s")
"""Columns of rows that are added up."""
TAKEN = ("fetch_s", "restore_s", "commit_s")
"""Those that together are how long a worker had a photo."""

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """What has come of a run so far."""

    run: str
    state: str
    begun: str  # UTC
    updated: str
    todo: int
    workers: int
    worker_gpus: float  # the share of a GPU that each has
    restored: int = 0
    failed: int = 0
    skipped: int = 0  # left as they are
    megapixels: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SECONDS, 0.0))  # over all photos
    gpus: float = 0.0  # that the cluster has now
    gpu_seconds: float = 0.0  # that it has had since the run began, busy or not
    working_seconds: float = 0.0  # since the first finished photo was begun: before, networks load

    @property
    def finished(self) -> int:
        """Photos with a row."""
        return self.restored + self.failed + self.skipped

    @property
    def left(self) -> int:
        """Photos without a row."""
        return self.todo - self.finished

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        """What `read` found; keys of other versions are passed over."""
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        return cls(**known)


def path_of(run: str) -> str:
    """Where a run's progress lies."""
    return f"runs/{run}/progress.json"


def read(store: Store, run: str) -> Progress | None:
    """How far a run is, if it has said so."""
    data = store.read_if_any(path_of(run))
    try:
        return Progress.from_dict(json.loads(data)) if data else None
    except (ValueError, TypeError):
        return None


def ask_to_end(store: Store, run: str) -> None:
    """Have a run, wherever it goes on, finish the photos that it has begun and end; it looks every few seconds."""
    store.write(_request_path(run), json.dumps({"asked": _now()}).encode())


def _request_path(run: str) -> str:
    return f"runs/{run}/end.json"


class ProgressKeeper:
    """Writes a run's progress while it goes on, and looks whether it is to end; use it as a context manager.

    Args:
        store: the output.
        run: its name.
        todo: photos.
        workers: how many, and the share of a GPU that each has.
        gpus: how many the cluster has now; asked by a thread of its own, which has ended when the context has.
        end: called by that thread once somebody has used `ask_to_end`.
        every_s: between two writes.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        todo: int,
        workers: tuple[int, float],
        gpus: Callable[[], float],
        end: Callable[[], None] = lambda: None,
        every_s: float = EVERY_S,
    ):
        self._store, self._gpus, self._end, self._every_s = store, gpus, end, every_s
        self.progress = Progress(run, RUNNING, _now(), _now(), todo, *workers)
        self._lock, self._over = threading.Lock(), threading.Event()
        self._counted = time.monotonic()
        self._first: float | None = None
        self._thread = threading.Thread(target=self._keep, name="progress", daemon=True)

    def __enter__(self) -> ProgressKeeper:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.progress.state == RUNNING:  # `ended` was not reached; without an error where what was begun is finished
            self.progress.state = INTERRUPTED if kind is None or issubclass(kind, KeyboardInterrupt) else BROKEN
        self._over.set()
        self._thread.join(timeout=3 * self._every_s)  # it may wait for a store or a cluster that is down
        self._write()

    def add(self, new: Iterable[Row]) -> None:
        """Count rows that have come."""
        with self._lock:
            for row in new:
                if self._first is None:
                    self._first = time.monotonic() - sum(row[column] or 0.0 for column in TAKEN)
                restored = row["status"] == rows.RESTORED
                self.progress.restored += restored
                self.progress.failed += row["status"] == rows.FAILED
                self.progress.skipped += row["status"] == rows.SKIPPED
                if restored and not row["duplicate_of"]:
                    self.progress.megapixels += row["width"] * row["height"] / 1e6
                for column in SECONDS:
                    self.progress.seconds[column] += row[column] or 0.0

    @property
    def left(self) -> int:
        """Photos without a row."""
        return self.progress.left

    def ended(self, finished: bool) -> None:
        """The run has ended: with all its photos looked at, or before."""
        self.progress.state = FINISHED if finished else INTERRUPTED

    def _keep(self) -> None:
        asked = False
        while not self._over.wait(self._every_s):
            self._write()
            with suppress(StorageError):  # asked again in a moment
                if not asked and self._store.size(_request_path(self.progress.run)) is not None:
                    asked = True
                    self._end()

    def _write(self) -> None:
        with suppress(Exception):  # of a cluster that has gone; the number before stays
            self.progress.gpus = self._gpus() if not self._over.is_set() else self.progress.gpus
        with self._lock:
            now = time.monotonic()
            self.progress.gpu_seconds += self.progress.gpus * (now - self._counted)
            self._counted = now
            self.progress.working_seconds = 0.0 if self._first is None else now - self._first
            self.progress.updated = _now()
            text = json.dumps(asdict(self.progress), indent=1)
        try:
            self._store.write(path_of(self.progress.run), text.encode())
        except StorageError as error:
            log.warning("the progress could not be written: %s", error)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
