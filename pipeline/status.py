"""Where the runs of an output stand, from what lies in it alone: `run.json` and `progress.json` of each."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline import progress
from pipeline.progress import Progress
from pipeline.storage import Store
from supir_core.errors import InputError

READERS = 16
SILENT_S = 60.0  # a driver says every ten seconds how far it is
TURN_S = 2.0  # by which `begun`, in whole seconds, may be too early
LOST = "lost"
"""The state of a run that has not ended, but is silent: its driver, or the driver's machine, has died."""


@dataclass(frozen=True)
class RunStatus:
    """One run."""

    asked: dict[str, Any]  # what its run.json says
    progress: Progress

    @property
    def state(self) -> str:
        """A word of `pipeline/progress.py`, or `LOST`."""
        silent = self.progress.state == progress.RUNNING and self.silent_s > SILENT_S
        return LOST if silent else self.progress.state

    @property
    def silent_s(self) -> float:
        """Since its driver was last heard of; by two machines' clocks."""
        then = datetime.datetime.fromisoformat(self.progress.updated)
        return max(0.0, (datetime.datetime.now(datetime.UTC) - then).total_seconds())

    @property
    def look(self) -> tuple[str, str]:
        """Presets with their digests, and shard: one run of these at a time."""
        named = zip(self.asked["presets"], self.asked["preset_digests"], strict=True)
        return ", ".join(f"{preset['name']}-{digest}" for preset, digest in named), self.asked.get("shard") or ""

    @property
    def left(self) -> int:
        """Photos without a row."""
        return self.progress.left

    @property
    def megapixels_per_s(self) -> float:
        """Since the first photo."""
        return self.progress.megapixels / self.progress.working_seconds if self.progress.working_seconds else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until nothing is left, at the pace so far; None if there is none, or nobody works."""
        finished = self.progress.finished
        if self.state != progress.RUNNING or not finished or not self.progress.working_seconds:
            return None
        return self.left * self.progress.working_seconds / finished

    @property
    def gpus_busy(self) -> float | None:
        """How many GPUs' worth of time the networks have used since the first photo; None without GPUs."""
        if not self.progress.worker_gpus or not self.progress.working_seconds:
            return None
        busy = self.progress.seconds["networks_s"] * min(1.0, self.progress.worker_gpus)
        return busy / self.progress.working_seconds

    @property
    def gpu_hours(self) -> float:
        """That the cluster has had, busy or not."""
        return self.progress.gpu_seconds / 3600

    def stages(self) -> list[tuple[str, float]]:
        """Seconds of a photo per stage, the slowest first."""
        photos = max(1, self.progress.finished)
        total = self.progress.seconds
        found = {
            "networks": total["networks_s"],
            "waiting for networks": max(0.0, total["restore_s"] - total["networks_s"]),
            "caption": total["caption_s"],
            "fetch": total["fetch_s"],
            "commit": total["commit_s"],
        }
        return sorted(((name, spent / photos) for name, spent in found.items() if spent), key=lambda one: -one[1])


def read(store: Store) -> list[RunStatus]:
    """Every run that has said how far it is, newest first.

    Raises:
        InputError: there is none (`no-runs`).
    """
    names = _names(store)
    with ThreadPoolExecutor(READERS) as readers:
        found = [one for one in readers.map(lambda name: read_one(store, name), names) if one is not None]
    if not found:
        raise InputError(f"no runs in {store.uri()}", hint="give what was --output of a supir run", code="no-runs")
    return found


def read_one(store: Store, run: str) -> RunStatus | None:
    """One run, if it has said how far it is."""
    come = progress.read(store, run)
    data = store.read_if_any(f"runs/{run}/run.json")
    try:
        asked = json.loads(data or b"{}")
        return RunStatus(asked, come) if come is not None and asked["presets"] else None
    except (ValueError, KeyError, TypeError):
        return None


def of_submission(store: Store, submission: str, since_s: float) -> RunStatus | None:
    """The run that a submitted job has begun, if it has.

    Args:
        store: the output.
        submission: the job's id; one on another cluster may have had the same.
        since_s: when the job was submitted, since the epoch, by the clock of the head, where its driver runs.
    """
    for name in _names(store):
        found = read_one(store, name)
        if found is not None and found.asked.get("submission") == submission:
            begun = datetime.datetime.fromisoformat(found.progress.begun).timestamp()
            return found if begun >= since_s - TURN_S else None
    return None


def newest(found: Iterable[RunStatus]) -> list[RunStatus]:
    """Of runs that are sorted so, the newest one of every look and shard."""
    seen: dict[tuple[str, str], RunStatus] = {}
    for run in found:
        seen.setdefault(run.look, run)
    return list(seen.values())


def _names(store: Store) -> list[str]:
    paths = [entry.path.split("/") for entry in store.entries("runs")]
    return sorted((path[1] for path in paths if len(path) == 3 and path[2] == "progress.json"), reverse=True)
