"""The one place of a worker where the networks run: threads bring photos, one thread restores what is waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

import numpy as np
import torch

from pipeline.watch import Clock, together
from supir_core.errors import PhotoError
from supir_core.image import to_uint8
from supir_core.restorer import Photo, Restored


class PhotoRestorer(Protocol):
    """What a worker needs of a restorer."""

    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        """One result per photo."""


class Picture(NamedTuple):
    """A restored photo in 8 bits."""

    pixels: np.ndarray  # (height, width, 3) uint8
    warnings: list[str]


class _Waiting(NamedTuple):
    photo: Photo
    clock: Clock
    future: Future[Picture]


class SharedNetworks:
    """A restorer for many threads; whoever waits for it is restored in one batch with the others.

    Args:
        restorer: the resident networks.
        batch: at most this many photos at once.
    """

    def __init__(self, restorer: PhotoRestorer, batch: int):
        self._restorer, self._batch = restorer, batch
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="networks", daemon=True).start()

    def restore(self, photo: Photo, clock: Clock) -> Picture:
        """The restored photo; waits for the photos before it, and the clock with it."""
        waiting = _Waiting(photo, clock, Future())
        with clock.waiting():
            self._waiting.put(waiting)
            return waiting.future.result()

    def _serve(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._batch and not self._waiting.empty():
                batch.append(self._waiting.get())
            try:
                self._restore_batch(batch)
            except Exception as error:
                self._one_by_one(batch, error)

    def _restore_batch(self, batch: list[_Waiting]) -> None:
        with together([waiting.clock for waiting in batch]):
            results = self._restorer.restore([waiting.photo for waiting in batch])
            pictures = [_picture(result) for result in results]
        for waiting, picture in zip(batch, pictures, strict=True):
            waiting.future.set_result(picture)

    def _one_by_one(self, batch: list[_Waiting], error: Exception) -> None:
        """After a batch has failed: the photo that is to blame fails alone."""
        for waiting in batch:
            if len(batch) == 1:
                waiting.future.set_exception(error)
                continue
            try:
                self._restore_batch([waiting])
            except Exception as own:
                waiting.future.set_exception(own)


def _picture(result: Restored) -> Picture:
    if not torch.isfinite(result.image).all():
        raise PhotoError("the networks gave values that are no numbers", hint="--dtype float32", code="not-finite")
    return Picture(to_uint8(result.image), result.warnings)
