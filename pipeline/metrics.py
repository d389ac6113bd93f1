"""What a run tells Prometheus, through Ray: the table of its metrics, and who counts what.

Ray exports each name with `ray_` before it, counters with `_total` behind it. The driver counts finished rows, each
once; workers count what rows do not say. Dashboard and rules are in infra/monitoring.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from ray.util import metrics

from pipeline import rows, troubles
from pipeline.rows import Row


class Metric(NamedTuple):
    """One of them."""

    name: str
    kind: type[metrics.Metric]
    description: str
    tags: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()  # of a histogram's buckets

    def exported(self) -> set[str]:
        """The names under which Prometheus has it."""
        name = f"ray_{self.name}"
        if self.kind is metrics.Histogram:
            return {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
        return {f"{name}_total"} if self.kind is metrics.Counter else {name}


_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)

TODO = Metric("supir_photos_todo", metrics.Gauge, "photos that the run was to restore when it began", ("run",))
LEFT = Metric("supir_photos_left", metrics.Gauge, "photos of it without a row so far", ("run",))
PHOTOS = Metric("supir_photos", metrics.Counter, "photos with a row", ("run", "status", "error_code"))
MEGAPIXELS = Metric("supir_megapixels", metrics.Counter, "megapixels of restored pictures", ("run",))
STAGE_SECONDS = Metric(
    "supir_stage_seconds", metrics.Histogram, "seconds of one photo in one stage", ("run", "stage"), _SECONDS
)
WORKERS = Metric("supir_workers", metrics.Gauge, "restore workers whose networks are loaded, one each", ("run",))
BUSY_SECONDS = Metric("supir_networks_busy_seconds", metrics.Counter, "in which a worker's networks worked", ("run",))
BATCH_FILL = Metric(
    "supir_batch_fill",
    metrics.Histogram,
    "photos of a batch, as a share of those that fit in",
    ("run",),
    (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0),
)
RETRIES = Metric("supir_retries", metrics.Counter, "of photos whose worker died, of requests to the store", ("reason",))
STORE_ERRORS = Metric("supir_store_errors", metrics.Counter, "requests that failed for good", ("code",))

ALL = (
    TODO, LEFT, PHOTOS, MEGAPIXELS, STAGE_SECONDS, WORKERS, BUSY_SECONDS, BATCH_FILL, RETRIES, STORE_ERRORS,
)  # fmt: skip

STAGES = {"fetch_s": "fetch", "caption_s": "caption", "restore_s": "restore", "commit_s": "commit"}
"""Columns with seconds, and what they are called; `restore` has the wait for the photos that share the networks."""


AGAIN_S = 5.0
"""Between two settings of a gauge: Ray forgets one that has not been set for two of its reports, 20 s."""


def rows_came(run: str, new: Iterable[Row]) -> None:
    """Count rows that the driver has got, once each."""
    for row in new:
        _made(PHOTOS).inc(1, {"run": run, "status": row["status"], "error_code": row["error_code"] or ""})
        if row["status"] == rows.RESTORED and not row["duplicate_of"]:
            _made(MEGAPIXELS).inc(row["width"] * row["height"] / 1e6 or 1e-9, {"run": run})
        for column, stage in STAGES.items():
            if row[column] is not None:
                _made(STAGE_SECONDS).observe(row[column], {"run": run, "stage": stage})


@contextmanager
def run_goes_on(run: str, todo: int, left: Callable[[], int], every_s: float = AGAIN_S) -> Iterator[None]:
    """Say how much there was to do and what is left of it, for as long as the context lasts.

    Args:
        run: its name.
        todo: photos when it began.
        left: those without a row so far; asked by a thread of its own.
        every_s: between two times.
    """

    def say() -> None:
        _made(TODO).set(todo, {"run": run})
        _made(LEFT).set(left(), {"run": run})

    over = _again_and_again(say, every_s)
    try:
        yield
    finally:
        over.set()
        say()


def worker_began(run: str) -> None:
    """Say that there is one more worker, until its process ends."""
    _again_and_again(lambda: _made(WORKERS).set(1, {"run": run}), AGAIN_S)


def _again_and_again(say: Callable[[], None], every_s: float) -> threading.Event:
    """Call it now and every few seconds, until the event is set."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(every_s):
            say()

    say()
    threading.Thread(target=keep, name="metrics", daemon=True).start()
    return over


def batch_ended(run: str, fill: float, seconds: float) -> None:
    """Count a batch of a worker's networks."""
    _made(BATCH_FILL).observe(fill, {"run": run})
    _made(BUSY_SECONDS).inc(max(seconds, 1e-9), {"run": run})


def photo_ended(deaths: int) -> None:
    """Count what went wrong on a photo's way, in a worker that it did not kill.

    Args:
        deaths: workers that died while they had it in hand.
    """
    if deaths:
        _made(RETRIES).inc(deaths, {"reason": "worker"})
    for kind, count in troubles.take().items():
        if kind == troubles.RETRIED:
            _made(RETRIES).inc(count, {"reason": "store"})
        else:
            _made(STORE_ERRORS).inc(count, {"code": kind})


@cache
def _made(metric: Metric) -> Any:
    """The process's own instance; Ray adds up those of all processes by their names."""
    more = {"boundaries": list(metric.boundaries)} if metric.boundaries else {}
    return metric.kind(metric.name, description=metric.description, tag_keys=metric.tags, **more)
