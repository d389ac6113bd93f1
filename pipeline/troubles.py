"""What this process had trouble with at its stores, counted until somebody asks: metrics do. No ray here."""

from __future__ import annotations

import threading
from collections import Counter

RETRIED = "retried"
"""A request that the store refused or cut off, and that is made again."""

_noted: Counter[str] = Counter()
_lock = threading.Lock()


def note(kind: str) -> None:
    """Count one: `RETRIED`, or the code of an error that was raised."""
    with _lock:
        _noted[kind] += 1


def take() -> Counter[str]:
    """What has been counted since the last call."""
    with _lock:
        taken = Counter(_noted)
        _noted.clear()
    return taken
