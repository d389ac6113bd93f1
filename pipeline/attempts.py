"""What has to outlive a killed worker: how often each photo may have killed one, and what the driver wants.

Ray restarts a killed worker and gives it the same photos again, for ever. So every photo is counted, outside the
worker, while it is decoded, restored and encoded; one that was in there when `MAX_ATTEMPTS` workers died is given up.
To spare its neighbours, a photo that was in there before is tried again alone (`Gate`).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

MAX_ATTEMPTS = 3


class Standing(NamedTuple):
    """What is known of a photo."""

    deaths: int  # workers that died while they had it in hand
    late: bool  # it has taken too long


class Attempts:
    """Counts per photo; lives as a Ray actor beside the driver (`start_attempts`)."""

    def __init__(self) -> None:
        self._at_risk: Counter[str] = Counter()
        self._late: set[str] = set()
        self._working: set[str] = set()
        self._coming: set[str] = set()  # ended, but the driver has not said that it has their rows
        self._draining = False
        self._refusal: Exception | None = None

    def begin(self, photo_id: str) -> Standing | None:
        """A worker takes the photo; None: leave it, the run is being ended."""
        self._coming.discard(photo_id)
        self._working.discard(photo_id)
        if self._draining:
            return None
        self._working.add(photo_id)
        return Standing(self._at_risk[photo_id], photo_id in self._late)

    def risk(self, photo_id: str) -> None:
        """From now on the photo may kill its worker."""
        self._at_risk[photo_id] += 1

    def survive(self, photo_id: str) -> None:
        """The photo has not killed its worker."""
        del self._at_risk[photo_id]

    def time_out(self, photo_id: str) -> None:
        """The photo has taken too long: its worker is about to end, and it will not be tried again."""
        self._late.add(photo_id)

    def end(self, photo_id: str) -> None:
        """The photo has a row."""
        self._working.discard(photo_id)
        self._coming.add(photo_id)

    def came(self, photo_ids: list[str]) -> None:
        """The driver has these photos' rows."""
        self._working.difference_update(photo_ids)
        self._coming.difference_update(photo_ids)

    def drain(self) -> None:
        """Let no photo begin any more."""
        self._draining = True

    def unfinished(self) -> tuple[int, int]:
        """How many photos are being worked on, and how many rows are on their way to the driver."""
        return len(self._working), len(self._coming)

    def refuse(self, reason: Exception) -> None:
        """A worker could not be built; Ray itself passes on only the text of what was raised."""
        self._refusal = reason

    def refusal(self) -> Exception | None:
        """Why a worker could not be built."""
        return self._refusal


def start_attempts() -> Any:
    """A handle of a new `Attempts` actor on the driver's node, which outlives workers and other nodes."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(Attempts).options(scheduling_strategy=here).remote()


class Gate:
    """Lets many ordinary photos through at once, or one suspect alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._suspects = 0  # waiting or inside; while there is one, nobody else is let in

    @contextmanager
    def ordinary(self) -> Iterator[None]:
        """Together with others."""
        with self._changed:
            self._changed.wait_for(lambda: self._suspects == 0)
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody else."""
        with self._changed:
            self._suspects += 1
            self._changed.wait_for(lambda: self._inside == 0)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._suspects -= 1
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()
