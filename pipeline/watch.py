"""The time limit of photos: a thread that looks whose time is up.

A photo's clock stands still while it waits for others (for the networks, or for a copy of it that is being restored).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


class Clock:
    """The time that one photo has taken.

    Args:
        photo_id: whose.
    """

    def __init__(self, photo_id: str):
        self.photo_id = photo_id
        self.company = 1  # photos that are restored together with it, itself included
        self.networks_s = 0.0  # its share of the time in which the networks have worked
        self._lock = threading.Lock()
        self._spent_s = 0.0
        self._start = time.monotonic()
        self._since: float | None = self._start

    def age(self) -> float:
        """Seconds since the photo was begun."""
        return time.monotonic() - self._start

    def seconds(self) -> float:
        """Without its waits."""
        with self._lock:
            return self._spent_s + (0.0 if self._since is None else time.monotonic() - self._since)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The clock stands still."""
        self._turn(False)
        try:
            yield
        finally:
            self._turn(True)

    def _turn(self, on: bool) -> None:
        with self._lock:
            now = time.monotonic()
            if self._since is not None:
                self._spent_s += now - self._since
            self._since = now if on else None


@contextmanager
def together(clocks: Sequence[Clock]) -> Iterator[None]:
    """The clocks of waiting photos run: they are in the networks."""
    start = time.monotonic()
    for clock in clocks:
        clock.company = len(clocks)
        clock._turn(True)
    try:
        yield
    finally:
        for clock in clocks:
            clock._turn(False)
            clock.networks_s += (time.monotonic() - start) / clock.company
            clock.company = 1


class Watch:
    """Looks after the clocks of a worker's photos.

    Args:
        limit_s: that one photo may take.
        overdue: called with a photo whose time is up, or with None if it is not known which of several it is.
    """

    def __init__(self, limit_s: float, overdue: Callable[[str | None], None]):
        self._limit_s, self._overdue = limit_s, overdue
        self._clocks: set[Clock] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    @contextmanager
    def over(self, photo_id: str) -> Iterator[Clock]:
        """The photo's clock, which runs."""
        clock = Clock(photo_id)
        with self._lock:
            self._clocks.add(clock)
        try:
            yield clock
        finally:
            with self._lock:
                self._clocks.remove(clock)

    def _look(self) -> None:
        while True:
            time.sleep(min(1.0, self._limit_s / 10))
            with self._lock:
                late = [clock for clock in self._clocks if clock.seconds() > self._limit_s]
            for clock in sorted(late, key=lambda clock: clock.company)[:1]:
                self._overdue(clock.photo_id if clock.company == 1 else None)
