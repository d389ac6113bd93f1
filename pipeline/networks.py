"""The one place of a worker where networks run: threads bring photos, one thread works on what is waiting."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

from pipeline.watch import Clock, together

Asked = TypeVar("Asked")
Given = TypeVar("Given")


class _Waiting(NamedTuple, Generic[Asked, Given]):
    asked: Asked
    clock: Clock
    future: Future[Given]


class SharedNetworks(Generic[Asked, Given]):
    """Resident networks for many threads; whoever waits for them is worked on in one batch with the others.

    Args:
        work: gives one result per photo; called by one thread at a time.
        batch: at most this many photos at once.
        on_batch: called with the number of photos of every batch and the seconds that it took.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Sequence[Given]],
        batch: int,
        on_batch: Callable[[int, float], None] = lambda photos, seconds: None,
    ):
        self._work, self._batch, self._on_batch = work, batch, on_batch
        self._waiting: queue.SimpleQueue[_Waiting[Asked, Given]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="networks", daemon=True).start()

    def __call__(self, asked: Asked, clock: Clock) -> Given:
        """The result for a photo; waits for the photos before it, and the clock with it."""
        waiting: _Waiting[Asked, Given] = _Waiting(asked, clock, Future())
        with clock.waiting():
            self._waiting.put(waiting)
            return waiting.future.result()

    def _serve(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._batch and not self._waiting.empty():
                batch.append(self._waiting.get())
            try:
                self._work_on(batch)
            except Exception as error:
                self._one_by_one(batch, error)

    def _work_on(self, batch: list[_Waiting[Asked, Given]]) -> None:
        start = time.monotonic()
        try:
            with together([waiting.clock for waiting in batch]):
                results = self._work([waiting.asked for waiting in batch])
        finally:
            self._on_batch(len(batch), time.monotonic() - start)
        for waiting, result in zip(batch, results, strict=True):
            waiting.future.set_result(result)

    def _one_by_one(self, batch: list[_Waiting[Asked, Given]], error: Exception) -> None:
        """After a batch has failed: the photo that is to blame fails alone."""
        for waiting in batch:
            if len(batch) == 1:
                waiting.future.set_exception(error)
                continue
            try:
                self._work_on([waiting])
            except Exception as own:
                waiting.future.set_exception(own)
