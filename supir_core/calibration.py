"""From `pull.fidelity` to tau_r: the pull that comes as close to the photo on any schedule, by a measured table.

The table (`calibration.toml`, by `python -m tests.bench.calibrate`) has, for some samplers and numbers of steps, how
close results come to their photos at several pulls. Fidelity 0 is as free as all of these schedules can be (some come
closer without any pull than others do), 1 as close as all can come, and in between it is linear in decibels: so each
can have every fidelity. Imports no torch.
"""

from __future__ import annotations

import math
import tomllib
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np

from supir_core.pull import Schedule, tau_r_of

FILE = "calibration.toml"


class Curve(NamedTuple):
    """What was measured of one schedule; more pull never counts as less close."""

    sampler: str
    num_steps: int
    total_pull: tuple[float, ...]  # ascending, from 0 (off), see `pull.total_pull`
    db: tuple[float, ...]  # how close results come, ascending

    def pull_for(self, db: float) -> float:
        """The total pull that comes so close; its ends beyond them."""
        return float(np.interp(db, self.db, self.total_pull))


class Calibration(NamedTuple):
    """The table."""

    origin: dict[str, str]
    curves: tuple[Curve, ...]

    def closeness(self, fidelity: float) -> float:
        """In decibels, of a fidelity from 0 to 1."""
        free, close = max(curve.db[0] for curve in self.curves), min(curve.db[-1] for curve in self.curves)
        return free + fidelity * (close - free)

    def tau_r(self, fidelity: float, schedule: Schedule) -> float | None:
        """The tau_r that comes as close on a schedule; None (off) where it comes as close without any pull.

        Args:
            fidelity: 0 to 1, the closest.
            schedule: of a preset; between measured numbers of steps the pull is interpolated in their logarithm.
        """
        curves = sorted((c for c in self.curves if c.sampler == schedule.sampler), key=lambda c: c.num_steps)
        pulls = [curve.pull_for(self.closeness(fidelity)) for curve in curves]
        known = [math.log(curve.num_steps) for curve in curves]
        found = tau_r_of(schedule, float(np.interp(math.log(schedule.num_steps), known, pulls)))
        return None if found is None else float(f"{found:.3g}")


@cache
def shipped() -> Calibration:
    """The table that comes with this version."""
    return parse(resources.files("supir_core").joinpath(FILE).read_text(encoding="utf-8"))


def parse(text: str) -> Calibration:
    """A table from its file."""
    values = tomllib.loads(text)
    curves = [
        Curve(curve["sampler"], curve["num_steps"], tuple(curve["total_pull"]), tuple(curve["db"]))
        for curve in values["curve"]
    ]
    return Calibration(values["origin"], tuple(curves))
