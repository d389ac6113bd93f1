"""The caption stage: an actor that finds out what a photo shows, with a resident model if there is one to ask."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import torch

from pipeline import logs, rows
from pipeline.captions.finder import CaptionFinder
from pipeline.captions.keeper import CaptionKeeper
from pipeline.captions.writers import LoadWriters
from pipeline.release import check as check_release
from pipeline.rows import Row
from pipeline.safeguard import Safeguard
from pipeline.settings import RunSettings
from pipeline.sources import opened
from pipeline.watch import Clock
from supir_core.errors import PhotoError, SupirError


class CaptionStage:
    """rows.MANIFEST -> rows.CAPTIONED, row by row.

    Args:
        settings: as `RunSettings.to_dict` gives them.
        threads: of the processor, for a model that runs on it.
        attempts: a handle of an `Attempts` actor of this stage's own.
        load: builds the writers.
        release: the driver's.
    """

    def __init__(self, settings: dict[str, Any], threads: int, attempts: Any, load: LoadWriters, release: str):
        torch.set_num_threads(threads)
        self._refusal: SupirError | None = None
        try:
            check_release(release, socket.gethostname())
            parsed = RunSettings.from_dict(settings)
            logs.set_up(parsed.log_format, parsed.run)
            writers = load(parsed)
        except SupirError as error:
            ray.get(attempts.refuse.remote(error))
            self._refusal = error
            return
        self._attempts, self._guard = attempts, Safeguard(attempts, parsed)
        looks = {source: CaptionKeeper(writer, parsed) for source, writer in writers.items()}
        self._finder = CaptionFinder(parsed.captioning, looks, self._risk, partial(opened, settings=parsed))

    def __call__(self, photos: pa.Table) -> pa.Table:
        """One row per photo, whatever happens to it."""
        if self._refusal:  # Ray would print one that is raised by a constructor, and try again
            raise self._refusal
        found = []
        for photo in photos.to_pylist():
            with logs.about(photo["photo_id"]):
                found.append(self._finder.find(photo))
        return rows.table(found, rows.CAPTIONED)

    @contextmanager
    def _risk(self, photo: Row) -> Iterator[Clock]:
        photo_id = photo["photo_id"]
        standing = self._guard.begin(photo_id)
        if standing is None:
            raise PhotoError("the run is being ended")  # nor will it be restored
        try:
            self._guard.check(standing)
            with self._guard.over(photo_id) as clock, self._guard.at_risk(photo_id, standing.deaths, clock):
                yield clock
        finally:
            ray.get(self._attempts.came.remote([photo_id]))  # nobody waits for its caption
