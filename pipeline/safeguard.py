"""What keeps one photo from ending a run: it may kill its worker, or never end."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import ray
import torch

from pipeline.attempts import MAX_ATTEMPTS, Gate, Standing
from pipeline.settings import RunSettings
from pipeline.watch import Clock, Watch
from supir_core.errors import PhotoError

HOUR_S = 3600.0

log = logging.getLogger(__name__)


class Safeguard:
    """Of one worker.

    Args:
        attempts: a handle of an `Attempts` actor.
        settings: of the run.
    """

    def __init__(self, attempts: Any, settings: RunSettings):
        on_gpu = torch.cuda.is_available() and settings.device != "cpu"
        self._limit_s = settings.photo_timeout_s or (HOUR_S if on_gpu else 12 * HOUR_S)
        self._attempts, self._gate = attempts, Gate()
        self._watch = Watch(self._limit_s, self._overdue)

    def begin(self, photo_id: str) -> Standing | None:
        """Take a photo; None: leave it, the run is being ended."""
        standing: Standing | None = ray.get(self._attempts.begin.remote(photo_id))
        return standing

    def over(self, photo_id: str) -> AbstractContextManager[Clock]:
        """The photo's clock, which runs; when its time is up, the worker ends."""
        return self._watch.over(photo_id)

    def check(self, standing: Standing) -> None:
        """Give up a photo that has done too much harm.

        Raises:
            PhotoError: `timed-out` or `worker-crashed`.
        """
        if standing.late:
            raise PhotoError(
                f"it took longer than {self._limit_s:g} s",
                hint="--photo-timeout allows more, with --retry-failed",
                code="timed-out",
            )
        if standing.deaths >= MAX_ATTEMPTS:
            raise PhotoError(f"its worker died {standing.deaths} times while working on it", code="worker-crashed")

    @contextmanager
    def at_risk(self, photo_id: str, deaths: int, clock: Clock) -> Iterator[None]:
        """Where a photo may kill its worker: together with others, or alone if it was there when one died."""
        with ExitStack() as inside:
            with clock.waiting():
                inside.enter_context(self._gate.alone() if deaths else self._gate.ordinary())
            ray.get(self._attempts.risk.remote(photo_id))
            try:
                yield
            finally:
                ray.get(self._attempts.survive.remote(photo_id))

    def end(self, photo_id: str) -> None:
        """The photo has a row."""
        ray.get(self._attempts.end.remote(photo_id))

    def _overdue(self, photo_id: str | None) -> None:
        """End this worker, as nothing else ends what hangs; Ray starts another one. Called by the watch's thread.

        Whoever was in it is tried again alone, where it is known who is late.
        """
        log.error("%s took longer than %g s", photo_id or "photos in one batch", self._limit_s)
        try:
            if photo_id is not None:
                ray.get(self._attempts.time_out.remote(photo_id), timeout=60)
        finally:
            os._exit(1)
