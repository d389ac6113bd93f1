"""What has to outlive a killed worker: how often each photo was begun and never ended, and why a worker was not built.

Ray restarts a killed worker and gives it the same photo again, for ever. So every photo is counted when it is begun,
outside the worker; one that was begun `MAX_ATTEMPTS` times and never ended is given up. To spare its neighbours, a
photo that has been begun before is tried again alone in its worker (`Gate`).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

MAX_ATTEMPTS = 3


class Attempts:
    """Counts per photo; lives as a Ray actor beside the driver (`start_attempts`)."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._refusal: Exception | None = None

    def begun(self, photo_id: str) -> int:
        """How often the photo was begun and did not end."""
        return self._begun[photo_id]

    def begin(self, photo_id: str) -> None:
        """The photo is about to be worked on."""
        self._begun[photo_id] += 1

    def refuse(self, reason: Exception) -> None:
        """A worker could not be built; Ray itself passes on only the text of what was raised."""
        self._refusal = reason

    def refusal(self) -> Exception | None:
        """Why a worker could not be built."""
        return self._refusal

    def end(self, photo_id: str) -> None:
        """The photo has a row."""
        del self._begun[photo_id]


def start_attempts() -> Any:
    """A handle of a new `Attempts` actor on the driver's node, which outlives workers and other nodes."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
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
